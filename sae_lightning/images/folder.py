"""`ImageFolder`: images in a folder, with the folders below it or a table as labels."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Int64
from torch import Tensor
from typing_extensions import override

from sae_lightning.files import bad_byte
from sae_lightning.files.csv_table import CsvTable
from sae_lightning.files.unpacking import DamageError
from sae_lightning.images.base import Images

if TYPE_CHECKING:
    from PIL.Image import Image

_ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
_FILE = "file"


class ImageFolder(Images):
    """Images in a folder, in the order of their paths.

    Without a table the attribute is `class`, and its value the name of the folder, one level below, that the image is
    in; images in the folder itself have none.

    Args:
        folder: where the images are, also in folders below it.
        table: CSV file with a column file, the path in the folder, and a column for each attribute, empty where it
            does not apply. Default: folders are classes.
        prompts: for each attribute the captions by which a model is asked for it, with {} in place of the value.
            Default: "a photo of a {}".
        heldout_every: one image in this many is held out, at least 2.
    """

    def __init__(
        self,
        folder: str,
        table: str | None = None,
        prompts: dict[str, list[str]] | None = None,
        heldout_every: int = 20,
    ) -> None:
        super().__init__(heldout_every)
        self.folder, self.table = folder, table
        root = Path(folder).expanduser()
        if not root.is_dir():
            raise ValueError(f"folder={folder}: there is no such folder")
        self._paths = sorted(
            path
            for path in root.rglob("*")
            # A hidden file such as ._cat.jpg is what a Mac keeps about an image.
            if path.suffix.lower() in _ENDINGS and not path.name.startswith(".") and path.is_file()
        )
        if len(self._paths) < 2:
            raise ValueError(
                f"folder={folder}: it has {len(self._paths)} images, expected at least 2, one of them held out "
                f"(files ending in {', '.join(_ENDINGS)})"
            )
        names = [path.relative_to(root) for path in self._paths]
        values = self._from_folders(names) if table is None else self._from_table(table, names)
        self.values, self._labels = number_values(values, len(names))
        self.prompts = prompts_for(self.values, prompts)

    @staticmethod
    def _from_folders(names: Sequence[Path]) -> dict[str, list[str]]:
        """Return the class of each image, if there are any."""
        values = [name.parts[0] if len(name.parts) > 1 else "" for name in names]
        return {"class": values} if any(values) else {}

    def _from_table(self, table: str, names: Sequence[Path]) -> dict[str, list[str]]:
        """Read the value of each image, by attribute.

        Raises:
            ValueError: if the table cannot be read, or an image is not in it.
        """
        columns, numbered = _read_table(table)
        attributes = [name for name in columns if name != _FILE]
        if _FILE not in columns or not attributes:
            raise ValueError(
                f"table={table}: expected a column {_FILE} and one for each attribute; it has {', '.join(columns)}"
            )
        rows: dict[Path, Mapping[str, str]] = {}
        for number, row in numbered:
            name = Path(row[_FILE].replace("\\", "/"))
            if rows.setdefault(name, row) != row:
                raise ValueError(f"table={table}, line {number}: {name} has other values than in a line before it")
        if missing := [name for name in names if name not in rows]:
            raise ValueError(
                f"table={table}: {len(missing)} of {len(names)} images of {self.folder} are not in it, such as "
                f"{missing[0]}; expected paths in that folder"
            )
        return {attribute: [rows[name][attribute] for name in names] for attribute in attributes}

    @override
    def __len__(self) -> int:
        return len(self._paths)

    @override
    def image(self, number: int) -> "Image":
        from PIL import Image

        with Image.open(self._paths[number]) as image:
            image.load()
            return image

    @override
    def name(self, number: int) -> str:
        return str(self._paths[number])

    @override
    def labels(self, attribute: str) -> Int64[Tensor, " n"]:
        return self._labels[attribute]


def _read_table(table: str) -> tuple[list[str], list[tuple[int, Mapping[str, str]]]]:
    """Return the columns of a CSV file, and the number of the line and the cells of each row; a lacking one is empty.

    Raises:
        ValueError: for what cannot be read, naming the line.
    """
    path = Path(table).expanduser()
    try:
        file = CsvTable(path, "utf-8")
        rows = list(file.rows())
        if bad := next((row for row in rows if row.problem), None):
            raise DamageError(f"line {bad.number}: {bad.problem}")
        cells: list[tuple[int, Mapping[str, str]]] = [
            (row.number, {name: str(cell or "") for name, cell in row.cells.items()}) for row in rows
        ]
        return file.columns(), cells
    except UnicodeDecodeError as error:
        raise ValueError(f"table={bad_byte(path, 'utf-8')}; save it as UTF-8") from error
    except (OSError, DamageError) as error:
        raise ValueError(f"table={table}: cannot be read ({error})") from error


def number_values(
    values_of_images: Mapping[str, Sequence[str]], n: int
) -> tuple[dict[str, list[str]], dict[str, Int64[Tensor, " n"]]]:
    """Assign numbers to the values of each attribute.

    Args:
        values_of_images: value of each image, by attribute.
        n: number of images.

    Returns:
        The values of each attribute in ascending order, and the number of each image's value, -1 for an empty one.
    """
    values, labels = {}, {}
    for attribute, of_images in values_of_images.items():
        values[attribute] = sorted({*of_images} - {""})
        numbers = {"": -1, **{value: i for i, value in enumerate(values[attribute])}}
        labels[attribute] = torch.tensor([numbers[value] for value in of_images], dtype=torch.int64).reshape(n)
    return values, labels


def prompts_for(
    values: Mapping[str, Sequence[str]], prompts: Mapping[str, Sequence[str]] | None
) -> dict[str, list[str]]:
    """Return the given captions of each attribute, or the usual one.

    Raises:
        ValueError: if captions are given for what is no attribute, or one has no place for the value.
    """
    given = dict(prompts or {})
    if unknown := sorted({*given} - {*values}):
        raise ValueError(f"prompts: {unknown[0]} is no attribute of these images; expected {', '.join(values)}")
    for attribute, captions in given.items():
        if bad := [caption for caption in captions if caption.count("{}") != 1] or not captions:
            raise ValueError(f"prompts: {attribute}: {bad}: expected captions with one {{}} in the place of the value")
    return {attribute: list(given.get(attribute, ["a photo of a {}"])) for attribute in values}
