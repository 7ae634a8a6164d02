"""How an SAE starts: directions from its `init`, scales and `b_dec` from activations of the training data.

A start depends on the arguments of the SAE and on the sample alone. Where there is no sample yet directions may start
without one, and `b_dec` is zero until `start_b_dec`, which `Trainer.fit` calls.
"""

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from sae_lightning.saes.crosscoder import scales_by_part
from sae_lightning.saes.transcoder import refuse_wrong_target

if TYPE_CHECKING:
    from sae_lightning.saes.base import SparseAutoencoder


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
