"""The next free folder of an experiment, which no other process gets: many runs may start in the same second."""

from itertools import count
from pathlib import Path


def next_number(experiment: Path) -> int:
    """Return the number after the largest N of the folders version_N of an experiment, which need not be there yet."""
    numbers = [path.name.removeprefix("version_") for path in experiment.glob("version_*")]
    return max((int(number) for number in numbers if number.isdecimal()), default=-1) + 1


def take_next_number(experiment: Path) -> int:
    """Make the next free folder version_N of an experiment, and return N.

    Whoever makes a folder has it: of two processes that find the same number free, one takes the number after it.
    """
    for number in count(next_number(experiment)):
        try:
            (experiment / f"version_{number}").mkdir(parents=True)
        except FileExistsError:
            continue
        return number
    raise AssertionError("numbers do not end")


def take_next_folder(experiment: Path) -> Path:
    """Make the next free folder of an experiment, and return it."""
    return experiment / f"version_{take_next_number(experiment)}"
