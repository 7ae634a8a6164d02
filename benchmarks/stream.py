"""Time and memory that streaming a language model's activations takes, alone and with training, beside other libraries.

    python -m benchmarks.stream [--kind stream train shuffle] [--dtype float32 bfloat16] [--impl ours saelens] [--json]
    python -m benchmarks.stream --model FOLDER --hook transformer.h.3 --text FILE.jsonl

The model, its tokenizer and the text are made in a temporary folder, or given. Every impl reads the same rows of tokens
in the same order, in a process of its own. Before they are timed, all must have activations of the same width and norm,
and in training l0 = k. Then they take turns. Reported are:

- tokens_per_s: median over the turns. A turn is a whole number of refills of the buffer, since a library that refills
  it at once is idle for many batches and then busy. The rate counts the activations that were served, or the tokens
  that the model has read, without special ones, if these are fewer: activations that were in the buffer before, and
  tokens that were read and thrown away, count for no impl.
- spread: lower and upper quartile of the same.
- of_forward: tokens_per_s divided by that of `forward`, which only runs the model up to the hook on rows in memory. It
  runs as shipped for peers as shipped, and with our process settings for ours and `+settings`.
- first_batch_s: from the model and tokenizer in memory to the first batch; for ours in `train` it includes the start of
  the Trainer.
- peak_mb: peak resident memory of the process from then until its last turn (on a GPU: of torch's allocations).
- loaded_mb: resident memory with the model and tokenizer loaded; it is part of peak_mb.
- beyond_mb: peak_mb - loaded_mb, minus the same difference of `forward`: the buffer and its handling, and in `train`
  the SAE.
- fvu: fraction of variance unexplained of the first batch, before the first step and after the last turn. It must fall.

Kinds: `stream` streams alone, `train` also trains a TopK SAE with Adam (learning rate 1e-3), and `shuffle` counts how
many contexts (rows of text) a batch mixes and the largest share of one, in the first 4 batches and in 16 batches after
two buffers have been served. In `shuffle` a small model returns the number of the row in place of activations.

Impls: `ours` is the datamodule of `sae fit`, in `train` inside Lightning; `ours_bf16` trains with bf16-mixed precision.
The others are as shipped except for the size of the buffer; `+settings` gives them the process settings of ours
(`cpu_settings.py`). `benchmarks/streams.py` says what each of them does.
"""

import argparse
import json
import math
import os
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from benchmarks.corpus import MODELS, Corpus, Model, prepare
from benchmarks.peers import CASES, PEERS, library
from benchmarks.report import BenchmarkError, aligned, installed, print_note
from benchmarks.streams import FORWARD, IMPLS, KINDS, LR, Start, StreamTask, job, supports
from benchmarks.turns import Worker

DTYPES = ("float32", "bfloat16")
SETTLED = 1.5  # most tokens read per token served in a turn, once the buffer is full
MAX_WARM_UP = 12  # turns until the buffer must be full
NORM_TOLERANCE = 0.1
AIMS = {"float32": 3.0, "bfloat16": 4.5}  # how many times as fast as the fastest peer
Record = dict[str, Any]


class StreamWorker(Worker):
    """A process that measures one impl in turns of whole refills."""

    task: StreamTask
    begin: Start

    def __init__(self, task: StreamTask) -> None:
        super().__init__(task, job)
        self.rates: list[float] = []
        self.fvu = self.l0 = math.nan

    @property
    def grown_mb(self) -> float:
        """Peak memory in MiB, without what was in use when the model was loaded."""
        return self.peak_mb - self.begin.loaded_mb

    def turn(self, n: int, timed: bool = True) -> None:
        """Make n steps, rounded up to whole refills; the rate of an untimed turn is not kept."""
        steps = math.ceil(n / self.task.refill) * self.task.refill
        self.connection.send(("steps", steps))
        times, self.peak_mb, read, self.fvu, self.l0 = self._receive()
        served = steps * self.task.size.batch
        self.settled = read <= SETTLED * served
        self.rates += [min(read, served) / sum(times)] if timed else []

    def warm_up(self, n: int) -> None:
        """Take turns until the buffer is as full as it gets.

        Raises:
            BenchmarkError: if it is not after MAX_WARM_UP turns.
        """
        for _ in range(MAX_WARM_UP):
            self.turn(n, timed=False)
            if self.settled:
                return
        raise BenchmarkError(
            f"{self.task.where}: after {MAX_WARM_UP} turns the model of {self.task.impl} still reads "
            f"over {SETTLED} times as many tokens as are served"
        )


