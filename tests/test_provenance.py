import inspect

import pytest
import torch
from training import subclasses

import sae_lightning.pocket  # noqa: F401 - its classes are among those that are described
from sae_lightning.datamodules import SyntheticDataModule, Text
from sae_lightning.freeze import FreezePolicy, SoftFrozenDecoder
from sae_lightning.images import Images
from sae_lightning.provenance import (
    arguments_of,
    describe,
    differences,
    refuse,
    refuse_other_activations,
    sampled_fingerprint,
)
from sae_lightning.saes import BatchTopK, DecoderInit, JumpReLU, L0Penalty, TargetL0
from sae_lightning.sources import Dependence, FiringProbability, Null
from sae_lightning.sources.synthetic import SyntheticSource


def found(saved, given, name="data"):
    return [str(one) for one in differences(saved, given, name)]


@pytest.mark.parametrize(
    "base", [FreezePolicy, DecoderInit, L0Penalty, Null, FiringProbability, Dependence, Text, Images]
)
def test_every_choice_keeps_its_arguments_where_they_are_looked_for(base):
    kinds = [kind for kind in subclasses(base) if not inspect.isabstract(kind) and "describe" not in vars(kind)]
    assert kinds or base is Images
    for kind in kinds:
        source = "".join(inspect.getsource(cls) for cls in kind.__mro__ if cls.__module__.startswith("sae_lightning"))
        for name in list(inspect.signature(kind.__init__).parameters)[1:]:
            assert name in ("args", "kwargs") or f"self.{name}" in source, f"{kind.__name__}.{name}"


def test_an_sae_is_described_by_all_its_hyperparameters():
    sae = JumpReLU(8, d_sae=16, penalty=TargetL0(3.0), initial_threshold=0.02, seed=4, aux_coefficient=0.5)
    described = describe(sae)
    assert described["class"] == "JumpReLU"
    assert described["penalty"]["target"] == 3.0
    assert (described["initial_threshold"], described["seed"], described["aux_coefficient"]) == (0.02, 4, 0.5)
    assert described["init"] == {"class": "Isotropic"}
    assert arguments_of(BatchTopK(8, k=2, d_sae=16))["k"] == 2
    assert describe(SoftFrozenDecoder(0.7)) == {"class": "SoftFrozenDecoder", "min_cosine": 0.7}


def test_synthetic_data_are_described_by_what_decides_the_features():
    data = SyntheticDataModule(d_in=4, n_features=8, batch_size=4, train_samples=8, val_samples=4, seed=3)
    own = data.describe_activations()[""]
    assert (own["d_in"], own["n_features"], own["seed"], own["null"]) == (4, 8, 3, None)
    assert own["firing_probability"] == {"class": "ConstantProbability", "p": 0.00625}
    assert own != {"null": None} | SyntheticSource(d_in=4, n_features=8, seed=4).describe()
    assert data.describe()["batch_size"] == 4


def test_weights_are_known_whatever_their_number_format_and_their_place():
    weights = {"a": torch.randn(40, 50), "b": torch.arange(3)}
    halved = {"a": weights["a"].bfloat16(), "b": weights["b"]}
    assert sampled_fingerprint(halved) == sampled_fingerprint({"b": weights["b"], "a": halved["a"].float()})
    assert sampled_fingerprint(weights) != sampled_fingerprint(halved)
    trained_on = {"a": weights["a"] + 1e-4 * torch.randn(40, 50), "b": weights["b"]}
    assert sampled_fingerprint(trained_on) != sampled_fingerprint(weights)
    assert sampled_fingerprint({"a": weights["a"].T, "b": weights["b"]}) != sampled_fingerprint(weights)
    assert sampled_fingerprint({"c": weights["a"], "b": weights["b"]}) != sampled_fingerprint(weights)


def test_a_model_is_its_weights():
    saved = {"class": "LM", "model": "here/gpt", "weights": "1", "revision": "main", "hook": "h.1"}
    assert found(saved, saved | {"model": "/there/else", "revision": None}) == []
    assert found(saved, saved | {"weights": "2"}) == ["data.model=here/gpt (weights 2), it has here/gpt (weights 1)"]
    assert found(saved, saved | {"weights": None, "model": "other"}) == ["data.model=other, it has here/gpt"]
    assert found(saved, saved | {"hook": "h.2"}) == ["data.hook=h.2, it has h.1"]


def test_files_may_move_and_what_one_side_does_not_state_is_passed_over():
    assert found({"paths": ["a/text.txt"]}, {"paths": ["/b/text.txt"]}) == []
    assert found({"paths": ["a/text.txt"]}, {"paths": ["/b/other.txt"]}) == [
        "data.paths=['/b/other.txt'], it has ['a/text.txt']"
    ]
    assert found({"dataset": "one/c4"}, {"dataset": "two/c4"}) != [], "these are no files"
    assert found({"k": 1, "older": 2}, {"k": 1, "newer": 3}) == []
    assert found({"heldout": None}, {"heldout": ["/a.txt"]}) != []
    assert found({"text": {"class": "FileText"}}, {"text": {"class": "HubText"}}) == [
        "data.text=HubText, it has FileText"
    ]


def test_a_difference_is_refused_by_name_and_the_unknown_is_reported_once(capsys):
    with pytest.raises(ValueError, match=r"the file does not belong here: data.hook=b, it has a. Do this"):
        refuse("the file", differences({"hook": "a"}, {"hook": "b"}, "data"), "Do this")
    refuse_other_activations("this SAE", {}, {"hook": "b"})
    refuse_other_activations("this SAE", {}, {"hook": "b"})
    assert capsys.readouterr().err.count("this SAE: it does not say which model and hook it is of") == 1
    refuse_other_activations("that SAE", {"activations": {"hook": "b"}}, {"hook": "b"})
    with pytest.raises(ValueError, match="that SAE"):
        refuse_other_activations("that SAE", {"activations": {"hook": "a"}}, {"hook": "b"})


def test_a_long_list_is_known_by_its_hash():
    one, other = describe([f"{i}.txt" for i in range(99)]), describe([f"{i}.txt" for i in range(1, 100)])
    assert one["n"] == other["n"] == 99
    assert one["sha256"] != other["sha256"]


def test_what_a_file_of_another_library_states_is_told(capsys):
    stated = {"imported": {"stated": {"model": "gpt2", "hook": "blocks.8.hook_resid_pre"}}}
    refuse_other_activations("an imported SAE", stated, {"model": "other"})
    assert "its file states the model gpt2 and the hook blocks.8.hook_resid_pre by name" in capsys.readouterr().err
