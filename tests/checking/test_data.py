"""The data of a check: what the user says comes first, then what a file states, then a default."""

import pytest

from sae_lightning.checking.data import data_section, nulls_of, section_of
from sae_lightning.checking.data_request import DataRequest
from sae_lightning.saes import TopK

STATED = {"model": "stated/model", "hook": "layers.1", "context_length": 4096, "prepend_bos": False}
ASKED = DataRequest(model="m", hook="h", text=[__file__], n_tokens=640)


def sae(d_out=None, **stated):
    own = TopK(8, d_sae=16, k=2, d_out=d_out)
    own.provenance = {"imported": {"stated": stated}}
    return own


def arguments(request, own, trains=False):
    return data_section(request, own, "w", trains)["init_args"]


def test_options_come_before_what_is_stated_and_that_before_defaults():
    own = arguments(ASKED, sae(**STATED))
    assert (own["model"], own["hook"], own["bos_in_every_row"]) == ("m", "h", False)
    assert own["context_length"] == 1024, "a check is to be quick"
    asked = DataRequest(model="m", hook="h", text=[__file__], context_length=4096, bos_in_every_row=True)
    own = arguments(asked, sae(**STATED))
    assert (own["context_length"], own["bos_in_every_row"]) == (4096, True)
    own = arguments(ASKED, sae())
    assert (own["context_length"], own["bos_in_every_row"]) == (128, True)


def test_half_of_the_text_is_held_out_and_with_training_a_tenth():
    measured, trained = arguments(ASKED, sae()), arguments(ASKED, sae(), trains=True)
    assert [own["text"]["init_args"]["heldout_every"] for own in (measured, trained)] == [2, 10]
    assert [own["val_samples"] for own in (measured, trained)] == [640, 640]
    assert [own["batch_size"] for own in (measured, trained)] == [20, 640]


def test_what_is_missing_is_named_at_once():
    with pytest.raises(
        ValueError, match="give --model, .*, and --hook, .*, and --target, .*, and --text, .* on a/set$"
    ):
        data_section(DataRequest(), sae(8, dataset="a/set"), "w", False)


@pytest.mark.parametrize("option", ["cache", "activations"])
def test_what_has_no_model_takes_nothing_that_is_of_one(option):
    request = DataRequest(**{option: "somewhere"}, dtype="float32", text=[__file__])
    with pytest.raises(ValueError, match=f"^--{option} somewhere .*leave out --text, --dtype$"):
        data_section(request, sae(), "w", False)


def test_data_are_taken_up_from_a_run_that_says_all_of_them():
    said = {"class": "LanguageModelDataModule", "context_length": 64, "text": {"class": "FileText", "paths": ["a.txt"]}}
    at = {"model": "m", "hook": "model.layers.1.ln"}
    section = section_of({"data": said, "activations": at})
    assert section["init_args"] == {
        "model": "m", "hook": "model.layers.1.ln", "context_length": 64,
        "text": {"class_path": "FileText", "init_args": {"paths": ["a.txt"]}},
    }  # fmt: skip
    both = section_of({"data": said, "activations": at, "target": {"hook": "model.layers.1.mlp"}})
    assert both["init_args"]["hook"] == {"source": "model.layers.1.ln", "target": "model.layers.1.mlp"}
    assert section_of({"data": said, "activations": at | {"null": "gaussian"}}) is None
    assert section_of({"data": said | {"text": {"class": "FileText", "sha256": "ab"}}, "activations": at}) is None


def test_nulls_of_a_transcoder_are_of_both_its_sides(monkeypatch):
    monkeypatch.setattr("sae_lightning.checking.data.redrawn_modules", lambda model, hooks: [hooks["target"]])
    section = {"class_path": "LanguageModelDataModule", "init_args": {"model": "m", "hook": {"target": "mlp"}}}
    names = ("gaussian", "shuffled", "reinitialised")

    def classes(own):
        return {name: null["class_path"] for name, null in nulls_of(names, section, own).items()}

    assert classes(sae()) == dict(zip(names, ("GaussianMatched", "ShuffledDimensions", "Reinitialised"), strict=True))
    assert classes(sae(8)) == dict(zip(names, ("GaussianMatched", "ShuffledHooks", "RedrawnModules"), strict=True))
    assert nulls_of(names, section, sae(8))["reinitialised"]["init_args"] == {"modules": ["mlp"]}
    without_model = section | {"init_args": {"hook": "h"}}
    assert set(nulls_of(names, without_model, sae())) == {"gaussian", "shuffled"}
