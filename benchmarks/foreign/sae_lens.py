"""Write tests/formats/files/saelens: tiny SAEs of each architecture, trained and saved by SAELens' own code.

    python -m benchmarks.foreign.sae_lens [FOLDER]

needs the extra `bench`; the files that are kept were written with sae-lens 6.54.12, transformer-lens 3.9.0 and torch
2.13 on a CPU. Folders named `checkpoint_*` are training checkpoints, halfway; what is expected of these is what SAELens
computes after it has folded the scale of the input in and exported them.
"""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from sae_lens import SAE, TrainingSAE
from sae_lens.config import SAETrainerConfig
from sae_lens.registry import get_sae_class, get_sae_training_class
from sae_lens.saes.sae import SAEMetadata
from sae_lens.saes.topk_sae import TopKSAE, TopKSAEConfig
from sae_lens.training.activation_scaler import ActivationScaler
from sae_lens.training.sae_trainer import SAETrainer
from safetensors.torch import save_file
from torch import Tensor

D_IN, D_SAE, K, SAMPLES, BATCH, STEPS = 5, 12, 3, 16, 64, 60
SCALED = {"normalize_activations": "expected_average_only_in"}
BATCHTOPK = {"k": K, "topk_threshold_lr": 0.1}
MATRYOSHKA = {**BATCHTOPK, "matryoshka_widths": [3, 8]}
EXPORTS = {
    "standard": ("standard", {"l1_coefficient": 0.1}),
    "standard_scaled": ("standard", {"l1_coefficient": 0.1, "apply_b_dec_to_input": False, **SCALED}),
    "topk": ("topk", {"k": K}),
    "topk_layer_norm": ("topk", {"k": K, "normalize_activations": "layer_norm"}),
    "topk_constant_norm": ("topk", {"k": K, "normalize_activations": "constant_norm_rescale"}),
    "batchtopk": ("batchtopk", BATCHTOPK),
    "batchtopk_scaled": ("batchtopk", {**BATCHTOPK, **SCALED}),
    "batchtopk_norms_kept": ("batchtopk", {**BATCHTOPK, "rescale_acts_by_decoder_norm": False}),
    "matryoshka": ("matryoshka_batchtopk", MATRYOSHKA),
    "jumprelu": ("jumprelu", {"jumprelu_init_threshold": 0.3, "jumprelu_bandwidth": 1.0, "l0_coefficient": 0.1}),
    "gated": ("gated", {"l1_coefficient": 0.1, "apply_b_dec_to_input": False}),
}
"""Architecture and settings by folder."""
CHECKPOINTS = {
    "checkpoint_topk": ("topk", {"k": K, **SCALED}),
    "checkpoint_batchtopk": ("batchtopk", {**BATCHTOPK, **SCALED}),
    "checkpoint_batchtopk_norms_kept": ("batchtopk", {**BATCHTOPK, "rescale_acts_by_decoder_norm": False, **SCALED}),
    "checkpoint_matryoshka": ("matryoshka_batchtopk", {**MATRYOSHKA, **SCALED}),
    "checkpoint_jumprelu": (
        "jumprelu",
        {"jumprelu_init_threshold": 0.3, "jumprelu_bandwidth": 1.0, "l0_coefficient": 0.1, **SCALED},
    ),
    "checkpoint_gated": ("gated", {"l1_coefficient": 0.1, **SCALED}),
    "checkpoint_whitened": ("batchtopk", {**BATCHTOPK, "normalize_activations": "covariance_whitening"}),
    "checkpoint_whitened_gated": (
        "gated",
        {"l1_coefficient": 0.1, "apply_b_dec_to_input": False, "normalize_activations": "covariance_whitening"},
    ),
}
TRANSCODERS = ("transcoder", "skip_transcoder", "jumprelu_transcoder", "jumprelu_skip_transcoder")
D_OUT = 4
METADATA = {"model_name": "a/model", "model_class_name": "AutoModelForCausalLM", "hook_name": "model.layers.3"}
METADATA |= {"context_size": 64, "prepend_bos": True, "dataset_path": "a/dataset", "model_from_pretrained_kwargs": {}}


def activations(n: int) -> Tensor:
    """Return n activations with a mean, and norms of about 10."""
    return 4 * torch.randn(n, D_IN) + torch.tensor([3.0, -1.0, 2.0, 0.5, 1.0])


