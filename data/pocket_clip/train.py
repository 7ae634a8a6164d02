# ruff: noqa: T201
"""Train the pocket CLIP model from scratch on the pocket images and write it beside this file.

Run ``python data/pocket_clip/train.py --minutes 33``. The learning rate follows the share of the minutes that have
passed, or of the steps if ``--steps`` is given, which makes a run repeatable. ``--resume`` resumes from the last
checkpoint. The loss is that of Radford et al. 2021 (arXiv 2103.00020).
"""

import argparse
import json
import math
import random
import time
from collections.abc import Callable
from pathlib import Path

import torch
from build import load_model, save_weights, write_untrained  # first: it makes sure that open_clip can be imported
from measures import zero_shot_hits
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader, Dataset

from sae_lightning.pocket import PocketImages
from sae_lightning.pocket.captions import caption

FOLDER = Path(__file__).resolve().parent
N_VALUES = [len(values) for values in PocketImages.values.values()]
FIRST_SEED = 1000  # seed of the scenes, see `PocketImages`


class Batches(Dataset):
    """Images and captions of each step, the same at each access, and which captions are true of which images.

    A step is images [batch, 3, 64, 64], tokens [n_captions, context], truth [n_captions, batch] and labels
    [batch, n_attributes]. The images are the training parts of `PocketImages` with one seed after the other, so
    that no scene comes twice.
    """

    def __init__(self, preprocess: Callable, tokenizer: Callable, args: argparse.Namespace) -> None:
        self.preprocess, self.tokenizer = preprocess, tokenizer
        self.batch, self.captions, self.n_scenes = args.batch, args.captions, args.scenes
        self.seed = FIRST_SEED * (1 + args.seed)
        self.open(0)
        self.per_turn = len(self.numbers) // args.batch

    def open(self, turn: int) -> None:
        """Draw what the images of a turn show."""
        self.images, self.turn = PocketImages(self.n_scenes, self.seed + turn), turn
        self.numbers = self.images.numbers("train").tolist()

    def __getitem__(self, step: int) -> tuple[torch.Tensor, ...]:
        turn, place = divmod(step, self.per_turn)
        if turn != self.turn:
            self.open(turn)
        numbers = self.numbers[place * self.batch : (place + 1) * self.batch]
        pixels = torch.stack([self.preprocess(self.images.image(number)) for number in numbers])
        rng = random.Random(f"{self.seed} {step}")
        labels = {name: self.images.labels(name)[numbers] for name in self.images.values}
        texts, truth = [], torch.ones(self.captions * self.batch, self.batch)
        for row, i in enumerate(i for i in range(self.batch) for _ in range(self.captions)):
            text, mentioned = caption(self.images.shown(numbers[i]), rng)
            texts.append(text)
            for name in mentioned:
                truth[row] *= labels[name] == labels[name][i]
        return pixels, self.tokenizer(texts), truth, torch.stack(list(labels.values()), 1)


def optimizer_for(model: torch.nn.Module, rate: float) -> torch.optim.AdamW:
    """Make an AdamW that decays matrices only."""
    matrices = [value for value in model.parameters() if value.ndim > 1]
    others = [value for value in model.parameters() if value.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), fused=True)


def rate_factor(progress: float, warmup: float = 0.04) -> float:
    """Return the factor on the learning rate: linear warm-up, then half a cosine down to one percent."""
    if progress < warmup:
        return max(progress / warmup, 0.01)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - warmup) / (1 - warmup))))


def contrastive_loss(
    images: torch.Tensor, texts: torch.Tensor, scale: torch.Tensor, truth: torch.Tensor
) -> torch.Tensor:
    """Return the cross-entropy of finding each caption's image in the batch, and each image's captions, in nats.

    A short caption is true of many images of a batch and does not say for which of them it was written. So the target
    is its expectation: the same share for each image that the caption is true of.
    """
    logits = scale * texts.float() @ images.float().T
    shares = truth / truth.sum(1, keepdim=True)
    by_caption = -(shares * logits.log_softmax(1)).sum(1).mean()
    by_image = -(shares / shares.sum(0) * logits.log_softmax(0)).sum(0).mean()
    return (by_caption + by_image) / 2


