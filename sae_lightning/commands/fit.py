"""``sae fit``, ``sae validate`` and ``sae test``: one LightningCLI.

It adds to Lightning's own: the model takes its width from the data, a lone SAE takes a freeze policy under ``freeze``,
every run leaves the same files in its folder, and a stopped run is resumed in its folder.
"""

import os
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from typing_extensions import override

import sae_lightning.pocket  # noqa: F401  (a configuration names its classes: PocketText, PocketImages, ...)
from sae_lightning import cpu_settings
from sae_lightning.callbacks import RunConfig, WholeFiles
from sae_lightning.callbacks.checkpoint_file import read_checkpoint
from sae_lightning.callbacks.run_config import take_folder
from sae_lightning.causal import EntityPrompts
from sae_lightning.checks import check_seed
from sae_lightning.class_paths import accept_old_class_paths
from sae_lightning.colours import coloured
from sae_lightning.commands.before_start import check_before_start
from sae_lightning.commands.parser import parse
from sae_lightning.commands.rehearsal import choose_machine, say_unused_devices
from sae_lightning.controls import Control
from sae_lightning.datamodules import ActivationDataModule, Text
from sae_lightning.family import SAEFamily
from sae_lightning.freeze import FreezePolicy
from sae_lightning.images import Embedding, Images
from sae_lightning.interpretation import Judge
from sae_lightning.loggers import MemberTensorBoardLogger, RunFolder
from sae_lightning.messages import own_messages
from sae_lightning.moving_line import wrapped
from sae_lightning.panel import SanityPanel, built_in_place
from sae_lightning.probing import ProbingTask
from sae_lightning.runs import METRICS_FILE, Run, experiments_of
from sae_lightning.runs.run import SAES_FOLDER
from sae_lightning.saes import BiasInit, DecoderInit, L0Penalty, SAEModule
from sae_lightning.sources import Dependence, FiringProbability, Null
from sae_lightning.strategies import MembersStrategy
from sae_lightning.trainer import run_folder
from sae_lightning.training import TRAINER_DEFAULTS, default_callbacks
from sae_lightning.verdict import experiment_texts, write_verdict

_LONGEST_NAME = 200
NAMED_CLASSES: tuple[type, ...] = (
    SAEModule,
    ActivationDataModule,
    Callback,
    FreezePolicy,
    DecoderInit,
    Control,
    BiasInit,
    L0Penalty,
    FiringProbability,
    Dependence,
    Null,
    Text,
    Images,
    Embedding,
    ProbingTask,
    EntityPrompts,
    Judge,
    Optimizer,
    LRScheduler,
)
"""Bases of the classes that a configuration names, for a hint after a name that does not exist."""


