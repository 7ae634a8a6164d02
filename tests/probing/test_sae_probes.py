"""The folder of sae-probes, in tiny files of the same shape."""

import csv
import io
from collections import Counter

import pyarrow as pa
import pytest

from sae_lightning.probing import SAEProbesSets

KINDS = {
    "5_fig_ismale": "Binary Classification",
    "6_fig_isking": "Binary Classification",
    "10_borough": "Multiclass Classification",
    "12_wikidatasex": "Binary Classification",
    "2_year": "Continuous Data",
}


def write(path, rows, columns=("prompt", "prompt_len", "target")):
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([columns, *rows])
    with pa.CompressedOutputStream(str(path), "zstd") as file:
        file.write(text.getvalue().encode())


def rows(*labels, n=80, kind="text"):
    return [(f"{kind} {i} of {label}", 4, label) for i in range(n) for label in labels]


@pytest.fixture
def data(tmp_path):
    """A `data` folder: 80 texts of each class, 30 of a kind that two of the sets have beside it."""
    data = tmp_path / "wheel" / "sae_probes" / "data"
    labels = {"10_borough": ("Bronx", "Queens", "Staten Island"), "12_wikidatasex": ("female", "male")}
    for name in KINDS:
        values = rows(*range(25)) if name == "2_year" else rows(*labels.get(name, (0, 1)))
        write(data / "cleaned_data" / f"{name}.csv.zst", values)
    write(data / "OOD data" / "5_fig_ismale_OOD.csv.zst", rows(1, 0, n=30, kind="ood"))
    write(data / "OOD data" / "6_fig_isking_OOD.csv.zst", rows("not_king", "1", n=30, kind="ood"))
    write(data / "OOD data" / "6_fig_isking_translations.csv.zst", [("de", "kein")], ("Language", "Translation"))
    master = [(f"cleaned_data/{name}.csv", kind) for name, kind in KINDS.items()] + [("cleaned_data/53_.csv", "")]
    write(data / "probing_datasets_MASTER.csv.zst", master, ("Dataset save name", "Data type"))
    return data


def texts(examples):
    return {example.text for example in examples}


def labels(examples):
    return dict(Counter(example.label for example in examples))


def test_sets_are_chosen_by_number_name_and_pattern(data):
    of_two = ["5_fig_ismale", "6_fig_isking", "12_wikidatasex"]
    for path in (data, data.parent, data.parents[1]):
        assert SAEProbesSets(str(path)).names == of_two
    path = str(data)
    assert SAEProbesSets(path, ["*"]).names == of_two
    assert SAEProbesSets(path, [10, "wikidata*", "6"]).names == ["6_fig_isking", "10_borough", "12_wikidatasex"]
    assert SAEProbesSets(path, ["borough", "5_fig_ismale", "fig_*"]).names == [*of_two[:2], "10_borough"]
    assert SAEProbesSets(path, ood="only").names == of_two[:2]
    some = SAEProbesSets(path, n_sets=2)
    assert len(some.names) == 2
    assert some.names == SAEProbesSets(path, n_sets=2).names
    assert len({tuple(SAEProbesSets(path, n_sets=2, seed=seed).names) for seed in range(9)}) > 1
    (data / "probing_datasets_MASTER.csv.zst").unlink()
    assert SAEProbesSets(path, [10, "6_fig_isking"]).names == ["6_fig_isking", "10_borough"]


def test_each_set_is_a_task(data):
    sets = SAEProbesSets(str(data), seed=3)
    parts = sets.parts()
    assert [part.sets for part in parts] == [[name] for name in sets.names]
    assert {part.seed for part in parts} == {3}
    assert [part.names for part in parts[0].parts()] == [["5_fig_ismale"]]
    with pytest.raises(ValueError, match="3 sets are as many tasks"):
        sets.load(10, 10)


