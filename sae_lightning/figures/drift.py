"""How far directions moved from their start, over all latents: read from the exported SAEs."""

import numpy as np

from sae_lightning.figures.chart import FigureSkipped
from sae_lightning.figures.histogram import Histogram, share_series
from sae_lightning.members import in_order
from sae_lightning.metrics import cosine_to_start
from sae_lightning.nouns import noun
from sae_lightning.runs import Run

_BIN = 0.02
_ROUNDING = 1e-6
"""The limit of a soft freeze is the edge of a bin, and directions on it may lie this far below."""


def cosine_charts(run: Run, part: str, bin_width: float = _BIN) -> list[Histogram]:
    """Draw the distribution of the cosine to the start, of decoder and encoder.

    The encoder of an SAE starts as the transposed decoder, and without that (`tied_init` false) its start is not known;
    a transcoder keeps it.

    Args:
        run: a finished run.
        part: of the activations.
        bin_width: of the histogram.

    Raises:
        FigureSkipped: if the run has exported no SAE of the part that it trained.
    """
    beside = {*run.references, *run.controls}
    decoder: dict[str, list[np.ndarray]] = {}
    encoder: dict[str, list[np.ndarray]] = {}
    for member in run.saes:
        if member.part != part or member.policy in beside:
            continue
        sae = run.load(member)
        start = sae.W_enc_start if sae.is_transcoder else sae.W_dec_start
        decoder.setdefault(member.policy, []).append(cosine_to_start(sae.W_dec.detach(), sae.W_dec_start).numpy())
        encoder.setdefault(member.policy, []).append(cosine_to_start(sae.W_enc.detach().T, start).numpy())
    if not decoder:
        raise FigureSkipped(f"there is no {noun()} in saes/ that the run has trained")
    charts = [_chart("Decoder", decoder, bin_width)]
    if run.sae["init_args"].get("tied_init", True):
        charts.append(_chart("Encoder", encoder, bin_width))
    return charts


def _chart(name: str, cosines: dict[str, list[np.ndarray]], bin_width: float) -> Histogram:
    values = {policy: np.stack(cosines[policy]) for policy in in_order(cosines)}
    least = min(0.0, *(own.min() for own in values.values()))
    edges = np.arange(np.floor(least / bin_width), round(1 / bin_width) + 1) * bin_width
    x, y = "cosine of a direction to its start", f"latents, in bins of {bin_width:g}"
    series = share_series({policy: own + _ROUNDING for policy, own in values.items()}, edges)
    return Histogram(name, x, y, series, edges, log_y=True, percent=True, x_includes=(0.0, 1.0))
