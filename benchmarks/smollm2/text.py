"""Write the text of the SmolLM2 runs: passages of books and of the World Factbook in random order.

Run with:  python -m benchmarks.smollm2.text BOOKS.jsonl.xz HELDOUT_BOOKS.jsonl.xz FACTBOOK.jsonl.xz

BOOKS and HELDOUT_BOOKS have a line {"text": ...} a book, and no book in common. The figures in
docs/results/smollm2.md are of 81 and 15 books of github.com/mlschmitt/classic-books-markdown (commit 94488272, public
domain: authors who wrote in English and died by 1932). FACTBOOK has a line a country: the files of
github.com/factbook/factbook.json (commit 8662a8b1, CC0), of which the strings under "text" are taken; every 20th
country is held out. The result is data/cache/smollm2/train.jsonl and heldout.jsonl.
"""

import argparse
import json
import lzma
import random
import re
from collections.abc import Iterator
from pathlib import Path

CHARACTERS = 2000
OUT = Path("data/cache/smollm2")


def lines(path: str) -> list[dict]:
    """Read the lines of a compressed file."""
    with lzma.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def strings(entry: object) -> Iterator[str]:
    """Yield what stands under "text", in order and without markup."""
    if isinstance(entry, dict):
        for key, value in entry.items():
            if key == "text" and isinstance(value, str):
                yield re.sub(r"<[^>]+>", " ", value)
            else:
                yield from strings(value)
    elif isinstance(entry, list):
        for value in entry:
            yield from strings(value)


def passages(text: str) -> Iterator[str]:
    """Cut a text at ends of lines, or of sentences where a line is long, into passages of about 2000 characters."""
    passage = ""
    for piece in re.split(r"(?<=\n)|(?<=\. )", text):
        passage += piece
        if len(passage) >= CHARACTERS:
            yield passage.strip()
            passage = ""
    if passage.strip():
        yield passage.strip()


def main() -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("books", "heldout_books", "factbook"):
        parser.add_argument(name)
    paths = parser.parse_args()
    countries = ["\n".join(strings(country)) for country in lines(paths.factbook)]
    texts = {
        "train": [book["text"] for book in lines(paths.books)] + [c for i, c in enumerate(countries) if i % 20 != 19],
        "heldout": [book["text"] for book in lines(paths.heldout_books)] + countries[19::20],
    }
    OUT.mkdir(parents=True, exist_ok=True)
    for name, documents in texts.items():
        found = [passage for document in documents for passage in passages(document.replace("\r\n", "\n"))]
        random.Random(0).shuffle(found)
        (OUT / f"{name}.jsonl").write_text("".join(json.dumps({"text": passage}) + "\n" for passage in found))
        n_characters = sum(map(len, found))
        print(f"{OUT / name}.jsonl: {len(documents)} texts, {len(found):,} passages, {n_characters:,} characters")


if __name__ == "__main__":
    main()
