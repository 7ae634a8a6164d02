"""SAEs of a language model that SAELens trains with its `SAETrainer` and saves, in its own format.

    pip install sae-lens==6.54.12
    python -m benchmarks.check.sae_lens CACHE OUT [NAME ...]

CACHE holds activations as in `benchmarks.check`; each NAME of SAES becomes OUT/saelens_NAME with `cfg.json` and
`sae_weights.safetensors`. Made with sae-lens 6.54.12, transformer-lens 3.9.0 and torch 2.13.0, one CPU core.

The trainer takes its activations from any iterator, so no model is loaded. Activations are scaled to a mean norm of
sqrt(d_in), and the scale folded in before saving, by its `expected_average_only_in`.
"""

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from sae_lens import SAE
from sae_lens.config import SAETrainerConfig
from sae_lens.registry import get_sae_training_class
from sae_lens.saes.sae import SAEMetadata
from sae_lens.training.sae_trainer import SAETrainer

from benchmarks.check.activations import CachedBatches

BATCH, D_SAE = 1024, 2304
SAES: dict[str, tuple[str, int, float, dict[str, Any]]] = {
    "batchtopk": ("batchtopk", 600, 1e-3, {"k": 32, "topk_threshold_lr": 0.01}),
    "jumprelu": (
        "jumprelu",
        250,
        2e-3,
        {
            "jumprelu_sparsity_loss_mode": "quadratic",
            "target_l0": 32.0,
            "l0_coefficient": 0.3,
            "l0_warm_up_steps": 100,
            "jumprelu_init_threshold": 2.0,
            "jumprelu_bandwidth": 0.5,
            "jumprelu_ste_to_input": True,
            "decoder_init_norm": 1.0,
        },
    ),
}
"""Architecture, steps, learning rate and settings by name."""


def metadata(batches: CachedBatches) -> SAEMetadata:
    """Return what SAELens writes of model and data."""
    data = batches.data
    return SAEMetadata(
        model_name=data["model"],
        model_class_name="AutoModelForCausalLM",
        hook_name=data["hook"],
        context_size=data["context_length"],
        prepend_bos=data["bos_in_every_row"],
        dataset_path=batches.text,
        model_from_pretrained_kwargs={},
    )


def write(name: str, batches: CachedBatches, folder: Path) -> None:
    """Train the SAE of this name and save it for inference."""
    architecture, steps, lr, settings = SAES[name]
    sae_class, config_class = get_sae_training_class(architecture)
    config = config_class(
        d_in=batches.d_in,
        d_sae=D_SAE,
        metadata=metadata(batches),
        normalize_activations="expected_average_only_in",
        **settings,
    )
    schedule = {"lr": lr, "lr_end": lr / 10, "lr_warm_up_steps": 20, "lr_decay_steps": 100}
    training = SAETrainerConfig(steps * batches.batch_size, batches.batch_size, **schedule)
    training.dead_feature_window = 100
    training.n_batches_for_norm_estimate = 50
    training.feature_sampling_window = 100  # the last steps, whose l0 the metadata keep
    start = time.monotonic()
    sae = SAETrainer(training, sae_class(config), iter(batches)).fit()
    sae.save_inference_model(folder)
    print(f"{folder}: {steps} steps of {batches.batch_size} in {time.monotonic() - start:.0f} s")
    print_quality(batches, folder)


def print_quality(batches: CachedBatches, folder: Path) -> None:
    """Print l0 and explained variance of training activations by the library's own code."""
    sae, x = SAE.load_from_disk(folder), batches.samples[:8192]
    latents = sae.encode(x).detach()
    error = (sae.decode(latents).detach() - x).pow(2).sum() / (x - x.mean(0)).pow(2).sum()
    stated = json.loads((folder / "cfg.json").read_text())["metadata"]["l0"]
    print(f"l0 {(latents != 0).sum(1).float().mean():.2f} (stated {stated:.2f}), explained variance {1 - error:.4f}")


def main(cache: Path, out: Path, names: list[str]) -> None:
    """Write those that are named, or all."""
    batches = CachedBatches(cache, BATCH)
    for name in names or SAES:
        folder = out / f"saelens_{name}"
        shutil.rmtree(folder, ignore_errors=True)
        write(name, batches, folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
