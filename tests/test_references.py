"""SAEs that are measured beside a panel and not trained, and their controls."""

import json

import pytest
import torch
import yaml
from lightning.pytorch import Trainer
from tiny import save_lm_data
from training import D_IN, SaveAt, Stream, fit

from sae_lightning.callbacks import ExportSAEs, MetricsFile
from sae_lightning.cli import main
from sae_lightning.controls import Control, Cost, RandomDecoder
from sae_lightning.evaluators import Convergence, Drift, Reconstruction, Sparsity
from sae_lightning.evaluators.sizes import same_sizes
from sae_lightning.family import SAEFamily
from sae_lightning.loggers import RunFolder
from sae_lightning.members import Member
from sae_lightning.panel import SanityPanel
from sae_lightning.runs import Run
from sae_lightning.saes import ReLU, SparseAutoencoder, TopK


class Shrunk(Control):
    """The SAE itself with a decoder of its own draw."""

    controls_for = "the size of decoder directions"
    is_random = True

    def new(self, sae):
        return TopK(sae.d_in, d_sae=sae.d_sae, k=3, unit_norm_decoder=False)

    def _fill(self, own, sae, x, y, l0, generator):
        self.seen = len(x), l0
        own.load_state_dict(sae.state_dict(), strict=False)
        own.W_dec.data *= torch.rand((), generator=generator)

    def cost(self, sae, n_samples, n_held_out, l0):
        return Cost()


class Plain(Shrunk):
    """One draw, with other sizes."""

    is_random = False

    def new(self, sae):
        return TopK(sae.d_in, d_sae=2 * sae.d_in, k=3)

    def _fill(self, own, sae, x, y, l0, generator):
        own.initialise(0)


@pytest.fixture
def published(tmp_path):
    sae = TopK(D_IN, d_sae=24, k=3, seed=7)
    sae.save(tmp_path / "published")
    return str(tmp_path / "published")


@pytest.fixture
def other(tmp_path):
    ReLU(D_IN, d_sae=12, seed=8).save(tmp_path / "other")
    return str(tmp_path / "other")


def small(d_in):
    return TopK(d_in, d_sae=16, k=2)


def measured(module, folder, command="validate", **kwargs):
    logger = RunFolder(str(folder), "runs", version="measured")
    evaluators = [Reconstruction(), Sparsity(), Drift(), Convergence(), MetricsFile(), ExportSAEs()]
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=logger,
        callbacks=evaluators,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        log_every_n_steps=1,
    )
    getattr(trainer, command)(module, datamodule=Stream(), **kwargs)
    return Run(folder / "runs" / "measured")


def test_references_change_nothing_of_training(published, tmp_path):
    alone, beside = SanityPanel(D_IN, small), SanityPanel(D_IN, small, references={"published": published})
    fit(alone, tmp_path / "alone")
    fit(beside, tmp_path / "beside", callbacks=[Reconstruction()], num_sanity_val_steps=0)
    for member, sae in alone.members.items():
        for name, tensor in sae.state_dict().items():
            assert torch.equal(tensor, beside.members[member].state_dict()[name]), (member, name)
    before, after = SparseAutoencoder.load(published), beside.members[Member("published", 0)]
    assert all(torch.equal(one, after.state_dict()[name]) for name, one in before.state_dict().items())
    assert not any("published" in name for name in beside.state_dict())


def test_nothing_is_trained_and_references_are_measured_with_their_controls(published, tmp_path):
    controls = {"shrunk": Shrunk(), "plain": Plain()}
    panel = SanityPanel(
        D_IN, policies={}, references={"published": published}, controls=controls, draws=2, control_samples=50
    )
    run = measured(panel, tmp_path)
    assert controls["shrunk"].seen == (50, 3.0)
    of_metric = {str(tag): values for tag, values in run.last.values.items()}
    members = [Member("published", 0), Member("shrunk", 0), Member("shrunk", 1), Member("plain", 0)]
    explained = of_metric["explained_variance"]
    assert list(explained) == members
    assert len({explained[member] for member in members}) == 4
    assert "cosine_to_start_mean" not in of_metric
    assert run.measurements.references == {"published": published}
    assert run.measurements.controls["shrunk"] == "the size of decoder directions"
    by_size = {str(tag): values for tag, values in run.measurements.by_size().values.items()}
    names = [f"{member.policy}/{member.seed}" for member in by_size["explained_variance@published"]]
    assert names == ["trained/0", "shrunk/0", "shrunk/1", "plain/0"]
    assert list(run.saes) == [Member("published", 0), Member("plain", 0), Member("shrunk", 0)]
    assert torch.equal(run.load(members[0]).W_dec, panel.members[members[0]].W_dec)
    assert run.load(members[1]).provenance["control"]["of"] == published


def test_controls_have_the_l0_of_held_out_data(tmp_path):
    sae = ReLU(D_IN, d_sae=24, seed=7)
    sae.b_enc.data.fill_(-1.0)  # on the training sample, which is three times as large, more latents are active
    sae.save(tmp_path / "published")
    control, references = Shrunk(), {"published": str(tmp_path / "published")}
    panel = SanityPanel(D_IN, policies={}, references=references, controls={"shrunk": control}, control_samples=50)
    run = measured(panel, tmp_path)
    [l0] = [values for tag, values in run.last.values.items() if str(tag) == "l0"]
    assert control.seen[1] == pytest.approx(l0[Member("published", 0)])


