"""The two hooks of a transcoder that is checked: what it reads, and where it answers.

Its data have both side by side, by the names `source` and `target`; a cache keeps the names that it was made with, and
synthetic data have `read` and `answer`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sae_lightning.checking.stated_hooks import in_model
from sae_lightning.datamodules.cache.manifest import read_manifest
from sae_lightning.datamodules.cache.storage import Folder
from sae_lightning.inspection.hook_names import output_in_model
from sae_lightning.members import SOURCE, TARGET
from sae_lightning.saes import SparseAutoencoder
from sae_lightning.saes.stated import stated_of
from sae_lightning.sources.checkpoint import submodule_names
from sae_lightning.sources.null_source import null_part
from sae_lightning.sources.synthetic import ANSWER, READ

_MLPS = ("mlp", "feed_forward")


def ends_of(section: Mapping[str, Any], sae: SparseAutoencoder) -> tuple[str, str] | None:
    """Return the names of what a transcoder reads and of where it answers in section `data`; None for an SAE."""
    if not sae.is_transcoder:
        return None
    arguments = section["init_args"]
    if arguments.get("d_answer") is not None:
        return READ, ANSWER
    source, target = arguments["hook"] if "hook" in arguments else read_manifest(Folder(arguments["path"]))["widths"]
    return source, target


def targets_of(ends: tuple[str, str], nulls: Sequence[str] = ()) -> dict[str, str]:
    """Return argument `targets` of the panel: the real activations, and each null version of both sides together."""
    source, target = ends
    return {source: target} | {null_part(null, source): null_part(null, target) for null in nulls}


def refuse_one_side(
    sae: SparseAutoencoder, where: str, target: str | None, activations: str | None, hook_input: bool
) -> None:
    """Refuse what says something of one side where there are two, or of two where there is one.

    Args:
        sae: that is checked.
        where: it is from.
        target: option `--target`.
        activations: option `--activations`.
        hook_input: option `--hook_input`.

    Raises:
        ValueError: names the option, and what to give in its place.
    """
    if not sae.is_transcoder:
        if target:
            raise ValueError(f"--target {target}: {where} is an SAE, which gives back what it reads: leave it out")
        return
    if activations:
        raise ValueError(
            f"--activations {activations}: {where} is a transcoder, and what it is to answer with is not there: give "
            "--model, --hook, --target and --text, or --cache with activations of both hooks; `sae inspect` takes "
            "--target_activations beside these"
        )
    if hook_input:
        raise ValueError(
            f"--hook_input: {where} is a transcoder, whose two hooks are submodules whose output is meant: of what "
            "goes into an MLP name the norm before it, such as --hook model.layers.3.post_attention_layernorm"
        )


def hooks_in_data(
    known: Any,  # noqa: ANN401
    hook: str | None,
    target: str | None,
    sae: SparseAutoencoder,
    where: str,
) -> dict[str, str]:
    """Return both hooks by name, of those that the data of a run have.

    Args:
        known: argument `hook` of these data.
        hook: option `--hook`.
        target: option `--target`.
        sae: a transcoder.
        where: it is from.

    Raises:
        ValueError: if it is not known which of them are meant.
    """
    here = list(known.values()) if isinstance(known, Mapping) else []
    stated = stated_of(sae.provenance)
    assumed: Sequence[str | None] = [stated.get("hook"), stated.get("target")]
    if not {*assumed} <= {*here}:
        assumed = here if len(here) == 2 else (None, None)
    ends = hook or assumed[0], target or assumed[1]
    if ends[0] is None or ends[1] is None:
        has = f"the hooks {', '.join(here)}" if here else f"the hook {known}"
        raise ValueError(
            f"{where} is a transcoder, and the data of its run have {has}: say what it reads with --hook, and where it "
            "answers with --target"
        )
    return {SOURCE: ends[0], TARGET: ends[1]}


def hooks_in_model(
    model: str, hook: str | None, target: str | None, stated: Mapping[str, Any], where: str
) -> dict[str, str]:
    """Return both hooks by name: those that the user says, and for the rest those that its file means.

    Args:
        model: folder, or name on the hub.
        hook: option `--hook`.
        target: option `--target`.
        stated: what the file says.
        where: it is from.

    Raises:
        ValueError: if the file names a hook that the model does not have.
    """
    given = {SOURCE: hook, TARGET: target}
    names = {SOURCE: "hook", TARGET: "target"}
    return {end: own or in_model(output_in_model, model, stated, where, names[end]) for end, own in given.items()}


def redrawn_modules(model: str, hooks: Mapping[str, str]) -> list[str]:
    """Return the submodules that a null draws anew: what answers, and the MLP of its block where that is another one.

    A norm after the MLP may be where a transcoder answers, and has nothing of what the MLP has learned.

    Args:
        model: folder, or name on the hub.
        hooks: by name.
    """
    target = hooks[TARGET]
    block = target.rpartition(".")[0]
    return [target, *(name for mlp in _MLPS if (name := f"{block}.{mlp}") != target and name in submodule_names(model))]
