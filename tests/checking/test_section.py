"""A check as the first section of a page: what its tables have, and what it calls what was checked."""

from unittest.mock import Mock

from checking.checks import DATA, PERMUTED, sae, write

from sae_lightning.checking.section import check_sections
from sae_lightning.runs import Run


def section(folder, *saes, **changes):
    write(folder, *saes, **changes)
    [own] = check_sections(Mock(spec=Run, file=lambda name: folder / name))
    return own


def tables(own):
    [group] = own.groups
    return {table.caption: table for table in group.tables}


def test_another_run_has_none(tmp_path):
    assert check_sections(Mock(spec=Run, file=lambda name: tmp_path / name)) == []


def test_an_sae_stands_above_its_controls(tmp_path):
    own = tables(section(tmp_path, sae(null_data={"gaussian": {"l0": 30.0, "explained_variance": None}})))
    assert list(own) == [
        "Does it beat its controls?", "The SAE and its controls", "The same SAE on null data", "What this cannot say",
    ]  # fmt: skip
    first, *others = own["The SAE and its controls"].rows
    assert first == ["The SAE", "31.25", "0.8", "0.9"]
    assert [row[:2] for row in others] == [["Random encoder", "31.2"], ["Permuted decoder", "31.2"]]
    assert others[1][3] == "-", "of a metric that has no such control nothing is said"
    assert own["The same SAE on null data"].rows == [["gaussian", "30", "-"]]


def test_of_a_transcoder_it_says_source_and_target(tmp_path):
    data = DATA | {"hook": "layers.1.ln", "target": "layers.1.mlp"}
    own = section(tmp_path, sae(kind="transcoder"), data=data)
    assert "Each transcoder as it was published" in own.lead
    assert own.lead.count("SAE") == 0
    assert "It reads layers.1.ln and answers at layers.1.mlp" in own.lead
    assert "The transcoder and its controls" in tables(own)


def test_without_controls_there_is_no_table_of_them(tmp_path):
    own = tables(section(tmp_path, sae(controls={}, questions=[])))
    assert list(own) == ["What this cannot say"]
    assert PERMUTED not in str(own)
