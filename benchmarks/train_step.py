"""Time and memory of one optimizer step of SAE training: ours beside other libraries' and plain PyTorch's.

    python -m benchmarks.train_step --case a c [--kind topk] [--impl ours dense] [--json] [--plot step.svg]

Every impl runs in a process of its own, from the same weights on the same activations in memory. Before they are timed,
the reconstruction loss and l0 of all must agree with ours. Then they take turns of a few steps. Reported are:

- ms: median over all timed steps, from the end of one to the end of the next; samples_per_s follows from it.
- spread: lower and upper quartile of the same.
- peak_mb: peak resident memory of the process up to its last timed step (on a GPU: of torch's allocations).
- import_mb: resident memory after imports, before there is a model or data; it is part of peak_mb. With the first
  optimizer torch imports its compiler, 75 MB more, or 145 MB where Triton is installed: this counts as an import.
- floor_ratio: ms divided by that of `floor`, the float32 encode product and a fused Adam step alone. No impl that
  multiplies in float32 gets below 1; one that encodes in bfloat16 may.
- stages: ms by stage, from a few more steps, which are profiled and not timed.

Every process holds the same four batches, 4 x batch x d_in float32 (32 MB in case a), which are part of peak_mb too.

Learning rates are 1e-6, so that the number of active latents stays where it starts: at about 64 in the kinds `relu` and
`jumprelu`, at half of all latents in `relu_start`, as in a new SAE. In `topk_aux` and `batchtopk_aux` a tenth of the
latents is dead. `panel` is a SanityPanel of four TopK, beside one TopK alone (`ours_lone`).

Impls: `ours` trains inside Lightning as `sae fit` does, `ours_bare` in a plain loop, `ours_bf16` with bf16-mixed
precision. The others are as shipped; `+settings` gives them the process settings of `sae fit` (`cpu_settings.py`), and
`dense` fused Adam too. `benchmarks/peers.py` says what each of them does in a step.
"""

import argparse
import importlib.util
import json
import math
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from benchmarks.peers import CASES, DENSE_KINDS, IMPLS, KINDS, Begin, Task, library, supports
from benchmarks.report import BenchmarkError, aligned, installed, print_note
from benchmarks.turns import Worker
from benchmarks.worker import job

WARM_UP = 3  # untimed steps before the first turn
GPU_IMPLS = ("ours", "ours_bf16", "sparsify", "dense")
TOLERANCE, BF16_TOLERANCE = 1e-3, 2e-2


def check_agreement(begins: Mapping[str, Begin], where: str, device: str = "cpu") -> None:
    """Check that all impls start with the loss and l0 of the first of them.

    Args:
        begins: loss and l0 of each impl; if ours takes part, it comes first.
        where: case and kind, for the message.
        device: device of the impls; on `cuda` sparsify always computes in bfloat16.

    Raises:
        BenchmarkError: if they do not agree.
    """
    first, *others = begins
    for other in others:
        low = "ours_bf16" in (first, other) or (device == "cuda" and library(other) == "sparsify")
        for name in Begin._fields:
            expected, got = getattr(begins[first], name), getattr(begins[other], name)
            if not math.isclose(got, expected, rel_tol=BF16_TOLERANCE if low else TOLERANCE):
                raise BenchmarkError(
                    f"{where}: before the first step {other} has {name} {got:.6g}, {first} has {expected:.6g}: "
                    "they do not compute the same thing, so their times must not be compared"
                )


