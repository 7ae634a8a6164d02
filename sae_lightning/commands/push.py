"""``sae push``: upload an SAE to the Hugging Face hub, with a card that says what it is.

Takes an SAE of a run, or of another library, and uploads its files and README.md: to the root of the repository, whose
page the card then is, or with a path to a folder in it, for a repository of many SAEs. The card has variant, sizes,
model, hook, data, what was measured, what was folded in and how to load it, and the verdict where the SAE lies in a run
that compared it with baselines. --dry-run writes the same files and uploads nothing.

`hf auth login` logs in. Whoever has the address loads it: SparseAutoencoder.load("hf://owner/name/path").
"""

import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path, PurePosixPath

from jsonargparse import ArgumentParser

from sae_lightning import cpu_settings, formats
from sae_lightning.commands.assumed import add_assume, assumed_from
from sae_lightning.commands.model_card import LIBRARY, model_card
from sae_lightning.commands.parser import make_parser, parse
from sae_lightning.formats.hub import Address, address_of, local
from sae_lightning.formats.weight_files import WEIGHT_FILES
from sae_lightning.saes import SparseAutoencoder
from sae_lightning.saes.saving import to_stored
from sae_lightning.saes.transcoder import refuse_several_hooks
from sae_lightning.whole_files import write_whole

_OWN_FILES = ("sae.json", "sae.safetensors")


def main(args: list[str]) -> None:
    """Write the folder of one SAE, and upload it unless it is a dry run."""
    cpu_settings.silence_known_noise()
    settings = parse(_parser(), args[1:])
    address = address_of(settings.TO)
    if address is None:
        raise ValueError(f"TO {settings.TO}: expected hf://owner/name[@branch][/path], where it is to be")
    if settings.dry_run and settings.out is None:
        raise ValueError("--dry-run writes a folder and uploads nothing: say which with --out FOLDER")
    with ExitStack() as stack:
        out = settings.out or Path(stack.enter_context(tempfile.TemporaryDirectory())) / "sae"
        _refuse_content(out)
        where = local(settings.SAE)
        sae = SparseAutoencoder.load(settings.SAE, assumed_from(settings) or None)
        refuse_several_hooks([sae], "the card of sae push")
        title = _write(sae, where, settings.format, out)
        write_whole(out / "README.md", model_card(sae, where, str(address), title, settings.base_model))
        if settings.out:
            print(*sorted(out.iterdir()), sep="\n")
        if not settings.dry_run:
            print(_upload(out, address, settings.private))


def _parser() -> ArgumentParser:
    names = [LIBRARY, *formats.writers()]
    parser = make_parser("push", __doc__)
    parser.add_argument("SAE", type=str, help="RUN/saes/<policy>/<seed>, or an SAE of another library.")
    parser.add_argument("TO", type=str, help="hf://owner/name[@branch][/path]; the repository is made if needed.")
    parser.add_argument(
        "--format",
        type=str,
        default=LIBRARY,
        metavar="FORMAT",
        help=f"Of the files: {', '.join(names)}. One that cannot express the SAE is refused.",
    )
    parser.add_argument("--private", action="store_true", help="Make a repository that does not exist yet private.")
    parser.add_argument(
        "--base_model",
        type=str | None,
        default=None,
        metavar="NAME",
        help="Name on the hub of the model that the activations are of. Default: what the SAE says, if no folder.",
    )
    parser.add_argument(
        "--out",
        type=Path | None,
        default=None,
        metavar="FOLDER",
        help="Keep what is uploaded in this folder, which has to be new or empty. Default: it is not kept.",
    )
    parser.add_argument("--dry-run", action="store_true", help="Write the folder of --out, and upload nothing.")
    add_assume(parser)
    return parser


def _refuse_content(out: Path) -> None:
    """Refuse a folder with something in it, which would be uploaded too.

    Raises:
        ValueError: if it is a file, or not empty.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"--out {out} {'is not empty' if out.is_dir() else 'is a file'}: give a new folder")


def _write(sae: SparseAutoencoder, where: Path, name: str, out: Path) -> str:
    """Write the files of an SAE, and return the title of their format.

    Raises:
        ValueError: if there is no such format, or it cannot express the SAE.
    """
    out.mkdir(parents=True, exist_ok=True)
    if name == LIBRARY:
        if formats.is_own(where):  # as they are: they also say what was folded in, and which latents were dead
            for file in _OWN_FILES:
                shutil.copy(where / file, out / file)
        else:
            sae.save(out)
        return LIBRARY
    writing = formats.writers()
    if name not in writing:
        raise ValueError(f"--format {name}: expected one of {', '.join([LIBRARY, *writing])}")
    writing[name].write(to_stored(sae), out)
    title: str = writing[name].TITLE
    return title


def _upload(folder: Path, address: Address, private: bool) -> str:
    """Upload a folder, and return the address of its page.

    Raises:
        ValueError: if the place has other weights, or the hub refuses or cannot be reached.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        api.create_repo(address.repository, private=private, exist_ok=True)
        there = api.list_repo_files(address.repository, revision=address.revision)
    except Exception as error:  # whatever the library and the network raise
        raise ValueError(_refused(address, error)) from error
    place = PurePosixPath(address.path)
    own = {one.name for one in folder.iterdir()}
    others = [name for name in map(PurePosixPath, there) if name.parent == place and name.suffix in WEIGHT_FILES]
    if mixed := [name.name for name in others if name.name not in own]:
        raise ValueError(
            f"{address} already has {', '.join(mixed)}, which would lie beside the files of this SAE: give another "
            "path, or remove them on the hub"
        )
    try:
        api.upload_folder(
            repo_id=address.repository,
            folder_path=folder,
            path_in_repo=address.path or None,
            revision=address.revision,
            commit_message=f"Upload an SAE with {LIBRARY}",
        )
    except Exception as error:
        raise ValueError(_refused(address, error)) from error
    tree = f"/tree/{address.revision or 'main'}/{address.path}" if address.path or address.revision else ""
    return f"https://huggingface.co/{address.repository}{tree}".rstrip("/")


def _refused(address: Address, error: Exception) -> str:
    cause = (str(error).splitlines() or [""])[0][:200] or type(error).__name__
    return (
        f"{address} cannot be written ({cause}): log in with `hf auth login` and a token that may write to it, or keep "
        "the files with --dry-run --out FOLDER"
    )
