"""Every number that a configuration can give to a class is refused where it is out of range, by its name."""

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass

import jaxtyping
import pytest
import torch
from training import subclasses

from sae_lightning.commands.fit import NAMED_CLASSES
from sae_lightning.saes import TopK, WarmupDecay

NAN, INF = float("nan"), float("inf")
BAD = {"nan": NAN, "negative": -1, "zero": 0, "infinite": INF, "huge": 10**39, "fraction": 1.5}

GIVEN = {  # what a class needs besides the number; no model and no file is read before the numbers are checked
    "SparseAutoencoder": {"d_in": 8, "d_sae": 32},
    "SanityPanel": {"d_in": 8, "sae": lambda d_in: TopK(d_in, k=2, d_sae=16)},
    "SAEFamily": {"d_in": 8, "sae": lambda d_in, expansion_factor: TopK(d_in, k=2, d_sae=16)},
    "LanguageModelDataModule": {"model": "none", "hook": "none", "text": None},
    "ClipImages": {"model": "none", "hook": "none", "images": None},
    "ClipText": {"model": "none", "hook": "none", "text": None},
    "CachedActivations": {"path": "none"},
    "DecoderDirections": {"saes": ["none"]},
    "ActivationFiles": {"paths": "none"},
    "ActivationTensors": {"activations": "none"},
    "References": {"k": 2},
    "LinearMaps": {"rank": 2},
    "RedrawnModules": {"modules": ["none"]},
    "FileText": {"paths": "none"},
    "HubText": {"dataset": "none"},
    "ImageFolder": {"folder": "none"},
    "HubImages": {"dataset": "none"},
    "LabelledFiles": {"path": "none"},
    "SAEProbesSets": {"path": "none"},
    "FactFile": {"path": "none", "wordings": {"country": ["{} is in"], "language": ["{} speaks"]}},
    "TransformersJudge": {"model": "none"},
    "ChatJudge": {"model": "none", "input_price": 1.0, "output_price": 1.0},
    "TargetL0": {"target": 2.0},
    "WarmupDecay": {"optimizer": torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)},
}
MEANS = {  # what may look wrong, and what it means
    ("aux_coefficient", "zero"): "no AuxK loss",
    ("l1_coefficient", "zero"): "no penalty",
    ("coefficient", "zero"): "no penalty",
    ("sparsity_warmup_steps", "zero"): "no warm-up",
    ("warmup", "zero"): "no warm-up",
    ("decay", "zero"): "no decay",
    ("every_n_validations", "zero"): "the last alone",
    ("seed", "zero"): "a seed",
    ("seeds", "zero"): "a seed",
    ("min_cosine", "zero"): "a cosine",
    ("min_cosine", "negative"): "a cosine",
    ("minutes", "zero"): "at every validation",
    ("refresh_rate", "zero"): "no bar",
    ("min_frequency", "zero"): "every latent",
    ("coefficient_sigma", "zero"): "all coefficients are 1",
    ("log10_min", "negative"): "a logarithm",
    ("log10_max", "negative"): "a logarithm",
    ("n_scenes", "zero"): "digits alone",
    ("skip_first_positions", "zero"): "all positions",
    ("retries", "zero"): "one attempt",
    ("n_examples", "zero"): "no examples",
    ("input_price", "zero"): "free",
    ("output_price", "zero"): "free",
}
BASES = ("TextActivations", "Probing", "Stitched")
"""Classes that are no use to a configuration, and not abstract."""
FRACTIONS = {  # numbers that need not be whole
    "expansion_factor", "aux_coefficient", "l1_coefficient", "coefficient", "target", "initial_threshold", "bandwidth",
    "coefficient_sigma", "sample_norm", "minutes", "learning_rate", "min_gap_nats", "min_gap_accuracy", "timeout_s",
    "input_price", "output_price", "timeout_seconds", "max_norm_ratio", "l0",
    "heldout_fraction", "target_l0",
}  # fmt: skip


