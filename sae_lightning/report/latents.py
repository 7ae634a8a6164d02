"""What the report shows of latents: the SAE and its baselines, a sample of latents of each.

Members are those of the activations themselves (no nulls), the first seed of each policy of each hook, and of the
controls of a published SAE those whose latents are random ones. Where an SAE has more latents than are shown, those
that `AutoInterp` has interpreted come first, then others that fire in the held-out data. Both are taken in one random
order, the same for all members of one size.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sae_lightning.datamodules import ActivationDataModule, ClipImages
from sae_lightning.error_messages import readable
from sae_lightning.evaluators.auto_interp import FILE_NAME
from sae_lightning.explain.logit_effects import TEXT_DATA
from sae_lightning.interpretation.excerpts import Example, Excerpt
from sae_lightning.interpretation.strongest import kept_lines
from sae_lightning.members import Member
from sae_lightning.report.directions import direction_records, short
from sae_lightning.report.examples import plain, plain_quarter
from sae_lightning.report.held_out import N_QUARTERS, N_TOP, Behaviour, HeldOut, HeldOutSamples, HeldOutText, words_of
from sae_lightning.report.held_out_images import N_IMAGES, HeldOutImages
from sae_lightning.runs import Run
from sae_lightning.saes import SparseAutoencoder
from sae_lightning.saes.exported import ExportedSAEs
from sae_lightning.saes.saving import dead_latents, folded_scale

N_READ = 32768
"""Held-out tokens or samples that are read."""
_SHOWN_CONTROLS = ("random_encoder", "random_decoder_tied", "random_decoder_regressed")
N_BINS = 20
"""Bins of the histogram of activations."""
# Not a seed that somebody gives to data or SAEs.
_SEED = 0x5A3B1E


@dataclass(frozen=True)
class ShownMember:
    """An SAE and what is shown of it.

    Args:
        member: which.
        d_sae: latents that it has.
        n_firing: how many of them fire in the held-out data or, without such data, are not known to be dead; None where
            nothing is known.
        n_interpreted: latents with an explanation among those that are shown.
        latents: a record for each latent that is shown, as plain values.
    """

    member: Member
    d_sae: int
    n_firing: int | None
    n_interpreted: int
    latents: list[dict[str, Any]]


@dataclass(frozen=True)
class ShownLatents:
    """Everything that the explorer shows.

    Args:
        members: the trained SAE first.
        unit: `token`, `position` or `sample`.
        n_read: how many of them were read; 0 where none could be.
        problem: why they could not be.
        n_images: in which these positions are.
        images: those that examples name by their numbers, see `HeldOut.images`.
        references: policies that are published SAEs, which stand beside controls as a trained one beside baselines.
    """

    members: list[ShownMember]
    unit: str
    n_read: int
    problem: str | None
    n_images: int = 0
    images: Mapping[int, Mapping[str, str]] = field(default_factory=dict)
    references: Sequence[str] = ()


@torch.no_grad()
def gather(run: Run, n_latents: int) -> ShownLatents | None:
    """Read SAEs, held-out data and what other commands have left in the run; None where there are no SAEs."""
    shown = [member for member in run.first_seeds() if _has_own_latents(run, member)]
    if not shown:
        return None
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    saes = {member: run.load(member).to(device) for member in shown}
    datamodule, held_out, problem = _read(run, saes, device)
    frequencies = held_out.frequencies() if held_out else {}
    interpretations = _interpretations(run, shown)
    firing = {member: _firing(run, member, sae, frequencies.get(member)) for member, sae in saes.items()}
    chosen = {
        member: choose(sae.d_sae, firing[member], interpretations[member], n_latents) for member, sae in saes.items()
    }
    behaviours = held_out.behaviours(chosen) if held_out else {}
    members, references = [], run.references
    for member, sae in saes.items():
        others = {
            str(other): own.W_dec.detach()
            for other, own in saes.items()
            if other != member and (other.part, own.d_in) == (member.part, sae.d_in)
        }
        records = direction_records(run, member, sae, datamodule, chosen[member], others)
        silent = [Behaviour(torch.zeros(0))] * len(records)
        for record, behaviour in zip(records, behaviours.get(member, silent), strict=True):
            record |= _behaviour_record(behaviour, interpretations[member].get(record["latent"]))
            record["together"] = [[chosen[member][place], short(value)] for place, value in behaviour.together]
            if member.policy in references or member.policy in run.controls:
                record.pop("cosine_to_start", None)  # nothing was trained from there
            record |= _stability(run, member, record["latent"])
            if member in frequencies:
                record["frequency"] = short(frequencies[member][record["latent"]])
        fires = firing[member]
        n_firing = None if fires is None else int(fires.sum())
        n_interpreted = sum(latent in interpretations[member] for latent in chosen[member])
        members.append(ShownMember(member, sae.d_sae, n_firing, n_interpreted, records))
    if held_out is None:
        return ShownLatents(members, "token", 0, problem, references=list(references))
    examples = (example for one in members for example in examples_of(one.latents))
    numbers = {example["image"] for example in examples if example["type"] == "image"}
    return ShownLatents(
        members, held_out.unit, held_out.n, problem, held_out.n_images, held_out.images(numbers), list(references)
    )


def _has_own_latents(run: Run, member: Member) -> bool:
    """Return whether an SAE is none of the controls that are left out, such as one with the latents of its SAE."""
    if member.policy not in run.controls:
        return True
    return run.measurements.sizes.get(member.policy, ("", member.policy))[1] in _SHOWN_CONTROLS


def choose(d_sae: int, firing: Tensor | None, interpreted: Mapping[int, Any], n_latents: int) -> list[int]:
    """Choose latents to show, in ascending order: all, or those interpreted and then others that fire, at random."""
    if d_sae <= n_latents:
        return list(range(d_sae))
    order = torch.randperm(d_sae, generator=torch.Generator().manual_seed(_SEED)).tolist()
    first = [latent for latent in order if latent in interpreted]
    then = [latent for latent in order if latent not in interpreted and (firing is None or firing[latent])]
    return sorted([*first, *then][:n_latents])


def _read(
    run: Run, saes: Mapping[Member, SparseAutoencoder], device: torch.device
) -> tuple[ActivationDataModule | None, HeldOut | None, str | None]:
    """Read the held-out data of the run; a model that is not to be had costs the examples and not the page."""
    try:
        datamodule = run.datamodule()
        assert datamodule is not None
        references = run.references  # measured in this run, which has asked the same of them
        for member, sae in saes.items():
            if member.policy in references:
                continue
            datamodule.refuse_sae_of_others(sae, str(run.sae_folder(member)), member.part)
        datamodule.source.to(device)
        has_parts = any(member.part for member in saes)  # else an SAE reads all hooks side by side
        module = ExportedSAEs(saes, datamodule.widths if has_parts else {}, run.targets).to(device)
        if isinstance(datamodule, ClipImages):
            return datamodule, HeldOutImages(datamodule, module, N_IMAGES), None
        kind = HeldOutText if isinstance(datamodule, TEXT_DATA) else HeldOutSamples
        return datamodule, kind(datamodule, module, N_READ), None
    except (ValueError, OSError) as error:
        problem = readable(str(error)).splitlines()[0]
        warnings.warn(
            f"{run.folder}: held-out data cannot be read, so the latents are shown without: {problem}", stacklevel=2
        )
        return None, None, problem


def _firing(run: Run, member: Member, sae: SparseAutoencoder, frequency: Tensor | None) -> Tensor | None:
    """Return which latents fire in what was read; otherwise those not known to be dead."""
    if frequency is not None:
        return frequency > 0
    if (dead := dead_latents(run.sae_folder(member))) is None:
        return None
    alive = torch.ones(sae.d_sae, dtype=torch.bool)
    alive[dead] = False
    return alive


def _interpretations(run: Run, members: Sequence[Member]) -> dict[Member, dict[int, dict[str, Any]]]:
    """Read what AutoInterp has kept by member and latent, activations in raw units as the exported SAEs give them."""
    kept: dict[Member, dict[int, dict[str, Any]]] = {member: {} for member in members}
    scales = {member: folded_scale(run.sae_folder(member)) for member in members}
    for line in kept_lines(run.file(FILE_NAME)):
        if (member := Member.parse(line["member"])) in kept:
            line["examples"] = [
                Example(
                    Excerpt(tuple(example["tokens"]), 0),
                    tuple(activation / scales[member] for activation in example["activations"]),
                )
                for example in line["examples"][:N_TOP]
            ]
            kept[member][line["latent"]] = line
    return kept


def _stability(run: Run, member: Member, latent: int) -> dict[str, Any]:
    """Return how stable a latent is over seeds, and the share of random directions below it, where that was measured.

    Both are None for a latent that did not fire.
    """
    names = {"stability": "stability", "above_random": "stability_above_random"}
    known = {own: values for own, name in names.items() if (values := run.of_latents(name, member)) is not None}
    return {own: short(float(values[latent])) for own, values in known.items()}


def _behaviour_record(behaviour: Behaviour, line: Mapping[str, Any] | None) -> dict[str, Any]:
    """Say what the latent fires on: examples as they were interpreted, else the strongest of what was read."""
    record: dict[str, Any] = {
        "frequency": short(line["frequency"]) if line else None,
        "explanation": line["explanation"] if line else None,
        "score": line["score"] if line else None,
        "examples": [plain(example) for example in (line["examples"] if line else behaviour.top)],
        "quarters": [plain_quarter(quarter) for quarter in behaviour.quarters],
        "tokens": words_of(line["examples"]) if line else list(behaviour.words),
        "histogram": None,
    }
    if n := len(behaviour.strengths):
        most = float(behaviour.strengths.max())
        counts = torch.histc(behaviour.strengths.float(), N_BINS, 0, most)
        cuts = behaviour.strengths.float().quantile(torch.arange(1, N_QUARTERS) / N_QUARTERS)
        record["histogram"] = {
            "n": n, "most": short(most), "counts": counts.long().tolist(), "cuts": list(map(short, cuts)),
        }  # fmt: skip
    return record


def examples_of(records: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield every text and image that these latents show."""
    for record in records:
        yield from record["examples"]
        for quarter in record["quarters"]:
            yield from quarter
