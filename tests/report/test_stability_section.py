"""The section about stable latents, and the table that `sae compare` prints, of a run folder written by hand."""

import numpy as np
import pytest
import torch
from report.runs import write_run

from sae_lightning.cli import main
from sae_lightning.evaluators.latent_scores import LatentScores
from sae_lightning.members import Member
from sae_lightning.report.sections.stability import stability
from sae_lightning.runs import Run
from sae_lightning.runs.latents import write_latents
from sae_lightning.verdict.stable_latents import QUESTION

N = 100


@pytest.fixture
def folder(tmp_path):
    folder = write_run(tmp_path / "version_0", n_lines=1)
    random = torch.Generator().manual_seed(0)
    members = [Member(policy, seed) for policy in ("trained", "frozen_decoder") for seed in (0, 1)]
    stable = {member: torch.rand(N, generator=random) for member in members}
    stable[members[0]][:50] = torch.nan
    noise = {member: torch.rand(N, generator=random) for member in members}
    good = {member: noise[member] + (member.policy == "trained") * stable[member] for member in members}
    on_noise = {Member("trained", 0, "noise"): torch.rand(N, generator=random)}
    own = {"stability": stable | on_noise, "firing_frequency": noise, "interp_accuracy": good}
    write_latents(folder, 100, [LatentScores(name, name, by, name == "interp_accuracy") for name, by in own.items()])
    return folder


def test_the_section_shows_how_stable_latents_are_and_what_they_have(folder):
    (section,) = stability(Run(folder))
    shown, better = section.groups
    (chart,) = shown.charts
    assert list(chart.policies) == ["trained", "frozen_decoder"]
    assert all(sum(series.y) == pytest.approx(1) for series in chart.series)
    assert chart.note.startswith("The mean over other seeds, for 350 latents that fire")
    (words,) = better.tables
    _, (label, said, chance) = words.rows
    assert label == "interp_accuracy, 75 latents of an SAE"
    assert said.startswith("stable latents have more +0.")
    assert chance.startswith("unclear ")
    assert words.head[1:] == ["Trained SAE", "Frozen Decoder, whose stability is chance"]
    (numbers,) = better.folded
    assert numbers.head == ["", "Trained SAE", "Frozen Decoder"]
    assert [row[0] for row in numbers.rows][:2] == ["firing_frequency", "interp_accuracy"]


def test_a_run_without_it_has_no_section(folder):
    (folder / "latents.safetensors").unlink()
    assert list(stability(Run(folder))) == []


def test_where_latents_are_stable_and_nothing_else_is_known_the_distribution_is_all(folder):
    values = {Member("trained", 0): torch.from_numpy(np.linspace(0.3, 0.9, N))}
    write_latents(folder, 100, [LatentScores("stability", "", values, False)])
    (section,) = stability(Run(folder))
    assert len(section.groups) == 1


def test_compare_prints_it(folder, capsys):
    main(["compare", str(folder)])
    printed = capsys.readouterr().out
    assert f"\n\n{QUESTION}\n" in printed
    assert "\ninterp_accuracy, 75 latents of an SAE: stable latents have more +0." in printed
    section = printed[printed.index(QUESTION) :].split("\n\n")[0]
    assert " ".join(section.split()).endswith("where the interval does not hold 0")
    assert max(map(len, section.splitlines())) <= 80
