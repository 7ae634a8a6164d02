import pytest
import torch
import yaml
from jsonargparse import Namespace

from sae_lightning.cli import main
from sae_lightning.commands.sweep import best_rates, notes_of, rates_of, spread
from sae_lightning.members import Member
from sae_lightning.runs import Run

CONFIG = {
    "model": {
        "class_path": "SanityPanel",
        "init_args": {
            "seeds": [3, 4],
            "sae": {"class_path": "TopK", "init_args": {"k": 4, "expansion_factor": 4}},
            "policies": {
                "trained": {"class_path": "NoFreeze"},
                "frozen_decoder": {"class_path": "FrozenDecoder"},
                "loose": {"class_path": "SoftFrozenDecoder", "init_args": {"min_cosine": 0.5}},
            },
            "inits": {"loose": {"class_path": "DataPoints"}},
        },
    },
    "data": {
        "class_path": "SyntheticDataModule",
        "init_args": {"n_features": 32, "d_in": 8, "batch_size": 64, "train_samples": 2560, "val_samples": 256},
    },
    "trainer": {
        "accelerator": "cpu",
        "enable_progress_bar": False,
        "log_every_n_steps": 10,
        "callbacks": [{"class_path": "Recovery"}, {"class_path": "LearningRateMonitor"}],
    },
}


def test_each_policy_is_trained_at_each_rate_and_fit_takes_the_best(tmp_path, capsys):
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(CONFIG))
    where = ["--config", str(config), f"--trainer.logger.save_dir={tmp_path}"]
    main(["sweep", *where, "--lr", "1e-2,1e-5", "--name", "swept"])
    printed = capsys.readouterr().out
    assert "trained: 0.01, the largest given: try larger ones" in printed
    run = tmp_path / "swept/version_0"
    values = next(own for tag, own in Run(run).measurements.values.items() if tag.metric == "explained_variance")
    names = ["trained_at_1e_05", "trained_at_0_01", "frozen_decoder_at_1e_05", "frozen_decoder_at_0_01"]
    assert {str(member) for member in values} == {f"{name}/3" for name in [*names, "loose_at_1e_05", "loose_at_0_01"]}
    assert not any(tag.metric == "mmcs" for tag in Run(run).measurements.values), "evaluators are left out"
    assert not (run / "checkpoints").exists()
    assert not (run / "saes").exists()
    best = yaml.safe_load((run / "best_lr.yaml").read_text())
    assert best["model"]["init_args"] == {"learning_rates": {"trained": 0.01, "frozen_decoder": 0.01, "loose": 0.01}}

    main(["fit", *where, "--config", str(run / "best_lr.yaml"), "--name", "best"])
    [file] = (tmp_path / "best/version_0/checkpoints").glob("last.ckpt")
    checkpoint = torch.load(file, weights_only=True)
    groups = checkpoint["optimizer_states"][0]["param_groups"]
    assert {group["name"]: group["lr"] for group in groups} == {"trained": 0.01, "frozen_decoder": 0.01, "loose": 0.01}
    settings = yaml.safe_load((tmp_path / "best/version_0/config.yaml").read_text())["model"]["init_args"]
    assert settings["seeds"] == [3, 4]
    assert settings["policies"]["loose"]["init_args"]["min_cosine"] == 0.5


def test_starts_and_arguments_of_a_policy_go_with_it():
    arguments = Namespace(
        policies={"loose": Namespace(class_path="SoftFrozenDecoder", init_args=Namespace(min_cosine=0.5))},
        inits={"loose": Namespace(class_path="DataPoints")},
    )
    place = spread(arguments, [0.001, 0.1])
    assert place == {"loose_at_0_001": ("loose", 0.001), "loose_at_0_1": ("loose", 0.1)}
    assert arguments.learning_rates == {"loose_at_0_001": 0.001, "loose_at_0_1": 0.1}
    assert {init.class_path for init in arguments.inits.values()} == {"DataPoints"}
    assert arguments.policies["loose_at_0_1"].init_args.min_cosine == 0.5


def test_without_policies_they_are_those_of_the_panel():
    arguments = Namespace(policies=None, inits=None)
    assert {policy for policy, _ in spread(arguments, [0.1, 0.2]).values()} == {
        "trained", "frozen_decoder", "soft_frozen_decoder", "frozen_encoder"
    }  # fmt: skip
    assert arguments.inits == {}


def test_the_best_has_the_lowest_loss_and_what_is_not_a_number_is_no_best():
    place = {"a_1": ("a", 1.0), "a_2": ("a", 2.0), "a_3": ("a", 3.0)}
    losses = {Member("a_1", 0): 3.0, Member("a_2", 0): 2.0, Member("a_3", 0): float("nan")}
    assert best_rates(place, losses) == {"a": 2.0}


def test_several_parts_decide_together_whatever_their_scale():
    place = {"a_1": ("a", 1.0), "a_2": ("a", 2.0)}
    losses = {Member("a_1", 0, "x"): 100.0, Member("a_2", 0, "x"): 110.0}
    losses |= {Member("a_1", 0, "y"): 0.2, Member("a_2", 0, "y"): 0.1}
    assert best_rates(place, losses) == {"a": 2.0}


def test_a_best_rate_at_an_end_of_the_range_is_said():
    assert notes_of({"a": 0.1, "b": 0.2, "c": 0.3}, [0.1, 0.2, 0.3]) == [
        "a: 0.1, the smallest given: try smaller ones", "b: 0.2", "c: 0.3, the largest given: try larger ones"
    ]  # fmt: skip


def test_rates_are_read_in_any_notation():
    assert rates_of("1e-3, 3e-4") == rates_of("[0.001,0.0003]") == [0.0003, 0.001]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1e-3", "two learning rates or more"),
        ("1e-3,0.001", "each once"),
        ("fast,slow", "lr=fast,slow: expected learning rates"),
        ("1e-3,0", "lr=0.0: expected a finite number above 0"),
        ("1e-3,nan", "lr=nan"),
    ],
)
def test_rates_that_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        rates_of(text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model=TopK", "--model.k=4", "--model.d_sae=8"], "model=TopK: sae sweep compares the policies"),
        (["--model=SanityPanel", "--model.sae=TopK", "--ckpt_path=x.ckpt"], "ckpt_path: sae sweep begins anew"),
    ],
)
def test_what_cannot_be_swept_is_refused(arguments, message, capsys):
    with pytest.raises(SystemExit):
        main(["sweep", *arguments, "--data=SyntheticDataModule", "--data.d_in=8", "--lr=1e-3,1e-2"])
    assert message in capsys.readouterr().err


def test_help_is_that_of_the_command(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    main(["sweep", "--help"])
    printed = capsys.readouterr().out
    assert printed.startswith("usage: sae sweep --config CONFIG --lr RATES")
    assert "best_lr.yaml" in printed
    assert max(map(len, printed.splitlines())) <= 80
