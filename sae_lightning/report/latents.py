"""What the report shows of latents: the SAE and its baselines, a sample of latents of each.

Members are those of the activations themselves (no nulls), the first seed of each policy. Where an SAE has more latents
than are shown, those that `AutoInterp` has interpreted come first, then others that fire in the held-out data. Both are
taken in one random order, the same for all members of one size.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sae_lightning.datamodules import ClipImages
from sae_lightning.error_messages import readable
from sae_lightning.evaluators.auto_interp import FILE_NAME
from sae_lightning.explain.data_of_run import data_of_run
from sae_lightning.explain.logit_effects import TEXT_DATA
from sae_lightning.interpretation.excerpts import Example, Excerpt
from sae_lightning.interpretation.strongest import kept_lines
from sae_lightning.report.directions import of_directions, short
from sae_lightning.report.examples import plain, plain_quarter
from sae_lightning.report.held_out import N_QUARTERS, N_TOP, Behaviour, HeldOut, HeldOutSamples, HeldOutText, words_of
from sae_lightning.report.held_out_pictures import N_PICTURES, HeldOutPictures
from sae_lightning.saes import SparseAutoencoder
from sae_lightning.saes.saving import dead_latents, folded_scale

N_READ = 32768
"""Held-out tokens or samples that are read."""
N_BINS = 20
"""Bins of the histogram of activations."""
# Not a seed that somebody gives to data or SAEs.
_SEED = 0x5A3B1E


@dataclass(frozen=True)
class Member:
    """An SAE and what is shown of it.

    Args:
        name: `<policy>/<seed>`.
        d_sae: latents that it has.
        n_firing: of them fire in the held-out data, or are not known to be dead where there are none; None where
            nothing is known.
        n_interpreted: latents with an explanation among those that are shown.
        latents: a record for each latent that is shown, as plain values.
    """

    name: str
    d_sae: int
    n_firing: int | None
    n_interpreted: int
    latents: list[dict[str, Any]]


@dataclass(frozen=True)
class Gathered:
    """Everything that the explorer shows.

    Args:
        members: the trained SAE first.
        unit: `token`, `position` or `sample`.
        n_read: of them were read for it; 0 where none could be.
        problem: why they could not be.
        n_pictures: in which these positions are.
        pictures: those that examples name by their numbers, see `HeldOut.pictures`.
    """

    members: list[Member]
    unit: str
    n_read: int
    problem: str | None
    n_pictures: int = 0
    pictures: Mapping[int, Mapping[str, str]] = field(default_factory=dict)


@torch.no_grad()
def gather(run: Path, n_latents: int) -> Gathered | None:
    """Reads SAEs, held-out data and what other commands have left in the run; None where there are no SAEs."""
    folders = members_of(run)
    if not folders:
        return None
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    saes = {member: SparseAutoencoder.load(folder).to(device) for member, folder in folders.items()}
    datamodule, held_out, problem = _read(run, saes, device)
    frequencies = held_out.frequencies() if held_out else {}
    kept = _kept(run, folders)
    chosen = {
        member: choose(sae.d_sae, _firing(frequencies.get(member), folders[member], sae), kept[member], n_latents)
        for member, sae in saes.items()
    }
    behaviours = held_out.behaviours(chosen) if held_out else {}
    members = []
    for member, sae in saes.items():
        records = of_directions(run, folders[member], member, sae, datamodule, chosen[member])
        frequency = frequencies.get(member)
        of_held_out = behaviours.get(member, [Behaviour(torch.zeros(0))] * len(records))
        for record, behaviour in zip(records, of_held_out, strict=True):
            record |= _of_behaviour(behaviour, kept[member].get(record["latent"]))
            if frequency is not None:
                record["frequency"] = short(frequency[record["latent"]])
        firing = _firing(frequency, folders[member], sae)
        n_firing = None if firing is None else int(firing.sum())
        n_interpreted = sum(latent in kept[member] for latent in chosen[member])
        members.append(Member(member, sae.d_sae, n_firing, n_interpreted, records))
    if held_out is None:
        return Gathered(members, "token", 0, problem)
    shown = {of["picture"] for member in members for of in examples_of(member.latents) if of["type"] == "image"}
    return Gathered(members, held_out.unit, held_out.n, problem, held_out.n_pictures, held_out.pictures(shown))


def members_of(run: Path) -> dict[str, Path]:
    """Folders of the SAEs `<policy>/<seed>` of a run, the first seed of each policy, the trained one first."""
    first: dict[str, Path] = {}
    folders = (path.parent for path in run.glob("saes/*/*/sae.safetensors") if path.parent.name.isdecimal())
    for folder in sorted(folders, key=lambda folder: int(folder.name)):
        first.setdefault(folder.parent.name, folder)
    order = ["trained", "frozen_decoder", "soft_frozen_decoder", "frozen_encoder"]
    policies = sorted(first, key=lambda policy: (order.index(policy) if policy in order else len(order), policy))
    return {f"{policy}/{first[policy].name}": first[policy] for policy in policies}


def choose(d_sae: int, firing: Tensor | None, kept: Mapping[int, Any], n_latents: int) -> list[int]:
    """Which latents are shown, in ascending order: all, or those kept and then others that fire, in a random order."""
    if d_sae <= n_latents:
        return list(range(d_sae))
    order = torch.randperm(d_sae, generator=torch.Generator().manual_seed(_SEED)).tolist()
    first = [latent for latent in order if latent in kept]
    then = [latent for latent in order if latent not in kept and (firing is None or firing[latent])]
    return sorted([*first, *then][:n_latents])


def _read(
    run: Path, saes: Mapping[str, SparseAutoencoder], device: torch.device
) -> tuple[Any, HeldOut | None, str | None]:
    """The data of the run and its held-out part; a model that is not to be had costs the examples and not the page."""
    try:
        datamodule = data_of_run(run)
        if hasattr(getattr(datamodule, "source", None), "to"):
            datamodule.source.to(device)  # type: ignore[union-attr]
        if isinstance(datamodule, ClipImages):
            return datamodule, HeldOutPictures(datamodule, saes, N_PICTURES), None
        kind = HeldOutText if isinstance(datamodule, TEXT_DATA) else HeldOutSamples
        return datamodule, kind(datamodule, saes, N_READ), None
    except (ValueError, OSError) as error:
        problem = readable(str(error)).splitlines()[0]
        warnings.warn(f"{run}: held-out data cannot be read, so the latents are shown without: {problem}", stacklevel=2)
        return None, None, problem


def _firing(frequency: Tensor | None, folder: Path, sae: SparseAutoencoder) -> Tensor | None:
    """Which latents fire in what was read; otherwise those not known to be dead."""
    if frequency is not None:
        return frequency > 0
    if (dead := dead_latents(folder)) is None:
        return None
    alive = torch.ones(sae.d_sae, dtype=torch.bool)
    alive[dead] = False
    return alive


def _kept(run: Path, folders: Mapping[str, Path]) -> dict[str, dict[int, dict[str, Any]]]:
    """What AutoInterp has kept, with activations in raw units as the exported SAEs give them."""
    kept: dict[str, dict[int, dict[str, Any]]] = {member: {} for member in folders}
    scales = {member: folded_scale(folder) for member, folder in folders.items()}
    for line in kept_lines(run / FILE_NAME):
        if (member := line["member"]) in kept:
            line["examples"] = [
                Example(Excerpt(tuple(of["tokens"]), 0), tuple(a / scales[member] for a in of["activations"]))
                for of in line["examples"][:N_TOP]
            ]
            kept[member][line["latent"]] = line
    return kept


def _of_behaviour(behaviour: Behaviour, line: Mapping[str, Any] | None) -> dict[str, Any]:
    """What the latent fires on: examples as they were interpreted, else the strongest of what was read."""
    found: dict[str, Any] = {
        "frequency": short(line["frequency"]) if line else None,
        "explanation": line["explanation"] if line else None,
        "score": line["score"] if line else None,
        "examples": [plain(of) for of in (line["examples"] if line else behaviour.top)],
        "quarters": [plain_quarter(quarter) for quarter in behaviour.quarters],
        "tokens": words_of(line["examples"]) if line else list(behaviour.words),
        "histogram": None,
    }
    if n := len(behaviour.strengths):
        most = float(behaviour.strengths.max())
        counts = torch.histc(behaviour.strengths.float(), N_BINS, 0, most)
        cuts = behaviour.strengths.float().quantile(torch.arange(1, N_QUARTERS) / N_QUARTERS)
        found["histogram"] = {
            "n": n, "most": short(most), "counts": counts.long().tolist(), "cuts": list(map(short, cuts)),
        }  # fmt: skip
    return found


def examples_of(records: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Every text and picture that these latents show."""
    for record in records:
        yield from record["examples"]
        for quarter in record["quarters"]:
            yield from quarter
