"""`Member`: which SAE of a run something is about, and the one place where that is written and read as text.

A member is text in two forms alone. As a *key* (`trained/0`, `early/trained/0`) it names folders, tensors of a
checkpoint and entries of files. In the *name of a logged value* (`val/fvu@early/trained/0`) the part that a member
reads belongs to the metric, so that each part has charts of its own.

Here are also the order of the policies, and how each is called and drawn in every table and chart.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import cycle
from typing import Any, Final

from sae_lightning.nouns import noun

TRAINED: Final = "trained"
RANDOM_BASELINES: Final = ("frozen_decoder", "soft_frozen_decoder", "frozen_encoder", "tied_at_random")
"""The random baselines of Korznikov et al. 2026 (arXiv 2602.14111), and the one that crosscoders have beside them."""
BOUNDS: Final = ("target_pursuit",)
"""Controls of a transcoder that are shown the target: a bound, to which it loses nothing when it loses."""
LINEAR_MAP: Final = "linear_map"
"""The reference that answers without latents, beside transcoders and crosscoders."""
REMAKE: Final = "remake"
"""Where references have controls, the group of the SAEs that were trained beside them."""
SOURCE: Final = "source"
TARGET: Final = "target"
"""Names of what a transcoder reads and of where it answers, where a command names them."""
FLOOR: Final = "floor"
STAGES: Final = ("train", "val", "test")


@dataclass(frozen=True)
class Member:
    """An SAE of a run, or a reference that stands beside the SAEs and is none.

    Args:
        policy: name of the freeze policy, or of the reference.
        seed: of its start; 0 for a reference.
        part: the part of the activations that it reads, a hook or a null, where a run has several; else empty.

    >>> str(Member("trained", 0)), str(Member("trained", 0, "early"))
    ('trained/0', 'early/trained/0')
    """

    policy: str
    seed: int
    part: str = ""

    def __str__(self) -> str:
        return f"{self.part}/{self.curve}" if self.part else self.curve

    @classmethod
    def parse(cls, key: str) -> "Member":
        """Read a key.

        Raises:
            ValueError: if it is none.

        >>> Member.parse("early/trained/0")
        Member(policy='trained', seed=0, part='early')
        """
        match key.split("/"):
            case [policy, seed] if _is_seed(seed):
                return cls(policy, int(seed))
            case [part, policy, seed] if _is_seed(seed):
                return cls(policy, int(seed), part)
        raise ValueError(
            f"{key}: expected the key of an SAE, such as trained/0 or, with several hooks, early/trained/0"
        )

    @property
    def curve(self) -> str:
        """Policy and seed: the curve of this member in the charts of its part."""
        return f"{self.policy}/{self.seed}"

    @property
    def folder(self) -> str:
        """Name of the folder with its curves, which TensorBoard shows as the name of the curve."""
        return self.curve.replace("/", "-")


def by_part(members: Iterable[Member]) -> dict[str, list[Member]]:
    """Group members by the part of the activations that they read."""
    parts: dict[str, list[Member]] = {}
    for member in members:
        parts.setdefault(member.part, []).append(member)
    return parts


@dataclass(frozen=True)
class Tag:
    """A metric of one part of the activations: what a chart shows, and a row of a table.

    Args:
        metric: name of the metric.
        part: see `Member`.

    >>> str(Tag("fvu")), str(Tag("fvu", "early")), Tag.parse("fvu@early")
    ('fvu', 'fvu@early', Tag(metric='fvu', part='early'))
    """

    metric: str
    part: str = ""

    def __str__(self) -> str:
        return f"{self.metric}@{self.part}" if self.part else self.metric

    @classmethod
    def parse(cls, text: str) -> "Tag":
        """Read what `str` gives."""
        metric, _, part = text.partition("@")
        return cls(metric, part)


@dataclass(frozen=True)
class LoggedName:
    """Name of a logged value.

    Args:
        stage: `train`, `val` or `test`.
        tag: which metric of which part.
        member: whose value; None for the floor.

    >>> str(LoggedName("val", Tag("fvu", "early"), Member("trained", 0, "early")))
    'val/fvu@early/trained/0'
    >>> str(LoggedName("val", Tag("fvu"), None))
    'val/fvu/floor'
    """

    stage: str
    tag: Tag
    member: Member | None

    @classmethod
    def of(cls, stage: str, metric: str, member: Member) -> "LoggedName":
        """Name a metric of one member."""
        return cls(stage, Tag(metric, member.part), member)

    @classmethod
    def parse(cls, name: str) -> "LoggedName | None":
        """Read the name of a logged value; None where it has another form, such as `lr-Adam`.

        >>> LoggedName.parse("val/fvu@early/trained/0").member
        Member(policy='trained', seed=0, part='early')
        >>> LoggedName.parse("train/learning_rate") is None
        True
        """
        match name.split("/"):
            case [stage, metric, policy, seed] if stage in STAGES and _is_seed(seed):
                tag = Tag.parse(metric)
                return cls(stage, tag, Member(policy, int(seed), tag.part))
            case [stage, metric, last] if stage in STAGES and last == FLOOR:
                return cls(stage, Tag.parse(metric), None)
        return None

    def __str__(self) -> str:
        return f"{self.chart}/{FLOOR if self.member is None else self.member.curve}"

    @property
    def chart(self) -> str:
        """The chart, without the curve in it."""
        return f"{self.stage}/{self.tag}"

    @property
    def folder(self) -> str:
        """Name of the folder of the curve, see `Member.folder`."""
        return FLOOR if self.member is None else self.member.folder


def _is_seed(text: str) -> bool:
    return text.removeprefix("-").isdecimal()


@dataclass(frozen=True)
class Style:
    """How a policy is drawn: told apart by colour, and without it by marker and line.

    Args:
        colour: of lines and markers.
        marker: at each value.
        line: between them.
    """

    colour: str
    marker: str
    line: Any


@dataclass(frozen=True)
class _Policy:
    label: str
    style: Style | None

    @property
    def text(self) -> str:
        return self.label.format(noun=noun())


# In the order of every table and chart. The colours are from the palette of Okabe and Ito (2008), which colour-blind
# readers can tell apart.
_POLICIES = {
    TRAINED: _Policy("Trained {noun}", Style("#0072B2", "o", "-")),
    "frozen_decoder": _Policy("Frozen Decoder", Style("#D55E00", "s", "--")),
    "soft_frozen_decoder": _Policy("Soft-Frozen Decoder", Style("#009E73", "^", "-.")),
    "frozen_encoder": _Policy("Frozen Encoder", Style("#CC79A7", "D", ":")),
    "soft_frozen_encoder": _Policy("Soft-Frozen Encoder", Style("#56B4E9", "<", (0, (3, 1, 1, 1)))),
    "untrained": _Policy("untrained {noun}", Style("#E69F00", "v", (0, (5, 1, 1, 1, 1, 1)))),
    "tied_at_random": _Policy("{noun} tied at random", None),
    "separate_parts": _Policy("One SAE for each part", None),
    LINEAR_MAP: _Policy("linear map", None),
    "linear_map_of_rank": _Policy("linear map of rank k", None),
    "from_truth": _Policy("from truth", None),
    "oracle": _Policy("oracle", Style("#000000", "p", (0, (1, 1)))),
    "published": _Policy("published {noun}", Style("#000000", "*", "-")),
    "random_encoder": _Policy("random encoder", None),
    "random_encoder_covariance": _Policy("random encoder (covariance)", None),
    "random_decoder_pursuit": _Policy("random decoder, best codes", None),
    "random_decoder_tied": _Policy("random decoder, tied codes", None),
    "own_rows_pursuit": _Policy("own covariance, best codes", None),
    "own_rows_tied": _Policy("own covariance, tied codes", None),
    "best_linear_map": _Policy("linear map of full rank", None),
    "linear_map_of_rank_l0": _Policy("linear map of rank l0", None),
    "skip_path_alone": _Policy("its skip path alone", None),
    "own_encoder_covariance": _Policy("own encoder covariance", None),
    "random_decoder_regressed": _Policy("random decoder, regressed codes", None),
    "own_rows_regressed": _Policy("own covariance, regressed codes", None),
    "permuted_decoder": _Policy("permuted decoder", None),
    "rotated_decoder": _Policy("rotated decoder", None),
    "target_pursuit": _Policy("random decoder, codes of the target", None),
    "principal_components": _Policy("principal components", None),
    "raw_dimensions": _Policy("raw dimensions", None),
}
_OF_FAMILY = re.compile(r"(x\d[\d_]*)_([a-z_]+)")
_ABBREVIATIONS = {"omp": "OMP", "omp_random": "OMP, random dictionary", "pca": "PCA"}
_OTHER_COLOURS = ("#56B4E9", "#9A8700", "#999999")
_OTHER_MARKS = (("P", "-"), ("X", "--"), ("h", ":"))
_OTHER_STYLES = [  # those that follow each other differ in colour, marker and line
    Style(colour, *_OTHER_MARKS[(place + turn) % len(_OTHER_MARKS)])
    for turn in range(len(_OTHER_MARKS))
    for place, colour in enumerate(_OTHER_COLOURS)
]


def policy_order(policy: str) -> tuple[int, list[str | int], int]:
    """Return what policies are sorted by: trained, the baselines, then others by name, x2 before x16.

    Members of a family are sorted by size, and those of one size as policies are.
    """
    names = list(_POLICIES)
    if policy in _POLICIES:
        return names.index(policy), [], 0
    size, own = size_and_policy(policy)
    return len(names), natural_order(size), names.index(own) if own else 0


def size_and_policy(policy: str) -> tuple[str, str]:
    """Part the name of a family's member, such as x8_frozen_decoder, into size and policy; empty for a trained one."""
    parts = _OF_FAMILY.fullmatch(policy)
    return (parts[1], parts[2]) if parts and parts[2] in _POLICIES else (policy, "")


