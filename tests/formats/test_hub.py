"""SAEs from the hub: what is fetched, what is said, and the table of SAELens. The hub is a stand-in of local files."""

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
from huggingface_hub import constants
from huggingface_hub.utils import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

from sae_lightning.formats import hub, saelens_table
from sae_lightning.formats.hub import Address, address_of, local
from sae_lightning.saes import SparseAutoencoder, TopK

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def raised(kind, message="no"):
    """An error of the hub without a response of it."""
    error = kind.__new__(kind)
    Exception.__init__(error, message)
    return error


class Hub:
    """Repositories as folders of `root`, read through the calls that the code makes; a cache as the hub's own."""

    def __init__(self, root, cache):
        self.root, self.cache, self.fetched, self.error = root, cache, [], None

    def model_info(self, repository, revision=None, files_metadata=False):
        assert files_metadata
        if self.error:
            raise self.error
        folder = self.root / repository
        if not folder.is_dir():
            raise raised(RepositoryNotFoundError)
        if revision not in (None, "main", "v1", "refs/pr/1", COMMIT):
            raise raised(RevisionNotFoundError)
        files = [one for one in sorted(folder.rglob("*")) if one.is_file()]
        return SimpleNamespace(
            sha=COMMIT,
            siblings=[
                SimpleNamespace(rfilename=one.relative_to(folder).as_posix(), size=one.stat().st_size) for one in files
            ],
        )

    def download(self, repository, name, revision=None):
        assert revision == COMMIT
        self.fetched.append(name)
        folder = self.cache / f"models--{repository.replace('/', '--')}"
        path = folder / "snapshots" / COMMIT / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(self.root / repository / name, path)
        (folder / "refs").mkdir(exist_ok=True)
        (folder / "refs/main").write_text(COMMIT)
        return str(path)


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    hub = Hub(tmp_path / "hub", tmp_path / "cache")
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: hub)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hub.download)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(hub.cache))
    return hub


def put(stand_in, *names, repository="owner/name"):
    for name in names:
        path = stand_in.root / repository / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")


def test_an_sae_of_ours_from_the_hub(stand_in):
    sae = TopK(5, k=3, d_sae=12)
    sae.initialise(0, torch.randn(64, 5))
    sae.save(stand_in.root / "owner/name/layer_3")
    put(stand_in, "README.md", "layer_4/sae.json", "layer_4/sae.safetensors")
    for where in ("hf://owner/name/layer_3", Path("hf://owner/name/layer_3"), "hf://owner/name@main/layer_3/"):
        stand_in.fetched.clear()
        again = SparseAutoencoder.load(where)
        assert torch.equal(again.W_dec, sae.W_dec)
        assert sorted(stand_in.fetched) == ["layer_3/sae.json", "layer_3/sae.safetensors"]


def test_a_folder_of_the_cache_shows_repository_and_folder(stand_in):
    put(stand_in, "layers.3/sae.safetensors", "layers.3/cfg.json", repository="EleutherAI/sae-x32")
    path = local("hf://EleutherAI/sae-x32/layers.3")
    assert path == stand_in.cache / f"models--EleutherAI--sae-x32/snapshots/{COMMIT}/layers.3"


def test_what_belongs_to_one_sae(stand_in):
    run = ["run/config.json", "run/state.pt", "run/notes.json", "run/h.0/sae.safetensors", "run/h.1/sae.safetensors"]
    training = ["run/h.0/optimizer_0.pt", "run/h.0/trainer_state.pt", "run/h.0/picture.png"]
    put(stand_in, *run, *training, "run/h.0/cfg.json", "run/h.0/sparsity.safetensors", "run/h.0/deeper/x.safetensors")
    local("hf://owner/name/run/h.0")
    assert sorted(stand_in.fetched) == [
        "run/config.json",
        "run/h.0/cfg.json",
        "run/h.0/sae.safetensors",
        "run/h.0/sparsity.safetensors",
    ]


def test_one_file_and_the_json_beside_it(stand_in):
    put(stand_in, "layer0.sae.pt", "layer1.sae.pt", "layer2.sae.pt", "layer3.sae.pt", "config.json")
    assert local("hf://owner/name/layer1.sae.pt").name == "layer1.sae.pt"
    assert sorted(stand_in.fetched) == ["config.json", "layer1.sae.pt"]
    with pytest.raises(ValueError, match=r"has 4 weight files: add the name of one, such as hf://owner/name/layer0"):
        local("hf://owner/name")


def test_weights_of_a_run_in_its_folder_of_checkpoints(stand_in):
    put(stand_in, "L0R-8x/checkpoints/final.safetensors", "L0R-8x/hyperparams.json", "L0R-8x/lm_config.json")
    assert local("hf://owner/name/L0R-8x").name == "L0R-8x"
    assert len(stand_in.fetched) == 3
    with pytest.raises(ValueError, match="its folders do: give one of hf://owner/name/L0R-8x$"):
        local("hf://owner/name")


def test_the_root_of_a_repository(stand_in):
    put(stand_in, "sae_weights.safetensors", "cfg.json", "other/sae_weights.safetensors")
    assert local("hf://owner/name@v1").name == COMMIT
    assert sorted(stand_in.fetched) == ["cfg.json", "sae_weights.safetensors"]


