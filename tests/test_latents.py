"""A dictionary whose latents lie on several ranks trains as one on one process, up to the order of sums."""

import pytest
import torch
from fit_in_server import call, fit
from latent_ranks import cases, train_all
from lightning.pytorch import Trainer

from sae_lightning.evaluators import Recovery
from sae_lightning.runs import Run
from sae_lightning.saes import SparseAutoencoder, TopK
from sae_lightning.saes.optimizers import refuse_unless_elementwise

CLOSE = {torch.float64: 1e-10, torch.float32: 1e-6}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("latents")
    for ranks in (2, 1, 4):
        assert call(train_all, folder, folder, ranks, ranks=ranks) == [0] * ranks, (folder / "output-0.txt").read_text()
    return lambda ranks, what: torch.load(folder / f"{ranks}-{what}.pt", weights_only=True)


@pytest.mark.parametrize("name", [name for name, *_ in cases()])
@pytest.mark.parametrize(("ranks", "dtype"), [(2, torch.float64), (2, torch.float32), (4, torch.float64)])
def test_ranks_train_what_one_process_trains(results, name, ranks, dtype):
    one, several = (results(n, dtype)[name] for n in (1, ranks))
    assert several["dead"] == one["dead"]
    for what in ("losses", "gradients", "state", "out"):
        assert several[what].keys() == one[what].keys()
        for key, value in one[what].items():
            difference = (several[what][key] - value).abs().max()
            assert difference <= CLOSE[dtype] * value.abs().max().clamp_min(1), f"{what} {key}"


def test_auxk_and_clipping_had_something_to_do(results):
    of_topk = results(1, torch.float64)["topk"]
    assert of_topk["dead"] > 0
    assert any(key.endswith("/aux") for key in of_topk["losses"])


@pytest.mark.parametrize("name", [name for name, *_ in cases()])
@pytest.mark.parametrize("ranks", [1, 4])
def test_shards_of_two_ranks_are_read_by_any_number(results, name, ranks):
    written, read = results(2, torch.float64)[name]["state"], results(ranks, name)
    assert written.keys() == read.keys()
    assert all(torch.equal(written[key], read[key]) for key in written)


CONFIG = """
model:
  class_path: BatchTopK
  init_args:
    {{d_sae: 90, k: 4, dead_after_samples: 100, lr_scheduler: WarmupDecay, scale_input: true, skip: true,
      source: read, target: answer}}
data:
  class_path: SyntheticDataModule
  init_args: {{d_in: 12, d_answer: 9, n_features: 40, batch_size: 32, train_samples: 960, val_samples: 128}}
freeze: SoftFrozenDecoder
trainer: {{accelerator: cpu, enable_progress_bar: false, gradient_clip_val: 1.0, logger: false{callbacks}}}
"""
STOPPING = ", callbacks: [{class_path: fit_in_server.RaiseSignal, init_args: {name: SIGTERM}}]"
SPLIT = ("--trainer.strategy", "latents", "--trainer.devices")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A transcoder on one process, and on two ranks, stopped and resumed on one process and on four ranks."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "whole.yaml").write_text(CONFIG.format(callbacks=""))
    (folder / "stopped.yaml").write_text(CONFIG.format(callbacks=STOPPING))
    checkpoint = folder / "lightning_logs" / "stopped" / "version_0" / "checkpoints" / "interrupted.ckpt"
    resumed = ("--ckpt_path", str(checkpoint))
    for name, ranks, code, arguments in [
        ("whole", 1, 0, ()),
        ("stopped", 2, 143, (*SPLIT, "2")),
        ("on_one", 1, 0, resumed),
        ("on_four", 4, 0, (*resumed, *SPLIT, "4")),
    ]:
        config = "stopped.yaml" if name == "stopped" else "whole.yaml"
        codes = fit(folder, config, "--name", name, *arguments, ranks=ranks)
        assert codes == [code] * ranks, (folder / "output-0.txt").read_text()
    return {name: Run(folder / "lightning_logs" / name / "version_0") for name in ("whole", "on_one", "on_four")}


@pytest.mark.parametrize("name", ["on_one", "on_four"])
def test_a_split_run_goes_on_with_another_number_of_ranks(runs, name):
    saes = [SparseAutoencoder.load(runs[each].folder / "saes/read/soft_frozen_decoder/0") for each in ("whole", name)]
    (whole, resumed), (expected, found) = saes, [sae.state_dict() for sae in saes]
    assert whole.settings() == resumed.settings()
    for key in expected:
        torch.testing.assert_close(found[key], expected[key], rtol=1e-5, atol=1e-5, msg=key)
    measured = [runs[each].measurements.values for each in ("whole", name)]
    for tag, values in measured[0].items():
        for member, value in values.items():
            assert measured[1][tag][member] == pytest.approx(value, abs=1e-3), tag


def test_what_reads_whole_saes_is_refused(monkeypatch):
    monkeypatch.setattr(TopK, "n_latent_ranks", 2)
    with pytest.raises(ValueError, match=r"trainer.strategy=latents: Recovery reads whole SAEs.*on one process"):
        Recovery().setup(Trainer(logger=False, enable_checkpointing=False), TopK(4, d_sae=8, k=2), "fit")


def test_what_would_train_another_sae_is_refused():
    weights = [torch.zeros(2, 2, requires_grad=True)]
    refuse_unless_elementwise(torch.optim.AdamW(weights))
    with pytest.raises(ValueError, match=r"optimizer=Adafactor with latents on several ranks.*torch.optim.Adam"):
        refuse_unless_elementwise(torch.optim.Adafactor(weights))


def test_a_part_of_an_sae_is_not_saved_as_one(tmp_path):
    sae = TopK(4, d_sae=8, k=2)
    sae.mesh.size = 2
    with pytest.raises(ValueError, match="on all ranks"):
        sae.save(tmp_path)
