# ruff: noqa: T201
"""Measure the pocket CLIP model on images that its training never saw.

Run ``python data/pocket_clip/evaluate.py``. It prints, for each attribute and beside chance, how often the model finds
the value of an image by comparing the image with prompts for each value (zero-shot).
"""

import argparse
from pathlib import Path

from build import load_model  # first: it makes sure that open_clip can be imported
from measures import zero_shot_hits

from sae_lightning.pocket import PocketImages

FOLDER = Path(__file__).resolve().parent


def main() -> None:
    """Print every measured number of the model card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="folder of the model")
    parser.add_argument("--scenes", type=int, default=20_000, help="scenes, of which one in ten is held out and used")
    args = parser.parse_args()
    model, preprocess, tokenizer = load_model(args.folder)
    images = PocketImages(args.scenes)
    numbers = images.numbers("heldout").tolist()
    print(f"parameters: {sum(value.numel() for value in model.parameters()):,}; words: {len(tokenizer.tokenizer)}")

    print("\n| attribute | images | values | chance | this model |\n|---|---|---|---|---|")
    for attribute, hits in zero_shot_hits(model, tokenizer, preprocess, images, numbers).items():
        n_values = len(images.values[attribute])
        print(f"| {attribute} | {len(hits):,} | {n_values} | {1 / n_values:.1%} | {hits.float().mean():.1%} |")


if __name__ == "__main__":
    main()
