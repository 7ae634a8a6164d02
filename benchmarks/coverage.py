"""How often the intervals of a verdict cover the truth, and how often its words are wrong or missing: a simulation.

    python -m benchmarks.coverage [--rounds 4000]

The first table draws differences `y[s, i] = seed effect + item effect + rest` between two SAEs that are equal (the mean
is 0), with numbers of seeds and items and standard deviations as runs have them. Coverage should be 95 %, and "beats"
below 2.5 %. The second adds an evaluator with seeds of its own. The third draws what is compared at once, a metric of a
trained SAE and three random baselines: coverage of all three intervals at once, how often any of three equal baselines
is called "beats" or "loses", and how often a baseline that is really worse is found so; then the same of a metric that
counts. The fourth asks how often a baseline is called "equivalent" that is equal, and one that differs by the margin.
The last one draws a published SAE and draws of its controls. First it is one more draw of all of them: how often it is
said to beat any, and to lose to any (below 2.5 % each), and how often by rules that would not do, the interval of the
mean of the draws and the one over items alone. Then it is better: how often that is found of one control.
"""

import argparse

import numpy as np
from numpy.typing import NDArray

from sae_lightning.members import Tag
from sae_lightning.verdict.comparison import Comparison
from sae_lightning.verdict.grid import grid_step
from sae_lightning.verdict.statistics import (
    Difference,
    between_repeats,
    between_seeds,
    beyond_draws,
    crossed,
    over_items,
)

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
SEEDS = (2, 3, 4, 5, 10)
BASELINES = 3
CONTROLS = 6
"""Random ones of a published SAE."""
DRAWN = {"draws": (1.0, 0.0), "rest": (0.0, 1.0), "both": (1.0, 1.0)}
"""Standard deviations between draws of a control, and of the mean over all items of what each draw has alone."""


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


def with_repeats(
    n_seeds: int, n_repeats: int, common: float, own: float, rounds: int, rng: np.random.Generator
) -> tuple[float, float]:
    """Return coverage with and without the part that evaluator seeds add.

    Args:
        n_seeds: training seeds, between which the difference has the standard deviation 1.
        n_repeats: evaluator seeds.
        common: standard deviation between evaluator seeds of what all SAEs share of a draw.
        own: of what each SAE has alone.
        rounds: how many draws.
        rng: draws.
    """
    covered = np.zeros(2)
    for _ in range(rounds):
        draws = common * rng.standard_normal((1, n_repeats)) + own * rng.standard_normal((n_seeds, n_repeats))
        measured = rng.standard_normal((n_seeds, 1)) + draws
        seeds = between_seeds(measured.mean(1))
        both = seeds.plus(*between_repeats(measured.mean(0)))
        covered += [one.low <= 0 <= one.high for one in (both, seeds)]
    return float(covered[0] / rounds), float(covered[1] / rounds)


def family(
    n_seeds: int, gap: float, shared: float, rounds: int, rng: np.random.Generator, latents: int = 0
) -> tuple[float, float, float]:
    """Return how often all intervals of a metric cover at once, how often any word is wrong, how often it is found.

    Args:
        n_seeds: training seeds.
        gap: what the trained SAE has more than the last baseline, in standard deviations of a difference; the other
            baselines are equal to it.
        shared: share of the variance of the differences that is the trained SAE's, which they have in common.
        rounds: how many draws.
        rng: draws.
        latents: the metric counts so many, about one in a hundred of them; 0 for one that does not count.
    """
    true = np.zeros(BASELINES)
    true[-1] = gap
    covered = wrong = found = 0
    for _ in range(rounds):
        trained = shared**0.5 * rng.standard_normal((n_seeds, 1))
        values = np.hstack([trained, (1 - shared) ** 0.5 * rng.standard_normal((n_seeds, BASELINES)) - true])
        least = 0.0
        if latents:
            values = np.round(latents / 100 + values * (latents / 100) ** 0.5) / latents
            least = grid_step([*values.flat, 1.0]) ** 2 / 2
        differences = values[:, :1] - values[:, 1:]
        decided = [between_seeds(column, least).among(BASELINES) for column in differences.T]
        truth = true / (latents / (latents / 100) ** 0.5) if latents else true
        shown = [comparison(one) for one in decided]  # where nothing varies, the verdict shows no interval
        covered += all(
            not one.has_interval or one.difference.low <= own <= one.difference.high
            for one, own in zip(shown, truth, strict=True)
        )
        words = [one.verdict for one in shown]
        equal = words if gap == 0 else words[:-1]
        wrong += any(own in ("beats", "loses") for own in equal)
        found += words[-1] == "beats"
    return covered / rounds, wrong / rounds, found / rounds


def equivalent(n_seeds: int, gap: float, margin: float, rounds: int, rng: np.random.Generator) -> float:
    """Return how often a baseline is called equivalent; gap and margin in standard deviations of a difference."""
    drawn = gap + rng.standard_normal((rounds, n_seeds))
    return (
        sum(comparison(between_seeds(own).among(BASELINES), margin).verdict == "equivalent" for own in drawn) / rounds
    )


