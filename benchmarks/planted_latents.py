"""Can a judge tell latents whose meaning is known?

    python -m benchmarks.planted_latents --tokenizer MODEL --text FILE... [--judge MODEL] [--n_judged 6]

The latents are planted: each fires, with random strength, on the tokens of one kind and nowhere else. Some kinds can be
seen in a token alone (a word, an ending, a class of characters), others only by who knows what words mean (family,
colours, negation). They go through the tasks of `AutoInterp`, and each judge explains and predicts as it would for an
SAE. Printed is the mean accuracy, chance 0.5, with a 95 % t interval over latents: of explanations of the judge's own,
and, where it reads words, of the true ones. A judge that guesses with the true one cannot judge; one that does so with
its own alone cannot explain.
"""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import t as student
from torch import Tensor
from typing_extensions import override

from sae_lightning.datamodules.packing import Packing
from sae_lightning.interpretation import Explanation, Interpretation, Judge, LexicalJudge, TransformersJudge, interpret
from sae_lightning.interpretation.excerpts import Example, Excerpt, Excerpts, token_texts
from sae_lightning.interpretation.firings import Counts, Firings
from sae_lightning.interpretation.tasks import InterpretationTask, TaskSettings, make_task
from sae_lightning.sources import TokenBatch

_CONTEXT, _LENGTH = 128, 32
_INTERPRETABLE = 0.7


@dataclass(frozen=True)
class Planted:
    """A kind of token on which a latent fires.

    Args:
        meaning: in words, as a perfect explanation would say it.
        fires: given the text of a token, with the space in front, and that of the token before it.
        is_seen: whether the characters of the token, or of the one before it, show it.
    """

    meaning: str
    fires: Callable[[str, str], bool]
    is_seen: bool


def planted_latents() -> list[Planted]:
    """Return the latents, those that characters show first."""
    seen = [
        Planted(f'the word "{word}"', _one_of(word), True) for word in ("but", "my", "little", "time", "never", "very")
    ]
    seen += [Planted(f"words ending in -{ending}", _ending(ending), True) for ending in ("ing", "ly", "ness")]
    seen += [
        Planted("words beginning with the letter W", lambda token, _: token[:2].lower() == " w", True),
        Planted("words beginning with the letter K", lambda token, _: token[:2].lower() == " k", True),
        Planted("exclamation marks", lambda token, _: "!" in token, True),
        Planted("question marks", lambda token, _: "?" in token, True),
        Planted("semicolons", lambda token, _: ";" in token, True),
        Planted('the word right after "of"', lambda token, before: before == " of" and token.strip().isalpha(), True),
        Planted('the word right after "I"', lambda token, before: before.strip() == "I", True),
    ]
    lists = {
        "members of a family, such as mother, brother or aunt": "mother father sister brother aunt uncle son daughter "
        "wife husband mamma papa cousin child children",
        "parts of the body, such as hand or eye": "hand hands eye eyes face head lips arm arms heart hair foot feet "
        "cheek brow mouth finger fingers neck",
        "colours": "white black red green blue brown grey yellow pink purple scarlet golden crimson silver",
        "words that deny something, such as not, no or never": "not no never nothing none nor nobody neither cannot",
        "times of day or of the week and year, such as morning or Sunday": "morning evening night day week year month "
        "afternoon summer winter spring autumn sunday monday hour hours minutes",
        "rooms and parts of a house, such as door or kitchen": "door room house window kitchen garden stairs table "
        "chair hall wall floor drawing fire parlour library",
        "feelings, such as fear or joy": "joy fear love hope anger pity sorrow pleasure happy sad grief despair pain "
        "delight ashamed afraid glad",
        "words about God and the church": "god church heaven soul prayer rector curate sermon bible christian sin holy "
        "religion angel",
    }
    return seen + [Planted(meaning, _one_of(*words.split()), False) for meaning, words in lists.items()]


def _one_of(*words: str) -> Callable[[str, str], bool]:
    chosen = frozenset(words)
    return lambda token, _: token.strip().lower() in chosen


def _ending(ending: str) -> Callable[[str, str], bool]:
    return lambda token, _: token.strip().isalpha() and token.endswith(ending) and len(token) > len(ending) + 2


def tasks_of(
    latents: Sequence[Planted], excerpts: Excerpts, settings: TaskSettings
) -> list[tuple[Planted, InterpretationTask]]:
    """Make the task of each latent that fires in enough texts."""
    ids, vocabulary = excerpts.ids.flatten(), excerpts.ids.unique().tolist()
    texts = dict(zip(vocabulary, token_texts(excerpts.tokenizer, vocabulary), strict=True))
    words = [texts[i] for i in ids.tolist()]
    # What stands before an excerpt is not shown to judges.
    before = ["" if i % excerpts.length == 0 else words[i - 1] for i in range(len(words))]
    strengths = torch.rand(len(ids), generator=torch.Generator().manual_seed(0)) + 0.5
    tasks = []
    for latent in latents:
        fires = torch.tensor([latent.fires(*pair) for pair in zip(words, before, strict=True)])
        counts, firings = _observed(fires, strengths, excerpts)
        if min(int(counts.shown), int(counts.judged)) >= settings.min_excerpts:
            tasks.append((latent, make_task(0, 0, counts, firings, excerpts, settings)))
    return tasks


