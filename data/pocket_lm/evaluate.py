# ruff: noqa: T201
"""Measure the pocket language model on text and sentence patterns that its training never saw.

Run ``python data/pocket_lm/evaluate.py``. It prints the held-out loss beside that of a unigram and a bigram model, the
share of facts that the model completes, the effect of swapping a city inside the network, and text that the model
writes.
"""

import argparse
from collections import defaultdict
from pathlib import Path

import torch
from measures import NgramModel, encode_documents, fact_accuracy, heldout_tokens, majority_accuracy, model_loss
from swaps import swap_pairs, swap_share
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from sae_lightning.pocket.corpus import PocketCorpus
from sae_lightning.pocket.fact_templates import ATTRIBUTES
from sae_lightning.pocket.facts import FactPrompt, fact_prompts, read_facts

FOLDER = Path(__file__).resolve().parent


def write_sample(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt: str, seed: int = 0) -> str:
    """Sample a continuation of a prompt."""
    torch.manual_seed(seed)
    inputs = tokenizer(prompt, return_tensors="pt")
    new = model.generate(**inputs, max_new_tokens=90, do_sample=True, temperature=0.7, top_k=40)
    return tokenizer.decode(new[0], skip_special_tokens=True)


def _row(name: str, values: dict[str, float]) -> str:
    cells = [f"{values[attribute]:.1%}" for attribute in ATTRIBUTES]
    return f"| {name} | {' | '.join(cells)} | {sum(values.values()) / len(values):.1%} |"


def main() -> None:
    """Print every measured number of the model card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="folder of the model")
    parser.add_argument("--facts", type=Path, default=FOLDER / "facts.csv", help="facts table")
    parser.add_argument("--most-tokens", type=int, default=200_000, help="held-out tokens of each kind")
    parser.add_argument("--pairs", type=int, default=100, help="pairs of cities to swap for each attribute and layer")
    args = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(args.folder)
    model = AutoModelForCausalLM.from_pretrained(args.folder, dtype=torch.float32).eval()
    facts = read_facts(args.facts)
    print(f"parameters: {sum(value.numel() for value in model.parameters()):,}; cities: {len(facts)}")

    ngrams = NgramModel(encode_documents(tokenizer, PocketCorpus("train", args.facts)), len(tokenizer))
    print("\n| held-out text | tokens | unigram | bigram | this model |\n|---|---|---|---|---|")
    for name, tokens in heldout_tokens(tokenizer, facts, args.most_tokens).items():
        unigram, bigram = ngrams.losses(tokens)
        print(f"| {name} | {len(tokens):,} | {unigram:.3f} | {bigram:.3f} | {model_loss(model, tokens):.3f} |")

    header = f"| {' | '.join(ATTRIBUTES)} | mean |\n|---|" + "---|" * (len(ATTRIBUTES) + 1)
    prompts = fact_prompts(facts, "heldout")
    print(f"\n| {len(prompts):,} held-out prompts {header}")
    print(_row("this model", fact_accuracy(model, tokenizer, prompts)))
    print(_row("most frequent answer", majority_accuracy(facts)))
    wordings: dict[str, list[FactPrompt]] = defaultdict(list)
    for prompt in prompts:
        wordings[prompt.prompt.replace(prompt.city, "...")].append(prompt)
    shares = {text: fact_accuracy(model, tokenizer, group)[group[0].attribute] for text, group in wordings.items()}
    weakest = min(shares, key=lambda text: shares[text])
    print(f"\nweakest of {len(shares)} held-out wordings: {weakest!r} with {shares[weakest]:.1%}")

    pairs = swap_pairs(tokenizer, facts, "heldout", args.pairs, seed=0)
    print(f"\n| {len(pairs)} swaps, output of layer {header}")
    for layer in range(model.config.num_hidden_layers):
        print(_row(str(layer), swap_share(model, tokenizer, pairs, layer)))

    for prompt in ("", "def read_", "The module provides", "Nairobi is a city in", "The currency used in Oslo is the"):
        print(f"\n--- {prompt!r}\n{write_sample(model, tokenizer, prompt)}")


if __name__ == "__main__":
    main()
