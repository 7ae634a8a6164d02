"""Submodules of a model: what they read and give in a forward, which have activations of every token, and edits."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn


@dataclass
class Visit:
    """What went into a submodule, or came out of it, in one forward.

    Args:
        n_calls: how often the model ran it.
        tensor: the first tensor of its first call; None if there was none.
        instead: the class of what it read or gave.
    """

    n_calls: int = 0
    tensor: Tensor | None = None
    instead: str = ""


@torch.no_grad()
def visit(modules: Mapping[str, nn.Module], read_inputs: bool, forward: Callable[[], Any]) -> dict[str, Visit]:
    """Run a forward and return what was seen at each submodule.

    Args:
        modules: by name.
        read_inputs: look at the inputs of the submodules instead of their outputs.
        forward: runs the model.
    """
    visits = {name: Visit() for name in modules}

    def note(name: str, values: Iterable[Any], whole: Any) -> None:
        seen = visits[name]
        seen.n_calls += 1
        if seen.n_calls == 1:
            seen.tensor, seen.instead = first_tensor(values), type(whole).__name__

    def note_input(name: str, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        note(name, (*args, *kwargs.values()), args[0] if args else None)

    def note_output(name: str, _: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        note(name, parts_of(output), output)

    with ExitStack() as handles:
        for name, module in modules.items():
            handle = (
                module.register_forward_pre_hook(partial(note_input, name), with_kwargs=True)
                if read_inputs
                else module.register_forward_hook(partial(note_output, name))
            )
            handles.callback(handle.remove)
        forward()
    return visits


def parts_of(output: Any) -> tuple[Any, ...]:
    """Return what a module gave as a tuple: a tensor alone, the parts of a tuple, nothing of anything else."""
    if isinstance(output, Tensor):
        return (output,)
    return tuple(output) if isinstance(output, tuple) else ()


def first_tensor(values: Iterable[Any]) -> Tensor | None:
    """Return the first tensor among values, None if there is none."""
    return next((value for value in values if isinstance(value, Tensor)), None)


def why_no_activations(seen: Visit, positions: tuple[int, ...], side: str) -> str:
    """Return why a submodule has no activations [batch, seq, d] of the inputs; empty if it has.

    Args:
        seen: in a forward.
        positions: [batch, seq] of the inputs, or [batch] where the number of positions is not known.
        side: input or output.
    """
    if not seen.n_calls:
        return "the model did not run this submodule"
    if seen.tensor is None:
        way = "goes into" if side == "input" else "comes out of"
        return f"no tensor {way} this submodule (but {seen.instead})"
    if not fits(seen.tensor, positions):
        batch = " and ".join(f"{n} {what}" for n, what in zip(positions, ("rows", "positions"), strict=False))
        return f"its {side} has shape {list(seen.tensor.shape)} for {batch}, expected [batch, seq, d]"
    if not seen.tensor.is_floating_point():
        return f"its {side} are numbers of type {str(seen.tensor.dtype).removeprefix('torch.')}, not activations"
    if seen.n_calls > 1:
        return f"the model runs this submodule {seen.n_calls} times in a forward, and nothing says which is meant"
    return ""


def fits(tensor: Tensor, positions: tuple[int, ...]) -> bool:
    """Return whether a tensor is [batch, seq, ...] for these inputs."""
    return tensor.dim() >= 3 and tuple(tensor.shape[: len(positions)]) == positions


@contextmanager
def edited(
    module: nn.Module, hook: str, edits_input: bool, edit: Callable[[Tensor], Tensor], positions: tuple[int, ...] | None
) -> Iterator[None]:
    """Replace the first tensor that goes into a submodule, or comes out of it, in forwards within this context.

    Args:
        module: the submodule.
        hook: its name, for messages.
        edits_input: whether it is the input.
        edit: returns the new tensor.
        positions: of the inputs, see `fits`: activations of others would be taken for theirs; None takes any shape.

    Raises:
        ValueError: in a forward, if there is no such tensor, or it is not [batch, seq, d] where positions are given.
    """

    def checked(tensor: Tensor) -> Tensor:
        if positions is not None and not fits(tensor, positions):
            raise ValueError(
                f"hook={hook}: it has shape {list(tensor.shape)} where the inputs are {list(positions)}, expected "
                "[batch, seq, d]; choose another submodule"
            )
        return edit(tensor)

    def edit_input(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict]:
        values, has_tensor = _edit_first_tensor(args, checked)
        if has_tensor:
            return values, kwargs
        values, has_tensor = _edit_first_tensor(tuple(kwargs.values()), checked)
        if not has_tensor:
            raise ValueError(f"hook={hook}: no tensor goes into this submodule; choose another")
        return args, dict(zip(kwargs, values, strict=True))

    def edit_output(_: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        values, has_tensor = _edit_first_tensor(parts_of(output), checked)
        if not has_tensor:
            raise ValueError(f"hook={hook}: no tensor comes out of this submodule; choose another")
        return values[0] if isinstance(output, Tensor) else values

    handle = (
        module.register_forward_pre_hook(edit_input, with_kwargs=True)
        if edits_input
        else module.register_forward_hook(edit_output)
    )
    try:
        yield
    finally:
        handle.remove()


def _edit_first_tensor(values: tuple[Any, ...], edit: Callable[[Tensor], Tensor]) -> tuple[tuple[Any, ...], bool]:
    """Return the values with the first tensor edited, and whether there is a tensor."""
    for i, value in enumerate(values):
        if isinstance(value, Tensor):
            return (*values[:i], edit(value), *values[i + 1 :]), True
    return values, False
