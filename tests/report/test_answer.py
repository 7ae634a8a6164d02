"""The first sentence of the page, which the words of the verdict decide."""

from pathlib import Path

import pytest
from runs.folders import panel, write

from sae_lightning.report.answer import answer
from sae_lightning.runs import experiments_of, read_runs
from sae_lightning.verdict import decide

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


def test_an_answer_says_what_had_not_converged(tmp_path: Path):
    falls = {"trained": (0.001, 0.001, 0.002), "frozen_decoder": (0.05, 0.04, 0.06)}
    given = answer_of(tmp_path, m0=BETTER, m1=BETTER, loss_fall=falls)
    assert any(text.startswith("Not converged: Frozen Decoder.") for text in given.sentences)
    assert not any("Not converged" in text for text in answer_of(tmp_path / "b", m0=BETTER, m1=BETTER).sentences)
