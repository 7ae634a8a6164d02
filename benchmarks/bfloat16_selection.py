"""How `--trainer.precision bf16-mixed` changes which latents a trained SAE selects: it encodes in bfloat16.

    python -m benchmarks.bfloat16_selection lightning_logs/sanity_pocket_lm/version_0/saes/trained/0

The SAE must read the second layer of the pocket language model, as the SAEs of `make demo` do.
"""

import argparse

import torch

from sae_lightning import cpu_settings
from sae_lightning.code import Code
from sae_lightning.datamodules import LanguageModelDataModule
from sae_lightning.kernels import top_k_per_row
from sae_lightning.pocket import PocketText
from sae_lightning.saes import SparseAutoencoder


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sae", help="folder of the SAE")
    parser.add_argument("--samples", type=int, default=16_384)
    arguments = parser.parse_args()
    cpu_settings.speed_up_cpu()
    sae = SparseAutoencoder.load(arguments.sae)
    data = LanguageModelDataModule("data/pocket_lm", "model.layers.1", PocketText(), dtype="float32")
    data.setup("fit")
    x = data.calibration_sample(arguments.samples)
    variance = (x - x.mean(0)).square().sum()
    for way in ("by the threshold", "32 largest of each sample"):
        codes = {}
        for dtype in (torch.float32, torch.bfloat16):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
                codes[dtype] = sae.encode(x) if way == "by the threshold" else top_k_per_row(sae.pre_acts(x), 32)
        exact, coarse = (positions(code) for code in codes.values())
        differ = len(exact) + len(coarse) - 2 * int(torch.isin(exact, coarse).sum())
        rows = torch.cat([exact[~torch.isin(exact, coarse)], coarse[~torch.isin(coarse, exact)]]) // sae.d_sae
        print(f"{way}: {differ / (len(exact) + len(coarse)):.2%} of the active latents are not the same,", end=" ")
        print(f"in {len(rows.unique()) / len(x):.1%} of the samples; explained variance", end=" ")
        print(*(f"{1 - float((x - sae.decode(code)).square().sum() / variance):.5f}" for code in codes.values()))


def positions(code: Code) -> torch.Tensor:
    """Return the positions of the latents that fired in the flattened [batch, d_sae]."""
    return (code.rows * code.d_sae + code.indices)[code.values > 0]


if __name__ == "__main__":
    main()
