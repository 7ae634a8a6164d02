"""``sae export``: write an SAE in the format of another library, or what its latents do on text.

SAE is whatever can be read: RUN/saes/trained/0, a folder or a weight file of another library. With the name of a
library it is written as that one reads it, and read again: latents and reconstructions have to be the same. With
sae_lightning it becomes an SAE of this library.

With neuronpedia and delphi held-out text is read, and what its latents do there is written: batches of features to
upload, with their strongest texts and logits, or a latent cache, from which delphi explains. The text is that of the
run that the SAE is from, or of a configuration, of which only ``data`` counts.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from jsonargparse import ArgumentParser, Namespace

from sae_lightning import cpu_settings
from sae_lightning.commands.assumed import add_assume, assumed_from
from sae_lightning.commands.data_options import add_data, parse_data
from sae_lightning.commands.export_on_text import DEFAULTS, ON_TEXT, config_of, write_on_text
from sae_lightning.commands.parser import make_parser
from sae_lightning.exports import delphi, neuronpedia
from sae_lightning.exports.reading_back import MOST_AT_THRESHOLD, N_ACTIVATIONS, Comparison, compare
from sae_lightning.formats import StoredSAE, reading
from sae_lightning.moving_line import wrapped
from sae_lightning.saes import SparseAutoencoder
from sae_lightning.saes.saving import FORMAT, from_stored, to_stored
from sae_lightning.saes.transcoder import refuse_several_hooks

_OPTIONS = {
    "latents": (neuronpedia.NAME,),
    "model_id": (neuronpedia.NAME,),
    "source": (neuronpedia.NAME,),
    "n_splits": (delphi.NAME,),
    "n_tokens": ON_TEXT,
}
"""Options that only these formats have."""
_MOST_LISTED = 8
Written = TypeVar("Written")


def main(args: list[str]) -> None:
    """Write an SAE, and check what was written."""
    cpu_settings.silence_known_noise()
    cpu_settings.speed_up_cpu()
    parser = _parser()
    without = _without_arguments_of_data(args[1:])
    settings = parse_data(parser, without)
    _check(settings, has_data=settings.data is not None or len(without) < len(args) - 1)
    assumed = assumed_from(settings)
    if settings.format in ON_TEXT:
        has_own = settings.data is not None or any(re.match("--data(=|$)", arg) for arg in args)
        config = [] if has_own else [f"--config={config_of(settings.SAE)}"]
        settings = parse_data(parser, [*config, *args[1:]])
        sae = SparseAutoencoder.load(settings.SAE, assumed)
        refuse_several_hooks([sae], f"sae export --format {settings.format}")
        files, said = _written(lambda: write_on_text(parser, settings, sae), settings.out)
        print(*_listed(files), *(wrapped(line, 4) for line in said), sep="\n")
    else:
        _write_sae(SparseAutoencoder.load(settings.SAE, assumed), settings.format, settings.out)


def _without_arguments_of_data(args: Sequence[str]) -> list[str]:
    """Return the arguments without ``--data`` and ``--data.hook``, which may change a configuration before them."""
    kept, rest = [], iter(args)
    for arg in rest:
        if not re.match(r"--data(\.|=|$)", arg):
            kept.append(arg)
        elif "=" not in arg:
            next(rest, None)
    return kept


def _parser() -> ArgumentParser:
    parser = make_parser("export", __doc__)
    parser.add_argument(
        "SAE", type=str, help="What SparseAutoencoder.load takes, such as RUN/saes/trained/0 or a weight file."
    )
    parser.add_argument(
        "--format",
        required=True,
        choices=[FORMAT, *reading.writers(), *ON_TEXT],
        help=f"{FORMAT}, the name of another library, or {' or '.join(ON_TEXT)} for what latents do on text.",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="Where to write; made if needed, else empty."
    )
    add_assume(parser)
    parser.add_argument(
        "--n_tokens",
        type=int | None,
        default=None,
        metavar="N",
        help=f"{' and '.join(ON_TEXT)}: most held-out tokens to read. Default: {DEFAULTS['n_tokens']}.",
    )
    parser.add_argument(
        "--latents",
        type=str | None,
        default=None,
        metavar="LIST",
        help="neuronpedia: which latents, such as 3,17, or how many, such as 200. Default: all that fire.",
    )
    parser.add_argument(
        "--model_id",
        type=str | None,
        default=None,
        metavar="NAME",
        help="neuronpedia: the model there. Default: the last part of the model's name.",
    )
    parser.add_argument(
        "--source",
        type=str | None,
        default=None,
        metavar="LAYER-SET",
        help="neuronpedia: the SAE there. Default: the number of the block and sae-lightning.",
    )
    parser.add_argument(
        "--n_splits",
        type=int | None,
        default=None,
        metavar="N",
        help=f"delphi: files that the latents are divided into. Default: {DEFAULTS['n_splits']}.",
    )
    add_data(parser, "YAML of a run or of its data. Default: of the SAE's run.", required=False)
    return parser


def _check(settings: Namespace, has_data: bool) -> None:
    """Refuse what cannot work before anything is read."""
    for name, formats in _OPTIONS.items():
        if settings[name] is not None and settings.format not in formats:
            raise ValueError(f"--{name} is for --format {' and '.join(formats)}, and this is {settings.format}")
        if name in DEFAULTS and settings[name] is not None and settings[name] < 1:
            raise ValueError(f"--{name} {settings[name]}: expected 1 or more")
    if settings.latents is not None:
        neuronpedia.latent_numbers(settings.latents)
    if settings.source is not None:
        neuronpedia.check_source(settings.source)
    if has_data and settings.format not in ON_TEXT:
        raise ValueError(
            f"data are for --format {' and '.join(ON_TEXT)}: {settings.format} is the SAE alone, leave out --config "
            "and --data"
        )
    out = settings.out
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out} is a file: give a folder, which is made if needed")
    if out.is_dir() and (inside := sorted(path.name for path in out.iterdir())):
        raise ValueError(
            f"--out {out} is not empty, it holds {', '.join(inside[:5])}: give another folder, or empty it"
        )


def _written(write: Callable[[], Written], out: Path) -> Written:
    """Return what `write` does, with a folder for it, which is not left behind empty."""
    was_there = out.is_dir()
    out.mkdir(parents=True, exist_ok=True)
    try:
        return write()
    finally:
        if not was_there and not any(out.iterdir()):
            out.rmdir()


def _listed(files: Sequence[Path]) -> list[str]:
    """Return the paths, of many the first and the last."""
    if len(files) <= _MOST_LISTED:
        return [str(path) for path in files]
    return [str(files[0]), f"... {len(files) - 2} more", str(files[-1])]


def _write_sae(sae: SparseAutoencoder, name: str, out: Path) -> None:
    """Write an SAE in the format of a library, say what that changes, and compare.

    Raises:
        ValueError: if the format cannot express it, or what was written computes something else.
    """
    if name == FORMAT:
        sae.save(out)
        files, again = sorted(out.iterdir()), SparseAutoencoder.load(out)
        changes: list[str] = []
    else:
        adapter = reading.writers()[name]
        stored = adapter.writable(_stored(sae, adapter.TITLE))
        files = _written(lambda: adapter.write(stored, out), out)
        read = reading.read(out)
        again, changes = from_stored(read, str(out)), _changes(sae, stored, read, adapter.TITLE)
    print(*_listed(files), *(wrapped(line, 4) for line in [*changes, _verdict(compare(sae, again), out)]), sep="\n")


def _stored(sae: SparseAutoencoder, title: str) -> StoredSAE:
    try:
        stored = to_stored(sae)
        from_stored(stored, "")
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"a {type(sae).__name__} cannot be written for {title}, whose SAEs are of one dictionary: {error}"
        ) from error
    return stored


def _changes(sae: SparseAutoencoder, stored: StoredSAE, read: StoredSAE, title: str) -> list[str]:
    """Say what is otherwise in the files than in the SAE."""
    folds, notes = dict.fromkeys((*stored.folds, *read.folds)), dict.fromkeys((*stored.notes, *read.notes))
    lines = [f"folded: {fold}" for fold in folds] + [f"note: {note}" for note in notes]
    if read.variant != stored.variant:
        lines.insert(0, f"a {stored.variant} is a {read.variant} in the files, which computes the same")
    lost = [name for name, value in stored.stated.items() if value is not None and read.stated.get(name) is None]
    lost += ["which latents are dead"] * bool(sae.dead.any()) + ["the directions that it started from"]
    return [*lines, f"not in the files of {title}: {', '.join(lost)}"]


def _verdict(comparison: Comparison, out: Path) -> str:
    """Return the line that says that both are the same.

    Raises:
        ValueError: if they are not.
    """
    share = (
        f"{comparison.n_at_threshold} of {N_ACTIVATIONS} activations have a latent that fires in one of the two alone"
    )
    if not comparison.is_same:
        raise ValueError(
            f"{out} was written and does not compute what the SAE does: on {N_ACTIVATIONS} random activations latents "
            f"differ by up to {comparison.latents:.3g} and reconstructions by up to {comparison.reconstructions:.3g}, "
            f"and {share} (up to {MOST_AT_THRESHOLD:.0%} would be rounding). Do not use these files"
        )
    at_threshold = f"; {share}, within rounding of its threshold" if comparison.n_at_threshold else ""
    return (
        f"read back: the same latents and reconstructions on {N_ACTIVATIONS} random activations ({comparison.l0:.3g} "
        f"latents fire), largest difference {comparison.largest:.3g}{at_threshold}"
    )
