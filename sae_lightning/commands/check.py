"""``sae check``: does a published SAE beat random?

Takes one SAE or several of one model and hook, in any format, and measures each beside controls for which nothing is
trained by gradient, at the same l0: random encoders and decoders, its own decoder permuted, principal components and
raw dimensions; and on null data. With a training budget it also trains the SAE again, beside the frozen twins of
Korznikov et al. 2026 (arXiv 2602.14111).

Model, hook, context length and beginning token are those that its file states; what it does not state is asked for by
name. With --activations FILE there is no model: everything but its loss is measured on activations that are there. The
cost is told before it starts. It prints one screen, and leaves check.json and report.html in a run folder.
The same command with the same --out goes on where it was interrupted.

A transcoder reads at --hook and answers at --target: its controls are linear maps without latents, random directions to
read or to write, and its own decoder permuted or rotated.
"""

import json
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser, Namespace
from typing_extensions import override

from sae_lightning.checks import check_seed, check_whole
from sae_lightning.commands.assumed import add_assume, assumed_from
from sae_lightning.commands.model_and_text import add_model_and_text, check_rows
from sae_lightning.commands.parser import make_parser, parse
from sae_lightning.moving_line import LINE, wrapped

if TYPE_CHECKING:
    from sae_lightning.checking.check_config import CheckConfig
    from sae_lightning.checking.folder import CheckFolder
    from sae_lightning.checking.plan import Plan
    from sae_lightning.checking.preparing import CheckRequest
    from sae_lightning.saes import SparseAutoencoder

N_TOKENS, DRAWS, CONTROL_SAMPLES = 16_384, 3, 65_536
_LATENTS_ON_THE_PAGE = 200
_INDENT = 8
"""Of the second line of what a check says before it starts."""
_NOT_OPTIONS = ("out", "name", "print_config", "latents")
"""What two commands may differ in and still mean one check."""


def main(args: list[str]) -> None:
    """Check SAEs; print what was found and where it is kept."""
    settings = parse(_parser(), args[1:])
    _check(settings)
    from sae_lightning import cpu_settings
    from sae_lightning.checking.check_config import CheckConfig
    from sae_lightning.checking.preparing import settings_of, yaml_of
    from sae_lightning.messages import own_messages

    cpu_settings.silence_known_noise()
    cpu_settings.speed_up_cpu()
    config = CheckConfig.read(settings.config)
    names = _names(settings, config)
    evaluators = _evaluators(settings, config)
    saes = _loaded(settings, list(names))
    request = _request(settings, config, names, shlex.join(["sae", *args]), evaluators, saes)
    if settings.print_config is not None and not request.budget.trains:
        print(yaml_of(settings_of(request, saes)), end="")
        return
    groups = [{place: sae} for place, sae in saes.items()] if request.budget.trains else [saes]
    folders = _folders(settings, [names[next(iter(group))] for group in groups])
    with own_messages():
        try:
            for group, folder in zip(groups, folders, strict=True):
                _check_group(settings, request, group, folder)
        finally:
            for folder in folders if settings.out is None else []:
                folder.remove_if_empty()


def _check_group(
    settings: Namespace, request: "CheckRequest", saes: "Mapping[str, SparseAutoencoder]", folder: "CheckFolder"
) -> None:
    """Check SAEs in one run."""
    from sae_lightning.checking.preparing import plan_of, yaml_of

    begin, options = time.monotonic(), _options(settings, list(saes))
    begun = None if settings.print_config is not None else folder.begun_with(options)
    plan = plan_of(request, saes, str(folder.path), begun, lambda text: LINE.say(wrapped(text, _INDENT)))
    if settings.print_config is not None:
        print(yaml_of(plan.configuration), end="")
        return
    if not folder.is_measured(plan.panel):
        _measure(plan, folder, yaml_of, options)
    _finish(plan, folder, begin, settings.latents)


def _measure(plan: "Plan", folder: "CheckFolder", yaml_of: Any, options: Mapping[str, Any]) -> None:  # noqa: ANN401
    """Run the configuration in the folder, or the rest of it."""
    from sae_lightning.commands.fit import SAECLI
    from sae_lightning.runs import METRICS_FILE, Run
    from sae_lightning.verdict import write_verdict

    class CheckCLI(SAECLI):
        """A run whose table is not printed: a check has a screen of its own."""

        @override
        def after_fit(self) -> None:
            # Resumed from a checkpoint of its last step, where its validation failed, a fit does not validate again.
            if not (folder.path / METRICS_FILE).is_file():
                self.trainer.validate(self.model, self.datamodule, verbose=False)
            self.after_validate()

        @override
        def after_validate(self) -> None:
            write_verdict(Run(folder.path))

    command = ["fit"] if plan.budget.trains else ["validate"]
    checkpoint = folder.checkpoint if plan.budget.trains else None
    if checkpoint is not None:
        CheckCLI([*command, f"--config={folder.path / 'config.yaml'}", f"--ckpt_path={checkpoint}"])
        return
    path = folder.begin(yaml_of(folder.placed(plan.configuration)), options)
    try:
        CheckCLI([*command, f"--config={path}"])
    except SystemExit:
        print(f"or with the same command and --out {folder.path}:\n  {plan.command}", file=sys.stderr)
        raise


