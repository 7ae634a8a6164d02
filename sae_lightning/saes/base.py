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

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.profiler import record_function

from sae_lightning.checks import check_above, check_at_least, check_seed, check_whole
from sae_lightning.code import Code, FullCode, RowNorm
from sae_lightning.distributed import all_reduce_sum
from sae_lightning.kernels import PreActs, sparse_decode, sparse_encode
from sae_lightning.latent_mesh import LatentMesh
from sae_lightning.members import TRAINED, Member
from sae_lightning.saes.attached import Attached, attach
from sae_lightning.saes.aux_k import aux_k_loss, with_dead_latents
from sae_lightning.saes.bias_init import CALIBRATION_SAMPLES, BiasInit, GeometricMedian
from sae_lightning.saes.crosscoder import columns_of_crosscoder, norms_by_part, refuse_with_crosscoder, scales_by_part
from sae_lightning.saes.decoder_norm import normalise_, refuse_other_norms, remove_radial_
from sae_lightning.saes.finite import why_not_finite
from sae_lightning.saes.held_l0 import settle
from sae_lightning.saes.init import DecoderInit, Isotropic
from sae_lightning.saes.input_norm import InputNorm, check_input_norm, normalise
from sae_lightning.saes.inputs import activations_in, check_device, check_finite, check_shape
from sae_lightning.saes.module import SAEModule
from sae_lightning.saes.transcoder import ends_of, refuse_options

_LARGEST_SAE = 2**31
"""Latents: more than any machine holds, and few enough that `batch * d_sae` fits 64 bits."""


