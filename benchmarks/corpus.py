"""The language model, tokenizer and text that streams are measured on: made here, or given as local files.

The model made here is a GPT-2 with random weights. The text made here draws its words from a Zipf law over the words of
the tokenizer, in documents of a few hundred words.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

END = "<|endoftext|>"  # starts and ends a document and stands for unknown words, as in GPT-2
WORDS_IN_DOCUMENT = 400


@dataclass(frozen=True)
class Model:
    """Sizes of a GPT-2, and how it is read.

    Args:
        width: width of the residual stream.
        layers: number of blocks.
        heads: attention heads of a block.
        vocabulary: number of words, `END` included.
        hook: dotted name of the block whose output is streamed.
        context_length: tokens in a row of text.
        llm_batch_size: rows of text in a forward pass.
        buffer_samples: activations that are shuffled together.
        text_tokens: tokens of text to make, or to pack into rows for libraries that read no text.
    """

    width: int
    layers: int
    heads: int
    vocabulary: int
    hook: str
    context_length: int
    llm_batch_size: int
    buffer_samples: int
    text_tokens: int


MODELS = {
    "a": Model(512, 6, 8, 50257, "transformer.h.3", 128, 32, 65_536, 1_000_000),
    "tiny": Model(64, 2, 2, 500, "transformer.h.0", 16, 16, 1024, 20_000),
}


@dataclass(frozen=True)
class Corpus:
    """Files of a model and its text.

    Args:
        model: folder of the model and the tokenizer.
        hook: dotted name of the submodule whose output is streamed.
        text: a .jsonl file, one document a line under "text", or plain text.
        rows: file with the training text as rows of tokens [n, context_length], for libraries that read no text.
        special: special tokens, whose activations are left out.
    """

    model: str
    hook: str
    text: str
    rows: str
    special: tuple[int, ...]


def make_model(folder: Path, sizes: Model, dtype: str) -> None:
    """Write a model with random weights, and its tokenizer."""
    import tokenizers
    import transformers

    transformers.utils.logging.disable_progress_bar()
    words = {f"w{i}": i for i in range(sizes.vocabulary - 1)} | {END: sizes.vocabulary - 1}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token=END))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token=END, bos_token=END, eos_token=END, pad_token=END
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=sizes.vocabulary,
        n_positions=sizes.context_length,
        n_embd=sizes.width,
        n_layer=sizes.layers,
        n_head=sizes.heads,
        bos_token_id=words[END],
        eos_token_id=words[END],
    )
    transformers.GPT2LMHeadModel(config).to(getattr(torch, dtype)).save_pretrained(folder)


def make_text(path: Path, sizes: Model) -> None:
    """Write documents whose words follow a Zipf law, one document a line."""
    random = np.random.default_rng(0)
    chances = 1 / np.arange(1, sizes.vocabulary)
    words = random.choice(sizes.vocabulary - 1, sizes.text_tokens, p=chances / chances.sum())
    ends = random.geometric(1 / WORDS_IN_DOCUMENT, sizes.text_tokens // WORDS_IN_DOCUMENT).cumsum()
    with path.open("w", encoding="utf-8") as file:
        for document in np.split(words, ends[ends < len(words)]):
            file.write(json.dumps({"text": " ".join(f"w{i}" for i in document)}) + "\n")


def pack(tokenizer: Any, documents: Iterable[str], sizes: Model) -> Iterator[list[int]]:
    """Yield rows of tokens as our datamodule packs them by default.

    Documents begin with the start token and follow one another; a row that does not begin with a document begins with
    bos.
    """
    start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    row: list[int] = []
    for document in documents:
        tokens = tokenizer(document, add_special_tokens=False, verbose=False)["input_ids"]
        for token in tokens if start is None else [start, *tokens]:
            if not row and token != tokenizer.bos_token_id is not None:
                row.append(tokenizer.bos_token_id)
            row.append(token)
            if len(row) == sizes.context_length:
                yield row
                row = []


def prepare(
    folder: Path, sizes: Model, dtype: str, model: str | None = None, hook: str | None = None, text: str | None = None
) -> Corpus:
    """Make the model and the text unless they are given, and pack the text into rows.

    Args:
        folder: folder to write the files to.
        sizes: sizes of the model to make, and how it is read.
        dtype: dtype in which the model made here is stored.
        model: folder of a model and its tokenizer to use instead.
        hook: dotted name of a submodule of that model.
        text: file to use instead of text made here.
    """
    import transformers

    from sae_lightning.datamodules import FileText

    if model is None:
        make_model(folder / "model", sizes, dtype)
        model, hook = str(folder / "model"), sizes.hook
    if text is None:
        make_text(folder / "text.jsonl", sizes)
        text = str(folder / "text.jsonl")
    assert hook is not None
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    special = {*tokenizer.all_special_ids} - {tokenizer.unk_token_id} | ({start} - {None})
    rows = islice(pack(tokenizer, FileText(text).train(), sizes), sizes.text_tokens // sizes.context_length)
    torch.save(torch.tensor(list(rows)), folder / "rows.pt")
    return Corpus(model, hook, text, str(folder / "rows.pt"), tuple(sorted(special)))


def load_rows(corpus: Corpus) -> Tensor:
    """Load the rows of tokens [n, context_length], int64."""
    return torch.load(corpus.rows, weights_only=True)
