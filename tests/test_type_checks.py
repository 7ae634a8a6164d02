"""Wrong types and shapes do not pass through a function of the package in a test."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from typing import no_type_check

import jaxtyping
import pytest
import torch
import type_checks
from beartype.roar import BeartypeCallHintViolation
from jaxtyping import Float
from torch import Tensor

from sae_lightning.code import RowNorm

ROWS = torch.zeros(3, 4)
refused = lambda: pytest.raises(BeartypeCallHintViolation)  # noqa: E731


def checked(source):
    """What a module of this source has when it is imported as those of the package are."""
    names = {"Float": Float, "Tensor": Tensor, "no_type_check": no_type_check, "dataclass": dataclass}
    names |= {"Iterator": Iterator, "Callable": Callable, "wraps": wraps, "__name__": __name__}
    exec(type_checks._Loader("module", "module.py").source_to_code(source, "module.py"), names)
    return names


def test_a_shape_in_the_package_is_that_of_its_hint():
    norm = RowNorm(shift=ROWS[:, :1], scale=ROWS[:, :1])
    norm.undo(ROWS)
    with refused():
        norm.undo(ROWS[0])
    with refused():
        norm.take(torch.zeros(2))


def test_dimensions_of_one_name_agree_within_a_call_and_not_between_calls():
    f = checked('def f(x: Float[Tensor, "a b"], y: Float[Tensor, " b"]) -> Float[Tensor, " a"]: return x @ y')["f"]
    assert f(ROWS, torch.zeros(4)).shape == (3,)
    assert f(ROWS.T, torch.zeros(3)).shape == (4,)
    with refused():
        f(ROWS, torch.zeros(3))
    with refused():
        f(ROWS.long(), torch.zeros(4))


def test_dimensions_of_the_caller_are_not_those_of_what_it_calls():
    source = 'def inner(x: Float[Tensor, "a b"]) -> None: ...\ndef outer(x: Float[Tensor, "a b"]) -> None: inner(x.T)'
    checked(source)["outer"](ROWS)


def test_generators_have_the_dimensions_of_their_arguments_and_not_of_who_takes_what_they_yield():
    names = checked(
        'def f(x: Float[Tensor, "a b"], y: Float[Tensor, " b"]) -> Iterator[Float[Tensor, " b"]]: yield from x\n'
        'def g(x: Float[Tensor, "b a"]) -> int: return len(list(f(x, x[0])))\n'
    )
    assert names["g"](ROWS) == 3
    with refused():
        names["f"](ROWS, ROWS[:, 0])


def test_what_is_returned_is_looked_at():
    names = checked(
        'def f(x: Float[Tensor, "a b"]) -> Float[Tensor, " a"]: return x[0]\n'
        "def g(x: int) -> str: return x\n"
        'def h(x: Float[Tensor, "a b"]) -> list[Float[Tensor, " a"]]: return [x[0]]\n'
    )
    for name, argument in (("f", ROWS), ("g", 1), ("h", ROWS)):
        with refused():
            names[name](argument)


def test_methods_inner_functions_and_what_dataclasses_are_made_of():
    names = checked(
        "class A:\n"
        "    def f(self, x: int) -> None: ...\n"
        "    @staticmethod\n"
        "    def g(x: int) -> None: ...\n"
        "    @property\n"
        "    def h(self) -> int: return 'h'\n"
        "@dataclass(frozen=True)\n"
        "class B:\n"
        "    x: Float[Tensor, ' a']\n"
        "    y: 'Float[Tensor, \" a\"] | None' = None\n"
        "def outer() -> Callable:\n"
        "    def inner(x: int) -> int: return x\n"
        "    return inner\n"
    )
    for call in (
        lambda: names["A"]().f("x"),
        lambda: names["A"].g("x"),
        lambda: names["A"]().h,
        lambda: names["B"](ROWS),
        lambda: names["B"](ROWS[0], ROWS[:, 0]),
        lambda: names["outer"]()("x"),
    ):
        with refused():
            call()
    assert names["B"](ROWS[0]).y is None
    assert names["outer"]()(1) == 1


def test_names_that_are_defined_later_or_for_static_checks_alone():
    names = checked("def f(x: 'Later') -> 'Never': return x\nclass Later: ...")
    later = names["Later"]()
    assert names["f"](later) is later
    with refused():
        names["f"](1)


def test_functions_that_ask_for_it_and_all_while_they_are_off_are_left_alone():
    names = checked("@no_type_check\ndef f(x: int) -> int: return x\ndef g(x: int) -> int: return x")
    assert names["f"]("x") == "x"
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        assert names["g"]("x") == "x"
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
    with refused():
        names["g"]("x")
