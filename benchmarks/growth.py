"""How the time and the memory of a training step grow: with d_sae, k, the batch and the number of members.

    OMP_NUM_THREADS=1 python -m benchmarks.growth --plot growth.svg > growth.jsonl

One size is changed at a time, from the first value of each option but the one that is changed. `ours` trains TopK
inside Lightning as `sae fit` does, beside sparsify where it is installed and the floor, the encode product and a fused
Adam step alone (`benchmarks/train_step.py` says how they take turns). sparsify and the floor of several members are
those of one, times their number; memory is the peak of a process. A JSON line is written for each measurement.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.report import BenchmarkError, installed, print_note
from benchmarks.train_step import measure

SIZES: dict[str, list[int]] = {
    "d_sae": [16_384, 4096, 65_536, 262_144],
    "k": [32, 16, 64, 128, 256],
    "batch": [1024, 256, 4096],
    "members": [1, 2, 4, 8],
}
"""What is changed, and the values; the first is that of all other measurements."""
IMPLS = ("ours", "sparsify")
COLOURS = {"ours": "#c0392b", "sparsify": "#2980b9", "floor": "#7f8c8d"}


def points(sizes: Mapping[str, Sequence[int]]) -> Iterator[tuple[list[str], dict[str, int]]]:
    """Yield each combination that is measured, and which sizes it is a value of.

    >>> list(points({"k": [8, 4], "batch": [64]}))
    [(['k', 'batch'], {'k': 8, 'batch': 64}), (['k'], {'k': 4, 'batch': 64})]
    """
    base = {name: values[0] for name, values in sizes.items()}
    yield list(sizes), base
    for name, values in sizes.items():
        for value in values[1:]:
            yield [name], base | {name: value}


def records(args: argparse.Namespace, sizes: Mapping[str, Sequence[int]]) -> Iterator[dict[str, Any]]:
    """Measure all combinations."""
    impls = installed(args.impl)
    for axes, size in points(sizes):
        case = f"{args.d_in}x{size['d_sae']}x{size['k']}x{size['batch']}"
        n = size["members"]
        measured = measure(case, "topk", impls, "cpu", args.steps, args.rounds, n)
        floor = n * measured[-1]["ms"]
        for each in measured:
            ms = each["ms"] * (1 if each["impl"] == "ours" else n)
            numbers = {"ms": round(ms, 3), "peak_mb": each["peak_mb"], "floor_ratio": round(ms / floor, 3)}
            yield {"axes": axes, "d_in": args.d_in, **size, "impl": each["impl"], **numbers}


def plot(measured: Sequence[Mapping[str, Any]], path: str) -> None:
    """Draw time and memory against each size, both on logarithmic axes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

    plain = FuncFormatter(lambda number, _: f"{number:,.0f}")
    size = (3 * len(SIZES), 5)
    figure, axes = pyplot.subplots(2, len(SIZES), figsize=size, squeeze=False, sharex="col", sharey="row")
    for column, name in enumerate(SIZES):
        of_size = [each for each in measured if name in each["axes"]]
        for row, number in enumerate(("ms", "peak_mb")):
            axis = axes[row, column]
            for impl, colour in COLOURS.items():
                line = sorted((each[name], each[number]) for each in of_size if each["impl"] == impl)
                if line:
                    axis.plot(*zip(*line, strict=True), "o-", color=colour, label=impl, markersize=3)
            axis.set_xscale("log", base=2)
            axis.set_yscale("log")
            axis.yaxis.set_major_formatter(plain)
            axis.yaxis.set_minor_formatter(plain if number == "peak_mb" else NullFormatter())
            axis.grid(alpha=0.3)
            axis.spines[["top", "right"]].set_visible(False)
            axis.tick_params(labelsize=8, which="both")
            axis.set_xticks(sorted({each[name] for each in of_size}))
            axis.xaxis.set_major_formatter(plain)
            axis.xaxis.set_minor_locator(NullLocator())
        axes[1, column].set_xlabel(name)
    axes[0, 0].set_ylabel("milliseconds a step")
    axes[1, 0].set_ylabel("peak memory of the process, MB")
    axes[0, 0].legend(fontsize=8, frameon=False)
    figure.tight_layout()
    figure.savefig(path)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, write and draw."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.growth", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    for name, values in SIZES.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, nargs="+", default=values)
    parser.add_argument("--d-in", type=int, default=256)
    parser.add_argument("--impl", nargs="+", choices=IMPLS, default=list(IMPLS))
    parser.add_argument("--steps", type=int, default=3, help="steps in each turn, default 3")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each impl, default 5")
    parser.add_argument("--plot", metavar="FILE", help="also draw a figure, as .svg or .png")
    args = parser.parse_args(argv)
    measured: list[dict[str, Any]] = []
    try:
        for each in records(args, {name: getattr(args, name) for name in SIZES}):
            measured.append(each)
            sys.stdout.write(json.dumps(each) + "\n")
            sys.stdout.flush()
    except BenchmarkError as error:
        print_note(f"error: {error}")
        return 1
    if args.plot:
        plot(measured, args.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
