"""What a GPU does with the code, in a quarter of an hour: tests, steps, kernels, resuming, precision, memory.

    python -m benchmarks.gpu [--out gpu.json] [--only step kernels] [--limit 540]

Each part is a process with a time limit of its own, the most valuable first; a part that fails or runs out of time says
so and the next begins. All results go into one JSON, written anew after each part, and a table is printed. Where there
is no GPU nothing is run, and the exit code is 0.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.report import aligned, print_note

ROOT = Path(__file__).parents[1]
TAIL = 4000  # characters of the output that are kept of a part that failed


@dataclass(frozen=True)
class Part:
    """One question.

    Args:
        name: an identifier.
        asks: what it asks, in a few words.
        limit: seconds.
        command: arguments of Python; a line of its output that is a JSON object is a result.
    """

    name: str
    asks: str
    limit: int
    command: tuple[str, ...]


def _own(name: str, asks: str, limit: int) -> Part:
    return Part(name, asks, limit, ("-m", "benchmarks.gpu_parts", name))


def _step(name: str, asks: str, limit: int, kinds: str, impls: str) -> Part:
    options = ("--case", "e", "--kind", *kinds.split(), "--impl", *impls.split(), "--json", "--device", "cuda")
    return Part(name, asks, limit, ("-m", "benchmarks.train_step", *options))


PARTS = (
    Part(
        "tests",
        "do the kernels and the SAEs pass their tests",
        120,
        ("-m", "pytest", "-q", "tests/test_on_a_gpu.py", "tests/kernels", "tests/saes"),
    ),
    _step("step", "a TopK and a BatchTopK step beside others", 120, "topk batchtopk", "ours_bf16 sparsify dense"),
    _own("profile", "which kernels, how often the host waits, peak memory", 60),
    _step("kinds", "AuxK, ReLU as it starts, JumpReLU", 90, "batchtopk_aux relu_start jumprelu", "ours_bf16"),
    _own("kernels", "selection and sparse products beside torch's", 60),
    _own("resume", "is a resumed run equal to the bit", 120),
    _own("precision", "explained variance with bf16-mixed beside float32", 90),
    _own("memory", "peak memory of a panel at the sizes of Gemma", 90),
    _own("collectives", "one rank of NCCL", 60),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the parts and write what they found."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    names = [part.name for part in PARTS]
    asked = "\n".join(f"{part.name}: {part.asks}, {part.limit} s at most" for part in PARTS)
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="PART", help=asked)
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), help="default gpu.json")
    parser.add_argument("--limit", type=float, default=900.0, help="seconds for all parts together, default 900")
    args = parser.parse_args(argv)
    if not torch.cuda.is_available():
        print_note("nothing is run: torch finds no GPU here")
        return 0
    found: dict[str, Any] = {"machine": machine(), "parts": {}}
    end = time.monotonic() + args.limit
    for part in PARTS:
        if part.name not in args.only:
            continue
        left = end - time.monotonic()
        found["parts"][part.name] = run(part, min(part.limit, left)) if left > 1 else {"error": "no time was left"}
        args.out.write_text(json.dumps(found, indent=1), encoding="utf-8")
        sys.stdout.write(table(part.name, found["parts"][part.name]) + "\n")
        sys.stdout.flush()
    print_note(f"all of it: {args.out}")
    return int(any("error" in result for result in found["parts"].values()))


def machine() -> dict[str, Any]:
    """Return what the figures were measured on."""
    properties = torch.cuda.get_device_properties(0)
    return {
        "gpu": properties.name,
        "n_gpus": torch.cuda.device_count(),
        "memory_gb": round(properties.total_memory / 1e9, 1),
        "capability": f"{properties.major}.{properties.minor}",
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
    }


def run(part: Part, limit: float) -> dict[str, Any]:
    """Run one part and return its results, how long it took, and what went wrong."""
    print_note(f"{part.name}: {part.asks}")
    started = time.monotonic()
    try:
        done = subprocess.run(
            [sys.executable, *part.command], cwd=ROOT, timeout=limit, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        output, error = done.stdout, f"exit code {done.returncode}" if done.returncode else None
    except subprocess.TimeoutExpired as expired:
        output = expired.stdout or b""
        output, error = output.decode() if isinstance(output, bytes) else output, f"more than {limit:.0f} s"
    result: dict[str, Any] = {"seconds": round(time.monotonic() - started, 1), "results": results_in(output)}
    if error:
        return result | {"error": error, "output": output[-TAIL:]}
    return result if result["results"] else result | {"output": output[-TAIL:]}


def results_in(output: str) -> list[dict[str, Any]]:
    """Return the lines of an output that are JSON objects."""
    results = []
    for line in output.splitlines():
        if line.startswith("{"):
            try:
                results.append(json.loads(line))
            except json.JSONDecodeError:
                continue
    return results


def table(name: str, result: dict[str, Any]) -> str:
    """Lay out the results of a part."""
    lines = [f"{name}, {result.get('seconds', 0)} s" + (f": {result['error']}" if "error" in result else "")]
    if result.get("results"):
        columns = list(dict.fromkeys(key for each in result["results"] for key in each if key != "stages"))
        rows = [columns, *([str(each.get(column, "")) for column in columns] for each in result["results"])]
        lines += aligned(rows) if len(columns) > 1 else ["  " + row[0] for row in rows]
    elif "output" in result:
        lines += ["  " + line for line in result["output"].splitlines()[-8:]]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
