"""The tables of docs/formats.md, made by reading and writing: `python tests/formats/documented.py` writes them anew.

Files that a library wrote with its own code lie in `files/`; those of other formats are written by what the tests of
their equations use.
"""

import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1])]  # as pytest has it

import torch  # noqa: E402
from foreign_saes import start  # noqa: E402
from formats import test_bartbussmann as bartbussmann  # noqa: E402
from formats import test_gemma_scope as gemma_scope  # noqa: E402
from formats import test_goodfire as goodfire  # noqa: E402
from formats import test_llama_scope as llama_scope  # noqa: E402
from formats import test_llamascopium as llamascopium  # noqa: E402
from formats import test_openai as openai  # noqa: E402
from formats import test_qwen_scope as qwen_scope  # noqa: E402
from formats import test_saev as saev  # noqa: E402
from formats import test_transcoders as transcoders  # noqa: E402
from formats.damages import DAMAGES  # noqa: E402

from sae_lightning.formats import ADAPTERS  # noqa: E402
from sae_lightning.saes import BatchTopK, Gated, JumpReLU, MatryoshkaBatchTopK, ReLU, SparseAutoencoder, TopK  # noqa: E402
from sae_lightning.saes.saving import to_stored  # noqa: E402

DOCUMENT = Path(__file__).parents[2] / "docs/formats.md"
FILES = Path(__file__).parent / "files"
PEERS = {
    "dictionary_learning": "dictionary-learning 0.1.0",
    "saelens": "sae-lens 6.54.12",
    "sparsify": "eai-sparsify 1.3.3",
}
"""Versions that wrote the files and loaded what is written."""
VARIANTS = (ReLU, TopK, BatchTopK, MatryoshkaBatchTopK, JumpReLU, Gated)
Writer = Callable[[Path], Path]


def by_equation() -> Iterator[tuple[str, str, Writer]]:
    """Format, architecture, and what writes one into a folder."""
    yield "gemma_scope", "1, params.npz", gemma_scope.first
    yield "gemma_scope", "2, params.safetensors", gemma_scope.second
    repository = "gemma-scope-2b-pt-transcoders/layer_20"
    yield "gemma_scope", "1, transcoder", lambda folder: gemma_scope.first(folder / repository)
    yield "gemma_scope", "2, transcoder", lambda folder: transcoders.gemma(folder, affine=False)
    yield "gemma_scope", "2, transcoder with affine path", lambda folder: transcoders.gemma(folder, affine=True)
    yield "goodfire", "ReLU", lambda folder: goodfire.saved(folder / goodfire.NAME)
    yield "openai", "TopK", lambda folder: openai.saved(folder / "8.pt", **openai.TOP_K)
    relu = {"activation": "ReLU", "activation_state_dict": {}}
    yield "openai", "ReLU", lambda folder: openai.saved(folder / "8.pt", **relu)
    yield "qwen_scope", "TopK", lambda folder: qwen_scope.layer(folder / qwen_scope.REPOSITORY)
    for kind in bartbussmann.TYPES:
        yield (
            "bartbussmann",
            kind,
            lambda folder, kind=kind: bartbussmann.save(
                folder, bartbussmann.weights(kind), bartbussmann.config_of(kind)
            ),
        )
    yield "llama_scope", "jumprelu", llama_scope.saved
    yield "llama_scope", "jumprelu, transcoder", transcoders.llama
    yield "llamascopium", "jumprelu, transcoder", transcoders.scopium
    for kind in ("jumprelu", "topk", "relu"):
        yield "llamascopium", kind, lambda folder, kind=kind: llamascopium.saved(folder, act_fn=kind)
    for name, parameters in (("Relu", {}), ("TopK", {"top_k": 3})):
        yield (
            "saev",
            name,
            lambda folder, name=name, parameters=parameters: saev.saved(folder, saev.header(name, **parameters)),
        )


def reading_table() -> str:
    titles = {adapter.NAME: adapter.TITLE for adapter in ADAPTERS}
    rows = {}
    for path in sorted(FILES.rglob("expected.safetensors")):
        name = path.relative_to(FILES).parts[0]
        architecture = path.parent.relative_to(FILES / name).as_posix()
        sae = SparseAutoencoder.load(path.parent)
        rows[name, architecture] = (_kind(sae), f"{PEERS[name]} itself")
    with tempfile.TemporaryDirectory() as temporary:
        for number, (name, architecture, write) in enumerate(by_equation()):
            folder = Path(temporary) / str(number)
            folder.mkdir()
            sae = SparseAutoencoder.load(write(folder) or folder)
            rows[name, architecture] = (_kind(sae), "its equation")
    assert {name for name, _ in rows} == set(titles), "a format without an example"
    lines = [f"| {titles[name]} | {what} | {kind} | {by} |" for (name, what), (kind, by) in sorted(rows.items())]
    return "\n".join(["| format | architecture or file | read as | checked by |", "|---|---|---|---|", *lines])


