"""Which text a check has read, as hashes: two checks of the same text and rows can stand side by side."""

import hashlib
from typing import Any

from sae_lightning.datamodules import ActivationDataModule, ActivationFiles, FileText
from sae_lightning.datamodules.cache.manifest import sha256
from sae_lightning.datamodules.text_activations import TextActivations
from sae_lightning.sources.tokens import TokenBatch


def text_of(datamodule: ActivationDataModule, n_tokens: int) -> dict[str, Any]:
    """Return the files of the text, the SHA-256 of their contents, and one of the held-out rows that are read.

    Text that is not in files of the user's has the hash of its rows alone, and so have activations in files.

    Args:
        datamodule: of the check.
        n_tokens: held-out activations that are measured on.
    """
    if isinstance(datamodule, ActivationFiles):
        read = _activations_sha256(datamodule)
        return {"files": [path.name for path in datamodule.rows.files], "sha256": read, "rows_sha256": read}
    rows = _rows_sha256(datamodule, n_tokens)
    text = datamodule.text if isinstance(datamodule, TextActivations) else None
    if not isinstance(text, FileText):
        return {"files": [], "sha256": rows, "rows_sha256": rows}
    paths = [*text.paths, *(text.heldout_paths or ())]
    hashes = [sha256(path) for path in paths]
    whole = hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()
    return {"files": [path.name for path in paths], "sha256": whole, "rows_sha256": rows}


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
