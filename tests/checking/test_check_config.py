"""What is taken from a configuration that is given to a check."""

import pytest
import yaml

from sae_lightning.checking.check_config import CheckConfig

PANEL = {
    "references": {"published": "hf://a/b"}, "policies": {}, "controls": {"random": {"class_path": "RandomEncoder"}},
    "draws": 2, "control_samples": 512,
}  # fmt: skip
DATA = {"class_path": "ActivationFiles", "init_args": {"nulls": {"gaussian": {}}, "val_samples": 64}}


def read(folder, panel=PANEL, **sections):
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({"model": {"class_path": "SanityPanel", "init_args": panel}, **sections}))
    return CheckConfig.read(path)


def test_references_controls_nulls_and_evaluators_are_taken(tmp_path):
    callbacks = ["LossRecovered", {"class_path": "AutoInterp", "init_args": {"n_latents": 3}}]
    config = read(tmp_path, data=DATA, trainer={"callbacks": callbacks})
    assert config == CheckConfig(
        {"published": "hf://a/b"},
        PANEL["controls"],
        2,
        512,
        [{"class_path": "LossRecovered"}, callbacks[1]],
        {"gaussian": {}},
        64,
    )


def test_what_a_configuration_with_references_leaves_out_is_none_of_it(tmp_path):
    config = read(tmp_path, {"references": {"published": "a"}, "policies": {}})
    assert (config.controls, config.evaluators, config.nulls) == ({}, [], {})


def test_a_configuration_of_a_run_or_none_says_nothing_of_a_check(tmp_path):
    assert CheckConfig.read(None) == CheckConfig()
    assert read(tmp_path, {"policies": {"trained": {}}}, data=DATA) == CheckConfig()
    (tmp_path / "config.yaml").write_text("")
    assert CheckConfig.read(tmp_path / "config.yaml") == CheckConfig()


@pytest.mark.parametrize("policies", [{"trained": {"class_path": "NoFreeze"}}, None])
def test_one_that_trains_beside_its_references_is_refused(policies, tmp_path):
    with pytest.raises(ValueError, match="trains SAEs beside its references: run it with sae fit --config"):
        read(tmp_path, PANEL | {"policies": policies})
