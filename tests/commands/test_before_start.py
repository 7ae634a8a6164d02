"""What is refused before a model is loaded; the mistakes themselves are in bad_inputs.txt."""

import json

import pytest
from jsonargparse import Namespace

from sae_lightning.commands.before_start import check_before_start


def settings(model, data=None, **trainer):
    return Namespace(
        model=Namespace(class_path=f"sae_lightning.saes.{model.pop('kind')}", init_args=Namespace(model)),
        data=Namespace(class_path="sae_lightning.datamodules.LanguageModelDataModule", init_args=Namespace(data or {})),
        trainer=Namespace({"callbacks": None, **trainer}),
    )


@pytest.mark.parametrize(("k", "refused"), [(1024, False), (1025, True)])
def test_the_widest_layer_bounds_d_sae(k, refused, tmp_path):
    """The largest size in config.json may stand four times side by side; vocabulary, positions and tokens are none."""
    config = {"hidden_size": 16, "vocab_size": 50_000, "max_position_embeddings": 4096, "bos_token_id": 9999}
    (tmp_path / "config.json").write_text(json.dumps({**config, "text_config": {"intermediate_size": 64}}))
    given = settings({"kind": "TopK", "k": k, "expansion_factor": 4.0}, {"model": str(tmp_path)})
    if not refused:
        check_before_start(given)
        return
    with pytest.raises(
        ValueError, match="model.k=1025: .* no layer of the model wider than 256, d_sae is at most 1024"
    ):
        check_before_start(given)


def test_a_model_of_unknown_width_is_no_reason_to_refuse():
    check_before_start(settings({"kind": "TopK", "k": 10**6, "expansion_factor": 4.0}, {"model": "on/the-hub"}))


def test_hooks_bound_it_together(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"hidden_size": 16}))
    data = {"model": str(tmp_path), "hook": {"a": "x", "b": "y"}}
    model = Namespace(
        class_path="sae_lightning.panel.SanityPanel",
        init_args=Namespace(sae=Namespace(class_path="TopK", init_args=Namespace(k=128, expansion_factor=1.0))),
    )
    given = settings({"kind": "TopK"}, data)
    given.model = model
    check_before_start(given)
    model.init_args.sae.init_args.k = 129
    with pytest.raises(ValueError, match="model.sae.k=129"):
        check_before_start(given)


@pytest.mark.parametrize("interval", [1, 4, 0.25, 1.0])
def test_an_interval_that_fits_is_accepted(interval):
    sizes = {"train_samples": 1024, "batch_size": 256}
    check_before_start(settings({"kind": "ReLU"}, sizes, val_check_interval=interval, check_val_every_n_epoch=1))


def test_an_interval_over_epochs_may_be_longer():
    sizes = {"train_samples": 1024, "batch_size": 256}
    check_before_start(settings({"kind": "ReLU"}, sizes, val_check_interval=100, check_val_every_n_epoch=None))


def test_optimizer_and_schedule_are_tried_with_their_arguments():
    optimizer = Namespace(class_path="torch.optim.SGD", init_args=Namespace(lr=0.1))
    schedule = Namespace(class_path="torch.optim.lr_scheduler.CosineAnnealingLR", init_args=Namespace(T_max=5))
    check_before_start(settings({"kind": "ReLU", "optimizer": optimizer, "lr_scheduler": schedule}))
    schedule.init_args = Namespace()
    with pytest.raises(ValueError, match="model.lr_scheduler: CosineAnnealingLR refuses its arguments: .*T_max"):
        check_before_start(settings({"kind": "ReLU", "optimizer": optimizer, "lr_scheduler": schedule}))
