"""Transcoders in lone runs, panels and families, and a panel of an MLP of the pocket language model by command."""

import json
import re
from pathlib import Path

import pytest
import tiny
import torch
import yaml
from safetensors.torch import save_file
from training import D_IN, SaveAt, fit

from sae_lightning.cli import main
from sae_lightning.controls import RawDimensions
from sae_lightning.evaluators import Absorption, LinearMaps, Reconstruction
from sae_lightning.family import SAEFamily
from sae_lightning.figures.headlines import headline_tags
from sae_lightning.freeze import FrozenDecoder, FrozenEncoder, NoFreeze, SoftFrozenEncoder
from sae_lightning.members import Member
from sae_lightning.metrics import TokenLoss
from sae_lightning.panel import SanityPanel
from sae_lightning.report.provenance import provenance
from sae_lightning.runs import Run
from sae_lightning.saes import BatchTopK, SparseAutoencoder, TopK
from sae_lightning.saes.bias_init import Zero

CONFIG = Path(__file__).parents[1] / "configs/experiment/transcoder_pocket_lm.yaml"
WIDTHS, TARGETS = {"read": 3, "other": 1, "answer": 4}, {"read": "answer"}


def factory(d_in, **kwargs):
    return BatchTopK(d_in, **{"d_sae": 24, "k": 4, "scale_input": True, "skip": True} | kwargs)


