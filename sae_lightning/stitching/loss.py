"""Effect of single latents, and of the steps of the curve, on the loss of the language model (nats a token).

Invalid positions and massive activations that are left out keep their activation; the loss is that of the tokens at all
valid positions. For a latent alone the model reads only those rows of text on which it is
active: on the others it changes nothing.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from sae_lightning.metrics.functional import token_losses_update
from sae_lightning.sources import TokenBatch
from sae_lightning.sources.replacing import replace_valid
from sae_lightning.stitching.curve import Stitcher
from sae_lightning.stitching.insertion import in_raw_units
from sae_lightning.verdict.statistics import crossed, linearised


def rows_that_judge(inputs: Iterable[TokenBatch], n_seen: int, n_tokens: int) -> list[TokenBatch]:
    """Leave out the rows of text whose tokens have chosen latents, and return those that come after them.

    Args:
        inputs: held-out rows in the order in which activations are read.
        n_seen: valid tokens at the beginning that have been used.
        n_tokens: valid tokens that are wanted, about; fewer where the text ends before.

    Raises:
        ValueError: if there are fewer than two such rows, as an interval over rows needs.
    """
    rows: list[TokenBatch] = []
    begin, n_kept = 0, 0
    for batch in inputs:
        n_valid = batch.mask.sum(1)
        unseen = begin + n_valid.cumsum(0) - n_valid >= n_seen
        enough = n_kept + (n_valid * unseen).cumsum(0) - n_valid * unseen >= n_tokens
        keep = unseen & ~enough
        if keep.any():
            rows.append(TokenBatch(batch.input_ids[keep], batch.mask[keep]))
        begin, n_kept = begin + int(n_valid.sum()), n_kept + int(n_valid[keep].sum())
        if n_kept >= n_tokens:
            break
    if sum(len(batch.mask) for batch in rows) < 2:
        raise ValueError(
            f"the held-out text has {begin} tokens: the first {n_seen} say what latents do, and of the rest, on which "
            "the loss is measured, there are fewer than two rows: give a smaller --n_tokens, more held-out text, or "
            "--n_loss_tokens 0 to leave out the loss"
        )
    return rows


def measure_loss(
    stitcher: Stitcher,
    source: Any,  # noqa: ANN401
    rows: Iterable[TokenBatch],
    steps: Sequence[int],
    latents: Sequence[int],
) -> dict[str, Any]:
    """Measure the cross-entropy of the model.

    Args:
        stitcher: both SAEs and the schedule.
        source: a model whose activations can be replaced.
        rows: text, on which nothing has been chosen.
        steps: steps of the curve.
        latents: latents of the large SAE, each inserted alone into the small one.

    Returns:
        `n_tokens` that are predicted, `ce_clean`, `ce` by step, and `latents`, by latent `change` of the loss with its
        interval `low`, `high` over rows of text (None if there is one row).
    """
    sums: dict[int | str, list[Tensor]] = {name: [] for name in [*steps]} | {"clean": []}
    changes: list[Tensor] = []
    for inputs in rows:
        activations, valid = source.capture(inputs)
        x = activations[valid].float()
        with source.same_inputs():
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
            active_rows = row_of[where].unique()
            if len(active_rows) == 0:
                continue
            x_hat = small_x_hat.index_add(
                0, where, code.values[active][:, None] * stitcher.large.W_dec[latent].detach()
            )
            part = TokenBatch(inputs.input_ids[own := active_rows.to(inputs.mask.device)], inputs.mask[own])
            losses = _losses(source, part, valid[active_rows], x_hat[torch.isin(row_of, active_rows)])
            change[i, active_rows] = (losses - base[active_rows])[:, 0]
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
    return {"n_tokens": int(n_tokens.sum()), "ce_clean": ce.pop("clean"), "ce": ce, "latents": effects}


def _losses(source: Any, inputs: TokenBatch, valid: Tensor, x_hat: Tensor) -> Tensor:  # noqa: ANN401
    """Return loss sums of each row when the model reads x_hat [n, d_in] at the valid positions that SAEs read."""
    logits = source.replace(inputs, lambda old: replace_valid(old, valid.to(old.device), lambda _: x_hat))
    return _sums(logits, inputs)


def _sums(logits: Tensor, inputs: TokenBatch) -> Tensor:
    ids, mask = inputs.input_ids.to(logits.device), inputs.mask.to(logits.device)
    return token_losses_update(logits, logits, ids, mask)
