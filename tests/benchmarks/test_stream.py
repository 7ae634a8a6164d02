"""The benchmark of streams measures what it says, on the text that it says, and refuses what is not comparable."""

import importlib.util
import json
import math
from dataclasses import replace

import pytest
import torch
import transformers

from benchmarks import stream, streams
from benchmarks.corpus import END, MODELS, load_rows, pack, prepare
from benchmarks.peers import CASES
from benchmarks.streams import Forward, Ours, Reader, Start, StreamTask, mark, mixing

TINY = replace(MODELS["tiny"], text_tokens=8000)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("corpus"), TINY, "float32")


@pytest.fixture(scope="module")
def task(corpus):
    return StreamTask("tiny", "stream", "ours", corpus=corpus, reading=TINY, sae=CASES["tiny"])


def test_one_line_a_measurement(monkeypatch, capsys):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # which it sets, too
    case = ["--case", "tiny", "--kind", "train", "--device", "cpu", "--impl", "ours", "--json"]
    assert stream.main([*case, "--steps", "2", "--rounds", "2"]) == 0, capsys.readouterr().err
    ours, forward = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert [r["impl"] for r in (ours, forward)] == ["ours", "forward+settings"]
    for record in (ours, forward):
        low, high = record["spread"]
        assert 0 < low <= record["tokens_per_s"] <= high
        assert 0 < record["loaded_mb"] <= record["peak_mb"]
        assert record["first_batch_s"] > 0
    assert ours["of_forward"] == pytest.approx(ours["tokens_per_s"] / forward["tokens_per_s"], rel=0.01)
    assert ours["fvu"][1] < ours["fvu"][0] < 1
    assert forward["fvu"] is None
    assert (forward["of_forward"], forward["beyond_mb"]) == (1, 0)


def test_rows_for_others_are_those_that_ours_reads(task):
    ours, read = Ours(task), []
    special = torch.tensor(task.corpus.special)
    assert special.tolist() == ours.data.packing.special.tolist()
    batches = ours.batches()  # what setup reads is no forward
    ours.model.get_input_embeddings().register_forward_pre_hook(lambda module, args: read.append(args[0].clone()))
    for _ in range(8):
        assert next(batches).shape == (task.size.batch, TINY.width)
    rows = torch.cat(read)
    assert len(rows) > 100
    assert torch.equal(rows, load_rows(task.corpus)[: len(rows)])
    assert torch.isin(rows[:, 0], special).all()


def test_rows_of_a_tokenizer_without_bos(task):
    tokenizer = transformers.AutoTokenizer.from_pretrained(task.corpus.model)
    tokenizer.bos_token = None
    documents = ["w1 w2 w3"] * 40
    rows = torch.tensor(list(pack(tokenizer, documents, TINY)))
    end = tokenizer.convert_tokens_to_ids(END)
    assert rows.flatten().tolist() == ([end, 1, 2, 3] * 40)[: rows.numel()]
    assert len(rows) == 160 // TINY.context_length


def test_the_forward_stops_at_the_hook(task):
    forward = Forward(task)
    rows = load_rows(task.corpus)[: TINY.llm_batch_size]
    states = forward.model(rows, output_hidden_states=True).hidden_states[1]
    forward.model.transformer.h[1].register_forward_hook(lambda *_: pytest.fail("a block above the hook was run"))
    reader = Reader(forward.model, task.corpus.special)
    torch.testing.assert_close(next(forward.batches()), states.flatten(0, 1))
    assert reader.take() == (~torch.isin(rows, torch.tensor(task.corpus.special))).sum()
    assert reader.take() == 0


def test_contexts_are_counted(task, monkeypatch):
    mixed = mixing(task)
    n = TINY.context_length - 1  # valid tokens of a row, or fewer where a document begins in it
    assert 3 * CASES["tiny"].batch / n < mixed["contexts"] < CASES["tiny"].batch
    assert 1 / CASES["tiny"].batch <= mixed["share"] <= n / CASES["tiny"].batch

    class InOrder(Forward):
        """Batches of one forward each: no mixing at all."""

    monkeypatch.setitem(streams.STREAMS, "ours", InOrder)
    assert mixing(task) == dict.fromkeys(("first_contexts", "contexts"), TINY.llm_batch_size) | dict.fromkeys(
        ("first_share", "share"), 1 / TINY.llm_batch_size
    )


def test_marked_rows_are_numbered_over_forwards():
    module = torch.nn.Linear(3, 2)
    mark(module)
    assert [module(torch.randn(2, 4, 3))[:, 3, 1].tolist() for _ in range(2)] == [[0, 1], [2, 3]]


