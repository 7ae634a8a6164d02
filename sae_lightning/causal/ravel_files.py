"""Entities, attributes and prompts of RAVEL (Huang, Wu, Potts, Geva, Geiger 2024, arXiv 2402.17700), from its files."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typing_extensions import override

from sae_lightning.causal.prompts import EntityPrompt, EntityPrompts, Split
from sae_lightning.files import bad_byte
from sae_lightning.files.decoding import open_text

_SAEBENCH = {
    "city": ["Country", "Continent", "Language"],
    "nobel_prize_winner": ["Country of Birth", "Field", "Gender"],
}
_NO_SPACE_AFTER = ('"', "'", "(", " ")


class RavelFiles(EntityPrompts):
    """Prompts from a folder with the files of RAVEL, github.com/explanare/ravel.

    Of every type of entity it needs ravel_<type>_attribute_to_prompts.json, ravel_<type>_entity_attributes.json,
    ravel_<type>_entity_to_split.json and ravel_<type>_prompt_to_split.json. Training takes entities and prompts that
    these say are for training, testing those for testing; what they keep for validation is not used. Of an attribute
    with several values, separated by commas, the first is the answer; entities without a value are left out.

    Args:
        folder: where the files are.
        attributes: attributes by type of entity; by default those of SAEBench (Karvonen et al. 2025, arXiv
            2503.09532): Country, Continent and Language of city; Country of Birth, Field and Gender of
            nobel_prize_winner.
    """

    def __init__(self, folder: str, attributes: dict[str, list[str]] | None = None) -> None:
        self.folder, self.attributes = folder, dict(_SAEBENCH if attributes is None else attributes)
        for kind, names in self.attributes.items():
            known = sorted(self._read(kind, "attribute_to_prompts"))
            if unknown := [name for name in names if name not in known]:
                raise ValueError(f"attributes: {kind} has no {unknown[0]!r}; choose from {', '.join(known)}")
            for name in ("entity_attributes", "entity_to_split", "prompt_to_split"):
                self._path(kind, name)

    @override
    def prompts(self, split: Split) -> list[EntityPrompt]:
        """Return every prompt of the part with every entity of it; attributes are called `<type>: <attribute>`."""
        return [
            prompt for kind, names in self.attributes.items() for prompt in self._prompts_of_type(kind, names, split)
        ]

    def _prompts_of_type(self, kind: str, names: list[str], split: Split) -> Iterator[EntityPrompt]:
        texts, values = self._read(kind, "attribute_to_prompts"), self._read(kind, "entity_attributes")
        text_splits, entity_splits = self._read(kind, "prompt_to_split"), self._read(kind, "entity_to_split")
        entities = [entity for entity in values if self._entry(entity_splits, entity, kind, "entity_to_split") == split]
        for name in names:
            for text in texts[name]:
                if self._entry(text_splits, text, kind, "prompt_to_split") != split:
                    continue
                before, place, after = text.partition("%s")
                if not place or "%s" in after:
                    file = self._path(kind, "attribute_to_prompts")
                    raise ValueError(
                        f"{file}: {name}: {text!r}: expected a prompt with one %s, where the entity stands"
                    )
                space = "" if text.endswith(_NO_SPACE_AFTER) else " "
                for entity in entities:
                    value = self._entry(values[entity], name, kind, "entity_attributes", entity)
                    if not isinstance(value, str):
                        file = self._path(kind, "entity_attributes")
                        raise ValueError(f"{file}: {name} of {entity}: expected text, found {value!r}")
                    if value := value.split(",")[0].strip():
                        whole, end = before + entity + after, len(before + entity)
                        yield EntityPrompt(whole, entity, end, f"{kind}: {name}", space + value)

    def _path(self, kind: str, name: str) -> Path:
        path = Path(self.folder).expanduser() / f"ravel_{kind}_{name}.json"
        if not path.is_file():
            raise ValueError(
                f"folder={self.folder}, attributes of {kind}: there is no {path.name}; give the folder `data` of "
                "github.com/explanare/ravel, unpacked, and types of entities that it has"
            )
        return path

    def _entry(self, table: Any, key: str, kind: str, name: str, *above: str) -> Any:
        """Return an entry of one of the files, or say which file lacks it."""
        if not isinstance(table, dict) or key not in table:
            raise ValueError(f"{self._path(kind, name)}: there is no entry {' / '.join((*above, key))!r}")
        return table[key]

    def _read(self, kind: str, name: str) -> dict[str, Any]:
        path = self._path(kind, name)
        try:
            with open_text(path, "utf-8") as file:
                table = json.load(file)
        except UnicodeDecodeError as error:
            raise ValueError(f"{bad_byte(path, 'utf-8')}; give the file as it was published") from error
        except (json.JSONDecodeError, RecursionError) as error:
            raise ValueError(f"{path}: cannot be read as JSON ({error}); give a file that is whole") from error
        if not isinstance(table, dict):
            raise ValueError(f"{path}: expected one JSON object, found {type(table).__name__}")
        return table
