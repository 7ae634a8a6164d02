"""A panel trained from Python on a tensor, and what it found as pandas frames."""

import inspect
import os

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer

import sae_lightning
from sae_lightning import ActivationTensors, FrozenDecoder, Run, SanityPanel, SeedAgreement, TopK, train
from sae_lightning.callbacks import ExportSAEs, MetricsFile
from sae_lightning.evaluators import Reconstruction
from sae_lightning.loggers import RunFolder
from sae_lightning.members import Member, Tag
from sae_lightning.verdict import decide

D_IN = 8
QUIET = {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False, "log_every_n_steps": 4}


def data():
    generator = torch.Generator().manual_seed(0)
    codes = torch.rand(640, 16, generator=generator) * (torch.rand(640, 16, generator=generator) < 0.1)
    return ActivationTensors(codes @ torch.randn(16, D_IN, generator=generator), batch_size=64)


def topk(d_in):
    return TopK(d_in, k=2, d_sae=16)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    panel = SanityPanel(D_IN, topk, seeds=[0, 1])
    where = RunFolder(str(tmp_path_factory.mktemp("runs")), "mine")
    return train(panel, data(), callbacks=[SeedAgreement()], logger=where, max_epochs=2, **QUIET)


def test_the_run_has_what_a_command_leaves(run):
    assert sorted(os.listdir(run.folder)) == [
        "checkpoints",
        "items.safetensors",
        "latents.safetensors",
        "metrics.jsonl",
        "saes",
        "verdict.json",
    ]
    assert run.is_fit
    assert run.last.step == 18
    loaded = run.load(Member("trained", 1))
    data().refuse_sae_of_others(loaded, "trained/1")
    assert loaded.provenance["activations"]["activations"] == data().describe_activations()[""]["activations"]


def test_the_table_has_every_value(run):
    table = run.table()
    measured = run.measurements
    assert len(table) == sum(map(len, measured.values.values()))
    row = table.set_index(["metric", "policy", "seed"]).loc[("explained_variance", "frozen_decoder", 1)]
    member = Member("frozen_decoder", 1)
    assert row["value"] == measured.values[Tag("explained_variance")][member]
    assert row["floor"] == measured.floor(Tag("explained_variance"))
    assert (row["better"], row["part"]) == ("higher", "")


def test_the_verdict_is_that_of_the_tables(run):
    verdict = run.verdict().set_index(["metric", "baseline"])
    comparisons = decide([run.measurements])
    assert len(verdict) == len(comparisons) > 0
    for comparison in comparisons:
        row = verdict.loc[(str(comparison.tag), comparison.baseline)]
        assert row["verdict"] == comparison.verdict
        assert row["trained"] == comparison.trained
        assert row["low"] == pytest.approx(comparison.difference.low, nan_ok=True) or not comparison.has_interval


def test_latents_stand_by_member(run):
    latents = run.latents()
    assert len(latents) == 2 * 4 * 16
    stability = latents["stability"].loc[("", "trained", 1)]
    assert np.array_equal(stability, run.of_latents("stability", Member("trained", 1)), equal_nan=True)


def test_a_plain_trainer_and_a_lone_sae(tmp_path):
    """The same classes without `train`; and a run without baselines or latents says so."""
    callbacks = [FrozenDecoder(), Reconstruction(), MetricsFile(), ExportSAEs()]
    where = RunFolder(str(tmp_path), "plain")
    Trainer(max_epochs=1, logger=where, callbacks=callbacks, enable_checkpointing=False, **QUIET).fit(
        topk(D_IN), data()
    )
    run = Run(where.save_dir)
    assert set(run.table()["policy"]) == {"frozen_decoder"}
    with pytest.raises(ValueError, match="has no verdict: nothing was measured beside which"):
        run.verdict()
    with pytest.raises(ValueError, match="no evaluator has measured single latents"):
        run.latents()
    (run.folder / "verdict.json").write_text("{}")
    with pytest.raises(ValueError, match="verdict.json is damaged"):
        run.verdict()


def test_what_does_not_fit_is_refused_before_training(tmp_path):
    with pytest.raises(ValueError, match="the data have d_in=8 and the model d_in=4"):
        train(topk(4), data(), logger=RunFolder(str(tmp_path)))
    plain = inspect.unwrap(train)  # without the type checks of the tests
    for arguments, message in (
        ((data(), SanityPanel(D_IN, topk)), "model is of type ActivationTensors: expected an SAE or a SanityPanel"),
        ((SanityPanel(D_IN, topk), torch.zeros(8, D_IN)), "data is of type Tensor: expected a datamodule"),
        (
            (SanityPanel(D_IN, topk), data(), "x", SeedAgreement()),
            "callbacks is of type SeedAgreement: expected",
        ),
        ((SanityPanel(D_IN, topk), data(), "x", [SeedAgreement]), r"callbacks\[0\] is the class SeedAgreement"),
    ):
        with pytest.raises(ValueError, match=message):
            plain(*arguments)
    with pytest.raises(ValueError, match="this run has no folder"):
        train(topk(D_IN), data(), logger=False, **QUIET)
    assert not os.listdir(tmp_path)


def test_public_names_are_those_of_their_rooms():
    for name in sae_lightning.__all__:
        assert getattr(sae_lightning, name) is not None
        assert name in dir(sae_lightning)
    with pytest.raises(AttributeError, match="module 'sae_lightning' has no attribute 'TopJ'"):
        _ = sae_lightning.TopJ