def measure(
    case: str, kind: str, impls: Sequence[str], device: str, steps: int, rounds: int, members: int = 1
) -> list[dict[str, Any]]:
    """Measure impls of one case and kind in turns, and return a record for each, that of `floor` last.

    Of several members `ours` trains a panel; others train one SAE, whose floor is compared with.
    """
    workers: list[Worker] = []
    where = f"case {case}, {kind}"
    with tempfile.TemporaryDirectory() as folder:
        try:
            for impl in [*impls, "floor"]:
                panel = members if impl == "ours" else 1
                workers.append(Worker(Task(case, kind, impl, device, folder, members=panel), job))
            for worker in workers:
                print_note(f"{where}: starting {worker.task.impl}")
                worker.build()
            check_agreement({worker.task.impl: worker.begin for worker in workers[:-1]}, where, device)
            for worker in workers:
                worker.turn(WARM_UP, timed=False)
            for number in range(rounds):
                print_note(f"{where}: round {number + 1} of {rounds}")
                for worker in workers:
                    worker.turn(steps)
            floor = statistics.median(workers[-1].times)
            return [record(worker, floor) for worker in workers]
        finally:
            for worker in workers:
                worker.stop()


def record(worker: Worker, floor: float) -> dict[str, Any]:
    """Return the numbers that are reported of one impl."""
    task, times = worker.task, worker.times
    median = statistics.median(times)
    low, _, high = statistics.quantiles(times, n=4, method="inclusive") if len(times) > 1 else [median] * 3
    return {
        "case": task.case,
        "kind": task.kind,
        "impl": task.impl,
        "samples_per_s": round(task.size.batch / median, 1),
        "ms": round(1e3 * median, 3),
        "spread": [round(1e3 * low, 3), round(1e3 * high, 3)],
        "peak_mb": round(worker.peak_mb, 1),
        "import_mb": round(worker.import_mb, 1),
        "floor_ratio": round(median / floor, 3),
        "stages": worker.stages(),
    }


def table(records: Sequence[Mapping[str, Any]]) -> str:
    """Lay out the records of one case and kind, and how they compare."""
    rows = [["impl", "samples/s", "ms", "quartiles", "peak MB", "import MB", "x floor", "stages (ms)"]]
    for r in records:
        stages = "  ".join(f"{name} {ms:.3g}" for name, ms in r["stages"].items())
        spread = "{:.4g} .. {:.4g}".format(*r["spread"])
        numbers = [f"{r['samples_per_s']:,.0f}", f"{r['ms']:.4g}", spread, f"{r['peak_mb']:.0f}"]
        rows.append([r["impl"], *numbers, f"{r['import_mb']:.0f}", f"{r['floor_ratio']:.2f}", stages])
    lines = [f"case {records[0]['case']}, {records[0]['kind']}", *aligned(rows)]
    ms = {r["impl"]: r["ms"] for r in records}
    peers = {impl: value for impl, value in ms.items() if not impl.startswith("ours") and impl != "floor"}
    for what, names in (("with our settings", peers), ("as shipped", [name for name in peers if "+" not in name])):
        if "ours" in ms and names and (what == "as shipped" or any("+" in name for name in names)):
            fastest = min(names, key=lambda name: ms[name])
            lines.append(f"  fastest peer {what}: {fastest} takes {ms[fastest] / ms['ours']:.2f} times as long as ours")
    if "ours" in ms and "ours_bare" in ms:
        lines.append(f"  Lightning adds {ms['ours'] - ms['ours_bare']:.2f} ms, {ms['ours'] / ms['ours_bare'] - 1:.1%}")
    if "ours_lone" in ms:
        lines.append(f"  the panel of four takes {ms['ours'] / ms['ours_lone']:.2f} times as long as one TopK alone")
    return "\n".join(lines) + "\n"