def test_each_reference_has_draws_of_its_own_which_are_the_same_in_each_run(published, other, tmp_path):
    def starts(name, **references):
        arguments = {"controls": {"random": RandomDecoder(codes="tied")}, "draws": 2, "control_samples": 50}
        panel = SanityPanel(D_IN, policies={}, references=references, **arguments)
        measured(panel, tmp_path / name)
        return {str(member): sae.W_dec for member, sae in panel.members.items()}

    TopK(D_IN, d_sae=24, k=3, seed=9).save(tmp_path / "same_shape")
    both = starts("both", a=published, b=str(tmp_path / "same_shape"))
    again = starts("again", published=published)
    assert torch.equal(again["random/1"], both["a_random/1"])
    assert not torch.equal(both["a_random/0"], both["a_random/1"])
    assert not torch.equal(both["a_random/0"], both["b_random/0"])


def test_trained_saes_and_references_with_controls_are_groups(published, other, tmp_path):
    paths = {"a": published, "b": other}
    panel = SanityPanel(D_IN, small, references=paths, controls={"plain": Plain()}, control_samples=50)
    assert panel.sizes["trained"] == ("remake", "trained")
    assert panel.sizes["a"] == ("a", "trained")
    assert panel.sizes["b_plain"] == ("b", "plain")
    sizes = {size.prefix: [str(member) for member in size.members] for size in same_sizes(panel)}
    trained = [str(member) for member in panel.trained_members]
    assert sizes == {"remake_": [*trained, "a_plain/0", "b_plain/0"], "a_": ["a/0"], "b_": ["b/0"]}


def test_a_resumed_fit_goes_on_beside_the_same_reference_alone(published, other, tmp_path):
    def panel(path):
        return SanityPanel(D_IN, small, references={"published": path})

    whole = panel(published)
    fit(whole, tmp_path / "whole", callbacks=[SaveAt(4, tmp_path / "half.ckpt")])
    resumed = panel(published)
    fit(resumed, tmp_path / "resumed", tmp_path / "half.ckpt")
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    with pytest.raises(ValueError, match=r"model.references.*published"):
        fit(panel(other), tmp_path / "swapped", tmp_path / "half.ckpt")


def test_a_family_has_references_beside_each_size(published, tmp_path):
    family = SAEFamily(
        D_IN,
        lambda d_in, expansion_factor: TopK(d_in, expansion_factor=expansion_factor, k=2),
        expansion_factors=[1, 2],
        references={"published": published},
    )
    run = measured(family, tmp_path, "fit")
    by_size = {str(tag): {member.policy for member in own} for tag, own in run.measurements.by_size().values.items()}
    assert by_size["explained_variance@x1"] == by_size["explained_variance@x2"] == {"trained", "published"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"policies": {}}, "policies="),
        ({"references": {"one": "PUBLISHED"}}, "no sae"),
        ({"policies": {}, "references": {"a-b": "PUBLISHED"}}, "letters, digits"),
        ({"policies": {}, "references": {"one": "PUBLISHED", "two": "PUBLISHED"}}, "one SAE, by content"),
        ({"policies": {}, "references": {"one": "PUBLISHED"}, "controls": {"one": Plain()}}, "is a reference, too"),
        ({"policies": {}, "references": {"hook/one": "PUBLISHED"}}, "reads hook"),
        ({"policies": {}, "references": {"one": "PUBLISHED"}, "draws": 0}, "draws=0"),
        ({"policies": {}, "references": {"one": "PUBLISHED"}, "controls": {"a": Shrunk()}, "draws": 1}, "expected 2"),
        ({"sae": small, "controls": {"plain": Plain()}}, "without references"),
        ({"sae": small, "references": {"trained": "PUBLISHED"}}, "is a policy, too"),
        ({"policies": {}, "references": {"one": "PUBLISHED"}, "widths": {"early": 8, "late": 8}}, "early/one"),
        ({"d_in": 9, "policies": {}, "references": {"one": "PUBLISHED"}}, "d_in=8, and the activations have 9"),
    ],
)
def test_what_cannot_be_measured_is_refused(arguments, words, published):
    arguments = {"d_in": D_IN} | arguments
    if "references" in arguments:
        arguments["references"] = {name: published for name in arguments["references"]}
    with pytest.raises(ValueError, match=words):
        SanityPanel(**arguments)


def test_fit_refuses_to_train_nothing(published, tmp_path):
    with pytest.raises(ValueError, match="sae validate"):
        fit(SanityPanel(D_IN, policies={}, references={"published": published}), tmp_path)


def test_command(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    TopK(16, d_sae=32, k=4).save(tmp_path / "published")
    data = save_lm_data(tmp_path, 60, batch_size=64, train_samples=256, val_samples=128, context_length=16)
    model = {"class_path": "SanityPanel", "init_args": {"policies": {}, "references": {"published": "published"}}}
    config = {"model": model, "data": data, "trainer": {"accelerator": "cpu", "logger": False}}
    (tmp_path / "check.yaml").write_text(yaml.safe_dump(config))
    main(["validate", "--config", "check.yaml"])
    assert "explained_variance" in capsys.readouterr().out
    [line] = next(tmp_path.rglob("metrics.jsonl")).read_text().splitlines()
    assert json.loads(line)["references"] == {"published": "published"}
    with pytest.raises(SystemExit):
        main(["fit", "--config", "check.yaml"])
    assert "sae validate" in capsys.readouterr().err
