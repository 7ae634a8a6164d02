import json

import numpy as np
import pytest

from sae_lightning.members import Member
from sae_lightning.runs import Measurements
from sae_lightning.runs.latents import LatentValues
from sae_lightning.verdict.stable_latents import as_json, in_words, sentences, stable_latents, table, word
from sae_lightning.verdict.text import stable_latents_text

N = 400


@pytest.fixture(scope="module")
def measured():
    """Good latents are stable, of the trained SAE; choices follow from the frequency alone; on noise nothing counts."""
    random = np.random.default_rng(0)
    values = {name: {} for name in ("stability", "firing_frequency", "accuracy", "choices")}
    for member in [Member(policy, seed, part) for part in ("", "noise") for policy in ("frozen_decoder", "trained")
                   for seed in (0, 1)]:  # fmt: skip
        frequency, stability, accuracy, choices = random.normal(size=(4, N))
        stability += frequency
        if member.policy == "trained":
            accuracy += stability
        choices += 2 * frequency
        accuracy[::2] = np.nan  # half of them were sampled
        stability[:10] = np.nan  # and some never fire
        for name, own in zip(values, (stability, frequency, accuracy, choices), strict=True):
            values[name][member] = own.astype(np.float32)
    latents = {name: LatentValues(f"its {name}", name in ("accuracy", "choices"), own) for name, own in values.items()}
    return Measurements({}, {}, nulls=("noise",), latents=latents)


def by_name(results):
    return {(result.name, result.policy): result for result in results}


def test_what_goes_with_stability_and_what_goes_with_frequency(measured):
    results = stable_latents([measured])
    assert [(result.name, result.policy) for result in results] == [
        (name, policy)
        for name in ("firing_frequency", "accuracy", "choices")
        for policy in ("trained", "frozen_decoder")
    ]  # fmt: skip
    found = by_name(results)
    accuracy, choices = found["accuracy", "trained"], found["choices", "trained"]
    assert (word(accuracy.correlation), word(accuracy.held)) == ("more", "more")
    assert (word(choices.correlation), word(choices.held)) == ("more", "unclear")
    assert word(found["accuracy", "frozen_decoder"].correlation) == "unclear"
    assert found["firing_frequency", "trained"].held is None
    assert (accuracy.n_latents, accuracy.n_seeds) == (195, 2)
    assert choices.n_latents == 390


def test_less_is_said_of_what_stable_latents_lack(measured):
    latents = {name: own for name, own in measured.latents.items() if name != "choices"}
    turned = {member: -values for member, values in latents["accuracy"].members.items()}
    latents["accuracy"] = LatentValues("its accuracy", True, turned)
    found = by_name(stable_latents([Measurements({}, {}, nulls=("noise",), latents=latents)]))
    assert word(found["accuracy", "trained"].correlation) == "less"


def test_words_and_numbers_say_the_same(measured):
    results = stable_latents([measured])
    head, *rows = table(results)
    assert head == ["", "trained", "frozen_decoder"]
    assert [row[0].strip() for row in rows] == [
        "its firing_frequency", "its accuracy", "with firing frequency held fixed", "its choices",
        "with firing frequency held fixed",
    ]  # fmt: skip
    own = by_name(results)["choices", "trained"]
    numbers = f"{own.held.rho:+.2f} [{own.held.low:+.2f}, {own.held.high:+.2f}]"
    assert rows[-1][1] == f"unclear {numbers}"
    frequency, _, choices = sentences(results)
    assert frequency.startswith("its firing_frequency, 390 latents of an SAE: stable latents have more +0.")
    assert choices.startswith("its choices, 390 latents of an SAE: stable latents have more +0.")
    assert f"with firing frequency held fixed unclear {numbers}; of the Frozen Decoder, by chance: " in choices
    assert [label for label, *_ in in_words(results)] == [
        f"its {name}, {n} latents of an SAE"
        for name, n in (("firing_frequency", 390), ("accuracy", 195), ("choices", 390))
    ]
    values = json.loads(json.dumps(as_json(results)))["choices"]["policies"]["trained"]
    assert values["frequency_held_fixed"] == {
        "rho": own.held.rho, "interval": [own.held.low, own.held.high], "word": "unclear"
    }  # fmt: skip


def test_a_short_text_says_it_once(measured):
    """The table has the same numbers, of every policy: a screen more at the end of each run."""
    results = stable_latents([measured])
    short, whole = (stable_latents_text(results, is_short) for is_short in (True, False))
    assert "-----" in whole
    assert "-----" not in short
    assert all(label in " ".join(short.split()) for label, *_ in in_words(results))


def test_without_stability_or_without_a_quality_nothing_is_said(measured):
    for names in (("accuracy", "firing_frequency"), ("stability", "firing_frequency")):
        latents = {name: measured.latents[name] for name in names}
        assert stable_latents([Measurements({}, {}, latents=latents)]) == []
    assert stable_latents([Measurements({}, {})]) == []
    assert list(sentences([])) == []


def test_seeds_of_several_runs_count_together(measured):
    other = {
        name: LatentValues(own.label, own.is_quality, {
            Member(member.policy, member.seed + 2, member.part): values for member, values in own.members.items()
        })
        for name, own in measured.latents.items()
    }  # fmt: skip
    both = stable_latents([measured, Measurements({}, {}, nulls=("noise",), latents=other)])
    assert by_name(both)["accuracy", "trained"].n_seeds == 4
