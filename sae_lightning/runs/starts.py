"""``starts.jsonl``: when, with what and on what a run was started, a line for each start.

``{"time": "2026-11-22T03:10:00+00:00", "command": "fit", "commit": "971e356", "versions": {"sae_lightning": ...,
"python": ..., ...}, "devices": "1 x cpu"}``. ``commit`` is that of the code where it lies in a git repository, with a
``+`` where files have been changed since, and else null. A start from a checkpoint says under ``resumed`` from which
step and which settings it changed, ``{"step": 500, "changes": ["model.optimizer.lr 0.001 -> 0.0005"]}``; where nothing
was left to train, and so nothing was changed, ``trained`` is false.
"""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

STARTS_FILE = "starts.jsonl"


def add_start(run: Path, start: dict[str, Any]) -> None:
    """Append a line."""
    with (run / STARTS_FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps(start) + "\n")


def read_starts(run: Path) -> list[dict[str, Any]]:
    """Read the lines; none of a run that is older than the file."""
    path = run / STARTS_FILE
    starts = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        with suppress(json.JSONDecodeError):  # cut off when the machine stopped
            starts.append(json.loads(line))
    return starts
