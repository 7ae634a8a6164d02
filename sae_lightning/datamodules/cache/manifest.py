"""`manifest.json` of a cache, and whether the shards are as it says.

While a cache is being written its manifest holds the settings and ``complete: false``; each finished shard has a small
file of its own beside it. After the last shard these become the manifest's list of shards.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from sae_lightning.class_paths import current_class_paths
from sae_lightning.datamodules.cache.storage import Folder
from sae_lightning.sources.gguf import gguf_file

MANIFEST = "manifest.json"
FORMAT, FORMAT_VERSION = "sae_lightning activations", 2
_READABLE_VERSIONS = (1, 2)  # 1 knows nothing of massive activations: all are there
DEFAULTS = {"class_path": "LanguageModelDataModule"}
"""Values of keys that the first caches do not have: these were all of language models."""
DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
"""Number formats of a cache, by their names in a safetensors header."""
OLD_DATA: dict[str, Any] = {"max_norm_ratio": None, "skip_first_positions": 0}
"""Values of arguments that the data of older caches do not have."""

_BLOCK = 2**22  # bytes that are hashed at once
_MAX_NAMED = 5  # damaged shards that an error names


@dataclass(frozen=True)
class Shard:
    """A file of consecutive rows.

    Args:
        file: its name.
        rows: rows of text, or images.
        tokens: activations, one for each valid position.
        bytes: size of the file.
        sha256: of the file.
        input_ids_sha256: of the tokens of the rows, or of the numbers of the images, int32.
        massive: valid positions whose activations were left out because they are massive.
    """

    file: str
    rows: int
    tokens: int
    bytes: int
    sha256: str
    input_ids_sha256: str
    massive: int = 0


@dataclass(frozen=True)
class Layout:
    """Where a shard's `activations` [tokens, d_in] are: `nbytes` bytes from byte `begin` of the file."""

    begin: int
    nbytes: int


def read_manifest(folder: Folder) -> dict[str, Any]:
    """Read the manifest of a complete cache.

    Raises:
        ValueError: if there is none, it cannot be read by this version, or the cache is not complete.
    """
    try:
        text = folder.read(MANIFEST)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ValueError(
            f"path={folder.url}: there is no {MANIFEST}; give the folder of a cache, or make it: "
            f"sae cache --config CONFIG.yaml --out {folder.url}"
        ) from error
    manifest = parse_manifest(text, folder.url)
    if not manifest["complete"]:
        n = len([name for name in folder.sizes() if name.endswith(".safetensors.json")])
        raise ValueError(
            f"path={folder.url}: the cache is not complete, {n} shards are there; continue with: {manifest['command']}"
        )
    return manifest


def parse_manifest(text: bytes, url: str) -> dict[str, Any]:
    """Parse a manifest, complete or not.

    Raises:
        ValueError: if the text is no manifest of this version.
    """
    try:
        manifest = current_class_paths(json.loads(text))
    except ValueError as error:
        raise ValueError(f"{url}/{MANIFEST}: expected JSON ({error}); make the cache again") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ValueError(f"{url}/{MANIFEST}: this is not the manifest of a cache of activations")
    if manifest["format_version"] not in _READABLE_VERSIONS:
        raise ValueError(
            f"{url}/{MANIFEST}: format_version={manifest['format_version']}, and this version of sae_lightning reads "
            f"1 to {FORMAT_VERSION}: make the cache again, or take the version that wrote it "
            f"({manifest.get('versions')})"
        )
    return manifest


def shards_of(manifest: dict[str, Any], split: str) -> list[Shard]:
    """Return the shards of "train" or "heldout", in the order of the text."""
    return [Shard(**entry) for entry in manifest["shards"] if entry["file"].startswith(split)]


def fingerprint(manifest: dict[str, Any]) -> str:
    """Return sixteen characters that differ between caches of different content."""
    hashes = "".join(entry["sha256"] for entry in manifest["shards"])
    return hashlib.sha256(hashes.encode()).hexdigest()[:16]


def check_shards(folder: Path, shards: Sequence[Shard], dtype: str, d_in: int, hashes: bool) -> None:
    """Check every shard: its size and header, or its whole content.

    Args:
        folder: where the shards are.
        shards: what the manifest says about them.
        dtype: name of their number format in torch.
        d_in: width of an activation.
        hashes: read all content and compare the sha256.

    Raises:
        ValueError: names the shards that are missing or damaged.
    """
    problem = partial(_problem, folder, dtype=dtype, d_in=d_in, hashes=hashes)
    with ThreadPoolExecutor(8) as threads:
        problems = [text for text in threads.map(problem, shards) if text]
    if problems:
        more = [f"... and {len(problems) - _MAX_NAMED} more"] if len(problems) > _MAX_NAMED else []
        first = f"path={folder}: {len(problems)} of {len(shards)} shards are damaged"
        raise ValueError(
            "\n  ".join([first, *problems[:_MAX_NAMED], *more])
            + "\nRemove these files and run the `sae cache` command of the cache again: it makes them anew."
        )


def _problem(folder: Path, shard: Shard, dtype: str, d_in: int, hashes: bool) -> str | None:
    """Describe what is wrong with a shard; None for a good one."""
    path = folder / shard.file
    if not path.is_file():
        return f"{shard.file} is missing"
    if (size := path.stat().st_size) != shard.bytes:
        return f"{shard.file} has {size} bytes, expected {shard.bytes}"
    try:
        layout(path, shard, dtype, d_in)
    except ValueError as error:
        return f"{shard.file}: {error}"
    if hashes and sha256(path) != shard.sha256:
        return f"{shard.file} has another content than when it was written (sha256)"
    return None


def layout(path: Path, shard: Shard, dtype: str, d_in: int) -> Layout:
    """Find the activations in a shard.

    Raises:
        ValueError: if the header is damaged, or contradicts the manifest.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > shard.bytes - 8:
            raise ValueError("its header is damaged")
        text = file.read(length)
    try:
        entry = json.loads(text)["activations"]
        shape, (begin, end) = entry["shape"], entry["data_offsets"]
        stored = DTYPES[entry["dtype"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError("its header is damaged") from error
    expected = getattr(torch, dtype)
    nbytes = shard.tokens * d_in * expected.itemsize
    if (shape, stored, end - begin) != ([shard.tokens, d_in], expected, nbytes) or 8 + length + end > shard.bytes:
        raise ValueError(f"it holds {entry}, expected {[shard.tokens, d_in]} of {dtype}")
    return Layout(8 + length + begin, nbytes)


def sha256(path: Path) -> str:
    """Return the sha256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def model_files(model: str) -> dict[str, str]:
    """Return the sha256 of config and weights of a local checkpoint by name; empty for a checkpoint on the hub."""
    folder, file = Path(model).expanduser(), gguf_file(model)
    patterns = ("config.json", "open_clip_config.json", "*.safetensors", "*.bin")
    files: Iterable[Path] = [file] if file else sorted(path for pattern in patterns for path in folder.glob(pattern))
    with ThreadPoolExecutor(8) as threads:
        return {path.name: digest for path, digest in zip(files, threads.map(sha256, files), strict=True)}
