"""Compare two SAEs of the same activations: everything that ``sae stitch`` measures, as plain values by name."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sae_lightning.datamodules import ActivationDataModule
from sae_lightning.metrics import best_cosine
from sae_lightning.saes import Isotropic, SparseAutoencoder
from sae_lightning.saes.stitched import refuse_input_norm
from sae_lightning.sources import ActivationSource, TokenBatch
from sae_lightning.stitching.curve import Stitcher, measure, schedule
from sae_lightning.stitching.insertion import CLASSES, DEAD, NOVEL, Insertions, InsertionSums, in_raw_units
from sae_lightning.stitching.loss import measure_loss, rows_that_judge
from sae_lightning.stitching.swaps import components

COSINES = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Thresholds below which the largest cosine alone would call a latent novel."""
_SEED = 0


@dataclass(frozen=True)
class Settings:
    """What a user can choose.

    Args:
        cosine_threshold: above it two latents of the two SAEs are in one component.
        n_steps: most steps of the curve in each of its phases.
        n_loss_latents: latents whose effect on the language model's loss is measured.
        n_loss_tokens: tokens on which it is measured, about; 0 to run the model above the hook not at all.
    """

    cosine_threshold: float
    n_steps: int
    n_loss_latents: int
    n_loss_tokens: int


