"""What the page says of where numbers come from."""

import json

from runs.folders import panel, write

from sae_lightning.report.provenance import provenance
from sae_lightning.runs import Run


def test_a_cache_says_of_which_model_and_policies_their_own_learning_rates(tmp_path):
    values = {"ev": {policy: {"0": 0.5} for policy in ("trained", "frozen_decoder")}}
    settings = panel((0,), learning_rates={"trained": 0.003, "frozen_decoder": 0.001, "soft_frozen_decoder": 0.003})
    settings["model"]["init_args"]["policies"] = {name: {"class_path": "NoFreeze"} for name in ("mine", "trained")}
    settings["data"] = {"class_path": "CachedActivations", "init_args": {"path": "cache"}}
    folder = write(tmp_path / "name" / "version_0", settings, values)
    sae = {"settings": {"d_in": 4, "d_sae": 8}, "provenance": {"activations": {"model": "a/model", "hook": "layers.3"}}}
    (folder / "saes/trained/0").mkdir(parents=True)
    (folder / "saes/trained/0/sae.json").write_text(json.dumps(sae))
    (folder / "saes/trained/0/sae.safetensors").touch()
    told = dict(provenance(Run(folder)))
    assert told["Policies"] == "Trained SAE, Mine", "in the order of every chart"
    assert told["Activations"] == "model a/model, hook layers.3"
    assert "lr 0.003 of Trained SAE and Soft-Frozen Decoder, lr 0.001 of Frozen Decoder" in told["Training"]
