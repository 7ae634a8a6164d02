"""Runs of a model on one input that differ at a hook alone: the blocks below the hook are run once.

Language models are lists of blocks, each of which reads what the one before it returned. An edit in block i changes
nothing before it, so of all runs but the first blocks 0 to i - 1 can be left out, and block i too where its output is
what is edited. Not every model is such a list (one that leads early blocks into late ones is none): the first time that
blocks are left out the whole model is run as well, and where the outputs are not equal to the bit it is so ever after.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class AboveHook:
    """The blocks of a model below a hook, and what they returned for the input at hand.

    Args:
        model: that has the hook.
        path: name of the submodule that is edited.
        edits_input: whether its input is edited and not its output.
    """

    def __init__(self, model: nn.Module, path: str, edits_input: bool) -> None:
        self.blocks = blocks_below(model, path, edits_input)
        self.is_equal: bool | None = None if self.blocks else False
        self._returned: Any = None

    def forget(self) -> None:
        """Forget the input."""
        self._returned = None

    def run(self, forward: Callable[[], Tensor]) -> Tensor:
        """Return what `forward` returns.

        Args:
            forward: runs the whole model, with an edit at the hook, on the input that it had the last time.
        """
        if self.is_equal is False:
            return forward()
        if self._returned is None:
            with self._keeping():
                return forward()
        if self.is_equal:
            with self._leaving_out():
                return forward()
        whole = forward()
        with self._leaving_out():
            self.is_equal = torch.equal(forward(), whole)
        return whole

    @contextmanager
    def _keeping(self) -> Iterator[None]:
        def keep(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            self._returned = _copied(output)

        handle = self.blocks[-1].register_forward_hook(keep, prepend=True)
        try:
            yield
        finally:
            handle.remove()

    @contextmanager
    def _leaving_out(self) -> Iterator[None]:
        with ExitStack() as blocks:
            for block in self.blocks:
                blocks.enter_context(_returning(block, lambda *_, **__: _copied(self._returned)))
            yield


def blocks_below(model: nn.Module, path: str, edits_input: bool) -> list[nn.Module]:
    """Return the blocks that an edit cannot change, from the first on; none where the hook is in no list of blocks.

    Args:
        model: that has the hook.
        path: name of the submodule that is edited.
        edits_input: whether its input is edited and not its output.
    """
    names = path.split(".")
    for depth in range(1, len(names)):
        blocks = model.get_submodule(".".join(names[:depth]))
        if isinstance(blocks, nn.ModuleList):
            is_whole_block = depth == len(names) - 1
            return list(blocks)[: int(names[depth]) + (is_whole_block and not edits_input)]
    return []


@contextmanager
def _returning(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Let a module return something else; its hooks are run as ever."""
    before = module.__dict__.get("forward")
    module.forward = forward
    try:
        yield
    finally:
        if before is None:
            del module.forward
        else:
            module.forward = before


def _copied(output: Any) -> Any:
    """Return the output of a block with its tensors copied: what comes after may write into them."""
    if isinstance(output, Tensor):
        return output.clone()
    if isinstance(output, tuple | list):
        return type(output)(_copied(value) for value in output)
    return output
