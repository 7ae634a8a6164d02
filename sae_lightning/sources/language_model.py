"""Activations of any transformers checkpoint, at the input or output of any of its submodules."""

import copy
import difflib
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from typing_extensions import override

from sae_lightning.sources.base import ActivationSource, NonFiniteError
from sae_lightning.sources.checkpoint import load_model
from sae_lightning.sources.tokens import TokenBatch

Dtype = Literal["auto", "float32", "bfloat16", "float16"]


class _StopForwardError(Exception):
    """Ends a forward at the hook: nothing above it is run."""


class LanguageModelSource(ActivationSource):
    """A language model and a submodule of it, or several that are read in one forward.

    An activation with more than one dimension per position, such as [heads, d_head], is flattened, and takes its shape
    again where it is replaced. Activations at several hooks stand side by side, in the order of the hooks.

    Args:
        model: folder of a transformers checkpoint, or its name on the hub.
        hook: dotted name of a submodule, as in `named_modules()`, for example model.layers.2; for several, names of
            yours with one each, for example {early: model.layers.1, late: model.layers.3}.
        hook_input: take what goes into the submodule and not what comes out. Default: false.
        revision: branch, tag or commit on the hub. Default: its main branch.
        dtype: number format of the model; auto is the one it is stored in.
    """

    def __init__(
        self,
        model: str,
        hook: str | dict[str, str],
        hook_input: bool = False,
        revision: str | None = None,
        dtype: Dtype = "auto",
    ) -> None:
        _by_name(hook)  # a mistake in it is told before the model is read
        self.name = model
        self.model = load_model(model, revision, dtype)
        self.vocabulary: int = self.model.get_input_embeddings().num_embeddings  # type: ignore[operator]
        self._read_at(hook, hook_input)

    def at(self, hook: str | dict[str, str], hook_input: bool = False) -> "LanguageModelSource":
        """The same model, not a copy, read at other hooks."""
        source = copy.copy(self)
        source._read_at(hook, hook_input)
        return source

    def _read_at(self, hook: str | dict[str, str], hook_input: bool) -> None:
        self.hook, self.hook_input = hook, hook_input
        self.hooks = _by_name(hook)
        modules = dict(self.model.named_modules())
        for path in self.hooks.values():
            if not path or path not in modules:
                raise ValueError(_unknown_hook(path, self.name, [name for name in modules if name]))
        self._hooked = {path: modules[path] for path in self.hooks.values()}
        two = TokenBatch(torch.zeros(1, 2, dtype=torch.int64), torch.ones(1, 2, dtype=torch.bool))
        widths = {name: part.shape[-1] for name, part in self._forward_to_hooks(two).items()}
        self.widths = {} if isinstance(hook, str) else widths
        self.d_in = sum(widths.values())

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.get_input_embeddings().weight.device  # type: ignore[operator]

    def to(self, device: torch.device | str) -> "LanguageModelSource":
        """Moves the model."""
        self.model.to(device)
        return self

    def on(self, model: nn.Module) -> "LanguageModelSource":
        """The same hooks in another model of the same architecture."""
        other, modules = copy.copy(self), dict(model.named_modules())
        other.model, other._hooked = model, {path: modules[path] for path in self._hooked}
        return other

    @override
    def capture(self, inputs: TokenBatch) -> tuple[Float[Tensor, "batch seq d_in"], Bool[Tensor, "batch seq"]]:
        """Activations in the model's dtype and the mask, on the model's device.

        Raises:
            NonFiniteError: if an activation is not finite.
            ValueError: if a token is not in the model's vocabulary.
        """
        parts = list(self._forward_to_hooks(inputs).values())
        activations = parts[0] if len(parts) == 1 else torch.cat([part.to(parts[0]) for part in parts], -1)
        if not torch.isfinite(activations.sum(dtype=torch.float32)):  # one pass; which ones is worth a second
            self._refuse_infinite(activations)
        return activations, inputs.mask.to(activations.device)

    @override
    def replace(
        self,
        inputs: TokenBatch,
        edit: Callable[[Float[Tensor, "batch seq d_in"]], Float[Tensor, "batch seq d_in"]],
        hook: str = "",
    ) -> Float[Tensor, "batch seq vocabulary"]:
        """Logits, or the last hidden states of a model without a head; `edit` gets all positions, also masked ones.

        Differentiable in what `edit` returns, never in the parameters of the model.

        Args:
            inputs: rows of text.
            edit: what happens to the activations.
            hook: name of the hook where, if there are several.
        """

        def edit_in_shape(tensor: Tensor) -> Tensor:
            return edit(tensor.flatten(2)).to(tensor).view_as(tensor)

        with self._hook(self.hooks[hook], edit_in_shape):
            outputs = self._forward(inputs)
        return outputs.logits if "logits" in outputs else outputs[0]

    @torch.no_grad()
    def _forward_to_hooks(self, inputs: TokenBatch) -> dict[str, Tensor]:
        """Activations [batch, seq, d] by the name of the hook; what lies above the last is not run."""
        captured: dict[str, Tensor] = {}

        def keep(path: str, tensor: Tensor) -> Tensor:
            captured[path] = tensor.flatten(2)
            if len(captured) == len(self._hooked):
                raise _StopForwardError
            return tensor

        with ExitStack() as hooks:
            for path in self._hooked:
                hooks.enter_context(self._hook(path, partial(keep, path)))
            with suppress(_StopForwardError):
                self._forward(inputs)
        if missing := [path for path in self._hooked if path not in captured]:
            raise ValueError(f"hook={missing[0]}: the model {self.name} did not run this submodule; choose another")
        return {name: captured[path] for name, path in self.hooks.items()}

    def _forward(self, inputs: TokenBatch) -> Any:
        ids = inputs.input_ids
        if not ids.is_cuda and int(ids.max()) >= self.vocabulary:  # on an accelerator this would wait for it
            raise ValueError(
                f"the tokenizer made token {int(ids.max())}, but {self.name} has a vocabulary of {self.vocabulary}: "
                "give the tokenizer that belongs to the model"
            )
        return self.model(input_ids=ids.to(self.device), **self._no_cache())

    def _no_cache(self) -> dict[str, bool]:
        return {"use_cache": False} if hasattr(self.model.config, "use_cache") else {}

    @contextmanager
    def _hook(self, hook: str, edit: Callable[[Tensor], Tensor]) -> Iterator[None]:
        """Inside, the tensor at the hook is replaced by `edit(tensor)`."""

        def checked(tensor: Tensor) -> Tensor:
            if tensor.dim() < 3:
                side = "input" if self.hook_input else "output"
                raise ValueError(
                    f"hook={hook}: its {side} has shape {list(tensor.shape)}, expected [batch, seq, d]; "
                    "choose another submodule"
                )
            return edit(tensor)

        def edit_input(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict]:
            edited, found = _edit_first_tensor(args, checked)
            if found:
                return edited, kwargs
            values, found = _edit_first_tensor(tuple(kwargs.values()), checked)
            if not found:
                raise ValueError(f"hook={hook}: no tensor goes into this submodule; choose another")
            return args, dict(zip(kwargs, values, strict=True))

        def edit_output(_: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
            if isinstance(output, Tensor):
                return checked(output)
            edited, found = _edit_first_tensor(tuple(output), checked) if isinstance(output, tuple) else ((), False)
            if not found:
                raise ValueError(f"hook={hook}: no tensor comes out of this submodule; choose another")
            return edited

        handle = (
            self._hooked[hook].register_forward_pre_hook(edit_input, with_kwargs=True)
            if self.hook_input
            else self._hooked[hook].register_forward_hook(edit_output)
        )
        try:
            yield
        finally:
            handle.remove()

    def _refuse_infinite(self, activations: Tensor) -> None:
        wrong = ~torch.isfinite(activations)
        if n := int(wrong.sum()):
            row, position, _ = wrong.nonzero()[0].tolist()
            raise NonFiniteError(
                f"hook={self.hook}: {n} of {activations.numel()} activations are not finite "
                f"(dtype {activations.dtype}); try dtype: float32",
                (row, position),
            )


def _by_name(hook: str | dict[str, str]) -> dict[str, str]:
    if not isinstance(hook, str) and (not hook or not all(re.fullmatch(r"\w+", name) for name in hook)):
        raise ValueError(f"hook={hook}: expected names of letters, digits and _, each with a submodule")
    return {"": hook} if isinstance(hook, str) else dict(hook)


def _edit_first_tensor(values: tuple[Any, ...], edit: Callable[[Tensor], Tensor]) -> tuple[tuple[Any, ...], bool]:
    for i, value in enumerate(values):
        if isinstance(value, Tensor):
            return (*values[:i], edit(value), *values[i + 1 :]), True
    return values, False


def _unknown_hook(hook: str, model: str, names: list[str]) -> str:
    near = difflib.get_close_matches(hook, names, n=4, cutoff=0.3) or names[:4]
    return (
        f"hook={hook}: {model} has no such submodule; near are {', '.join(near)}. All of them: "
        f'python -c "import transformers; [print(name) for name, _ in '
        f"transformers.AutoModelForCausalLM.from_pretrained('{model}').named_modules()]\""
    )
