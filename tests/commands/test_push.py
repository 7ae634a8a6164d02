"""``sae push`` through the real ``main``: what is written, what is uploaded, and what comes back from the hub."""

import json
import shutil
from pathlib import Path
from types import ModuleType, SimpleNamespace

import huggingface_hub
import pytest
import torch
import yaml
from huggingface_hub import constants
from safetensors.torch import save_file

import sae_lightning.commands.fit  # noqa: F401 - imported in a test, Lightning would log to the stderr of that test
from sae_lightning.cli import main
from sae_lightning.formats import reading
from sae_lightning.saes import SparseAutoencoder, TopK

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """The calls of the hub that are made, on folders below `root`."""

    def __init__(self, root):
        self.root, self.created, self.error = root, [], None

    def create_repo(self, repository, private, exist_ok):
        assert exist_ok
        if self.error:
            raise self.error
        self.created.append((repository, private))
        (self.root / repository).mkdir(parents=True, exist_ok=True)

    def list_repo_files(self, repository, revision=None):
        folder = self.root / repository
        return [one.relative_to(folder).as_posix() for one in folder.rglob("*") if one.is_file()]

    def upload_folder(self, repo_id, folder_path, path_in_repo, revision, commit_message):
        shutil.copytree(folder_path, self.root / repo_id / (path_in_repo or ""), dirs_exist_ok=True)

    def model_info(self, repository, revision=None, files_metadata=False):
        files = [SimpleNamespace(rfilename=name, size=None) for name in self.list_repo_files(repository)]
        return SimpleNamespace(sha=COMMIT, siblings=files)

    def download(self, repository, name, revision):
        return str(self.root / repository / name)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    hub = Hub(tmp_path / "hub")
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: hub)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hub.download)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return hub