def label_loss(images: torch.Tensor, readout: torch.nn.Linear, labels: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy of linear readouts of the attributes from the embeddings.

    It is the sum over attributes in nats. Without it the contrastive loss stays on a plateau for thousands of steps,
    where the model distinguishes only colours and backgrounds.
    """
    logits = readout(images.float() * images.shape[1] ** 0.5).split(N_VALUES, 1)
    losses = [
        torch.nn.functional.cross_entropy(part, label, ignore_index=-1, reduction="sum")
        for part, label in zip(logits, labels.T, strict=True)
    ]
    return torch.stack(losses).sum() / len(labels)


def report(model: torch.nn.Module, tokenizer: Callable, preprocess: Callable, step: int) -> None:
    """Print a quick held-out check."""
    images = PocketImages()
    model.eval()
    hits = zero_shot_hits(model, tokenizer, preprocess, images, images.numbers("heldout")[:600].tolist())
    model.train()
    shares = ", ".join(f"{name} {is_hit.float().mean():.3f}" for name, is_hit in hits.items())
    print(f"step {step} held out: {shares}; scale {model.logit_scale.exp().item():.1f}", flush=True)


def train(args: argparse.Namespace) -> None:
    """Train until the minutes or steps are used up, and save the model."""
    torch.manual_seed(args.seed)
    args.cache.mkdir(parents=True, exist_ok=True)
    write_untrained(args.out)
    model, preprocess, tokenizer = load_model(args.out, trained=False)
    with torch.no_grad():
        model.visual.positional_embedding *= 4  # as large as the embedded patches, or positions are learned last
    readout = torch.nn.Linear(model.visual.output_dim, sum(N_VALUES))  # serves training only
    trained = torch.nn.ModuleList([model.train(), readout])
    optimizer = optimizer_for(trained, args.learning_rate)
    checkpoint = args.cache / "checkpoint.pt"
    step, used = 0, 0.0
    if args.resume:
        saved = torch.load(checkpoint, weights_only=True)
        trained.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        step, used = saved["step"], saved["used"]
    budget = args.minutes * 60
    last = time.monotonic()
    marked = saved_at = reported_at = used
    batches = Batches(preprocess, tokenizer, args)
    loader = DataLoader(batches, None, sampler=range(step, args.steps or 10**6), num_workers=1, prefetch_factor=8)
    for pixels, tokens, truth, labels in loader:
        progress = step / args.steps if args.steps else used / budget
        if progress >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = args.learning_rate * rate_factor(progress)
        # On short sequences the CPU's flash kernel takes longer than everything else together.
        with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
            images, texts, scale = model(pixels, tokens)
        loss = contrastive_loss(images, texts, scale, truth) + label_loss(images, readout, labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            model.logit_scale.clamp_(max=math.log(100))
        step += 1
        if step % 200 == 0:
            speed = 200 * args.batch / (used - marked)
            print(f"step {step}, {used / 60:.1f} min, loss {loss.item():.3f}, {speed:.0f} images/s", flush=True)
            marked = used
        if used - reported_at > 60 * args.report_minutes:
            report(model, tokenizer, preprocess, step)
            reported_at = used
        if used - saved_at > 60 * args.save_minutes:
            state = {"model": trained.state_dict(), "optimizer": optimizer.state_dict(), "step": step, "used": used}
            torch.save(state, checkpoint.with_suffix(".new"))
            checkpoint.with_suffix(".new").replace(checkpoint)
            saved_at = used
        now = time.monotonic()
        used += now - last
        last = now
    save_weights(model, args.out)
    report(model, tokenizer, preprocess, step)
    run = {"steps": step, "images": step * args.batch, "minutes": round(used / 60, 1), "seed": args.seed}
    (args.cache / "run.json").write_text(json.dumps(run) + "\n", encoding="utf-8")
    print(run)


def main() -> None:
    """Read the arguments and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--minutes", type=float, default=33, help="time to train for")
    parser.add_argument("--steps", type=int, default=0, help="steps to train for instead of minutes, if not 0")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and of images")
    parser.add_argument("--batch", type=int, default=64, help="images in a step")
    parser.add_argument("--captions", type=int, default=1, help="captions of each image")
    parser.add_argument("--scenes", type=int, default=5000, help="scenes between two turns of the digits")
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="peak learning rate")
    parser.add_argument("--report-minutes", type=float, default=2, help="minutes between held-out checks")
    parser.add_argument("--save-minutes", type=float, default=3, help="minutes between checkpoints")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder to write the model to")
    parser.add_argument(
        "--cache", type=Path, default=FOLDER.parent / "cache" / "pocket_clip", help="folder of the checkpoint"
    )
    parser.add_argument("--resume", action="store_true", help="resume from the checkpoint")
    train(parser.parse_args())


if __name__ == "__main__":
    main()