class SAECLI(LightningCLI):
    """Run one of the commands.

    Args:
        args: the command line after ``sae``.
    """

    _place: dict[str, str] | None = None
    """Folder of the run that is resumed, as arguments of a logger."""

    def __init__(self, args: list[str]) -> None:
        cpu_settings.silence_known_noise()
        with own_messages():
            self._run(args)

    def _run(self, args: list[str]) -> None:
        cpu_settings.limit_threads()
        cpu_settings.choose_products()
        cpu_settings.separate_large_tensors()
        accept_old_class_paths()
        self._command = args[0]
        super().__init__(
            SAEModule,
            ActivationDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            seed_everything_default=0,
            save_config_callback=RunConfig,
            save_config_kwargs={"overwrite": True},
            parser_kwargs={"prog": "sae", "exit_on_error": False},  # `cli.main` reports errors
            trainer_defaults={
                **TRAINER_DEFAULTS,
                "logger": {"class_path": "sae_lightning.loggers.MemberTensorBoardLogger"},
            },
            args=args,
        )

    @override
    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]  # Lightning's is static
        """Return the command that runs: a parser for each of the others would be built for nothing."""
        return {self._command: LightningCLI.subcommands()[self._command]}

    @override
    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        """Leave out Lightning's table after a validation, and list its many options of the trainer last in the help."""
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        groups: Any = parser._action_groups
        groups.sort(key=lambda group: group is (parser.groups or {}).get("trainer"))
        parser.usage = f"sae {subcommand} [--config CONFIG] [options]"
        if subcommand != "fit":
            parser.set_defaults({"verbose": False})
        return parser

    @override
    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse as the other commands do; Lightning's own warns when `sae` was not started from a command line."""
        self.config = parse(parser, list(args or []), NAMED_CLASSES)
        seed = self.config[self.config.subcommand].seed_everything
        if seed not in (None, True, False):
            check_seed(seed_everything=seed)

    @override
    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the top-level keys ``name`` and ``freeze``, and the link from the data to the model."""
        parser.add_argument("--name", default="runs", help="Folder of the experiment in lightning_logs/.")
        parser.link_arguments("name", "trainer.logger.init_args.name")
        parser.link_arguments("data.d_in", "model.init_args.d_in", apply_on="instantiate")
        parser.link_arguments("data.widths", "model.init_args.widths", apply_on="instantiate")
        parser.add_subclass_arguments(
            FreezePolicy,
            "freeze",
            required=False,
            help="Which parts of a lone SAE stay as they start; a SanityPanel has its own `policies`. Default: none.",
        )

    @property
    def settings(self) -> Any:
        """Configuration of the command that runs."""
        return self.config[self.config.subcommand]

    @override
    def _parse_ckpt_path(self) -> None:
        """Refuse a file that is no checkpoint; one with hyperparameters may change the configuration."""
        checkpoint = self.settings.get("ckpt_path")
        is_file = checkpoint is not None and Path(str(checkpoint)).is_file()
        if is_file and read_checkpoint(Path(str(checkpoint))).get("hyper_parameters"):
            super()._parse_ckpt_path()

    @override
    def before_instantiate_classes(self) -> None:
        """Refuse a configuration that cannot work before anything is built."""
        checkpoint = self.settings.get("ckpt_path")
        if checkpoint is not None and str(checkpoint) not in ("last", "best") and not Path(checkpoint).is_file():
            raise FileNotFoundError(
                f"ckpt_path={checkpoint}: no such file; checkpoints lie in lightning_logs/<name>/version_N/checkpoints"
            )
        model = self.settings.model.class_path.split(".")[-1]
        trains_nothing = model == SanityPanel.__name__ and self.settings.model.init_args.get("policies") == {}
        if checkpoint is None and self.config.subcommand != "fit" and not trains_nothing:
            raise ValueError(f"sae {self.config.subcommand} needs the checkpoint to measure: --ckpt_path PATH")
        if self.settings.freeze is not None and model in (SanityPanel.__name__, SAEFamily.__name__):
            raise ValueError(
                f"freeze={self.settings.freeze.class_path} beside a {model}: freeze is for a lone SAE. "
                "Remove it, or name the policies under model.init_args.policies."
            )
        check_before_start(self.settings)
        _check_strategy(self.settings.trainer.strategy, model)
        self._check_folder()
        trainer = self.settings.trainer
        for name in ("max_steps", "max_epochs", "limit_train_batches"):
            if self.config.subcommand == "fit" and trainer.get(name) == 0:
                raise ValueError(f"trainer.{name}=0: nothing would be trained; expected 1 or more")
        choose_machine(trainer)
        if self.config.subcommand == "fit" and self.settings.seed_everything not in (None, True, False, 0):
            rank_zero_warn(
                f"seed_everything={self.settings.seed_everything} changes no SAE and no data, which have their own "
                "seeds: set model.seed (of a panel model.seeds) and data.seed"
            )
        if self.settings.weights_only is None:
            self.settings.weights_only = True  # a checkpoint is data; it need not be trusted
        self._resume_in_same_folder()

    def _check_folder(self) -> None:
        """Refuse names that are no folder of their own inside the folder of all experiments."""
        logger = self._first_logger()
        version = logger.get("init_args", {}).get("version") if isinstance(logger, Namespace) else None
        for option, name in (("name", self.settings.name), ("trainer.logger.version", version)):
            if not isinstance(name, str):
                continue
            parts = Path(name).parts
            longest = max((len(os.fsencode(part)) for part in parts), default=0)
            if not 0 < longest <= _LONGEST_NAME or Path(name).is_absolute() or ".." in parts:
                raise ValueError(
                    f"{option}={name}: expected the name of a folder below that of all experiments, of at most "
                    f"{_LONGEST_NAME} letters, such as pocket/topk; trainer.logger.save_dir says where that is"
                )

    def _first_logger(self) -> Any:
        logger = self.settings.trainer.logger
        return logger[0] if isinstance(logger, list) and logger else logger

    def _resume_in_same_folder(self) -> None:
        """Keep the run folder when both configuration and checkpoint come from it: this is one run, not two."""
        checkpoint, configs = self.settings.get("ckpt_path"), self.settings.get("config") or []
        if self.config.subcommand != "fit" or checkpoint is None or len(configs) != 1:
            return
        run = Path(str(checkpoint)).resolve().parent.parent
        if Path(str(configs[0])).resolve() != run / "config.yaml":
            return
        self._place = {"save_dir": os.path.relpath(run.parent.parent), "name": run.parent.name, "version": run.name}
        if getattr(logger := self._first_logger(), "init_args", None):
            logger.init_args.update(Namespace(self._place))

    @override
    def instantiate_classes(self) -> None:
        """Build model, data and trainer; members that live on other ranks take no memory here."""
        with built_in_place(_spreads_members(self.settings.trainer.strategy)):
            super().instantiate_classes()

    @override
    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Build the trainer with the callbacks of every run, unless the configuration has one of the same kind."""
        given = self._get(self.config_init, "trainer")["callbacks"] or []
        callbacks: list[Callback] = list(given) if isinstance(given, list) else [given]
        freeze = self._get(self.config_init, "freeze")
        if freeze is not None:
            callbacks.append(freeze)
        for default, kind in self._default_callbacks():
            if not any(isinstance(callback, kind) for callback in callbacks):
                callbacks.append(default)
        plugins = self._get(self.config_init, "trainer")["plugins"] or []
        plugins = list(plugins) if isinstance(plugins, list) else [plugins]
        if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
            plugins.append(WholeFiles())
        trainer = super().instantiate_trainer(callbacks=callbacks, plugins=plugins, logger=self._loggers(), **kwargs)
        say_unused_devices(trainer)
        cpu_settings.share_threads(trainer.num_devices)
        return trainer

    def _loggers(self) -> list[Logger] | bool:
        """Return the loggers, the first of which says where the run lies; ours does where no other would."""
        given = self._get(self.config_init, "trainer")["logger"]
        if given is True:
            return True
        loggers: list[Logger] = [] if not given else list(given) if isinstance(given, list) else [given]
        if loggers and isinstance(loggers[0], TensorBoardLogger | CSVLogger):
            return loggers
        return [RunFolder(**(self._place or {"name": self.settings.name})), *loggers]

    def _default_callbacks(self) -> list[tuple[Callback, type]]:
        """Return the callbacks of every run, each with the class of which another one takes its place."""
        trainer = self.settings.trainer
        return default_callbacks(trainer.enable_progress_bar is not False, trainer.enable_checkpointing is not False)

    def before_fit(self) -> None:
        """Refuse a folder that is taken, and keep freed memory from here on: what follows are temporaries."""
        take_folder(self.trainer, self.config.subcommand, self.settings.get("ckpt_path"))
        cpu_settings.keep_freed_memory()
        self.datamodule.checkpoint = self.settings.get("ckpt_path")

    before_validate = before_test = before_fit

    def after_fit(self) -> None:
        """Print what the run has left, and where."""
        run = self._print_table()
        if run is None:
            if self.trainer.is_global_zero:
                print("nothing is kept of this run: trainer.fast_dev_run is for trying out a configuration")
            return
        resumed = self.model.resumed
        if resumed is not None and resumed.step == self.trainer.global_step:
            said = (
                f"nothing was left to train: the checkpoint is at step {resumed.step}, the end of the run. More "
                "data.train_samples, trainer.max_epochs or trainer.max_steps let it go on"
            )
            print(wrapped(said, 2))
        if (run / METRICS_FILE).is_file():
            print(_what_next(Run(run), any(isinstance(logger, TensorBoardLogger) for logger in self.trainer.loggers)))
        if isinstance(self.trainer.logger, MemberTensorBoardLogger) and (run / METRICS_FILE).is_file():
            from sae_lightning.report.tensorboard import into_tensorboard

            into_tensorboard(run)

    def after_validate(self) -> None:
        """Print the table of metrics, and what to do next."""
        if (run := self._print_table()) is not None and (run / METRICS_FILE).is_file():
            print(_what_next(Run(run), False))

    after_test = after_validate

    def _print_table(self) -> Path | None:
        """Print the table of a run that has validated; return its folder, or None on other ranks and without one."""
        run = run_folder(self.trainer)
        if run is None or not self.trainer.is_global_zero:
            return None
        if (run / METRICS_FILE).is_file():
            finished = Run(run)
            write_verdict(finished)
            print("\n" + coloured("\n\n".join(experiment_texts(experiments_of([finished]), is_short=True))) + "\n")
        return run