def _observed(fires: Tensor, strengths: Tensor, excerpts: Excerpts) -> tuple[Counts, Firings]:
    positions = fires.nonzero()[:, 0]
    in_text = fires.view(len(excerpts), -1).any(1)
    counts = (fires.sum()[None], (in_text & excerpts.shown).sum()[None], (in_text & excerpts.judged).sum()[None])
    return Counts(*counts, len(fires)), Firings(positions, torch.zeros_like(positions), strengths[positions])


class Told(Judge):
    """A judge that is told the truth and only has to predict by it."""

    def __init__(self, judge: Judge, meaning: str) -> None:
        self.judged_by, self.meaning = judge, meaning

    @override
    def explain(self, shown: Sequence[Example], contrast: Sequence[Excerpt]) -> Explanation:
        return Explanation(self.meaning)

    @override
    def judge(self, explanation: Explanation, excerpts: Sequence[Excerpt]) -> Sequence[bool | None]:
        return self.judged_by.judge(explanation, excerpts)


def summary(results: Sequence[tuple[Planted, Interpretation]]) -> Mapping[str, str]:
    """Return accuracies as text, by what the latents are: of all, of those that characters show, of the others."""
    groups = {"all": [True, False], "seen in the token": [True], "by meaning": [False]}
    return {
        name: _interval([each.accuracy for latent, each in results if latent.is_seen in kinds])
        for name, kinds in groups.items()
    }


def _interval(accuracies: Sequence[float]) -> str:
    x = torch.tensor(accuracies, dtype=torch.float64)
    if len(x) < 2:
        return "too few latents"
    half = float(student.ppf(0.975, len(x) - 1) * x.std() / len(x) ** 0.5)
    above = float((x > _INTERPRETABLE).double().mean())
    return f"{x.mean():.3f} ± {half:.3f} ({len(x)} latents, {above:.0%} above {_INTERPRETABLE:g})"


def read_excerpts(paths: Sequence[str], tokenizer: Any, n_tokens: int) -> Excerpts:
    """Read the first tokens of some text files, of each as many, as excerpts of 32 tokens."""
    packing = Packing(tokenizer, _CONTEXT)
    rows = []
    for path in paths:
        own, _ = packing.cut(packing.tokenise([Path(path).read_text(encoding="utf-8")]))
        rows += own[: -(-n_tokens // _CONTEXT // len(paths))]
    ids = torch.from_numpy(np.stack(rows))
    return Excerpts(TokenBatch(ids, packing.mask(ids)), _LENGTH, tokenizer)


def main() -> None:
    """Print the accuracy of each judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", required=True, help="folder or name of a model whose tokens the latents read")
    parser.add_argument("--text", nargs="+", required=True, help="plain text files")
    parser.add_argument("--judge", help="instruction-tuned model that explains and judges, beside the lexical judge")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--n_tokens", type=int, default=60_000)
    parser.add_argument("--n_shown", type=int, default=10)
    parser.add_argument("--n_judged", type=int, default=6, help="texts that make a latent fire, and as many others")
    options = parser.parse_args()
    from sae_lightning.sources.checkpoint import load_tokenizer

    excerpts = read_excerpts(options.text, load_tokenizer(options.tokenizer), options.n_tokens)
    settings = TaskSettings(1, options.n_shown, options.n_judged, options.n_judged, 0.0)
    tasks = tasks_of(planted_latents(), excerpts, settings)
    judges: dict[str, Judge] = {"LexicalJudge": LexicalJudge()}
    if options.judge:
        judges[options.judge] = TransformersJudge(options.judge, dtype=options.dtype)
    for name, judge in judges.items():
        if not isinstance(judge, LexicalJudge):  # whose rules are no words
            told = [(latent, task, Told(judge, latent.meaning)) for latent, task in tasks]
            report(f"{name}, told the truth", told)
        report(name, [(latent, task, judge) for latent, task in tasks])


def report(name: str, judged: Sequence[tuple[Planted, InterpretationTask, Judge]]) -> None:
    """Print what a judge makes of each latent, and the means.

    Args:
        name: of the judge.
        judged: each latent with its task, and what explains and judges it.
    """
    begin, results = time.process_time(), list[tuple[Planted, Interpretation]]()
    for latent, task, judge in judged:
        result = interpret(judge, task)
        results.append((latent, result))
        print(f"  {result.accuracy:.2f}  {latent.meaning}  |  {result.explanation}", flush=True)
    n_lost = sum(result.n_not_understood for _, result in results)
    print(f"{name}: {time.process_time() - begin:.0f} s of processor, {n_lost} answers not understood")
    for group, text in summary(results).items():
        print(f"  {group}: {text}", flush=True)


if __name__ == "__main__":
    main()
