"""Verdicts follow the thresholds that they print."""

import pytest

from sae_lightning.density.activations import ALL_DIMENSIONS, AXES, GAUSSIAN, WITHOUT_FIRST
from sae_lightning.density.claims import verdicts


def found(near=(0.1,), reached=0.9, supports=None, seeds=None, metrics=None):
    of = {"tokens": WITHOUT_FIRST, "dimensions": ALL_DIMENSIONS, "participation_ratio": 0.3}
    layers = [of | {"view": AXES, "near_zero": value} for value in near] + [of | {"view": GAUSSIAN, "near_zero": 0.08}]
    logits = {"directions": AXES, "reading": "logits", "above_10_percent_of_rms": reached, "excess_kurtosis": 0.0}
    directions = [] if reached is None else [logits]
    return {"layers": layers, "directions": directions, "supports": supports, "seeds": seeds, "metrics": metrics}


def decide(number, **kwargs):
    verdict = verdicts(found(**kwargs))[number - 1]
    assert verdict.number == number
    return verdict.verdict.split()[0]


def code(same, other, k=9, bound=1):
    noise = {"0.01": {"encoder": 1.0, "pursuit": 1.0}}
    of = {"coherence": 0.5, "unique_up_to": bound, "k": k, "d_in": 32, "same_code": same, "other_code": other}
    return {"frozen_decoder/0": {}, "trained/0": of | {"jaccard": 0.3, "jaccard_chance": 0.0, "noise": noise}}


def seeds(shared, matched, start=0.5):
    agreed = {"shared": shared, "matched_cosine": matched, "chance": {"matched_cosine": 0.3}}
    return {
        "policies": {"trained": agreed},
        "isotropic": {"matched_cosine": 0.2},
        "cosine_to_start": {"trained": start},
    }


def explained(real, noise):
    return {
        "explained_variance": {"trained": {"0": real, "1": None}, "frozen_decoder": {"0": 0.0}},
        "explained_variance@gaussian": {"trained": {"0": noise}},
    }


def probes(*sparse, dense=0.9):
    found = {f"probe_accuracy_k{k}": {"trained": {"0": value}} for k, value in enumerate(sparse, 1)}
    found["probe_accuracy_k1"]["dense_probe"] = {"0": dense}
    return found


@pytest.mark.parametrize(
    ("number", "given", "verdict"),
    [
        (1, {"reached": 0.8}, "supported"),
        (1, {"reached": 0.6}, "not"),
        (1, {"reached": 0.4}, "contradicted"),
        (1, {"reached": None}, "not"),
        (2, {"near": (0.1, 0.4)}, "supported"),
        (2, {"near": (0.1, 0.6)}, "not"),
        (2, {"near": (0.5, 0.6)}, "contradicted"),
        (3, {}, "not"),
        (3, {"supports": code(0.9, 0.1)}, "supported"),
        (3, {"supports": code(0.5, 0.05)}, "contradicted"),
        (3, {"supports": code(0.4, 0.0)}, "not"),
        (3, {"supports": code(0.0, 0.0, k=3, bound=3)}, "contradicted"),
        (3, {"supports": {"trained/0": {"coherence": 0.9, "unique_up_to": 1, "k": 17, "d_in": 32}}}, "supported"),
        (4, {}, "not"),
        (4, {"seeds": seeds(0.05, 0.34)}, "supported"),
        (4, {"seeds": seeds(0.06, 0.34)}, "contradicted"),
        (4, {"seeds": seeds(0.02, 0.40)}, "not"),
        (4, {"seeds": seeds(0.00, 0.30, start=0.9)}, "not"),
        (5, {"metrics": {"explained_variance": {"trained": {"0": 0.9}}}}, "not"),
        (5, {"metrics": explained(0.9, 0.8)}, "contradicted"),
        (5, {"metrics": explained(0.8, 0.8)}, "supported"),
        (5, {"metrics": explained(0.83, 0.8)}, "not"),
        (6, {"metrics": {}}, "not"),
        (6, {"metrics": probes(0.7, 0.84)}, "supported"),
        (6, {"metrics": probes(0.7, 0.895)}, "contradicted"),
        (6, {"metrics": probes(0.7, 0.87)}, "not"),
    ],
)
def test_thresholds(number, given, verdict):
    assert decide(number, **given) == verdict


def test_a_claim_says_its_number_and_its_rule():
    text = str(verdicts(found(metrics=explained(0.9, 0.8)))[4])
    assert "CONTRADICTED" in text
    assert "+0.100" in text
    assert "0.05" in text


def test_what_is_missing_is_named():
    texts = [str(verdict) for verdict in verdicts(found(reached=None))]
    for number, word in ((1, "head"), (3, "--run"), (4, "seeds"), (5, "--data.nulls"), (6, "SparseProbing")):
        assert word in texts[number - 1]
