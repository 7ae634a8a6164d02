"""The configuration of a check: a `SanityPanel` with references and controls, which `sae check --print_config` shows.

With nothing to train `sae validate` runs it, with a training budget `sae fit`.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from sae_lightning import controls
from sae_lightning.checking.remake import Remake
from sae_lightning.controls import Control
from sae_lightning.error_messages import did_you_mean
from sae_lightning.saes import SparseAutoencoder

PUBLISHED = "published"
"""Name of the reference where one SAE is checked."""
QUICK: list[dict[str, Any]] = [{"class_path": "LossRecovered"}]
"""Evaluators beside the default ones, as in configs/evaluation/check_quick.yaml."""
TEXT_EVALUATORS = ("LossRecovered",)
CONTROLS: dict[str, dict[str, Any]] = {
    "random_encoder": {"class_path": "RandomEncoder", "init_args": {"directions": "isotropic"}},
    "random_encoder_covariance": {"class_path": "RandomEncoder", "init_args": {"directions": "covariance"}},
    "random_decoder_pursuit": {
        "class_path": "RandomDecoder",
        "init_args": {"directions": "covariance", "codes": "pursuit"},
    },
    "random_decoder_tied": {"class_path": "RandomDecoder", "init_args": {"directions": "covariance", "codes": "tied"}},
    "own_rows_pursuit": {"class_path": "RandomDecoder", "init_args": {"directions": "own_rows", "codes": "pursuit"}},
    "own_rows_tied": {"class_path": "RandomDecoder", "init_args": {"directions": "own_rows", "codes": "tied"}},
    "permuted_decoder": {"class_path": "PermutedDecoder"},
    "principal_components": {"class_path": "PrincipalComponents"},
    "raw_dimensions": {"class_path": "RawDimensions"},
}
"""Controls of SAEs by name, in the order of tables."""
TRANSCODER_CONTROLS: dict[str, dict[str, Any]] = {
    "best_linear_map": {"class_path": "BestLinearMap", "init_args": {"rank": "full"}},
    "linear_map_of_rank_l0": {"class_path": "BestLinearMap", "init_args": {"rank": "l0"}},
    "skip_path_alone": {"class_path": "SkipPathAlone"},
    "random_encoder": {"class_path": "RandomEncoder", "init_args": {"directions": "isotropic"}},
    "random_encoder_covariance": {"class_path": "RandomEncoder", "init_args": {"directions": "covariance"}},
    "own_encoder_covariance": {"class_path": "RandomEncoder", "init_args": {"directions": "own_directions"}},
    "random_decoder_regressed": {
        "class_path": "RandomDecoder",
        "init_args": {"directions": "covariance", "codes": "regressed"},
    },
    "own_rows_regressed": {
        "class_path": "RandomDecoder",
        "init_args": {"directions": "own_rows", "codes": "regressed"},
    },
    "permuted_decoder": {"class_path": "PermutedDecoder"},
    "rotated_decoder": {"class_path": "RotatedDecoder"},
    "target_pursuit": {
        "class_path": "RandomDecoder",
        "init_args": {"directions": "covariance", "codes": "target_pursuit"},
    },
}
"""Controls of transcoders by name."""
_OF_A_SKIP_PATH = "skip_path_alone"
_WIDTH = 120
SOFT_FROZEN = "soft_frozen_decoder"
_POLICIES: dict[str, dict[str, Any]] = {
    "trained": {"class_path": "NoFreeze"},
    "frozen_decoder": {"class_path": "FrozenDecoder"},
    SOFT_FROZEN: {"class_path": "SoftFrozenDecoder", "init_args": {"min_cosine": 0.8}},
    "frozen_encoder": {"class_path": "FrozenEncoder"},
}


def policies_for(sae: SparseAutoencoder) -> dict[str, dict[str, Any]]:
    """Return the policies of a re-make and its twins; the soft-frozen one turns unit vectors, which not all have."""
    return {name: own for name, own in _POLICIES.items() if sae.unit_norm_decoder or name != SOFT_FROZEN}


def check_control_names(names: Sequence[str] | None) -> None:
    """Check the names of controls before it is known what they are of.

    Raises:
        ValueError: if there is none of a name.
    """
    known = {**CONTROLS, **TRANSCODER_CONTROLS}
    for name in names or ():
        if name not in known:
            raise ValueError(f"--controls {name}: expected some of {', '.join(known)}{did_you_mean(name, known)}")


def controls_named(names: Sequence[str] | None, saes: Collection[SparseAutoencoder]) -> dict[str, dict[str, Any]]:
    """Return controls of SAEs, or of transcoders, by name; where none are named all that they can have.

    Args:
        names: that the user gave.
        saes: of one kind.

    Raises:
        ValueError: if there is no such control of this kind.
    """
    are_transcoders = any(sae.is_transcoder for sae in saes)
    known = TRANSCODER_CONTROLS if are_transcoders else CONTROLS
    if names is None:
        have_skip = all(sae.skip for sae in saes)
        return {name: known[name] for name in known if have_skip or name != _OF_A_SKIP_PATH}
    for name in names:
        if name not in known:
            of, these = ("SAEs", "a transcoder") if are_transcoders else ("transcoders", "an SAE")
            raise ValueError(f"--controls {name}: is of {of}, and this is {these}: expected some of {', '.join(known)}")
    return {name: known[name] for name in known if name in names}


def new_control(settings: Mapping[str, Any]) -> Control:
    """Return a control from its class and arguments.

    Raises:
        ValueError: if there is no such class.
    """
    name = str(settings.get("class_path")).rpartition(".")[2]
    kind = getattr(controls, name, None)
    if not (isinstance(kind, type) and issubclass(kind, Control)):
        known = sorted({own["class_path"] for own in (*CONTROLS.values(), *TRANSCODER_CONTROLS.values())})
        raise ValueError(f"controls: {settings.get('class_path')}: expected one of {', '.join(known)}")
    control: Control = kind(**(settings.get("init_args") or {}))
    return control


def quick_evaluators(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the evaluators of a quick check, as far as the data allow them."""
    reads_text = str(data["class_path"]).rpartition(".")[2] in ("LanguageModelDataModule", "CachedActivations")
    return [one for one in QUICK if reads_text or one["class_path"] not in TEXT_EVALUATORS]


