"""`Control`: what an SAE is compared with where nothing is trained by gradient, at the l0 that the SAE has.

Each control keeps one thing of an SAE and leaves the others to chance or to a formula, and says what it controls for.
An SAE that does not beat it owes what it scores to that one thing.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from sae_lightning.checks import check_above, check_seed
from sae_lightning.controls.cost import Cost
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

    @abstractmethod
    def new(self, sae: SparseAutoencoder) -> SparseAutoencoder:
        """Return an SAE of the shape that the control of this one has, not started and on the CPU.

        Args:
            sae: of any variant.
        """

    def most_l0(self, sae: SparseAutoencoder) -> int:
        """Return the largest l0 that a control of this SAE can have."""
        return sae.d_in

    def check(self, sae: SparseAutoencoder, l0: float) -> None:
        """Check that there is such a control of this SAE at this l0.

        Raises:
            ValueError: says why there is none.
        """
        check_above(0, l0=l0)
        if l0 > self.most_l0(sae):
            raise ValueError(
                f"l0={l0:g}: {type(self).__name__} can have at most {self.most_l0(sae)} of its latents active, since "
                f"d_in={sae.d_in} and d_sae={sae.d_sae}: leave this control out"
            )

    @torch.no_grad()
    def start(
        self, own: SparseAutoencoder, sae: SparseAutoencoder, samples: Float[Tensor, "n d_in"], l0: float, seed: int
    ) -> None:
        """Make the control: fill what `new` returned.

        Args:
            own: what `new` returned for this SAE, on any device; the control is made there.
            sae: the SAE that it is a control of; not changed, and tensors that the control has as they are are shared.
            samples: raw activations, two or more, not those that it is measured on.
            l0: latents per activation that the control is to have on them: the l0 of the SAE.
            seed: of all that is random; the same on every device.

        Raises:
            ValueError: if the samples are not finite or of another width, or there is no such control at this l0.
        """
        check_seed(seed=seed)
        check_shape(samples, sae.d_in, "samples")
        check_finite(samples, "samples")
        if samples.dim() != 2 or len(samples) < 2:
            raise ValueError(f"samples have the shape {list(samples.shape)}: expected [n, d_in], n 2 or more")
        self.check(sae, l0)
        x, _ = own.normalise(samples.to(own.W_dec.device, torch.float32))
        self._fill(own, sae, x, l0, torch.Generator().manual_seed(_SEED + seed))
        own.W_dec_start = own.W_dec.detach()
        own.seed, own.is_initialised, own.b_dec_awaits_data = seed, True, False
        own.requires_grad_(False).eval()

    @abstractmethod
    def _fill(
        self,
        own: SparseAutoencoder,
        sae: SparseAutoencoder,
        x: Float[Tensor, "n d_in"],
        l0: float,
        generator: torch.Generator,
    ) -> None:
        """Give `own` its tensors and its l0.

        Args:
            own: to be filled.
            sae: the SAE that it is a control of.
            x: samples as `input_norm` makes them, on the device of `own`.
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


def new_with_encoder(sae: SparseAutoencoder, d_sae: int, unit_norm_decoder: bool = True) -> SparseAutoencoder:
    """Return a TopK as control of a TopK, and of others a BatchTopK, which has one threshold; not started.

    k and threshold are those that `calibrate` sets.
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
    )
    return own.requires_grad_(False).eval()


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
