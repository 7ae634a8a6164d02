"""The run folder of a check: begun, measured, finished; and never two checks in one."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from sae_lightning.checking.check_file import CHECK_FILE
from sae_lightning.runs.metrics_lines import METRICS_FILE
from sae_lightning.runs.run import CONFIG_FILE, SAES_FOLDER
from sae_lightning.runs.starts import STARTS_FILE
from sae_lightning.whole_files import write_whole

CONFIGURATION = "check.yaml"
_OPTIONS = "# Options: "
_CHECKPOINTS = ("interrupted.ckpt", "last.ckpt")


class CheckFolder:
    """Where a check keeps its files.

    Args:
        path: the run folder, which need not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def remove_if_empty(self) -> None:
        """Leave no folder behind in which no check has begun, nor those above it that hold nothing else."""
        with suppress(OSError):  # what it says of a folder that holds something, or is not there
            for folder in (self.path, *self.path.parents[:2]):
                folder.rmdir()

    def is_measured(self, panel: Mapping[str, Any]) -> bool:
        """Return whether the run was finished: its SAEs are written after its last validation.

        Args:
            panel: arguments of the panel.
        """
        places = [self.path / SAES_FOLDER / name / "sae.json" for name in _exported(panel)]
        return (self.path / METRICS_FILE).is_file() and all(place.is_file() for place in places)

    @property
    def checkpoint(self) -> Path | None:
        """The newest checkpoint of a fit that was stopped; None where there is none."""
        paths = [self.path / "checkpoints" / name for name in _CHECKPOINTS]
        there = [path for path in paths if path.is_file()]
        return max(there, key=lambda path: path.stat().st_mtime, default=None)

    def begun_with(self, options: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the configuration of the check that was begun here; None where there is none.

        Args:
            options: of this command.

        Raises:
            ValueError: if the check here is finished, or another one, or if there is something else.
        """
        if (self.path / CHECK_FILE).is_file():
            raise ValueError(
                f"{self.path} holds a finished check, which is not overwritten: give another --out, or leave it out"
            )
        path = self.path / CONFIGURATION
        if not path.is_file():
            if any((self.path / name).exists() for name in (CONFIG_FILE, METRICS_FILE)):
                raise ValueError(f"{self.path} holds a run that is no check: give another --out")
            return None
        text = path.read_text(encoding="utf-8")
        line = next((line for line in text.splitlines() if line.startswith(_OPTIONS)), _OPTIONS + "{}")
        before, now = json.loads(line.removeprefix(_OPTIONS)), json.loads(json.dumps(options))
        if differing := [name for name in {**before, **now} if before.get(name) != now.get(name)]:
            name = differing[0]
            raise ValueError(
                f"{self.path} holds a check with {name}={before.get(name)}, and this one has {name}={now.get(name)}: "
                "give the options that it was begun with, and it goes on, or another --out"
            )
        content: dict[str, Any] = yaml.safe_load(text)
        return content

    def begin(self, text: str, options: Mapping[str, Any]) -> Path:
        """Write the configuration, and forget what a check that measured nothing has left.

        Args:
            text: YAML.
            options: of the command.

        Returns:
            The file.
        """
        for name in (CONFIG_FILE, STARTS_FILE):
            (self.path / name).unlink(missing_ok=True)
        self.path.mkdir(parents=True, exist_ok=True)
        first, _, rest = text.partition("\n")
        write_whole(self.path / CONFIGURATION, f"{first}\n{_OPTIONS}{json.dumps(options)}\n{rest}")
        return self.path / CONFIGURATION

    def placed(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return a configuration whose run lies here."""
        place = self.path.absolute()
        logger = {
            "class_path": "sae_lightning.loggers.MemberTensorBoardLogger",
            "init_args": {"save_dir": str(place.parent.parent), "name": place.parent.name, "version": place.name},
        }
        return {**settings, "name": place.parent.name, "trainer": {**settings["trainer"], "logger": logger}}


def _exported(panel: Mapping[str, Any]) -> Iterator[str]:
    """Yield the folders of the SAEs that a finished run has written; those that read nulls are written once."""
    first: dict[str, str] = {}
    for key in panel["references"]:
        part, _, name = key.rpartition("/")
        first.setdefault(name, f"{part}/" if part else "")
    yield from (f"{part}{name}/0" for name, part in first.items())
    for control in panel["controls"]:
        for name, part in first.items():
            yield f"{part}{control}/0" if len(first) == 1 else f"{part}{name}_{control}/0"
    for policy in panel["policies"]:
        yield from (f"{part}{policy}/{seed}" for part in dict.fromkeys(first.values()) for seed in panel["seeds"])


def folder_name(text: str) -> str:
    """Return a text as the name of a folder."""
    return re.sub(r"\W+", "_", text).strip("_") or "sae"
