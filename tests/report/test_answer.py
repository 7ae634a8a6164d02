"""The first sentence of the page, which the words of the verdict decide."""

import re
from pathlib import Path

import pytest
from runs.folders import panel, write
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sae_lightning.members import policy_label
from sae_lightning.moving_line import width
from sae_lightning.nouns import speaking_of
from sae_lightning.report.answer import answer
from sae_lightning.report.page import page
from sae_lightning.report.tensorboard import into_tensorboard
from sae_lightning.runs import experiments_of, read_runs
from sae_lightning.verdict import decide, experiment_texts

BETTER = {"trained": (0.9, 0.8, 0.85), "frozen_decoder": (0.5, 0.45, 0.46)}
ALIKE = {"trained": (0.9, 0.8, 0.85), "frozen_decoder": (0.901, 0.799, 0.8505)}
UNSURE = {"trained": (0.9, 0.8, 0.85), "frozen_decoder": (0.7, 0.9, 0.8)}
SAME = {"trained": (0.9, 0.8, 0.85), "frozen_decoder": (0.9, 0.8, 0.85)}


def answer_of(folder: Path, **metrics):
    plain = {
        name: {policy: {str(seed): value for seed, value in enumerate(seeds)} for policy, seeds in own.items()}
        for name, own in metrics.items()
    }
    folder = write(folder / "run", panel((0, 1, 2)), plain, floors=dict.fromkeys(metrics, 0.0))
    (experiment,) = experiments_of(read_runs([folder]))
    return answer(experiment, decide(experiment.measurements))


@pytest.mark.parametrize(
    ("metrics", "word", "sentence"),
    [
        ([BETTER, BETTER], "Yes", "it does better on 2 of 2 metrics."),
        ([BETTER, UNSURE], "In part", "it does better on 1 of 2 metrics and cannot be told from it on 1."),
        ([ALIKE, ALIKE], "It is as good as random", "it is as good, within the margin, on 2 of 2 metrics."),
        ([UNSURE, ALIKE], "These data cannot tell", "it is as good, within the margin, on 1 of 2 metrics and"),
        ([SAME, SAME], "There is no other SAE to compare it with", "is left out, its constraint never acted"),
    ],
)
def test_words_become_an_answer(tmp_path: Path, metrics, word, sentence):
    given = answer_of(tmp_path, **{f"m{number}": own for number, own in enumerate(metrics)})
    assert given.word == word
    assert sentence in given.sentences[0]


def test_an_answer_says_by_how_much(tmp_path: Path):
    given = answer_of(tmp_path, m0=BETTER | {"frozen_encoder": (0.7, 0.9, 0.8)}, m1=UNSURE)
    assert given.reasons == ["better than some random baselines on m0"]  # the headline of the one question
    ((_, text),) = given.points
    assert text == (
        "m0 0.850: 1.8 times the Frozen Decoder (0.470); no clear difference from the Frozen Encoder (0.800)."
    )
    low = answer_of(tmp_path / "low", m0=BETTER | {"frozen_decoder": (-0.5, -0.45, -0.46)})
    assert "better than the Frozen Decoder (-0.470), which is not above the floor." in low.points[0][1]


def test_an_answer_says_what_keeps_it_from_a_yes(tmp_path: Path):
    given = answer_of(tmp_path, m0=BETTER, m1=UNSURE, m2=BETTER, m3=ALIKE)
    assert given.word == "In part"
    assert given.reasons == ["better than every random baseline on m0; but not on m1 and m3"]
    many = answer_of(tmp_path / "many", m0=BETTER, **{f"m{number}": UNSURE for number in range(1, 5)})
    assert many.reasons == ["better than every random baseline on m0; but not on 4 other metrics"]


def test_an_answer_says_what_had_not_converged(tmp_path: Path):
    falls = {"trained": (0.001, 0.001, 0.002), "frozen_decoder": (0.05, 0.04, 0.06)}
    given = answer_of(tmp_path, m0=BETTER, m1=BETTER, loss_fall=falls)
    assert any(text.startswith("Not converged: Frozen Decoder.") for text in given.sentences)
    assert not any("Not converged" in text for text in answer_of(tmp_path / "b", m0=BETTER, m1=BETTER).sentences)


