"""What an inspection found, as plain values, tables and sentences."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sae_lightning.inspection.activations import Measured
from sae_lightning.inspection.hook_names import place_of
from sae_lightning.inspection.readings import BETTER
from sae_lightning.inspection.weights import WeightCheck
from sae_lightning.saes import SparseAutoencoder
from sae_lightning.saes.stated import stated_of
from sae_lightning.tables import lay_out

AGREES_WITHIN = 1 / 3
"""A measured l0 that differs from the stated one by more than this share does not agree with it."""
_EXPLAINED_WITHIN = 0.1


@dataclass(frozen=True)
class Inspection:
    """An SAE, what its file states, and what was measured.

    Args:
        sae: that was inspected.
        where: it was read from.
        weights: what they say by themselves.
        measured: on activations; None without them.
        on: what activations those are, in words.
        hooks: that they are of, of a transcoder the one that it reads and the one at which it answers.
        better: other readings that explain clearly more.
        other_hooks: what was measured one block before and after, by hook.
    """

    sae: SparseAutoencoder
    where: str
    weights: WeightCheck
    measured: Measured | None = None
    on: str = ""
    hooks: tuple[str, ...] = ()
    better: Sequence[tuple[str, Measured]] = ()
    other_hooks: Mapping[str, Measured] = field(default_factory=dict)

    @property
    def imported(self) -> Mapping[str, Any]:
        """What its file says of where it came from; empty for an SAE of this library."""
        imported: Mapping[str, Any] = self.sae.provenance.get("imported", {})
        return imported

    @property
    def stated(self) -> Mapping[str, Any]:
        """What its file states of its training."""
        return stated_of(self.sae.provenance)

    @property
    def stated_l0(self) -> float | None:
        """The l0 that is to be expected: what is stated, or the k of a variant that has one."""
        for value in (self.stated.get("l0"), getattr(self.sae, "k", None), self.stated.get("k")):
            if value is not None:
                return float(value)
        return None

    def disagreements(self) -> list[str]:
        """Return what was measured and is not what was stated, sentences."""
        measured, sentences = self.measured, []
        if measured is None:
            return []
        if (stated := self.stated_l0) and abs(measured.l0 / stated - 1) > AGREES_WITHIN:
            sentences.append(
                f"{measured.l0:.4g} latents are active on average where {stated:.4g} are stated"
                + (": as many as without a threshold" if measured.l0 > 5 * stated else "")
            )
        stated_ev = self.stated.get("explained_variance")
        if stated_ev is not None and measured.explained_variance < stated_ev - _EXPLAINED_WITHIN:
            sentences.append(
                f"it explains {measured.explained_variance:.3f} of the variance where {stated_ev:.3f} is stated"
            )
        if not measured.explained_variance > 0:
            score = f"explained variance {measured.explained_variance:.3f}"
            sentences.append(f"its reconstruction is worse than the mean activation ({score})")
        return sentences

    def verdict(self) -> list[str]:
        """Return whether it was read right, in plain sentences."""
        sentences = [f"In the weights: {finding}." for finding in self.weights.findings]
        if self.measured is None:
            sides = ", of a transcoder with --target or --target_activations" * self.sae.is_transcoder
            ways = f"give --model, --hook and --text, --config or --activations{sides}"
            return [*sentences, f"Not measured on activations: {ways}."]
        disagreements = self.disagreements()
        if disagreements:
            sentences.append("It does not do what it states: " + "; ".join(disagreements) + ".")
            sentences += self._causes()
        elif self.better:
            words, other = self.better[0]
            own = f"instead of {self.measured.explained_variance:.3f} at an l0 of {self.measured.l0:.4g}"
            sentences.append(
                f"It may be read wrong: {words}, it would explain {other.explained_variance:.3f} at an l0 of "
                f"{other.l0:.4g} {own}."
            )
        elif self.stated_l0 is None and "explained_variance" not in self.stated:
            sentences.append("The file states neither l0 nor explained variance, so there is nothing to compare with.")
        else:
            sentences.append("It does what it states.")
        return sentences + self._other_places()

    def _causes(self) -> list[str]:
        if self.better:
            words, other = self.better[0]
            return [
                f"Likely cause: read {words}, it would have an l0 of {other.l0:.4g} and explain "
                f"{other.explained_variance:.3f}."
            ]
        assert self.measured is not None
        left = 1 - self.measured.explained_variance
        for hook, other in self.other_hooks.items():
            if 1 - other.explained_variance < BETTER * left:
                return [
                    f"Likely cause: another hook. At {hook} it explains {other.explained_variance:.3f} with an l0 of "
                    f"{other.l0:.4g}."
                ]
        tried = "other rules for b_dec, scales and norms" + (
            f", and {', '.join(self.other_hooks)}" * bool(self.other_hooks)
        )
        return [
            f"No other reading does better ({tried}): a threshold may be lost, or the model or its text be another."
        ]

    def _other_places(self) -> list[str]:
        """Say where the activations are of another place than the file states, as far as names tell."""
        pairs = zip(("hook", "target"), self.hooks, strict=False)
        said = (_other_place(name, self.stated.get(name), given) for name, given in pairs)
        return [sentence for sentence in said if sentence is not None]

    def plain(self) -> dict[str, Any]:
        """Return everything as JSON has it."""
        hook, target = (*self.hooks, None, None)[:2]
        return {
            "sae": self.where,
            "format": self.imported.get("format", "sae_lightning"),
            "class": type(self.sae).__name__,
            "settings": self.sae.settings(),
            "imported": dict(self.imported),
            "stated": dict(self.stated),
            "weights": self.weights.values,
            "findings": self.weights.findings,
            "on": self.on,
            "hook": hook,
            "target": target,
            "measured": None if self.measured is None else self.measured.plain(),
            "better_readings": [{"read": words} | other.plain() for words, other in self.better],
            "other_hooks": {hook: other.plain() for hook, other in self.other_hooks.items()},
            "verdict": self.verdict(),
        }

    def text(self) -> str:
        """Return tables and sentences."""
        return "\n\n".join(part for part in (self._about(), self._weights(), self._beside(), self._sentences()) if part)

    def _about(self) -> str:
        imported, settings = self.imported, self.sae.settings()
        own = f"sae_lightning {self.sae.provenance.get('sae_lightning', '')}".strip()
        rows = [
            ["format", " ".join(str(imported[name]) for name in ("format", "version") if name in imported) or own],
            ["variant", type(self.sae).__name__ + ", a transcoder" * self.sae.is_transcoder],
            *[[name, _text(value)] for name, value in settings.items() if name != "seed" and value is not None],
            *[["number format of the file", imported["dtype"]] for _ in range("dtype" in imported)],
            *[[self._stated_name(name), _text(value)] for name, value in self.stated.items()],
            *[[f"assumed {name}", _text(value)] for name, value in imported.get("assumed", {}).items()],
        ]
        folds = [f"folded: {fold}" for fold in imported.get("folds", [])]
        notes = [f"note: {note}" for note in imported.get("notes", [])]
        return "\n".join([_two_columns([["", self.where], *rows]), *folds, *notes])

    def _stated_name(self, name: str) -> str:
        own = {"hook": "reads", "target": "answers at"} if self.sae.is_transcoder else {}
        return own.get(name, f"states {name}")

    def _weights(self) -> str:
        values = self.weights.values
        ends = ("least", "median", "largest")
        spreads = [
            [name, *(f"{value[end]:.4g}" for end in ends)] for name, value in values.items() if isinstance(value, dict)
        ]
        single = [[name, _text(value)] for name, value in values.items() if not isinstance(value, dict)]
        return lay_out([["weights", *ends], *spreads]) + "\n" + _two_columns([["", ""], *single])

    def _beside(self) -> str:
        if self.measured is None:
            return ""
        measured, stated = self.measured, self.stated
        rows = [[f"on {self.on}", "measured", "stated"]]
        l0 = self.stated_l0
        rows.append(["l0", f"{measured.l0:.2f}", "-" if l0 is None else f"{l0:.4g}"])
        rows.append(
            [
                "explained variance" + " of the target" * self.sae.is_transcoder,
                f"{measured.explained_variance:.5f}",
                _number(stated.get("explained_variance")),
            ]
        )
        dead = f"{measured.never_active} of {self.sae.d_sae}"
        rows.append(["latents that never fire", dead, _text(stated["dead"]) if "dead" in stated else "-"])
        if measured.loss_recovered is not None:
            rows.append(["loss recovered (over mean ablation)", _number(measured.loss_recovered), "-"])
        return lay_out(rows)

    def _sentences(self) -> str:
        return "\n".join(self.verdict())


def _other_place(name: str, stated: object, given: str) -> str | None:
    if not isinstance(stated, str) or stated == given:
        return None
    places = place_of(stated), place_of(given)
    if places[0] is not None and places[0] == places[1]:
        return None
    if None not in places:
        return f"The file states the {name} {stated}, the {places[0]}; this was measured at {given}, the {places[1]}."
    return f"The file states the {name} {stated}, and this was measured at {given}; are these one place?"


def _two_columns(rows: Sequence[Sequence[str]]) -> str:
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}".rstrip() for name, value in rows if name or value)


def _text(value: Any) -> str:  # noqa: ANN401
    return f"{value:.6g}" if isinstance(value, float) and math.isfinite(value) else str(value)


def _number(value: Any) -> str:  # noqa: ANN401
    return "-" if value is None else f"{float(value):.5f}"
