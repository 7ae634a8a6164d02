"""`Control`: what an SAE is compared with where nothing is trained by gradient, at the l0 that the SAE has.

Each control keeps one thing of an SAE and leaves the others to chance or to a formula, and says what it controls for.
An SAE that does not beat it owes what it scores to that one thing.

A transcoder has controls, too: what it reads and what it writes are directions of two spaces, and each control says of
which. Where it has a skip path, that of a control is the best linear map, and its latents explain what that leaves.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from sae_lightning.checks import check_above, check_seed
from sae_lightning.controls.cost import Cost
from sae_lightning.metrics.linear_map import fit_linear_maps
from sae_lightning.saes import BatchTopK, SparseAutoencoder, TopK
from sae_lightning.saes.bias_init import Zero
from sae_lightning.saes.init import CovarianceMatched
from sae_lightning.saes.inputs import check_finite, check_shape

_SEED = 0x40_27_20_15 << 32
"""What seeds are added to: an SAE that was trained from the same seed would have started at the same directions."""
ROWS = 4096
"""Samples that are encoded at a time."""
MEASURED_SAMPLES = 4096
"""Samples on which a matching pursuit is calibrated."""


class Control(ABC):
    """One kind of control. `new` and `start` together make it, as an SAE that can be measured and saved."""

    controls_for: str
    """What an SAE that does not beat it may owe its score to, in one clause."""
    is_random: ClassVar[bool]
    """Whether it differs from seed to seed; otherwise one is enough."""
    of_saes: bool = True
    """Whether there is such a control of an SAE."""
    of_transcoders: bool = False
    """Whether there is such a control of a transcoder."""
    has_latents: ClassVar[bool] = True
    """Whether it has the l0 of the SAE; otherwise it has no latents at all."""

    @abstractmethod
    def new(self, sae: SparseAutoencoder) -> SparseAutoencoder:
        """Return an SAE of the shape that the control of this one has, not started and on the CPU.

        Args:
            sae: of any variant.
        """

    def reads_target(self, sae: SparseAutoencoder) -> bool:
        """Return whether the control of a transcoder is shown the target: a bound, since no transcoder knows it."""
        return False

    def most_l0(self, sae: SparseAutoencoder) -> int:
        """Return the largest l0 that a control of this SAE can have: as many as there are latents."""
        return sae.d_sae

    def check_kind(self, sae: SparseAutoencoder) -> None:
        """Check that there is such a control of an SAE, or of a transcoder.

        Raises:
            ValueError: if there is none.
        """
        if not (self.of_transcoders if sae.is_transcoder else self.of_saes):
            kind, other = ("a transcoder", "SAEs") if sae.is_transcoder else ("an SAE", "transcoders")
            raise ValueError(
                f"{type(self).__name__} is a control of {other}, and this is {kind}: leave this control out"
            )

    def check(self, sae: SparseAutoencoder, l0: float) -> None:
        """Check that there is such a control of this SAE at this l0.

        Raises:
            ValueError: says why there is none.
        """
        self.check_kind(sae)
        check_above(0, l0=l0)
        if l0 > self.most_l0(sae):
            raise ValueError(
                f"l0={l0:g}: {type(self).__name__} can have at most {self.most_l0(sae)} of its latents active, since "
                f"{width_in_words(sae)} and d_sae={sae.d_sae}: leave this control out"
            )

    @torch.no_grad()
    def start(
        self,
        own: SparseAutoencoder,
        sae: SparseAutoencoder,
        samples: Float[Tensor, "n d_in"],
        l0: float,
        seed: int,
        target_samples: Float[Tensor, "n d_out"] | None = None,
    ) -> None:
        """Make the control: fill what `new` returned.

        Args:
            own: what `new` returned for this SAE, on any device; the control is made there.
            sae: the SAE that it is a control of; not changed, and tensors that the control has as they are are shared.
            samples: raw activations, two or more, not those that it is measured on.
            l0: latents per activation that the control is to have on them: the l0 of the SAE.
            seed: of all that is random; the same on every device.
            target_samples: what a transcoder is to answer with to the samples, row by row; None for an SAE.

        Raises:
            ValueError: if the samples are not finite or of another width, those of a target are missing or given for an
                SAE, or there is no such control at this l0.
        """
        check_seed(seed=seed)
        _check_samples(samples, sae.d_in, "samples", "d_in")
        self.check(sae, l0)
        if (target_samples is None) == sae.is_transcoder:
            wanted = "[n, d_out] of a transcoder" if sae.is_transcoder else "none of an SAE"
            raise ValueError(f"target_samples: expected {wanted}, as in start(own, sae, samples, l0, seed, target)")
        x, _ = own.normalise(samples.to(own.W_dec.device, torch.float32))
        y = x
        if target_samples is not None:
            _check_samples(target_samples, sae.d_out, "target_samples", "d_out")
            if len(target_samples) != len(samples):
                raise ValueError(f"{len(samples)} samples and {len(target_samples)} target_samples: expected as many")
            y = target_samples.to(x)
        self._fill(own, sae, x, y, l0, torch.Generator().manual_seed(_SEED + seed))
        own.W_dec_start = own.W_dec.detach()
        if own.is_transcoder:
            own.W_enc_start = own.W_enc.detach().T
        own.seed, own.is_initialised, own.b_dec_awaits_data = seed, True, False
        own.requires_grad_(False).eval()

    @abstractmethod
    def _fill(
        self,
        own: SparseAutoencoder,
        sae: SparseAutoencoder,
        x: Float[Tensor, "n d_in"],
        y: Float[Tensor, "n d_out"],
        l0: float,
        generator: torch.Generator,
    ) -> None:
        """Give `own` its tensors and its l0.

        Args:
            own: to be filled.
            sae: the SAE that it is a control of.
            x: samples as `input_norm` makes them, on the device of `own`.
            y: what is to be answered to them; of an SAE the same.
            l0: latents per activation.
            generator: the only source of randomness, on the CPU.
        """

    @abstractmethod
    def cost(self, sae: SparseAutoencoder, n_samples: int, n_held_out: int, l0: float) -> Cost:
        """Return what it costs to make one control and to measure it.

        Args:
            sae: the SAE that it would be a control of.
            n_samples: activations that it is made from.
            n_held_out: activations whose latents are asked for afterwards.
            l0: latents per activation.
        """


def width_in_words(sae: SparseAutoencoder) -> str:
    """Return the width of what an SAE answers, by the name of its argument."""
    return f"d_out={sae.d_out}" if sae.is_transcoder else f"d_in={sae.d_in}"


def new_with_encoder(sae: SparseAutoencoder, d_sae: int, unit_norm_decoder: bool = True) -> SparseAutoencoder:
    """Return a TopK as control of a TopK, and of others a BatchTopK, which has one threshold; not started.

    k and threshold are those that `calibrate` sets. A control of a transcoder answers where that does, with a skip path
    where that has one.
    """
    variant = TopK if isinstance(sae, TopK) else BatchTopK
    # A start that depends on data leaves it not started, until the control gives it one.
    own = variant(
        sae.d_in,
        k=1,
        d_sae=d_sae,
        input_norm=sae.input_norm,
        unit_norm_decoder=unit_norm_decoder,
        init=CovarianceMatched(),
        b_dec_init=Zero(),
        aux_coefficient=0.0,
        d_out=sae.d_out if sae.is_transcoder else None,
        skip=sae.skip,
    )
    return own.requires_grad_(False).eval()


def left_to_latents(own: SparseAutoencoder, x: Float[Tensor, "n d_in"], y: Tensor) -> Float[Tensor, "n d_out"]:
    """Give `b_dec`, and a skip path, what explains most without latents; return what they leave of the answers.

    Without a skip path that is the mean of the answers, with one the best linear map.
    """
    if own.W_skip is None:
        assign(own, b_dec=y.mean(0))
        return y - own.b_dec
    [linear] = fit_linear_maps(x, y)
    assign(own, W_skip=linear.weights, b_dec=linear.intercept)
    return y - linear(x)


def move_b_dec(own: SparseAutoencoder, change: Tensor) -> None:
    """Change `b_dec`, and where it is subtracted from the input `b_enc` with it, so that latents stay the same."""
    own.b_dec.add_(change)
    if own.apply_b_dec_to_input:
        own.b_enc.add_(change @ own.W_enc)


def read_about(own: SparseAutoencoder, mean: Float[Tensor, " d_in"]) -> None:
    """Let the latents of a transcoder, which were set up on centred samples, be those of raw ones.

    An SAE subtracts its `b_dec`, which lies at that mean.
    """
    if own.is_transcoder:
        own.b_enc.sub_(mean @ own.W_enc)


def _check_samples(samples: Tensor, width: int, name: str, width_name: str) -> None:
    check_shape(samples, width, name, width_name)
    check_finite(samples, name)
    if samples.dim() != 2 or len(samples) < 2:
        raise ValueError(f"{name} have the shape {list(samples.shape)}: expected [n, {width_name}], n 2 or more")


def assign(own: SparseAutoencoder, **tensors: Tensor) -> None:
    """Give tensors to an SAE, moved to where it is and else not copied."""
    for name, tensor in tensors.items():
        parameter = getattr(own, name)
        parameter.data = tensor.detach().to(parameter.device, parameter.dtype)


def evenly_spaced(samples: Float[Tensor, "n d_in"], most: int) -> Float[Tensor, "m d_in"]:
    """Return at most so many samples, from everywhere among them: neighbours may be of one text."""
    return samples[:: -(-len(samples) // most)]


@torch.no_grad()
def measured_l0(sae: SparseAutoencoder, samples: Float[Tensor, "n d_in"], rows: int = ROWS) -> float:
    """Return the mean number of active latents of raw activations, encoded a few rows at a time.

    Args:
        sae: in evaluation mode.
        samples: one or more, on any device.
        rows: activations that are encoded at a time.

    Raises:
        ValueError: if there are no samples.
    """
    if not len(samples):
        raise ValueError("no samples: expected one or more")
    return sum(int(sae.encode(block.to(sae.W_dec.device)).l0().sum()) for block in samples.split(rows)) / len(samples)