def _finish(plan: "Plan", folder: "CheckFolder", begin: float, n_latents: int) -> None:
    """Write check.json and the page, and print the screen."""
    from sae_lightning.checking.check_file import CHECK_FILE, read_check, write_check
    from sae_lightning.checking.result import check_as_json
    from sae_lightning.checking.screen import screen
    from sae_lightning.commands.report import FILE_NAME, write_page
    from sae_lightning.runs import Run

    path = folder.path / CHECK_FILE
    write_check(path, check_as_json(plan, Run(folder.path), time.monotonic() - begin))
    page = folder.path / FILE_NAME
    write_page([Run(folder.path)], page, n_latents)
    LINE.clear()
    print(screen(read_check(path)))
    print(f"\n{path}\n{page}")


def _names(settings: Namespace, config: "CheckConfig") -> dict[str, str]:
    """Return the names of the SAEs by the places that the user typed, or those of the configuration.

    Raises:
        ValueError: if there is no SAE, or one is there twice.
    """
    from sae_lightning.checking.configuration import reference_names

    if not settings.SAE and not config.references:
        raise ValueError("say which SAE: sae check SAE, a folder, a file, hf://owner/name or RELEASE/ID of SAELens")
    named = reference_names(settings.SAE) if settings.SAE else config.references
    return {place: name for name, place in named.items()}


def _loaded(settings: Namespace, places: list[str]) -> "dict[str, SparseAutoencoder]":
    """Load the SAEs, or transcoders, all of one width, model and hook, by the places that they are from.

    Raises:
        ValueError: if they are not, or one is a crosscoder.
    """
    from sae_lightning.checking.stated_hooks import refuse_others
    from sae_lightning.saes import SparseAutoencoder
    from sae_lightning.saes.transcoder import refuse_crosscoders

    assumed = assumed_from(settings)
    saes = {place: SparseAutoencoder.load(place, assumed or None) for place in places}
    refuse_crosscoders(saes.values(), "sae check")
    refuse_others(saes)
    return saes


def _folders(settings: Namespace, names: list[str]) -> "list[CheckFolder]":
    """Return the run folder of each run, by the name of its first SAE; the next free ones are made."""
    from sae_lightning.checking.folder import CheckFolder
    from sae_lightning.runs.next_folder import take_next_folder

    if settings.out is not None:
        return [CheckFolder(settings.out / name if len(names) > 1 else settings.out) for name in names]
    experiment = Path("lightning_logs") / settings.name
    return [CheckFolder(take_next_folder(experiment)) for _ in names]


def _evaluators(settings: Namespace, config: "CheckConfig") -> Sequence[Mapping[str, Any]] | None:
    """Return the evaluators that the user names; None for those of a quick check.

    Raises:
        ValueError: if there are none such, which shows before weights are read.
    """
    from sae_lightning.checking.configuration import evaluators_of

    evaluators = evaluators_of(settings.evaluation) if settings.evaluation else config.evaluators
    _check_evaluators(evaluators or ())
    return evaluators


def _request(
    settings: Namespace,
    config: "CheckConfig",
    names: Mapping[str, str],
    command: str,
    evaluators: Sequence[Mapping[str, Any]] | None,
    saes: "Mapping[str, SparseAutoencoder]",
) -> "CheckRequest":
    """Return what the options ask for, and where they say nothing the configuration."""
    from sae_lightning.checking.budget import Budget
    from sae_lightning.checking.configuration import controls_named, new_control
    from sae_lightning.checking.data import NULLS
    from sae_lightning.checking.data_request import DataRequest
    from sae_lightning.checking.preparing import CheckRequest
    from sae_lightning.controls.beside import check_draws

    of_data = ("model", "hook", "hook_input", "target", "config", "cache", "activations", "key")
    data = DataRequest(
        text=[settings.text] if isinstance(settings.text, str) else settings.text,
        dtype=None if settings.dtype == "auto" else settings.dtype,
        context_length=settings.context_length,
        bos_in_every_row=settings.bos_in_every_row,
        skip_first_positions=settings.skip_first_positions or None,
        n_tokens=settings.n_tokens or config.n_tokens or N_TOKENS,
        **{name: settings[name] for name in of_data},
    )
    has_controls = settings.controls is None and config.controls is not None
    controls = config.controls or {} if has_controls else controls_named(settings.controls, saes.values())
    draws = settings.draws or config.draws or DRAWS
    check_draws(draws, {name: new_control(control) for name, control in controls.items()})
    return CheckRequest(
        data,
        Budget.parse(settings.budget),
        command,
        names,
        controls,
        draws,
        settings.control_samples or config.control_samples or CONTROL_SAMPLES,
        evaluators,
        _first(settings.nulls, config.nulls, NULLS),
        settings.seeds,
        assumed_from(settings),
    )