def published(
    n_draws: int, n_items: int, sd: tuple[float, float], gap: float, rounds: int, rng: np.random.Generator
) -> tuple[float, float, float, float, float]:
    """Return how often a published SAE beats any of its controls, loses to any, and beats a given one.

    Then how often it beats any by the interval of the mean of the draws, and by the one over items alone.

    Args:
        n_draws: of each control; 1 for controls that are not drawn.
        n_items: evaluation items, 0 for values alone.
        sd: between draws, and of the mean over items of what each draw has alone.
        gap: what the published SAE has more than another draw, in standard deviations of a draw as it is measured.
        rounds: how many times.
        rng: draws.
    """
    counts = np.zeros(5)
    for _ in range(rounds):
        decided: list[Difference] = []
        of_mean: list[Difference] = []
        of_items: list[Difference] = []
        own, rest = _drawn(1, n_items, sd, rng)
        own += gap * float(np.hypot(*sd))
        for _ in range(CONTROLS):
            draws, other = _drawn(n_draws, n_items, sd, rng)
            items = [over_items((rest - other).mean(0))] if n_items else []
            differences = own - draws
            for intervals, of_draws in (
                (decided, beyond_draws(differences)),
                (of_mean, between_seeds(differences)),
                (of_items, Difference(float(differences.mean()), ())),
            ):
                intervals.append(Difference(of_draws.mean, (*of_draws.parts, *items), CONTROLS))
        counts += [
            any(one.low > 0 for one in decided),
            any(one.high < 0 for one in decided),
            decided[0].low > 0,
            any(one.low > 0 for one in of_mean),
            any(one.low > 0 for one in of_items),
        ]
    beats, loses, found, by_mean, by_items = (counts / rounds).tolist()
    return beats, loses, found, by_mean, by_items


def _drawn(
    n: int, n_items: int, sd: tuple[float, float], rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return measured values of draws [n], and what each has alone at each item [n, n_items]."""
    rest = sd[1] * n_items**0.5 * rng.standard_normal((n, n_items))
    own = sd[0] * rng.standard_normal(n) + (rest.mean(1) if n_items else sd[1] * rng.standard_normal(n))
    return own, rest


def comparison(difference: Difference, margin: float | None = None) -> Comparison:
    """Return what the verdict makes of a difference."""
    return Comparison(Tag("simulated"), "baseline", 1.0, 1.0 - difference.mean, difference, True, margin=margin)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=4000)
    rounds = parser.parse_args().rounds
    rng = np.random.default_rng(0)
    print("| what varies | seeds | items | coverage | beats |\n|---|---|---|---|---|")
    for name, sd in EFFECTS.items():
        for n_seeds in (1, *SEEDS):
            for n_items in (1, 16, 400):
                if (n_seeds == 1 and (n_items == 1 or sd[0])) or (n_items == 1 and name != "seeds"):
                    continue
                if n_items > 1 and name in ("seeds", "items"):  # all items or seeds would be equal
                    continue
                for skewed in (False, True) if n_items > 100 else (False,):
                    coverage, beats = simulate(n_seeds, n_items, sd, rounds, skewed, rng)
                    kind = f"{name}, -1/0/1" if skewed else name
                    print(f"| {kind} | {n_seeds} | {n_items} | {coverage:.1%} | {beats:.1%} |", flush=True)
    print("\n| seeds | evaluator seeds | common | own | coverage | without their part |\n|---|---|---|---|---|---|")
    for n_seeds in SEEDS:
        for common, own in ((0.0, 0.0), (0.0, 2.0), (2.0, 0.0), (2.0, 2.0)):
            with_part, without = with_repeats(n_seeds, 5, common, own, rounds, rng)
            print(f"| {n_seeds} | 5 | {common:g} | {own:g} | {with_part:.1%} | {without:.1%} |", flush=True)
    print("\n| metric | seeds | gap | all cover | any word wrong | gap found |\n|---|---|---|---|---|---|")
    for latents in (0, 768):
        for n_seeds in SEEDS:
            for gap in (0.0, 2.0, 5.0, 20.0):
                covered, wrong, found = family(n_seeds, gap, 0.5, rounds, rng, latents)
                name = f"counts 8 of {latents}" if latents else "any number"
                print(f"| {name} | {n_seeds} | {gap:g} | {covered:.1%} | {wrong:.1%} | {found:.1%} |", flush=True)
    print("\n| seeds | margin | equivalent, of equal | equivalent, at the margin |\n|---|---|---|---|")
    for n_seeds in SEEDS:
        for margin in (2.0, 5.0, 20.0):
            shares = [equivalent(n_seeds, gap, margin, rounds, rng) for gap in (0.0, margin)]
            print(f"| {n_seeds} | {margin:g} | {shares[0]:.1%} | {shares[1]:.1%} |", flush=True)
    print_published(rounds, rng)


def print_published(rounds: int, rng: np.random.Generator) -> None:
    """Print the table of published SAEs."""
    gaps = (10.0, 30.0, 100.0)
    heads = ["draws", "items", "what varies", "beats", "loses", "beats, of the mean", "beats, over items"]
    print(f"\n| {' | '.join([*heads, *(f'gap {gap:g} found' for gap in gaps)])} |\n{'|---' * (len(heads) + 3)}|")
    for n_draws in (1, 2, 3, 5, 10):
        for n_items in (0, 16, 400):
            for name, sd in DRAWN.items():
                if (n_draws == 1 and (name != "rest" or not n_items)) or (name != "draws" and not n_items):
                    continue
                beats, loses, _, of_mean, over = published(n_draws, n_items, sd, 0.0, rounds, rng)
                found = [published(n_draws, n_items, sd, gap, rounds // 4, rng)[2] for gap in gaps]
                cells = [f"{share:.1%}" for share in (beats, loses, of_mean, over, *found)]
                print(f"| {n_draws} | {n_items} | {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
