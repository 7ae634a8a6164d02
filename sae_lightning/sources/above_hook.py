"""Runs of a model on inputs that come again, with another edit at a hook: blocks below the hook are run once for each.

Language models are lists of blocks, each of which reads what the one before it returned. An edit in block i changes
nothing before it, so of all runs but the first blocks 0 to i - 1 can be left out, and block i too where its output is
what is edited. Not every model is such a list (one that leads early blocks into late ones is none): the first time that
blocks are left out the whole model is run as well, and where the outputs are not equal to the bit it is so ever after.
"""

from collections.abc import Callable, Hashable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

LARGEST_MEMORY = 1 << 30
"""Bytes of what blocks returned that are kept; inputs that come after these are run whole each time."""


class AboveHook:
    """The blocks of a model below a hook, and what they returned for inputs that come again.

    Args:
        model: that has the hook.
        path: name of the submodule that is edited.
        edits_input: whether its input is edited and not its output.
    """

    def __init__(self, model: nn.Module, path: str, edits_input: bool) -> None:
        self.blocks = blocks_below(model, path, edits_input)
        self.is_equal: bool | None = None if self.blocks else False
        self._returned: dict[Hashable, Any] = {}
        self._n_bytes = 0

    def forget(self) -> None:
        """Forget the inputs."""
        self._returned, self._n_bytes = {}, 0

    def run(self, key: Hashable, forward: Callable[[], Tensor]) -> Tensor:
        """Return what `forward` returns.

        Args:
            key: of the input: equal for equal inputs alone.
            forward: runs the whole model on the input, with an edit at the hook.
        """
        if self.is_equal is False:
            return forward()
        if key not in self._returned:
            with self._keeping(key):
                return forward()
        if self.is_equal:
            with self._leaving_out(key):
                return forward()
        whole = forward()
        with self._leaving_out(key):
            self.is_equal = torch.equal(forward(), whole)
        return whole

    @contextmanager
    def _keeping(self, key: Hashable) -> Iterator[None]:
        def keep(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            if self._n_bytes + (n_bytes := _size(output)) <= LARGEST_MEMORY:
                self._returned[key] = _copied(output)
                self._n_bytes += n_bytes

        handle = self.blocks[-1].register_forward_hook(keep, prepend=True)
        try:
            yield
        finally:
            handle.remove()

    @contextmanager
    def _leaving_out(self, key: Hashable) -> Iterator[None]:
        with ExitStack() as blocks:
            for block in self.blocks:
                blocks.enter_context(_returning(block, lambda *_, **__: _copied(self._returned[key])))
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


def _size(output: Any) -> int:
    """Return the bytes of all tensors in the output of a block."""
    if isinstance(output, Tensor):
        return output.numel() * output.element_size()
    return sum(map(_size, output)) if isinstance(output, tuple | list) else 0
