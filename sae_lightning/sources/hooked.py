"""`HookedModel`: activations at the input or output of submodules of a model, and forwards with them replaced."""

import copy
import difflib
import re
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import partial
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from typing_extensions import override

from sae_lightning.provenance import sampled_fingerprint
from sae_lightning.sources.above_hook import AboveHook
from sae_lightning.sources.base import ActivationSource, NonFiniteError
from sae_lightning.sources.massive import MassiveRule, row_norms
from sae_lightning.submodules import Visit, edited, visit, why_no_activations

Self = TypeVar("Self", bound="HookedModel")


class _StopForwardError(Exception):
    """Raised at the last hook to end a forward: nothing above it is run."""


class HookedModel(ActivationSource):
    """A model and a submodule of it, or several that are read in one forward.

    An activation with several dimensions per position, such as [heads, d_head], is flattened, and gets its shape back
    where it is replaced. Activations at several hooks are concatenated, in the order of the hooks.

    Args:
        model: without gradients, in evaluation mode.
        name: the model's name in messages.
        hook: dotted name of a submodule, as in `named_modules()`; for several, a mapping from names of your choice to
            submodules.
        hook_input: read the input of the submodule instead of its output.

    Attributes:
        dtype: of the activations.
        widths: width of the activations at each of several hooks; empty for a single hook.
        massive: which activations are massive, at these hooks of this model; None where that does not matter. If it
            leaves them out, their positions are not valid, and `replace` gives them back unchanged whatever the edit.

    Raises:
        ValueError: if there is no such submodule, or it has no activations [batch, seq, d].
    """

    massive: MassiveRule | None = None
    library: str
    """The package that the model comes from."""
    list_hooks: str
    """A command that lists the submodules that can be hooks; {name} in it stands for the name of the model."""
    reads: str
    """What the model reads, for messages."""

    def __init__(self, model: nn.Module, name: str, hook: str | dict[str, str], hook_input: bool = False) -> None:
        self.model, self.name = model, name
        # Taken while it was loaded, if it was: its number format may have been changed since.
        self.weights: str = getattr(model, "fingerprint", None) or sampled_fingerprint(model.state_dict())
        self._read_at(hook, hook_input)

    def at(self: Self, hook: str | dict[str, str], hook_input: bool = False) -> Self:
        """Return a source with the same model, not a copy, and other hooks."""
        source = copy.copy(self)
        source._read_at(hook, hook_input)
        return source

    def _read_at(self, hook: str | dict[str, str], hook_input: bool) -> None:
        self.hook, self.hook_input, self.massive = hook, hook_input, None
        self._above: dict[str, AboveHook] = {}
        self._has_same_inputs = False
        self.hooks = hooks_by_name(hook)
        modules = dict(self.model.named_modules())
        for path in self.hooks.values():
            if not path or path not in modules:
                names = list(self.usable_hooks())
                near = difflib.get_close_matches(path, names, n=4, cutoff=0.3) or names[:4]
                raise ValueError(
                    f"hook={path}: {self.name} has no such submodule; near are {', '.join(near)}. {self._all_hooks()}"
                )
        self._hooked = {path: modules[path] for path in self.hooks.values()}
        parts = self._activations_at_hooks()
        self.dtype = next(iter(parts.values())).dtype
        widths = {name: part.shape[-1] for name, part in parts.items()}
        self.widths = {} if isinstance(hook, str) else widths
        self.d_in = sum(widths.values())

    @override
    def describe(self, part: str = "") -> dict[str, Any]:
        """Return the model, a fingerprint of its weights, and the submodule."""
        model = {"class": type(self).__name__, "model": self.name, "weights": self.weights}
        return model | {"hook": self.hooks.get(part, self.hook), "hook_input": self.hook_input}

    def usable_hooks(self) -> dict[str, int]:
        """Return the width of the activations by name of each submodule that `hook` can name, in the model's order."""
        modules = {name: module for name, module in self.model.named_modules() if name}
        visits, outputs = self._visit(modules)
        return {
            name: seen.tensor.flatten(2).shape[-1]
            for name, seen in visits.items()
            if seen.tensor is not None and not self._why_unusable(modules[name], seen, outputs)
        }

    def _activations_at_hooks(self) -> dict[str, Tensor]:
        """Run the example; return activations by name of the hook.

        Raises:
            ValueError: if a hook has none, or two have the same.
        """
        visits, outputs = self._visit(self._hooked)
        parts: dict[str, Tensor] = {}
        for name, path in self.hooks.items():
            if reason := self._why_unusable(self._hooked[path], visits[path], outputs):
                raise ValueError(f"hook={path}: {reason}; choose another submodule. {self._all_hooks()}")
            tensor = visits[path].tensor
            assert tensor is not None
            for other, part in parts.items():
                if part.data_ptr() == tensor.data_ptr() and part.numel() == tensor.numel():
                    raise ValueError(
                        f"hook={self.hook}: {other} ({self.hooks[other]}) and {name} ({path}) are the same "
                        "activations; leave one out"
                    )
            parts[name] = tensor.flatten(2)
        return parts

    def _visit(self, modules: Mapping[str, nn.Module]) -> tuple[dict[str, Visit], Any]:
        """Run the model on the example; return what was seen at submodules, and the outputs."""
        inputs, outputs = self.example(), []
        try:
            visits = visit(modules, self.hook_input, lambda: outputs.append(self.forward(inputs)))
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            reason = (str(error).splitlines() or [""])[0]
            raise ValueError(
                f"{self.name}: {type(self.model).__name__} cannot be run on {self.reads} alone "
                f"({type(error).__name__}: {reason}); expected a model that reads nothing else"
            ) from error
        return visits, outputs[0]

    def _why_unusable(self, module: nn.Module, seen: Visit, outputs: Any) -> str:
        """Return why there are no activations at a submodule; empty if there are."""
        side = "input" if self.hook_input else "output"
        return why_no_activations(seen, self.positions(self.example()), side)

    def _all_hooks(self) -> str:
        return "All that can be chosen: " + self.list_hooks.format(name=self.name)

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return next(self.model.parameters()).device

    def to(self: Self, device: torch.device | str) -> Self:
        """Move the model, and return this source."""
        self.model.to(device)
        return self

    def on(self: Self, model: nn.Module) -> Self:
        """Return a source with the same hooks in another model of the same architecture."""
        other, modules = self.with_massive(None), dict(model.named_modules())
        other._above = {}
        other.model, other._hooked = model, {path: modules[path] for path in self._hooked}
        return other

    def with_massive(self: Self, massive: MassiveRule | None) -> Self:
        """Return the same source with another rule, or none, about massive activations."""
        other = copy.copy(self)
        other.massive = massive
        return other

    @override
    def capture(self, inputs: Any) -> tuple[Float[Tensor, "batch seq d_in"], Bool[Tensor, "batch seq"]]:
        """Return the activations in the model's dtype and the mask, on the model's device.

        A position that is massive at one of several hooks is valid at none.

        Raises:
            NonFiniteError: if an activation is not finite.
            ValueError: if the model cannot read the inputs.
        """
        by_hook = self._forward_to_hooks(inputs)
        parts = list(by_hook.values())
        activations = parts[0] if len(parts) == 1 else torch.cat([part.to(parts[0]) for part in parts], -1)
        mask = inputs.mask.to(activations.device)
        if self.massive is None or not self.massive.leaves_out:
            total = activations.sum(dtype=torch.float32)
        else:
            norms = {hook: row_norms(part) for hook, part in by_hook.items()}
            total = torch.stack([norm.sum().to(activations.device) for norm in norms.values()]).sum()
            mask = mask & self.massive.keeps(norms)
        # One pass shows whether an activation may not be finite (a sum can also overflow); only then a second finds it.
        if not torch.isfinite(total):
            self._refuse_infinite(activations)
        return activations, mask

    @override
    def valid(self, inputs: Any, activations: Tensor, part: str = "") -> Tensor:
        mask = super().valid(inputs, activations)
        return mask if (kept := self._kept(activations, part)) is None else mask & kept

    def _kept(self, activations: Tensor, hook: str) -> Tensor | None:
        """Return the positions that are not massive at a hook; None where massive activations are not left out."""
        if self.massive is None or not self.massive.leaves_out:
            return None
        return self.massive.keeps({hook: row_norms(activations)})

    @override
    def replace(
        self,
        inputs: Any,
        edit: Callable[[Float[Tensor, "batch seq d_in"]], Float[Tensor, "batch seq d_in"]],
        hook: str = "",
    ) -> Tensor:
        """Return the outputs of the whole model when the activations at the hook are `edit(activations)`.

        Differentiable in the result of `edit`, never in the parameters of the model. Massive activations that are left
        out stay what they are; those at another hook are not known here.

        Args:
            inputs: what the model reads.
            edit: gets the activations of all positions, masked ones included.
            hook: name of the hook, if there are several.
        """

        def edit_in_shape(tensor: Tensor) -> Tensor:
            flat = tensor.flatten(2)
            edited = edit(flat).to(tensor)
            if (kept := self._kept(flat, hook)) is not None:
                edited = edited.where(kept[..., None], flat)
            return edited.view_as(tensor)

        if self.massive is not None and self.massive.leaves_out:
            self.massive.limit(hook)  # measured now where it is not known yet: amid a forward there can be no other
        path = self.hooks[hook]
        with self._hook(path, edit_in_shape, inputs):
            if not self._has_same_inputs:
                return self.outputs(self.forward(inputs))
            above = self._above.setdefault(path, AboveHook(self.model, path, self.hook_input))
            key = (*inputs.rows.shape, inputs.rows.cpu().numpy().tobytes())
            return above.run(key, lambda: self.outputs(self.forward(inputs)))

    @override
    @contextmanager
    def same_inputs(self) -> Iterator[None]:
        self._has_same_inputs = True
        try:
            yield
        finally:
            self._has_same_inputs = False
            for above in self._above.values():
                above.forget()

    # For subclasses
    # ----------------------------------------------------------------------------------------------------

    @abstractmethod
    def example(self) -> Any:
        """Return small inputs, from which the widths of the activations are taken."""

    def positions(self, inputs: Any) -> tuple[int, ...]:
        """Return [batch, seq] of inputs, with which activations begin; [batch] if the model decides on the rest."""
        return tuple(inputs.mask.shape)

    @abstractmethod
    def forward(self, inputs: Any) -> Any:
        """Run the model, or the tower with the hooks, on the inputs."""

    @abstractmethod
    def outputs(self, outputs: Any) -> Tensor:
        """Return the tensor that `replace` returns, from the outputs of `forward`."""

    @abstractmethod
    def redrawn(self: Self, seed: int, embeddings: bool) -> Self:
        """Return the same hooks in a model of the same architecture, with weights as before its training.

        Args:
            seed: of the weights.
            embeddings: draw the embeddings too; otherwise they are copied.
        """

    # Hooks
    # -------------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def _forward_to_hooks(self, inputs: Any) -> dict[str, Tensor]:
        """Return the activations [batch, seq, d] by the name of the hook; nothing above the last one is run."""
        captured: dict[str, Tensor] = {}

        def keep(path: str, tensor: Tensor) -> Tensor:
            captured[path] = tensor.flatten(2)
            if len(captured) == len(self._hooked):
                raise _StopForwardError
            return tensor

        with ExitStack() as hooks:
            for path in self._hooked:
                hooks.enter_context(self._hook(path, partial(keep, path), inputs))
            with suppress(_StopForwardError):
                self.forward(inputs)
        if missing := [path for path in self._hooked if path not in captured]:
            raise ValueError(f"hook={missing[0]}: the model {self.name} did not run this submodule; choose another")
        return {name: captured[path] for name, path in self.hooks.items()}

    def _hook(self, path: str, edit: Callable[[Tensor], Tensor], inputs: Any) -> AbstractContextManager[None]:
        return edited(self._hooked[path], path, self.hook_input, edit, self.positions(inputs))

    def _refuse_infinite(self, activations: Tensor) -> None:
        wrong = ~torch.isfinite(activations)
        if n := int(wrong.sum()):
            row, position, _ = wrong.nonzero()[0].tolist()
            dtype = str(activations.dtype).removeprefix("torch.")
            is_widest = activations.dtype in (torch.float32, torch.float64)
            way_out = "the model itself gives them: look for nan in its weights" if is_widest else "try dtype: float32"
            raise NonFiniteError(
                f"hook={self.hook}: {n} of {activations.numel()} activations are not finite in {dtype}; {way_out}",
                (row, position),
            )


def hooks_by_name(hook: str | dict[str, str]) -> dict[str, str]:
    """Return submodules by the names of the hooks; a single one has the name "".

    Raises:
        ValueError: if a name is not made of letters, digits and underscores, or two have one submodule.
    """
    if isinstance(hook, str):
        return {"": hook}
    if not hook or not all(re.fullmatch(r"\w+", name) for name in hook):
        raise ValueError(f"hook={hook}: expected names of letters, digits and _, each with a submodule")
    names: dict[str, str] = {}
    for name, path in hook.items():
        if path in names:
            raise ValueError(f"hook={hook}: {names[path]} and {name} are the same submodule {path}; leave one out")
        names[path] = name
    return dict(hook)
