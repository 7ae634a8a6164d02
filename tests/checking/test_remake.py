"""The re-make of a published SAE: what is taken from it, what is filled in, and the l0 of it and its twins."""

import json

import pytest
import torch
import yaml

from sae_lightning.checking.remake import remake_of
from sae_lightning.cli import main
from sae_lightning.saes import BatchTopK, Gated, JumpReLU, MatryoshkaBatchTopK, ReLU, TopK

D_IN, D_SAE, L0 = 16, 48, 5.0


def published(variant, **settings):
    sae = variant(D_IN, d_sae=D_SAE, **settings)
    sae.initialise(0, torch.randn(3000, D_IN, generator=torch.Generator().manual_seed(0)))
    return sae.eval()


@pytest.mark.parametrize("variant", [TopK, BatchTopK, MatryoshkaBatchTopK, JumpReLU, ReLU, Gated])
def test_remake_and_twins_have_the_measured_l0(variant, tmp_path, capsys):
    settings = {"k": 9} if issubclass(variant, TopK | BatchTopK) else {}
    remake = remake_of(published(variant, **settings), L0, 12_800)
    sizes = {"d_in": D_IN, "n_features": 400, "batch_size": 128, "train_samples": 12_800, "val_samples": 1024}
    sizes["firing_probability"] = {"class_path": "ConstantProbability", "init_args": {"p": 0.05}}
    trainer = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    logger = {"class_path": "MemberTensorBoardLogger", "init_args": {"save_dir": str(tmp_path)}}
    settings = {
        "name": "remake",
        "model": {"class_path": "SanityPanel", "init_args": {"sae": dict(remake.sae), "seeds": [0]}},
        "data": {"class_path": "SyntheticDataModule", "init_args": sizes},
        "trainer": {**trainer, "logger": logger, "gradient_clip_val": 1.0},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    main(["fit", f"--config={tmp_path / 'config.yaml'}"])
    last = json.loads((tmp_path / "remake/version_0/metrics.jsonl").read_text().splitlines()[-1])
    l0s = {policy: seeds["0"] for policy, seeds in last["metrics"]["l0"].items()}
    assert set(l0s) == {"trained", "frozen_decoder", "soft_frozen_decoder", "frozen_encoder"}
    assert all(abs(l0 / L0 - 1) < 0.05 for l0 in l0s.values()), l0s


def test_what_is_stated_is_taken_and_the_rest_is_named():
    sae = published(MatryoshkaBatchTopK, k=9, group_fractions=(0.25, 0.75), apply_b_dec_to_input=False)
    stated = {"learning_rate": 3e-4, "batch_size": 4096, "tokens": 10**9, "k": 9}
    sae.provenance = {"imported": {"stated": stated}}
    remake = remake_of(sae, 7.4, 100_000)
    arguments = remake.sae["init_args"]
    assert remake.sae["class_path"] == "MatryoshkaBatchTopK"
    assert (arguments["d_sae"], arguments["k"], arguments["apply_b_dec_to_input"]) == (D_SAE, 7, False)
    assert arguments["group_fractions"] == [0.25, 0.75]
    assert arguments["optimizer"]["init_args"]["lr"] == 3e-4
    assert remake.batch_size == 4096
    assert {"learning_rate", "batch_size", "variant", "l0 (measured)"} <= set(remake.stated)
    assert remake.filled_in["optimizer"] == "Adam"
    assert "learning_rate" not in remake.filled_in
    assert remake.published_budget == "1,000,000,000 activations"
    assert remake_of(published(TopK, k=9), 9.0, 1000).published_budget == "not stated"


def test_a_variant_without_an_l0_that_can_be_held_is_refused():
    from sae_lightning.saes import Pursuit

    with pytest.raises(ValueError, match="--budget nulls"):
        remake_of(Pursuit(D_IN, d_sae=D_SAE, l0=4.0), 4.0, 1000)