def _check_evaluators(evaluators: Sequence[Mapping[str, Any]]) -> None:
    """Refuse evaluators and arguments that there are none of, which the run would find after the model is loaded.

    Raises:
        ValueError: names the class.
    """
    from lightning.pytorch import Callback

    from sae_lightning.evaluators import Evaluator

    parser = make_parser("check", None)
    parser.add_argument("--callbacks", type=list[Callback])
    parse(parser, [f"--callbacks={json.dumps(evaluators)}"], [Evaluator])


def _first(*values: Any) -> Any:  # noqa: ANN401
    """Return the first that is said."""
    return next(value for value in values if value is not None)


def _options(settings: Namespace, places: list[str]) -> dict[str, Any]:
    """Return what decides a check, plain values."""
    given = {name: value for name, value in settings.as_dict().items() if name not in _NOT_OPTIONS}
    plain = {name: str(value) if isinstance(value, Path) else value for name, value in given.items()}
    return {**plain, "SAE": places}


def _check(settings: Namespace) -> None:
    """Refuse what cannot work before anything is read.

    Raises:
        ValueError: says what was given and what was expected.
    """
    from sae_lightning.checking.budget import Budget
    from sae_lightning.checking.configuration import check_control_names
    from sae_lightning.checking.data import NULLS

    Budget.parse(settings.budget)
    check_control_names(settings.controls)
    check_rows(settings)
    for name, least in (("n_tokens", 2), ("control_samples", 2), ("draws", 1), ("latents", 0)):
        if settings[name] is not None:
            check_whole(least, **{f"--{name}": settings[name]})
    for seed in settings.seeds:
        check_seed(**{"--seeds": seed})
    if not settings.seeds or len(set(settings.seeds)) < len(settings.seeds):
        raise ValueError(f"--seeds {settings.seeds}: expected one seed or more, each once")
    if unknown := [name for name in settings.nulls or () if name not in NULLS]:
        raise ValueError(f"--nulls {unknown[0]}: expected some of {', '.join(NULLS)}, or [] for none")
    if settings.out is not None and settings.out.exists() and not settings.out.is_dir():
        raise ValueError(f"--out {settings.out} is a file; give a folder, which is made if needed")
    if settings.key and not settings.activations:
        raise ValueError(f"--key {settings.key}: of which file? give --activations, too")


def _parser() -> ArgumentParser:
    parser = make_parser("check", __doc__)
    parser.add_argument(
        "SAE",
        nargs="*",
        help="Folder or weight file in any format, hf://owner/name, or RELEASE/ID of SAELens. With a --config that has "
        "references, such as those of configs/check, its own.",
    )
    add_assume(parser)
    add_model_and_text(parser)
    parser.add_argument(
        "--target", type=str | None, default=None, help="Submodule at whose output a transcoder answers."
    )
    parser.add_argument(
        "--cache", type=str | None, default=None, metavar="FOLDER", help="Activations that sae cache wrote, instead."
    )
    parser.add_argument(
        "--activations",
        type=str | None,
        default=None,
        metavar="FILE",
        help="Tensor [..., d_in] in a file, or in all files of a folder, instead: without a model.",
    )
    parser.add_argument("--key", type=str | None, default=None, help="Name of the tensor in --activations.")
    parser.add_argument(
        "--budget",
        type=str,
        default="nulls",
        help="nulls trains nothing; 'tokens N' or 'minutes T' trains the SAE again with its frozen twins.",
    )
    for name, default, what in (
        ("n_tokens", N_TOKENS, "Held-out activations"),
        ("draws", DRAWS, "Draws of each control that is random"),
        ("control_samples", CONTROL_SAMPLES, "Activations that controls are made from"),
    ):
        parser.add_argument(
            f"--{name}",
            type=int | None,
            default=None,
            metavar="N",
            help=f"{what}. Default: of --config, or {default:,}.",
        )
    parser.add_argument(
        "--controls",
        type=list[str] | None,
        default=None,
        metavar="NAMES",
        help="Some of the controls: --controls '[random_encoder, permuted_decoder]'. Default: all.",
    )
    parser.add_argument(
        "--nulls",
        type=list[str] | None,
        default=None,
        metavar="NAMES",
        help="Null data that the SAEs read too where nothing is trained: gaussian, shuffled, reinitialised; [] for "
        "none. Default: all.",
    )
    parser.add_argument("--seeds", type=list[int], default=[0, 1, 2], help="Seeds of what is trained.")
    parser.add_argument(
        "--evaluation",
        type=Path | None,
        default=None,
        metavar="FILE",
        help="YAML with evaluators, such as configs/evaluation/check_full.yaml. Default: a quick check.",
    )
    parser.add_argument(
        "--out", type=Path | None, default=None, metavar="FOLDER", help="Run folder. Default: below --name."
    )
    parser.add_argument("--name", type=str, default="check", help="Folder of the run in lightning_logs/.")
    parser.add_argument(
        "--latents", type=int, default=_LATENTS_ON_THE_PAGE, metavar="N", help="Latents of each SAE on the page."
    )
    # jsonargparse gives an option of this name a value, "", as that of its own parsers takes one.
    parser.add_argument(
        "--print_config",
        nargs="?",
        type=str | None,
        default=None,
        help="Print the configuration, and stop.",
    )
    return parser
