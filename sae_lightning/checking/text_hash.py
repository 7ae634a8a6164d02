"""Which text a check has read, as hashes: two checks of the same text can stand side by side.

The hash of the *source* is the same for every model. That of the *rows* depends on the tokenizer and on how much was
read.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from sae_lightning.datamodules import ActivationDataModule, ActivationFiles, FileText, HubText
from sae_lightning.datamodules.cache.manifest import sha256
from sae_lightning.datamodules.text import Text
from sae_lightning.datamodules.text_activations import TextActivations
from sae_lightning.provenance import describe
from sae_lightning.sources.tokens import TokenBatch


def text_of(datamodule: ActivationDataModule, n_tokens: int) -> dict[str, Any]:
    """Return the names of the files of the text, the SHA-256 of the source, and that of the held-out rows.

    Activations of which the text is not known, as those of a cache or in files, have the hash of their rows for both.

    Args:
        datamodule: of the check.
        n_tokens: held-out activations that are measured on.
    """
    if isinstance(datamodule, ActivationFiles):
        read = _activations_sha256(datamodule)
        return {"files": [path.name for path in datamodule.rows.files], "sha256": read, "rows_sha256": read}
    rows = _rows_sha256(datamodule, n_tokens)
    text = datamodule.text if isinstance(datamodule, TextActivations) else None
    files = _files(text) if isinstance(text, FileText) else []
    return {
        "files": [path.name for path in files],
        "sha256": rows if text is None else source_sha256(text),
        "rows_sha256": rows,
    }


def source_sha256(text: Text) -> str:
    """Return the SHA-256 of what a text is read from: of contents, not of names, where it is in files of the user's.

    Args:
        text: files by their contents in order, one file by its own hash; a dataset of the hub by name, configuration,
            splits and, where it is known, revision; any other by its class and arguments.
    """
    if isinstance(text, FileText):
        hashes = [sha256(path) for path in _files(text)]
        return hashes[0] if len(hashes) == 1 else _sha256("".join(hashes))
    if isinstance(text, HubText):
        parts = ("dataset", "name", "split", "heldout_split", "revision")
        return _sha256(json.dumps({name: getattr(text, name) for name in parts}))
    return _sha256(json.dumps(describe(text), sort_keys=True))


def _files(text: FileText) -> list[Path]:
    return [*text.paths, *(text.heldout_paths or ())]


def _sha256(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


def _activations_sha256(datamodule: ActivationFiles) -> str:
    """Return a hash of the held-out rows that are measured on, in float32."""
    digest = hashlib.sha256(f"[{datamodule.val_samples}, {datamodule.d_in}]".encode())
    for batch in datamodule.val_dataloader():
        digest.update(batch.numpy().tobytes())
    return digest.hexdigest()


def _rows_sha256(datamodule: ActivationDataModule, n_tokens: int) -> str | None:
    rows = datamodule.heldout_rows(n_tokens)
    if not isinstance(rows, TokenBatch):
        return None
    digest = hashlib.sha256(str(list(rows.input_ids.shape)).encode())
    digest.update(rows.input_ids.cpu().contiguous().numpy().tobytes())
    digest.update(rows.mask.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
