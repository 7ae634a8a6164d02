"""Where the files of an SAE are: a path, a repository of the Hugging Face hub, or an entry of SAELens' public table.

    runs/topk/saes/trained/0                     a folder or a file
    hf://owner/name[@revision][/path]            of the hub; also as a path has it, hf:/owner/name
    RELEASE/ID                                   of SAELens' table, where SAELens is installed

Of a repository only the files of the one SAE are fetched, into the cache of the hub. There its folders and its name
stay in the path, which some formats need to be understood.
"""

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

from sae_lightning.formats.place import LARGEST_CONFIG
from sae_lightning.formats.saelens_table import in_table
from sae_lightning.formats.weight_files import WEIGHT_FILES

_ADDRESS = re.compile(r"hf:/+(?P<owner>[\w.-]+)/(?P<name>[\w.-]+)(@(?P<revision>[^/]+))?(/(?P<path>.*))?")
_WAYS = (
    "a folder or weight file, hf://owner/name[@revision][/path], or RELEASE/ID of SAELens' public table, for which "
    "sae-lens has to be installed"
)
_CONFIGS = (".json", ".yaml", ".yml")
_CONFIGS_ABOVE = ("config.json", "hyperparams.json", "lm_config.json")
_OF_TRAINING = re.compile(r"optimizer|lr_scheduler|rank_\d+_state|trainer_state|activations_store_state|^state\.pt$")
_MOST_WEIGHT_FILES, _LONGEST_LIST = 3, 12

Files = Mapping[str, int | None]
"""Sizes by path in the repository; None where the size is not known."""


@dataclass(frozen=True)
class Address:
    """A place on the hub.

    Args:
        repository: owner and name.
        path: of a folder or a file in it; empty for its root.
        revision: branch, tag or commit; None for the main branch.
    """

    repository: str
    path: str = ""
    revision: str | None = None

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        return f"hf://{self.repository}{revision}{f'/{self.path}' if self.path else ''}"


def address_of(where: Path | str) -> Address | None:
    """Return the place on the hub that is named; None for anything else.

    Raises:
        ValueError: if it begins as one and is none.

    >>> address_of("hf://google/gemma-scope-2b-pt-res@main/layer_3/width_16k")
    Address(repository='google/gemma-scope-2b-pt-res', path='layer_3/width_16k', revision='main')
    """
    text = Path(where).as_posix() if isinstance(where, Path) else where
    if not text.startswith("hf:"):
        return None
    match = _ADDRESS.fullmatch(text)
    path = (match["path"] or "").strip("/") if match else ""
    if match is None or ".." in path.split("/"):
        raise ValueError(
            f"{text}: expected hf://owner/name[@revision][/path], such as hf://google/gemma-scope-2b-pt-res"
        )
    revision = unquote(match["revision"]) if match["revision"] else None
    return Address(f"{match['owner']}/{match['name']}", path, revision)


def local(where: Path | str) -> Path:
    """Return the path of the files, fetched if need be.

    Raises:
        ValueError: if there is nothing of this name, or it cannot be fetched.
    """
    path = Path(where)
    if path.exists():
        return path
    if (address := address_of(where)) is None:
        entry = in_table(path.as_posix(), _WAYS)
        address = Address(entry.repository, entry.path)
    return _fetched(address)


def _fetched(address: Address) -> Path:
    """Return the local path of what lies at an address, with the files around it that say what it is."""
    from huggingface_hub import hf_hub_download

    try:
        commit, files = _listed(address)
    except Exception as error:  # whatever the library and the network raise
        snapshot = _cached(address)
        if snapshot is None or _is_refusal(error):
            raise ValueError(_reason(address, error)) from error
        _chosen(address, _files_below(snapshot))
        return snapshot / address.path
    download: Callable[[str], str] = partial(hf_hub_download, address.repository, revision=commit)
    paths = {}
    for name in _chosen(address, files):
        try:
            paths[name] = Path(download(name))
        except Exception as error:
            raise ValueError(_reason(address, error)) from error
    name, path = next(iter(paths.items()))
    return path.parents[len(PurePosixPath(name).parts) - 1] / address.path


def _listed(address: Address) -> tuple[str, Files]:
    """Return the commit of a revision, and its files."""
    from huggingface_hub import HfApi

    info = HfApi().model_info(address.repository, revision=address.revision, files_metadata=True)
    return str(info.sha), {one.rfilename: one.size for one in info.siblings or []}