class SparseAutoencoder(SAEModule):
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
    mesh: LatentMesh
    """Which latents this rank has; all, unless `split_latents` dealt them out."""
    provenance: Mapping[str, Any] = {}
    """What it is of: activations, data and training, from the file it was read from or the run that exports it."""
    freeze_policy: Mapping[str, Any] = {"class": "NoFreeze"}
    """Class and arguments of the policy that it is trained under."""
    columns: Mapping[str, slice]
    """Columns of each part of a crosscoder by name; empty of any other SAE."""
    W_skip: nn.Parameter | None
    W_dec_start: Tensor
    W_enc_start: Tensor
    """Start of the encoder directions; only transcoders have it."""
    input_scale: Tensor
    """Of a crosscoder [d_in], of others one number."""
    target_scale: Tensor
    """Scale of the answer; only transcoders have it."""
    samples_since_fired: Tensor

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
                f"d_sae={d_sae}, expansion_factor={expansion_factor}: give exactly one, such as expansion_factor: 16"
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
        self._is_constrained = False  # since the last `losses`
        self._at_losses: tuple[Tensor, ...] = ()  # biases
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

    @torch.no_grad()
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
        generator = torch.Generator().manual_seed(seed)
        self.input_scale.fill_(1.0)
        if samples is not None:
            samples, _ = self.normalise(samples)
        answers = self._answers(samples, target_samples)
        if self.scale_input:
            if samples is None or answers is None:
                raise ValueError("scale_input=True needs activations: call initialise(seed, samples)")
            self.input_scale.copy_(scales_by_part(samples, self.columns or {"": slice(None)}))
        read, written = samples, answers
        if self.columns and samples is not None:  # directions are of scaled parts; one part alone keeps its bits
            read = written = samples * (self.input_scale / self.input_scale[0]).to(samples)
        directions = self.init.directions(self.d_sae, self.d_out, generator, written)
        if self.tied_init:
            encoder = directions
        else:
            encoder_init = self.init.of_encoder() if self.is_transcoder else self.init
            encoder = encoder_init.directions(self.d_sae, self.d_in, generator, read)
        if self.is_transcoder:
            self.target_scale.fill_(1.0)
            if self.scale_input and answers is not None:
                self.target_scale.copy_(answers.double().square().sum(1).mean().rsqrt())
            self.W_enc_start.copy_(encoder)
        if self.W_skip is not None:
            self.W_skip.zero_()
        self.W_dec.copy_(directions)
        self.W_dec_start.copy_(directions)
        self.W_enc.copy_(encoder.T)
        self.b_enc.zero_()
        self.b_dec.zero_()
        self.samples_since_fired.zero_()
        self.seed, self.is_initialised, self._at_losses = seed, True, ()
        self.b_dec_awaits_data = self.b_dec_init.n_samples() > 0
        if samples is not None and answers is not None:
            self._start_b_dec(samples, answers)

    @torch.no_grad()
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
        samples, _ = self.normalise(samples)
        answers = self._answers(samples, target_samples)
        assert answers is not None
        self._start_b_dec(samples, answers)

    def _answers(self, samples: Tensor | None, target_samples: Tensor | None) -> Tensor | None:
        """Return the samples of what is to be reconstructed: of an SAE those of what it reads."""
        if (target_samples is None) == (self.is_transcoder and samples is not None):
            raise ValueError(self._wrong_target("initialise(seed, samples, target_samples)", target_samples))
        return target_samples if self.is_transcoder else samples

    def _wrong_target(self, call: str, target: Tensor | None) -> str:
        """Describe activations of the other side that are missing, or given to an SAE."""
        given = "no activations" if target is None else f"activations {list(target.shape)}"
        wanted = f"[..., d_out={self.d_out}] of a transcoder" if self.is_transcoder else "none of an SAE"
        return f"{given} of the target: expected {wanted}, as in {call}"

    def _start_b_dec(self, samples: Tensor, answers: Tensor) -> None:
        self.b_dec.copy_(self._location(answers) * self.output_scale.cpu())
        if not self.apply_b_dec_to_input:
            centre = self._location(samples) * self.input_scale.cpu() if self.is_transcoder else self.b_dec
            self.b_enc.copy_(-centre.to(self.W_enc) @ self.W_enc)
        self.b_dec_awaits_data = False

    def _location(self, samples: Tensor) -> Float[Tensor, " d"]:
        samples = samples[: self.b_dec_init.n_samples()]
        columns = self.columns or {"": slice(None)}
        return torch.cat([self.b_dec_init.location(samples[:, own]).cpu() for own in columns.values()])

    # Encode and decode
    # ----------------------------------------------------------------------------------------------------------------

    @abstractmethod
    def select(self, pre_acts: PreActs) -> Code:
        """Return the latents of pre-activations, without gradient; in training mode those that training needs.

        Of a dictionary over several ranks both are those of this rank's latents.
        """

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
        self._check_started()
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
        self._check_started()
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

    def attach(self, model: nn.Module, hook: str, **options: Any) -> AbstractContextManager[Attached]:  # noqa: ANN401
        """Read the latents of a model's activations, and change them, in forwards within a `with`.

        Args:
            model: any module of torch, such as a model of transformers or open_clip.
            hook: dotted name of a submodule with activations [batch, d_in] or [batch, seq, d_in], as in
                `named_modules()`.
            options: see `saes.attached.attach`.
        """
        return attach(self, model, hook, **options)

    def forward(self, x: Tensor) -> Tensor:
        """Return the reconstruction [..., d_out] of raw activations [..., d_in], in their dtype; no gradient.

        Raises:
            ValueError: as `encode`.
        """
        return self.decode(self.encode(x)).to(x.dtype)

    def _check_started(self) -> None:
        if not self.is_initialised:
            raise ValueError(
                f"this {type(self).__name__} has no start yet, since that depends on the data: train it with a "
                f"Trainer, or call initialise(seed, samples) with {self.n_calibration_samples} activations"
            )

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
        self._check_started()
        if not self.training:
            raise ValueError(
                "this SAE is in evaluation mode, as every SAE that was read from a file, and would select latents as "
                "there: call sae.train()"
            )
        if (target is None) == self.is_transcoder:
            raise ValueError(self._wrong_target("losses(x, step, target)", target))
        x = activations_in(x, self.d_in)
        if target is not None:
            target = activations_in(target, self.d_out)
            if len(target) != len(x):
                raise ValueError(f"{len(x)} activations and {len(target)} targets: expected as many of both")
        check_device(x, self.W_dec)
        self._check_constrained()
        losses = self.loss_terms_for(target, x, step)
        if x.device.type == "cpu" and not torch.isfinite(losses["loss"]):
            raise ValueError(why_not_finite(self, x, losses["loss"]))
        return losses

    def step(self, optimizer: Optimizer) -> None:
        """Take an optimizer step in a training loop of one's own, and bring the SAE back to what constrains it.

        The decoder's gradient loses what would only change norms, gradients are set to None, directions get unit norm,
        and a freeze policy that `FreezePolicy.hold` has bound to the SAE projects them.

        Args:
            optimizer: of the parameters of this SAE, and of others if need be.

        Raises:
            ValueError: if there is no gradient to step along.
        """
        if all(parameter.grad is None for parameter in self.parameters()):
            raise ValueError('this SAE has no gradient: call sae.losses(x, step)["loss"].backward() before sae.step')
        self.project_decoder_gradient()
        optimizer.step()
        optimizer.zero_grad()
        self.constrain()
        if self.after_constraint is not None:
            self.after_constraint(self)

    def _check_constrained(self) -> None:
        """Refuse parameters that were changed since the last `losses` and not constrained, and norms other than 1.

        Nothing is looked at where `constrain` has been called since. Biases are what every step changes, whatever is
        frozen.
        """
        biases = (self.b_enc.detach(), self.b_dec.detach())
        if not self._is_constrained:
            if any(not torch.equal(one, now.to(one)) for one, now in zip(self._at_losses, biases, strict=False)):
                raise ValueError(
                    "the parameters of this SAE have changed since the last losses, and nothing has constrained them: "
                    "in a training loop of your own call sae.step(optimizer) in place of optimizer.step()"
                )
            if self.unit_norm_decoder and self.W_dec.requires_grad:
                refuse_other_norms(self.W_dec)
        self._is_constrained, self._at_losses = False, tuple(bias.clone() for bias in biases)

    def loss_terms_for(self, target: Tensor | None, x: Tensor, step: int) -> dict[str, Tensor]:
        """Call `loss_terms`, without a target where there is none: a user's variant may know of no such thing."""
        return self.loss_terms(x, step) if target is None else self.loss_terms(x, step, target)

    def loss_terms(
        self, x: Float[Tensor, "batch d_in"], step: int, target: Float[Tensor, "batch d_out"] | None = None
    ) -> dict[str, Tensor]:
        """Return what `losses` returns, of activations that have been checked."""
        with torch.no_grad():
            inputs, _ = self._inputs(x)
            target = inputs if target is None else target.to(self.b_dec.dtype) * self.target_scale
            pre_acts = self._pre_acts(inputs)
            centred = pre_acts.x
            with record_function("sae::select"):
                chosen = self.select(pre_acts)
        b_dec = self.mesh.shared(self.b_dec) if self.apply_b_dec_to_input else None
        W_enc: Tensor = self.W_enc
        W_dec: Tensor = self.W_dec
        dead = None
        if self.aux_coefficient:
            W_enc, W_dec, dead = with_dead_latents(self.dead, W_enc, self.b_enc, W_dec, self.mesh)
        values = sparse_encode(centred, W_enc, self.b_enc, b_dec, chosen)
        code = chosen.with_values(self.activate(values, chosen))
        if self.W_skip is not None:  # latents are to reconstruct what it leaves
            target = target - self._skipped(inputs, self.W_skip)
        with record_function("sae::decode"):
            x_hat, losses = self.reconstruction_losses(code, target, W_dec)
        target = target.detach()
        losses.update(self.extra_losses(code, values, target, step))
        if "penalty" in losses:
            losses["loss"] = losses["loss"] + losses["penalty"]
        if dead is not None:
            losses["aux"] = aux_k_loss(centred, target - x_hat.detach(), dead, b_dec, self.mesh)
            losses["loss"] = losses["loss"] + self.aux_coefficient * losses["aux"]
        losses["l0"] = self._count_firings(code)
        return losses

    def activate(self, values: Float[Tensor, " nnz"], chosen: Code) -> Float[Tensor, " nnz"]:
        """Return the latents of the chosen pre-activations, differentiable; by default their `relu`."""
        return values.relu()

    def reconstruction_losses(
        self, code: Code, target: Float[Tensor, "batch d_out"], W_dec: Float[Tensor, "d_sae d_out"]
    ) -> tuple[Float[Tensor, "batch d_out"], dict[str, Tensor]]:
        """Return the reconstruction of the scaled target, and its losses: `mse`, and `loss`, by default the same.

        Args:
            code: latents.
            target: [batch, d_out] the scaled target, by default the scaled input.
            W_dec: the decoder, whose gradient that of AuxK joins.
        """
        x_hat = sparse_decode(code.values, code, W_dec, self.b_dec, self.mesh)
        mse = squared_error(x_hat, target)
        return x_hat, {"loss": mse, "mse": mse}

    def weighted_by_norms(self, values: Float[Tensor, " nnz"], code: Code) -> Float[Tensor, " nnz"]:
        """Return latents as a penalty counts them: times the norms of their directions, unless these are 1.

        Those of a crosscoder count by the sum of the norms over parts.
        """
        if len(self.columns) > 1:
            return values * code.of_latents(norms_by_part(self.W_dec, self.columns).sum(0))
        if self.unit_norm_decoder:
            return values
        return values * code.of_latents(torch.linalg.vector_norm(self.W_dec, dim=1))

    def extra_losses(
        self, code: Code, values: Float[Tensor, " nnz"], target: Float[Tensor, "batch d_out"], step: int
    ) -> dict[str, Tensor]:
        """Return the loss terms of a variant: `penalty`, already weighted, is added to the loss, others are logged.

        Args:
            code: latents.
            values: [nnz] the pre-activations that they come from.
            target: [batch, d_out] what the latents are to reconstruct, scaled: of an SAE the input.
            step: number of optimizer steps so far.
        """
        return {}

    @torch.no_grad()
    def _count_firings(self, code: Code) -> Tensor:
        """Update `samples_since_fired` over the ranks of a batch, and return the mean l0 of this rank's samples."""
        # One reduction for both: the counts, and after them the number of samples.
        counts = F.pad(code.firing_counts(), (0, 1), value=code.batch_size)
        l0 = self.mesh.sum(counts[:-1].sum()) / code.batch_size
        fired, n_samples = all_reduce_sum(counts).tensor_split([code.d_sae])
        self.samples_since_fired.add_(n_samples).masked_fill_(fired > 0, 0)
        return l0

    @torch.no_grad()
    def batch_explained_variance(
        self, x: Float[Tensor, "batch d_in"], mse: Float[Tensor, ""], target: Float[Tensor, "batch d_out"] | None = None
    ) -> Float[Tensor, ""]:
        """Return 1 - mse over the variance of this batch alone; what is measured is that of held-out data.

        Args:
            x: raw activations that have been checked.
            mse: their squared error, in the scale of the loss.
            target: what a transcoder is to answer with to these.
        """
        scaled = self._inputs(x)[0] if target is None else target.to(self.b_dec.dtype) * self.target_scale
        return 1 - mse / (scaled - scaled.mean(0)).square().sum(1).mean()

    @property
    def dead_fraction(self) -> Float[Tensor, ""]:
        """Share of latents that are dead, of those of all ranks."""
        return self.mesh.sum(self.dead.sum()) / self.d_sae

    @property
    def dead(self) -> Bool[Tensor, " d_sae"]:
        """Which latents have not fired for `dead_after_samples` samples of training; those of this rank."""
        return self.samples_since_fired >= self.dead_after_samples

    @torch.no_grad()
    def project_decoder_gradient(self) -> None:
        """Remove the part of each decoder direction's gradient that would only change its norm, before a step."""
        if self.W_dec.grad is not None and self.unit_norm_decoder:
            remove_radial_(self.W_dec.grad, self.W_dec)

    @torch.no_grad()
    def constrain(self) -> None:
        """Give each decoder direction unit norm, after every optimizer step; a frozen decoder keeps its bits."""
        if self.W_dec.requires_grad and self.unit_norm_decoder:
            normalise_(self.W_dec)
        self._is_constrained = True

    @property
    def held_l0(self) -> float | None:
        """The l0 to which thresholds are settled after the last step of a fit; None where that is not asked."""
        return None

    def raise_thresholds_(self, amount: float) -> None:
        """Let a latent be active only where its pre-activation is higher by this amount, or lower if negative.

        Raises:
            NotImplementedError: of a variant without thresholds that could be moved.
        """
        raise NotImplementedError(f"{type(self).__name__} has no thresholds to settle")

    @torch.no_grad()
    def settle(self, x: Float[Tensor, "batch d_in"]) -> None:
        """Bring l0 to where it is held, on raw activations, by moving all thresholds; nothing where none is held."""
        if self.held_l0 is None:
            return
        was_training = self.training
        self.eval()
        settle(self, x, self.held_l0)
        self.train(was_training)

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
    sae._at_losses = ()


def squared_error(x_hat: Float[Tensor, "batch d_out"], target: Float[Tensor, "batch d_out"]) -> Float[Tensor, ""]:
    """Return the squared error summed over dimensions and averaged over samples."""
    return F.mse_loss(x_hat, target, reduction="sum") / len(target)
