"""`Run`: a run folder, and the one way to read what is in it."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from sae_lightning.members import Member, Tag, natural_order, policy_order
from sae_lightning.metric import Metric, undescribed
from sae_lightning.nouns import noun_of
from sae_lightning.runs import frames
from sae_lightning.runs.drift import inactive_members
from sae_lightning.runs.items import MetricItems, read_items
from sae_lightning.runs.latents import LatentValues, read_latents
from sae_lightning.runs.measurements import Measurements
from sae_lightning.runs.metrics_lines import METRICS_FILE, Validation, read_validations
from sae_lightning.runs.starts import read_starts

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from sae_lightning.datamodules import ActivationDataModule
    from sae_lightning.saes import SparseAutoencoder

CONFIG_FILE = "config.yaml"
SAES_FOLDER = "saes"
VERDICT_FILE = "verdict.json"
_EXPECTED = "give a run folder, such as lightning_logs/<name>/version_0"


class Run:
    """What a run left in its folder. Nothing is read before it is used, and then once.

    Args:
        folder: the run folder.

    Attributes:
        given_again: other names under which `read_runs` was given the same folder.

    Raises:
        ValueError: if it is none; with everything that is read: if a file is damaged or of a newer format.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.given_again: list[Path] = []
        self._fingerprints: dict[Member, str] = {}
        if not self.folder.exists():
            raise ValueError(f"{folder}: no such folder; {_EXPECTED}")
        if not self.folder.is_dir():
            raise ValueError(f"{folder} is a file; {_EXPECTED}")
        if not any((self.folder / name).is_file() for name in (METRICS_FILE, CONFIG_FILE)):
            inside = sorted(path.parent for path in self.folder.glob(f"**/{METRICS_FILE}"))
            hint = f"; did you mean {inside[-1]}?" if inside else ""
            raise ValueError(f"{folder} holds no {METRICS_FILE}; {_EXPECTED}, with {METRICS_FILE} in it{hint}")

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    @property
    def title(self) -> str:
        """Experiment and version."""
        return "/".join(self.folder.resolve().parts[-2:])

    @property
    def separate(self) -> "Sequence[Run]":
        """The runs that this one is read from, each with a folder of its own."""
        return [self]

    # Settings
    # ----------------------------------------------------------------------------------------------------------------

    @cached_property
    def config(self) -> str:
        """``config.yaml`` as text; empty where there is none."""
        path = self.folder / CONFIG_FILE
        return path.read_text(encoding="utf-8") if path.is_file() else ""

    @cached_property
    def settings(self) -> dict[str, Any]:
        """``config.yaml`` as values; empty where there is none."""
        try:
            settings = yaml.safe_load(self.config)
        except yaml.YAMLError as error:
            raise ValueError(f"{self.folder / CONFIG_FILE} is damaged: {error}") from error
        if not isinstance(settings, dict | None):
            raise ValueError(f"{self.folder / CONFIG_FILE} is damaged: expected settings by name, got {settings!r:.80}")
        return settings or {}

    @property
    def model(self) -> dict[str, Any]:
        """Class and arguments of the model: an SAE, or a panel of them."""
        return choice(self.settings.get("model"))

    @property
    def sae(self) -> dict[str, Any]:
        """Class and arguments of the SAE, in a panel of the SAE that its members are."""
        arguments = self.model["init_args"]
        return choice(arguments["sae"]) if "sae" in arguments else self.model

    @property
    def targets(self) -> dict[str, str]:
        """The hook at which transcoders answer by that which they read; empty where there are SAEs."""
        arguments = self.model["init_args"]
        if arguments.get("source") is not None:
            return {arguments["source"]: arguments["target"]}
        return dict(arguments.get("targets") or {})

    @cached_property
    def noun(self) -> str:
        """What its SAEs are called: SAE, transcoder or crosscoder."""
        arguments = self.model["init_args"]
        if not self.config and self.saes:  # of a run from Python the files of the SAEs say it
            path = next(iter(self.saes.values())) / "sae.json"
            arguments = json.loads(path.read_text(encoding="utf-8"))["settings"]
        is_transcoder = bool(self.targets) or arguments.get("d_out") is not None
        return noun_of(is_transcoder, bool(arguments.get("crosscoder")))

    @property
    def data(self) -> dict[str, Any]:
        """Class and arguments of the datamodule."""
        return choice(self.settings.get("data"))

    @property
    def seeds(self) -> list[int]:
        """Seeds of the SAEs."""
        arguments = self.model["init_args"]
        return list(arguments["seeds"]) if "seeds" in arguments else [self.sae["init_args"].get("seed", 0)]

    @cached_property
    def starts(self) -> list[dict[str, Any]]:
        """When, with what and on what it was started, one entry for each start; none of older runs."""
        return read_starts(self.folder)

    @property
    def is_fit(self) -> bool:
        """Whether the SAEs were trained in this run, and not only measured."""
        if self.starts:
            return any(start.get("command") == "fit" for start in self.starts)
        return bool(self.saes) or any(validation.step for validation in self.validations)

    # Metrics
    # ----------------------------------------------------------------------------------------------------------------

    @cached_property
    def validations(self) -> list[Validation]:
        """Every validation and test, one or more."""
        return self._read_validations()

    def _read_validations(self) -> list[Validation]:
        path = self.folder / METRICS_FILE
        if not path.is_file():
            raise ValueError(f"{self.folder} holds no {METRICS_FILE}: the run has not finished a validation yet")
        return read_validations(path)

    @property
    def last(self) -> Validation:
        """The last validation or test."""
        return self.validations[-1]

    @property
    def nulls(self) -> tuple[str, ...]:
        """Parts that are null versions of the activations: as measured, or before that as the data are configured."""
        path = self.folder / METRICS_FILE
        measured = self.last.nulls if path.is_file() and path.stat().st_size else ()
        return measured or tuple(self.data["init_args"].get("nulls") or ())

    @cached_property
    def measurements(self) -> Measurements:
        """What the last validation or test measured."""
        last = self.last
        metrics: dict[str, Metric] = {}
        for validation in self.validations:
            metrics |= validation.about
        for tag, better in last.better.items():  # format 1
            metrics.setdefault(tag.metric, undescribed(tag.metric, better))
        return Measurements(
            last.values,
            last.floors,
            metrics,
            self._items(),
            self.nulls,
            last.sizes,
            last.member_floors,
            last.repeats,
            last.fingerprints,
            inactive_members(self.validations, self.model["init_args"].get("policies"), self.settings.get("freeze")),
            last.references,
            last.controls,
            latents=self._latents(),
            noun=self.noun,
        )

    def _items(self) -> dict[Tag, MetricItems]:
        return read_items(self.folder, self.last.step)

    def _latents(self) -> dict[str, LatentValues]:
        return read_latents(self.folder, self.last.step)

    def of_latents(self, name: str, member: Member) -> "NDArray[np.float32] | None":
        """Return what was measured of the latents of an SAE [d_sae], such as `stability`; None where nothing was."""
        if not self.file(METRICS_FILE).is_file():
            return None
        values = self.measurements.latents.get(name)
        return None if values is None else values.members.get(member)

    def table(self) -> "pd.DataFrame":
        """Return every metric of the last validation or test, a row for each member; see `frames.table`."""
        return frames.table(self.measurements)

    def verdict(self) -> "pd.DataFrame":
        """Return what the trained SAE does to each baseline, a row for each; see `frames.verdict`."""
        return frames.verdict(self.file(VERDICT_FILE))

    def latents(self) -> "pd.DataFrame":
        """Return what was measured of single latents, a row for each; see `frames.latents`."""
        return frames.latents(self.measurements.latents)

    @property
    def references(self) -> Mapping[str, str]:
        """By policy where SAEs were read from that are not trained; none where nothing has been measured yet."""
        return self.measurements.references if self.file(METRICS_FILE).is_file() else {}

    @property
    def controls(self) -> Mapping[str, str]:
        """By policy what a control of such an SAE controls for; none where nothing has been measured yet."""
        return self.measurements.controls if self.file(METRICS_FILE).is_file() else {}

    def file(self, name: str) -> Path:
        """Return the path of a file that an evaluator left; it need not be there."""
        return self.folder / name

    @property
    def parts(self) -> list[str]:
        """Hooks that stand side by side, or the unnamed one; without nulls."""
        parts = dict.fromkeys(tag.part for tag in self.measurements.values)
        return [part for part in parts if part not in self.measurements.nulls]

    def found(self, pattern: str, read: Callable[[Path], Any]) -> list[tuple[Path, Any]]:
        """Read files that other commands have left in the folder.

        Raises:
            ValueError: if one is damaged.
        """
        results = []
        for path in sorted(self.folder.glob(pattern)):
            try:
                results.append((path, read(path)))
            except (ValueError, KeyError) as error:
                raise ValueError(f"{path} is damaged: {error}; remove it, or write it again") from error
        return results

    # SAEs and data
    # ----------------------------------------------------------------------------------------------------------------

    @cached_property
    def saes(self) -> dict[Member, Path]:
        """Folders of the exported SAEs, in the order of policies; none as long as a fit has not finished."""
        return saes_in(self.folder / SAES_FOLDER)

    def sae_folder(self, member: Member) -> Path:
        """Return the folder of an exported SAE.

        Raises:
            ValueError: if the run has none of this name.
        """
        if not self.saes:
            raise ValueError(f"{self.folder}: no SAEs in {self.folder / SAES_FOLDER}, which a finished fit leaves")
        if member not in self.saes:
            raise ValueError(f"{self.folder} has no SAE {member}; it has {', '.join(map(str, self.saes))}")
        return self.saes[member]

    def load(self, member: Member) -> "SparseAutoencoder":
        """Load an exported SAE."""
        from sae_lightning.saes import SparseAutoencoder

        return SparseAutoencoder.load(self.sae_folder(member))

    def fingerprint(self, member: Member) -> str:
        """Return the fingerprint of an exported SAE; empty where it is not exported."""
        if member not in self.saes:
            return ""
        if member not in self._fingerprints:
            from sae_lightning.saes.saving import fingerprint_of_saved

            self._fingerprints[member] = fingerprint_of_saved(self.saes[member])
        return self._fingerprints[member]

    def first_seeds(self) -> list[Member]:
        """Return the first seed of each policy of each part that is no null."""
        nulls = self.nulls
        first: dict[tuple[str, str], Member] = {}
        for member in self.saes:
            if member.part not in nulls:
                first.setdefault((member.part, member.policy), member)
        return list(first.values())

    def datamodule(
        self, kinds: "tuple[type[ActivationDataModule], ...] | None" = None, **arguments: Any
    ) -> "ActivationDataModule | None":
        """Make the datamodule of the run, without null versions of the activations.

        Args:
            kinds: what it may be; anything by default.
            **arguments: values in place of those of the run.

        Returns:
            The datamodule; None where it is of another kind.

        Raises:
            ValueError: if the run has no ``config.yaml``, or its data cannot be made.
        """
        import sae_lightning.pocket  # noqa: F401 - its classes are found by name
        from sae_lightning.datamodules import ActivationDataModule
        from sae_lightning.datamodules.from_settings import make_datamodule

        if not self.config:
            raise ValueError(f"{self.folder} holds no {CONFIG_FILE}, so its data are not known")
        datamodule = make_datamodule(self.settings.get("data"), kinds or (ActivationDataModule,), arguments)
        if datamodule is not None:
            self.use_norms(datamodule)
        return datamodule

    def use_norms(self, datamodule: "ActivationDataModule") -> None:
        """Let a datamodule of the same hook leave out the massive activations that the run has left out."""
        from sae_lightning.datamodules.norms import read_norms

        if (norms := read_norms(self.folder)) is not None:
            datamodule.use_norms(norms)


