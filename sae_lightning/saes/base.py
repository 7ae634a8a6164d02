"""`SparseAutoencoder`: what all variants share.

    pre_acts = (s x - b_dec) W_enc + b_enc        latents = select(pre_acts)        s x_hat = latents W_dec + b_dec

with a scale s that is 1 unless the input is scaled; with `input_norm` x is the normalised activation. A variant defines
which pre-activations become latents (`select`) and what its loss adds. Selection carries no gradient; the chosen values
do, through kernels whose cost is that of the chosen entries.

A transcoder (Dunefsky et al. 2024, arXiv 2406.11944) reads x at one place of a model and answers with y at another, of
width `d_out`, such as the input and the output of an MLP; with a skip path (Paulo et al. 2025, arXiv 2501.18823)

    pre_acts = s x W_enc + b_enc                              t y_hat = latents W_dec + b_dec + s x W_skip

Here `b_dec` lies where the answer is, so it is not subtracted from what is read, and t is a scale of the answer. An SAE
is the case y = x. What a variant adds to the loss is the same for both: it is told what the latents are to reconstruct.

A crosscoder (Lindsey et al. 2024) has one code for several parts: it is the SAE of their activations side by side, each
part scaled by itself, see `crosscoder.py`.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from jaxtyping import Float
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.optim import Optimizer

from sae_lightning.checks import check_above, check_at_least, check_seed, check_whole
from sae_lightning.latent_mesh import LatentMesh
from sae_lightning.members import TRAINED, Member
from sae_lightning.saes import own_loop, start
from sae_lightning.saes.attached import Attached, attach
from sae_lightning.saes.bias_init import CALIBRATION_SAMPLES, BiasInit, GeometricMedian
from sae_lightning.saes.crosscoder import columns_of_crosscoder, refuse_with_crosscoder
from sae_lightning.saes.init import DecoderInit, Isotropic
from sae_lightning.saes.input_norm import InputNorm, check_input_norm
from sae_lightning.saes.losses import Losses
from sae_lightning.saes.module import SAEModule
from sae_lightning.saes.transcoder import ends_of, refuse_options

_LARGEST_SAE = 2**31
"""Latents: more than any machine holds, and few enough that `batch * d_sae` fits 64 bits."""


class SparseAutoencoder(Losses, SAEModule):
    """A sparse autoencoder, with unit-norm decoder directions unless told otherwise.

    `encode`, `decode` and the SAE itself take activations of any leading shape, and refuse another width, integers and
    numbers that are not finite. A training loop of one's own is three calls; `losses` raises where `optimizer.step()`
    was called in place of the last:

        loss = sae.losses(x, step)["loss"]
        loss.backward()
        sae.step(optimizer)

    Args:
        d_in: width of an activation; linked to the data. Of a lone transcoder with `source` and `target` it is that of
            all hooks side by side, and becomes that of the source.
        d_sae: number of latents; give this or expansion_factor.
        expansion_factor: number of latents per dimension of the activation that is read; give this or d_sae.
        init: how decoder directions start; isotropic by default.
        b_dec_init: where b_dec starts; at the geometric median of the activations by default.
        tied_init: the encoder starts as the transposed decoder; otherwise it gets a draw of its own, as that of a
            transcoder always does: its encoder and its decoder are directions of two spaces.
        apply_b_dec_to_input: subtract b_dec from the activation before encoding; never done by a transcoder.
        scale_input: train on activations divided by the root of their mean squared norm, E||x||^2 = 1; coefficients,
            thresholds and bandwidths are then relative to that scale, and saving folds it into the biases. Of a
            transcoder the activations of each side are scaled by their own. A crosscoder always does, each part by its
            own, and keeps the scales when it is saved.
        input_norm: how each activation is normalised by itself, see `input_norm.py`; not at all by default.
        unit_norm_decoder: keep decoder directions at unit norm; SAEs of other libraries may have other norms.
        seed: of the random start; it also names the SAE in tables.
        aux_coefficient: weight of the AuxK loss that revives dead latents, 0 or more.
        dead_after_samples: a latent is dead when it has not fired for this many samples, counted over all ranks.
        optimizer: a torch optimizer; Adam by default.
        lr_scheduler: stepped after every optimizer step; none by default.
        d_out: width of the activation that a transcoder answers with. Default: none, an SAE.
        skip: give the transcoder a skip path, a linear map from what is read to the answer beside the latents.
        source: name of the hook that a lone transcoder reads, where the data have several; with `target`. A panel has
            `targets`.
        target: name of the hook at which it answers.
        widths: widths of the hooks by name; linked to the data.
        crosscoder: make it a crosscoder of all hooks of the data, with one code and a decoder for each.

    Raises:
        ValueError: if a size, coefficient or window is out of range, or options of a transcoder or crosscoder do not
            fit together.
    """

    in_scaled_units: ClassVar[tuple[str, ...]] = ("b_enc", "b_dec")
    """Tensors that scale with the input: saving divides them by `input_scale`."""
    by_latent: Mapping[str, int] = {
        "W_enc": 1,
        "b_enc": 0,
        "W_dec": 0,
        "W_dec_start": 0,
        "samples_since_fired": 0,
    }
    """Tensors with an entry for each latent, and the dimension of these; all others are the same on every rank."""
    provenance: Mapping[str, Any] = {}
    """What it is of: activations, data and training, from the file it was read from or the run that exports it."""
    freeze_policy: Mapping[str, Any] = {"class": "NoFreeze"}
    """Class and arguments of the policy that it is trained under."""
    drawn_by_policy: Mapping[str, Any] = {}
    """What that policy drew at random beside the start, plain values; `provenance` of its file has it, too."""
    W_dec_start: Tensor
    W_enc_start: Tensor
    """Start of the encoder directions; only transcoders have it."""

    def __init__(
        self,
        d_in: int,
        d_sae: int | None = None,
        expansion_factor: float | None = None,
        init: DecoderInit | None = None,
        b_dec_init: BiasInit | None = None,
        tied_init: bool = True,
        apply_b_dec_to_input: bool = True,
        scale_input: bool = False,
        input_norm: InputNorm | None = None,
        unit_norm_decoder: bool = True,
        seed: int = 0,
        aux_coefficient: float = 0.0,
        dead_after_samples: int = 1_000_000,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        d_out: int | None = None,
        skip: bool = False,
        source: str | None = None,
        target: str | None = None,
        widths: dict[str, int] | None = None,
        crosscoder: bool = False,
    ) -> None:
        super().__init__()
        self.crosscoder = crosscoder
        self.columns = columns_of_crosscoder(d_in, widths) if crosscoder else {}
        self.widths = dict(widths or {})
        if crosscoder:
            refuse_with_crosscoder(d_out=d_out, source=source, target=target, input_norm=input_norm)
        self.ends = ends_of(d_in, d_out, source, target, widths)
        if self.ends is not None:
            d_in, d_out = self.ends.d_in, self.ends.d_out
        refuse_options(d_out, skip, input_norm)
        if (d_sae is None) == (expansion_factor is None):
            raise ValueError(
                f"d_sae={d_sae}, expansion_factor={expansion_factor}: give exactly one, such as expansion_factor: 16; "
                "null takes back the one that a configuration has"
            )
        check_whole(1, d_in=d_in)
        if d_sae is None:
            check_above(0, expansion_factor=expansion_factor)
            d_sae = round(d_in * cast("float", expansion_factor))
        check_whole(1, _LARGEST_SAE, d_sae=d_sae)
        check_at_least(0, aux_coefficient=aux_coefficient)
        check_whole(1, dead_after_samples=dead_after_samples)
        check_seed(seed=seed)
        check_input_norm(input_norm)
        self.is_transcoder, self.skip, self.source, self.target = d_out is not None, skip, source, target
        self.targets = {} if source is None or target is None else {source: target}
        self.d_in, self.d_out, self.d_sae = d_in, d_in if d_out is None else d_out, d_sae
        self.seed, self.policy_name = seed, TRAINED
        self.mesh = LatentMesh([d_sae])
        self.init, self.scale_input = init or Isotropic(), scale_input or crosscoder
        self.tied_init = tied_init and not self.is_transcoder
        self.b_dec_init = b_dec_init or GeometricMedian()
        self.apply_b_dec_to_input = apply_b_dec_to_input and not self.is_transcoder
        self.input_norm, self.unit_norm_decoder = input_norm, unit_norm_decoder
        self.aux_coefficient, self.dead_after_samples = aux_coefficient, dead_after_samples
        self.optimizer, self.lr_scheduler = optimizer, lr_scheduler
        # Stored by latent, as W_dec is: a column, which is what a sparse gradient touches, is then contiguous.
        self.W_enc = nn.Parameter(torch.empty(d_sae, d_in).T)
        self.b_enc = nn.Parameter(torch.empty(d_sae))
        self.W_dec = nn.Parameter(torch.empty(d_sae, self.d_out))
        self.b_dec = nn.Parameter(torch.empty(self.d_out))
        self.register_parameter("W_skip", nn.Parameter(torch.empty(d_in, self.d_out)) if skip else None)
        self.register_buffer("W_dec_start", torch.empty(d_sae, self.d_out))
        self.register_buffer("input_scale", torch.ones(d_in) if crosscoder else torch.ones(()))
        if self.is_transcoder:  # buffers that no SAE has, whose files so stay as they were
            self.register_buffer("target_scale", torch.ones(()))
            self.register_buffer("W_enc_start", torch.empty(d_sae, d_in))
            self.by_latent = {**self.by_latent, "W_enc_start": 0}
        self.register_buffer("samples_since_fired", torch.zeros(d_sae, dtype=torch.int64))
        self.register_load_state_dict_post_hook(_note_loaded)
        self.is_initialised = self.b_dec_awaits_data = False
        self.step_guard = own_loop.StepGuard()
        self.after_constraint: Callable[[SparseAutoencoder], None] | None = None
        """What a freeze policy does after each step in a loop of one's own; in a fit its callback does."""
        if self.can_start_without_data and not self.W_dec.is_meta:
            self.initialise(seed)

    # Start
    # ----------------------------------------------------------------------------------------------------------------

    @property
    def members(self) -> Mapping[Member, "SparseAutoencoder"]:
        """This SAE alone, under the name of its freeze policy and its seed, of a transcoder also of what it reads."""
        return {Member(self.policy_name, self.seed, self.source or ""): self}

    def activations_for(self, member: Member, activations: Tensor) -> Tensor:
        """Return what this SAE reads of activations [..., width]; a transcoder those of its source."""
        return activations if self.ends is None else activations[..., self.ends.source]

    def target_for(self, member: Member, activations: Tensor) -> Tensor | None:
        """Return what a transcoder is to answer with; None of an SAE, which reconstructs what it reads."""
        return None if self.ends is None else activations[..., self.ends.target]

    @property
    def width(self) -> int:
        """Width of the activations of a batch."""
        return self.d_in if self.ends is None else self.ends.width

    @property
    def n_calibration_samples(self) -> int:
        """Number of raw activations that a whole start needs; 0 if it needs none."""
        scale = CALIBRATION_SAMPLES if self.scale_input else 0
        d = max(self.d_in, self.d_out)
        return max(self.init.n_samples(d), self.b_dec_init.n_samples(), scale)

    @property
    def can_start_without_data(self) -> bool:
        """Whether all but `b_dec` starts without activations."""
        return self.init.n_samples(self.d_in) == 0 and not self.scale_input

    def initialise(
        self,
        seed: int,
        samples: Float[Tensor, "n d_in"] | None = None,
        target_samples: Float[Tensor, "n d_out"] | None = None,
    ) -> None:
        """Give a new SAE its start, which depends on the arguments alone.

        Args:
            seed: of the random directions.
            samples: [n, d_in] raw activations, with n at least `n_calibration_samples`; None where there are none yet,
                and then `b_dec` is zero until `start_b_dec`, which `Trainer.fit` calls.
            target_samples: [n, d_out] what a transcoder is to answer with to these.

        Raises:
            ValueError: if directions or scale need samples, and they are missing.
        """
        start.initialise(self, seed, samples, target_samples)

    def start_b_dec(
        self, samples: Float[Tensor, "n d_in"], target_samples: Float[Tensor, "n d_out"] | None = None
    ) -> None:
        """Give `b_dec` its start.

        Where `b_dec` is not subtracted from the input, `b_enc` starts so that the pre-activations are those of an SAE
        where it is: latents explain what `b_dec` leaves. Of a transcoder they are about the location of what is read.

        Args:
            samples: [n, d_in] raw activations.
            target_samples: [n, d_out] what a transcoder is to answer with to these.
        """
        start.start_b_dec(self, samples, target_samples)

    def start_own_biases(self) -> None:
        """Start the biases that a variant adds, once `b_dec` and `b_enc` have their start; called without gradient."""

    def attach(self, model: nn.Module, hook: str, **options: Any) -> AbstractContextManager[Attached]:  # noqa: ANN401
        """Read the latents of a model's activations, and change them, in forwards within a `with`.

        Args:
            model: any module of torch, such as a model of transformers or open_clip.
            hook: dotted name of a submodule with activations [batch, d_in] or [batch, seq, d_in], as in
                `named_modules()`.
            options: see `saes.attached.attach`.
        """
        return attach(self, model, hook, **options)

    # Training
    # ----------------------------------------------------------------------------------------------------------------

    def losses(self, x: Tensor, step: int, target: Tensor | None = None) -> dict[str, Tensor]:
        """Return differentiable loss terms of raw activations, and count which latents fired; in training mode.

        Take optimizer steps with `step`: decoder directions have unit norm, without which penalties can be evaded and
        norms drift.

        Args:
            x: [..., d_in] raw activations, one or more.
            step: number of optimizer steps so far, for warm-ups.
            target: [..., d_out] what a transcoder is to answer with to these.

        Returns:
            Scalars by name: `loss`, which is minimised, and the terms that it consists of. `mse` is the squared error
            summed over dimensions and averaged over samples, in the units of training.

        Raises:
            ValueError: if x has another width, is not floating point or on another device, if the SAE is in evaluation
                mode, if an optimizer has changed it since the last call and nothing has constrained it, if decoder
                directions are off unit norm, and on a CPU if the loss is not finite (elsewhere looking would mean
                waiting).
        """
        return own_loop.losses(self, x, step, target)

    def step(self, optimizer: Optimizer) -> None:
        """Take an optimizer step in a training loop of one's own, and bring the SAE back to what constrains it.

        The decoder's gradient loses what would only change norms, gradients are set to None, directions get unit norm,
        and a freeze policy that `FreezePolicy.hold` has bound to the SAE projects them.

        Args:
            optimizer: of the parameters of this SAE, and of others if need be.

        Raises:
            ValueError: if there is no gradient to step along.
        """
        own_loop.step(self, optimizer)

    # Saving
    # ----------------------------------------------------------------------------------------------------------------

    def settings(self) -> dict[str, Any]:
        """Return the arguments that decide what the SAE computes; together with the tensors they are the SAE."""
        own: dict[str, Any] = {"d_out": self.d_out, "skip": self.skip} if self.is_transcoder else {}
        if self.columns:
            own = {"crosscoder": True, "widths": self.widths}
        return {
            "d_in": self.d_in,
            **own,
            "d_sae": self.d_sae,
            "apply_b_dec_to_input": self.apply_b_dec_to_input,
            "input_norm": self.input_norm,
            "unit_norm_decoder": self.unit_norm_decoder,
            "seed": self.seed,
        }

    def save(self, folder: Path | str) -> None:
        """Write the SAE, its scale folded in, as `sae.safetensors` and `sae.json`."""
        from sae_lightning.saes.saving import save

        save(self, Path(folder))

    @staticmethod
    def load(where: Path | str, assumed: Mapping[str, Any] | None = None) -> "SparseAutoencoder":
        """Read an SAE, of this library or another, in evaluation mode.

        Args:
            where: a folder or weight file in any format of `sae_lightning.formats`,
                `hf://owner/name[@revision][/path]`, or RELEASE/ID of SAELens' public table.
            assumed: what a foreign file does not say, such as {"k": 32}.

        Raises:
            ValueError: if there is no SAE, or none that this version can express.
        """
        from sae_lightning.saes.saving import load

        return load(where, assumed)

    from_pretrained = load


def _note_loaded(sae: nn.Module, incompatible: Any) -> None:  # noqa: ANN401
    """Note that an SAE whose weights were loaded has its start, which a fit must not take for missing."""
    assert isinstance(sae, SparseAutoencoder)
    missing = {name.rpartition(".")[2] for name in incompatible.missing_keys}
    sae.is_initialised |= "W_dec" not in missing
    sae.b_dec_awaits_data &= "b_dec" in missing
    sae.step_guard.forget()
