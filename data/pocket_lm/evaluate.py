# ruff: noqa: T201
"""Measure the pocket language model on text and sentence patterns that its training never saw.

Run ``python data/pocket_lm/evaluate.py``. It prints the held-out loss beside that of a unigram and a bigram model, the
share of facts that the model completes, the effect of swapping an entity inside the network, or one of its attributes,
and text that the model writes.
"""

import argparse
from collections import defaultdict
from pathlib import Path
from statistics import fmean

import torch
from edits import mean_edits
from measures import NgramModel, encode_documents, fact_accuracy, heldout_tokens, majority_accuracy, model_loss
from swaps import swap_pairs, swap_share
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from sae_lightning.pocket.corpus import PocketCorpus
from sae_lightning.pocket.facts import Entity, FactPrompt, fact_prompts, read_facts

FOLDER = Path(__file__).resolve().parent
EDITED_LAYER = 1
PROMPTS = ("", "def read_", "The module provides", "Nairobi is a city in", "Ada Corgorn works as a")


def write_sample(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt: str, seed: int = 0) -> str:
    """Sample a continuation of a prompt."""
    torch.manual_seed(seed)
    inputs = tokenizer(prompt, return_tensors="pt")
    new = model.generate(**inputs, max_new_tokens=90, do_sample=True, temperature=0.7, top_k=40)
    return tokenizer.decode(new[0], skip_special_tokens=True)


def _header(attributes: tuple[str, ...]) -> str:
    return f"| {' | '.join(attributes)} | mean |\n|---|" + "---|" * (len(attributes) + 1)


def _row(name: str, values: dict[str, float]) -> str:
    cells = [f"{value:.1%}" for value in values.values()]
    return f"| {name} | {' | '.join(cells)} | {sum(values.values()) / len(values):.1%} |"


def main() -> None:
    """Print every measured number of the model card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="folder of the model")
    parser.add_argument(
        "--facts",
        type=Path,
        nargs=2,
        default=(FOLDER / "facts.csv", FOLDER / "people.csv"),
        help="tables of cities and of people",
    )
    parser.add_argument("--most-tokens", type=int, default=200_000, help="held-out tokens of each kind")
    parser.add_argument("--pairs", type=int, default=100, help="pairs of entities to swap for each attribute and layer")
    args = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(args.folder)
    model = AutoModelForCausalLM.from_pretrained(args.folder, dtype=torch.float32).eval()
    tables = [read_facts(path) for path in args.facts]
    entities = [entity for table in tables for entity in table]
    print(f"parameters: {sum(value.numel() for value in model.parameters()):,}; entities: {len(entities)}")

    ngrams = NgramModel(encode_documents(tokenizer, PocketCorpus("train", args.facts)), len(tokenizer))
    print("\n| held-out text | tokens | unigram | bigram | this model |\n|---|---|---|---|---|")
    for name, tokens in heldout_tokens(tokenizer, entities, args.most_tokens).items():
        unigram, bigram = ngrams.losses(tokens)
        print(f"| {name} | {len(tokens):,} | {unigram:.3f} | {bigram:.3f} | {model_loss(model, tokens):.3f} |")

    for path, table in zip(args.facts, tables, strict=True):
        print_facts(model, tokenizer, table, args.pairs)
        attributes = table[0].kind.attributes
        print(f"\n| one attribute edited at layer {EDITED_LAYER} {_header(attributes)}")
        shares = mean_edits(args.folder, args.facts, path, EDITED_LAYER, 4 * args.pairs)
        print(_row("it takes the other value", {name: shares[name].cause for name in attributes}))
        print(_row("the other attributes keep theirs", {name: shares[name].isolation for name in attributes}))

    for prompt in PROMPTS:
        print(f"\n--- {prompt!r}\n{write_sample(model, tokenizer, prompt)}")


def print_facts(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, entities: list[Entity], n_pairs: int
) -> None:
    """Print which facts of a table the model completes, and which it completes after a swap."""
    attributes = entities[0].kind.attributes
    header = _header(attributes)
    prompts = fact_prompts(entities, "heldout")
    wordings: dict[tuple[str, str], list[FactPrompt]] = defaultdict(list)
    for prompt in prompts:
        wordings[prompt.attribute, prompt.prompt.replace(prompt.entity, "...")].append(prompt)
    shares = {wording: fact_accuracy(model, tokenizer, group)[wording[0]] for wording, group in wordings.items()}
    # Every wording is about every entity once, so that the mean over wordings is that over prompts.
    means = {name: fmean(share for (own, _), share in shares.items() if own == name) for name in attributes}
    print(f"\n| {len(prompts):,} held-out prompts {header}")
    print(_row("this model", means))
    print(_row("most frequent answer", majority_accuracy(entities)))
    weakest = min(shares, key=lambda wording: shares[wording])
    print(f"\nweakest of {len(shares)} held-out wordings: {weakest[1]!r} with {shares[weakest]:.1%}")

    pairs = swap_pairs(tokenizer, entities, "heldout", n_pairs, seed=0)
    print(f"\n| {len(pairs)} swaps, output of layer {header}")
    for layer in range(model.config.num_hidden_layers):
        print(_row(str(layer), swap_share(model, tokenizer, pairs, layer)))


if __name__ == "__main__":
    main()
