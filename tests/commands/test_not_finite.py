from types import SimpleNamespace

from sae_lightning.commands.not_finite import say_not_finite
from sae_lightning.members import Member, Tag


def test_members_that_lack_the_same_metrics_are_one_line(capsys):
    a, b, c = Member("trained", 0), Member("trained", 1), Member("frozen_decoder", 0)
    values = {
        Tag("ce_recovered_mean"): {a: 0.5, b: 0.5, c: None},
        Tag("ce_recovered_linear"): {a: None, b: None, c: None},
    }
    run = SimpleNamespace(folder="RUN", measurements=SimpleNamespace(values=values))
    say_not_finite([run])
    lines = capsys.readouterr().err.splitlines()
    assert max(map(len, lines)) <= 80
    sentences = " ".join(line.strip() for line in lines).split("RUN: ")[1:]
    assert [sentence.partition(": shown as -")[0] for sentence in sentences] == [
        "no finite value of ce_recovered_mean, ce_recovered_linear for frozen_decoder/0",
        "no finite value of ce_recovered_linear for trained/0, trained/1",
    ]
