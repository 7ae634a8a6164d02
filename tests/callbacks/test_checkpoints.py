import pytest
import torch
from lightning.pytorch import Trainer
from training import D_IN, Stream

from sae_lightning.callbacks import Checkpoints
from sae_lightning.evaluators import Evaluator
from sae_lightning.loggers import MemberTensorBoardLogger
from sae_lightning.saes import TopK


class Fails(Evaluator):
    """Stands for a server that does not answer."""

    def scores(self, trainer, module, stage):
        raise ValueError("no answer")


def test_an_evaluator_that_fails_costs_no_training(tmp_path, capsys):
    sae = TopK(D_IN, k=2, d_sae=16)
    quiet = {
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "accelerator": "cpu",
        "max_epochs": 1,
        "log_every_n_steps": 1,
    }
    logger = MemberTensorBoardLogger(str(tmp_path), "runs")
    trainer = Trainer(callbacks=[Fails(every_n_validations=0), Checkpoints()], logger=logger, **quiet)
    with pytest.raises(ValueError, match="no answer"):
        trainer.fit(sae, Stream(n=4))
    told = capsys.readouterr().err
    path = tmp_path / "runs/version_0/checkpoints/last.ckpt"
    assert f"--ckpt_path {path}" in told
    saved = torch.load(path, weights_only=True)
    assert saved["global_step"] == 4
    assert saved["state_dict"]["W_dec"].equal(sae.W_dec)
