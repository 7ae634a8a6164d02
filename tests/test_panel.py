import inspect

import pytest
import torch
from lightning.pytorch import Callback
from training import D_IN, VARIANTS, SaveAt, fit

from sae_lightning.evaluators import Reconstruction
from sae_lightning.freeze import FrozenDecoder, FrozenEncoder, NoFreeze, SoftFrozenDecoder
from sae_lightning.members import Member
from sae_lightning.panel import SanityPanel, parameter_hash
from sae_lightning.saes import BatchTopK, CovarianceMatched, DataPoints, Isotropic, JumpReLU, TopK

POLICIES = (NoFreeze, FrozenDecoder, SoftFrozenDecoder, FrozenEncoder)


def factory(variant=TopK, **kwargs):
    return lambda d_in: variant(d_in, d_sae=64, **kwargs)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.__name__)
def test_each_member_trains_as_it_would_alone(variant, tmp_path):
    clipping = {"gradient_clip_val": 0.3}
    panel = SanityPanel(D_IN, factory(variant), seeds=[0, 3])
    fit(panel, tmp_path, **clipping)
    for policy in POLICIES:
        alone = variant(D_IN, d_sae=64, seed=3, init=policy().default_init())
        fit(alone, tmp_path, callbacks=[policy()], **clipping)
        member = panel.members[Member(policy.name, 3)]
        for name, tensor in alone.state_dict().items():
            assert torch.equal(tensor, member.state_dict()[name]), (policy.name, name)


def test_each_member_is_clipped_by_itself():
    panel = SanityPanel(D_IN, factory())
    parameters = {member: dict(sae.named_parameters()) for member, sae in panel.members.items()}
    sizes = {member: 10.0**i for i, member in enumerate(parameters)}

    def clip(algorithm):
        for member, own in parameters.items():
            for parameter in own.values():
                parameter.grad = torch.full_like(parameter, sizes[member])
        panel.configure_gradient_clipping(torch.optim.SGD(panel.parameters(), lr=0.1), 5.0, algorithm)
        return {member: [parameter.grad for parameter in own.values()] for member, own in parameters.items()}

    for member, gradients in clip("value").items():
        assert all((gradient == min(sizes[member], 5.0)).all() for gradient in gradients)
    for gradients in clip("norm").values():
        norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
        assert norm == pytest.approx(5.0, rel=1e-4)


def test_members_read_a_part_as_they_would_alone(tmp_path):
    logged = {}
    once = {"log_every_n_steps": 1, "num_sanity_val_steps": 0}

    class Log(Callback):
        def on_validation_end(self, trainer, module):
            logged.update(trainer.callback_metrics)

    panel = SanityPanel(D_IN, factory(BatchTopK, k=4, init=CovarianceMatched()), widths={"a": 4, "b": 4})
    assert list(panel.members)[::4] == [Member("trained", 0, "a"), Member("trained", 0, "b")]
    fit(panel, tmp_path, callbacks=[Reconstruction(), Log()], **once)
    panel_logged = {**logged}
    for part, columns in (("a", slice(0, 4)), ("b", slice(4, 8))):
        alone = BatchTopK(len(range(D_IN)[columns]), d_sae=64, k=4, init=CovarianceMatched())
        fit(alone, tmp_path, callbacks=[Reconstruction(), Log()], columns=columns, **once)
        for name, tensor in alone.state_dict().items():
            assert torch.equal(tensor, panel.members[Member("trained", 0, part)].state_dict()[name]), (part, name)
        for chart in ("val/explained_variance", "val/cosine", "train/loss"):
            assert panel_logged[f"{chart}@{part}/trained/0"] == logged[f"{chart}/trained/0"]
        for chart in ("val/explained_variance", "val/cosine"):
            assert panel_logged[f"{chart}@{part}/floor"] == logged[f"{chart}/floor"]


def test_members_of_one_seed_start_equal_and_seeds_differ(tmp_path):
    everything = {"frozen_decoder": Isotropic()}
    panel = SanityPanel(D_IN, factory(), seeds=[0, 1], inits=everything)
    panel.initialise_members(torch.randn(4096, D_IN) + 1)
    hashes = {member: parameter_hash(sae) for member, sae in panel.members.items()}
    assert len({value for member, value in hashes.items() if member.seed == 0}) == 1
    assert len(set(hashes.values())) == 2
    assert len(hashes) == 8


