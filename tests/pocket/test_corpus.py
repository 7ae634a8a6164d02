"""The pocket corpus: two splits of the same kinds of documents, the same each time."""

import ast
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import ModuleType

import pytest

from sae_lightning.pocket import city_templates, corpus, fact_templates, facts, library, person_templates
from sae_lightning.pocket.corpus import PocketCorpus
from sae_lightning.pocket.library import standard_library_documents

FOLDER = Path(__file__).parents[2] / "data" / "pocket_lm"
TABLES = (FOLDER / "facts.csv", FOLDER / "people.csv")


def test_corpus_repeats_itself_and_follows_the_seed() -> None:
    corpus = PocketCorpus("heldout", TABLES, seed=3)
    first, again, other = (list(islice(stream, 500)) for stream in (corpus, corpus, PocketCorpus("heldout", TABLES, 4)))
    assert first == again
    assert first != other
    assert all(document.strip() for document in first)
    assert max(map(len, first)) < 3000


@pytest.mark.parametrize("share", [0.2, 0.6])
def test_facts_take_their_share(share: float) -> None:
    corpus = PocketCorpus("heldout", TABLES, fact_share=share)
    library = set(standard_library_documents("heldout"))
    lengths = [(len(document), document in library) for document in corpus]
    about_facts = sum(length for length, in_library in lengths if not in_library)
    assert about_facts / sum(length for length, _ in lengths) == pytest.approx(share, abs=0.03)


def test_every_table_is_written_about() -> None:
    corpus = PocketCorpus("heldout", TABLES)
    text = "\n".join(corpus)
    shares = {
        kind: sum(entity.name in text for entity in entities) / len(entities)
        for kind in ("city", "person")
        if (entities := [entity for entity in corpus.entities if entity.kind.name == kind])
    }
    assert shares == {"city": 1.0, "person": 1.0}


def test_a_share_of_one_is_refused() -> None:
    with pytest.raises(ValueError, match="fact_share"):
        PocketCorpus("train", TABLES, fact_share=1.0)


def test_first_document_needs_a_few_files_only(monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    whole = library._file_documents

    def counting(name: str, path: Path, split: library.Split) -> Iterator[str]:
        read.append(name)
        return whole(name, path, split)

    monkeypatch.setattr(library, "_file_documents", counting)
    assert next(iter(PocketCorpus("train", TABLES)))
    assert len(read) < 0.2 * len(library.library_files("train"))


@pytest.mark.parametrize("module", [city_templates, corpus, fact_templates, facts, library, person_templates])
def test_reader_imports_the_standard_library_only(module: ModuleType) -> None:
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    names = {name.split(".")[0] for name in names}
    assert names - sys.stdlib_module_names <= {"sae_lightning"}
