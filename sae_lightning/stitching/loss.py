"""What single latents, and the steps of the curve, do to the loss of the language model (cross-entropy, nats a token).

Positions that do not count keep their activation. A latent alone is asked of those rows of text only on which it is
active: on the others it changes nothing.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sae_lightning.metrics.functional import token_losses_update
from sae_lightning.sources import TokenBatch
from sae_lightning.sources.replacing import replace_valid
from sae_lightning.sources.tokens import check_logits
from sae_lightning.stitching.curve import Stitcher
from sae_lightning.stitching.insertion import in_raw_units
from sae_lightning.verdict.statistics import crossed, linearised


def measure_loss(
    stitcher: Stitcher,
    datamodule: Any,  # noqa: ANN401
    steps: Sequence[int],
    latents: Sequence[int],
) -> dict[str, Any]:
    """Run the model over `validation_inputs`.

    Args:
        stitcher: both SAEs and the schedule.
        datamodule: with a model whose activations can be replaced.
        steps: of the curve.
        latents: of the large SAE, each inserted alone into the small one.

    Returns:
        `ce_clean`, `ce` by step, and `latents`, by latent `change` of the loss with its interval `low`, `high`
        over rows of text (null where there is one row).
    """
    source = datamodule.source
    sums: dict[int | str, list[Tensor]] = {name: [] for name in [*steps]} | {"clean": []}
    changes: list[Tensor] = []
    for inputs in datamodule.validation_inputs():
        activations, counts = source.capture(inputs)
        x = activations[counts].float()
        clean = source.replace(inputs, lambda old: old)
        check_logits(clean, inputs.input_ids, "sae stitch")
        sums["clean"].append(_sums(clean, inputs))
        for step, (x_hat, _) in enumerate(stitcher.steps(x)):
            if step == 0:
                of_small, base = x_hat, _losses(source, inputs, x_hat)
            if step in steps:
                sums[step].append(base if step == 0 else _losses(source, inputs, x_hat))
        code = in_raw_units(stitcher.large, x)
        row_of = torch.arange(len(counts), device=counts.device)[:, None].expand_as(counts)[counts]
        change = base.new_zeros(len(latents), len(counts))
        for i, latent in enumerate(latents):
            mine = code.indices == latent
            mine &= code.values != 0
            where = code.rows[mine]
            rows = row_of[where].unique()
            if len(rows) == 0:
                continue
            x_hat = of_small.index_add(0, where, code.values[mine][:, None] * stitcher.large.W_dec[latent].detach())
            part = TokenBatch(inputs.input_ids[rows.to(inputs.input_ids.device)], counts[rows])
            losses = _losses(source, part, x_hat[torch.isin(row_of, rows)])
            change[i, rows] = (losses - base[rows])[:, 0]
        changes.append(change.cpu())
    n_tokens = torch.cat(sums["clean"])[:, 2].cpu().numpy()
    ce = {name: float((total := torch.cat(of).sum(0))[0] / total[2]) for name, of in sums.items()}
    found = {}
    for latent, change in zip(latents, torch.cat(changes, 1), strict=True):
        values = linearised(change.numpy(), n_tokens)
        difference = crossed(values[None]) if len(values) > 1 else None
        found[latent] = {
            "change": float(values.mean()),
            "low": difference.low if difference else None,
            "high": difference.high if difference else None,
        }
    return {"ce_clean": ce.pop("clean"), "ce": ce, "latents": found}


def _losses(source: Any, inputs: TokenBatch, x_hat: Tensor) -> Tensor:  # noqa: ANN401
    """Loss sums of each row when the model reads x_hat [n, d_in] at the positions that count."""
    logits = source.replace(inputs, lambda old: replace_valid(old, inputs.mask.to(old.device), lambda _: x_hat))
    return _sums(logits, inputs)


def _sums(logits: Tensor, inputs: TokenBatch) -> Tensor:
    ids, mask = inputs.input_ids.to(logits.device), inputs.mask.to(logits.device)
    return token_losses_update(logits, logits, ids, mask)