def test_a_repository_of_many_lists_some(stand_in):
    put(stand_in, *(f"layer_{layer}/sae.safetensors" for layer in range(30)))
    with pytest.raises(ValueError, match=r"give one of hf://owner/name/layer_0, .*/layer_2, .*/layer_11 and 18 more"):
        local("hf://owner/name")
    with pytest.raises(ValueError, match=r"layer_99: there is no such SAE; owner/name has hf://owner/name/layer_"):
        local("hf://owner/name/layer_99")
    assert not stand_in.fetched
    put(stand_in, "README.md", repository="owner/empty")
    with pytest.raises(ValueError, match=r"owner/empty has no weight files \(\.safetensors"):
        local("hf://owner/empty")


def test_addresses():
    assert address_of("runs/x") is None
    assert address_of(Path("hf:/owner/name")) == Address("owner/name")
    pull_request = address_of("hf://owner/name@refs%2Fpr%2F1/a/b")
    assert (pull_request.revision, pull_request.path) == ("refs/pr/1", "a/b")
    assert str(address_of("hf://owner/name@v1/a")) == "hf://owner/name@v1/a"
    for wrong in ("hf://owner", "hf:owner/name", "hf://owner/name/../x"):
        with pytest.raises(ValueError, match=r"expected hf://owner/name\[@revision\]"):
            address_of(wrong)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (GatedRepoError, r"is gated: accept its terms at https://huggingface.co/owner/name, .* `hf auth login`"),
        (RepositoryNotFoundError, "the hub has no repository owner/name, or a private one"),
        (RevisionNotFoundError, "has no branch, tag or commit v9"),
        (ConnectionError, r"cannot be fetched, .* \(no\): .* without one copy its files into a folder"),
    ],
)
def test_the_hub_refuses(stand_in, kind, words):
    stand_in.error = raised(kind)
    with pytest.raises(ValueError, match=words):
        local("hf://owner/name@v9/layer_3")


def test_without_a_network_from_the_cache(stand_in):
    put(stand_in, "layer_3/sae.safetensors", "layer_3/cfg.json")
    fetched = local("hf://owner/name/layer_3")
    stand_in.error = ConnectionError("offline mode is enabled")
    assert local("hf://owner/name/layer_3") == local(f"hf://owner/name@{COMMIT}/layer_3") == fetched
    with pytest.raises(ValueError, match="layer_4: there is no such SAE; owner/name has hf://owner/name/layer_3"):
        local("hf://owner/name/layer_4")
    with pytest.raises(ValueError, match="the cache does not have it"):
        local("hf://owner/name@v1/layer_3")
    stand_in.error = raised(GatedRepoError)
    with pytest.raises(ValueError, match="is gated"):
        local("hf://owner/name/layer_3")


def test_offline_mode_of_the_hub_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match=r"hf://owner/name cannot be fetched, and the cache does not have it"):
        local("hf://owner/name")
    snapshot = tmp_path / f"models--owner--name/snapshots/{COMMIT}"
    snapshot.mkdir(parents=True)
    (snapshot / "sae.safetensors").write_text("")
    assert local(f"hf://owner/name@{COMMIT}") == snapshot


@pytest.fixture
def table(tmp_path, monkeypatch):
    """A sae_lens whose import is an error, with a table beside it."""
    package = tmp_path / "packages/sae_lens"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('sae_lens is not to be imported')")
    saes = [{"id": f"blocks.{i}.hook_resid_pre", "path": f"blocks.{i}.hook_resid_pre"} for i in range(3)]
    saes.append({"id": "layer_1/width_16k", "path": "layer_3"})
    releases = {"gpt2-small-res-jb": {"repo_id": "owner/name", "saes": saes}, "numbers": {"repo_id": "a/b", "saes": []}}
    (package / "pretrained_saes.yaml").write_text(json.dumps(releases))
    monkeypatch.syspath_prepend(str(package.parent))
    monkeypatch.delitem(sys.modules, "sae_lens", raising=False)


@pytest.mark.usefixtures("table")
def test_a_release_of_saelens(stand_in):
    put(stand_in, "blocks.1.hook_resid_pre/sae_weights.safetensors", "layer_3/sae.safetensors")
    assert local("gpt2-small-res-jb/blocks.1.hook_resid_pre").name == "blocks.1.hook_resid_pre"
    assert local(Path("gpt2-small-res-jb/layer_1/width_16k")).name == "layer_3"
    with pytest.raises(ValueError, match=r"no release gpt2-small-res: did you mean gpt2-small-res-jb\?"):
        local("gpt2-small-res/blocks.1.hook_resid_pre")
    with pytest.raises(ValueError, match=r"has no blocks\.9\.hook_resid_pre: did you mean blocks\.2"):
        local("gpt2-small-res-jb/blocks.9.hook_resid_pre")
    with pytest.raises(ValueError, match="runs/none does not exist, and SAELens' table has no release runs"):
        local("runs/none")


@pytest.mark.usefixtures("table")
def test_a_path_that_exists_is_no_release(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gpt2-small-res-jb/blocks.1.hook_resid_pre").mkdir(parents=True)
    assert local("gpt2-small-res-jb/blocks.1.hook_resid_pre") == Path("gpt2-small-res-jb/blocks.1.hook_resid_pre")


def test_without_saelens(monkeypatch):
    monkeypatch.setattr(saelens_table, "find_spec", lambda name: None)
    for where in ("gpt2-small-res-jb/blocks.1.hook_resid_pre", "none", "/none/there"):
        with pytest.raises(
            ValueError, match=r"does not exist: expected a folder .*hf://owner/name.* RELEASE/ID of SAEL"
        ):
            hub.local(where)