def measure(tasks: Sequence[StreamTask], steps: int, rounds: int) -> list[Record]:
    """Measure streams of one kind and dtype in turns, and return a record for each."""
    workers: list[StreamWorker] = []
    where = tasks[0].where
    try:
        for task in tasks:
            workers.append(StreamWorker(task))
        for worker in workers:
            print_note(f"{where}: starting {worker.task.impl}")
            worker.build()
        check_starts({worker.task.impl: worker.begin for worker in workers}, tasks[0])
        for worker in workers:
            worker.warm_up(steps)
        for number in range(rounds):
            print_note(f"{where}: round {number + 1} of {rounds}")
            for worker in workers:
                worker.turn(steps)
        check_training(workers)
        return [record(worker, workers) for worker in workers]
    finally:
        for worker in workers:
            worker.stop()


def check_starts(starts: Mapping[str, Start], task: StreamTask) -> None:
    """Check that all impls stream the same activations and train an SAE with k active latents.

    Raises:
        BenchmarkError: if one of them does not.
    """
    (first, expected), *_ = starts.items()
    for impl, start in starts.items():
        if start.d_in != expected.d_in or not math.isclose(start.norm, expected.norm, rel_tol=NORM_TOLERANCE):
            raise BenchmarkError(
                f"{task.where}: the first batch of {impl} has width {start.d_in} and median ||x||^2 {start.norm:.6g}, "
                f"that of {first} {expected.d_in} and {expected.norm:.6g}: they do not take the same activations"
            )
        if not math.isnan(start.l0) and not math.isclose(start.l0, task.size.k, rel_tol=0.01):
            raise BenchmarkError(
                f"{task.where}: {impl} has {start.l0:.6g} active latents a sample, expected {task.size.k}"
            )


def check_training(workers: Sequence[StreamWorker]) -> None:
    """Check that every SAE explains more variance than at its start.

    Raises:
        BenchmarkError: if one of them does not.
    """
    for worker in workers:
        if worker.fvu >= worker.begin.fvu:
            raise BenchmarkError(
                f"{worker.task.where}: the fraction of variance that {worker.task.impl} leaves unexplained went from "
                f"{worker.begin.fvu:.4g} to {worker.fvu:.4g}: it does not train"
            )


def record(worker: StreamWorker, workers: Sequence[StreamWorker]) -> Record:
    """Return the numbers that are reported of one impl."""
    task, rates = worker.task, worker.rates
    low, _, high = statistics.quantiles(rates, n=4, method="inclusive") if len(rates) > 1 else rates * 3
    forward = next(w for w in workers if w.task.name == FORWARD and w.task.settings == task.settings)
    median = statistics.median(rates)
    return {
        "kind": task.kind,
        "dtype": task.dtype,
        "impl": task.impl,
        "tokens_per_s": round(median, 1),
        "spread": [round(low, 1), round(high, 1)],
        "of_forward": round(median / statistics.median(forward.rates), 3),
        "first_batch_s": round(worker.begin.first_batch_s, 3),
        "peak_mb": round(worker.peak_mb, 1),
        "loaded_mb": round(worker.begin.loaded_mb, 1),
        "beyond_mb": round(worker.grown_mb - forward.grown_mb, 1),
        "buffer_mb": round(task.reading.buffer_samples * worker.begin.d_in * 4 / 2**20, 1),
        "fvu": [round(worker.begin.fvu, 4), round(worker.fvu, 4)] if task.kind == "train" and worker.l0 > 0 else None,
    }


def measure_mixing(tasks: Sequence[StreamTask]) -> list[Record]:
    """Count contexts in the batches of each stream, and return a record for each."""
    records = []
    for task in tasks:
        print_note(f"shuffle: {task.impl}")
        worker = Worker(task, job)
        try:
            worker.build()
            mixed = {name: round(value, 4) for name, value in worker.begin.items()}
            contexts = task.reading.buffer_samples // task.reading.context_length
            records.append({"kind": "shuffle", "impl": task.impl, **mixed, "buffer_contexts": contexts})
        finally:
            worker.stop()
    return records