@dataclass(frozen=True)
class Argument:
    """A number, or a list of numbers, that a class takes."""

    owner: type
    name: str
    is_list: bool

    @property
    def given(self) -> dict[str, object]:
        """What else the class needs."""
        return next((GIVEN[base.__name__] for base in self.owner.__mro__ if base.__name__ in GIVEN), {})

    def give(self, value: float) -> object:
        """Make an object of the class with this value."""
        given = self.given
        return self.owner(**{**given, **({"d_sae": None} if self.name == "expansion_factor" else {})} | {
            self.name: [value] if self.is_list else value
        })  # fmt: skip

    def __str__(self) -> str:
        return f"{self.owner.__name__}.{self.name}"


def arguments() -> list[Argument]:
    """Every number of every class that a configuration can name."""
    found: dict[str, Argument] = {}
    for owner in dict.fromkeys(kind for base in (*NAMED_CLASSES, WarmupDecay) for kind in (base, *subclasses(base))):
        if inspect.isabstract(owner) or owner.__name__ in BASES or not owner.__module__.startswith("sae_lightning."):
            continue
        for name, parameter in numbers_of(owner):
            kind = parameter.annotation.__name__ if isinstance(parameter.annotation, type) else parameter.annotation
            argument = Argument(owner, name, is_list="Sequence" in str(kind))
            found.setdefault(str(argument), argument)
    return list(found.values())


def numbers_of(owner: type) -> Iterator[tuple[str, inspect.Parameter]]:
    """The numbers that `__init__` takes, also those that it passes on to its base as keyword arguments."""
    for base in owner.__mro__:
        if "__init__" not in vars(base):
            continue
        parameters = inspect.signature(base.__init__).parameters
        for name, parameter in parameters.items():
            kind = parameter.annotation.__name__ if isinstance(parameter.annotation, type) else parameter.annotation
            if re.search(r"\b(int|float)\b", str(kind)) and not re.search("Callable|dict|Mapping", str(kind)):
                yield name, parameter
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
            return


ARGUMENTS = arguments()


def test_all_kinds_of_numbers_are_found():
    names = {str(argument) for argument in ARGUMENTS}
    assert {
        "TopK.k",
        "MatryoshkaBatchTopK.dead_after_samples",
        "TargetL0.target",
        "SoftFrozenDecoder.min_cosine",
    } < names
    assert {"SanityPanel.seeds", "LanguageModelDataModule.seed", "AutoInterp.n_tokens", "WarmupDecay.decay"} < names
    assert len(ARGUMENTS) > 150


@pytest.fixture(autouse=True)
def _without_type_checks():
    """As outside pytest, where nothing but the class itself looks at its arguments."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def has_a_meaning(argument: Argument, kind: str) -> bool:
    return (argument.name, kind) in MEANS or (kind == "fraction" and argument.name in FRACTIONS)


@pytest.mark.parametrize("argument", ARGUMENTS, ids=str)
def test_a_number_out_of_range_is_refused_by_its_name(argument: Argument):
    for kind, value in BAD.items():
        if not has_a_meaning(argument, kind):
            with pytest.raises(ValueError, match=rf"\b{argument.name}=\[?{re.escape(str(value))}"):
                argument.give(value)


def test_every_exception_is_one():
    """What is said to have a meaning is not refused, and none of them is about a number that does not exist."""
    needed = set(MEANS) | {(name, "fraction") for name in FRACTIONS}
    for argument in ARGUMENTS:
        for kind, value in BAD.items():
            if has_a_meaning(argument, kind):
                needed.discard((argument.name, kind))
                if "none" in argument.given.values():
                    continue  # this would go on, and look for a model or a file
                assert f"{argument.name}={value}: " not in complaint(argument, value), argument
    assert not needed


def complaint(argument: Argument, value: float) -> str:
    try:
        argument.give(value)
    except ValueError as error:
        return str(error)
    return ""