def panel(**kwargs):
    return SanityPanel(D_IN, factory, widths=WIDTHS, targets=TARGETS, **kwargs)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A panel after eight steps, and its checkpoint after four."""
    folder = tmp_path_factory.mktemp("panel")
    module = panel()
    fit(module, folder, callbacks=[SaveAt(4, folder / "4.ckpt"), Reconstruction()], num_sanity_val_steps=0)
    return module, folder / "4.ckpt"


def test_a_lone_transcoder_trains_as_the_member_of_a_panel_and_a_resumed_one_goes_on(trained, tmp_path):
    module, checkpoint = trained
    assert [str(member) for member in module.members][:2] == ["read/trained/0", "read/frozen_decoder/0"]
    lone = BatchTopK(D_IN, d_sae=24, k=4, scale_input=True, skip=True, source="read", target="answer", widths=WIDTHS)
    fit(lone, tmp_path, callbacks=[NoFreeze()])
    resumed = panel()
    fit(resumed, tmp_path, ckpt_path=checkpoint, callbacks=[Reconstruction()])
    assert [str(member) for member in lone.members] == ["read/trained/0"]
    for name, tensor in module.members[Member("trained", 0, "read")].state_dict().items():
        assert torch.equal(tensor, lone.state_dict()[name]), name
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    other = SanityPanel(D_IN, factory, widths={"read": 3, "answer": 1, "other": 4}, targets={"read": "other"})
    with pytest.raises(ValueError, match="answers_at=other, it has answer"):
        fit(other, tmp_path, ckpt_path=checkpoint, callbacks=[Reconstruction()])


def test_frozen_directions_have_the_covariance_of_their_own_side():
    samples = torch.randn(4096, D_IN, generator=torch.Generator().manual_seed(0))
    samples[:, 0] *= 30
    samples[:, 4] *= 30
    module = SanityPanel(
        D_IN, lambda d_in, d_out: TopK(d_in, d_sae=64, k=4, d_out=d_out), widths=WIDTHS, targets=TARGETS
    )
    module.initialise_members(samples)
    for policy, matched in (("trained", False), ("frozen_decoder", True), ("frozen_encoder", True)):
        sae = module.members[Member(policy, 0, "read")]
        assert sae.W_enc.shape == (3, 64)
        for rows in (sae.W_enc.T, sae.W_dec):
            assert bool(rows[:, 0].abs().mean() > 0.9) == matched, policy
    trained = module.members[Member("trained", 0, "read")]
    assert not torch.equal(trained.W_enc.T[:, :3], trained.W_dec[:, :3]), "two spaces have no draw in common"
    torch.testing.assert_close(trained.b_dec, samples[:, 4:].mean(0), atol=0.5, rtol=0)
    assert FrozenEncoder().default_init() is None, "of SAEs it is that of the paper, isotropic"


def test_a_family_of_transcoders_has_sizes_of_one_pair_of_hooks(tmp_path):
    def sized(d_in, *, expansion_factor, d_out):
        return TopK(d_in, expansion_factor=expansion_factor, k=2, d_out=d_out)

    policies = {"frozen_decoder": FrozenDecoder(), "soft_frozen_encoder": SoftFrozenEncoder()}
    family = SAEFamily(D_IN, sized, (2, 4), policies, widths=WIDTHS, targets=TARGETS)
    fit(family, tmp_path, n=2)
    sizes = {member.policy: (sae.d_in, sae.d_sae, sae.d_out) for member, sae in family.members.items()}
    assert sizes["x2"] == (3, 6, 4)
    assert sizes["x4_soft_frozen_encoder"] == (3, 12, 4)
    frozen = family.members[Member("x4_frozen_decoder", 0, "read")]
    assert torch.equal(frozen.W_dec, frozen.W_dec_start)


def test_what_cannot_be_meant_is_refused(tmp_path):
    with pytest.raises(ValueError, match="Absorption takes what an SAE answers"):
        fit(panel(), tmp_path, callbacks=[Absorption()])
    with pytest.raises(ValueError, match="LinearMaps: what an SAE reads is what it answers"):
        fit(TopK(D_IN, d_sae=16, k=2), tmp_path, callbacks=[LinearMaps(rank=2)])
    with pytest.raises(ValueError, match="targets: read -> nowhere, and the data have the hooks read, other, answer"):
        SanityPanel(D_IN, factory, widths=WIDTHS, targets={"read": "nowhere"})
    with pytest.raises(ValueError, match="targets: read answers at itself"):
        SanityPanel(D_IN, factory, widths=WIDTHS, targets={"read": "read"})
    TopK(3, d_sae=8, k=2).save(tmp_path / "sae")
    TopK(3, d_sae=8, k=2, d_out=3, b_dec_init=Zero()).save(tmp_path / "narrow")
    own = TopK(3, d_sae=8, k=2, d_out=4, b_dec_init=Zero())
    own.save(tmp_path / "own")
    for key, name, message in (
        ("read/one", "sae", "is an SAE, which gives back what it reads, and with targets members are transcoders"),
        ("read/one", "narrow", "has d_out=3, and the activations at the target have 4"),
        ("one", "own", "one reads one hook, and the data have read: say which, read/one"),
        ("answer/one", "own", "answer/one reads answer, and the data have read"),
    ):
        with pytest.raises(ValueError, match=message):
            panel(references={key: str(tmp_path / name)})
    with pytest.raises(ValueError, match=r"is a transcoder: name the hook that it reads .* model.targets:"):
        SanityPanel(3, policies={}, references={"one": str(tmp_path / "own")})
    with pytest.raises(ValueError, match="RawDimensions is a control of SAEs, and this is a transcoder"):
        panel(references={"read/one": str(tmp_path / "own")}, controls={"raw": RawDimensions()})
    with pytest.raises(ValueError, match="a transcoder in a panel without targets"):
        SanityPanel(D_IN, lambda d_in: TopK(d_in, d_sae=8, k=2, d_out=4))


QUIET = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu", "log_every_n_steps": 1}
SIZES = {
    "context_length": 32, "llm_batch_size": 8, "batch_size": 128, "train_samples": 512, "val_samples": 512,
    "loss_samples": 512, "buffer_samples": 1024,
}  # fmt: skip
NULLS = {
    "gaussian": {"class_path": "GaussianMatched", "init_args": {"samples_per_dimension": 4}},
}
PAIRS = {f"{null}mlp_in": f"{null}mlp_out" for null in ("", "gaussian_")}
EVALUATORS = [
    {"class_path": "LinearMaps", "init_args": {"rank": 8, "samples_per_dimension": 20}},
    {"class_path": "LossRecovered", "init_args": {"min_gap_nats": 1e-6}},
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The experiment of the configuration for four steps, with nulls of both hooks together."""
    sae = {"expansion_factor": 0.5, "k": 8, "skip": True}
    options = {f"data.{name}": value for name, value in SIZES.items()}
    options |= {f"trainer.{name}": value for name, value in QUIET.items()}
    options |= {f"model.init_args.sae.init_args.{name}": value for name, value in sae.items()}
    options |= {"model.init_args.seeds": [0], "model.init_args.targets": PAIRS, "data.nulls": NULLS}
    folder = tmp_path_factory.mktemp("runs")
    options |= {
        "trainer.callbacks": EVALUATORS,
        "trainer.logger.save_dir": str(folder),
        "trainer.val_check_interval": 1.0,
    }
    typed = {name: value if isinstance(value, str) else json.dumps(value) for name, value in options.items()}
    main(["fit", f"--config={CONFIG}", *(f"--{name}={value}" for name, value in typed.items())])
    return Run(folder / "transcoder_pocket_lm/version_0")