def plot(records: Sequence[Mapping[str, Any]], path: str) -> None:
    """Draw samples a second as horizontal bars, a panel for each case and kind."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = [r for r in records if r["impl"] != "floor"]
    groups = list(dict.fromkeys((r["case"], r["kind"]) for r in shown))
    sizes = [sum((r["case"], r["kind"]) == group for r in shown) for group in groups]
    figure, axes = pyplot.subplots(
        len(groups), 1, figsize=(8, 0.28 * sum(sizes) + 0.9 * len(groups)), squeeze=False, height_ratios=sizes
    )
    for axis, (case, kind) in zip(axes[:, 0], groups, strict=True):
        group = sorted(
            (r for r in shown if (r["case"], r["kind"]) == (case, kind)), key=lambda r: float(r["samples_per_s"])
        )
        colours = ["#c0392b" if r["impl"].startswith("ours") else "#95a5a6" for r in group]
        bars = axis.barh([r["impl"] for r in group], [r["samples_per_s"] for r in group], color=colours)
        axis.bar_label(bars, [f"{r['samples_per_s']:,.0f}" for r in group], padding=3, fontsize=8)
        size = CASES[case]
        axis.set_title(f"{kind}: d_in {size.d_in}, d_sae {size.d_sae}, k {size.k}, batch {size.batch}", fontsize=9)
        axis.margins(x=0.15)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1, 0].set_xlabel("training samples per second", fontsize=9)
    figure.tight_layout()
    figure.savefig(path)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.train_step", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    sizes = "\n".join(f"{name}: d_in {c.d_in}, d_sae {c.d_sae}, k {c.k}, batch {c.batch}" for name, c in CASES.items())
    parser.add_argument("--case", nargs="+", default=["a", "c"], choices=CASES, metavar="CASE", help=sizes)
    kinds = ", ".join(KINDS) + "\ndefault: topk, batchtopk; for case d relu, jumprelu"
    parser.add_argument("--kind", nargs="+", choices=KINDS, metavar="KIND", help=kinds)
    impls = ", ".join(IMPLS) + "\ndefault: all that are installed"
    parser.add_argument("--impl", nargs="+", choices=IMPLS, metavar="IMPL", help=impls)
    parser.add_argument("--steps", type=int, default=3, help="timed steps in a turn, default 3")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each impl, default 5")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda if there is a GPU")
    parser.add_argument("--json", action="store_true", help="one JSON line a measurement instead of tables")
    parser.add_argument("--plot", metavar="FILE", help="also draw samples per second, as .svg or .png")
    args = parser.parse_args(argv)
    if args.steps < 1 or args.rounds < 1:
        parser.error(f"--steps {args.steps} --rounds {args.rounds}: expected 1 or more of each")
    if args.plot and not args.plot.endswith((".svg", ".png")):
        parser.error(f"--plot {args.plot}: expected a name that ends in .svg or .png")
    if args.plot and importlib.util.find_spec("matplotlib") is None:
        parser.error("--plot needs matplotlib: pip install matplotlib")
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch finds no GPU here")
    args.device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    return args


def groups(args: argparse.Namespace) -> list[tuple[str, str, list[str]]]:
    """Return case, kind and impls of each group that is measured side by side."""
    available, chosen = installed(args.impl or IMPLS), []
    for case in dict.fromkeys(args.case):
        if case == "e" and args.device == "cpu":
            print_note("left out, needs a GPU: case e; there run: python -m benchmarks.train_step --case e")
            continue
        for kind in args.kind or (("relu", "jumprelu") if case == "d" else ("topk", "batchtopk")):
            if (case == "d" and kind not in DENSE_KINDS) or (kind == "panel" and case not in ("a", "tiny")):
                continue
            impls = [impl for impl in dict.fromkeys(available) if supports(impl, kind)]
            if case == "e" and not args.impl:
                impls = [impl for impl in impls if impl in GPU_IMPLS]
            if impls:
                impls.sort(key=lambda impl: not impl.startswith("ours"))  # the others must agree with the first
                chosen.append((case, kind, [*impls, "ours_lone"] if kind == "panel" else impls))
    if not chosen and "e" not in args.case:
        raise BenchmarkError(
            f"nothing to measure: no impl of --impl has --kind {' '.join(args.kind or [])} in these cases"
        )
    return chosen


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and report."""
    args = parse(argv)
    records: list[dict[str, Any]] = []
    try:
        for case, kind, impls in groups(args):
            new = measure(case, kind, impls, args.device, args.steps, args.rounds)
            records += new
            sys.stdout.write(("\n".join(map(json.dumps, new)) if args.json else table(new)) + "\n")
            sys.stdout.flush()
        if args.plot and records:
            plot(records, args.plot)
    except BenchmarkError as error:
        print_note(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
