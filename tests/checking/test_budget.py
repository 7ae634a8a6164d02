"""What a user types for a budget."""

import pytest

from sae_lightning.checking.budget import Budget


@pytest.mark.parametrize(
    ("typed", "budget"),
    [
        ("nulls", Budget()),
        (" nulls ", Budget()),
        ("tokens 2_000_000", Budget("tokens", tokens=2_000_000)),
        ("tokens=2,000,000", Budget("tokens", tokens=2_000_000)),
        ("tokens 2e6", Budget("tokens", tokens=2_000_000)),
        ("minutes: 30", Budget("minutes", minutes=30.0)),
        ("minutes 0.5", Budget("minutes", minutes=0.5)),
    ],
)
def test_it_is_read(typed, budget):
    assert Budget.parse(typed) == budget
    assert budget.trains == (budget.kind != "nulls")


@pytest.mark.parametrize("typed", ["", "tokens", "tokens 0", "tokens 1.5", "tokens -3", "hours 3", "minutes 0", "30"])
def test_what_is_none_is_refused(typed):
    with pytest.raises(ValueError, match=f"^--budget {typed}: expected nulls, 'tokens N' such as"):
        Budget.parse(typed)


def test_a_file_has_what_it_has():
    assert Budget().as_json() == {"kind": "nulls"}
    assert Budget("minutes", minutes=2.0).with_tokens(4096).as_json() == {
        "kind": "minutes", "minutes": 2.0, "tokens": 4096,
    }  # fmt: skip
