"""Everything that ``sae stitch`` measures, as plain values by name."""

from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sae_lightning.datamodules import ActivationDataModule
from sae_lightning.metrics import best_cosine
from sae_lightning.saes import Isotropic, SparseAutoencoder
from sae_lightning.stitching.curve import Stitcher, measure, schedule
from sae_lightning.stitching.insertion import CLASSES, DEAD, NOVEL, Insertions, InsertionSums, in_raw_units
from sae_lightning.stitching.loss import measure_loss
from sae_lightning.stitching.swaps import components

COSINES = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Thresholds below which a latent would be called novel by its largest cosine alone."""
_SEED = 0


@dataclass(frozen=True)
class Settings:
    """What a user chooses.

    Args:
        cosine_threshold: above it two latents of the two SAEs are in one component.
        n_steps: most steps of the curve in each of its phases.
        n_loss_latents: latents whose effect on the language model's loss is measured.
        with_loss: run the model above the hook at all.
    """

    cosine_threshold: float
    n_steps: int
    n_loss_latents: int
    with_loss: bool


@torch.no_grad()
def compare_saes(
    small: SparseAutoencoder, large: SparseAutoencoder, datamodule: ActivationDataModule, settings: Settings
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Compare two SAEs of the same activations.

    The first half of the held-out batches says what each latent does, the second half what the curve does, so that
    latents are not chosen on the data that they are judged by.

    Args:
        small: in evaluation mode.
        large: in evaluation mode, on the same device.
        datamodule: with held-out activations.
        settings: of the user.

    Returns:
        Plain values by name; and by latent of the large SAE `change`, `low`, `high`, `gain`, `firings`, `label` (a
        position in `CLASSES`) and `best_cosine`.
    """
    device = small.W_dec.device
    loader = datamodule.val_dataloader()
    batches = (batch.to(device) for batch in loader)
    sums, shuffled = (InsertionSums(large.W_dec.detach()) for _ in range(2))
    total = 0.0
    for x in islice(batches, len(loader) // 2):
        residual = x - small.decode(small.encode(x))
        code = in_raw_units(large, x)
        sums.update(code, residual)
        shuffled.update(code.take(torch.arange(len(x), device=device).roll(len(x) // 2)), residual)
        total += float(residual.double().square().sum())
    own, by_chance = sums.compute(), shuffled.compute()
    mse = total / own.n_samples
    cosine = best_cosine(large.W_dec.detach(), small.W_dec.detach())
    of_small, of_large = components(small.W_dec.detach(), large.W_dec.detach(), settings.cosine_threshold)
    plan = schedule(own.change, own.labels == NOVEL, of_small, of_large, cosine, settings.n_steps)
    stitcher = Stitcher(small, large, plan)
    generator = torch.Generator().manual_seed(_SEED)
    random_large, random_small = (Isotropic().directions(sae.d_sae, sae.d_in, generator) for sae in (large, small))
    found: dict[str, Any] = {
        "d_in": small.d_in,
        "d_small": small.d_sae,
        "d_large": large.d_sae,
        "n_samples": own.n_samples,
        "mse_small": mse,
        "classes": classes(own, by_chance, cosine, mse),
        "lowers_error": share_that_lowers(own),
        "lowers_error_shuffled": share_that_lowers(by_chance),
        "best_cosine_chance": float(best_cosine(random_large, random_small).mean()),
        "auc": auc(own, cosine),
        "by_cosine": by_cosine(own, cosine),
        "components": sizes(of_small, of_large) | {"threshold": settings.cosine_threshold},
        "curve": measure(stitcher, batches),
        "loss": None,
    }
    if settings.with_loss:
        found["loss"] = _loss(stitcher, datamodule, own, settings)
    latents = {name: getattr(own, name) for name in ("change", "low", "high", "gain", "firings")}
    return found, latents | {"label": own.labels, "best_cosine": cosine}


def classes(own: Insertions, shuffled: Insertions, cosine: Float[Tensor, " d_sae"], mse: float) -> dict[str, Any]:
    """For each class how many latents, their share and that of their firings, and means over them.

    `change` and `gain` are relative to the small SAE's squared error. `shuffled` is the share that the class has where
    latents are those of another sample: what a latent does on average, without looking at the sample.
    """
    rows = {}
    for label, name in enumerate(CLASSES):
        chosen = own.labels == label
        rows[name] = {
            "n": int(chosen.sum()),
            "share": float(chosen.double().mean()),
            "firing_share": float(own.firings[chosen].sum() / own.firings.sum().clamp_min(1)),
            "best_cosine": _mean(cosine[chosen]),
            "change": _mean(own.change[chosen] / mse),
            "gain": _mean(own.gain[chosen] / mse),
            "shuffled": float((shuffled.labels == label).double().mean()),
        }
    return rows


def share_that_lowers(insertions: Insertions) -> float | None:
    """Share of the latents that fire whose dMSE is below 0, whatever its interval: the rule of the paper."""
    return _mean((insertions.change < 0)[insertions.firings > 0].double())


def auc(own: Insertions, cosine: Float[Tensor, " d_sae"]) -> dict[str, float | None]:
    """How well a low largest cosine to the small dictionary predicts that a latent lowers the error (ROC-AUC).

    Over all latents that fire, by the sign of dMSE, and over those alone that are novel or reconstruction latents;
    chance 0.5, None where there is one class only.
    """
    from sklearn.metrics import roc_auc_score

    found = {}
    decided = (own.high < 0) | (own.low > 0)
    for name, chosen in (("all", own.firings > 0), ("decided", decided & (own.firings > 0))):
        truth = (own.change < 0)[chosen].cpu().numpy()
        both = len(set(truth.tolist())) == 2
        found[name] = float(roc_auc_score(truth, -cosine[chosen].cpu().numpy())) if both else None
    return found


def by_cosine(own: Insertions, cosine: Float[Tensor, " d_sae"]) -> list[dict[str, Any]]:
    """For each of `COSINES`: the share of firing latents below it, and which part of either side lowers the error."""
    alive = own.labels != DEAD
    rows = []
    for threshold in COSINES:
        below = cosine < threshold
        lowers = [_mean((own.change < 0)[alive & side].double()) for side in (below, ~below)]
        share = _mean(below[alive].double())
        rows.append({"threshold": threshold, "below": share, "lowers_below": lowers[0], "lowers_above": lowers[1]})
    return rows


def sizes(of_small: Tensor, of_large: Tensor) -> dict[str, Any]:
    """Number of components, how many latents are in them and outside, and the largest component of each SAE."""
    found: dict[str, Any] = {"n": int(of_small.max()) + 1}
    for name, labels in (("small", of_small), ("large", of_large)):
        inside = labels[labels >= 0]
        found[f"in_{name}"], found[f"out_{name}"] = len(inside), len(labels) - len(inside)
        found[f"most_{name}"] = int(torch.bincount(inside).max()) if len(inside) else 0
    pairs = (torch.bincount(labels[labels >= 0], minlength=found["n"]) for labels in (of_small, of_large))
    found["one_to_one"] = int(torch.stack([of == 1 for of in pairs]).all(0).sum())
    return found


def _loss(stitcher: Stitcher, datamodule: ActivationDataModule, own: Insertions, settings: Settings) -> dict[str, Any]:
    """Loss at the ends of the phases, and of a sample of latents, drawn evenly from those that fire."""
    alive = (own.firings > 0).nonzero()[:, 0].cpu()
    drawn = alive[torch.randperm(len(alive), generator=torch.Generator().manual_seed(_SEED))][: settings.n_loss_latents]
    plan = stitcher.plan
    measured = measure_loss(stitcher, datamodule, [0, *plan.ends[1:]], sorted(drawn.tolist()))
    labels, changes = own.labels.tolist(), own.change.tolist()
    latents = [
        {
            "latent": latent,
            "class": CLASSES[labels[latent]],
            "mse_change": changes[latent],
            "ce_change": of.pop("change"),
        }
        | of
        for latent, of in measured["latents"].items()
    ]
    return measured | {"latents": latents}


def _mean(values: Tensor) -> float | None:
    return float(values.double().mean()) if len(values) else None
