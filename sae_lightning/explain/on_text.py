"""Which latents of an SAE fire on a text of one's own, token by token."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from sae_lightning.code import Code
from sae_lightning.datamodules.text_reader import TextReader
from sae_lightning.evaluators.auto_interp import FILE_NAME
from sae_lightning.explain.logit_effects import TEXT_DATA
from sae_lightning.interpretation.excerpts import token_texts
from sae_lightning.interpretation.strongest import kept_lines
from sae_lightning.members import Member
from sae_lightning.runs import Run
from sae_lightning.saes.exported import ExportedSAEs


@dataclass(frozen=True)
class TokenLatents:
    """A token and what fires on it.

    Args:
        token: its text.
        is_read: False for special tokens and massive activations, which an SAE is not asked about.
        latents: numbers and activations of all that fire, the strongest first.
    """

    token: str
    is_read: bool
    latents: Sequence[tuple[int, float]]


@dataclass(frozen=True)
class TextLatent:
    """A latent that fires somewhere in the texts.

    Args:
        latent: its number.
        peak: largest activation.
        token: where.
        n_tokens: on how many it fires.
        frequency: share of held-out tokens on which it fires; None where that was not measured.
        explanation: what AutoInterp made of it; None where it did not look.
    """

    latent: int
    peak: float
    token: str
    n_tokens: int
    frequency: float | None
    explanation: str | None


@dataclass(frozen=True)
class TextExplanation:
    """What fires on some texts.

    Args:
        run: folder of the run.
        member: which of its SAEs.
        texts: token by token.
        latents: all that fire, those with the largest peak first.
    """

    run: str
    member: str
    texts: Sequence[Sequence[TokenLatents]]
    latents: Sequence[TextLatent]


@torch.no_grad()
def explain_text(run: Run, member: Member, texts: Sequence[str]) -> TextExplanation:
    """Read texts with the model of a run, and say which latents of an SAE fire on each token.

    Args:
        run: a finished run whose model reads text.
        member: which of its SAEs.
        texts: one or more; each is cut at the context length of the run.

    Raises:
        ValueError: if the data of the run have no text, the SAE is not there, or a text is empty.
    """
    if not texts or not all(text.strip() for text in texts):
        raise ValueError('--text is empty: expected the words to read, such as --text "The cat sat on the mat."')
    sae = run.load(member)
    datamodule = run.datamodule(TEXT_DATA)
    if datamodule is None:
        kinds = ", ".join(kind.__name__ for kind in TEXT_DATA)
        raise ValueError(f"--text: the data of {run.folder} have no text; expected those of {kinds}")
    datamodule.refuse_sae_of_others(sae, str(run.sae_folder(member)), member.part)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    datamodule.source.to(device)
    module = ExportedSAEs({member: sae}, datamodule.widths if member.part else {}, run.targets).to(device)
    reader = TextReader(datamodule)
    readings = reader.read(texts)
    explained: dict[int, list[TokenLatents]] = {}
    for which, activations, mask in reader.activations(readings):
        for number, x, valid in zip(which, activations, mask, strict=True):
            words = token_texts(reader.tokenizer, readings[number].input_ids.tolist())
            code = sae.encode(module.activations_for(member, x.to(device)))
            explained[number] = [
                TokenLatents(word, bool(is_read), _firing(code, place) if is_read else ())
                for place, (word, is_read) in enumerate(zip(words, valid.tolist(), strict=True))
            ]
    tokens = [explained.get(number, []) for number in range(len(texts))]
    return TextExplanation(str(run.folder), str(member), tokens, _strongest(run, member, tokens))


def _firing(code: Code, row: int) -> list[tuple[int, float]]:
    """Return what fires in a row, the strongest first."""
    entries = slice(int(code.offsets[row]), int(code.offsets[row + 1]))
    pairs = zip(code.indices[entries].tolist(), code.values[entries].tolist(), strict=True)
    return sorted(((latent, value) for latent, value in pairs if value > 0), key=lambda pair: (-pair[1], pair[0]))


def _strongest(run: Run, member: Member, texts: Sequence[Sequence[TokenLatents]]) -> list[TextLatent]:
    fired: dict[int, list[tuple[float, str]]] = {}
    for position in (position for text in texts for position in text):
        for latent, value in position.latents:
            fired.setdefault(latent, []).append((value, position.token))
    explanations = {
        line["latent"]: line["explanation"]
        for line in kept_lines(run.file(FILE_NAME))
        if Member.parse(line["member"]) == member
    }
    frequencies: Any = run.of_latents("firing_frequency", member)
    latents = []
    for latent, values in fired.items():
        peak, word = max(values)
        frequency = None if frequencies is None else float(frequencies[latent])
        latents.append(TextLatent(latent, peak, word, len(values), frequency, explanations.get(latent)))
    return sorted(latents, key=lambda one: (-one.peak, one.latent))
