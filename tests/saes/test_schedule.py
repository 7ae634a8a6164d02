import pytest
import torch
from training import D_IN, SaveAt, fit

from sae_lightning.saes import TopK, WarmupDecay
from sae_lightning.saes.schedule import warmed_up


def rates(total_steps, **kwargs):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=2.0)
    schedule = WarmupDecay(optimizer, **kwargs)
    schedule.span(total_steps)
    seen = []
    for _ in range(total_steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return seen


def test_rises_stays_and_falls():
    assert rates(10, warmup=0.2, decay=0.4) == pytest.approx([1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 1.5, 1.0, 0.5])


def test_without_either_it_is_constant():
    assert rates(5, warmup=0.0, decay=0.0) == [2.0] * 5


@pytest.mark.parametrize("fractions", [{"warmup": -0.1}, {"warmup": 0.6, "decay": 0.6}])
def test_impossible_fractions(fractions):
    with pytest.raises(ValueError, match="expected (a number from 0 to 1|two fractions of the run)"):
        rates(5, **fractions)


def test_a_run_spans_it_and_a_checkpoint_holds_it(tmp_path):
    def module():
        return TopK(D_IN, d_sae=64, k=4, lr_scheduler=lambda optimizer: WarmupDecay(optimizer, decay=0.5))

    whole, resumed = module(), module()
    trainer = fit(whole, tmp_path, callbacks=[SaveAt(6, tmp_path / "6.ckpt")])
    assert trainer.optimizers[0].param_groups[0]["lr"] == 0.0
    assert whole.lr_schedulers().total_steps == 8
    torch.load(tmp_path / "6.ckpt", weights_only=True)
    fit(resumed, tmp_path, ckpt_path=tmp_path / "6.ckpt")
    for name, tensor in resumed.state_dict().items():
        assert torch.equal(tensor, whole.state_dict()[name]), name


def test_warmed_up():
    assert [warmed_up(step, 4) for step in (0, 1, 4, 9)] == [0.0, 0.25, 1.0, 1.0]
    assert warmed_up(0, 0) == 1.0
