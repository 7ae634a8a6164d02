"""How far a training loss still falls, for curves whose answer is known, and in runs of the trainer."""

import math

import pytest
import torch
from training import D_IN, SaveAt, fit

from sae_lightning.panel import SanityPanel
from sae_lightning.saes import BatchTopK, TopK, WarmupDecay
from sae_lightning.saes.loss_curve import LossCurve


def curve_of(loss, n_steps=400, rate=lambda done: 1.0, until=1.0):
    """Return the curve of a loss that is a function of the share of the run that is done, as is the learning rate."""
    curve = LossCurve(n_steps, 1)
    for step in range(int(n_steps * until)):
        done = (step + 0.5) / n_steps
        curve.add(step, torch.tensor([loss(done)]), rate(done))
    return curve


def decays_at(share):
    return lambda done: min(1.0, (1 - done) / (1 - share))


def test_a_flat_loss_does_not_fall():
    assert curve_of(lambda done: 3.0).fall().item() == 0


def test_a_straight_line_falls_by_its_slope():
    # from 2 to 1: on average 1.15 in the last tenth but one and 1.05 in the last
    assert curve_of(lambda done: 2 - done).fall().item() == pytest.approx(0.1 / 1.15, rel=1e-2)


def test_one_batch_with_an_outlier_does_not_decide():
    def loss(done):
        return 1000.0 if 0.95 < done < 0.9525 else 2 - done

    curve = curve_of(loss)
    assert curve.fall().item() == pytest.approx(0.1 / 1.15 - math.log(1000) / 40, abs=0.02)
    assert curve.last_tenth().item() < 1.3  # 26 on average


def test_the_curve_of_an_older_checkpoint_is_read():
    curve = curve_of(lambda done: 2 - done, until=0.5)
    state = curve.state_dict()
    counts = torch.tensor(state["counts"]).unsqueeze(1)
    old = {"sums": counts * (state.pop("log_sums") / counts.clamp_min(1)).exp(), **state}
    assert LossCurve.of(old).fall().item() == pytest.approx(curve.fall().item())


def test_a_loss_that_rises_has_a_negative_fall():
    assert curve_of(lambda done: 1 + done).fall().item() == pytest.approx(-0.1 / 1.85, rel=1e-2)


@pytest.mark.parametrize("share", [0.8, 0.7, 0.5, 0.85])
def test_what_the_decay_of_the_learning_rate_brings_is_not_counted(share):
    def loss(done):
        return 1.0 if done < share else 0.5

    assert curve_of(loss, rate=decays_at(share)).fall().item() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("share", [0.8, 0.5])
def test_a_loss_that_a_decay_stops_is_not_taken_for_one_that_converged(share):
    def loss(done):
        return 2 - min(done, share)

    before, last = 2 - (share - 0.15), 2 - (share - 0.05)
    assert curve_of(loss, rate=decays_at(share)).fall().item() == pytest.approx(1 - last / before, rel=0.15)


def test_under_a_schedule_that_falls_all_along_it_is_the_end_that_counts():
    def cosine(done):
        return (1 + math.cos(math.pi * done)) / 2

    assert curve_of(lambda done: 2 - done, rate=cosine).fall().item() == pytest.approx(0.1 / 1.15, rel=1e-2)


def test_a_warmup_is_not_the_highest_rate():
    fall = curve_of(lambda done: 2 - done, rate=lambda done: min(1.0, done / 0.3)).fall()
    assert fall.item() == pytest.approx(0.1 / 1.15, rel=1e-2)


@pytest.mark.parametrize("until", [0.0, 0.05, 0.15])
def test_there_is_none_before_two_tenths_of_a_run(until):
    assert curve_of(lambda done: 1.0, until=until).fall() is None


def test_in_the_midst_of_a_run_it_is_the_last_tenth_so_far():
    assert curve_of(lambda done: 2 - done, until=0.5).fall().item() == pytest.approx(0.1 / 1.65, rel=1e-2)


@pytest.mark.parametrize("n_steps", [1, 3, 10, 39, 41, 1001])
def test_any_number_of_steps(n_steps):
    fall = curve_of(lambda done: 2 - done, n_steps=n_steps).fall()
    assert fall is None if n_steps < 10 else fall.item() == pytest.approx(0.1 / 1.15, rel=0.3)


def test_members_are_apart():
    curve = LossCurve(100, 2)
    for step in range(100):
        curve.add(step, torch.tensor([1.0, 2 - (step + 0.5) / 100]), 1.0)
    assert curve.fall().tolist() == pytest.approx([0, 0.1 / 1.15], rel=1e-2)


def panel(**kwargs):
    return SanityPanel(D_IN, lambda d_in: BatchTopK(d_in, d_sae=64, k=4, **kwargs))


def test_a_run_keeps_the_losses_of_every_member(tmp_path):
    module, seen = panel(lr_scheduler=lambda optimizer: WarmupDecay(optimizer, decay=0.5)), []
    for sae in module.members.values():
        losses = sae.loss_terms

        def recorded(x, step, losses=losses):
            result = losses(x, step)
            seen.append(result["loss"].item())
            return result

        sae.loss_terms = recorded
    fit(module, tmp_path, n=40)
    expected = torch.tensor(seen, dtype=torch.float64).view(40, 4).log()
    torch.testing.assert_close(module.loss_curve.log_sums, expected)
    assert module.loss_curve.counts == [1] * 40
    assert module.loss_curve.rates[:22] == [*[1e-3] * 21, pytest.approx(0.95e-3)]
    assert module.loss_curve.rates[39] == pytest.approx(5e-5)
    torch.testing.assert_close(module.loss_curve.fall(), 1 - (expected[17:21].mean(0) - expected[13:17].mean(0)).exp())


def test_a_resumed_run_has_the_curve_of_a_whole_one(tmp_path):
    whole, resumed = panel(), panel()
    fit(whole, tmp_path, n=20, callbacks=[SaveAt(13, tmp_path / "13.ckpt")])
    torch.load(tmp_path / "13.ckpt", weights_only=True)
    fit(resumed, tmp_path, n=20, ckpt_path=tmp_path / "13.ckpt")
    assert torch.equal(resumed.loss_curve.log_sums, whole.loss_curve.log_sums)
    assert (resumed.loss_curve.counts, resumed.loss_curve.rates) == (whole.loss_curve.counts, whole.loss_curve.rates)


def test_a_second_fit_has_a_curve_of_its_own(tmp_path):
    sae = TopK(D_IN, d_sae=64, k=4)
    for _ in range(2):
        fit(sae, tmp_path, n=20)
        assert sum(sae.loss_curve.counts) == 20