def table(records: Sequence[Record]) -> str:
    """Lay out the records of one kind and dtype, and how they compare."""
    if records[0]["kind"] == "shuffle":
        return mixing_table(records)
    memory = ("peak_mb", "loaded_mb", "beyond_mb")
    heads = (name.replace("_mb", " MB") for name in memory)
    rows = [["impl", "tokens/s", "quartiles", "of forward", "first batch s", *heads, "fvu"]]
    for r in records:
        rows.append(
            [
                r["impl"],
                f"{r['tokens_per_s']:,.0f}",
                "{:,.0f} .. {:,.0f}".format(*r["spread"]),
                f"{r['of_forward']:.3f}",
                f"{r['first_batch_s']:.2f}",
                *(f"{r[name]:.0f}" for name in memory),
                "{:.3f} -> {:.3f}".format(*r["fvu"]) if r["fvu"] else "",
            ]
        )
    kind, dtype = records[0]["kind"], records[0]["dtype"]
    title = "stream alone" if kind == "stream" else "stream and training"
    return "\n".join([f"{title}, {dtype} model", *aligned(rows), *comparisons(records)]) + "\n"


def comparisons(records: Sequence[Record]) -> list[str]:
    """Return lines that compare ours with the aims and with the fastest peer."""
    by_impl = {r["impl"]: r for r in records}
    ours = by_impl.get("ours")
    if ours is None:
        return []
    lines = [f"  first batch of ours {ours['first_batch_s']:.2f} s after the model is loaded (aim 2)"]
    if ours["kind"] == "stream":
        lines.append(f"  ours streams at {ours['of_forward']:.3f} of the speed of the forward alone (aim 0.95)")
        times = ours["beyond_mb"] / ours["buffer_mb"]
        lines.append(
            f"  buffer of {ours['buffer_mb']:.0f} MB as configured: ours takes {ours['beyond_mb']:.0f} MB beyond the "
            f"forward, {times:.2f} times the buffer (aim 1, not 2)"
        )
    peers = [r for r in records if library(r["impl"]) in PEERS]
    for what, group in (
        ("as shipped", [r for r in peers if "+" not in r["impl"]]),
        ("with our settings", [r for r in peers if "+" in r["impl"]]),
    ):
        if group:
            fastest = max(group, key=lambda r: float(r["tokens_per_s"]))
            ratio = ours["tokens_per_s"] / fastest["tokens_per_s"]
            aim = f" (aim {AIMS[ours['dtype']]:g})" if ours["kind"] == "train" and what == "as shipped" else ""
            lines.append(f"  ours is {ratio:.2f} times as fast as the fastest peer {what}, {fastest['impl']}{aim}")
    return lines


def mixing_table(records: Sequence[Record]) -> str:
    """Lay out the contexts in a batch, and the largest share of one."""
    rows = [["impl", "contexts, first 4 batches", "steady", "largest share, first 4 batches", "steady", ""]]
    for r in records:
        contexts, share = (f"{r['first_contexts']:.0f}", f"{r['contexts']:.0f}"), (r["first_share"], r["share"])
        rows.append([r["impl"], *contexts, *(f"{value:.2%}" for value in share), ""])
    title = f"shuffle: contexts in a batch; the buffer has room for {records[0]['buffer_contexts']}"
    return "\n".join([title, *aligned(rows)]) + "\n"


