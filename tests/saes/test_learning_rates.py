"""Learning rates of their own for policies: each member trains as it would alone at its rate."""

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.loggers import CSVLogger
from training import D_IN, SaveAt, Stream, fit

from sae_lightning.family import SAEFamily
from sae_lightning.freeze import FrozenDecoder, FrozenEncoder, NoFreeze
from sae_lightning.members import Member
from sae_lightning.panel import SanityPanel
from sae_lightning.saes import BatchTopK, WarmupDecay

POLICIES = {"trained": NoFreeze(), "frozen_decoder": FrozenDecoder(), "frozen_encoder": FrozenEncoder()}
RATES = {"frozen_decoder": 0.01, "frozen_encoder": 0.02}


def adam(rate):
    return lambda parameters: torch.optim.Adam(parameters, lr=rate)


def decay(optimizer):
    return WarmupDecay(optimizer, decay=0.5)


def sae(d_in=D_IN, rate=1e-3, **kwargs):
    return BatchTopK(d_in, d_sae=64, k=4, optimizer=adam(rate), lr_scheduler=decay, **kwargs)


def panel(learning_rates=RATES):
    return SanityPanel(D_IN, sae, POLICIES, seeds=[0, 1], learning_rates=learning_rates)


def test_each_member_trains_as_it_would_alone_at_its_rate(tmp_path):
    trained = panel()
    trainer = fit(trained, tmp_path, gradient_clip_val=0.3)
    assert [group["name"] for group in trainer.optimizers[0].param_groups] == [
        "all others", "frozen_decoder", "frozen_encoder"
    ]  # fmt: skip
    assert all(group["fused"] for group in trainer.optimizers[0].param_groups)
    for name, policy in POLICIES.items():
        alone = sae(rate=RATES.get(name, 1e-3), init=policy.default_init(), seed=1)
        fit(alone, tmp_path, callbacks=[type(policy)()], gradient_clip_val=0.3)
        for key, tensor in alone.state_dict().items():
            assert torch.equal(tensor, trained.members[Member(name, 1)].state_dict()[key]), (name, key)


def test_resume_goes_on_to_the_bit(tmp_path):
    whole, resumed = panel(), panel()
    fit(whole, tmp_path, callbacks=[SaveAt(5, tmp_path / "5.ckpt")])
    torch.load(tmp_path / "5.ckpt", weights_only=True)
    fit(resumed, tmp_path, ckpt_path=tmp_path / "5.ckpt")
    for name, tensor in resumed.state_dict().items():
        assert torch.equal(tensor, whole.state_dict()[name]), name


@pytest.mark.parametrize("other", [{}, {"frozen_encoder": 0.02, "trained": 0.01}])
def test_a_resume_that_divides_the_parameters_otherwise_is_refused(other, tmp_path):
    fit(panel(), tmp_path, callbacks=[SaveAt(5, tmp_path / "5.ckpt")])
    with pytest.raises(ValueError, match=r"model.learning_rates: the parameters are in the groups"):
        fit(panel(other), tmp_path, ckpt_path=tmp_path / "5.ckpt")


def test_a_resume_at_another_rate_applies_it(tmp_path):
    fit(panel(), tmp_path, callbacks=[SaveAt(2, tmp_path / "2.ckpt")])
    trainer = fit(panel({**RATES, "frozen_encoder": 0.04}), tmp_path, ckpt_path=tmp_path / "2.ckpt")
    assert trainer.lr_scheduler_configs[0].scheduler.base_lrs == [1e-3, 0.01, 0.04]


def test_the_monitor_names_them(tmp_path):
    trainer = Trainer(
        logger=CSVLogger(tmp_path), callbacks=[LearningRateMonitor("step")], max_epochs=1, log_every_n_steps=1,
        accelerator="cpu", enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
    )  # fmt: skip
    trainer.fit(panel(), Stream())
    assert trainer.callback_metrics["lr-Adam/frozen_encoder"] == pytest.approx(0.02 / 4)


def test_a_family_has_them_at_every_size(tmp_path):
    family = SAEFamily(
        D_IN, lambda d_in, *, expansion_factor: BatchTopK(d_in, k=4, expansion_factor=expansion_factor),
        [1, 4], {"frozen_decoder": FrozenDecoder()}, learning_rates={"trained": 0.1, "frozen_decoder": 0.2},
    )  # fmt: skip
    expected = {"x1": 0.1, "x1_frozen_decoder": 0.2, "x4": 0.1, "x4_frozen_decoder": 0.2}
    groups = fit(family, tmp_path).optimizers[0].param_groups
    assert {group["name"]: group["lr"] for group in groups} == expected
    for group in groups:
        own = {id(p) for p in family.members[Member(group["name"], 0)].parameters() if p.requires_grad}
        assert {id(p) for p in group["params"]} == own


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ({"nobody": 0.1}, r"learning_rates: \['nobody'\] not among the policies"),
        ({"trained": 0.0}, "learning_rates.trained=0.0: expected a finite number above 0"),
        ({"trained": float("nan")}, "learning_rates.trained=nan"),
    ],
)
def test_bad_arguments(rates, message):
    with pytest.raises(ValueError, match=message):
        panel(rates)


def test_bad_arguments_of_a_family():
    with pytest.raises(ValueError, match=r"learning_rates: \['x1'\] not among \['trained'\]"):
        SAEFamily(D_IN, sae, [1], learning_rates={"x1": 0.1})
