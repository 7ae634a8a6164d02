"""Members on several ranks are what they would be on one: trained, measured, saved and resumed."""

import pytest
import torch
from fit_in_server import call
from panels_on_ranks import D_IN, KINDS, make, on_four, resume, train_all

from sae_lightning.checkpoint_parts import PARTS, join
from sae_lightning.panel import built_in_place
from sae_lightning.saes import TopK
from sae_lightning.strategies.members import deal, place_members


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("members")
    for seed, name in enumerate(("published", "other")):
        TopK(D_IN, d_sae=16, k=2, seed=seed).save(folder / name)
    for ranks in (1, 2):  # both in processes of their own: what ran before in this one could set other products
        assert call(train_all, folder, folder, ranks, ranks=ranks) == [0] * ranks, (folder / "output-0.txt").read_text()
    return folder


def results(folder, name, ranks):
    """Members by name, which are on each rank, and the metrics of each rank."""
    of_ranks = [torch.load(folder / f"{name}-rank{rank}.pt", weights_only=True) for rank in range(ranks)]
    members = {member: state for one in of_ranks for member, state in one["members"].items()}
    return members, [sorted(one["members"]) for one in of_ranks], [one["metrics"] for one in of_ranks]


def same(folder, one, other, ranks, leave_out=()):
    """Whether members and metrics of a run are those of a run on one process."""
    expected, _, (metrics,) = results(folder, one, 1)
    members, places, of_ranks = results(folder, other, ranks)
    assert expected.keys() == members.keys()
    for member, state in expected.items():
        for key, tensor in state.items():
            torch.testing.assert_close(members[member][key], tensor, rtol=1e-5, atol=1e-6, msg=f"{member}.{key}")
    kept = {name: value for name, value in metrics.items() if not any(word in name for word in leave_out)}
    for of_rank in of_ranks:
        assert of_rank.keys() == metrics.keys()
        assert {name: of_rank[name] for name in kept} == pytest.approx(kept, rel=1e-5, abs=1e-6, nan_ok=True)
    return places


@pytest.mark.parametrize("kind", KINDS)
def test_two_ranks_train_what_one_process_trains(folder, kind):
    places = same(folder, f"{kind}-1", f"{kind}-2", 2)
    assert not set(places[0]) & set(places[1])
    if kind == "sizes":
        assert places == [["x8/0"], ["other/0", "published/0", "x1/0", "x2/0"]]
    else:
        _, _, (metrics,) = results(folder, f"{kind}-1", 1)
        assert any("train/aux" in name for name in metrics), "AuxK must have had something to do"


@pytest.mark.parametrize("kind", ["rates", "sizes"])
def test_one_process_goes_on_where_two_ranks_stopped(folder, kind):
    assert call(resume, folder, folder, f"{kind}-2", 1, ranks=1) == [0], (folder / "output-0.txt").read_text()
    same(folder, f"{kind}-1", f"{kind}-2-then-1-1", 1)


def test_two_ranks_go_on_where_one_process_stopped(folder):
    same(folder, "rates-1", "rates-1-then-2-1", 2)


def test_four_ranks_share_members_or_say_why_not(folder):
    assert call(on_four, folder, folder, ranks=4) == [0] * 4, (folder / "output-0.txt").read_text()
    # As under DDP, what is logged of training is of the share of the first rank.
    places = same(folder, "four-1", "four-2-then-4-2", 4, leave_out=("train/", "loss_fall"))
    assert places[0] == places[1] != places[2] == places[3]
    said = {name: (folder / f"{name}.txt").read_text() for name in ("ranks", "lone", "compares")}
    assert "4 ranks, and the panel has 1 member: take 1 ranks at most" in said["ranks"]
    assert "TopK is a lone SAE: take trainer.strategy=ddp" in said["lone"]
    assert "SeedAgreement compares members with each other" in said["compares"]


def test_largest_members_are_dealt_first():
    panel = make("one")
    assert deal({"x1": 1, "x2": 2, "x4": 4, "x8": 8}, [0, 0]) == {"x8": 0, "x4": 1, "x2": 1, "x1": 1}
    assert list(place_members(panel, 1).values()) == [0]


def test_members_take_no_memory_before_they_have_a_place():
    with built_in_place():
        panel = make("four")
    assert not list(panel.parameters())
    assert all(sae.W_dec.is_meta for sae in panel.all_members.values())
    first, *others = panel.all_members
    panel.place([first])
    assert list(panel.members) == [first]
    assert all(panel.all_members[member].W_dec.is_meta for member in others)
    whole = make("four")
    whole.place([first])
    assert panel.state_dict().keys() == whole.state_dict().keys()


def test_missing_part_is_named(folder, tmp_path):
    checkpoint = torch.load(folder / "four-2.ckpt", weights_only=True)
    assert PARTS in checkpoint
    with pytest.raises(ValueError, match="this part of a checkpoint is missing.*copy both"):
        join(checkpoint, tmp_path / "four-2.ckpt")
