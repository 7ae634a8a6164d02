"""What holds of every evaluator that is repeated with other seeds."""

import math

import pytest


def check_repeats(once, repeated, n):
    """The first repeat has the numbers of one alone; values are means, and items make them up; return what differs.

    Args:
        once: scores by metric of the evaluator with n_repeats=1.
        repeated: those with n_repeats=n.
        n: 2 or more.
    """
    assert set(once) == set(repeated)
    differ = set()
    for name, scores in repeated.items():
        assert once[name].repeats is None
        assert set(scores.members) == set(once[name].members), name
        for member, value in scores.members.items():
            if not math.isfinite(float(value)):
                assert member not in scores.repeats
                continue
            values = scores.repeats[member]
            assert len(values) == n
            assert values[0] == float(once[name].members[member]), (
                name,
                member,
                "the first repeat is that of one alone",
            )
            assert float(value) == pytest.approx(sum(values) / n)
            if len(set(values)) > 1:
                differ.add(name)
            if scores.items is not None and member in scores.items.numerators:
                numerators, denominators = scores.items.numerators[member], scores.items.denominators[member]
                assert float(numerators.sum() / denominators.sum()) == pytest.approx(float(value), abs=1e-9), name
                assert (denominators >= 0).all()
                assert len(numerators) <= n * len(once[name].items.numerators[member])
        if scores.items is not None and scores.items.paired:
            lengths = {len(values) for values in scores.items.denominators.values()}
            assert len(lengths) == 1
    return differ