def test_unequal_starts_are_refused(tmp_path):
    class Restless(TopK):
        draws = 0

        def initialise(self, seed, samples=None):
            super().initialise(seed, samples)
            Restless.draws += 1
            with torch.no_grad():
                self.b_enc.fill_(Restless.draws)

    with pytest.raises(RuntimeError, match="does not start from the parameters"):
        fit(SanityPanel(D_IN, lambda d_in: Restless(d_in, d_sae=64, k=4)), tmp_path)


def test_a_frozen_decoder_starts_as_in_the_paper_and_a_policy_may_have_a_start_of_its_own(tmp_path):
    panel = SanityPanel(D_IN, factory(BatchTopK, k=4), inits={"frozen_encoder": DataPoints()})
    trainer = fit(panel, tmp_path)
    for policy, init in (("frozen_decoder", CovarianceMatched()), ("frozen_encoder", DataPoints())):
        expected = BatchTopK(D_IN, d_sae=64, k=4, init=init)
        expected.initialise(0, trainer.datamodule.calibration_sample(4096))
        assert torch.equal(panel.members[Member(policy, 0)].W_dec_start, expected.W_dec)
    assert torch.equal(panel.members[Member("trained", 0)].W_dec_start, BatchTopK(D_IN, d_sae=64, k=4).W_dec)


def test_data_dependent_start_is_shared(tmp_path):
    panel = SanityPanel(D_IN, factory(JumpReLU))
    fit(panel, tmp_path)
    scales = {float(sae.input_scale) for sae in panel.members.values()}
    assert len(scales) == 1
    assert scales != {1.0}


def test_resume_goes_on_to_the_bit(tmp_path):
    checkpoint = SaveAt(4, tmp_path / "4.ckpt")
    whole, resumed = (SanityPanel(D_IN, factory(BatchTopK, k=4)) for _ in range(2))
    fit(whole, tmp_path, callbacks=[checkpoint])
    torch.load(tmp_path / "4.ckpt", weights_only=True)
    fit(resumed, tmp_path, ckpt_path=tmp_path / "4.ckpt")
    for name, tensor in resumed.state_dict().items():
        assert torch.equal(tensor, whole.state_dict()[name]), name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seeds": []}, "expected one policy and one seed"),
        ({"seeds": [1, 1]}, "each once"),
        ({"policies": {}}, "expected one policy"),
        ({"policies": {"a/b": NoFreeze()}}, "becomes a folder"),
        ({"inits": {"nobody": CovarianceMatched()}}, "nobody"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        SanityPanel(D_IN, factory(), **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sae": TopK(D_IN, d_sae=64, k=4)}, "sae is one TopK that is made already: expected what makes one"),
        ({"seeds": 3}, r"seeds is of type int: expected a list of whole numbers, such as \[0, 1, 2\]"),
        ({"policies": [NoFreeze()]}, "policies is of type list: expected policies by name"),
        ({"policies": {"trained": NoFreeze}}, r"policies\['trained'\] is the class NoFreeze: expected a policy"),
    ],
)
def test_arguments_of_another_kind(arguments, message):
    make = inspect.unwrap(SanityPanel.__init__)  # without the type checks of the tests
    with pytest.raises(ValueError, match=message):
        make(SanityPanel.__new__(SanityPanel), D_IN, **{"sae": factory(), **arguments})


def test_a_diverged_member_is_named(tmp_path):
    with pytest.raises(
        ValueError, match=r"trained/0 at step \d+: the loss became (nan|inf).*: lower the learning rate"
    ):
        fit(
            SanityPanel(D_IN, factory(optimizer=lambda parameters: torch.optim.SGD(parameters, lr=1000.0))),
            tmp_path,
            n=40,
            log_every_n_steps=1,
        )


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda: TopK(D_IN, d_sae=64, k=4), "has the SAEs"),
        (
            lambda: SanityPanel(D_IN, lambda d_in: TopK(d_in, d_sae=32, k=4)),
            "d_sae=32, but the checkpoint has d_in=8 and d_sae=64",
        ),
    ],
)
def test_a_checkpoint_of_something_else_is_refused(other, message, tmp_path):
    fit(SanityPanel(D_IN, factory(k=4)), tmp_path, callbacks=[SaveAt(1, tmp_path / "1.ckpt")])
    with pytest.raises(ValueError, match=message):
        fit(other(), tmp_path, ckpt_path=tmp_path / "1.ckpt")