CODES = {
    "trained": (0.85, 0.86, 0.855),
    "frozen_decoder": (0.58, 0.585, 0.58),
    "tied_at_random": (0.57, 0.572, 0.571),
    "separate_parts": (0.78, 0.785, 0.79),
}
FROM_OTHER = {"trained": (0.33, 0.34, 0.335), "frozen_decoder": (0.02, 0.03, 0.02), "tied_at_random": (-0.1, 0.0, -0.1)}
KINDS = {"crosscoder": {"crosscoder": True}, "transcoder": {"targets": {"mlp_in": "mlp_out"}}}


def beside_a_linear_map(folder: Path, kind: str, metric: str = "early_from_late"):
    """Read a run whose SAEs explain what they read, and less of one part from another than a linear map does."""
    metrics = {"explained_variance": CODES, "early_from_late": FROM_OTHER}
    plain = {
        name: {policy: {str(seed): value for seed, value in enumerate(seeds)} for policy, seeds in own.items()}
        for name, own in metrics.items()
    }
    prints = {f"{policy}/{seed}": f"{policy}{seed}" for policy in CODES for seed in range(3)}
    plain[metric]["linear_map"] = {"0": 0.904}
    settings, floors = panel((0, 1, 2), **KINDS.get(kind, {})), dict.fromkeys(metrics, 0.0)
    folder = write(folder / "run", settings, plain, prints, floors=floors)
    (experiment,) = experiments_of(read_runs([folder]))
    return experiment


def test_an_answer_says_where_a_linear_map_is_better(tmp_path: Path):
    experiment = beside_a_linear_map(tmp_path, "crosscoder")
    given = answer(experiment, decide(experiment.measurements))
    assert given.word == "Yes"
    worse = "worse than the linear map on early_from_late (0.335 against 0.904)"
    assert given.reasons == [f"better than every random baseline on explained_variance; {worse}"]
    *_, last = experiment_texts([experiment])
    assert " ".join(last.split()) == f"Does the trained crosscoder beat random? Yes. It is {worse}."


def test_a_question_says_where_a_linear_map_is_better(tmp_path: Path):
    experiment = beside_a_linear_map(tmp_path, "transcoder", "explained_variance")
    given = answer(experiment, decide(experiment.measurements))
    (text,) = (text for _, text in given.points if text.startswith("explained_variance"))
    assert text.endswith("; worse than the linear map (0.904).")


def test_what_is_tied_at_random_is_a_random_baseline(tmp_path: Path):
    experiment = beside_a_linear_map(tmp_path, "crosscoder")
    comparisons = decide(experiment.measurements)
    assert {one.baseline for one in comparisons if one.is_random} == {"frozen_decoder", "tied_at_random"}
    with speaking_of(["crosscoder"]):
        given = answer(experiment, comparisons)
    assert "gainst the crosscoder tied at random it does better on 2 of 2 metrics" in given.sentences[0]
    assert given.counts[0].head == ["", "Frozen Decoder", "Crosscoder tied at random"]


@pytest.mark.parametrize("kind", KINDS)
def test_pages_and_tables_call_things_what_they_are(tmp_path: Path, kind):
    experiment = beside_a_linear_map(tmp_path, kind)
    html = page([experiment])
    assert f"Does this {kind} beat random?" in html
    shown = re.sub("<style>.*?</style>|<[^>]*>", " ", html, flags=re.DOTALL)
    texts = [shown, *re.findall('(?:aria-label|alt|title)="([^"]*)"', html), *experiment_texts([experiment])]
    for text in texts:
        for place in re.finditer(r"\bSAEs?\b", text):
            around = text[max(0, place.start() - 60) : place.end() + 30]
            assert "One SAE for each part" in around, around  # the baseline that is one
    assert f"Trained {kind}" in shown
    assert any(f"trained {kind} against" in text for text in texts)
    short = "\n".join(experiment_texts([experiment], is_short=True))
    assert max(map(len, short.splitlines())) <= width()
    several = page([experiment, beside_a_linear_map(tmp_path / "other", "SAE")])
    assert "Do these SAEs beat random?" in several
    first = several[several.index("<h1>") :].split("<h2>")[0]
    assert first.count("<strong>") == 2, "the question of the title is answered first, for each"


