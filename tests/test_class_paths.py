"""Files of older runs name classes where these were then."""

import json
import pkgutil
from inspect import signature

import jsonargparse
import pytest
import yaml

from sae_lightning import class_paths
from sae_lightning.commands.data_options import add_data, parse_data
from sae_lightning.commands.fit import SAECLI
from sae_lightning.datamodules.cache.manifest import FORMAT, FORMAT_VERSION, parse_manifest
from sae_lightning.pocket import PocketText
from sae_lightning.runs import Run

TEXT = {"class_path": "sae_lightning.datamodules.PocketText", "init_args": {"seed": 3}}
DATA = {
    "class_path": "sae_lightning.datamodules.LanguageModelDataModule",
    "init_args": {"model": "data/pocket_lm", "hook": "model.layers.1", "text": TEXT},
}


@pytest.mark.parametrize(("old", "new"), class_paths._MOVED.items())
def test_every_class_is_where_it_is_said_to_be(old, new):
    assert pkgutil.resolve_name(new).__name__ == old.rsplit(".")[-1]
    with pytest.raises(AttributeError):
        pkgutil.resolve_name(old)


@pytest.mark.parametrize(("old", "new"), class_paths._RENAMED.items())
def test_a_class_with_another_name_is_found(old, new):
    assert pkgutil.resolve_name(new)
    with pytest.raises(AttributeError):
        pkgutil.resolve_name(old)


@pytest.mark.parametrize(("path", "names"), class_paths._RENAMED_ARGUMENTS.items())
def test_arguments_have_the_names_of_today(path, names):
    arguments = signature(pkgutil.resolve_name(path)).parameters
    assert set(names.values()) <= arguments.keys()
    assert not set(names) & arguments.keys()


@pytest.fixture
def config(tmp_path):
    task = {"class_path": "sae_lightning.probing.PythonTokens"}
    probing = {"class_path": "sae_lightning.evaluators.SparseProbing", "init_args": {"tasks": [task]}}
    images = {"class_path": "sae_lightning.evaluators.LatentPictures", "init_args": {"n_pictures": 7, "n_each": 2}}
    model = {"class_path": "sae_lightning.saes.TopK", "init_args": {"k": 2, "d_sae": 8}}
    (tmp_path / "config.yaml").write_text(
        yaml.safe_dump({"data": DATA, "model": model, "trainer": {"callbacks": [probing, images]}})
    )
    return tmp_path / "config.yaml"


def test_commands_on_the_data_of_an_old_run(config):
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    add_data(parser)
    text = parse_data(parser, [f"--config={config}"]).data.init_args.text
    assert (text.class_path, text.init_args.seed) == ("sae_lightning.pocket.PocketText", 3)
    assert isinstance(Run(config.parent).datamodule().text, PocketText)


def test_an_old_run_goes_on(config, capsys):
    with pytest.raises(SystemExit) as stop:
        SAECLI(["fit", f"--config={config}", "--print_config"])
    assert stop.value.code == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["data"]["init_args"]["text"]["class_path"] == "sae_lightning.pocket.PocketText"
    probing, images = printed["trainer"]["callbacks"]
    assert probing["init_args"]["tasks"][0]["class_path"] == "sae_lightning.pocket.PythonTokens"
    assert images["class_path"] == "sae_lightning.evaluators.LatentImages"
    assert (images["init_args"]["n_images"], images["init_args"]["n_each"]) == (7, 2)


def test_the_manifest_of_an_old_cache():
    manifest = {"format": FORMAT, "format_version": FORMAT_VERSION, "complete": True, "data": {"text": TEXT}}
    read = parse_manifest(json.dumps(manifest).encode(), "cache")
    assert pkgutil.resolve_name(read["data"]["text"]["class_path"]) is PocketText
