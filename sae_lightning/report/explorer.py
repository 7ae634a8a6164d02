"""The latent explorer of the report: its data in compressed parts that the page opens one at a time.

A part is JSON, gzip and base64: ASCII without a "<", so that no text of a model or a corpus can end the element that
holds it. Each member has a part `index`, with what its list shows and searches, and parts of `CHUNK` latents with the
rest. Images lie in parts of their own, each of them once; examples name them by number. Parts are in the page, or in
files beside it: scripts that hand their text over, since a page that is opened from disk may load scripts but not read
files.
"""

import base64
import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sae_lightning.members import TRAINED, Style, policy_styles
from sae_lightning.report.latents import ShownLatents, ShownMember, examples_of, gather
from sae_lightning.report.marks import mark_of, styles_of
from sae_lightning.runs import Run

CHUNK = 200
"""Latents in a part."""
IMAGES = 50
"""Images in a part."""
FOLDER = "latents"
"""Where the files lie, in the folder of the page."""
_LISTED = ("latent", "frequency", "dead", "score", "explanation", "stability", "cosine_to_start", "tokens", "feature")
_IN_INDEX = frozenset(_LISTED)
_SHOWN = {"text": "texts", "image": "images"}


def explorer_of(
    run: Run, n_latents: int, split: Path | None, styles: Mapping[str, Style] | None = None
) -> dict[str, Any] | None:
    """Return what the template needs; None where there is nothing to show.

    Args:
        run: a finished run.
        n_latents: latents of each member at most; 0 for none.
        split: folder of the page, in which the folder `latents` with the parts is made; None puts them into the page.
        styles: of the page, by policy; None for those of the run.

    Raises:
        ValueError: if n_latents is negative.
    """
    if n_latents < 0:
        raise ValueError(f"--latents {n_latents}: expected 0 or more latents of each SAE")
    shown = gather(run, n_latents) if n_latents else None
    return None if shown is None else context_of(shown, split, styles or styles_of([run]))


def context_of(shown: ShownLatents, split: Path | None, styles: Mapping[str, Style] | None = None) -> dict[str, Any]:
    """Return the context of explorer.html.j2."""
    parts = {}
    for number, one in enumerate(shown.members):
        parts[f"{number}-index"] = pack(_index(one))
        for begin in range(0, len(one.latents), CHUNK):
            chunk = [_rest(record) for record in one.latents[begin : begin + CHUNK]]
            parts[f"{number}-{begin // CHUNK}"] = pack(chunk)
    numbers = sorted(shown.images)
    for begin in range(0, len(numbers), IMAGES):
        chunk = [dict(shown.images[number]) for number in numbers[begin : begin + IMAGES]]
        parts[f"images-{begin // IMAGES}"] = pack(chunk)
    if split is not None:
        (split / FOLDER).mkdir(parents=True, exist_ok=True)
        for name, packed in parts.items():
            (split / FOLDER / f"{name}.js").write_text(f'saeLatents("{name}", "{packed}");\n', encoding="ascii")
    styles = policy_styles(one.member.policy for one in shown.members) | dict(styles or {})
    members = [
        {
            "name": str(one.member),
            "policy": one.member.policy,
            "is_trained": one.member.policy == TRAINED or one.member.policy in shown.references,
            "marker": mark_of(one.member.policy, styles).character,
            "colour": mark_of(one.member.policy, styles).colour,
            "n": len(one.latents),
            "d_sae": one.d_sae,
            "n_firing": one.n_firing,
            "n_interpreted": one.n_interpreted,
        }
        for one in shown.members
    ]
    manifest = {
        "chunk": CHUNK,
        "folder": None if split is None else FOLDER,
        "unit": shown.unit,
        "members": members,
        "images": numbers,
        "images_in_part": IMAGES,
    }
    return {
        "manifest": pack(manifest),
        "parts": parts if split is None else {},
        "members": members,
        "unit": shown.unit,
        "n_read": shown.n_read,
        "n_images": shown.n_images,
        "problem": shown.problem,
        "shows": next((_SHOWN[example["type"]] for one in shown.members for example in examples_of(one.latents)), None),
    }


def pack(value: Any) -> str:
    """Return JSON in ASCII, lone surrogates escaped like other characters, in gzip and base64; the same each time."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode("ascii"), mtime=0)).decode("ascii")


def _index(member: ShownMember) -> dict[str, list[Any]]:
    """Return records by column, which is smaller than by latent; without the columns of which nothing is known."""
    columns = {name: [record.get(name) for record in member.latents] for name in _LISTED}
    columns["class"] = [record["stitched"][0]["class"] if record["stitched"] else None for record in member.latents]
    columns["meta"] = [
        [meta_latent[0] for meta_latent in record.get("meta", {}).get("latents", [])] for record in member.latents
    ]
    columns["shows"] = [1 if record["examples"] else None for record in member.latents]
    return {name: column for name, column in columns.items() if any(value not in (None, []) for value in column)}


def _rest(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in _IN_INDEX and value not in (None, [])}
