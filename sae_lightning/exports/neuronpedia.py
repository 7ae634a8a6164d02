"""What latents do on text, as Neuronpedia takes it: batches of features for ``POST /api/feature/upload-batch``.

    {"modelId", "source", "features": [{"index", "density", "topLogits", "bottomLogits", "explanations": [{"text"}],
     "activations": [{"tokens", "values", "quantileMin", "quantileMax", "quantileFraction"}]}]}

A file is the body of one request: 1 to 128 features, each with at least one activation of at most 1024 tokens, no
token empty, explanations of at most 512 characters, at most 20 logits {"token", "value"} at either end. These are the
names that Neuronpedia's client sends and its server checks; `source` is LAYER-SET, both lower case, and model and set
have to exist there before the upload.

The first activations of a feature are those of the excerpts on which it fires most strongly, without quantiles; then
come some of each quarter of all excerpts on which it fires, with the smallest and the largest peak of that quarter and
its share. `explanations` leave out method and model, since Neuronpedia takes only those that it knows.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from sae_lightning.explain.logit_effects import direct_logit_effects
from sae_lightning.interpretation.excerpts import Example
from sae_lightning.members import Member
from sae_lightning.report.examples import AnyExample
from sae_lightning.report.held_out import N_QUARTERS, Behaviour, HeldOutText
from sae_lightning.saes.base import SparseAutoencoder
from sae_lightning.saes.exported import ExportedSAEs
from sae_lightning.whole_files import write_whole

NAME, TITLE = "neuronpedia", "Neuronpedia"
FEATURES_IN_BATCH = 128
_N_LOGITS = 20
_N_TOP, _N_OF_QUARTER = 20, 5
_LONGEST_EXPLANATION = 512
_NO_TEXT = "\N{REPLACEMENT CHARACTER}"
"""In place of a token without text of its own, such as a part of a character: no token may be empty."""


@dataclass(frozen=True)
class Place:
    """Where on Neuronpedia the features belong.

    Args:
        model_id: the model there.
        source: LAYER-SET.
    """

    model_id: str
    source: str


def place_of(datamodule: Any, part: str, model_id: str | None, source: str | None) -> Place:
    """Return where the features belong, by default after the last part of the model's name and the number of the block.

    Raises:
        ValueError: if the hook does not say which block it is in, or what is given cannot be a name there.
    """
    if source is not None:
        check_source(source)
    described = datamodule.describe_activations()[part]
    model = model_id or str(described["model"]).rstrip("/").split("/")[-1].lower()
    if source is None:
        numbers = re.findall(r"(?<=\.)\d+(?=\.|$)", str(described["hook"]))
        if len(numbers) != 1:
            raise ValueError(
                f"the hook {described['hook']} does not say the number of its block: give --source LAYER-SET, such as "
                "6-sae-lightning"
            )
        source = f"{numbers[0]}-sae-lightning"
    return Place(model.lower(), source.lower())


def check_source(source: str) -> None:
    """Raise a `ValueError` if this cannot be the name of an SAE there."""
    if not re.fullmatch(r"\d+-.+", source):
        raise ValueError(f"--source {source}: expected LAYER-SET, such as 6-sae-lightning")


def latent_numbers(text: str) -> tuple[list[int], bool]:
    """Read which latents to write: a number for the first so many, a list such as 3,17 for these.

    Returns:
        The numbers, each once; and whether it is one for the first so many.

    Raises:
        ValueError: if the text is neither.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts if part) or not any(parts):
        raise ValueError(f"--latents {text}: expected how many, such as 200, or which, such as 3,17")
    numbers = list(dict.fromkeys(int(part) for part in parts if part))
    if len(parts) == 1 and numbers[0] < 1:
        raise ValueError(f"--latents {text}: expected 1 or more; for latent {text} alone write {text},")
    return numbers, len(parts) == 1


def choose(text: str | None, live: Sequence[int], d_sae: int) -> tuple[list[int], list[int]]:
    """Return which latents to write, and which of those that were asked for never fire.

    Args:
        text: as `latent_numbers` reads it; None for all.
        live: those that fire.
        d_sae: number of latents.

    Raises:
        ValueError: if it is neither, or there is no such latent.
    """
    if text is None:
        return list(live), []
    numbers, is_count = latent_numbers(text)
    if is_count:
        return list(live[: numbers[0]]), []
    if unknown := [number for number in numbers if number >= d_sae]:
        raise ValueError(f"--latents: the SAE has {d_sae} latents, from 0 to {d_sae - 1}, and no {unknown[0]}")
    fires = set(live)
    return [number for number in numbers if number in fires], [number for number in numbers if number not in fires]