def batches() -> Iterator[Tensor]:
    """Yield batches without end."""
    while True:
        yield activations(BATCH)


def train(architecture: str, settings: dict, checkpoints: Path) -> TrainingSAE:
    """Train with SAELens' own trainer, from biases that are not zero."""
    sae_class, config_class = get_sae_training_class(architecture)
    metadata = SAEMetadata(**METADATA)
    sae = sae_class(config_class(d_in=D_IN, d_sae=D_SAE, metadata=metadata, decoder_init_norm=0.5, **settings))
    for name, parameter in sae.named_parameters():
        if parameter.dim() == 1 and name != "threshold":
            torch.nn.init.normal_(parameter, std=0.3)
    samples = BATCH * STEPS
    config = SAETrainerConfig(samples, BATCH, lr=0.01, lr_end=0.01, n_checkpoints=1, checkpoint_path=str(checkpoints))
    config.n_batches_for_norm_estimate = 5
    return SAETrainer(config, sae, batches()).fit()


@torch.no_grad()
def write_expected(sae: SAE, folder: Path) -> None:
    """Write activations, dense latents and reconstruction by the library's encode and decode."""
    x = activations(SAMPLES)
    latents = sae.encode(x)
    save_file({"x": x, "latents": latents, "reconstruction": sae.decode(latents)}, folder / "expected.safetensors")


def exported(checkpoint: Path, folder: Path) -> SAE:
    """Return a checkpoint as SAELens exports it."""
    sae = TrainingSAE.load_from_disk(checkpoint)
    scaler = ActivationScaler()
    scaler.load(checkpoint / "activation_scaler.json")
    if scaler.scaling_factor is not None:
        sae.fold_activation_norm_scaling_factor(scaler.scaling_factor)
    if scaler.whitening is not None:
        whitening = scaler.whitening
        sae.fold_activation_whitening(whitening.mean, whitening.matrix, whitening.inverse_matrix)
    sae.save_inference_model(folder)
    return SAE.load_from_disk(folder)


def write_rescaled(folder: Path) -> None:
    """Write an SAE that ranks latents by the norms of its decoder rows, which an export has folded in."""
    config = TopKSAEConfig(D_IN, D_SAE, k=K, rescale_acts_by_decoder_norm=True, metadata=SAEMetadata(**METADATA))
    sae = TopKSAE(config)
    for parameter in sae.parameters():
        torch.nn.init.normal_(parameter)
    sae.save_model(folder)
    write_expected(sae, folder)


@torch.no_grad()
def write_transcoder(architecture: str, folder: Path) -> None:
    """Write a transcoder with random weights, which SAELens does not train, and what its own forward computes."""
    sae_class, config_class = get_sae_class(architecture)
    metadata = SAEMetadata(**METADATA | {"hook_name": "model.layers.3.mlp.input", "hook_name_out": "model.layers.3"})
    transcoder = sae_class(
        config_class(d_in=D_IN, d_out=D_OUT, d_sae=D_SAE, apply_b_dec_to_input=False, metadata=metadata)
    )
    for name, parameter in transcoder.named_parameters():
        torch.nn.init.uniform_(parameter, 0.1, 1.0) if name == "threshold" else torch.nn.init.normal_(parameter)
    transcoder.save_model(folder)
    x = activations(SAMPLES)
    answer, latents = SAE.load_from_disk(folder).forward_with_activations(x)
    save_file({"x": x, "latents": latents, "reconstruction": answer}, folder / "expected.safetensors")


def main(root: Path) -> None:
    """Write a folder for each entry of EXPORTS, CHECKPOINTS and TRANSCODERS."""
    torch.manual_seed(0)
    for name, (architecture, settings) in (EXPORTS | CHECKPOINTS).items():
        with tempfile.TemporaryDirectory() as scratch:
            sae = train(architecture, settings, Path(scratch) / "checkpoints")
            if name in EXPORTS:
                sae.save_inference_model(root / name)
                write_expected(SAE.load_from_disk(root / name), root / name)
            else:
                [checkpoint] = (Path(scratch) / "checkpoints").iterdir()
                shutil.copytree(checkpoint, root / name, dirs_exist_ok=True)
                write_expected(exported(checkpoint, Path(scratch) / "export"), root / name)
    write_rescaled(root / "topk_rescaled")
    for architecture in TRANSCODERS:
        write_transcoder(architecture, root / architecture)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "tests/formats/files/saelens"))
