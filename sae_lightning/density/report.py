"""What ``sae density`` prints before its verdicts."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sae_lightning.density.activations import ALL_DIMENSIONS, AXES, MASSIVE, NEAR_ZERO, WITHOUT_FIRST
from sae_lightning.density.logits import MEASURES
from sae_lightning.density.seeds import SUBSPACE
from sae_lightning.moving_line import wrapped
from sae_lightning.tables import lay_out

_LAYER_MEASURES = {
    "participation_ratio": "PR",
    "hoyer": "Hoyer",
    "excess_kurtosis": "kurtosis",
    "near_zero": f"|s| < {NEAR_ZERO:g}",
}
_TOP = ("0.01", "0.1")
_DIRECTION_MEASURES = dict(
    zip(MEASURES, ("> 10% RMS", "> 50% RMS", "Hoyer", "PR", "kurtosis", "Gini", "top 1%"), strict=True)
)


def tables(results: Mapping[str, Any]) -> Iterator[str]:
    """Yield each table under a heading that says what it shows."""
    first = f"{results['n_first']:,} first tokens (special, or at the beginning of a row)"
    tokens = f"activations of {results['n_tokens']:,} held-out tokens at norm sqrt(d), without {first}"
    tokens += "; top 1%: share of energy of the largest coordinates"
    yield _under(f"{results['model']}: {tokens}", _layers(results["layers"], WITHOUT_FIRST, ALL_DIMENSIONS))
    head = (
        f"Neuron axes by hook, tokens and dimensions, of which those above {MASSIVE:g} median mean squares are massive"
    )
    yield _under(head, _variants(results["layers"]))
    norm = results["norm"]
    logits = (
        "no logits: the model has no head that reads these activations"
        if norm is None
        else f"what they add to the logits (gain of {norm or 'no norm'} folded in; not its division, biases, soft cap, "
        "nor the blocks between)"
    )
    yield _under(f"Density of directions: their coordinates, and {logits}", _directions(results["directions"]))
    if results["supports"]:
        head = "Codes of K latents, by the encoder and by orthogonal matching pursuit (K entries of either sign)"
        yield _under(head, _supports(results["supports"]))
    if results["seeds"]:
        head = "Decoder directions of different seeds, signed cosines; chance: random ones of equal mean and covariance"
        yield _under(head, _seeds(results["seeds"]))


def _under(head: str, table: str) -> str:
    return f"{wrapped(head)}\n{table}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _layer_cells(row: Mapping[str, Any]) -> list[str]:
    return [*(_number(row[name]) for name in _LAYER_MEASURES), *(_number(row["energy"][share]) for share in _TOP)]


_LAYER_HEADS = [*_LAYER_MEASURES.values(), *(f"top {float(share):.0%}" for share in _TOP)]


def _layers(layers: Sequence[Mapping[str, Any]], tokens: str, dimensions: str) -> str:
    chosen = [row for row in layers if (row["tokens"], row["dimensions"]) == (tokens, dimensions)]
    return lay_out([["", *_LAYER_HEADS], *([f"{row['hook']}, {row['view']}", *_layer_cells(row)] for row in chosen)])


def _variants(layers: Sequence[Mapping[str, Any]]) -> str:
    rows = [["", "massive", *_LAYER_HEADS]]
    for row in layers:
        if row["view"] == AXES and (row["n_massive"] or row["dimensions"] == ALL_DIMENSIONS):
            which = [row["hook"], row["tokens"].removesuffix(" tokens"), row["dimensions"].removesuffix(" dimensions")]
            rows.append([", ".join(which), str(row["n_massive"]), *_layer_cells(row)])
    return lay_out(rows)


def _directions(table: Sequence[Mapping[str, Any]]) -> str:
    rows = [["", *_DIRECTION_MEASURES.values()]]
    for reading in ("coordinates", "logits"):
        for row in table:
            if row["reading"] == reading:
                rows.append([f"{reading}: {row['directions']}", *(_number(row[name]) for name in _DIRECTION_MEASURES)])
    return lay_out(rows)


def _supports(supports: Mapping[str, Mapping[str, Any]]) -> str:
    sizes = next((list(codes["noise"]) for codes in supports.values() if "noise" in codes), [])
    heads = [
        "coherence",
        "unique up to",
        "K",
        "same code",
        "other code",
        "Jaccard",
        "chance",
        "EV encoder",
        "EV pursuit",
    ]
    rows = [["", *heads, *(f"noise {size}: encoder" for size in sizes), *(f"{size}: pursuit" for size in sizes)]]
    for member, codes in supports.items():
        explained, noise = codes.get("explained_variance", {}), codes.get("noise", {})
        values = [codes.get(name) for name in ("same_code", "other_code", "jaccard", "jaccard_chance")]
        values += [explained.get(who) for who in ("encoder", "pursuit")]
        values += [noise.get(size, {}).get(who) for who in ("encoder", "pursuit") for size in sizes]
        rows.append(
            [member, _number(codes["coherence"]), str(codes["unique_up_to"]), str(codes["k"]), *map(_number, values)]
        )
    return lay_out(list(zip(*rows, strict=True)))


def _seeds(seeds: Mapping[str, Any]) -> str:
    names = ("matched_cosine", "shared", "best_cosine", "subspace_overlap")
    heads = ["matched", "shared", "best", f"top-{SUBSPACE} subspace", "cosine to start"]
    starts = seeds["cosine_to_start"]
    agreements = {"isotropic directions": seeds["isotropic"]}
    for policy, agreement in seeds["policies"].items():
        agreements |= {policy: agreement, f"chance for {policy}": agreement["chance"]}
    return lay_out(
        [["", *heads]]
        + [
            [policy, *(_number(agreement.get(name)) for name in names), _number(starts.get(policy))]
            for policy, agreement in agreements.items()
        ]
    )
