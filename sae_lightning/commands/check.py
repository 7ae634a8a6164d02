"""``sae check``: does a published SAE beat random?

Takes one SAE or several of one model and hook, in any format, and measures each beside controls for which nothing is
trained by gradient, at the same l0: random encoders and decoders, its own decoder permuted, principal components and
raw dimensions; and on null data. With a training budget it also trains the SAE again, beside the frozen twins of
Korznikov et al. 2026 (arXiv 2602.14111).

Model, hook, context length and beginning token are those that its file states; what it does not state is asked for by
name. The cost is told before it starts. It prints one screen, and leaves check.json and report.html in a run folder.
The same command with the same --out goes on where it was interrupted.
"""

import shlex
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser, Namespace
from typing_extensions import override

from sae_lightning.checks import check_seed, check_whole
from sae_lightning.commands.assumed import add_assume, assumed_from
from sae_lightning.commands.config_files import check_config_files
from sae_lightning.commands.model_and_text import add_model_and_text
from sae_lightning.commands.parser import make_parser, parse

if TYPE_CHECKING:
    from sae_lightning.checking.folder import CheckFolder
    from sae_lightning.checking.plan import Plan
    from sae_lightning.checking.preparing import CheckRequest
    from sae_lightning.saes import SparseAutoencoder

_LATENTS_ON_THE_PAGE = 200
_NOT_OPTIONS = ("out", "name", "print_config", "latents")
"""What two commands may differ in and still mean one check."""


def main(args: list[str]) -> None:
    """Check SAEs; print what was found and where it is kept."""
    check_config_files(args)
    settings = parse(_parser(), args[1:])
    _check(settings)
    from sae_lightning import cpu_settings
    from sae_lightning.checking.preparing import settings_of, yaml_of

    cpu_settings.silence_known_noise()
    cpu_settings.speed_up_cpu()
    request = _request(settings, shlex.join(["sae", *args]))
    saes = _loaded(settings)
    if settings.print_config is not None and not request.budget.trains:
        print(yaml_of(settings_of(request, saes)), end="")
        return
    groups = [{place: sae} for place, sae in saes.items()] if request.budget.trains else [saes]
    folders = _folders(settings, groups)
    for group, folder in zip(groups, folders, strict=True):
        _check_group(settings, request, group, folder)


def _check_group(
    settings: Namespace, request: "CheckRequest", saes: "Mapping[str, SparseAutoencoder]", folder: "CheckFolder"
) -> None:
    """Check SAEs in one run."""
    from sae_lightning.checking.preparing import plan_of, yaml_of

    begin, options = time.monotonic(), _options(settings, list(saes))
    begun = None if settings.print_config is not None else folder.begun_with(options)
    plan = plan_of(request, saes, str(folder.path), begun, lambda text: print(text, file=sys.stderr, flush=True))
    if settings.print_config is not None:
        print(yaml_of(plan.configuration), end="")
        return
    if not folder.is_measured:
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
            if (folder.path / METRICS_FILE).is_file():
                write_verdict(Run(folder.path))

        after_validate = after_fit

    command = ["fit"] if plan.budget.trains else ["validate", "--verbose=false"]
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
    print(screen(read_check(path)))
    print(f"\n{path}\n{page}")


def _loaded(settings: Namespace) -> "dict[str, SparseAutoencoder]":
    """Load the SAEs by the place that the user typed, all of one width, model and hook."""
    from sae_lightning.checking.data import refuse_others
    from sae_lightning.saes import SparseAutoencoder

    assumed = assumed_from(settings)
    if twice := [place for place in settings.SAE if settings.SAE.count(place) > 1]:
        raise ValueError(f"{twice[0]} is given twice: give each SAE once")
    saes = {place: SparseAutoencoder.load(place, assumed or None) for place in settings.SAE}
    refuse_others(saes)
    return saes


def _folders(settings: Namespace, groups: "list[dict[str, SparseAutoencoder]]") -> "list[CheckFolder]":
    """Return the run folder of each group."""
    from sae_lightning.checking.configuration import reference_names
    from sae_lightning.checking.folder import CheckFolder

    if settings.out is None:
        first = CheckFolder.next_free(settings.name)
        number = int(first.path.name.removeprefix("version_"))
        return [CheckFolder(first.path.with_name(f"version_{number + i}")) for i in range(len(groups))]
    if len(groups) == 1:
        return [CheckFolder(settings.out)]
    names = reference_names([place for group in groups for place in group])
    return [CheckFolder(settings.out / name) for name in names]


def _request(settings: Namespace, command: str) -> "CheckRequest":
    from sae_lightning.checking.budget import Budget
    from sae_lightning.checking.data import DataRequest
    from sae_lightning.checking.preparing import CheckRequest

    names = ("model", "hook", "hook_input", "config", "cache", "context_length", "bos_in_every_row")
    names += ("skip_first_positions", "n_tokens", "nulls")
    data = DataRequest(
        text=[settings.text] if isinstance(settings.text, str) else settings.text,
        dtype=None if settings.dtype == "auto" else settings.dtype,
        **{name: settings[name] for name in names},
    )
    return CheckRequest(
        data,
        Budget.parse(settings.budget),
        command,
        settings.controls,
        settings.draws,
        settings.control_samples,
        settings.evaluation,
        settings.seeds,
        assumed_from(settings),
    )


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
    from sae_lightning.checking.configuration import controls_named
    from sae_lightning.checking.data import NULLS

    Budget.parse(settings.budget)
    controls_named(settings.controls)
    check_whole(2, **{"--n_tokens": settings.n_tokens, "--control_samples": settings.control_samples})
    check_whole(1, **{"--draws": settings.draws})
    check_whole(0, **{"--latents": settings.latents})
    for seed in settings.seeds:
        check_seed(**{"--seeds": seed})
    if not settings.seeds or len(set(settings.seeds)) < len(settings.seeds):
        raise ValueError(f"--seeds {settings.seeds}: expected one seed or more, each once")
    if unknown := [name for name in settings.nulls if name not in NULLS]:
        raise ValueError(f"--nulls {unknown[0]}: expected some of {', '.join(NULLS)}, or [] for none")
    if settings.evaluation and not settings.evaluation.is_file():
        raise ValueError(f"--evaluation {settings.evaluation}: no such file; configs/evaluation has some")


def _parser() -> ArgumentParser:
    parser = make_parser("check", __doc__)
    parser.add_argument(
        "SAE", nargs="+", help="Folder or weight file in any format, hf://owner/name, or RELEASE/ID of SAELens."
    )
    add_assume(parser)
    add_model_and_text(parser)
    parser.add_argument(
        "--cache", type=str | None, default=None, metavar="FOLDER", help="Activations that sae cache wrote, instead."
    )
    parser.add_argument(
        "--budget",
        type=str,
        default="nulls",
        help="nulls trains nothing; 'tokens N' or 'minutes T' trains the SAE again with its frozen twins.",
    )
    parser.add_argument("--n_tokens", type=int, default=16_384, metavar="N", help="Held-out activations.")
    parser.add_argument("--draws", type=int, default=3, metavar="N", help="Draws of each control that is random.")
    parser.add_argument(
        "--control_samples", type=int, default=65_536, metavar="N", help="Activations that controls are made from."
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
        type=list[str],
        default=["gaussian", "shuffled", "reinitialised"],
        metavar="NAMES",
        help="Null data that the SAEs read too, where nothing is trained; [] for none.",
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
        help="Print the configuration that is run, and stop.",
    )
    return parser
