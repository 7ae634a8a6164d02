"""Run folders written by hand, with settings as a command writes them."""

import copy
import json
from pathlib import Path
from typing import Any

import yaml

ADAM = {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.001, "betas": [0.9, 0.999]}}
SAE = {"class_path": "sae_lightning.saes.TopK", "init_args": {"k": 2, "init": None, "seed": 0, "optimizer": ADAM}}
DATA = {
    "class_path": "sae_lightning.datamodules.SyntheticDataModule",
    "init_args": {"d_in": 8, "batch_size": 16, "val_samples": 64, "nulls": None, "seed": 0},
}
TRAINER = {"max_steps": -1, "precision": None, "gradient_clip_val": None, "accumulate_grad_batches": 1}


def panel(seeds: tuple[int, ...] = (0, 1), **arguments: Any) -> dict[str, Any]:
    """Return settings of a panel, with arguments of it in place of the default ones."""
    init_args = {"sae": SAE, "policies": None, "inits": None, "seeds": list(seeds)} | arguments
    model = {"class_path": "sae_lightning.panel.SanityPanel", "init_args": init_args}
    return copy.deepcopy({"seed_everything": 0, "trainer": TRAINER, "model": model, "data": DATA, "freeze": None})


def lone(freeze: str = "", seed: int = 0, **arguments: Any) -> dict[str, Any]:
    """Return settings of an SAE alone, of a policy by its class."""
    settings = copy.deepcopy({"seed_everything": 0, "trainer": TRAINER, "model": SAE, "data": DATA, "freeze": None})
    settings["model"]["init_args"] |= {"seed": seed}
    if freeze:
        settings["freeze"] = {"class_path": f"sae_lightning.freeze.{freeze}", "init_args": arguments}
    return settings


def changed(settings: dict[str, Any], option: str, value: Any) -> dict[str, Any]:
    """Return other settings, one of them changed; None takes it away."""
    settings = copy.deepcopy(settings)
    *path, last = option.split(".")
    place = settings
    for name in path:
        place = place[name]
        place = place["init_args"] if "init_args" in place and name != "logger" else place
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return settings


def write(
    folder: Path,
    settings: dict[str, Any],
    metrics: dict[str, Any],
    prints: dict[str, str] | None = None,
    command: str = "fit",
    time: str = "2026-01-01T00:00:00+00:00",
    **line: Any,
) -> Path:
    """Write a run with one validation, with the fingerprints of its SAEs."""
    folder.mkdir(parents=True)
    about = {
        name: {"label": name, "question": {"name": "q", "text": "?", "order": 1}, "better": "higher"}
        for name in metrics
    }
    written = {
        "format": 2,
        "step": 10,
        "samples": 160,
        "seconds": 1.0,
        "metrics": metrics,
        "floors": {},
        "about": about,
    }
    written |= ({"saes": prints} if prints else {}) | line
    (folder / "metrics.jsonl").write_text(json.dumps(written) + "\n")
    (folder / "starts.jsonl").write_text(json.dumps({"time": time, "command": command, "devices": "1 x cpu"}) + "\n")
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    return folder


def values(*seeds: int, trained: float = 0.7, decoder: float = 0.6) -> dict[str, dict[str, float]]:
    """Return values of a panel of two, another one for each seed."""
    both = {"trained": trained, "frozen_decoder": decoder}
    return {policy: {str(seed): value + seed**2 / 100 for seed in seeds} for policy, value in both.items()}


def prints_of(*seeds: int, name: str = "") -> dict[str, str]:
    """Return the fingerprints of such a panel."""
    return {f"{policy}/{seed}": f"{name}{policy}{seed}" for policy in ("trained", "frozen_decoder") for seed in seeds}
