"""What a check cannot say, in sentences: what was left out, what was not the same for the SAE and its controls."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from sae_lightning.checking.configuration import SOFT_FROZEN, new_control
from sae_lightning.checking.plan import CheckedSAE, Plan
from sae_lightning.checking.remake import Remake
from sae_lightning.controls import RandomDecoder, RandomEncoder
from sae_lightning.controls.beside import LEAST_DRAWS
from sae_lightning.members import policy_label
from sae_lightning.nouns import noun_of

_CLOSE_L0 = 0.02
"""Where the l0 of a control is off by more than this share the one that is farthest off is named."""


def limits_of(plan: Plan, one: CheckedSAE, controls: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Say what the comparison cannot say.

    Args:
        plan: of the check.
        one: the SAE.
        controls: of `check.json`, with how far their l0 is off.
    """
    doubts = [f"It may be read wrong: {doubt}." for doubt in one.inspection.disagreements()]
    training = _of_remake(plan, plan.remake, _noun(one)) if plan.remake else _of_no_training()
    own = f"It is one {_noun(one)}: intervals are over held-out data and draws of the controls, not over training."
    of_controls = [*_of_controls(plan, one), *_of_l0(controls, _noun(one))]
    return [*doubts, *training, *_of_text(one), *_of_two_sides(plan, one), *of_controls, own, *plan.notes]


def _noun(one: CheckedSAE) -> str:
    return noun_of(one.sae.is_transcoder, one.sae.crosscoder)


def _of_no_training() -> Iterator[str]:
    yield "Nothing was trained: whether training it again beats its frozen twins takes --budget 'tokens N'."


def _of_remake(plan: Plan, remake: Remake, noun: str) -> Iterator[str]:
    if SOFT_FROZEN not in plan.panel["policies"]:
        yield (
            f"There is no soft-frozen twin: it turns unit vectors, and decoder directions of this {noun} have other "
            "norms, which the re-make keeps free."
        )
    yield "With a training budget null data are left out; --budget nulls reads them."
    yield (
        f"The re-make and its twins saw {remake.budget_tokens:,} activations; how many the published {noun} saw: "
        f"{remake.published_budget}."
    )


def _of_text(one: CheckedSAE) -> Iterator[str]:
    if not one.inspection.stated.get("dataset"):
        yield "Its file does not say on which text it was trained; on other text it may score otherwise."


def _of_two_sides(plan: Plan, one: CheckedSAE) -> Iterator[str]:
    """Say of a transcoder what stands in whose place, and which skip path controls have."""
    if not one.sae.is_transcoder:
        return
    if any(evaluator["class_path"].rpartition(".")[2] == "LossRecovered" for evaluator in plan.evaluators):
        yield "The loss is measured with its answer in the place of what the model has at the target."
    made = map(new_control, plan.panel["controls"].values())
    if one.sae.skip and any(isinstance(control, RandomEncoder | RandomDecoder) for control in made):
        yield (
            "Controls with random parts have the best linear map as their skip path, so they differ from it in their "
            "latents alone; the permuted and the rotated decoder have its own."
        )


def _of_controls(plan: Plan, one: CheckedSAE) -> Iterator[str]:
    """Say what controls have less of than the SAE: samples, and latents."""
    made = {name: new_control(settings) for name, settings in plan.panel["controls"].items()}
    samples, seen = plan.panel["control_samples"], one.inspection.stated.get("tokens")
    if any(isinstance(control, RandomEncoder) for control in made.values()):
        yield (
            f"Decoders of random encoders are fitted to {samples:,} activations, where those of trained twins see as "
            f"many as the {_noun(one)}."
        )
    if made and isinstance(seen, int) and seen > samples:
        yield f"It was trained on {seen:,} activations, and its controls are made from {samples:,}."
    if plan.panel["draws"] == LEAST_DRAWS and any(control.is_random for control in made.values()):
        yield (
            "There are two draws of each random control, from which the interval for all controls at once is so wide "
            "that hardly a difference is told: take --draws 3 or more."
        )
    by_size: dict[int, list[str]] = {}
    with torch.device("meta"):  # their shapes are all that is asked for
        for name, control in made.items():
            if not control.has_latents:
                continue
            by_size.setdefault(control.new(one.sae).d_sae, []).append(policy_label(name))
    for d_sae, labels in by_size.items():
        if d_sae != one.sae.d_sae:
            yield f"Of {' and '.join(labels)} there are {d_sae:,} latents, and of the {_noun(one)} {one.sae.d_sae:,}."


def _of_l0(controls: Mapping[str, Mapping[str, Any]], noun: str) -> Iterator[str]:
    off = {control["label"]: abs(control["l0_off"]) for control in controls.values() if control["l0_off"] is not None}
    if off:
        label = max(off, key=lambda name: off[name])
        farthest = f"; the farthest is {label}" if off[label] > _CLOSE_L0 else ""
        yield f"The l0 of controls is that of the {noun} within {off[label]:.1%}{farthest}."