@torch.no_grad()
def compare_saes(
    small: SparseAutoencoder, large: SparseAutoencoder, datamodule: ActivationDataModule, settings: Settings
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Compare two SAEs of the same activations.

    Each latent is measured on the first half of the held-out batches; the curve on the second half, and the loss on
    rows of text that begin after the first half, so that latents are not chosen on the data that judge them.

    Args:
        small: in evaluation mode.
        large: in evaluation mode, on the same device.
        datamodule: with held-out activations.
        settings: what the user has chosen.

    Returns:
        Plain values by name; and by latent of the large SAE `change`, `low`, `high`, `gain`, `firings`, `label` (a
        position in `CLASSES`) and `best_cosine`.
    """
    for name, sae in (("the small SAE", small), ("the large SAE", large)):
        refuse_input_norm(sae, name)
    device = small.W_dec.device
    loader = datamodule.val_dataloader()
    n_choosing = len(loader) // 2
    rows: list[TokenBatch] = []
    if settings.n_loss_tokens:
        n_seen = n_choosing * datamodule.batch_size
        rows = rows_that_judge(datamodule.validation_inputs(), n_seen, settings.n_loss_tokens)
    batches = (batch.to(device) for batch in loader)
    sums, shuffled = (InsertionSums(large.W_dec.detach()) for _ in range(2))
    total = 0.0
    for x in islice(batches, n_choosing):
        residual = x - small.decode(small.encode(x))
        code = in_raw_units(large, x)
        sums.update(code, residual)
        shuffled.update(code.take(torch.arange(len(x), device=device).roll(len(x) // 2)), residual)
        total += float(residual.double().square().sum())
    own, by_chance = sums.compute(), shuffled.compute()
    mse = total / own.n_samples
    cosine = best_cosine(large.W_dec.detach(), small.W_dec.detach())
    small_components, large_components = components(
        small.W_dec.detach(), large.W_dec.detach(), settings.cosine_threshold
    )
    plan = schedule(own.change, own.labels == NOVEL, small_components, large_components, cosine, settings.n_steps)
    stitcher = Stitcher(small, large, plan)
    generator = torch.Generator().manual_seed(_SEED)
    random_large, random_small = (Isotropic().directions(sae.d_sae, sae.d_in, generator) for sae in (large, small))
    comparison: dict[str, Any] = {
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
        "components": component_sizes(small_components, large_components) | {"threshold": settings.cosine_threshold},
        "curve": measure(stitcher, batches),
        "loss": None,
    }
    if rows:
        comparison["loss"] = _loss(stitcher, datamodule.source, rows, own, settings)
    latents = {name: getattr(own, name) for name in ("change", "low", "high", "gain", "firings")}
    return comparison, latents | {"label": own.labels, "best_cosine": cosine}


def classes(own: Insertions, shuffled: Insertions, cosine: Float[Tensor, " d_sae"], mse: float) -> dict[str, Any]:
    """Return, for each class, the number of latents, their share and that of their firings, and means over them.

    Args:
        own: of the latents as they are.
        shuffled: with the latents of another sample: what a latent does on average, whatever the sample. The share of
            the class there is the value `shuffled`.
        cosine: largest cosine of each latent to the small dictionary.
        mse: squared error of the small SAE, to which `change` and `gain` are relative.
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
    """Return the share of firing latents whose dMSE is below 0, whatever its interval: the rule of the paper."""
    return _mean((insertions.change < 0)[insertions.firings > 0].double())


def auc(own: Insertions, cosine: Float[Tensor, " d_sae"]) -> dict[str, float | None]:
    """Return how well a low largest cosine to the small dictionary predicts that a latent lowers the error (ROC-AUC).

    `all` is over all latents that fire, by the sign of dMSE, `decided` over novel and reconstruction latents alone. The
    chance level is 0.5; None if there is one class only.
    """
    from sklearn.metrics import roc_auc_score

    areas = {}
    decided = (own.high < 0) | (own.low > 0)
    for name, chosen in (("all", own.firings > 0), ("decided", decided & (own.firings > 0))):
        truth = (own.change < 0)[chosen].cpu().numpy()
        has_both = len(set(truth.tolist())) == 2
        areas[name] = float(roc_auc_score(truth, -cosine[chosen].cpu().numpy())) if has_both else None
    return areas


def by_cosine(own: Insertions, cosine: Float[Tensor, " d_sae"]) -> list[dict[str, Any]]:
    """Return the share of firing latents below each of `COSINES`, and how many on either side lower the error."""
    alive = own.labels != DEAD
    rows = []
    for threshold in COSINES:
        below = cosine < threshold
        lowers = [_mean((own.change < 0)[alive & side].double()) for side in (below, ~below)]
        share = _mean(below[alive].double())
        rows.append({"threshold": threshold, "below": share, "lowers_below": lowers[0], "lowers_above": lowers[1]})
    return rows


def component_sizes(
    small_components: Int64[Tensor, " d_small"], large_components: Int64[Tensor, " d_large"]
) -> dict[str, Any]:
    """Return the number of components, of latents in them and outside, and the most latents of either SAE in one."""
    sizes: dict[str, Any] = {"n": int(small_components.max()) + 1}
    for name, labels in (("small", small_components), ("large", large_components)):
        inside = labels[labels >= 0]
        sizes[f"in_{name}"], sizes[f"out_{name}"] = len(inside), len(labels) - len(inside)
        sizes[f"most_{name}"] = int(torch.bincount(inside).max()) if len(inside) else 0
    counts = (
        torch.bincount(labels[labels >= 0], minlength=sizes["n"]) for labels in (small_components, large_components)
    )
    sizes["one_to_one"] = int(torch.stack([count == 1 for count in counts]).all(0).sum())
    return sizes


def _loss(
    stitcher: Stitcher, source: ActivationSource, rows: Sequence[TokenBatch], own: Insertions, settings: Settings
) -> dict[str, Any]:
    """Measure the loss at the ends of the phases, and of latents drawn at random from those that fire."""
    alive = (own.firings > 0).nonzero()[:, 0].cpu()
    drawn = alive[torch.randperm(len(alive), generator=torch.Generator().manual_seed(_SEED))][: settings.n_loss_latents]
    plan = stitcher.plan
    measured = measure_loss(stitcher, source, rows, [0, *plan.ends[1:]], sorted(drawn.tolist()))
    labels, changes = own.labels.tolist(), own.change.tolist()
    latents = [
        {
            "latent": latent,
            "class": CLASSES[labels[latent]],
            "mse_change": changes[latent],
            "ce_change": effect.pop("change"),
        }
        | effect
        for latent, effect in measured["latents"].items()
    ]
    return measured | {"latents": latents}


def _mean(values: Tensor) -> float | None:
    return float(values.double().mean()) if len(values) else None