def test_the_command_compares_with_baselines_linear_maps_and_nulls(run):
    values = {str(tag): members for tag, members in run.measurements.values.items()}
    explained = values["explained_variance@mlp_in"]
    assert {member.policy for member in explained} == {
        "trained", "frozen_decoder", "soft_frozen_decoder", "frozen_encoder", "linear_map", "linear_map_of_rank",
    }  # fmt: skip
    trained, linear, low_rank = (
        float(explained[Member(name, 0, "mlp_in")]) for name in ("trained", "linear_map", "linear_map_of_rank")
    )
    assert 0 < low_rank < linear < 1
    null = float(values["explained_variance@gaussian_mlp_in"][Member("trained", 0, "gaussian_mlp_in")])
    for name, reference in (("linear_map", linear), ("gaussian", null)):
        beyond = float(values[f"explained_variance_beyond_{name}@mlp_in"][Member("trained", 0, "mlp_in")])
        assert beyond == pytest.approx(trained - reference, abs=1e-6)
    assert "explained_variance_by_skip@mlp_in" in values
    assert "ce_recovered_linear@mlp_in" in values
    assert "ce_recovered_linear@gaussian_mlp_in" not in values, "of a null there is no loss to recover"
    member, map_ = Member("trained", 0, "mlp_in"), Member("linear_map", 0, "mlp_in")
    mean, linear = (float(values[f"kl_{name}@mlp_in"][member]) for name in ("mean", "linear"))
    assert float(values["kl_recovered_mean@mlp_in"][map_]) == pytest.approx(1 - linear / mean, abs=1e-6)
    assert map_ not in values["kl_recovered_linear@mlp_in"]
    assert (run.folder / "saes/gaussian_mlp_in/trained/0/sae.json").is_file()


def test_headlines_of_transcoders_are_beyond_the_linear_map_too_and_about_predictions(run):
    """Without one MLP a model may lose too little cross-entropy to divide by."""
    tags = [tag for tag in headline_tags([run.measurements]) if tag.part == "mlp_in"]
    by_question = {}
    for tag in tags:
        by_question.setdefault(run.measurements.metric(tag).question.name, []).append(tag.metric)
    assert by_question == {
        "explain": ["explained_variance", "explained_variance_beyond_linear_map"],
        "loss": ["kl_recovered_mean"],
    }


