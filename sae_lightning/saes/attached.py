"""An SAE at a hook of a model: its latents in every forward, and what the model does when they are others.

What stands at the hook is, with z the latents of an activation x and z' the edited ones,

    x + (decode(z') - decode(z))        with the error of the reconstruction kept, as a rule,
    decode(z')                          without it.

So nothing changes where nothing is edited. With a gradient the first is `decode(z') + (x - decode(z))` where the error
is a constant, and all that reaches the model's output through the hook passes through the latents (Marks et al. 2024,
arXiv 2403.19647).
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from operator import index
from typing import TYPE_CHECKING, SupportsIndex

import torch
from torch import Tensor, nn

from sae_lightning.checks import check_above, check_kind, is_finite
from sae_lightning.code import Code
from sae_lightning.saes.transcoder import refuse_several_hooks
from sae_lightning.submodules import edited

if TYPE_CHECKING:
    from sae_lightning.saes.base import SparseAutoencoder


class Attached:
    """What an SAE saw in the last forward of a model that it is attached to.

    Args:
        hook: name of the submodule.
    """

    def __init__(self, hook: str) -> None:
        self.hook = hook
        self._latents: Code | None = None

    @property
    def latents(self) -> Code:
        """The latents of the last forward, before they were edited; `leading` is [batch, seq] or [batch].

        Raises:
            ValueError: if the model has not run yet.
        """
        if self._latents is None:
            raise ValueError(f"hook={self.hook}: the model has not run this submodule since the SAE was attached")
        return self._latents

    def attribution(self) -> Code:
        """Return each latent of the last forward times the gradient of what was differentiated.

        To first order that is what ablating the latent there would take from it.

        Raises:
            ValueError: if nothing was differentiated through the latents.
        """
        values = self.latents.values
        if values.grad is None:
            raise ValueError(
                f"hook={self.hook}: no gradient has come to the latents; attach with gradient=True, and call "
                "backward() of a number that the model's outputs decide"
            )
        return self.latents.with_values(values.detach() * values.grad)


@contextmanager
def attach(
    sae: "SparseAutoencoder",
    model: nn.Module,
    hook: str,
    *,
    hook_input: bool = False,
    ablate: Iterable[SupportsIndex] = (),
    scale: Mapping[SupportsIndex, float] | None = None,
    steer: Mapping[SupportsIndex, float] | None = None,
    keep_error: bool = True,
    gradient: bool = False,
    max_norm: float | None = None,
) -> Iterator[Attached]:
    """Attach an SAE to a model for as long as the context lasts.

    Args:
        sae: in evaluation mode, on the device of the model.
        model: any module of torch, such as a model of transformers or open_clip.
        hook: dotted name of a submodule with activations [batch, d_in] or [batch, seq, d_in], as in `named_modules()`.
        hook_input: the activations are what goes into the submodule, not what comes out.
        ablate: latents that are set to zero.
        scale: factors of latents, by latent.
        steer: what is added to latents, by latent, whether they are active or not, in their own units.
        keep_error: keep what the SAE does not reconstruct; without it the model reads the reconstruction alone.
        gradient: let gradients pass through the latents, see `Attached.attribution`.
        max_norm: activations of a larger norm have no latents and stay as they are, such as those of the first token,
            which no SAE of this library was trained on. Default: none do.

    Raises:
        ValueError: if there is no such submodule or latent, or the SAE is in training mode or a transcoder; in a
            forward, if the submodule has no activations of the SAE's width.
    """
    refuse_several_hooks([sae], "attach")
    check_kind(nn.Module, "a module of torch, such as a model of transformers", model=model)
    check_kind(Iterable, "latents, such as [17]", ablate=ablate)
    ablated = [_latent(sae, "ablate", latent) for latent in ablate]
    scaled, steered = _amounts(sae, "scale", scale), _amounts(sae, "steer", steer)
    if both := sorted({*ablated} & {*scaled}):
        raise ValueError(f"latent {both[0]} is ablated and scaled; expected one of both")
    if max_norm is not None:
        check_above(0, max_norm=max_norm)
    if sae.training:
        raise ValueError("this SAE is in training mode, in which latents may be others: call sae.eval()")
    factors = torch.ones(sae.d_sae, device=sae.W_dec.device)
    for latent, factor in scaled.items():
        factors[latent] = factor
    factors[ablated] = 0.0
    added = torch.zeros(sae.d_in, device=sae.W_dec.device)
    for latent, amount in steered.items():
        added += amount * sae.W_dec.detach()[latent] / sae.input_scale
    is_edited = bool(ablated or scaled or steered)
    attached = Attached(hook)

    def read_and_edit(tensor: Tensor) -> Tensor:
        x = tensor.flatten(2) if tensor.dim() > 2 else tensor
        if x.shape[-1] != sae.d_in:
            raise ValueError(
                f"hook={hook} has activations of width {x.shape[-1]}, and the SAE has d_in={sae.d_in}: take the "
                "submodule that it was trained on"
            )
        keeps = None if max_norm is None else torch.linalg.vector_norm(x.detach().float(), dim=-1) <= max_norm
        code = sae.encode(x, gradient=gradient)
        code = code if keeps is None else code.where(keeps.reshape(-1)[code.rows])
        if gradient:
            code = _differentiable(code)
        attached._latents = code
        if not (is_edited or gradient or not keep_error):
            return tensor
        changed = code.with_values(code.values * code.of_latents(factors)) if is_edited else code
        x_hat = sae.decode(changed, gradient=gradient)
        if steered:
            x_hat = x_hat + (added if code.row_norm is None else (code.row_norm.scale * added).view_as(x_hat))
        if keep_error:
            x_hat = x_hat + (x.to(x_hat) - sae.decode(code)).detach()
        x_hat = x_hat.to(x)
        return (x_hat if keeps is None else x_hat.where(keeps[..., None], x)).view_as(tensor)

    with edited(_submodule(model, hook), hook, hook_input, read_and_edit, None):
        yield attached


def _differentiable(code: Code) -> Code:
    """Return the code with values that keep their gradient, also where the model below the hook needs none."""
    values = code.values if code.values.requires_grad else code.values.requires_grad_()
    values.retain_grad()
    return code


def _latent(sae: "SparseAutoencoder", option: str, latent: SupportsIndex) -> int:
    """Return the number of a latent, which may be that of an array or tensor.

    Raises:
        ValueError: if the SAE has no such latent.
    """
    try:
        number = index(latent)
    except TypeError:  # no whole number
        number = -1
    if not 0 <= number < sae.d_sae:
        raise ValueError(f"{option}: there is no latent {latent!r}; expected 0 to {sae.d_sae - 1}")
    return number


def _amounts(sae: "SparseAutoencoder", option: str, amounts: Mapping[SupportsIndex, float] | None) -> dict[int, float]:
    """Return finite amounts by the number of the latent."""
    check_kind(Mapping, "an amount by latent, such as {17: 2.0}", **{option: amounts or {}})
    by_number = {_latent(sae, option, latent): amount for latent, amount in (amounts or {}).items()}
    for latent, amount in by_number.items():
        if not is_finite(amount):
            raise ValueError(f"{option}: latent {latent} has {amount}; expected a finite number")
    return by_number


def _submodule(model: nn.Module, hook: str) -> nn.Module:
    modules = {name: module for name, module in model.named_modules() if name}
    if hook not in modules:
        near = difflib.get_close_matches(hook, modules, n=4, cutoff=0.3) or list(modules)[:4]
        raise ValueError(f"hook={hook}: the model has no such submodule; near are {', '.join(near)}")
    return modules[hook]