def _kind(sae: SparseAutoencoder) -> str:
    path = " with a skip path" if sae.skip else ""
    return type(sae).__name__ + (f" transcoder{path}" if sae.is_transcoder else "")


def writing_table() -> str:
    writers = [adapter for adapter in ADAPTERS if hasattr(adapter, "write")]
    head = ["| variant | " + " | ".join(adapter.TITLE for adapter in writers) + " |", "|---" * (len(writers) + 1) + "|"]
    lines = []
    for variant in VARIANTS:
        cells = [_written(variant, adapter) for adapter in writers]
        lines.append(f"| {variant.__name__} | " + " | ".join(cells) + " |")
    for variant in VARIANTS:
        cells = [_written_transcoder(variant, adapter) for adapter in writers]
        if any(cell != "no" for cell in cells):
            lines.append(f"| {variant.__name__} transcoder | " + " | ".join(cells) + " |")
    return "\n".join(head + lines)


def _written(variant: type[SparseAutoencoder], adapter) -> str:
    """Say whether a format takes a variant, and what changes on the way."""
    settings = {"k": 3} if issubclass(variant, TopK | BatchTopK) else {}
    said = {}
    for subtracted in (True, False):
        sae = start(variant, apply_b_dec_to_input=subtracted, **settings)
        if isinstance(getattr(sae, "threshold", None), torch.Tensor):
            sae.threshold.data.fill_(0.5)
        with tempfile.TemporaryDirectory() as temporary:
            try:
                adapter.write(to_stored(sae), Path(temporary) / "out")
            except ValueError:
                said[subtracted] = "no"
                continue
            again = SparseAutoencoder.load(Path(temporary) / "out")
            x = torch.randn(64, sae.d_in)
            torch.testing.assert_close(again.encode(x).to_dense(), sae.encode(x).to_dense(), atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(again(x), sae(x), atol=1e-5, rtol=1e-5)
            kind = "" if type(again) is variant else f" as {type(again).__name__}"
            folded = again.apply_b_dec_to_input != sae.apply_b_dec_to_input
            said[subtracted] = f"yes{kind}" + (", b_dec folded" if folded else "")
    return said[True] if said[True] == said[False] else f"{said[True]}; b_dec not subtracted: {said[False]}"


def _written_transcoder(variant: type[SparseAutoencoder], adapter) -> str:
    """Say whether a format takes a transcoder of one width, with a skip path, and what it is read back as."""
    sae = transcoders.ours(variant.__name__, d_out=5, **({"k": 3} if issubclass(variant, TopK | BatchTopK) else {}))
    with tempfile.TemporaryDirectory() as temporary:
        try:
            adapter.write(to_stored(sae), Path(temporary) / "out")
        except ValueError:
            return "no"
        again = SparseAutoencoder.load(Path(temporary) / "out")
        x = torch.randn(64, sae.d_in)
        torch.testing.assert_close(again(x), sae(x), atol=1e-5, rtol=1e-5)
        return "yes" if type(again) is variant else f"yes as {type(again).__name__}"


def damage_table() -> str:
    lines = []
    with tempfile.TemporaryDirectory() as temporary:
        for name, damage in DAMAGES.items():
            folder = Path(temporary) / name.replace(" ", "_") / "sae"
            folder.mkdir(parents=True)
            lines.append(f"| {name} | {message_of(damage(folder), str(folder.parent))} |")
    return "\n".join(["| damage | what is said |", "|---|---|", *lines])


def message_of(path: Path, place: str = "") -> str:
    """Load an SAE that is damaged; return what is said, without the place where it lay."""
    try:
        sae = SparseAutoencoder.load(path)
    except ValueError as error:
        return str(error).replace(f"{place}/", "").replace("|", "\\|")
    return f"(read: {sae.provenance['imported'].get('dtype')})"


TABLES = {"reading": reading_table, "writing": writing_table, "damage": damage_table}


def with_tables(text: str) -> str:
    for name, table in TABLES.items():
        begin, end = f"<!-- {name} -->\n", f"\n<!-- end of {name} -->"
        before, rest = text.split(begin)
        text = before + begin + table() + end + rest.split(end)[1]
    return text


if __name__ == "__main__":
    DOCUMENT.write_text(with_tables(DOCUMENT.read_text()))