def test_a_transcoder_stands_in_for_the_mlp(run):
    """Its answer to what the MLP reads, put where the MLP answers by a hook of the test's own."""
    member, datamodule = Member("trained", 0, "mlp_in"), run.datamodule()
    sae = run.load(member)
    loss = TokenLoss()
    model = datamodule.source.model
    for inputs in datamodule.validation_inputs():
        clean = model(input_ids=inputs.input_ids).logits

        def answer(module, args, output, mask=inputs.mask):
            output = output.clone()
            output[mask] = sae(args[0][mask])
            return output

        handle = model.model.layers[2].mlp.register_forward_hook(answer)
        logits = model(input_ids=inputs.input_ids).logits
        handle.remove()
        loss.update(logits, clean, inputs.input_ids, inputs.mask)
    values = {str(tag): members for tag, members in run.measurements.values.items()}
    measured = float(values["ce_reconstruction@mlp_in"][member])
    assert measured == pytest.approx(float(loss.compute()["ce"]), abs=1e-4)
    assert abs(measured - float(values["ce_clean@mlp_in"][member])) > 1e-3


def test_exported_transcoders_say_what_they_read_and_answer(run, capsys):
    sae = SparseAutoencoder.load(run.folder / "saes/mlp_in/frozen_encoder/0")
    assert sae.is_transcoder
    torch.testing.assert_close(torch.cosine_similarity(sae.W_enc.T, sae.W_enc_start), torch.ones(sae.d_sae))
    assert sae.provenance["activations"]["hook"] == "model.layers.2.post_attention_layernorm"
    assert sae.provenance["target"]["hook"] == "model.layers.2.mlp"
    main(["explain", str(run.folder), "mlp_in/trained/0", "3", "--n_tokens=256"])
    said = " ".join(capsys.readouterr().out.split())
    assert "A transcoder: reads model.layers.2.post_attention_layernorm, answers at model.layers.2.mlp" in said
    ends = "read mlp_in (model.layers.2.post_attention_layernorm), answer at mlp_out (model.layers.2.mlp)"
    assert dict(provenance(run))["Hooks"] == ends, "of the nulls nothing"


def test_a_transcoder_is_written_for_another_library_and_compared(run, capsys, tmp_path):
    where = run.folder / "saes/mlp_in/trained/0"
    main(["export", str(where), "--format=saelens", f"--out={tmp_path / 'out'}"])
    said = capsys.readouterr().out
    assert "a BatchTopK is a JumpReLU in the files" in said
    assert "read back: the same latents and reconstructions" in said
    assert json.loads((tmp_path / "out/cfg.json").read_text())["architecture"] == "jumprelu_skip_transcoder"


def test_inspect_measures_a_transcoder_at_two_hooks(run, capsys, tmp_path):
    where, config = str(run.folder / "saes/mlp_in/trained/0"), f"--config={run.folder / 'config.yaml'}"
    main(["inspect", where, config, "--n_tokens=512", f"--out={tmp_path / 'found.json'}"])
    said, found = capsys.readouterr().out, json.loads((tmp_path / "found.json").read_text())
    assert re.search(r"reads +model.layers.2.post_attention_layernorm\n", said)
    assert re.search(r"answers at +model.layers.2.mlp\n", said)
    values = {str(tag): members for tag, members in run.measurements.values.items()}
    measured, member = found["measured"], Member("trained", 0, "mlp_in")
    assert measured["explained_variance"] == pytest.approx(float(values["explained_variance@mlp_in"][member]), abs=1e-4)
    assert measured["l0"] == pytest.approx(float(values["l0@mlp_in"][member]), abs=0.01)
    recovered = float(values["ce_recovered_mean@mlp_in"][member])
    assert measured["loss_recovered"] == pytest.approx(recovered, abs=1e-4)
    assert found["target"] == "model.layers.2.mlp"


