"""One transcoder of ours in the files of others, and one that must not beat its nulls.

    python -m benchmarks.check.transcoder_files RUN/saes/mlp_in/trained/0 OUT

The transcoder has one threshold, as a BatchTopK has, and both sides are of one width. Where one is published nothing
can be downloaded in every place, so its format is checked by files that are written here. Writes into OUT:

llama_scope: `hyperparams.json` and `checkpoints/final.safetensors`, with norms of the data that are not folded in.
    Its hooks have the names of TransformerLens: of what goes into an MLP the model of transformers has no such module.
gemma_scope_2: `config.json` and `params.safetensors`, with the affine path where the transcoder has a skip path.
saelens, or for a TopK of one width layers.N.mlp: as `sae export` writes them.
permuted: ours, with the decoder row of another latent for each.
"""

import json
import math
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from sae_lightning.controls import PermutedDecoder
from sae_lightning.formats import saelens
from sae_lightning.saes import SparseAutoencoder
from sae_lightning.saes.saving import to_stored

NORMS = {"in": 8.0, "out": 2.0}
"""Made up, and other than 1, so that reading has to fold them in."""


def block_of(sae: SparseAutoencoder) -> int:
    """Return the number of the block that a transcoder of ours is of."""
    numbers = [part for part in sae.provenance["target"]["hook"].split(".") if part.isdecimal()]
    return int(numbers[0])


def write_llama_scope(sae: SparseAutoencoder, folder: Path) -> None:
    """Write it in the format of Llama Scope, in which there is no skip path."""
    if sae.skip:
        raise ValueError("Llama Scope has no skip path: give a transcoder without one")
    (folder / "checkpoints").mkdir(parents=True)
    read, answered = (math.sqrt(sae.d_in) / NORMS[side] for side in ("in", "out"))
    tensors = {
        "encoder.weight": sae.W_enc.T / read,
        "encoder.bias": sae.b_enc,
        "decoder.weight": sae.W_dec.T * answered,
        "decoder.bias": sae.b_dec * answered,
    }
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "checkpoints/final.safetensors")
    block = f"blocks.{block_of(sae)}"
    config = {"d_model": sae.d_in, "d_sae": sae.d_sae, "act_fn": "jumprelu", "norm_activation": "dataset-wise"}
    config |= {"jump_relu_threshold": float(sae.threshold), "sparsity_include_decoder_norm": True}
    config |= {"dataset_average_activation_norm": NORMS, "use_decoder_bias": True}
    config |= {"hook_point_in": f"{block}.ln2.hook_normalized", "hook_point_out": f"{block}.hook_mlp_out"}
    (folder / "hyperparams.json").write_text(json.dumps(config))


def write_gemma_scope_2(sae: SparseAutoencoder, folder: Path) -> None:
    """Write it in the format of Gemma Scope 2."""
    folder.mkdir(parents=True)
    tensors = {"w_enc": sae.W_enc, "w_dec": sae.W_dec, "b_enc": sae.b_enc, "b_dec": sae.b_dec}
    tensors |= {"threshold": sae.threshold.expand(sae.d_sae)}
    tensors |= {"affine_skip_connection": sae.W_skip} if sae.W_skip is not None else {}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "params.safetensors")
    config = {"type": "transcoder", "architecture": "jump_relu", "width": sae.d_sae, "affine_connection": sae.skip}
    hooks = {"in": sae.provenance["activations"]["hook"], "out": sae.provenance["target"]["hook"]}
    config |= {f"hf_hook_point_{side}": f"{hook}.output" for side, hook in hooks.items()}
    (folder / "config.json").write_text(json.dumps(config))


def write_permuted(sae: SparseAutoencoder, folder: Path) -> None:
    """Write it as one of ours, with its decoder rows at other latents."""
    W_dec = sae.W_dec.detach()
    sae.W_dec.data = PermutedDecoder().changed(W_dec, torch.Generator().manual_seed(0))
    sae.save(folder)
    sae.W_dec.data = W_dec


@torch.no_grad()
def main(where: str, out: Path) -> None:
    """Write all that can express it."""
    sae = SparseAutoencoder.load(where)
    write_gemma_scope_2(sae, out / "gemma_scope_2")
    if not sae.skip:
        write_llama_scope(sae, out / "llama_scope")
    (out / "saelens").mkdir()
    saelens.write(to_stored(sae), out / "saelens")
    write_permuted(sae, out / "permuted")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
