import json

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from training import D_IN, SaveAt, Stream, fit

from sae_lightning.cli import main
from sae_lightning.family import SAEFamily
from sae_lightning.freeze import FrozenDecoder, FrozenEncoder
from sae_lightning.members import Member
from sae_lightning.panel import parameter_hash
from sae_lightning.saes import BatchTopK, CovarianceMatched, Isotropic, SparseAutoencoder, TopK


def factory(d_in, /, *, expansion_factor):
    return BatchTopK(d_in, k=4, expansion_factor=expansion_factor)


def family(**kwargs):
    policies = {"frozen_decoder": FrozenDecoder(), "frozen_encoder": FrozenEncoder()}
    kwargs = {"expansion_factors": [1, 4], "policies": policies, "policy_factors": [4], **kwargs}
    return SAEFamily(D_IN, factory, **kwargs)


def started(**kwargs):
    """Return a family whose policies all start as the trained SAE does."""
    made = family(inits={"frozen_decoder": Isotropic()}, **kwargs)
    made.initialise_members(torch.randn(4096, D_IN) + 1)
    return made


def test_members_and_sizes():
    saes = family(seeds=[0, 1]).members
    kinds = ["x1", "x4", "x4_frozen_decoder", "x4_frozen_encoder"]
    members = [Member(kind, seed) for kind in kinds for seed in (0, 1)]
    assert list(saes) == members
    assert {member: sae.d_sae for member, sae in saes.items()} == {m: 8 if m.policy == "x1" else 32 for m in members}
    assert {(sae.policy_name, sae.seed) for sae in saes.values()} == {(m.policy, m.seed) for m in members}
    assert [*family(policy_factors=None).members][1:3] == [
        Member("x1_frozen_decoder", 0), Member("x1_frozen_encoder", 0)
    ]  # fmt: skip


def test_policies_start_where_their_size_does_and_sizes_elsewhere():
    saes = started(seeds=[0, 1]).members
    hashes = {str(member): parameter_hash(sae) for member, sae in saes.items()}
    assert hashes["x4/0"] == hashes["x4_frozen_decoder/0"] == hashes["x4_frozen_encoder/0"]
    assert len({hashes["x1/0"], hashes["x1/1"], hashes["x4/0"], hashes["x4/1"]}) == 4
    cosines = saes[Member("x1", 0)].W_dec @ saes[Member("x4", 0)].W_dec.T
    assert cosines.abs().max() < 0.999
    assert (TopK(D_IN, k=2, d_sae=8).W_dec @ TopK(D_IN, k=2, d_sae=32).W_dec.T).max() > 0.999  # why that is needed


def test_each_member_trains_as_it_would_alone(tmp_path):
    trained = family(seeds=[3])
    fit(trained, tmp_path)
    alone = BatchTopK(D_IN, k=4, expansion_factor=4.0, init=CovarianceMatched())
    alone.initialise(3 * 1_000_003 + 32, Stream().calibration_sample(4096))
    fit(alone, tmp_path, callbacks=[FrozenDecoder()])
    for name, tensor in alone.state_dict().items():
        assert torch.equal(tensor, trained.members[Member("x4_frozen_decoder", 3)].state_dict()[name]), name