def _what_next(finished: Run, has_curves: bool) -> str:
    """Say which commands go on from a run, and what it has left."""
    run, first = finished.folder, next(iter(finished.first_seeds()), None)
    commands = {
        f"sae report {run}": "one HTML page: charts, verdict, latents",
        f"sae compare {run} --all": "the tables with every metric",
        f"sae explain {run} {first} 0" if first else "": "one latent",
        f"tensorboard --logdir {run}" if has_curves else "": "curves",
    }
    left = [name for name in (METRICS_FILE, "checkpoints", SAES_FOLDER) if (run / name).exists()]
    lines = [f"  {command}\n      {what}" for command, what in commands.items() if command]
    return "\n".join(["next:", *lines, wrapped(f"kept in {run}: {', '.join(left)}", 2)])


def _name_of(strategy: Any) -> str:
    return str(getattr(strategy, "class_path", strategy)).split(".")[-1]


def _spreads_members(strategy: Any) -> bool:
    return _name_of(strategy) in (MembersStrategy.name, MembersStrategy.__name__)


def _check_strategy(strategy: Any, model: str) -> None:
    """Refuse strategies that split parameters over ranks, and one that spreads members where there are none.

    The first fail late, or (ModelParallelStrategy) train each rank on its own.
    """
    name = _name_of(strategy)
    if _spreads_members(strategy) and model not in (SanityPanel.__name__, SAEFamily.__name__):
        raise ValueError(
            f"trainer.strategy={name} puts the members of a SanityPanel or SAEFamily on different devices, and "
            f"model={model} is a lone SAE: take trainer.strategy=ddp"
        )
    if name.lower().startswith(("fsdp", "deepspeed", "modelparallel")):
        raise ValueError(
            f"trainer.strategy={name} splits an SAE over devices in a way that is not supported. Use "
            "trainer.strategy=latents, which deals its latents out, or ddp, where every device holds whole SAEs; "
            "docs/scaling.md has the sizes that fit on one GPU"
        )
