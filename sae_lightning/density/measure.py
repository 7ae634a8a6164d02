"""Everything that ``sae density`` measures, as plain values by name."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sae_lightning.datamodules import LanguageModelDataModule
from sae_lightning.density.activations import AXES, block_outputs, profile, read_layers
from sae_lightning.density.logits import N_DIRECTIONS, density_of, read_unembedding
from sae_lightning.density.seeds import agreement, chance
from sae_lightning.density.supports import N_TOKENS, supports
from sae_lightning.members import Member
from sae_lightning.metrics import cosine_to_start, evenly_spaced_rows
from sae_lightning.metrics.random_dictionary import random_dictionary
from sae_lightning.metrics.rotation import random_rotation
from sae_lightning.saes import SparseAutoencoder
from sae_lightning.sources import LanguageModelSource, NullSource

_SEED = 0


@torch.inference_mode()
def measure(
    datamodule: LanguageModelDataModule, hooks: list[str] | None, saes: Mapping[Member, SparseAutoencoder]
) -> dict[str, Any]:
    """Measure the density of a model, and of SAEs that were trained on it.

    Args:
        datamodule: with the model and held-out text; SAEs belong to its hook.
        hooks: submodules whose outputs are measured; None for every block.
        saes: in evaluation mode; may be empty.

    Returns:
        `layers` and `directions` as lists of rows, `supports` by member (one of each policy) and `seeds`; the last two
        are None if there are no SAEs, or no two seeds of a policy.
    """
    generator = torch.Generator().manual_seed(_SEED)
    source = datamodule.source.source if isinstance(datamodule.source, NullSource) else datamodule.source
    assert isinstance(source, LanguageModelSource)
    device = source.device
    hooks = hooks or block_outputs(source)
    xs, first = read_layers(source, datamodule, hooks)
    results: dict[str, Any] = {"model": source.name, "n_tokens": len(first), "n_first": int(first.sum())}
    results["layers"] = [
        row for hook, x in zip(hooks, xs, strict=True) for row in profile(hook, x.to(device), first, generator)
    ]
    policies: dict[str, list[SparseAutoencoder]] = {}
    for member, sae in saes.items():
        policies.setdefault(member.policy, []).append(sae.to(device))

    d = next((sae.d_in for sae in saes.values()), xs[-1].shape[1])
    unembedding = read_unembedding(source)
    if unembedding is not None and len(unembedding.W_U) != d:
        unembedding = None  # the hook is not in the residual stream
    results["norm"] = None if unembedding is None else unembedding.norm
    bases = {
        AXES: torch.eye(d),
        "random rotation": random_rotation(d, generator),
        "random directions": random_dictionary(next((sae.d_sae for sae in saes.values()), d), d),
        **{
            policy: torch.cat([evenly_spaced_rows(sae.W_dec, -(-N_DIRECTIONS // len(seeds))) for sae in seeds])
            for policy, seeds in policies.items()
        },
    }
    results["directions"] = density_of({name: basis.to(device) for name, basis in bases.items()}, unembedding)

    results["supports"] = results["seeds"] = None
    if saes:
        x = _at_hook(datamodule)
        if x.shape[1] != d:
            raise ValueError(f"the SAEs of the run have d_in={d}, and the activations at the hook {x.shape[1]}")
        results["supports"] = {
            str(Member(policy, seeds[0].seed)): supports(seeds[0], evenly_spaced_rows(x, N_TOKENS), generator)
            for policy, seeds in policies.items()
        }
        results["seeds"] = _seeds({policy: seeds for policy, seeds in policies.items() if len(seeds) > 1}, generator)
    return results


def _at_hook(datamodule: LanguageModelDataModule) -> Float[Tensor, "n d_in"]:
    """Return the activations that SAEs are trained on, at the valid positions of held-out text."""
    source = datamodule.source.at(datamodule.source.hooks[""], datamodule.source.hook_input)
    parts = []
    for inputs in datamodule.validation_inputs():
        activations, mask = source.capture(inputs)
        parts.append(activations[mask].float())
    return torch.cat(parts)


def _seeds(policies: Mapping[str, list[SparseAutoencoder]], generator: torch.Generator) -> dict[str, Any] | None:
    """Return the agreement of the seeds of each policy, with chance and the cosine to the start."""
    if not policies:
        return None
    sae = next(iter(policies.values()))[0]
    starts = {
        policy: sum(float(cosine_to_start(sae.W_dec, sae.W_dec_start).mean()) for sae in seeds) / len(seeds)
        for policy, seeds in policies.items()
    }
    agreements = {}
    for policy, seeds in policies.items():
        dictionaries = [sae.W_dec for sae in seeds]
        agreements[policy] = agreement(dictionaries) | {"chance": chance(dictionaries, generator)}
    isotropic = [torch.randn(sae.d_sae, sae.d_in, generator=generator) for _ in range(2)]
    return {"policies": agreements, "isotropic": agreement(isotropic), "cosine_to_start": starts}
