"""Crosscoders in lone runs and panels, their baselines, and a panel of two layers of the pocket model by command."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from torch.nn.functional import normalize
from torch.utils.data import DataLoader
from training import D_IN, Batches, SaveAt, fit

from sae_lightning.cli import main
from sae_lightning.evaluators import Absorption, CrosscoderParts, Reconstruction
from sae_lightning.freeze import FrozenDecoder, FrozenEncoder, NoFreeze, SeparateParts, SoftFrozenDecoder, TiedAtRandom
from sae_lightning.members import Member
from sae_lightning.panel import SanityPanel
from sae_lightning.report.directions import direction_records
from sae_lightning.runs import Run
from sae_lightning.saes import BatchTopK, DataPoints, SparseAutoencoder, TopK
from sae_lightning.saes.crosscoder import norm_shares
from sae_lightning.saes.record import provenance_of, record_of

CONFIG = Path(__file__).parents[1] / "configs/experiment/crosscoder_pocket_lm.yaml"
WIDTHS = {"early": 5, "late": 3}
QUIET = {
    "accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False,
    "enable_model_summary": False,
}  # fmt: skip
EARLY, LATE = slice(0, 5), slice(5, 8)
POLICIES = {
    "trained": NoFreeze,
    "frozen_decoder": FrozenDecoder,
    "frozen_in_late": lambda: FrozenDecoder("late"),
    "soft_frozen_decoder": SoftFrozenDecoder,
    "tied_at_random": TiedAtRandom,
    "separate_parts": SeparateParts,
    "frozen_encoder": FrozenEncoder,
}


def factory(d_in, **kwargs):
    return BatchTopK(d_in, d_sae=24, k=4, **kwargs)


def panel(names=tuple(POLICIES), sae=factory):
    policies = {name: POLICIES[name]() for name in names}
    return SanityPanel(D_IN, sae, policies, widths=WIDTHS, crosscoder=True)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A panel after eight steps, its checkpoint after four, and what was measured of it."""
    folder = tmp_path_factory.mktemp("panel")
    module, evaluator, policies = panel(), CrosscoderParts(), SanityPanel.configure_callbacks
    # A checkpoint is written when policies have done their work.
    module.configure_callbacks = lambda: [*policies(module), SaveAt(4, folder / "4.ckpt")]
    fit(module, folder, callbacks=[evaluator, Reconstruction()], num_sanity_val_steps=0)
    return module, folder / "4.ckpt", evaluator


def test_a_lone_crosscoder_trains_as_the_member_of_a_panel_and_a_resumed_panel_goes_on(trained, tmp_path):
    module, checkpoint, _ = trained
    lone = BatchTopK(D_IN, d_sae=24, k=4, crosscoder=True, widths=WIDTHS)
    fit(lone, tmp_path, callbacks=[NoFreeze()])
    resumed = panel()
    fit(resumed, tmp_path, ckpt_path=checkpoint, callbacks=[CrosscoderParts(), Reconstruction()])
    for name, tensor in module.members[Member("trained", 0)].state_dict().items():
        assert torch.equal(tensor, lone.state_dict()[name]), name
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_baselines_keep_what_they_keep_in_the_parts_that_they_are_of(trained):
    saes = {member.policy: sae for member, sae in trained[0].members.items()}
    for policy, sae in saes.items():
        torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.ones(24), msg=policy)
    frozen = saes["frozen_decoder"]
    assert torch.equal(frozen.W_dec, frozen.W_dec_start)
    late = saes["frozen_in_late"]
    assert torch.equal(late.W_dec[:, LATE], late.W_dec_start[:, LATE])
    assert torch.cosine_similarity(late.W_dec[:, EARLY], late.W_dec_start[:, EARLY]).min() < 0.9999
    tied, leader = (normalize(saes[name].W_dec[:, LATE], dim=1) for name in ("tied_at_random", "trained"))
    cosines = tied @ leader.T
    partner = cosines.argmax(1)
    torch.testing.assert_close(cosines.amax(1), torch.ones(24))
    assert sorted(partner.tolist()) == list(range(24)) != partner.tolist()
    first = torch.cosine_similarity(saes["tied_at_random"].W_dec[:, EARLY], saes["trained"].W_dec[:, EARLY])
    torch.testing.assert_close(first, torch.ones(24))
    separate = saes["separate_parts"]
    for number, (own, other) in enumerate(((EARLY, LATE), (LATE, EARLY))):
        assert separate.W_dec[number::2, own].norm(dim=1).min() > 0.999
        assert not separate.W_dec[number::2, other].any()
        assert not separate.W_enc[other, number::2].any()


