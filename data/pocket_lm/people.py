"""Write people.csv: invented people whose attributes say nothing about each other.

Run ``python data/pocket_lm/people.py``. Each attribute has its values equally often, in an order of its own that is
drawn from the seed.
"""

import csv
import random
from pathlib import Path

_PEOPLE = 240
_SEED = 0
_ATTRIBUTES = {
    "birthplace": "Brazil Canada Chile Egypt France Ghana India Japan Kenya Norway Poland Vietnam",
    "profession": "baker butcher carpenter dentist doctor farmer gardener lawyer nurse painter pilot sailor",
    "instrument": "banjo cello clarinet flute guitar harp piano trumpet tuba violin",
    "decade": "1920s 1930s 1940s 1950s 1960s 1970s 1980s 1990s",
}
_FIRST_NAMES = "Ada Ben Cara Dora Emil Finn Gina Hugo Ida Jonas Kira Leo Mona Nils Olga Pia Rosa Sven Tara Viktor"
# A last name is one of each, and nobody shares it.
_BEGINNINGS = "Bal Cor Dren Fal Gor Hul Jor Kel Lor Mav Nel Orv Pel Quil Ros Sul Tor Ulv Ver Wen Yar Zan"
_ENDINGS = "bec dane fay gorn hoe kis lund mont ner pike quist rath stad tov wick zen"


def people_rows() -> list[list[str]]:
    """Return the rows of the table, header first."""
    rng = random.Random(_SEED)
    last_names = rng.sample([first + last for first in _BEGINNINGS.split() for last in _ENDINGS.split()], _PEOPLE)
    first_names, *columns = (_shuffled(values.split(), rng) for values in (_FIRST_NAMES, *_ATTRIBUTES.values()))
    names = [" ".join(parts) for parts in zip(first_names, last_names, strict=True)]
    return [["person", *_ATTRIBUTES], *map(list, sorted(zip(names, *columns, strict=True)))]


def _shuffled(values: list[str], rng: random.Random) -> list[str]:
    """Return one value for each person, each equally often."""
    return rng.sample(values, _PEOPLE, counts=[_PEOPLE // len(values)] * len(values))


def main() -> None:
    """Write the table beside this file."""
    with (Path(__file__).resolve().parent / "people.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows(people_rows())


if __name__ == "__main__":
    main()
