"""An SAE whose latents are found by matching pursuit on its decoder: no encoder, and nothing to train.

    latents = non-negative, l0 of them, with x_hat = latents W_dec + b_dec as near to x as the pursuit finds

A decoder of random directions with such latents says what an SAE with a frozen random decoder could reach at best: an
encoder finds worse ones, as a rule. `W_enc` is the transposed decoder; only the first directions are found by it.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sae_lightning.checks import check_above, check_whole
from sae_lightning.code import Code
from sae_lightning.kernels import PreActs
from sae_lightning.metrics.nonnegative_pursuit import ROUNDS, Pursued, add_entries, pursue_nonnegative
from sae_lightning.saes.base import SparseAutoencoder
from sae_lightning.saes.transcoder import refuse_several_hooks

_NOT_TRAINED = "the latents of a Pursuit are found by matching pursuit and not learned: train another variant"
_SHARE_FOUND = 0.98
"""Share of the l0 that was asked for which is near enough."""


class Pursuit(SparseAutoencoder):
    """Latents by non-negative matching pursuit on the decoder; not trained.

    Each activation gets `l0` latents, rounded down, and those with a residual above `residual_threshold` one more.

    Args:
        d_in: width of an activation; linked to the data.
        l0: latents per activation, above 0 and at most d_in; a fraction is met on average, see `calibrate`.
        rounds: products with the whole decoder for each activation, which decide the time.
        kwargs: those of SparseAutoencoder.

    Raises:
        ValueError: if l0 or rounds are out of range, or with apply_b_dec_to_input or unit_norm_decoder off.
    """

    in_scaled_units = (*SparseAutoencoder.in_scaled_units, "residual_threshold")
    residual_threshold: Tensor

    def __init__(self, d_in: int, l0: float = 32.0, rounds: int = ROUNDS, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(d_in, **kwargs)
        refuse_several_hooks([self], "a Pursuit")
        check_whole(1, rounds=rounds)
        for name in ("apply_b_dec_to_input", "unit_norm_decoder"):
            if not getattr(self, name):
                raise ValueError(f"{name}=False: a Pursuit finds combinations of unit directions about b_dec")
        self.rounds = rounds
        self.l0 = self._checked(l0)
        self.register_buffer("residual_threshold", torch.tensor(torch.inf))

    def _checked(self, l0: float) -> float:
        check_above(0, l0=l0)
        most = min(self.d_in, self.d_sae)
        if l0 > most:
            raise ValueError(
                f"l0={l0:g}: expected at most {most}, since d_in={self.d_in} and d_sae={self.d_sae}; "
                "as many directions explain all there is"
            )
        return float(l0)

    def select(self, pre_acts: PreActs) -> Code:
        """Return the latents of the activations that the pre-activations are of."""
        entries = self._pursue(pre_acts.x)
        more = torch.linalg.vector_norm(entries.residual, dim=1) > self.residual_threshold
        return self._with_one_more(pre_acts.x, entries, more).code(self.d_sae)

    def _pursue(self, centred: Tensor) -> Pursued:
        return pursue_nonnegative(centred, self.W_dec.detach(), int(self.l0), self.rounds)

    def _with_one_more(self, centred: Tensor, entries: Pursued, more: Tensor) -> Pursued:
        """Return the entries, with one more where `more` is true."""
        rows = more.nonzero()[:, 0]
        if not len(rows):
            return entries
        k = int(self.l0) + 1
        entries = entries.widened(k)
        entries.put(rows, add_entries(centred[rows], self.W_dec.detach(), entries.take(rows), k))
        return entries

    @torch.no_grad()
    def calibrate(self, centred: Float[Tensor, "n d_in"], l0: float) -> None:
        """Set `l0` and `residual_threshold` so that these activations have so many latents on average.

        Args:
            centred: activations as `input_norm` makes them, less `b_dec`; a few thousand are enough.
            l0: latents per activation that are wanted; the attribute is larger where some activations need fewer.

        Raises:
            ValueError: if l0 is out of range.
        """
        wanted = self._checked(l0)
        self.l0 = wanted
        for _ in range(3):
            entries = self._pursue(centred)
            norms = torch.linalg.vector_norm(entries.residual, dim=1)
            share = self.l0 - int(self.l0)
            limit = float(torch.quantile(norms, 1 - share)) if share else torch.inf
            self.residual_threshold.fill_(limit)
            entries = self._with_one_more(centred, entries, norms > self.residual_threshold)
            measured = float(entries.n_entries().double().mean())
            if measured >= _SHARE_FOUND * wanted or self.l0 >= min(self.d_in, self.d_sae) or not measured:
                return
            self.l0 = min(self.l0 * wanted / measured, float(self.d_in), float(self.d_sae))

    def setup(self, stage: str) -> None:
        """Refuse to be trained, before any data are read.

        Raises:
            ValueError: in `sae fit`.
        """
        if stage == "fit":
            raise ValueError(_NOT_TRAINED)
        super().setup(stage)

    def losses(self, x: Tensor, step: int, target: Tensor | None = None) -> dict[str, Tensor]:
        """Refuse to be trained: no gradient leads through the pursuit to an encoder.

        Raises:
            ValueError: always.
        """
        raise ValueError(_NOT_TRAINED)

    def settings(self) -> dict[str, Any]:
        """Return the settings of SparseAutoencoder, l0 and rounds."""
        return {**super().settings(), "l0": self.l0, "rounds": self.rounds}
