"""The probing sets of sae-probes (Kantamneni et al. 2025, Are Sparse Autoencoders Useful?, arXiv 2502.16681).

The package brings a folder `data`:

    cleaned_data/<number>_<name>.csv.zst         columns prompt and target
    OOD data/<number>_<name>_OOD.csv.zst         the same question on texts of another kind, for some of the sets
    probing_datasets_MASTER.csv.zst              which sets have two classes, several, or a quantity

As there: 50 texts of each of two classes (there 100 rows) are kept for test before any are taken for training, training
and test have as many texts of either class, and what is out of distribution is test for probes of the ordinary
training texts. Departures:

- Each text counts once. There rows are drawn, and in most sets a fifth to a half of the rows repeat an earlier one, so
  that texts of training are in test as well. A text with two labels is left out.
- Sets of several classes may be asked for, one class against the rest, where they leave them out.
- Texts are cut at the end where they exceed the context of the run; there at the beginning, above 1024 tokens.
- They read the last token: set `pooling: last` of the evaluator for that. Sets such as 66_living-room ask what a text
  ends with.
- They choose a probe's penalty on part of the training texts, and rank latents by means divided by each latent's own
  mean where it fires; see `sae_lightning.probing.probe` for ours.
"""

import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Literal

from typing_extensions import override

from sae_lightning.checks import check_seed, check_whole
from sae_lightning.files import TableFile, open_file
from sae_lightning.files.labelled_tables import read_rows
from sae_lightning.probing.task import Example, ExampleSets, ProbingTask, at_most, seed_of_draw

_SETS, _OOD, _MASTER, _SUFFIX = "cleaned_data", "OOD data", "probing_datasets_MASTER.csv.zst", ".csv.zst"
_TEXT, _LABEL = "prompt", "target"
_PLACES = (".", "data", "sae_probes/data")
_FOR_TEST = 50
_MOST_LABELS = 20
_MOST_NAMED = 10
_WHERE = (
    "give the unzipped wheel of sae-probes (pip download --no-deps sae-probes), or the folder sae_probes/data in it"
)


class SAEProbesSets(ProbingTask):
    """Sets of sae-probes, each a task of its own: 113 with two classes, of facts, style, sentiment, code and much else.

    With 20 or more of them the intervals of a run speak of other sets of their kind, with fewer of other texts of the
    same sets. Read texts at their last token (`pooling: last` of SparseProbing), as sae-probes does.

    Args:
        path: folder of the unzipped wheel of sae-probes, or its folder data.
        sets: numbers, names (5_hist_fig_ismale or hist_fig_ismale) and patterns ("wikidata*"). A pattern stands for
            sets of two classes alone; by number or name any set of up to 20 classes can be had. Default: all of two
            classes.
        n_sets: take so many of these, at random. Default: all.
        ood: also for test on texts of another kind, where a set has them; only for nothing but such sets, so that both
            tests are means over the same tasks; none for no such test.
        seed: of the choice of sets, and of the split into training and test.
    """

    def __init__(
        self,
        path: str,
        sets: list[str | int] | None = None,
        n_sets: int | None = None,
        ood: Literal["also", "only", "none"] = "also",
        seed: int = 42,
    ) -> None:
        check_seed(seed=seed)
        if sets is not None and not (isinstance(sets, list) and all(isinstance(one, str | int) for one in sets)):
            raise ValueError(f"sets={sets}: expected a list of numbers, names or patterns, such as [5, 'wikidata*']")
        if n_sets is not None:
            check_whole(1, n_sets=n_sets)
        self.path, self.sets, self.n_sets, self.ood, self.seed = path, sets, n_sets, ood, seed
        self._folder = _data_folder(path)
        self.names = self._chosen()

    @override
    def parts(self) -> "list[ProbingTask]":
        return [type(self)(self.path, [name], ood=self.ood, seed=self.seed) for name in self.names]

    @override
    def load(self, n_train: int, n_test: int, draw: int = 0) -> ExampleSets:
        if len(self.names) != 1:
            raise ValueError(f"{self}: {len(self.names)} sets are as many tasks; load each of its parts()")
        [name] = self.names
        file = self._folder / _SETS / f"{name}{_SUFFIX}"
        texts = texts_by_label(file)
        train, test = [], []
        for label, own in texts.items():
            shuffled = list(own)
            random.Random(seed_of_draw(f"{name} {label} {self.seed}", draw)).shuffle(shuffled)
            n = min(n_train, max(0, len(own) - _FOR_TEST))
            train += [Example.whole(text, label) for text in shuffled[:n]]
            test += [Example.whole(text, label) for text in shuffled[n : n + n_test]]
        known = {text for own in texts.values() for text in own}
        ood = [
            Example.whole(text, label)
            for label, own in self._texts_of_another_kind(name, file, sorted(texts)).items()
            for text in own
            if text not in known
        ]
        seed = seed_of_draw(f"{name} {self.seed}", draw)
        return ExampleSets(at_most(train, n_train, seed), at_most(test, n_test, seed), at_most(ood, n_test, seed))

    def _texts_of_another_kind(self, name: str, file: Path, labels: Sequence[str]) -> Mapping[str, Sequence[str]]:
        """Return the texts out of distribution by the labels of training; none where there are none, or not asked."""
        ood_file = self._ood_file(name)
        if self.ood == "none" or not ood_file.is_file():
            return {}
        texts = texts_by_label(ood_file)
        if set(texts) <= set(labels):
            return texts
        # 90_glue_qnli has 0 and 1 in one file, 1 and not_entailment in the other: sae-probes goes by their order.
        if len(texts) != len(labels):
            raise ValueError(
                f"{ood_file}: the labels under {_LABEL} are {_listed(sorted(texts))}, those of {file.name} "
                f"{_listed(labels)}; expected the same"
            )
        return dict(zip(labels, (own for _, own in sorted(texts.items())), strict=True))

    def _ood_file(self, name: str) -> Path:
        return self._folder / _OOD / f"{name}_OOD{_SUFFIX}"

    def _chosen(self) -> list[str]:
        """Return the names of the sets, in the order of their numbers.

        Raises:
            ValueError: if one is not there, or none is left.
        """
        there = sorted(
            (file.name.removesuffix(_SUFFIX) for file in (self._folder / _SETS).glob(f"[0-9]*{_SUFFIX}")), key=_number
        )
        wanted = ["*"] if self.sets is None else self.sets
        chosen = {name for which in wanted for name in self._matching(which, there)}
        if self.ood == "only":
            chosen = {name for name in chosen if self._ood_file(name).is_file()}
        if not chosen:
            which = "" if self.sets is None else f"sets={self.sets}, "
            raise ValueError(f"{which}ood={self.ood}: there is no such set in {self._folder / _SETS}")
        names = sorted(chosen, key=_number)
        if self.n_sets is not None:
            check_whole(1, len(names), n_sets=self.n_sets, hint=f"there are {len(names)} to choose from")
            names = sorted(random.Random(f"sets {self.seed}").sample(names, self.n_sets), key=_number)
        return names

    def _matching(self, which: str | int, there: Sequence[str]) -> list[str]:
        if names := [name for name in there if str(which) in (name, *name.split("_", 1))]:
            return names
        names = [name for name in there if any(fnmatchcase(one, str(which)) for one in (name, name.split("_", 1)[1]))]
        if not names:
            some = ", ".join(there[:_MOST_NAMED])
            raise ValueError(
                f"sets: there is no set {which} in {self._folder / _SETS}; expected numbers, names or patterns of its "
                f"{len(there)}, such as {some}"
            )
        if not (of_two := [name for name in names if name in self._of_two_classes]):
            raise ValueError(
                f"sets: {which} stands for {_listed(names)}, and {_MASTER} says of none that it has two classes; give "
                "a set of more by its number"
            )
        return of_two

    @cached_property
    def _of_two_classes(self) -> frozenset[str]:
        file = self._folder / _MASTER
        if not file.is_file():
            raise ValueError(
                f"{file}: there is no such file, which says what sets have two classes; without it give sets by number"
            )
        rows = _cells(file, "Dataset save name", "Data type")
        return frozenset(Path(name).stem for _, name, kind in rows if kind == "Binary Classification")


