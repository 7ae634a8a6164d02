"""Effect of single latents, and of the steps of the curve, on the loss of the language model (nats a token).

Invalid positions and massive activations that are left out keep their activation; the loss is that of the tokens at all
valid positions. For a latent alone the model reads only those rows of text on which it is
active: on the others it changes nothing.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sae_lightning.metrics.functional import token_losses_update
from sae_lightning.sources import TokenBatch
from sae_lightning.sources.replacing import replace_valid
from sae_lightning.stitching.curve import Stitcher
from sae_lightning.stitching.insertion import in_raw_units
from sae_lightning.verdict.statistics import crossed, linearised


def measure_loss(
    stitcher: Stitcher,
    datamodule: Any,  # noqa: ANN401
    steps: Sequence[int],
    latents: Sequence[int],
) -> dict[str, Any]:
    """Measure the cross-entropy of the model over `validation_inputs`.

    Args:
        stitcher: both SAEs and the schedule.
        datamodule: with a model whose activations can be replaced.
        steps: steps of the curve.
        latents: latents of the large SAE, each inserted alone into the small one.

    Returns:
        `ce_clean`, `ce` by step, and `latents`, by latent `change` of the loss with its interval `low`, `high`
        over rows of text (None if there is one row).
    """
    source = datamodule.source
    sums: dict[int | str, list[Tensor]] = {name: [] for name in [*steps]} | {"clean": []}
    changes: list[Tensor] = []
    for inputs in datamodule.validation_inputs():
        activations, valid = source.capture(inputs)
        x = activations[valid].float()
        clean = source.replace(inputs, lambda old: old)
        sums["clean"].append(_sums(clean, inputs))
        for step, (x_hat, _) in enumerate(stitcher.steps(x)):
            if step == 0:
                small_x_hat, base = x_hat, _losses(source, inputs, valid, x_hat)
            if step in steps:
                sums[step].append(base if step == 0 else _losses(source, inputs, valid, x_hat))
        code = in_raw_units(stitcher.large, x)
        row_of = torch.arange(len(valid), device=valid.device)[:, None].expand_as(valid)[valid]
        change = base.new_zeros(len(latents), len(valid))
        for i, latent in enumerate(latents):
            active = (code.indices == latent) & (code.values != 0)
            where = code.rows[active]
            rows = row_of[where].unique()
            if len(rows) == 0:
                continue
            x_hat = small_x_hat.index_add(
                0, where, code.values[active][:, None] * stitcher.large.W_dec[latent].detach()
            )
            part = TokenBatch(inputs.input_ids[own := rows.to(inputs.mask.device)], inputs.mask[own])
            losses = _losses(source, part, valid[rows], x_hat[torch.isin(row_of, rows)])
            change[i, rows] = (losses - base[rows])[:, 0]
        changes.append(change.cpu())
    n_tokens = torch.cat(sums["clean"])[:, 2].cpu().numpy()
    ce = {name: float((total := torch.cat(parts).sum(0))[0] / total[2]) for name, parts in sums.items()}
    effects = {}
    for latent, change in zip(latents, torch.cat(changes, 1), strict=True):
        values = linearised(change.numpy(), n_tokens)
        difference = crossed(values[None]) if len(values) > 1 else None
        effects[latent] = {
            "change": float(values.mean()),
            "low": difference.low if difference else None,
            "high": difference.high if difference else None,
        }
    return {"ce_clean": ce.pop("clean"), "ce": ce, "latents": effects}


def _losses(source: Any, inputs: TokenBatch, valid: Tensor, x_hat: Tensor) -> Tensor:  # noqa: ANN401
    """Return loss sums of each row when the model reads x_hat [n, d_in] at the valid positions that SAEs read."""
    logits = source.replace(inputs, lambda old: replace_valid(old, valid.to(old.device), lambda _: x_hat))
    return _sums(logits, inputs)


def _sums(logits: Tensor, inputs: TokenBatch) -> Tensor:
    ids, mask = inputs.input_ids.to(logits.device), inputs.mask.to(logits.device)
    return token_losses_update(logits, logits, ids, mask)
