"""How evenly BatchTopK spreads its latents over tokens, and how much the norms of tokens differ.

Run with:  python -m benchmarks.smollm2.latents_per_token RUN

RUN is a run of configs/experiment/sanity_smollm2.yaml. It reads 32,768 tokens of the first file of the cache in random
order, and selects latents as in training, from batches of 1024.
"""

import argparse
from pathlib import Path

import torch
from safetensors.torch import load_file

from sae_lightning.saes import SparseAutoencoder

CACHE = Path("data/cache/smollm2/activations/train-00000.safetensors")
SHARES = torch.tensor([0.01, 0.1, 0.5, 0.9, 0.99])


def tokens() -> torch.Tensor:
    """Return activations [n, d_in]; massive ones are not in the cache."""
    x = load_file(CACHE)["activations"].float()
    return x[torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:32_768]]


def main() -> None:
    """Print quantiles of norms, and of the number of latents of a token for each policy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    run, x = parser.parse_args().run, tokens()
    print("quantiles", SHARES.tolist())
    print("norm", torch.quantile(x.norm(dim=1), SHARES).round().tolist())
    for folder in sorted((run / "saes").glob("*/0")):
        sae = SparseAutoencoder.load(folder).train()
        with torch.no_grad():
            counts = torch.cat([sae.encode(batch).offsets.diff() for batch in x.split(1024)])
        print(folder.parent.name, torch.quantile(counts.float(), SHARES).round().tolist())


if __name__ == "__main__":
    main()
