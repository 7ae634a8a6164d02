"""Checks of many SAEs side by side: which belong into one table, and what stands in it.

Two checks share a table where they read the same text in the same way, ran the same evaluators with the same arguments,
and drew controls equally often from equally many activations. Model and hook may differ: an SAE is compared with
controls that read what it reads, and its row says what that is.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sae_lightning.checking.check_file import CHECK_FILE, read_check
from sae_lightning.checking.configuration import PUBLISHED
from sae_lightning.checking.words import noun_of_all

_DATA_SETTINGS = ("n_tokens", "context_length", "bos_in_every_row", "skip_first_positions", "max_norm_ratio")
_PLACE = ("model", "weights", "hook", "hook_input", "target", "dtype")


@dataclass(frozen=True)
class Row:
    """One SAE of a table.

    Args:
        name: unique in its table.
        sae: what its file says of it, an entry of ``saes``.
        check: the file.
        path: of the file.
    """

    name: str
    sae: Mapping[str, Any]
    check: Mapping[str, Any]
    path: Path

    @property
    def metrics(self) -> Mapping[str, Any]:
        """The headline metrics by name: one for each question, fixed before anything was measured."""
        return {name: metric for name, metric in self.sae["metrics"].items() if metric["is_headline"]}

    @property
    def words(self) -> Mapping[str, str]:
        """The word on each question by its name."""
        return _words(self.sae)

    @property
    def remake(self) -> Mapping[str, Any] | None:
        """What is said of the SAE that was trained as this one is; None where none was."""
        return self.sae.get("remake")

    @property
    def remake_words(self) -> Mapping[str, str]:
        """The word on each question about the re-make against its trained twins; empty without one."""
        return _words(self.remake or {})

    @property
    def identity(self) -> tuple[str, ...]:
        """What two measurements of one SAE at one place have in common."""
        return (self.sae["fingerprint"], *(json.dumps(self.check["data"].get(name)) for name in _PLACE))


@dataclass(frozen=True)
class Board:
    """SAEs that were measured on the same text at the same settings.

    Args:
        settings: names and texts of what they share.
        rows: by model, hook, width and name.
        notes: what counts once.
    """

    settings: Mapping[str, str]
    rows: Sequence[Row]
    notes: Sequence[str]

    @property
    def noun(self) -> str:
        """What its rows are called: transcoder, or SAE."""
        return noun_of_all(row.sae for row in self.rows)

    @property
    def questions(self) -> dict[str, str]:
        """The questions that any SAE was asked: texts by name."""
        texts: dict[str, str] = {}
        for part in (part for row in self.rows for part in (row.sae, row.remake or {})):
            for one in part.get("questions", ()):
                texts.setdefault(one["name"], one["text"])
        return texts

    @property
    def metrics(self) -> dict[str, str]:
        """The headline metrics of all SAEs: labels by name."""
        return _labels(row.metrics for row in self.rows)

    def controls(self, metric: str) -> dict[str, str]:
        """Return the controls that any SAE stands beside on a metric: labels by name."""
        return _labels(row.metrics[metric]["controls"] for row in self.rows if metric in row.metrics)


def find_checks(paths: Sequence[Path]) -> list[Path]:
    """Return the files that are meant, each once.

    Args:
        paths: files of any name, and folders, in which every file is taken whose name ends in ``check.json``.

    Raises:
        ValueError: if there is nothing at a path, or no check in a folder.
    """
    files = {file.resolve(): file for path in paths for file in _checks_at(path)}
    return list(files.values())


def _checks_at(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    if not (files := sorted(path.rglob(f"*{CHECK_FILE}"))):
        raise ValueError(
            f"{path} has no {CHECK_FILE} in it or below: sae check writes one into its run folder; files in a folder "
            f"count if their names end in {CHECK_FILE}"
        )
    return files


def read_boards(paths: Sequence[Path]) -> list[Board]:
    """Read checks and put those together that may stand side by side, in the order of the first of each.

    Args:
        paths: files and folders, see `find_checks`.

    Raises:
        ValueError: if a file is no check, or there is no SAE in any.
    """
    groups: dict[str, list[Row]] = {}
    shared: dict[str, dict[str, str]] = {}
    for path in find_checks(paths):
        check = read_check(path)
        settings = settings_of(check, path)
        key = json.dumps(settings)
        shared[key] = settings
        groups.setdefault(key, []).extend(Row(_name(sae), sae, check, path) for sae in check["saes"])
    boards = [_board(shared[key], rows) for key, rows in groups.items() if rows]
    if not boards:
        raise ValueError(f"{', '.join(map(str, paths))}: no SAE was checked; give a check of one")
    return boards


def settings_of(check: Mapping[str, Any], path: Path) -> dict[str, str]:
    """Return what has to be the same in checks that share a table, as text by name.

    Args:
        check: the file's content.
        path: of the file; a text without a hash is known to be the same within one file alone.
    """
    data = check["data"]
    settings = {"text": data["text"]["sha256"] or f"unknown, that of {path}"}
    settings |= {name: _text(data[name]) for name in _DATA_SETTINGS}
    settings["evaluators"] = ", ".join(sorted(map(_evaluator, check["evaluators"])))
    return settings | {name: _text(check[name]) for name in ("draws", "control_samples")}


def refuse_several(boards: Sequence[Board]) -> None:
    """Accept one table alone.

    Raises:
        ValueError: if there are several; names the files of each, in what they differ, and the ways on.
    """
    if len(boards) == 1:
        return
    differing = [name for name in boards[0].settings if len({board.settings[name] for board in boards}) > 1]
    lines = [f"  {_files(board)}: {_differences(board, boards, differing)}" for board in boards]
    raise ValueError(
        "these checks read other text or have other settings, so their numbers do not stand side by side:\n"
        + "\n".join(lines)
        + "\ngive those of one line, check again at the settings of the others, or make a table of each with --split"
    )


def _differences(board: Board, boards: Sequence[Board], names: Iterable[str]) -> str:
    """Return what of a board is not so on all boards; of evaluators alone those that not all have."""
    own = {name: short_hash(board.settings[name]) for name in names}
    if "evaluators" in own:
        common = set.intersection(*(set(one.settings["evaluators"].split(", ")) for one in boards))
        others = [one for one in own["evaluators"].split(", ") if one not in common]
        own["evaluators"] = ", ".join(others) or "none besides"
    return "; ".join(f"{name} {value}" for name, value in own.items())


def short_hash(text: str) -> str:
    """Return twelve digits of a hash, and any other text as it is.

    >>> short_hash("0123456789abcdef" * 4), short_hash("unknown, that of a/check.json")
    ('0123456789ab', 'unknown, that of a/check.json')
    """
    return text[:12] if len(text) == 64 and " " not in text else text


def _files(board: Board) -> str:
    return ", ".join(dict.fromkeys(str(row.path) for row in board.rows))


def _board(settings: Mapping[str, str], rows: Sequence[Row]) -> Board:
    """Count each SAE once, give each a name of its own, and bring them into order."""
    by_identity: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        by_identity.setdefault(row.identity, []).append(row)
    counted = [max(same, key=_says_more) for same in by_identity.values()]
    notes = [_note(one, same) for one, same in zip(counted, by_identity.values(), strict=True) if len(same) > 1]
    return Board(settings, sorted(_named(counted), key=_order), notes)


def _says_more(row: Row) -> tuple[bool, str]:
    return row.remake is not None, str(row.check.get("time", ""))


def _note(counted: Row, same: Sequence[Row]) -> str:
    others = [row for row in same if row is not counted]
    where = ", ".join(dict.fromkeys(f"{row.path} ({row.name})" for row in others))
    text = (
        f"{counted.name} of {counted.path} is in {where} too (fingerprint {counted.sae['fingerprint']}) and counts once"
    )
    off = max(((_distance(counted, row, name), name) for row in others for name in counted.metrics), default=None)
    return f"{text}; its {off[1]} is {off[0]:.2g} off there." if off and off[0] else f"{text}."


def _distance(one: Row, other: Row, metric: str) -> float:
    """Return how far two measurements of an SAE are apart on a metric; 0 where one of them has none."""
    first, second = (row.metrics[metric]["value"] if metric in row.metrics else None for row in (one, other))
    return 0.0 if first is None or second is None else abs(first - second)


def _name(sae: Mapping[str, Any]) -> str:
    """Return the name of an SAE, or where it is if it was checked alone and has the name of all such."""
    return str(sae["where"] if sae["name"] == PUBLISHED else sae["name"])


def _named(rows: Sequence[Row]) -> Iterator[Row]:
    """Add to names that several SAEs have where each is, or else its fingerprint."""
    for row in rows:
        same = [other for other in rows if other.name == row.name]
        places = {other.sae["where"] for other in same}
        if len(same) == 1:
            yield row
            continue
        added = row.sae["where"] if len(places) == len(same) else _distinct(row)
        yield replace(row, name=f"{row.name} ({added})")


def _distinct(row: Row) -> str:
    data = row.check["data"]
    return f"{row.sae['fingerprint']}, {data['hook']}, {data.get('dtype')}"


def _order(row: Row) -> list[Any]:
    """Return a key that puts layer 2 before layer 12."""
    data = row.check["data"]
    parts = re.split(r"(\d+)", f"{data['model']} {data['hook']} {row.sae['d_sae']} {row.name}")
    return [int(part) if part.isdecimal() else part for part in parts]


def _words(part: Mapping[str, Any]) -> dict[str, str]:
    return {one["name"]: one["word"] for one in part.get("questions", ())}


def _labels(parts: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    labels: dict[str, str] = {}
    for part in parts:
        for name, one in part.items():
            labels.setdefault(name, one["label"])
    return labels


def _text(value: Any) -> str:
    words = {None: "none", True: "yes", False: "no"}
    return words[value] if value is None or isinstance(value, bool) else f"{value}"


def _evaluator(evaluator: Mapping[str, Any]) -> str:
    """Return an evaluator with its arguments, without ", " between them."""
    arguments = [f"{name}={json.dumps(evaluator[name])}" for name in sorted(evaluator) if name != "class"]
    return f"{evaluator['class']}({' '.join(arguments)})".replace(", ", ",").replace("()", "")