def texts_by_label(file: Path) -> dict[str, list[str]]:
    """Return the texts of a set by their label, in the order of the file; each once, those of two labels left out.

    Raises:
        ValueError: if a column is missing, a row has no label, or the labels are a quantity.
    """
    labels: defaultdict[str, set[str]] = defaultdict(set)
    for place, text, label in _cells(file, _TEXT, _LABEL):
        if text.strip() and not label:
            raise ValueError(f"{place}: nothing under {_LABEL}")
        if text.strip():
            labels[text].add(label)
    texts: dict[str, list[str]] = {label: [] for label in sorted(set().union(*labels.values()))}
    if len(texts) > _MOST_LABELS:
        raise ValueError(
            f"{file}: {len(texts)} different values under {_LABEL}, such as {_listed(list(texts)[:3])}: a probe here "
            f"tells classes, at most {_MOST_LABELS}, and no quantity; leave the set out"
        )
    for text, own in labels.items():
        if len(own) == 1:
            texts[next(iter(own))].append(text)
    return texts


def _cells(file: Path, first: str, second: str) -> Iterator[tuple[str, str, str]]:
    """Yield the place of each row, for messages, and its cells in two columns."""
    table = open_file(file)
    if not isinstance(table, TableFile):
        raise ValueError(f"{file}: expected a table with the columns {first} and {second}")
    for row in read_rows(table, [first, second]):
        place = f"{file}, {table.unit} {row.number}"
        if missing := {first, second} - {*row.cells}:
            raise ValueError(f"{place}: no column {' or '.join(sorted(missing))}; the columns are {_listed(row.cells)}")
        yield place, row.cells[first] or "", (row.cells[second] or "").strip()


def _data_folder(path: str) -> Path:
    root = Path(path).expanduser()
    for place in _PLACES:
        if (root / place / _SETS).is_dir():
            return root / place
    what = f"neither it nor {' or '.join(_PLACES[1:])} in it has" if root.is_dir() else "there is no such folder with"
    raise ValueError(f"path={path}: {what} a folder {_SETS}; {_WHERE}")


def _number(name: str) -> tuple[int, str]:
    number = name.split("_", 1)[0]
    return int(number) if number.isdigit() else 0, name


def _listed(names: Sequence[str] | Mapping[str, object]) -> str:
    shown = list(names)[:_MOST_NAMED]
    return ", ".join(shown) + (f" and {len(names) - len(shown)} more" if len(names) > len(shown) else "")
