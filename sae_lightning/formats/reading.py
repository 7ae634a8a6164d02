"""Read an SAE in whatever format: by what is in its files, never by guess.

An adapter is a file of this folder, named after its format:

    NAME        "saelens", what `--format` takes and `sae.json` keeps
    TITLE       "SAELens", for people
    reads(place) -> bool                  whether the files are of this format, by names and content; damage is an error
    read(place, assumed) -> StoredSAE     the SAE, or a ValueError that says why there is no class for it
    writable(stored) -> StoredSAE         where writing makes sense: the SAE as the format expresses it, what that
                                          changes in `folds` and `notes`; a ValueError where it cannot
    write(stored, folder) -> list[Path]   what is `writable`
"""

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from sae_lightning.formats import (
    bartbussmann,
    dictionary_learning,
    gemma_scope,
    goodfire,
    llama_scope,
    llamascopium,
    openai,
    plain,
    qwen_scope,
    saelens,
    saev,
    sparsify,
)
from sae_lightning.formats.hub import local
from sae_lightning.formats.place import Place
from sae_lightning.formats.stored import StoredSAE

ADAPTERS: tuple[ModuleType, ...] = (
    bartbussmann,
    dictionary_learning,
    gemma_scope,
    goodfire,
    llama_scope,
    llamascopium,
    openai,
    qwen_scope,
    saelens,
    saev,
    sparsify,
)
"""All but `plain`, which reads what no other does."""
OWN_FILE = "sae.json"
ASSUMABLE = ("variant", "k", "threshold", "apply_b_dec_to_input", "input_norm")
"""What a user may say of an SAE where its file does not."""
_DEEPEST, _LONGEST_LIST = 4, 12


def read(where: Path | str, assumed: Mapping[str, Any] | None = None) -> StoredSAE:
    """Read an SAE that another library wrote.

    Args:
        where: a folder, a weight file, `hf://owner/name[@revision][/path]`, or RELEASE/ID of SAELens' table.
        assumed: what the file does not say, by the names of `ASSUMABLE`.

    Raises:
        ValueError: if no format fits, or several do, the files are damaged, or there is no class for such an SAE; or if
            something is assumed that the file says.
    """
    assumed = dict(assumed or {})
    if unknown := set(assumed) - set(ASSUMABLE):
        raise ValueError(f"assumed {', '.join(sorted(unknown))}: expected some of {', '.join(ASSUMABLE)}")
    place = Place(local(where))
    fitting = [adapter for adapter in ADAPTERS if adapter.reads(place)]
    if is_own(place.path) or len(fitting) > 1:
        titles = [adapter.TITLE for adapter in fitting] + ["sae_lightning"] * is_own(place.path)
        raise ValueError(
            f"{place} holds files of {len(titles)} formats, {' and '.join(titles)}: name the weight file that is "
            "meant, or put them into folders of their own"
        )
    if not fitting and plain.reads(place):
        fitting = [plain]
    if not fitting:
        raise ValueError(_nothing(place))
    stored: StoredSAE = fitting[0].read(place, assumed)
    if said := set(assumed) - set(stored.assumed):
        raise ValueError(
            f"{place}: {', '.join(sorted(said))} cannot be assumed, since a file of {fitting[0].TITLE} says it, or a "
            f"{stored.variant} has no such thing"
        )
    return stored


def writers() -> dict[str, ModuleType]:
    """Return the adapters that write, by the name of their format."""
    return {adapter.NAME: adapter for adapter in ADAPTERS if hasattr(adapter, "write")}


def formats_in(path: Path) -> list[str]:
    """Return the titles of the foreign formats whose files lie at a path.

    Raises:
        ValueError: if a file is damaged.
    """
    place = Place(path)
    return [adapter.TITLE for adapter in ADAPTERS if adapter.reads(place)]


def is_own(path: Path) -> bool:
    """Return whether this is a folder that `SparseAutoencoder.save` wrote."""
    return (path / OWN_FILE).is_file()


def saes_inside(path: Path) -> list[Path]:
    """Return the folders below a folder that hold weight files, a few levels deep; first trained SAEs of a run."""
    inside: list[Path] = []
    level = [path]
    for _ in range(_DEEPEST):
        level = sorted(one for folder in level for one in folder.iterdir() if one.is_dir() and one.name[:1] != ".")
        inside += [one for one in level if is_own(one) or Place(one).weight_files]
    return sorted(inside, key=lambda one: (not is_own(one), one.parent.name != "trained"))


def _nothing(place: Place) -> str:
    looked_for = ", ".join(adapter.TITLE for adapter in ADAPTERS)
    if not place.path.is_dir():
        return (
            f"{place} is not an SAE in a format that is known: looked for {looked_for}, and for a plain file with "
            "W_enc, W_dec, b_enc and b_dec"
        )
    if inside := saes_inside(place.path):
        more = f" and {len(inside) - _LONGEST_LIST} more" if len(inside) > _LONGEST_LIST else ""
        names = ", ".join(str(one) for one in inside[:_LONGEST_LIST])
        return f"{place} holds no SAE itself, and its folders do: give one of {names}{more}"
    files = sorted(one.name for one in place.folder.iterdir())[:_LONGEST_LIST]
    return (
        f"{place} holds no SAE in a format that is known; it has {', '.join(files) or 'no files'}. Looked for "
        f"sae.json of sae_lightning, {looked_for}, and a plain file with W_enc, W_dec, b_enc and b_dec"
    )
