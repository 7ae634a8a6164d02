"""How a model reads the examples of a probing task."""

import pytest
import torch
from tiny import save_text, save_tiny_lm

from sae_lightning.datamodules import LanguageModelDataModule
from sae_lightning.datamodules.file_text import FileText
from sae_lightning.evaluators import TextReader
from sae_lightning.probing import Example, ExampleSets, PreparedTask, ProbingTask
from sae_lightning.probing.prepared import tokens_of


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reader")
    text = FileText(save_text(folder / "text.jsonl"))
    data = LanguageModelDataModule(
        save_tiny_lm(folder), "model.layers.0", text, context_length=8, batch_size=16, llm_batch_size=4,
        train_samples=64, val_samples=32, buffer_samples=64,
    )  # fmt: skip
    return TextReader(data)


class Words(ProbingTask):
    """The class is the animal that a text begins with."""

    def __init__(self, n=30, whole=False):
        self.n, self.whole = n, whole

    def load(self, n_train, n_test):
        def examples(start):
            for i in range(start, start + self.n):
                for animal in ("cat", "dog"):
                    text = f"{animal} {'ran ' * (i % 4)}sat"
                    span = None if self.whole else (0, 3)
                    yield Example(text, animal, unit=animal, document=f"{animal} {i}", span=span)

        return ExampleSets(list(examples(0)), list(examples(100)))


def test_an_example_is_the_last_token_within_its_span(reader):
    text = "the cat sat on red hill"
    (reading,) = reader.read([text])

    def at(span, pooling="mean"):
        return tokens_of(reading, Example(text, "a", "a", "a", span), pooling).tolist()

    assert at((4, 7)) == [2]
    assert at((4, 11)) == [3]
    assert at((5, 7)) == []  # "cat" begins before
    assert at((4, 6)) == []  # and ends behind
    assert at((3, 7)) == [2]
    assert at(None) == [1, 2, 3, 4, 5, 6]  # without the start token
    assert at(None, "last") == [6]
    assert tokens_of(reading, Example(text, "a", "a", "a", (40, 44)), "mean").tolist() == []


@pytest.mark.parametrize("whole", [False, True])
def test_tokens_are_captured_in_the_order_of_the_examples(reader, whole):
    task = PreparedTask(Words(whole=whole), reader, 60, 60, "mean")
    tokens = task.capture()
    assert len(tokens.starts) == 121
    texts = [example.text for of in (Words(whole=whole).load(0, 0).train, Words().load(0, 0).test) for example in of]
    for i in (0, 1, 6, 7, 119):
        ((_, activations, _),) = reader.activations(reader.read([texts[i]]))
        expected = activations[0, 1:] if whole else activations[0, 1:2]
        torch.testing.assert_close(tokens.activations[tokens.starts[i] : tokens.starts[i + 1]], expected)
    assert task.classes == ["cat", "dog"]
    assert len(set(task.documents)) == 120


def test_examples_of_one_text_have_a_token_each(reader):
    class Both(Words):
        def load(self, n_train, n_test):
            texts = [f"{'the ' * (i % 3)}cat sat" for i in range(20)]
            of = [
                Example(text, text[at], "a", str(i), (at, at + 3))
                for i, text in enumerate(texts)
                for at in (len(text) - 7, len(text) - 3)
            ]
            return ExampleSets(of, of)

    tokens = PreparedTask(Both(), reader, 60, 60, "mean").capture().activations
    for i in range(20):
        ((_, activations, _),) = reader.activations(reader.read([f"{'the ' * (i % 3)}cat sat"]))
        torch.testing.assert_close(tokens[2 * i : 2 * i + 2], activations[0, -2:])


def test_tasks_that_teach_nothing_are_refused(reader):
    with pytest.raises(ValueError, match=r"Words\(n=4, whole=False\): class 'cat' has 4 train examples, expected"):
        PreparedTask(Words(4), reader, 60, 60, "mean")

    class Far(Words):
        def load(self, n_train, n_test):
            text = "the " * 20 + "cat"
            return ExampleSets([Example(text, label, "a", "a", (80, 83)) for label in "ab" for _ in range(20)], [])

    with pytest.raises(ValueError, match="class 'a' has 0 train examples and 20 more beyond the context length"):
        PreparedTask(Far(), reader, 60, 60, "mean")

    class One(Words):
        def load(self, n_train, n_test):
            return ExampleSets([Example.whole("cat", "a")], [])

    with pytest.raises(ValueError, match="expected two classes or more, found .'a'."):
        PreparedTask(One(), reader, 60, 60, "mean")
