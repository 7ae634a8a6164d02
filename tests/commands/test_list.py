import pytest

from sae_lightning import evaluators
from sae_lightning.cli import main
from sae_lightning.commands.list import LISTS

EXPECTED = {
    "configs": ("experiment/sanity_pocket_lm", "sae/topk", "freeze/frozen_decoder"),
    "variants": ("BatchTopK", "Gated", "JumpReLU", "MatryoshkaBatchTopK", "ReLU", "TopK"),
    "policies": ("FrozenDecoder", "FrozenEncoder", "NoFreeze", "SoftFrozenDecoder", "Untrained"),
    "data": ("CachedActivations", "LanguageModelDataModule", "SyntheticDataModule"),
    "evaluators": ("Absorption", "LossRecovered", "SparseProbing"),
    "metrics": ("explained_variance", "ce_recovered_mean", "probe_accuracy_k1", "recovery_at_0.8"),
    "tasks": ("PythonTokens", "SAEProbesSets"),
    "judges": ("LexicalJudge",),
    "controls": ("RandomDecoder", "PermutedDecoder"),
    "formats": ("saelens", "sae_lightning", "plain"),
}


@pytest.mark.parametrize("what", LISTS)
def test_a_list_has_a_name_and_a_line_each(what, capsys):
    main(["list", what])
    lines = capsys.readouterr().out.splitlines()
    names = [line.split()[0] for line in lines if line.strip()]
    assert set(EXPECTED[what]) <= set(names)
    assert all(len(line) <= 80 for line in lines)


def test_without_a_word_it_says_which_there_are(capsys):
    with pytest.raises(SystemExit):
        main(["list"])
    assert "say what to list, configs, variants," in capsys.readouterr().err


def test_bases_and_private_classes_are_not_offered(capsys):
    main(["list", "variants"])
    main(["list", "evaluators"])
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines() if not line.startswith(" ")]
    assert not {"SAEModule", "L1Penalised", "Evaluator", "Probing", "Editing"} & {*names}


def test_each_evaluator_declares_what_it_measures():
    declared = {
        name: kind.declares for name, kind in vars(evaluators).items() if getattr(kind, "declares", None) is not None
    }
    assert len(declared) > 15
    names = [(name, metric.name) for name, metrics in declared.items() for metric in metrics]
    assert len(names) == len({*names})


def test_the_demo_is_a_fit_of_its_configuration(monkeypatch):
    started = []
    monkeypatch.setattr("sae_lightning.commands.demo.SAECLI", started.append)
    main(["demo", "--model.sae.k", "64"])
    assert started == [["fit", "--config", "experiment/sanity_pocket_lm", "--model.sae.k", "64"]]
