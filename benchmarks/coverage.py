"""How often the intervals of a verdict cover the truth: a simulation in which the truth is known.

    python -m benchmarks.coverage [--rounds 4000]

The first table draws differences `y[s, i] = seed effect + item effect + rest` between two SAEs that are equal (the mean
is 0), with numbers of seeds and items and standard deviations as runs have them. Coverage should be 95 %, and "beats"
below 5 %. The second table draws panels of many metrics, with the correction for multiple comparisons.
"""

import argparse

import numpy as np

from sae_lightning.verdict.statistics import LEVEL, adjusted, between_seeds, crossed

EFFECTS = {
    "seeds": (1.0, 0.0, 0.0),
    "items": (0.0, 1.0, 0.0),
    "rest": (0.0, 0.0, 1.0),
    "seeds and rest": (0.2, 0.0, 1.0),
    "items and rest": (0.0, 1.0, 1.0),
    "all": (0.2, 1.0, 1.0),
    "all, more seeds": (1.0, 1.0, 1.0),
}
"""Standard deviations of the effects of seed, item and rest."""


def simulate(
    n_seeds: int, n_items: int, sd: tuple[float, float, float], rounds: int, skewed: bool, rng: np.random.Generator
) -> tuple[float, float]:
    """Return the share of intervals that cover the truth, and the share that say "beats" of two equal SAEs."""
    covered = beats = 0
    for _ in range(rounds):
        effects = [rng.standard_normal(shape) for shape in ((n_seeds, 1), (1, n_items), (n_seeds, n_items))]
        if skewed:  # like differences between answers that are right or wrong and mostly agree: -1, 0 or 1
            effects[1] = rng.choice([-1.0, 0.0, 1.0], (1, n_items), p=[0.05, 0.9, 0.05])
            effects[2] = rng.choice([-1.0, 0.0, 1.0], (n_seeds, n_items), p=[0.05, 0.9, 0.05])
        y = np.broadcast_to(sum(s * effect for s, effect in zip(sd, effects, strict=True)), (n_seeds, n_items))
        difference = crossed(y) if n_items > 1 else between_seeds(y[:, 0])
        covered += difference.low <= 0 <= difference.high
        beats += difference.low > 0
    return covered / rounds, beats / rounds


def false_beats(n_metrics: int, n_seeds: int, share_real: float, rounds: int, rng: np.random.Generator) -> float:
    """Return the share of equal metrics among those called "beats" or "loses", in panels where some metrics differ."""
    shares = []
    real = np.arange(n_metrics) < share_real * n_metrics
    for _ in range(rounds):
        y = rng.standard_normal((n_seeds, n_metrics)) + 20 * real
        called = adjusted(np.array([between_seeds(y[:, m]).p for m in range(n_metrics)])) < 1 - LEVEL
        shares.append((called & ~real).sum() / max(called.sum(), 1))
    return float(np.mean(shares))


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=4000)
    rounds = parser.parse_args().rounds
    rng = np.random.default_rng(0)
    print("| what varies | seeds | items | coverage | beats |\n|---|---|---|---|---|")
    for name, sd in EFFECTS.items():
        for n_seeds in (1, 2, 3, 5):
            for n_items in (1, 16, 400):
                if (n_seeds == 1 and (n_items == 1 or sd[0])) or (n_items == 1 and name != "seeds"):
                    continue
                if n_items > 1 and name in ("seeds", "items"):  # all items or seeds would be equal
                    continue
                for skewed in (False, True) if n_items > 100 else (False,):
                    coverage, beats = simulate(n_seeds, n_items, sd, rounds, skewed, rng)
                    kind = f"{name}, -1/0/1" if skewed else name
                    print(f"| {kind} | {n_seeds} | {n_items} | {coverage:.1%} | {beats:.1%} |", flush=True)
    print("\n| metrics | of them different | seeds | false among those called different |\n|---|---|---|---|")
    for n_metrics, share in ((60, 0.0), (60, 0.5), (60, 0.9)):
        rate = false_beats(n_metrics, 3, share, rounds // 10, rng)
        print(f"| {n_metrics} | {share:.0%} | 3 | {rate:.1%} |", flush=True)


if __name__ == "__main__":
    main()
