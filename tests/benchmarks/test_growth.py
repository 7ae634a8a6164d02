"""One size is changed at a time, and of several members the floor is that of as many."""

from types import SimpleNamespace

from benchmarks import growth
from benchmarks.peers import Case, case_of


def test_sizes_in_the_name_of_a_case():
    assert case_of("256x4096x32x1024") == Case(256, 4096, 32, 1024)
    assert case_of("tiny") == Case(64, 512, 8, 256)


def test_one_size_is_changed_at_a_time():
    measured = list(growth.points({"d_sae": [8, 16], "k": [2, 4], "members": [1]}))
    assert [(axes, tuple(size.values())) for axes, size in measured] == [
        (["d_sae", "k", "members"], (8, 2, 1)),
        (["d_sae"], (16, 2, 1)),
        (["k"], (8, 4, 1)),
    ]


def test_members_are_compared_with_as_many_floors(monkeypatch):
    times = {"ours": 100.0, "sparsify": 40.0, "floor": 20.0}
    measure = lambda *args: [{"impl": name, "ms": ms, "peak_mb": 1.0} for name, ms in times.items()]  # noqa: E731
    monkeypatch.setattr(growth, "measure", measure)
    monkeypatch.setattr(growth, "installed", lambda impls: impls)
    args = SimpleNamespace(impl=["ours", "sparsify"], d_in=4, steps=1, rounds=1)
    four = list(growth.records(args, {"d_sae": [8], "k": [2], "batch": [16], "members": [4]}))
    assert [(each["ms"], each["floor_ratio"]) for each in four] == [(100.0, 1.25), (160.0, 2.0), (80.0, 1.0)]