@pytest.fixture
def run(tmp_path):
    """A run folder with two SAEs, and a verdict that has two metrics of it."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text("name: tiny\n")
    sae = TopK(5, k=3, d_sae=12, scale_input=True)
    sae.initialise(0, 4 * torch.randn(256, 5, generator=torch.Generator().manual_seed(0)))
    sae.provenance = {
        "activations": {"model": "gpt2", "hook": "transformer.h.3", "hook_input": True},
        "data": {"class": "LanguageModelDataModule", "batch_size": 64, "context_length": 16,
                 "text": {"class": "HubText", "dataset": "owner/text", "nested": {}}},
        "trainer": {"devices": 2, "accumulate_grad_batches": 1},
        "steps": 1000,
        "measured": {"l0": 2.98765, "explained_variance": 0.8},
    }  # fmt: skip
    for policy in ("trained", "frozen_decoder"):
        sae.save(run / "saes" / policy / "0")
    compared = {"verdict": "beats", "difference": 0.25, "interval": [0.2, 0.3], "notes": ["one seed: over items"]}
    metrics = {
        "explained_variance": {"label": "Explained | variance", "trained": 0.8,
                               "baselines": {"pca": {**compared, "verdict": "unknown", "interval": None},
                                             "frozen_decoder": compared}},
        "fvu@early": {"label": "FVU of another hook", "trained": 0.2, "baselines": {"frozen_decoder": compared}},
    }  # fmt: skip
    verdict = {"level": 0.95, "rule": "beats: the interval leaves out 0", "metrics": metrics}
    (run / "verdict.json").write_text(json.dumps(verdict))
    return run


def pushed(*arguments):
    main(["push", *map(str, arguments)])


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        pushed(*arguments)
    assert stop.value.code == 2
    return capsys.readouterr().err


def test_there_and_back(hub, run, capsys):
    sae = run / "saes/trained/0"
    pushed(sae, "hf://owner/name/layer_3", "--private")
    assert capsys.readouterr().out == "https://huggingface.co/owner/name/tree/main/layer_3\n"
    assert hub.created == [("owner/name", True)]
    files = hub.root / "owner/name/layer_3"
    assert sorted(one.name for one in files.iterdir()) == ["README.md", "sae.json", "sae.safetensors"]
    for name in ("sae.json", "sae.safetensors"):
        assert (files / name).read_bytes() == (sae / name).read_bytes()
    again = SparseAutoencoder.load("hf://owner/name/layer_3")
    x = torch.randn(8, 5)
    assert torch.equal(again(x), SparseAutoencoder.load(sae)(x))
    pushed(sae, "hf://owner/name/layer_3")  # an SAE may be uploaded anew


def test_to_the_root_and_the_card_is_the_page(hub, run, capsys):
    pushed(run / "saes/trained/0", "hf://owner/name")
    assert capsys.readouterr().out == "https://huggingface.co/owner/name\n"
    card = (hub.root / "owner/name/README.md").read_text()
    _, header, text = card.split("---\n", 2)
    assert yaml.safe_load(header) == {
        "library_name": "sae_lightning",
        "tags": ["sparse-autoencoder", "sae", "interpretability", "TopK"],
        "base_model": "gpt2",
    }
    scale = json.loads((run / "saes/trained/0/sae.json").read_text())["fold"]["scale"]
    for line in (
        "| Variant | TopK |",
        "| Sizes | d_in 5, d_sae 12 (2.4 times as many) |",
        "| k | 3 |",
        "| b_dec is subtracted before encoding | yes |",
        f"| Scale of training, folded into the biases | {scale:.6g} |",
        "| Model | gpt2 |",
        "| Hook | input of transformer.h.3 |",
        "| Data | HubText: dataset owner/text |",
        "| Activations in training | 128,000 in 1,000 steps |",
        "| Active latents (l0) | 2.988 |",
        "| Explained variance | 0.8 |",
        'sae = SparseAutoencoder.load("hf://owner/name")',
        "|  | trained | Frozen Decoder | PCA |",
        "| Explained \\| variance | 0.8 | beats +0.25 [+0.2, +0.3] | unknown +0.25 |",
        "Beats: the interval leaves out 0.",
        "- one seed: over items",
    ):
        assert line in text.split("\n"), line
    assert "this one is the trained SAE" in text
    assert "another hook" not in text


def test_a_baseline_says_that_it_is_one(hub, run):
    pushed(run / "saes/frozen_decoder/0", "hf://owner/name")
    assert "no trained SAE, but the baseline frozen_decoder" in (hub.root / "owner/name/README.md").read_text()


def test_an_sae_outside_a_run_has_no_verdict(hub, run, tmp_path):
    shutil.copytree(run / "saes/trained/0", tmp_path / "alone")
    pushed(tmp_path / "alone", "hf://owner/name", "--base_model=owner/model")
    card = (hub.root / "owner/name/README.md").read_text()
    assert "baselines" not in card
    assert "base_model: owner/model" in card


def test_a_model_in_a_folder_is_no_base_model(hub, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gpt2").mkdir()
    pushed(run / "saes/trained/0", "hf://owner/name")
    assert "base_model" not in (hub.root / "owner/name/README.md").read_text()


def test_a_dry_run_uploads_nothing(hub, run, tmp_path, capsys):
    out = tmp_path / "new/folder"
    pushed(run / "saes/trained/0", "hf://owner/name", "--dry-run", "--out", out)
    assert capsys.readouterr().out.split() == [str(out / name) for name in ("README.md", "sae.json", "sae.safetensors")]
    assert not hub.created
    assert "is not empty: give a new folder" in refused(capsys, run / "saes/trained/0", "hf://a/b", "--out", out)
    assert "is a file" in refused(capsys, run / "saes/trained/0", "hf://a/b", "--out", out / "sae.json")
    assert "say which with --out" in refused(capsys, run / "saes/trained/0", "hf://a/b", "--dry-run")


def test_an_sae_of_another_library(hub, tmp_path):
    draw = torch.Generator().manual_seed(0)
    shapes = {"W_E": (5, 12), "b_E": (12,), "W_D": (12, 5), "b_D": (5,)}
    own = {name: torch.randn(shape, generator=draw) for name, shape in shapes.items()}
    (tmp_path / "foreign").mkdir()
    save_file(own, tmp_path / "foreign/sae_weights.safetensors", {"version": "1.2"})
    config = {"sae_type": "sae", "d_model": 5, "act_fn": "topk", "top_k": 3, "norm_activation": "inference"}
    config |= {"hook_point_in": "blocks.3.hook_resid_post", "hook_point_out": "blocks.3.hook_resid_post"}
    (tmp_path / "foreign/config.json").write_text(json.dumps(config))
    pushed(tmp_path / "foreign", "hf://owner/name")
    card = (hub.root / "owner/name/README.md").read_text()
    assert "Read from a file of llamascopium 1.2." in card
    assert "- folded: the decoder norms by which latents are chosen" in card
    assert "| Hook | blocks.3.hook_resid_post |" in card
    x = torch.randn(8, 5)
    assert torch.equal(SparseAutoencoder.load("hf://owner/name")(x), SparseAutoencoder.load(tmp_path / "foreign")(x))


def test_in_another_format(hub, run, monkeypatch, capsys):
    def write(stored, folder):
        save_file(dict(stored.tensors), folder / "theirs.safetensors")
        return [folder / "theirs.safetensors"]

    adapter = ModuleType("theirs")
    vars(adapter).update(NAME="theirs", TITLE="Theirs", reads=lambda place: False, write=write)
    monkeypatch.setattr(reading, "ADAPTERS", (adapter,))
    pushed(run / "saes/trained/0", "hf://owner/name", "--format=theirs")
    assert sorted(one.name for one in (hub.root / "owner/name").iterdir()) == ["README.md", "theirs.safetensors"]
    assert "in the format of Theirs" in (hub.root / "owner/name/README.md").read_text()
    message = refused(capsys, run / "saes/trained/0", "hf://owner/name")
    assert "hf://owner/name already has theirs.safetensors, which would lie beside" in message
    message = refused(capsys, run / "saes/trained/0", "hf://owner/other", "--format=none")
    assert "--format none: expected one of sae_lightning, theirs" in message


def test_what_cannot_be(hub, run, capsys):
    sae = run / "saes/trained/0"
    assert "TO owner/name: expected hf://owner/name" in refused(capsys, sae, "owner/name")
    assert "expected hf://owner/name" in refused(capsys, sae, "hf://owner")
    assert "does not exist" in refused(capsys, run / "saes/none/0", "hf://owner/name")
    hub.error = ConnectionError("401 Client Error\nmore")
    message = refused(capsys, sae, "hf://owner/name")
    assert "hf://owner/name cannot be written (401 Client Error): log in with `hf auth login`" in message
    (run / "verdict.json").write_text('{"metrics": 3}')
    assert "verdict.json is damaged" in refused(capsys, sae, "hf://owner/name")


def test_nothing_is_left_in_the_temporary_folder(hub, run, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    Path(tmp_path / "temporary").mkdir()
    pushed(run / "saes/trained/0", "hf://owner/name")
    assert not list((tmp_path / "temporary").iterdir())