def evaluators_of(path: Path) -> list[dict[str, Any]]:
    """Return the evaluators of a file.

    Raises:
        ValueError: if it names none.
    """
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    trainer = content.get("trainer") if isinstance(content, Mapping) else None
    given = (trainer.get("callbacks+") or trainer.get("callbacks")) if isinstance(trainer, Mapping) else None
    if not isinstance(given, list):
        raise ValueError(f"--evaluation {path}: expected trainer.callbacks+, as configs/evaluation/check_full.yaml has")
    return [{"class_path": one} if isinstance(one, str) else dict(one) for one in given]


def reference_names(places: Sequence[str]) -> dict[str, str]:
    """Return a short name for each SAE, of the ends of its path that tell it from the others.

    >>> reference_names(["hf://a/b/layer_3/average_l0_59"])
    {'published': 'hf://a/b/layer_3/average_l0_59'}
    >>> list(reference_names(["runs/k32/saes/trained/0", "runs/k64/saes/trained/0"]))
    ['k32', 'k64']
    >>> list(reference_names(["elsewhere/in/run/saes/untrained/0", "mine/trained/0"]))
    ['untrained', 'trained']

    Raises:
        ValueError: if one SAE is given twice.
    """
    if len(places) == 1:
        return {PUBLISHED: places[0]}
    parts = [[re.sub(r"\W+", "_", part).strip("_") or "sae" for part in _parts(place)] for place in places]
    if twice := [place for place in places if places.count(place) > 1]:
        raise ValueError(f"{twice[0]} is given twice: give each SAE once")
    for n in range(1, max(map(len, parts)) + 1):
        for end in range(max(map(len, parts)) - n + 1):  # from the end: folders above may be more of one than another
            names = ["_".join(part[max(0, len(part) - end - n) : max(0, len(part) - end)]) for part in parts]
            if len(set(names)) == len(names) and all(names):
                return dict(zip(names, places, strict=True))
    return {f"sae_{number}": place for number, place in enumerate(places, 1)}


def _parts(place: str) -> list[str]:
    return [part for part in re.split("[/@]", place.removeprefix("hf://")) if part not in ("", ".", "..")]


def configuration(
    references: Mapping[str, str],
    data: Mapping[str, Any],
    evaluators: Sequence[Mapping[str, Any]],
    named_controls: Mapping[str, Any],
    draws: int,
    control_samples: int,
    remake: Remake | None = None,
    seeds: Sequence[int] = (0,),
    targets: Mapping[str, str] | None = None,
    policies: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the configuration of a check, plain values.

    Args:
        references: where each SAE is read from, by name; transcoders by the part that they read and their name.
        data: section `data`, with the null data that are measured on.
        evaluators: beside the default ones.
        named_controls: controls by name.
        draws: of each control that is random.
        control_samples: activations that controls are made from.
        remake: what is trained beside the one reference; None trains nothing.
        seeds: of what is trained.
        targets: of transcoders, the part at which they answer by that which they read.
        policies: of what is trained, by name.
    """
    arguments: dict[str, Any] = {
        **({"targets": dict(targets)} if targets else {}),
        "references": dict(references),
        "controls": dict(named_controls),
        "draws": draws,
        "control_samples": control_samples,
        "policies": {},
    }
    trainer: dict[str, Any] = {"callbacks": [dict(one) for one in evaluators]}
    if remake is not None:
        arguments |= {"sae": remake.sae, "policies": dict(policies or _POLICIES), "seeds": list(seeds)}
        trainer |= {"gradient_clip_val": 1.0, "log_every_n_steps": 10}
    model = {"class_path": "SanityPanel", "init_args": arguments}
    return {"name": "check", "seed_everything": 0, "model": model, "data": dict(data), "trainer": trainer}


def as_yaml(settings: Mapping[str, Any], command: str) -> str:
    """Return a configuration as text, with the command that runs it."""
    text = yaml.dump(dict(settings), Dumper=_Plain, sort_keys=False, width=_WIDTH)
    return f"# Run: {command}\n{text}"


class _Plain(yaml.SafeDumper):
    """Writes what stands in two places twice, and no alias."""

    def ignore_aliases(self, data: Any) -> bool:
        return True