def test_the_split_is_balanced_and_the_same_each_time(data):
    task = SAEProbesSets(str(data), [5])
    found = task.load(20, 15)
    assert labels(found.train) == {"0": 20, "1": 20}
    assert labels(found.test) == labels(found.ood) == {"0": 15, "1": 15}
    assert not texts(found.train) & texts(found.test)
    assert all(example.text.endswith(example.label) and example.span is None for example in found.train + found.ood)
    assert all(example.text.startswith("ood") for example in found.ood)
    assert SAEProbesSets(str(data), ["fig_ismale"]).load(20, 15) == found == task.load(20, 15)
    assert texts(SAEProbesSets(str(data), [5], seed=1).load(20, 15).train) != texts(found.train)
    assert texts(task.load(20, 15, draw=1).train) != texts(found.train)
    assert SAEProbesSets(str(data), [5], ood="none").load(20, 15).ood == []
    # Of 80 texts 50 are kept for test, however many are asked for.
    most = task.load(1000, 1000)
    assert labels(most.train) == {"0": 30, "1": 30}
    assert labels(most.test) == {"0": 50, "1": 50}
    assert labels(SAEProbesSets(str(data), [10]).load(9, 5).test) == {"Bronx": 5, "Queens": 5, "Staten Island": 5}


def test_a_text_counts_once_and_one_of_two_labels_not_at_all(data):
    file = data / "cleaned_data" / "5_fig_ismale.csv.zst"
    write(file, [*rows(0, 1), *rows(0, 1), ("both", 1, 0), ("both", 1, 1), ("  ", 1, 0)])
    write(data / "OOD data" / "5_fig_ismale_OOD.csv.zst", [*rows(0, 1, n=3), ("new", 1, 1), ("both", 1, 1)])
    found = SAEProbesSets(str(data), [5]).load(1000, 1000)
    assert texts(found.train + found.test) == {text for text, *_ in rows(0, 1)}
    assert labels(found.train + found.test) == {"0": 80, "1": 80}
    assert texts(found.ood) == {"new", "both"}


def test_labels_of_other_names_go_by_their_order(data):
    found = SAEProbesSets(str(data), [6]).load(1000, 1000)
    assert {(example.label, example.text.rpartition(" ")[2]) for example in found.ood} == {
        ("0", "1"),
        ("1", "not_king"),
    }
    write(data / "OOD data" / "6_fig_isking_OOD.csv.zst", rows("a", "b", "c", n=30))
    with pytest.raises(ValueError, match="6_fig_isking_OOD.* under target are a, b, c, those of 6_fig_isking.* 0, 1;"):
        SAEProbesSets(str(data), [6]).load(10, 10)


def test_what_is_not_as_expected(data, tmp_path):
    path = str(data)
    with pytest.raises(ValueError, match="path=.*nowhere: there is no such folder"):
        SAEProbesSets(str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="path=.*: neither it nor data or sae_probes/data in it has a folder cleaned"):
        SAEProbesSets(str(data / "cleaned_data"))
    with pytest.raises(ValueError, match="sets: there is no set 7 in .*cleaned_data; .* its 5, such as 2_year, 5_fig"):
        SAEProbesSets(path, [7])
    with pytest.raises(ValueError, match=r"sets: 1\*_b\* stands for 10_borough, and .*MASTER.* two classes"):
        SAEProbesSets(path, ["1*_b*"])
    with pytest.raises(ValueError, match="n_sets=4: expected a whole number, 1 to 3"):
        SAEProbesSets(path, n_sets=4)
    with pytest.raises(ValueError, match=r"sets=\[12\], ood=only: there is no such set"):
        SAEProbesSets(path, [12], ood="only")
    with pytest.raises(ValueError, match="2_year.csv.zst: 25 different values under target, such as 0, 1, 10"):
        SAEProbesSets(path, [2]).load(10, 10)
    file = data / "cleaned_data" / "5_fig_ismale.csv.zst"
    write(file, rows(0, 1), ("prompt", "prompt_len", "label"))
    with pytest.raises(ValueError, match="5_fig_ismale.csv.zst, line 2: no column target; the columns are prompt, pro"):
        SAEProbesSets(path, [5]).load(10, 10)
    write(file, [*rows(0, 1), ("text", 1, "")])
    with pytest.raises(ValueError, match="5_fig_ismale.csv.zst, line 162: nothing under target"):
        SAEProbesSets(path, [5]).load(10, 10)
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(ValueError, match="5_fig_ismale.csv.zst: cannot be (read|unpacked)"):
        SAEProbesSets(path, [5]).load(10, 10)
    (data / "probing_datasets_MASTER.csv.zst").unlink()
    with pytest.raises(ValueError, match="MASTER.csv.zst: there is no such file, .* give sets by number"):
        SAEProbesSets(path)
