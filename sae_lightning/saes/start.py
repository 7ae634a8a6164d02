"""How an SAE starts: directions from its `init`, scales and `b_dec` from activations of the training data.

A start depends on the arguments of the SAE and on the sample alone. Where there is no sample yet directions may start
without one, and `b_dec` is zero until `start_b_dec`, which `Trainer.fit` calls.
"""

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from sae_lightning.distributed import Ranks, all_gather_int, of_first_rank
from sae_lightning.saes.crosscoder import scales_by_part
from sae_lightning.saes.data import CalibrationData, where_not_finite
from sae_lightning.saes.inputs import first_activations, non_finite
from sae_lightning.saes.transcoder import refuse_wrong_target
from sae_lightning.trainer import any_datamodule_of, train_batches_of

if TYPE_CHECKING:
    from sae_lightning.saes.base import SparseAutoencoder
    from sae_lightning.saes.module import SAEModule


# Of members that a fit trains
# ---------------------------------------------------------------------------------------------------------------------


def start_members(module: "SAEModule") -> None:
    """Start the members that still lack something of it, with a sample of the data where that is needed.

    A collective call: all ranks draw the sample together.
    """
    awaits_data = any(not sae.is_initialised or sae.b_dec_awaits_data for sae in module.trained_members.values())
    if any(all_gather_int(int(awaits_data), ranks=Ranks.ALL)):
        n = max(sae.n_calibration_samples for sae in module.all_trained_members.values())
        module.initialise_members(module.draw_calibration_sample(n) if n else None)


def initialise_members(module: "SAEModule", samples: Tensor | None) -> None:
    """Give every member that is trained its start, or what it still lacks, see `SAEModule.initialise_members`."""
    for member, sae in module.trained_members.items():
        own = None if samples is None else module.activations_for(member, samples)
        target = None if samples is None else module.target_for(member, samples)
        answers: tuple[Tensor, ...] = () if target is None else (target,)  # a user's SAE may know of no target
        if not sae.is_initialised:
            if own is not None or sae.can_start_without_data:
                sae.initialise(sae.seed, own, *answers)
        elif sae.b_dec_awaits_data and own is not None:  # its directions may have been changed since: they stay
            sae.start_b_dec(own, *answers)


def draw_calibration_sample(module: "SAEModule", n: int) -> Tensor:
    """Return n activations of the training data, see `SAEModule.draw_calibration_sample`."""
    data = any_datamodule_of(module.trainer)
    for member, sae in module.trained_members.items():
        sae.init.prepare(data, member.part, module.targets.get(member.part, ""))
    if isinstance(data, CalibrationData):
        sample = data.calibration_sample(n)
    else:
        sample = first_activations(train_batches_of(module.trainer), n, module.width)
    if problem := non_finite(sample):
        raise ValueError(f"the sample that an SAE starts from {problem}{where_not_finite(data)}")
    return of_first_rank(sample)


# Of one SAE
# ---------------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def initialise(
    sae: "SparseAutoencoder",
    seed: int,
    samples: Float[Tensor, "n d_in"] | None,
    target_samples: Float[Tensor, "n d_out"] | None,
) -> None:
    """Give a new SAE its start, see `SparseAutoencoder.initialise`."""
    generator = torch.Generator().manual_seed(seed)
    sae.input_scale.fill_(1.0)
    if samples is not None:
        samples, _ = sae.normalise(samples)
    answers = _answers(sae, samples, target_samples)
    if sae.scale_input:
        if samples is None or answers is None:
            raise ValueError("scale_input=True needs activations: call initialise(seed, samples)")
        sae.input_scale.copy_(scales_by_part(samples, sae.columns or {"": slice(None)}))
    read, written = samples, answers
    if sae.columns and samples is not None:  # directions are of scaled parts; one part alone keeps its bits
        read = written = samples * (sae.input_scale / sae.input_scale[0]).to(samples)
    directions = sae.init.directions(sae.d_sae, sae.d_out, generator, written)
    if sae.tied_init:
        encoder = directions
    else:
        encoder_init = sae.init.of_encoder() if sae.is_transcoder else sae.init
        encoder = encoder_init.directions(sae.d_sae, sae.d_in, generator, read)
    if sae.is_transcoder:
        sae.target_scale.fill_(1.0)
        if sae.scale_input and answers is not None:
            sae.target_scale.copy_(answers.double().square().sum(1).mean().rsqrt())
        sae.W_enc_start.copy_(encoder)
    if sae.W_skip is not None:
        sae.W_skip.zero_()
    sae.W_dec.copy_(directions)
    sae.W_dec_start.copy_(directions)
    sae.W_enc.copy_(encoder.T)
    sae.b_enc.zero_()
    sae.b_dec.zero_()
    sae.samples_since_fired.zero_()
    sae.seed, sae.is_initialised = seed, True
    sae.step_guard.forget()
    sae.b_dec_awaits_data = sae.b_dec_init.n_samples() > 0
    if samples is not None and answers is not None:
        _start_b_dec(sae, samples, answers)


@torch.no_grad()
def start_b_dec(
    sae: "SparseAutoencoder", samples: Float[Tensor, "n d_in"], target_samples: Float[Tensor, "n d_out"] | None
) -> None:
    """Give `b_dec` its start, see `SparseAutoencoder.start_b_dec`."""
    samples, _ = sae.normalise(samples)
    answers = _answers(sae, samples, target_samples)
    assert answers is not None
    _start_b_dec(sae, samples, answers)


def _answers(sae: "SparseAutoencoder", samples: Tensor | None, target_samples: Tensor | None) -> Tensor | None:
    """Return the samples of what is to be reconstructed: of an SAE those of what it reads."""
    if (target_samples is None) == (sae.is_transcoder and samples is not None):
        refuse_wrong_target(sae, target_samples, "initialise(seed, samples, target_samples)")
    return target_samples if sae.is_transcoder else samples


def _start_b_dec(sae: "SparseAutoencoder", samples: Tensor, answers: Tensor) -> None:
    sae.b_dec.copy_(_location(sae, answers) * sae.output_scale.cpu())
    if not sae.apply_b_dec_to_input:
        centre = _location(sae, samples) * sae.input_scale.cpu() if sae.is_transcoder else sae.b_dec
        sae.b_enc.copy_(-centre.to(sae.W_enc) @ sae.W_enc)
    sae.start_own_biases()
    sae.b_dec_awaits_data = False


def _location(sae: "SparseAutoencoder", samples: Tensor) -> Float[Tensor, " d"]:
    """Return the location of each part."""
    samples = samples[: sae.b_dec_init.n_samples()]
    columns = sae.columns or {"": slice(None)}
    return torch.cat([sae.b_dec_init.location(samples[:, own]).cpu() for own in columns.values()])