def start(**kwargs):
    return Start(**{"loaded_mb": 1, "first_batch_s": 1, "d_in": 64, "norm": 1.0, "fvu": 0.8, "l0": 8.0} | kwargs)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"norm": 1.3}, r"of theirs has width 64 and median \|\|x\|\|\^2 1.3"),
        ({"d_in": 32}, "of theirs has width 32"),
        ({"l0": 7.0}, "theirs has 7 active latents a sample, expected 8"),
    ],
)
def test_what_is_not_comparable_is_refused(task, other, message):
    stream.check_starts({"ours": start(), "theirs": start(norm=1.05), "forward": start(l0=math.nan)}, task)
    with pytest.raises(stream.BenchmarkError, match=message):
        stream.check_starts({"ours": start(), "theirs": start(**other)}, task)


class Fake:
    """A worker whose turns take a second a batch and read as many tokens as they are given."""

    def __init__(self, task, read):
        self.task, self.begin, self.rates, self.peak_mb = task, start(), [], 2.0
        self.read, self.steps, self.connection = iter(read), [], self

    def send(self, message):
        self.steps.append(message[1])

    def _receive(self):
        return [1.0] * self.steps[-1], 2.0, next(self.read), 0.7, 8.0

    turn, warm_up, grown_mb = (vars(stream.StreamWorker)[name] for name in ("turn", "warm_up", "grown_mb"))


def test_rate_and_warm_up(task):
    batch = task.size.batch
    filling = Fake(task, [8 * batch, 5 * batch, 4 * batch, 3 * batch, 5 * batch])
    filling.warm_up(4)
    assert (filling.steps, filling.rates) == ([4, 4], [])  # 8 batches read for 4 served, then 5: the buffer is full
    for _ in range(3):
        filling.turn(4)
    assert filling.rates == [batch, 3 / 4 * batch, batch]  # neither thrown away nor from before
    with pytest.raises(stream.BenchmarkError, match="still reads"):
        Fake(task, [8 * batch] * 99).warm_up(4)


def test_a_turn_is_a_whole_number_of_refills(task):
    assert task.reading.buffer_samples == 4 * task.size.batch
    for impl, steps in (("ours", 4), ("saelens", 4), ("dictionary_learning+settings", 6)):
        worker = Fake(replace(task, impl=impl), [1])
        worker.turn(4)
        assert worker.steps == [steps]


def test_no_training_is_refused(task):
    worker = Fake(task, [1])
    worker.fvu = 0.81
    with pytest.raises(stream.BenchmarkError, match=r"from 0.8 to 0.81: it does not train"):
        stream.check_training([worker])
    worker.fvu = math.nan  # nothing is trained
    stream.check_training([worker])


def test_table_compares_with_forward_and_peers():
    common = {"kind": "train", "dtype": "bfloat16", "spread": [1, 2], "buffer_mb": 128, "fvu": [0.9, 0.8]}
    numbers = {"of_forward": 0.5, "first_batch_s": 1.25, "peak_mb": 900, "loaded_mb": 500, "beyond_mb": 160}
    rates = {"ours": 9000, "saelens": 1000, "sparsify": 2000, "sparsify+settings": 4000, "forward+settings": 18000}
    records = [{**common, **numbers, "impl": impl, "tokens_per_s": rate} for impl, rate in rates.items()]
    text = stream.table(records)
    assert "4.50 times as fast as the fastest peer as shipped, sparsify (aim 4.5)" in text
    assert "2.25 times as fast as the fastest peer with our settings, sparsify+settings" in text
    assert "1.25 s after the model is loaded" in text
    alone = stream.table([{**record, "kind": "stream"} for record in records])
    assert "160 MB beyond the forward, 1.25 times the buffer" in alone


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--impl", "theirs"], "invalid choice: 'theirs'"),
        (["--rounds", "0"], "expected 1 or more"),
        (["--model", "folder"], "expected all three or none"),
        (["--model", "nowhere", "--hook", "h", "--text", "t"], "expected the folder of a checkpoint"),
    ],
)
def test_errors_are_reported_in_a_line(args, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        stream.main(args)
    assert message in capsys.readouterr().err


def test_nothing_to_measure(capsys):
    assert stream.main(["--kind", "stream", "--impl", "ours_bf16"]) == 1
    assert "nothing to measure" in capsys.readouterr().err


@pytest.mark.parametrize(("impl", "module"), [("saelens", "sae_lens"), ("dictionary_learning", "dictionary_learning")])
def test_others_stream_the_same_activations(task, impl, module):
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed: pip install -e '.[bench]'")
    theirs = streams.STREAMS[impl](replace(task, impl=impl))
    rows = load_rows(task.corpus)
    forward = Forward(task)
    valid = ~torch.isin(rows, torch.tensor(task.corpus.special))
    known = torch.cat(
        [x[mask.flatten()] for x, mask in zip(forward.batches(), valid.split(TINY.llm_batch_size), strict=False)]
    )
    batch = next(theirs.batches())
    assert batch.shape == (task.size.batch, TINY.width)
    is_known = torch.cdist(batch.double(), known.double()).amin(1) < 1e-4
    assert is_known.double().mean() > 0.98  # dictionary_learning keeps special tokens inside of a row
