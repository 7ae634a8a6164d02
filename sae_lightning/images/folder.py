"""Pictures of a folder."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Int64
from torch import Tensor
from typing_extensions import override

from sae_lightning.images.base import Images

if TYPE_CHECKING:
    from PIL.Image import Image

_ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
_FILE = "file"


class ImageFolder(Images):
    """Pictures of a folder, in the order of their paths.

    Without a table the attribute is `class`, and its value the name of the folder that a picture is in, one level
    below; pictures that lie in the folder itself have none.

    Args:
        folder: where the pictures are, also in folders in it.
        table: CSV file with a column file, the path in the folder, and a column for each attribute, empty where it
            does not apply. Default: folders are classes.
        prompts: for each attribute the captions by which a model is asked for it, with {} in the place of the value.
            Default: "a photo of a {}".
        heldout_every: one picture in this many is held out, at least 2.
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
        self._paths = sorted(path for path in root.rglob("*") if path.suffix.lower() in _ENDINGS and path.is_file())
        if len(self._paths) < 2:
            raise ValueError(
                f"folder={folder}: it has {len(self._paths)} pictures, expected at least 2, one of them held out "
                f"(files ending in {', '.join(_ENDINGS)})"
            )
        names = [path.relative_to(root) for path in self._paths]
        rows = self._of_folders(names) if table is None else self._of_table(table, names)
        self.values, self._labels = numbered(rows, len(names))
        self.prompts = prompts_for(self.values, prompts)

    @staticmethod
    def _of_folders(names: Sequence[Path]) -> dict[str, list[str]]:
        values = [name.parts[0] if len(name.parts) > 1 else "" for name in names]
        return {"class": values} if any(values) else {}

    def _of_table(self, table: str, names: Sequence[Path]) -> dict[str, list[str]]:
        try:
            with Path(table).expanduser().open(newline="", encoding="utf-8") as file:
                reader = csv.DictReader(file)
                attributes = [name for name in reader.fieldnames or [] if name != _FILE]
                if _FILE not in (reader.fieldnames or []) or not attributes:
                    raise ValueError(f"table={table}: expected a column {_FILE} and one for each attribute")
                of_file = {Path(row[_FILE]): row for row in reader}
        except OSError as error:
            raise ValueError(f"table={table}: cannot be read ({error})") from error
        if missing := [name for name in names if name not in of_file]:
            raise ValueError(
                f"table={table}: {len(missing)} of {len(names)} pictures of {self.folder} are not in it, such as "
                f"{missing[0]}; expected paths in that folder"
            )
        return {attribute: [of_file[name][attribute] or "" for name in names] for attribute in attributes}

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


def numbered(rows: Mapping[str, Sequence[str]], n: int) -> tuple[dict[str, list[str]], dict[str, Int64[Tensor, " n"]]]:
    """The values of each attribute in their order, and of each picture the number of its value, -1 for an empty one.

    Args:
        rows: value of each picture, by attribute.
        n: pictures.
    """
    values = {attribute: sorted({*of} - {""}) for attribute, of in rows.items()}
    numbers = {attribute: {"": -1, **{value: i for i, value in enumerate(of)}} for attribute, of in values.items()}
    labels = {
        attribute: torch.tensor([numbers[attribute][value] for value in of], dtype=torch.int64).reshape(n)
        for attribute, of in rows.items()
    }
    return values, labels


def prompts_for(
    values: Mapping[str, Sequence[str]], prompts: Mapping[str, Sequence[str]] | None
) -> dict[str, list[str]]:
    """The captions that are given, or the usual one for each attribute.

    Raises:
        ValueError: if there are captions for what is no attribute, or one has no place for the value.
    """
    given = dict(prompts or {})
    if unknown := sorted({*given} - {*values}):
        raise ValueError(f"prompts: {unknown[0]} is no attribute of these pictures; expected {', '.join(values)}")
    for attribute, captions in given.items():
        if bad := [caption for caption in captions if caption.count("{}") != 1] or not captions:
            raise ValueError(f"prompts: {attribute}: {bad}: expected captions with one {{}} in the place of the value")
    return {attribute: list(given.get(attribute, ["a photo of a {}"])) for attribute in values}