def _cached(address: Address) -> Path | None:
    """Return the folder of the cache with what was fetched of a revision; None if nothing was."""
    from huggingface_hub.constants import HF_HUB_CACHE

    folder = Path(HF_HUB_CACHE) / f"models--{address.repository.replace('/', '--')}"
    revision = address.revision or "main"
    reference = folder / "refs" / revision
    commit = reference.read_text(encoding="utf-8").strip() if reference.is_file() else revision
    snapshot = folder / "snapshots" / commit
    return snapshot if snapshot.is_dir() else None


def _files_below(snapshot: Path) -> Files:
    return {one.relative_to(snapshot).as_posix(): one.stat().st_size for one in snapshot.rglob("*") if one.is_file()}


def _is_refusal(error: Exception) -> bool:
    """Return whether the hub has answered, and that there is no such thing or not for this user."""
    from huggingface_hub.utils import RepositoryNotFoundError, RevisionNotFoundError

    return isinstance(error, RepositoryNotFoundError | RevisionNotFoundError)


def _reason(address: Address, error: Exception) -> str:
    """Return what is wrong and what to do, in one sentence."""
    from huggingface_hub.utils import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    page = f"https://huggingface.co/{address.repository}"
    if isinstance(error, GatedRepoError):
        return f"{address} is gated: accept its terms at {page}, and log in with `hf auth login`"
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"{address}: the hub has no repository {address.repository}, or a private one: log in with `hf auth login`"
        )
    if isinstance(error, RevisionNotFoundError):
        return f"{address}: {address.repository} has no branch, tag or commit {address.revision}"
    cause = (str(error).splitlines() or [""])[0][:200] or type(error).__name__
    return (
        f"{address} cannot be fetched, and the cache does not have it ({cause}): with a network try again, without one "
        "copy its files into a folder and give that"
    )


def _chosen(address: Address, files: Files) -> list[str]:
    """Return the files of one SAE and the configurations above it, the first of them one at the address itself.

    Raises:
        ValueError: if there is no SAE at the address, or there are many.
    """
    if address.path in files:
        folder = PurePosixPath(address.path).parent
        return [address.path, *_configs(files, folder)]
    folder = PurePosixPath(address.path)
    weights = _weights(files, folder) or _weights(files, folder / "checkpoints")
    if not weights:
        raise ValueError(_nowhere(address, files))
    if len(weights) > _MOST_WEIGHT_FILES:
        raise ValueError(
            f"{address} has {len(weights)} weight files: add the name of one, such as {_names(address, weights)}"
        )
    return [*weights, *_configs(files, folder)]


def _weights(files: Files, folder: PurePosixPath) -> list[str]:
    """Return the weight files directly in a folder, without the state of its training."""
    return [
        name
        for name in files
        if PurePosixPath(name).parent == folder
        and PurePosixPath(name).suffix.lower() in WEIGHT_FILES
        and not _OF_TRAINING.search(PurePosixPath(name).name)
    ]


def _configs(files: Files, folder: PurePosixPath) -> list[str]:
    """Return the configurations in a folder, and those of a run in the folders above."""
    above = {str(parent / name) for parent in folder.parents for name in _CONFIGS_ABOVE}
    return [
        name
        for name, size in files.items()
        if (size or 0) <= LARGEST_CONFIG
        and (name in above or (PurePosixPath(name).parent == folder and PurePosixPath(name).suffix in _CONFIGS))
    ]


def _nowhere(address: Address, files: Files) -> str:
    """Say that no SAE lies at an address, and where some do."""
    folders = {PurePosixPath(name).parent for name in files if PurePosixPath(name).suffix.lower() in WEIGHT_FILES}
    names = sorted({str(one.parent if one.name == "checkpoints" else one) for one in folders}, key=_in_natural_order)
    below = [name for name in names if not address.path or name.startswith(f"{address.path}/")]
    if not names:
        return f"{address}: {address.repository} has no weight files ({', '.join(WEIGHT_FILES)})"
    if below:
        return f"{address} has no weight files itself, and its folders do: give one of {_names(address, below)}"
    nearest = difflib.get_close_matches(address.path, [*names, *files], n=_LONGEST_LIST, cutoff=0.6)
    return f"{address}: there is no such SAE; {address.repository} has {_names(address, nearest or names)}"


def _names(address: Address, names: list[str]) -> str:
    at_root = Address(address.repository, "", address.revision)
    listed = ", ".join(f"{at_root}/{name}" for name in names[:_LONGEST_LIST])
    return f"{listed} and {len(names) - _LONGEST_LIST} more" if len(names) > _LONGEST_LIST else listed


def _in_natural_order(name: str) -> list[Any]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]