def test_resume_goes_on_to_the_bit(tmp_path):
    whole, resumed = (family(inits={"frozen_decoder": CovarianceMatched()}) for _ in range(2))
    fit(whole, tmp_path, callbacks=[SaveAt(4, tmp_path / "4.ckpt")])
    fit(resumed, tmp_path, ckpt_path=tmp_path / "4.ckpt")
    for name, tensor in resumed.state_dict().items():
        assert torch.equal(tensor, whole.state_dict()[name]), name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"expansion_factors": []}, "one size or more"),
        ({"expansion_factors": [2, 2], "policy_factors": [2]}, "each once"),
        ({"expansion_factors": [0, 1]}, "expansion_factors=0: expected a whole number, 1 or more"),
        ({"policy_factors": [3]}, r"policy_factors: \[3\] not among"),
        ({"inits": {"nobody": CovarianceMatched()}}, "nobody"),
        ({"policies": {"a/b": FrozenDecoder()}}, "becomes a folder"),
        ({"policies": {"trained": FrozenDecoder()}}, "trained is what each size is"),
        ({"seeds": []}, "one seed"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        family(**arguments)


COMMAND = ["--data=SyntheticDataModule", "--data.d_in=8", "--data.n_features=32", "--data.batch_size=64"]
COMMAND += ["--data.train_samples=512", "--data.val_samples=128", "--model=SAEFamily", "--model.sae=BatchTopK"]
COMMAND += ["--model.expansion_factors=[1,2]", "--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"]


def test_command(tmp_path, capsys):
    policies = "--model.policies={frozen_decoder: {class_path: FrozenDecoder}}"
    arguments = [*COMMAND, policies, "--trainer.log_every_n_steps=1", f"--trainer.logger.save_dir={tmp_path}"]
    main(["fit", *arguments, "--model.sae.init_args.k=4", "--name=run"])
    run = tmp_path / "run/version_0"
    members = {"x1": 8, "x1_frozen_decoder": 8, "x2": 16, "x2_frozen_decoder": 16}
    for name, d_sae in members.items():
        assert SparseAutoencoder.load(run / "saes" / name / "0").d_sae == d_sae
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert set(last["metrics"]["explained_variance"]) == set(members)
    assert "x2_" in capsys.readouterr().out
    assert last["sizes"] == {name: [name[:2], name[3:] or "trained"] for name in members}
    verdict = json.loads((run / "verdict.json").read_text())["metrics"]
    assert list(verdict)[:2] == ["explained_variance@x1", "explained_variance@x2"]
    values = last["metrics"]["explained_variance"]
    assert verdict["explained_variance@x2"]["trained"] == pytest.approx(values["x2"]["0"])
    [baseline] = verdict["explained_variance@x2"]["baselines"].items()
    assert baseline[0] == "frozen_decoder"
    assert baseline[1]["value"] == pytest.approx(values["x2_frozen_decoder"]["0"])
    main(["report", str(run), "--latents", "0"])
    page = (run / "report.html").read_text()
    assert "Against the Frozen Decoder it" in page
    assert "Explained variance (x2)" in page
    assert "baselines of its own size" in page
    main(["fit", *arguments, "--model.sae.init_args.k=2", "--name=other"])
    main(["report", str(run), str(tmp_path / "other/version_0"), "--latents", "0"])
    at_a_glance = (
        (run / "report.html").read_text().partition("one metric for each question")[2].partition("</table>")[0]
    )
    assert "x2 Frozen Decoder" in at_a_glance
    events = EventAccumulator(str(run / "verdict"))
    events.Reload()
    assert events.Tags()["images"] == ["verdict"]
    assert "verdict/trained_explained_variance@x2" in events.Tags()["scalars"]
    checkpoint = str(run / "checkpoints/last.ckpt")
    main(["validate", f"--config={run / 'config.yaml'}", f"--ckpt_path={checkpoint}"])
    main(["compare", "--all", str(run)])
    assert "x2_frozen_decoder" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model.sae.init_args.d_sae=32", "--model.sae.init_args.k=4"], ["give exactly one"]),
        (["--model.sae.init_args.k=40"], ["k=40", "d_sae=8"]),
        (["--freeze=FrozenDecoder", "--model.sae.init_args.k=4"], ["beside a SAEFamily"]),
    ],
)
def test_wrong_input(arguments, words, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["fit", *COMMAND, *arguments, f"--trainer.logger.save_dir={tmp_path}"])
    assert stop.value.code == 2
    message = capsys.readouterr().err
    for word in words:
        assert word in message
