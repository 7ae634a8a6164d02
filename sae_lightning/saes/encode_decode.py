"""What an SAE computes: `encode`, activations to latents, and `decode`, back; `base.py` has the equations.

Nothing here trains or knows of Lightning. Selection carries no gradient; the chosen values do, through kernels whose
cost is that of the chosen entries.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sae_lightning.code import Code, FullCode, RowNorm
from sae_lightning.kernels import PreActs, sparse_decode, sparse_encode
from sae_lightning.latent_mesh import LatentMesh
from sae_lightning.saes.input_norm import InputNorm, normalise
from sae_lightning.saes.inputs import check_device, check_finite, check_shape


class EncodeDecode(nn.Module, ABC):
    """The function that an SAE is; a variant says by `select` and `activate` which latents are active, and how much."""

    d_in: int
    d_out: int
    d_sae: int
    is_transcoder: bool
    skip: bool
    apply_b_dec_to_input: bool
    input_norm: InputNorm | None
    is_initialised: bool
    mesh: LatentMesh
    """Which latents this rank has; all, unless `split_latents` dealt them out."""
    W_enc: nn.Parameter
    b_enc: nn.Parameter
    W_dec: nn.Parameter
    b_dec: nn.Parameter
    W_skip: nn.Parameter | None
    input_scale: Tensor
    """Of a crosscoder [d_in], of others one number."""
    target_scale: Tensor
    """Scale of the answer; only transcoders have it."""

    @property
    @abstractmethod
    def n_calibration_samples(self) -> int:
        """Number of raw activations that a whole start needs; 0 if it needs none."""

    @abstractmethod
    def select(self, pre_acts: PreActs) -> Code:
        """Return the latents of pre-activations, without gradient; in training mode those that training needs.

        Of a dictionary over several ranks both are those of this rank's latents.
        """

    def activate(self, values: Float[Tensor, " nnz"], chosen: Code) -> Float[Tensor, " nnz"]:
        """Return the latents of the chosen pre-activations, differentiable; by default their `relu`."""
        return values.relu()

    def normalise(self, x: Float[Tensor, "batch d_in"]) -> tuple[Float[Tensor, "batch d_in"], RowNorm | None]:
        """Return activations as `input_norm` makes them, and how to go back; without it the same and None."""
        return normalise(x, self.input_norm)

    def _inputs(self, x: Float[Tensor, "batch d_in"]) -> tuple[Float[Tensor, "batch d_in"], RowNorm | None]:
        """Return what is read, normalised and scaled, and how it was normalised."""
        x, norm = self.normalise(x.to(self.b_dec.dtype))
        return x * self.input_scale, norm

    @property
    def output_scale(self) -> Float[Tensor, "..."]:
        """Scale of what is reconstructed: that of the input, of a transcoder that of its target."""
        return self.target_scale if self.is_transcoder else self.input_scale

    def _skipped(self, inputs: Float[Tensor, "batch d_in"], W_skip: Tensor) -> Float[Tensor, "batch d_out"]:  # noqa: N803
        """Return what the skip path answers, scaled; in float32 also under autocast, as the loss is."""
        with torch.autocast(inputs.device.type, enabled=False):
            return inputs @ W_skip

    @torch.no_grad()
    def pre_acts(self, x: Float[Tensor, "batch d_in"]) -> PreActs:
        """Return the pre-activations of raw activations."""
        return self._pre_acts(self._inputs(x)[0])

    def _pre_acts(self, inputs: Float[Tensor, "batch d_in"]) -> PreActs:
        return PreActs(self._centred(inputs), self.W_enc, self.b_enc)

    def _centred(self, inputs: Float[Tensor, "batch d_in"]) -> Float[Tensor, "batch d_in"]:
        return inputs - self.b_dec if self.apply_b_dec_to_input else inputs

    def encode(self, x: Tensor, gradient: bool = False) -> Code:
        """Return the latents of raw activations, in the units of training (`input_scale`).

        Args:
            x: [..., d_in] floating point; computed in float32.
            gradient: let the values of the latents be differentiable in x. Which latents are active carries no
                gradient, and the parameters of the SAE get none: to train it is for `losses`.

        Returns:
            A code with a row for each activation, whose `leading` shape is that of x.

        Raises:
            ValueError: if x has another width, is not floating point, not finite, or on another device.
        """
        self.check_started()
        check_shape(x, self.d_in)
        check_device(x, self.W_dec)
        check_finite(x)
        if gradient and self.mesh.size > 1:
            raise ValueError("gradient=True: this rank has a part of the latents; load the exported SAE as a whole")
        with self._gradients_but_of_parameters() if gradient else torch.no_grad():
            inputs, norm = self._inputs(x.reshape(-1, self.d_in))
            with torch.no_grad():
                chosen = self.select(self._pre_acts(inputs))
            values = chosen.values
            if gradient:
                values = sparse_encode(self._centred(inputs), self.W_enc, self.b_enc, None, chosen)
            if self.W_skip is not None:  # a shift of each row, so that `decode` need not know x
                shift = self._skipped(inputs, self.W_skip) / self.target_scale
                norm = RowNorm(shift, torch.ones_like(shift[:, :1]))
            code = self.mesh.join(chosen.with_values(self.activate(values, chosen))).with_row_norm(norm)
        return code if x.dim() == 2 else code.with_leading(x.shape[:-1])

    def decode(self, latents: Code | Tensor, gradient: bool = False) -> Tensor:
        """Return the raw activations that latents reconstruct, of a transcoder those of its target.

        Args:
            latents: what `encode` returned, or dense latents [..., d_sae], all finite.
            gradient: let the reconstruction be differentiable in the latents, dense ones that are zero included; the
                parameters of the SAE get no gradient.

        Returns:
            [..., d_out] float32, of the leading shape of the latents.

        Raises:
            ValueError: if there are latents of another SAE, or numbers that are not finite; with `input_norm` or a skip
                path if the latents do not come from `encode`, which knows the norms to go back to and what was read.
        """
        self.check_started()
        if isinstance(latents, Code):
            code = latents
            if code.d_sae != self.d_sae:
                raise ValueError(f"the code has d_sae={code.d_sae}: expected that of this SAE, d_sae={self.d_sae}")
        else:
            check_shape(latents, self.d_sae, "latents", "d_sae")
            flat = latents.reshape(-1, self.d_sae).to(self.W_dec.dtype)
            code = (FullCode(flat) if gradient else Code.from_dense(flat)).with_leading(latents.shape[:-1])
        check_device(code.values, self.W_dec, "latents")
        check_finite(code.values if isinstance(latents, Code) else latents, "latents")
        if (code.row_norm is None) != (self.input_norm is None and self.W_skip is None):
            what = "skip=True" if self.skip else f"input_norm={self.input_norm}"
            raise ValueError(
                f"{what}, and the latents have {'no' if code.row_norm is None else 'some'} norms or skipped parts of "
                "activations: give the Code that encode of this SAE returned, or one made from it by with_values"
            )
        rows = code if code.shape is None else code.with_leading((code.batch_size,))
        own = self.mesh.own_part(rows)
        with self._gradients_but_of_parameters() if gradient else torch.no_grad():
            x_hat = sparse_decode(own.values, own, self.W_dec, self.b_dec, self.mesh) / self.output_scale
            if code.row_norm is not None:
                x_hat = code.row_norm.undo(x_hat)
            return x_hat.reshape(*code.leading, self.d_out)

    @contextmanager
    def _gradients_but_of_parameters(self) -> Iterator[None]:
        """Take the parameters for constants in what is computed within, and keep all other gradients."""
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        for parameter in trained:
            parameter.requires_grad_(False)
        try:
            with torch.enable_grad():
                yield
        finally:
            for parameter in trained:
                parameter.requires_grad_(True)

    def forward(self, x: Tensor) -> Tensor:
        """Return the reconstruction [..., d_out] of raw activations [..., d_in], in their dtype; no gradient.

        Raises:
            ValueError: as `encode`.
        """
        return self.decode(self.encode(x)).to(x.dtype)

    def check_started(self) -> None:
        """Refuse an SAE whose parameters have no start yet.

        Raises:
            ValueError: if that awaits data.
        """
        if not self.is_initialised:
            raise ValueError(
                f"this {type(self).__name__} has no start yet, since that depends on the data: train it with a "
                f"Trainer, or call initialise(seed, samples) with {self.n_calibration_samples} activations"
            )
