"""The parts of the configuration of a check by themselves; what `sae check` makes of them is in commands/test_check."""

import pytest

from sae_lightning.checking.configuration import (
    CONTROLS,
    TRANSCODER_CONTROLS,
    check_control_names,
    controls_named,
    evaluators_of,
    new_control,
    reference_names,
)
from sae_lightning.saes import TopK


def test_controls_are_those_of_the_kind_and_in_the_order_of_tables():
    sae, transcoder = TopK(8, d_sae=16, k=4), TopK(8, d_sae=16, k=4, d_out=6)
    assert list(controls_named(None, [sae])) == list(CONTROLS)
    assert list(controls_named(None, [transcoder])) == [name for name in TRANSCODER_CONTROLS if "skip" not in name]
    assert list(controls_named(["raw_dimensions", "random_encoder"], [sae])) == ["random_encoder", "raw_dimensions"]
    with pytest.raises(ValueError, match="--controls raw_dimensions: is of SAEs, and this is a transcoder"):
        controls_named(["raw_dimensions"], [transcoder])


@pytest.mark.parametrize("settings", [*CONTROLS.values(), *TRANSCODER_CONTROLS.values()])
def test_each_control_can_be_made(settings):
    assert type(new_control(settings)).__name__ == settings["class_path"]


def test_a_name_that_nothing_has_is_refused():
    with pytest.raises(ValueError, match="did you mean random_encoder"):
        check_control_names(["random_encoder", "random_encode"])
    with pytest.raises(ValueError, match="controls: Nothing: expected one of BestLinearMap, "):
        new_control({"class_path": "Nothing"})


def test_names_that_no_end_of_a_path_tells_apart_are_numbers():
    assert list(reference_names(["a/b", "b/a/b", "x/a/b"])) == ["a", "b_a", "x_a"]
    assert list(reference_names(["a/k-32", "a/k_32"])) == ["sae_1", "sae_2"]
    with pytest.raises(ValueError, match="a/b is given twice"):
        reference_names(["a/b", "c", "a/b"])


@pytest.mark.parametrize("key", ["callbacks", "callbacks+"])
def test_evaluators_are_read_with_their_arguments(tmp_path, key):
    path = tmp_path / "evaluation.yaml"
    path.write_text(f"trainer:\n  {key}:\n    - LossRecovered\n    - class_path: SparseProbing\n")
    assert evaluators_of(path) == [{"class_path": "LossRecovered"}, {"class_path": "SparseProbing"}]
    path.write_text("trainer: {}\n")
    with pytest.raises(ValueError, match=r"expected trainer.callbacks\+, as configs"):
        evaluators_of(path)
