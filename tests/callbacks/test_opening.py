"""What a run says before its first step: the SAEs, the activations and how many of them."""

from functools import partial

import tiny

from sae_lightning.callbacks.opening import activations_in_words, saes_in_words, samples_in_words
from sae_lightning.datamodules import FileText, LanguageModelDataModule, SyntheticDataModule
from sae_lightning.freeze import FrozenDecoder, NoFreeze
from sae_lightning.panel import SanityPanel
from sae_lightning.saes import JumpReLU, ReLU, TargetL0, TopK
from sae_lightning.sources import GaussianMatched

SMALL = partial(TopK, k=2, d_sae=16)
POLICIES = {"frozen_decoder": FrozenDecoder(), "trained": NoFreeze()}


def test_a_lone_sae_and_the_l0_that_it_has_or_holds():
    assert saes_in_words(SMALL(8)) == "TopK; 16 latents of width 8; l0 2"
    assert saes_in_words(ReLU(8, d_sae=1024)) == "ReLU; 1,024 latents of width 8"
    assert saes_in_words(JumpReLU(8, d_sae=16, penalty=TargetL0(3.5))).endswith("; l0 3.5")


def test_what_is_no_plain_sae_is_called_what_it_is():
    assert saes_in_words(SMALL(8, d_out=4)) == "TopK transcoder; 16 latents from width 8 to 4; l0 2"
    crosscoder = SMALL(8, crosscoder=True, widths={"early": 5, "late": 3})
    assert saes_in_words(crosscoder) == "TopK crosscoder; 16 latents of width 8 (early 5, late 3); l0 2"
    panel = SanityPanel(12, SMALL, POLICIES, seeds=[0], widths={"read": 8, "answer": 4}, targets={"read": "answer"})
    assert saes_in_words(panel).startswith("2 TopK transcoders: trained, frozen_decoder; 16 latents from width 8 to 4")


def test_a_panel_is_the_product_of_policies_seeds_and_parts():
    panel = SanityPanel(8, SMALL, POLICIES, seeds=[0, 1])
    product = "4 TopK (2 policies x 2 seeds): trained, frozen_decoder"
    assert saes_in_words(panel) == f"{product}; 16 latents of width 8; l0 2"
    with_null = SanityPanel(16, SMALL, {"trained": NoFreeze()}, seeds=[0, 1], widths={"": 8, "gaussian": 8})
    assert saes_in_words(with_null).startswith("4 TopK (2 seeds x 2 hooks or nulls); 16 latents")


def test_saes_that_are_measured_stand_beside(tmp_path):
    SMALL(8).save(tmp_path)
    panel = SanityPanel(8, policies={}, references={"published": str(tmp_path)}, control_samples=8)
    assert saes_in_words(panel) == "published", "the word before it is `measure`"


def test_where_activations_come_from_and_how_many_there_are():
    sizes = {"d_in": 8, "n_features": 16, "batch_size": 16, "train_samples": 32_000, "val_samples": 64}
    data = SyntheticDataModule(**sizes, nulls={"gaussian": GaussianMatched()})
    assert activations_in_words(data) == "SyntheticDataModule, null data gaussian"
    assert samples_in_words(data, trains=True) == f"32,000 {data.unit} in batches of 16; 64 held out"
    assert samples_in_words(data, trains=False) == "64 held out"


def test_each_of_several_hooks_is_said_once_after_its_name(tmp_path):
    tiny.save_tiny_lm(tmp_path / "lm")
    tiny.save_text(tmp_path / "text.jsonl", 400)
    sizes = {"context_length": 16, "batch_size": 64, "train_samples": 128, "val_samples": 64, "llm_batch_size": 4}
    data = LanguageModelDataModule(
        str(tmp_path / "lm"),
        hook={"early": "model.layers.0", "late": "model.layers.1"},
        text=FileText(str(tmp_path / "text.jsonl")),
        buffer_samples=256,
        **sizes,
    )
    model, early, late, text = activations_in_words(data).split(", ")
    assert model.startswith(str(tmp_path / "lm"))
    assert (early, late, text) == ("early = model.layers.0", "late = model.layers.1", "FileText")