def test_random_ties_are_drawn_once_and_kept(trained, tmp_path, monkeypatch):
    module, checkpoint, _ = trained
    tied = Member("tied_at_random", 0)
    rows, of_leader = (normalize(module.members[one].W_dec[:, LATE], dim=1) for one in (tied, Member("trained", 0)))
    partners = provenance_of(module, tied, record_of(module))["drawn_by_policy"]
    assert partners == {"late": (rows @ of_leader.T).argmax(1).tolist()}
    drawn = []
    monkeypatch.setattr(torch, "randperm", lambda n, **_: drawn.append(n) or torch.arange(n))  # as another version may
    resumed = panel()
    fit(resumed, tmp_path, ckpt_path=checkpoint, callbacks=[CrosscoderParts(), Reconstruction()])
    assert drawn == [24]
    assert torch.equal(resumed.members[tied].W_dec, module.members[tied].W_dec)
    assert resumed.members[tied].drawn_by_policy == partners


def test_frozen_directions_have_the_covariance_of_scaled_parts():
    samples = torch.randn(4096, D_IN, generator=torch.Generator().manual_seed(0))
    samples[:, 0] *= 30
    samples[:, LATE] = 100 * samples[:, :1] * torch.tensor([1.0, 0, 0]) + samples[:, LATE]
    module = panel(("trained", "frozen_decoder", "frozen_encoder"))
    module.initialise_members(samples)
    for policy, matched in (("trained", False), ("frozen_decoder", True), ("frozen_encoder", True)):
        rows = module.members[Member(policy, 0)].W_dec
        both = rows[:, 0] * rows[:, 5] > 0.4
        assert bool(both.float().mean() > 0.9) == matched, f"{policy}: what goes with what in the other part"


def test_planted_features_are_found_with_their_share_and_random_ties_lose(tmp_path):
    """Four features of both parts, two of each alone; the later part is seven times as large."""
    generator = torch.Generator().manual_seed(1)
    early, late = (normalize(torch.randn(8, 8, generator=generator), dim=1) for _ in range(2))
    early[6:], late[4:6] = 0, 0
    features = torch.cat([early, 7 * late], 1)

    def samples(n):
        active = torch.rand(n, 8, generator=generator) < 0.12
        return (active * (0.5 + torch.rand(n, 8, generator=generator))) @ features

    def member(d_in, **kwargs):
        def adam(parameters):
            return torch.optim.Adam(parameters, lr=1e-2)

        return BatchTopK(d_in, d_sae=16, k=1, init=DataPoints(), optimizer=adam, **kwargs)

    policies = {name: POLICIES[name]() for name in ("trained", "tied_at_random")}
    module = SanityPanel(16, member, policies, widths={"early": 8, "late": 8}, crosscoder=True)
    evaluators = [CrosscoderParts(), Reconstruction()]
    trainer = Trainer(default_root_dir=tmp_path, max_epochs=1, callbacks=evaluators, num_sanity_val_steps=0, **QUIET)
    trainer.fit(module, DataLoader(samples(128 * 80), 128), DataLoader(samples(1024), 1024))
    sae = module.members[Member("trained", 0)]
    cosines = normalize(features * sae.input_scale, dim=1) @ sae.W_dec.T
    assert cosines.amax(1).min() > 0.95
    share = norm_shares(sae.W_dec, sae.columns)[0][cosines.argmax(1)]
    torch.testing.assert_close(share, torch.tensor([0.5] * 4 + [1.0] * 2 + [0.0] * 2), atol=0.15, rtol=0)
    measured = {name: scores.members for one in evaluators for name, scores in one.measured.items()}
    for part in ("early", "late"):
        explained = {member.policy: float(value) for member, value in measured[f"explained_variance_of_{part}"].items()}
        assert explained["trained"] > 0.95
        assert explained["tied_at_random"] < 0.9
    from_late = measured["explained_variance_of_early_from_late"]
    assert float(from_late[Member("trained", 0)]) > 0.2 > 0 > float(from_late[Member("tied_at_random", 0)])


def test_what_one_part_alone_gives_is_decoded_for_the_other(trained):
    module, _, evaluator = trained
    sae = module.members[Member("trained", 0)].eval()
    x = torch.cat(list(Batches(2, 32, 2)))
    kept = x.clone()
    kept[:, EARLY] = (sae.b_dec / sae.input_scale)[EARLY].detach()
    error = (x - sae(kept))[:, EARLY].square().sum()
    wanted = 1 - error / (x - x.mean(0))[:, EARLY].square().sum()
    measured = evaluator.measured["explained_variance_of_early_from_late"].members[Member("trained", 0)]
    assert float(measured) == pytest.approx(float(wanted), abs=1e-5)
    [shares] = [one for one in evaluator.latent_scores if one.name == "norm_share_of_late"]
    of_latents = shares.members[Member("frozen_decoder", 0)]
    fires = ~of_latents.isnan()
    sae = module.members[Member("frozen_decoder", 0)]
    norms = sae.W_dec_start[:, EARLY].norm(dim=1), sae.W_dec_start[:, LATE].norm(dim=1)
    torch.testing.assert_close(of_latents[fires], (norms[1] / (norms[0] + norms[1]))[fires])
    assert set(sae.eval().encode(x).indices.tolist()) == set(fires.nonzero()[:, 0].tolist())


