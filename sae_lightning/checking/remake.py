"""The re-make of a published SAE: what is trained from the start beside it, as like it as its file says.

Variant, width, l0, normalisation, the rule for `b_dec` and the norm of decoder directions are those of the SAE itself,
and its l0 is the one that was *measured* on the text at hand: a card may state another. Optimizer, learning rate, batch
and seed are those that the file states; what it does not state is filled in, and named.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sae_lightning.saes import BatchTopK, Gated, JumpReLU, ReLU, SparseAutoencoder, TopK
from sae_lightning.saes.stated import stated_of

_LEARNING_RATE, _BATCH_SIZE = 1e-3, 2048
_LARGEST_BATCH = 16_384
_L0_COEFFICIENT = 0.1
_DEAD_AFTER = 0.2
"""Share of the training after which a latent that has not fired is dead."""
_WARMUP = 0.05
_HELD = ("penalty", "target_l0", "settle", "initial_threshold", "bandwidth", "scale_input")
"""Arguments that are ours, and not those of the SAE."""


@dataclass(frozen=True)
class Remake:
    """What is trained beside a published SAE.

    Args:
        sae: section `sae` of a panel.
        batch_size: activations in a step.
        stated: names of the settings that are those of the SAE or of its file.
        filled_in: settings that nothing says, with the values that they were given.
        budget_tokens: activations that each is trained on.
        published_budget: what the file says of its own training.
    """

    sae: Mapping[str, Any]
    batch_size: int
    stated: tuple[str, ...]
    filled_in: Mapping[str, Any]
    budget_tokens: int
    published_budget: str

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "settings": {"batch_size": self.batch_size, **self.sae},
            "stated": list(self.stated),
            "filled_in": dict(self.filled_in),
            "budget_tokens": self.budget_tokens,
            "published_budget": self.published_budget,
        }


@dataclass
class _Choices:
    """Settings as they are chosen, and from where."""

    stated: list[str] = field(default_factory=list)
    filled_in: dict[str, Any] = field(default_factory=dict)

    def take(self, name: str, value: Any, otherwise: Any) -> Any:  # noqa: ANN401
        """Return what is stated, and otherwise what is filled in."""
        if value is None:
            self.filled_in[name] = otherwise
            return otherwise
        self.stated.append(name)
        return value


def remake_of(sae: SparseAutoencoder, l0: float, tokens: int) -> Remake:
    """Return the re-make of an SAE.

    Args:
        sae: the published one.
        l0: measured on the text at hand.
        tokens: activations to train on.

    Raises:
        ValueError: if the variant has no l0 that could be held.
    """
    stated, choices = stated_of(sae.provenance), _Choices()
    arguments: dict[str, Any] = {"d_sae": sae.d_sae, **_computed(sae), **_sparsity(sae, l0)}
    choices.stated += ["variant", *(name for name in arguments if name not in _HELD)]
    choices.stated.append("l0 (measured)")
    optimizer = (sae.provenance.get("optimizer") or {}).get("class")
    rate = choices.take("learning_rate", stated.get("learning_rate"), _LEARNING_RATE)
    name = choices.take("optimizer", optimizer if optimizer in ("Adam", "AdamW") else None, "Adam")
    arguments["optimizer"] = {"class_path": f"torch.optim.{name}", "init_args": {"lr": float(rate)}}
    choices.filled_in["lr_scheduler"] = f"warm-up over {_WARMUP:.0%} of the steps, decay over the last 20 %"
    arguments["lr_scheduler"] = {"class_path": "WarmupDecay", "init_args": {"warmup": _WARMUP, "decay": 0.2}}
    arguments["dead_after_samples"] = max(1, round(_DEAD_AFTER * tokens))
    batch = choices.take("batch_size", stated.get("batch_size"), _BATCH_SIZE)
    choices.filled_in |= {"b_dec_init": "geometric median", "gradient_clip_val": 1.0}
    published = f"{stated['tokens']:,} activations" if stated.get("tokens") else "not stated"
    return Remake(
        {"class_path": type(sae).__name__, "init_args": arguments},
        max(1, min(int(batch), _LARGEST_BATCH, tokens)),
        tuple(choices.stated),
        choices.filled_in,
        tokens,
        published,
    )


def _computed(sae: SparseAutoencoder) -> dict[str, Any]:
    """Return the arguments that decide what an SAE of this kind computes."""
    settings = sae.settings()
    kept: dict[str, Any] = {name: settings[name] for name in ("input_norm", "unit_norm_decoder")}
    if not sae.is_transcoder:  # whose b_dec lies in another space than what it reads
        kept["apply_b_dec_to_input"] = settings["apply_b_dec_to_input"]
    if sae.skip:
        kept["skip"] = True
    if "group_fractions" in settings:
        kept["group_fractions"] = list(settings["group_fractions"])
    return {**kept, "scale_input": sae.input_norm is None}


def _sparsity(sae: SparseAutoencoder, l0: float) -> dict[str, Any]:
    """Return the arguments that hold the l0 of this variant."""
    if isinstance(sae, TopK | BatchTopK):
        settle = {"settle": True} if isinstance(sae, BatchTopK) else {}
        return {"k": max(1, min(sae.d_sae, round(l0))), **settle}
    if isinstance(sae, JumpReLU):
        held = {"target": round(l0, 2), "coefficient": _L0_COEFFICIENT, "settle": True}
        penalty = {"class_path": "TargetL0", "init_args": held}
        return {"penalty": penalty, "initial_threshold": 0.05, "bandwidth": 0.02}
    if isinstance(sae, ReLU | Gated):
        return {"target_l0": round(l0, 2)}
    raise ValueError(f"a {type(sae).__name__} cannot be trained again at a given l0; check it with --budget nulls")