def natural_order(text: str) -> list[str | int]:
    """Return what names are sorted by where numbers in them count as such.

    >>> sorted(["x16", "", "x2"], key=natural_order)
    ['', 'x2', 'x16']
    """
    return [int(word) if word.isdecimal() else word for word in re.split(r"(\d+)", text)]


def is_known_policy(policy: str) -> bool:
    """Return whether a name is that of a policy of this library, and not one of the user's or a reference."""
    return policy in _POLICIES


def in_order(policies: Iterable[str]) -> list[str]:
    """Sort policies by `policy_order`, each once."""
    return sorted(dict.fromkeys(policies), key=policy_order)


def policy_label(policy: str) -> str:
    """Name a policy or reference in plain words, as it stands in a sentence.

    >>> policy_label("soft_frozen_decoder"), policy_label("x8_frozen_decoder"), policy_label("dense_probe")
    ('Soft-Frozen Decoder', 'x8 Frozen Decoder', 'dense probe')
    >>> policy_label("trained_at_0_003")
    'trained at 0.003'
    """
    if policy in _POLICIES or policy in _ABBREVIATIONS:
        return _ABBREVIATIONS.get(policy) or _POLICIES[policy].text
    size, own = size_and_policy(policy)
    plain = re.sub(r"(?<=\d)_(?=\d)", ".", size).replace("_", " ")  # names hold no points
    return f"{plain} {_POLICIES[own].text}" if own else plain


def policy_title(policy: str) -> str:
    """Name a policy or reference where its name stands alone: in a legend, at an axis, as the head of a row.

    >>> policy_title("untrained"), policy_title("dense_probe"), policy_title("x8_frozen_decoder")
    ('Untrained SAE', 'Dense probe', 'x8 Frozen Decoder')
    """
    label = policy_label(policy)
    return label if any(map(str.isdecimal, label.split(" ")[0])) else label[:1].upper() + label[1:]


def policy_styles(policies: Iterable[str]) -> dict[str, Style]:
    """Return a style for each policy, in order; those without a style of their own take turns with a few others.

    The first size of a family that has a baseline has its style.
    """
    others, in_families = cycle(_OTHER_STYLES), set()
    styles: dict[str, Style] = {}
    for name in in_order(policies):
        own = name if name in _POLICIES else size_and_policy(name)[1]
        style = _POLICIES[own].style if own and own not in in_families else None
        styles[name] = style or next(others)
        in_families |= {own} - {name}
    return styles