def versions() -> str:
    """Return the versions of the libraries that are installed, and the number of threads."""
    names = ("torch", "transformers", "lightning", *PEERS.values(), "transformer-lens", "nnsight", "datasets")
    parts = []
    for name in names:
        try:
            parts.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return ", ".join([*parts, f"{torch.get_num_threads()} threads"])


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.stream", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    sizes = "\n".join(
        f"{name}: GPT-2 of width {m.width}, {m.layers} layers, context {m.context_length}, buffer {m.buffer_samples}; "
        f"d_sae {CASES[name].d_sae}, k {CASES[name].k}, batch {CASES[name].batch}"
        for name, m in MODELS.items()
    )
    parser.add_argument("--case", default="a", choices=MODELS, metavar="CASE", help=sizes)
    parser.add_argument("--kind", nargs="+", default=KINDS, choices=KINDS, metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--dtype", nargs="+", default=["float32"], choices=DTYPES, help="of the model, default float32")
    impls = ", ".join(IMPLS) + "\ndefault: all that are installed"
    parser.add_argument("--impl", nargs="+", choices=IMPLS, metavar="IMPL", help=impls)
    parser.add_argument("--model", metavar="FOLDER", help="a transformers checkpoint with its tokenizer; needs --hook")
    parser.add_argument("--hook", metavar="NAME", help="its submodule, for example transformer.h.3")
    parser.add_argument("--text", metavar="FILE", help='.jsonl with documents under "text", or plain text')
    parser.add_argument("--steps", type=int, default=8, help="least batches in a turn, default 8")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each impl, default 5")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda if there is a GPU")
    parser.add_argument("--json", action="store_true", help="one JSON line a measurement instead of tables")
    args = parser.parse_args(argv)
    if args.steps < 1 or args.rounds < 1:
        parser.error(f"--steps {args.steps} --rounds {args.rounds}: expected 1 or more of each")
    if len({given is None for given in (args.model, args.hook, args.text)}) == 2:
        parser.error("--model, --hook and --text: expected all three or none of them")
    if args.model and not Path(args.model, "config.json").is_file():
        parser.error(f"--model {args.model}: expected the folder of a checkpoint, with a config.json")
    if args.text and not Path(args.text).is_file():
        parser.error(f"--text {args.text}: there is no such file")
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch finds no GPU here")
    args.device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    return args


def groups(args: argparse.Namespace, folder: str) -> list[list[StreamTask]]:
    """Return the tasks of each group that is measured side by side, ours first, and make their models and text."""
    candidates = dict.fromkeys(installed(args.impl or IMPLS))
    available = sorted(candidates, key=lambda impl: not impl.startswith("ours"))
    chosen = []
    for kind in dict.fromkeys(args.kind):
        impls = [impl for impl in available if supports(impl, kind)]
        if not impls:
            continue
        if kind == "shuffle":
            task = to_mark(args, Path(folder, kind))
            chosen.append([replace(task, impl=impl) for impl in impls])
            continue
        for dtype in dict.fromkeys(args.dtype):
            task = to_time(args, kind, dtype, Path(folder, dtype))
            plain = [replace(task, impl=impl) for impl in impls]
            forwards = [replace(task, impl=impl) for impl in (FORWARD, f"{FORWARD}+settings")]
            settings = {task.settings for task in plain}
            chosen.append(plain + [forward for forward in forwards if forward.settings in settings])
    if not chosen:
        raise BenchmarkError(f"nothing to measure: no impl of --impl has --kind {' '.join(args.kind)}")
    return chosen


@cache
def corpus_of(folder: Path, reading: Model, dtype: str, *given: str | None) -> Corpus:
    """Make the files that a group reads; groups that read the same share them."""
    folder.mkdir()
    return prepare(folder, reading, dtype, *given)


def to_time(args: argparse.Namespace, kind: str, dtype: str, folder: Path) -> StreamTask:
    """Return the task of the forward alone, with the model to be timed."""
    reading, sae = MODELS[args.case], CASES[args.case]
    corpus = corpus_of(folder, reading, dtype, args.model, args.hook, args.text)
    return StreamTask(
        args.case, kind, FORWARD, args.device, str(folder), LR, corpus=corpus, reading=reading, sae=sae, dtype=dtype
    )


def to_mark(args: argparse.Namespace, folder: Path) -> StreamTask:
    """Return the task of the forward alone, with a small model in float32, which holds the numbers of rows exactly."""
    reading = replace(MODELS[args.case], width=8, layers=1, heads=1, hook="transformer.h.0")
    corpus = corpus_of(folder, reading, "float32")
    return StreamTask(
        args.case,
        "shuffle",
        FORWARD,
        args.device,
        str(folder),
        LR,
        corpus=corpus,
        reading=reading,
        sae=CASES[args.case],
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and report."""
    args = parse(argv)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # everything is local, but some libraries ask the hub without it
    try:
        with tempfile.TemporaryDirectory() as folder:
            groups_of_tasks = groups(args, folder)
            if not args.json:
                sys.stdout.write(versions() + "\n\n")
            for tasks in groups_of_tasks:
                is_shuffle = tasks[0].kind == "shuffle"
                records = measure_mixing(tasks) if is_shuffle else measure(tasks, args.steps, args.rounds)
                sys.stdout.write(("\n".join(map(json.dumps, records)) if args.json else table(records)) + "\n")
                sys.stdout.flush()
    except BenchmarkError as error:
        print_note(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