@torch.no_grad()
def write_batches(
    datamodule: Any,
    sae: SparseAutoencoder,
    member: Member,
    folder: Path,
    *,
    place: Place,
    latents: str | None,
    n_tokens: int,
    explanations: Mapping[int, str],
) -> tuple[list[Path], list[str]]:
    """Write batches of features.

    Args:
        datamodule: whose source reads text.
        sae: on the source's device.
        member: under what name, with the part of the activations that it reads.
        folder: for the files.
        place: where they belong.
        latents: which, see `choose`.
        n_tokens: most held-out tokens to read, twice.
        explanations: by latent.

    Returns:
        The files, and what is to be said of them.

    Raises:
        ValueError: if none of the latents fires.
    """
    module = ExportedSAEs({member: sae}, datamodule.widths if member.part else {}).to(datamodule.source.device)
    text = HeldOutText(datamodule, module, n_tokens, _N_TOP, _N_OF_QUARTER)
    counts = text.codes.count()[member]
    live = ((counts.shown + counts.judged) > 0).nonzero()[:, 0].tolist()
    chosen, silent = choose(latents, live, sae.d_sae)
    if not chosen:
        raise ValueError(
            f"none of the latents fires in the {counts.n_tokens} tokens that were read: give more --n_tokens, or other "
            "--latents"
        )
    behaviours = text.each_behaviour({member: chosen})[member]
    frequency = counts.frequency
    files = []
    for number, batch in enumerate(_batches(chosen)):
        effects = direct_logit_effects(datamodule, sae.W_dec.detach()[batch], _N_LOGITS)
        logits = [None] * len(batch) if effects is None else effects
        features = [
            _feature(latent, float(frequency[latent]), behaviour, logits[i], explanations.get(latent))
            for i, (latent, behaviour) in enumerate(zip(batch, islice(behaviours, len(batch)), strict=True))
        ]
        body = {"modelId": place.model_id, "source": place.source, "features": features}
        files.append(folder / f"batch-{number:04d}.json")
        write_whole(files[-1], json.dumps(body, allow_nan=False) + "\n")
    said = [f"{len(chosen)} of {sae.d_sae} latents, read on {counts.n_tokens} tokens; {len(live)} fire there"]
    if silent:
        said.append(f"left out, since they never fire there: {', '.join(map(str, silent))}")
    if effects is None:
        said.append("no logits: the hook is not in the residual stream, or the model has no head")
    n_explained = sum(latent in explanations for latent in chosen)
    said.append(
        f"{n_explained} of them have an explanation" + ("" if n_explained else ", which AutoInterp would leave")
    )
    return files, said


def _batches(latents: Sequence[int]) -> Iterator[list[int]]:
    for begin in range(0, len(latents), FEATURES_IN_BATCH):
        yield list(latents[begin : begin + FEATURES_IN_BATCH])


def _feature(
    latent: int,
    frequency: float,
    behaviour: Behaviour,
    effects: Mapping[str, Sequence[tuple[str, float]]] | None,
    explanation: str | None,
) -> dict[str, Any]:
    feature: dict[str, Any] = {"index": latent, "density": _short(frequency)}
    if effects is not None:
        for name, kind in (("topLogits", "promoted"), ("bottomLogits", "suppressed")):
            feature[name] = [{"token": token or _NO_TEXT, "value": _short(value)} for token, value in effects[kind]]
    feature["explanations"] = [{"text": explanation[:_LONGEST_EXPLANATION]}] if explanation else []
    feature["activations"] = list(_activations(behaviour))
    return feature


def _activations(behaviour: Behaviour) -> Iterator[dict[str, Any]]:
    """Yield the strongest examples, then those of each quarter that are not among them."""
    yield from map(_activation, behaviour.top)
    ranked = behaviour.strengths.sort(descending=True).values.tensor_split(N_QUARTERS)
    for examples, strengths in zip(behaviour.quarters, ranked, strict=False):
        quantile = {
            "quantileMin": _short(strengths.min()),
            "quantileMax": _short(strengths.max()),
            "quantileFraction": _short(len(strengths) / len(behaviour.strengths)),
        }
        yield from (_activation(example) | quantile for example in examples if example not in behaviour.top)


def _activation(example: AnyExample) -> dict[str, Any]:
    assert isinstance(example, Example), "of text"
    return {
        "tokens": [token or _NO_TEXT for token in example.excerpt.tokens],
        "values": [_short(activation) for activation in example.activations],
    }


def _short(value: Any) -> float:  # noqa: ANN401
    return float(f"{float(value):.4g}")