def test_what_cannot_be_meant_is_refused(tmp_path):
    def refuses(words, **kwargs):
        with pytest.raises(ValueError, match=words):
            SanityPanel(D_IN, **{"sae": factory, "widths": WIDTHS, "crosscoder": True} | kwargs)

    def crosscoder(d_in):
        return factory(d_in, crosscoder=True, widths=WIDTHS)

    refuses("crosscoder=true and one activation without parts", widths=None)
    refuses("members are crosscoders or transcoders", targets={"early": "late"})
    refuses("references and controls are SAEs, and members are crosscoders", references={"published": str(tmp_path)})
    refuses("a crosscoder in a panel without crosscoder=true", sae=crosscoder, crosscoder=False, widths=None)
    with pytest.raises(ValueError, match="Absorption takes an SAE of one place"):
        fit(panel(), tmp_path, callbacks=[Absorption()])
    with pytest.raises(ValueError, match="CrosscoderParts: an SAE of one hook has no parts"):
        fit(TopK(D_IN, d_sae=16, k=2), tmp_path, callbacks=[CrosscoderParts()])
    for policy, words in (
        (FrozenDecoder("nowhere"), "FrozenDecoder.part=nowhere: expected one of several parts of a crosscoder, early"),
        (TiedAtRandom(), "TiedAtRandom takes the decoder of another member"),
    ):
        with pytest.raises(ValueError, match=words):
            policy.hold(crosscoder(D_IN))
    with pytest.raises(ValueError, match="SeparateParts is about what parts have to do with each other"):
        SeparateParts().hold(TopK(D_IN, d_sae=16, k=2))
    for policy in ("frozen_in_late", "separate_parts", "tied_at_random"):
        module = panel(("trained", policy), sae=partial(factory, unit_norm_decoder=False))
        with pytest.raises(ValueError, match="has unit_norm_decoder=false: train it with unit_norm_decoder=true"):
            fit(module, tmp_path)
    with pytest.raises(ValueError, match="TiedAtRandom follows trained/0, whose whole decoder"):
        fit(panel(("tied_at_random",)), tmp_path)


SIZES = {
    "context_length": 32, "llm_batch_size": 8, "batch_size": 128, "train_samples": 256, "val_samples": 256,
    "loss_samples": 256, "buffer_samples": 512,
}  # fmt: skip
SHOWN = ("trained", "separate_parts")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The experiment of the configuration for two steps."""
    folder = tmp_path_factory.mktemp("runs")
    options = {f"data.{name}": value for name, value in SIZES.items()}
    options |= {f"trainer.{name}": QUIET[name] for name in ("enable_progress_bar", "enable_model_summary")}
    options |= {"model.init_args.sae.init_args.expansion_factor": 0.25, "model.init_args.sae.init_args.k": 8}
    options["model.init_args.policies"] = {name: {"class_path": POLICIES[name].__name__} for name in SHOWN}
    options["trainer.callbacks"] = [{"class_path": "CrosscoderParts", "init_args": {"samples_per_dimension": 5}}]
    options |= {"model.init_args.seeds": [0], "trainer.log_every_n_steps": 1, "trainer.logger.save_dir": str(folder)}
    typed = {name: value if isinstance(value, str) else json.dumps(value) for name, value in options.items()}
    main(["fit", f"--config={CONFIG}", *(f"--{name}={value}" for name, value in typed.items())])
    return Run(folder / "crosscoder_pocket_lm/version_0")


def test_the_command_measures_parts_and_what_one_tells_of_the_other(run):
    values = {str(tag): members for tag, members in run.measurements.values.items()}
    policies = {member.policy for member in values["explained_variance_of_late"]}
    assert policies == set(SHOWN)
    linear = float(values["explained_variance_of_late_from_early"][Member("linear_map", 0)])
    assert 0.5 < linear < 1, "two layers of one residual stream"
    shares = [float(values[f"norm_share_of_{part}"][Member("trained", 0)]) for part in ("early", "late")]
    assert sum(shares) == pytest.approx(1)


def test_exported_crosscoders_say_which_parts_they_are_of(run, capsys):
    member = Member("trained", 0)
    sae = SparseAutoencoder.load(run.sae_folder(member))
    hooks = {"early": "model.layers.1", "late": "model.layers.2"}
    assert sae.provenance["activations"]["hook"] == hooks
    kept = run.of_latents("norm_share_of_late", member)
    latent = int(np.flatnonzero(np.isfinite(kept))[0])
    [record] = direction_records(run, member, sae, None, [latent])
    assert [part for part, _ in record["parts"]] == list(hooks)
    assert record["parts"][1][1] == pytest.approx(float(kept[latent]), abs=1e-3)
    main(["explain", str(run.folder), "trained/0", str(latent), "--n_tokens=256"])
    said = " ".join(capsys.readouterr().out.split())
    assert "A crosscoder of early (model.layers.1), late (model.layers.2); of the norm of this latent's" in said
    assert f"{float(kept[latent]):.0%} in late" in said
    assert "not in the residual stream" not in said
    with pytest.raises(SystemExit):
        main(["inspect", str(run.sae_folder(member))])
    assert "a crosscoder reads and answers at several" in capsys.readouterr().err