def saes_in(folder: Path) -> dict[Member, Path]:
    """Find exported SAEs below ``saes/`` of a run, in the order of parts, policies and seeds."""
    saes = {}
    for path in folder.glob("**/sae.safetensors"):
        try:
            saes[Member.parse(path.parent.relative_to(folder).as_posix())] = path.parent
        except ValueError:  # something that was saved there by hand
            continue

    def order(member: Member) -> tuple[Any, ...]:
        return natural_order(member.part), policy_order(member.policy), member.seed

    return {member: saes[member] for member in sorted(saes, key=order)}


def run_of_sae(folder: Path) -> Run | None:
    """Return the run that an exported SAE lies in; None where it lies elsewhere."""
    for parent in folder.absolute().parents:
        if parent.name == SAES_FOLDER and (parent.parent / CONFIG_FILE).is_file():
            return Run(parent.parent)
    return None


def read_runs(folders: Iterable[Path]) -> list[Run]:
    """Open run folders, each once however often and under whatever name it is given."""
    runs: dict[Path, Run] = {}
    for folder in folders:
        place = folder.resolve()
        if place in runs:
            runs[place].given_again.append(folder)
        else:
            runs[place] = Run(folder)
    return list(runs.values())


def choice(settings: Any) -> dict[str, Any]:
    """Return a choice of a class with its arguments, both of them there."""
    settings = settings if isinstance(settings, Mapping) else {}
    return {"class_path": str(settings.get("class_path") or ""), "init_args": settings.get("init_args") or {}}


def short_names(folders: Sequence[Path]) -> dict[Path, str]:
    """Return the ends of the paths, as long as it takes to tell them apart."""
    parts = {folder: folder.resolve().parts for folder in folders}
    for length in range(1, max(map(len, parts.values())) + 1):
        names = {folder: "/".join(own[-length:]) for folder, own in parts.items()}
        if len(set(names.values())) == len(names):
            break
    return names
