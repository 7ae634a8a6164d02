"""A run that was killed, and goes on from its last checkpoint, ends with the bits of one that was not."""

import copy
import json
import signal

import pytest
import tiny
import tiny_clip
import torch
import yaml
from fit_in_server import fit, run
from safetensors.torch import load_file

LONE = {"class_path": "JumpReLU", "init_args": {"d_sae": 32, "lr_scheduler": "WarmupDecay", "scale_input": True}}
PANEL = {
    "class_path": "SanityPanel",
    "init_args": {
        "sae": {
            "class_path": "BatchTopK",
            "init_args": {"d_sae": 32, "k": 4, "scale_input": True, "dead_after_samples": 300},
        }
    },
}
SIZES = {"buffer_samples": 512, "batch_size": 32, "train_samples": 1280, "val_samples": 64}
DATA = {
    "stream": {
        "class_path": "LanguageModelDataModule",
        "init_args": {
            "model": "lm",
            "hook": "model.layers.0",
            "text": {"class_path": "FileText", "init_args": {"paths": "text.jsonl"}},
            "context_length": 16,
            "llm_batch_size": 4,
            **SIZES,
        },
    },
    "pictures": {
        "class_path": "ClipImages",
        "init_args": {
            "model": "clip",
            "hook": "visual.transformer.resblocks.0",
            "images": {"class_path": "ImageFolder", "init_args": {"folder": "pictures", "heldout_every": 4}},
            "images_per_forward": 4,
            **SIZES,
        },
    },
    "shuffled_cache": {"class_path": "CachedActivations", "init_args": {"path": "cache", **SIZES}},
    "cache_in_order": {"class_path": "CachedActivations", "init_args": {"path": "cache", "order": "stream", **SIZES}},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("resume")
    tiny.save_tiny_lm(folder / "lm")
    tiny_clip.save_tiny_clip(folder / "clip")
    tiny_clip.save_images(folder / "pictures")
    tiny.save_text(folder / "text.jsonl", 400)
    (folder / "data.yaml").write_text(yaml.safe_dump({"data": DATA["stream"]}))
    assert run(folder, "cache", "--config", "data.yaml", "--out", "cache") == [0]
    return folder


def same(name, whole, other):
    """Whether two states are equal to the bit; clocks and file names are left out."""
    if isinstance(whole, dict):
        assert list(whole) == list(other), name
        for key in whole:
            if key not in ("seconds", "dirpath", "best_model_path", "last_model_path", "kth_best_model_path"):
                same(f"{name}.{key}", whole[key], other[key])
    elif isinstance(whole, (list, tuple)):
        assert len(whole) == len(other), name
        for i, (a, b) in enumerate(zip(whole, other, strict=True)):
            same(f"{name}[{i}]", a, b)
    elif isinstance(whole, torch.Tensor):
        assert torch.equal(whole, other), name
    else:
        assert whole == other, name


def metrics(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def same_runs(whole, other):
    assert metrics(other) == metrics(whole)
    same("", *(torch.load(run / "checkpoints/last.ckpt", weights_only=True) for run in (whole, other)))


def trainer(ranks):
    often = {"class_path": "sae_lightning.callbacks.Checkpoints", "init_args": {"minutes": 0}}
    quiet = {"accelerator": "cpu", "enable_progress_bar": False, "log_every_n_steps": 5}
    parallel = {"strategy": "ddp", "devices": ranks} if ranks > 1 else {}
    return quiet | parallel | {"val_check_interval": 8 // ranks, "gradient_clip_val": 1.0, "callbacks": [often]}


@pytest.mark.parametrize(
    ("model", "data", "ranks", "kills"),
    [
        (LONE, "stream", 1, [{"step": 13}, {"step": 14, "while_saving": True}, {"step": 31}]),
        (PANEL, "cache_in_order", 1, [{"step": 34}]),
        (LONE, "stream", 2, [{"step": 11, "while_saving": True}]),
        (PANEL, "shuffled_cache", 2, [{"step": 8}]),
        (PANEL, "pictures", 2, [{"step": 8}]),
    ],
    ids=lambda value: None if isinstance(value, (dict, list)) else str(value),
)
def test_killed_and_resumed(folder, model, data, ranks, kills):
    (folder / "run.yaml").write_text(yaml.safe_dump({"model": model, "data": DATA[data], "trainer": trainer(ranks)}))
    runs = folder / "lightning_logs"
    name = f"{model['class_path']}-{data}-{ranks}"
    whole, killed = (runs / f"{name}-{what}" / "version_0" for what in ("whole", "killed"))

    assert fit(folder, "run.yaml", "--name", f"{name}-whole", ranks=ranks) == [0] * ranks
    arguments = ["run.yaml", "--name", f"{name}-killed"]
    for kill in kills:
        callback = ["--trainer.callbacks+=fit_in_server.Kill"]
        callback += [f"--trainer.callbacks.{key}={json.dumps(value)}" for key, value in kill.items()]
        codes = fit(folder, *arguments, *callback, ranks=ranks)
        assert codes[0] == -signal.SIGKILL
        assert 0 not in codes
        for checkpoint in (killed / "checkpoints").glob("*.ckpt"):
            torch.load(checkpoint, weights_only=True)
        arguments = [str(killed / "config.yaml"), "--ckpt_path", str(killed / "checkpoints/last.ckpt")]
        restore_config(killed / "config.yaml")
    assert fit(folder, *arguments, ranks=ranks) == [0] * ranks

    assert len(metrics(whole)) == 5
    same_runs(whole, killed)


def test_members_on_two_ranks_are_killed_and_go_on_on_one(folder):
    data = copy.deepcopy(DATA["shuffled_cache"])
    members = {"strategy": "members", "devices": 2, "val_check_interval": 4}
    config = {"model": PANEL, "data": data, "trainer": trainer(1) | members}
    (folder / "run.yaml").write_text(yaml.safe_dump(config))
    runs = folder / "lightning_logs"
    whole, killed = (runs / f"members-{what}" / "version_0" for what in ("whole", "killed"))
    alone = ["--trainer.strategy", "auto", "--trainer.devices", "1"]
    assert fit(folder, "run.yaml", "--name", "members-whole", *alone, "--data.batch_size", "64") == [0]

    stop = ["--trainer.callbacks+=fit_in_server.RaiseSignal", "--trainer.callbacks.name=SIGTERM"]
    codes = fit(folder, "run.yaml", "--name", "members-killed", *stop, ranks=2)
    assert codes == [128 + signal.SIGTERM] * 2
    restore_config(killed / "config.yaml")
    resumed = [str(killed / "config.yaml"), "--ckpt_path", str(killed / "checkpoints/interrupted.ckpt")]
    assert fit(folder, *resumed, *alone) == [0]

    lines, others = metrics(whole), metrics(killed)
    assert len(lines) == len(others) == 5
    for line, other in zip(lines, others, strict=True):
        assert (line["step"], line["samples"]) == (other["step"], other["samples"])
        assert values(other) == pytest.approx(values(line), rel=1e-5)
    for path in whole.glob("saes/*/*/sae.safetensors"):
        for name, tensor in load_file(path).items():
            torch.testing.assert_close(load_file(killed / path.relative_to(whole))[name], tensor, msg=f"{path} {name}")


@pytest.mark.parametrize("ranks", [1, 2])
def test_text_that_breaks_ends_the_run_with_a_checkpoint(folder, ranks):
    data = copy.deepcopy(DATA["stream"])
    data["init_args"]["text"]["class_path"] = "fit_in_server.Breaking"
    data["init_args"]["max_norm_ratio"] = None
    zero = {"class_path": "Zero"}  # with the ratio: so nothing is read before training
    model = {"class_path": "BatchTopK", "init_args": {"d_sae": 32, "k": 4, "b_dec_init": zero}}
    (folder / "run.yaml").write_text(yaml.safe_dump({"model": model, "data": data, "trainer": trainer(ranks)}))
    whole, broken = (folder / "lightning_logs" / f"{what}-{ranks}" / "version_0" for what in ("whole", "broken"))
    assert fit(folder, "run.yaml", "--name", f"whole-{ranks}", ranks=ranks) == [0] * ranks

    (folder / "broken").touch()
    assert fit(folder, "run.yaml", "--name", f"broken-{ranks}", ranks=ranks) == [1] * ranks
    (folder / "broken").unlink()
    assert f"rank {ranks - 1}: the network is gone" in (folder / f"output-{ranks - 1}.txt").read_text()
    checkpoint = broken / "checkpoints/interrupted.ckpt"
    assert 5 < torch.load(checkpoint, weights_only=True)["global_step"] < 40 // ranks
    assert fit(folder, str(broken / "config.yaml"), "--ckpt_path", str(checkpoint), ranks=ranks) == [0] * ranks
    same_runs(whole, broken)


def values(line):
    return {
        (tag, policy, seed): value
        for tag, policies in line["metrics"].items()
        for policy, seeds in policies.items()
        for seed, value in seeds.items()
    }


def restore_config(path):
    """Without the callback that kills."""
    config = yaml.safe_load(path.read_text())
    config["trainer"]["callbacks"].pop()
    path.write_text(yaml.safe_dump(config))