def test_inspect_measures_a_transcoder_on_two_files(run, capsys, tmp_path):
    where = run.folder / "saes/mlp_in/trained/0"
    sae = SparseAutoencoder.load(where)
    x = torch.randn(300, sae.d_in)
    save_file({"x": x, "other": x + 1}, tmp_path / "x.safetensors")
    save_file({"y": sae(x)}, tmp_path / "y.safetensors")
    sides = [f"--activations={tmp_path / 'x.safetensors'}", "--key=x"]
    main(["inspect", str(where), *sides, f"--target_activations={tmp_path / 'y.safetensors'}"])
    assert re.search(r"explained variance of the target +1\.00000", capsys.readouterr().out)
    save_file({"y": sae(x)[1:]}, tmp_path / "y.safetensors")
    for options, message in (
        ([*sides, f"--target_activations={tmp_path / 'y.safetensors'}"], "has 300 and --target_activations 299"),
        (sides, "is a transcoder: give what it is to answer with"),
        (["--model=m", "--text=t", "--hook=h"], "say what it reads with --hook, and where it answers with --target"),
    ):
        with pytest.raises(SystemExit):
            main(["inspect", str(where), *options])
        assert message in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:.* is withheld")  # what a model of random weights does without its MLP
def test_a_lone_transcoder_reads_both_hooks_from_a_cache(tmp_path, capsys):
    """Matryoshka with AuxK by the command; what it exports is measured again at the hooks that it names."""
    sizes = {"batch_size": 64, "train_samples": 1024, "val_samples": 128, "loss_samples": 128, "buffer_samples": 256}
    data = tiny.save_lm_data(tmp_path, 200, context_length=16, llm_batch_size=4, **sizes)
    hooks = {"mlp_in": "model.layers.1.post_attention_layernorm", "mlp_out": "model.layers.1.mlp"}
    data["init_args"]["hook"] = hooks
    (tmp_path / "data.yaml").write_text(yaml.safe_dump({"data": data}))
    main(["cache", f"--config={tmp_path / 'data.yaml'}", f"--out={tmp_path / 'cache'}"])
    sae = {"d_sae": 48, "k": 3, "aux_coefficient": 0.1, "dead_after_samples": 128, "scale_input": True, "skip": True}
    options = {f"model.{name}": value for name, value in sae.items()}
    options |= {"model.source": "mlp_in", "model.target": "mlp_out", "data.path": str(tmp_path / "cache")}
    options |= {f"data.{name}": sizes[name] for name in ("batch_size", "train_samples", "val_samples")}
    options |= {f"trainer.{name}": value for name, value in QUIET.items()}
    maps = {"class_path": "LinearMaps", "init_args": {"rank": 2, "samples_per_dimension": 20}}
    options |= {"trainer.callbacks": [maps]}
    options |= {"name": "lone", "trainer.logger.save_dir": str(tmp_path / "runs")}
    typed = {name: value if isinstance(value, str) else json.dumps(value) for name, value in options.items()}
    main(["fit", "--model=MatryoshkaBatchTopK", "--data=CachedActivations",
          *(f"--{name}={value}" for name, value in typed.items())])  # fmt: skip
    run = Run(tmp_path / "runs/lone/version_0")
    member = Member("trained", 0, "mlp_in")
    values = {str(tag): members for tag, members in run.measurements.values.items()}
    assert "explained_variance_by_skip@mlp_in" in values
    own = run.load(member)
    assert own.threshold > 0
    assert [own.provenance[side]["hook"] for side in ("activations", "target")] == list(hooks.values())
    ends = f"read mlp_in ({hooks['mlp_in']}), answer at mlp_out ({hooks['mlp_out']})"
    assert dict(provenance(run))["Hooks"] == ends
    capsys.readouterr()
    main(["inspect", str(run.sae_folder(member)), f"--config={tmp_path / 'data.yaml'}", "--n_tokens=128",
          f"--out={tmp_path / 'found.json'}"])  # fmt: skip
    measured = json.loads((tmp_path / "found.json").read_text())["measured"]
    assert measured["explained_variance"] == pytest.approx(
        float(values["explained_variance@mlp_in"][member]), abs=0.01
    ), "of the model and of the cache, which rounds"
