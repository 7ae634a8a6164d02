from pathlib import Path

import numpy as np
import pytest
import torch
from runs.folders import panel, prints_of, values, write
from safetensors.numpy import save_file

from sae_lightning.evaluators.latent_scores import LatentScores
from sae_lightning.members import Member
from sae_lightning.runs import Measurements, Run, experiments_of
from sae_lightning.runs.latents import LATENTS_FILE, LatentValues, read_latents, write_latents

MEMBER, OF_PART = Member("trained", 0), Member("trained", 1, "early")


def scores(name: str, *members: Member, is_quality: bool = True) -> LatentScores:
    return LatentScores(name, f"the {name}", {each: torch.tensor([0.5, torch.nan]) for each in members}, is_quality)


def test_values_of_latents_come_back_from_the_file(tmp_path: Path):
    write_latents(tmp_path, 7, [scores("accuracy", MEMBER, OF_PART), scores("stability", MEMBER, is_quality=False)])
    result = read_latents(tmp_path, 7)
    assert {name: (own.label, own.is_quality) for name, own in result.items()} == {
        "accuracy": ("the accuracy", True), "stability": ("the stability", False)
    }  # fmt: skip
    assert set(result["accuracy"].members) == {MEMBER, OF_PART}
    np.testing.assert_array_equal(result["accuracy"].members[OF_PART], np.array([0.5, np.nan], np.float32))
    assert read_latents(tmp_path, 8) == {}, "of another validation"


def test_where_nothing_was_measured_there_is_no_file(tmp_path: Path):
    write_latents(tmp_path, 7, [])
    assert list(tmp_path.iterdir()) == []
    assert read_latents(tmp_path, 7) == {}


@pytest.mark.parametrize(
    ("content", "expected"), [(b"garbage", ""), (None, "it has format 99, and this version reads up to")]
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None, expected: str):
    if content is None:
        save_file({}, tmp_path / LATENTS_FILE, metadata={"format": "99", "step": "7", "about": "{}"})
    else:
        (tmp_path / LATENTS_FILE).write_bytes(content)
    with pytest.raises(ValueError, match=f"{LATENTS_FILE} cannot be read: .*{expected}"):
        read_latents(tmp_path, 7)


def test_a_run_and_another_that_measured_its_saes_again_have_all_of_them(tmp_path: Path):
    members = [Member(policy, seed) for policy in ("trained", "frozen_decoder") for seed in (0, 1)]
    fit = write(tmp_path / "a", panel(), {"ev": values(0, 1)}, prints_of(0, 1))
    again = write(tmp_path / "b", panel(), {"probe": values(0, 1)}, prints_of(0, 1), command="validate")
    write_latents(fit, 10, [scores("stability", *members, is_quality=False)])
    write_latents(again, 10, [scores("accuracy", *members)])
    [experiment] = experiments_of([Run(fit), Run(again)])
    [measured] = experiment.measurements
    assert set(measured.latents) == {"stability", "accuracy"}
    assert set(measured.latents["accuracy"].members) == set(members)
    assert Run(fit).of_latents("stability", MEMBER)[0] == 0.5
    assert Run(fit).of_latents("accuracy", MEMBER) is None
    assert Run(fit).of_latents("stability", OF_PART) is None


def test_members_are_left_out_and_renamed_as_those_of_metrics():
    own = {Member(policy, 0): np.array([0.5], np.float32) for policy in ("x2", "x4", "x4_frozen_decoder")}
    sizes = {"x2": ("x2", "trained"), "x4": ("x4", "trained"), "x4_frozen_decoder": ("x4", "frozen_decoder")}
    measured = Measurements({}, {}, sizes=sizes, latents={"stability": LatentValues("", False, own)})
    sized = measured.by_size().latents["stability"].members
    assert set(sized) == {Member("trained", 0, "x2"), Member("trained", 0, "x4"), Member("frozen_decoder", 0, "x4")}
    assert set(measured.without({Member("x4", 0)}).latents["stability"].members) == set(own) - {Member("x4", 0)}
