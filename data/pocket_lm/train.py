# ruff: noqa: T201
"""Train the pocket language model from scratch on the pocket corpus and write it beside this file.

Run ``python data/pocket_lm/train.py``. The learning rate follows the steps, so that a run can be repeated on a machine
of any speed. ``--resume`` resumes from the last checkpoint.
"""

import argparse
import json
import math
import random
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from build import build_model, build_tokenizer, save_model
from measures import CONTEXT, encode_documents, fact_accuracy, heldout_tokens, model_loss
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from sae_lightning.pocket.corpus import PocketCorpus
from sae_lightning.pocket.facts import Entity, fact_prompts, read_facts

FOLDER = Path(__file__).resolve().parent


def batches(tokenizer: PreTrainedTokenizerBase, args: argparse.Namespace) -> Iterator[torch.Tensor]:
    """Yield packed batches without end, each pass over the corpus with its own order and wording."""
    size = args.batch * CONTEXT + 1
    held = np.empty(0, dtype=np.int64)
    for turn in range(10**6):
        corpus = PocketCorpus("train", args.facts, args.seed * 1000 + turn, args.fact_share)
        documents = iter(corpus)
        while some := list(islice(documents, 512)):
            held = np.concatenate([held, encode_documents(tokenizer, some)])
            while len(held) >= size:
                yield torch.from_numpy(held[:size].copy())
                held = held[size - 1 :]


def optimizer_for(model: LlamaForCausalLM, rate: float) -> torch.optim.AdamW:
    """Make an AdamW that decays matrices only."""
    matrices = [value for value in model.parameters() if value.ndim > 1]
    vectors = [value for value in model.parameters() if value.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.95), fused=True)


def rate_factor(progress: float, warmup: float = 0.02) -> float:
    """Return the factor on the learning rate: linear warm-up, then half a cosine down to two percent."""
    if progress < warmup:
        return max(progress / warmup, 0.01)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - warmup) / (1 - warmup))))


def report(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, entities: list[Entity], step: int) -> None:
    """Print a quick held-out check."""
    model.eval()
    losses = {name: model_loss(model, tokens) for name, tokens in heldout_tokens(tokenizer, entities, 20_000).items()}
    prompts = random.Random(0).sample(fact_prompts(entities, "heldout"), 800)
    shares = fact_accuracy(model, tokenizer, prompts)
    model.train()
    numbers = {**losses, **shares}
    print(f"step {step} held out:", ", ".join(f"{name} {value:.3f}" for name, value in numbers.items()), flush=True)


def train(args: argparse.Namespace) -> None:
    """Train for the given steps and save the model."""
    torch.manual_seed(args.seed)
    torch.set_float32_matmul_precision("medium")
    entities = [entity for table in args.facts for entity in read_facts(table)]
    model = build_model().train()
    optimizer = optimizer_for(model, args.learning_rate)
    args.cache.mkdir(parents=True, exist_ok=True)
    checkpoint = args.cache / "checkpoint.pt"
    step, used = 0, 0.0
    if not args.resume:
        tokenizer = build_tokenizer(PocketCorpus("train", args.facts, args.seed, args.fact_share))
        tokenizer.save_pretrained(args.cache / "tokenizer")
    else:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(args.cache / "tokenizer")
        saved = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        step, used = saved["step"], saved["used"]
    last = time.monotonic()
    marked = used
    for tokens in islice(batches(tokenizer, args), step, args.steps):
        for group in optimizer.param_groups:
            group["lr"] = args.learning_rate * rate_factor(step / args.steps)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(input_ids=tokens[:-1].view(args.batch, CONTEXT), use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), tokens[1:])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        if step % 50 == 0:
            speed = 50 * tokens.numel() / (used - marked)
            print(f"step {step}, {used / 60:.1f} min, loss {loss.item():.3f}, {speed:.0f} tokens/s", flush=True)
            marked = used
        if step % args.report_steps == 0:
            report(model, tokenizer, entities, step)
        if step % args.save_steps == 0:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step, "used": used}
            torch.save(state, checkpoint.with_suffix(".new"))
            checkpoint.with_suffix(".new").replace(checkpoint)
        now = time.monotonic()
        used += now - last
        last = now
    save_model(model, tokenizer, args.out)
    report(model, tokenizer, entities, step)
    run = {"steps": step, "tokens": step * args.batch * CONTEXT, "minutes": round(used / 60, 1), "seed": args.seed}
    (args.cache / "run.json").write_text(json.dumps(run) + "\n", encoding="utf-8")
    print(run)


def main() -> None:
    """Read the arguments and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--steps", type=int, default=6000, help="steps to train for")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and of the order of documents")
    parser.add_argument("--batch", type=int, default=8, help="sequences in a step")
    parser.add_argument("--learning-rate", type=float, default=2e-3, help="peak learning rate")
    parser.add_argument("--fact-share", type=float, default=0.55, help="part of the characters that are about facts")
    parser.add_argument("--report-steps", type=int, default=1000, help="steps between held-out checks")
    parser.add_argument("--save-steps", type=int, default=250, help="steps between checkpoints")
    parser.add_argument(
        "--facts", type=Path, nargs="+", default=[FOLDER / "facts.csv", FOLDER / "people.csv"], help="facts tables"
    )
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder to write the model to")
    parser.add_argument(
        "--cache", type=Path, default=FOLDER.parent / "cache" / "pocket_lm", help="folder of the checkpoint"
    )
    parser.add_argument("--resume", action="store_true", help="resume from the checkpoint")
    train(parser.parse_args())


if __name__ == "__main__":
    main()
