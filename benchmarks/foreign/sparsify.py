"""Write tests/formats/files/sparsify: a run of tiny sparse coders, trained and saved by sparsify's own code.

    python -m benchmarks.foreign.sparsify [FOLDER]

needs the extra `bench`; the files that are kept were written with eai-sparsify 1.3.3 and torch 2.13 on a CPU. Encode
and decode are called by themselves, in float32, since `forward` is in bfloat16 on a GPU; of transcoders that is called,
since it alone has the skip path. The decoder is the eager one, since that of Triton needs a GPU.
"""

import os
import sys
from pathlib import Path

os.environ["SPARSIFY_DISABLE_TRITON"] = "1"  # read when sparsify is imported

import torch
from safetensors.torch import save_file
from sparsify import SparseCoder, SparseCoderConfig
from sparsify.__main__ import RunConfig
from torch import Tensor

D_IN, D_SAE, K, SAMPLES, STEPS = 5, 12, 3, 64, 50
CODERS = {
    "layers.3.mlp": {"num_latents": D_SAE},
    "layers.10": {"num_latents": D_SAE, "normalize_decoder": False, "multi_topk": True},
    "h.0.attn/seed1": {"num_latents": 0, "expansion_factor": 3},
}
"""Arguments of SparseCoderConfig by folder."""
TRANSCODERS = {
    "layers.5.mlp": {"num_latents": D_SAE, "transcode": True},
    "layers.6.mlp": {"num_latents": D_SAE, "transcode": True, "skip_connection": True},
}


def train(coder: SparseCoder, x: Tensor) -> None:
    """Take some steps of the trainer's loss with Adam."""
    optimizer = torch.optim.Adam(coder.parameters(), lr=0.01)
    coder.b_dec.data = x.mean(0)
    for _ in range(STEPS):
        coder(x).fvu.backward()
        optimizer.step()
        optimizer.zero_grad()
        if coder.cfg.normalize_decoder:
            coder.set_decoder_norm_to_unit_norm()


@torch.no_grad()
def compute(coder: SparseCoder, x: Tensor) -> dict[str, Tensor]:
    """Return dense latents and reconstruction by the library's encode and decode."""
    code = coder.encode(x)
    latents = torch.zeros(len(x), coder.num_latents).scatter(1, code.top_indices, code.top_acts)
    return {"x": x, "latents": latents, "reconstruction": coder.decode(code.top_acts, code.top_indices)}


@torch.no_grad()
def write_transcoder(settings: dict, folder: Path) -> None:
    """Write a transcoder with random weights, and what the library's forward computes."""
    coder = SparseCoder(D_IN, SparseCoderConfig(k=K, **settings))
    for parameter in coder.parameters():
        torch.nn.init.normal_(parameter)
    coder.save_to_disk(folder)
    x = torch.randn(16, D_IN)
    answer = coder(x)
    latents = torch.zeros(len(x), coder.num_latents).scatter(1, answer.latent_indices, answer.latent_acts)
    save_file({"x": x, "latents": latents, "reconstruction": answer.sae_out}, folder / "expected.safetensors")


def main(root: Path) -> None:
    """Write a run with a folder a hookpoint."""
    torch.manual_seed(0)
    x = torch.randn(SAMPLES, D_IN) + torch.randn(D_IN)
    for name, settings in CODERS.items():
        coder = SparseCoder(D_IN, SparseCoderConfig(k=K, **settings))
        torch.nn.init.normal_(coder.encoder.bias, std=0.3)
        train(coder, x)
        coder.save_to_disk(root / name)
        save_file(compute(coder, x[:16]), root / name / "expected.safetensors")
    run = RunConfig(SparseCoderConfig(num_latents=D_SAE, k=K), model="a/model", dataset="a/dataset", ctx_len=64)
    run.hookpoints = [name.partition("/")[0] for name in CODERS]
    run.save_json(root / "config.json")
    for name, settings in TRANSCODERS.items():
        write_transcoder(settings, root / name)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "tests/formats/files/sparsify"))