def published(folder: Path, names=("published",), losing="random_decoder_tied", **own):
    """Answer for SAEs of 0.9 with controls of a metric each, beside an SAE that was trained where a value is given."""
    metrics, sizes = {"m0": {}, "m1": {}}, {}
    for name in names:
        prefix = "" if len(names) == 1 else f"{name}_"
        draws = {"random_encoder": (0.5, 0.51, 0.52), losing: (0.97, 0.971, 0.972)}
        draws["principal_components"] = (0.95,)
        for metric in metrics.values():
            metric |= {f"{prefix}{control}": dict(enumerate(values)) for control, values in draws.items()}
            metric[name] = {0: 0.9}
        sizes |= {f"{prefix}{control}": [name, control] for control in draws} | {name: [name, "trained"]}
    controls = {policy: f"whether {role} does" for policy, (_, role) in sizes.items() if role != "trained"}
    for policy, seeds in own.items():
        sizes[policy] = ["remake", policy]
        metrics["m0"][policy] = dict(enumerate(seeds))
    plain = {
        name: {policy: {str(seed): value for seed, value in values.items()} for policy, values in of_metric.items()}
        for name, of_metric in metrics.items()
    }
    references = {name: f"/saes/{name}" for name in names}
    write(folder / "run", panel(), plain, floors={"m0": 0.0}, sizes=sizes, references=references, controls=controls)
    (experiment,) = experiments_of(read_runs([folder / "run"]))
    return answer(experiment, decide(experiment.measurements)), experiment


def test_a_published_sae_is_answered_for_against_its_controls(tmp_path: Path):
    given, _ = published(tmp_path)
    assert given.word == "No"
    first, rest, better, limits = given.sentences
    assert first == "The published SAE beats 1 of its 3 controls on every question: random encoder."
    tied = policy_label("random_decoder_tied")
    assert rest.startswith(f"Against the {tied} it does worse on 1 of 1 metric; ")  # the headline of one question
    assert rest.endswith("against the principal components it has no interval on 1 of 1 metric.")
    assert better == f"Better than it on some question: {tied} (m0)."
    assert limits.startswith("Intervals are over 3 draws of a control and evaluation items")
    (counts,) = given.counts
    assert counts.rows[0] == ["Random encoder: whether random_encoder does", "✓ 2"]
    assert (given.has_controls, given.has_baselines) == (True, False)


def test_a_control_that_is_shown_the_target_decides_nothing(tmp_path: Path):
    given, _ = published(tmp_path, losing="target_pursuit")
    assert given.word != "No"
    label = policy_label("target_pursuit")
    assert not any(label in text for text in [*given.reasons, *given.sentences])
    assert any(label in row[0].lower() for row in given.counts[0].rows), "it is shown, all the same"


def test_a_published_sae_and_one_that_was_trained_have_an_answer_each(tmp_path: Path):
    given, _ = published(tmp_path, **BETTER)
    assert given.word == "The published SAE: No; The trained SAE: Yes"
    assert (
        "The SAE that this run trained: against the Frozen Decoder it does better on 1 of 1 metric." in given.sentences
    )
    assert [counts.head[1] for counts in given.counts] == ["?", "Frozen Decoder"]
    assert (given.has_controls, given.has_baselines) == (True, True)


def test_several_published_saes_are_told_apart(tmp_path: Path):
    given, experiment = published(tmp_path, ("a", "b"))
    assert given.word == "A: No; B: No"
    assert any(text.startswith("B beats 1 of its 3 controls") for text in given.sentences)
    assert sum(text.startswith("Intervals are") for text in given.sentences) == 1
    texts = list(experiment_texts([experiment]))
    assert [text.splitlines()[0].split("  ")[0] for text in texts[1:]] == ["a against", "b against"]
    assert "seeds or draws" in texts[0]


def test_the_page_of_a_published_sae_speaks_of_draws(tmp_path: Path):
    _, experiment = published(tmp_path)
    html = page([experiment])
    start = html.index('<section id="run1-verdict"')
    shown = html[start : html.index("</section>", start)]
    assert "Controls of a published SAE" in shown
    assert "the trained SAE" not in shown
    assert "seeds" not in shown


def test_tensorboard_names_published_saes(tmp_path: Path):
    published(tmp_path, ("a", "b"))
    into_tensorboard(tmp_path / "run")
    events = EventAccumulator(str(tmp_path / "run" / "verdict"))
    events.Reload()
    names = {name.removeprefix("verdict/") for name in events.Tags()["scalars"]}
    assert {"a_m0@a", "b_m0@b", "beats_a_random_encoder", "loses_b_random_decoder_tied"} <= names
    assert not any(name.startswith("trained_") for name in names)
