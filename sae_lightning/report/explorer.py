"""The latent explorer of the report: its data in compressed parts that the page opens one at a time.

A part is JSON, gzip and base64: ASCII without a "<", so that no text of a model or a corpus can end the element that
holds it. Each member has a part `index`, with what its list shows and searches, and parts of `CHUNK` latents with the
rest. Pictures lie in parts of their own, each of them once; examples name them by number. Parts are in the page, or in
files beside it: scripts that hand their text over, since a page that is opened from disk may load scripts but not read
files.
"""

import base64
import gzip
import json
from pathlib import Path
from typing import Any

from sae_lightning.report.latents import Gathered, Member, examples_of, gather

CHUNK = 200
"""Latents in a part."""
PICTURES = 50
"""Pictures in a part."""
FOLDER = "latents"
"""Where the files lie, in the folder of the page."""
_LISTED = ("latent", "frequency", "dead", "score", "explanation", "cosine_to_start", "tokens", "feature")
_IN_INDEX = frozenset(_LISTED)
_SHOWN = {"text": "texts", "image": "pictures"}


def explorer_of(run: Path, n_latents: int, split: Path | None) -> dict[str, Any] | None:
    """What the template needs; None where there is nothing to show.

    Args:
        run: run folder.
        n_latents: latents of each member at most; 0 for none.
        split: folder of the page, in which the folder `latents` with the parts is made; None puts them into the page.

    Raises:
        ValueError: if n_latents is negative.
    """
    if n_latents < 0:
        raise ValueError(f"--latents {n_latents}: expected 0 or more latents of each SAE")
    found = gather(run, n_latents) if n_latents else None
    return None if found is None else context_of(found, split)


def context_of(found: Gathered, split: Path | None) -> dict[str, Any]:
    """The context of explorer.html.j2."""
    parts = {}
    for number, member in enumerate(found.members):
        parts[f"{number}-index"] = pack(_index(member))
        for begin in range(0, len(member.latents), CHUNK):
            chunk = [_rest(record) for record in member.latents[begin : begin + CHUNK]]
            parts[f"{number}-{begin // CHUNK}"] = pack(chunk)
    pictures = sorted(found.pictures)
    for begin in range(0, len(pictures), PICTURES):
        chunk = [dict(found.pictures[number]) for number in pictures[begin : begin + PICTURES]]
        parts[f"pictures-{begin // PICTURES}"] = pack(chunk)
    if split is not None:
        (split / FOLDER).mkdir(parents=True, exist_ok=True)
        for name, packed in parts.items():
            (split / FOLDER / f"{name}.js").write_text(f'saeLatents("{name}", "{packed}");\n', encoding="ascii")
    members = [
        {
            "name": member.name,
            "n": len(member.latents),
            "d_sae": member.d_sae,
            "n_firing": member.n_firing,
            "n_interpreted": member.n_interpreted,
        }
        for member in found.members
    ]
    manifest = {
        "chunk": CHUNK,
        "folder": None if split is None else FOLDER,
        "unit": found.unit,
        "members": members,
        "pictures": pictures,
        "pictures_in_part": PICTURES,
    }
    return {
        "manifest": pack(manifest),
        "parts": parts if split is None else {},
        "members": members,
        "unit": found.unit,
        "n_read": found.n_read,
        "n_pictures": found.n_pictures,
        "problem": found.problem,
        "shows": next((_SHOWN[of["type"]] for member in found.members for of in examples_of(member.latents)), None),
    }


def pack(value: Any) -> str:
    """JSON in ASCII, lone surrogates escaped like other characters, in gzip and base64; the same each time."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode("ascii"), mtime=0)).decode("ascii")


def _index(member: Member) -> dict[str, list[Any]]:
    """By column, which is smaller than by latent; without the columns of which nothing is known."""
    columns = {name: [record.get(name) for record in member.latents] for name in _LISTED}
    columns["class"] = [record["stitched"][0]["class"] if record["stitched"] else None for record in member.latents]
    columns["meta"] = [[of[0] for of in record.get("meta", {}).get("latents", [])] for record in member.latents]
    columns["shows"] = [1 if record["examples"] else None for record in member.latents]
    return {name: column for name, column in columns.items() if any(value not in (None, []) for value in column)}


def _rest(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in _IN_INDEX and value not in (None, [])}
