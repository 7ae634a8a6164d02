"""What is given to `encode`, `decode`, the SAE itself and `losses` is checked, by every variant and what holds them."""

import copy

import jaxtyping
import pytest
import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader, TensorDataset
from training import VARIANTS

from sae_lightning.code import Code
from sae_lightning.freeze import FrozenDecoder, SoftFrozenDecoder
from sae_lightning.members import Member
from sae_lightning.panel import SanityPanel
from sae_lightning.saes import Gated, JumpReLU, ReLU, SparseAutoencoder, Stitched, TopK
from sae_lightning.saes.exported import ExportedSAEs
from sae_lightning.saes.inputs import activations_in, non_finite

D_IN, D_SAE = 8, 64
NAN, INF = float("nan"), float("inf")


@pytest.fixture(autouse=True)
def _without_type_checks():
    """As outside pytest, where the SAE alone looks at what it is given."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def started(variant, **kwargs):
    sae = variant(D_IN, d_sae=D_SAE, **kwargs)
    generator = torch.Generator().manual_seed(0)
    sae.initialise(0, torch.randn(max(sae.n_calibration_samples, 1), D_IN, generator=generator))
    sae.losses(torch.randn(32, D_IN, generator=generator), 0)
    return sae


@pytest.fixture(params=[*VARIANTS, Stitched], ids=lambda variant: variant.__name__)
def sae(request) -> SparseAutoencoder:
    if request.param is not Stitched:
        return started(request.param).eval()
    return Stitched(started(TopK, k=4), started(TopK, k=8), range(D_SAE), [1, 2])


@pytest.mark.parametrize("leading", [(), (1,), (6,), (2, 3), (2, 1, 3), (0,), (2, 0)], ids=str)
def test_any_leading_shape(sae, leading):
    x = torch.randn(*leading, D_IN)
    code = sae.encode(x)
    assert code.leading == leading
    assert code.to_dense().shape == (*leading, sae.d_sae)
    assert sae.decode(code).shape == sae(x).shape == x.shape
    flat = x.reshape(-1, D_IN)
    assert torch.equal(sae(x).reshape(-1, D_IN), sae(flat))
    torch.testing.assert_close(sae.decode(code.to_dense()), sae.decode(code))


def test_a_code_keeps_its_shape_through_changes(sae):
    code = sae.encode(torch.randn(2, 3, D_IN))
    assert code.with_values(2 * code.values).leading == (2, 3)
    assert code.where(code.values > 0).leading == (2, 3)
    assert sae.decode(code.where(code.values > 1e9)).shape == (2, 3, D_IN)


@pytest.mark.parametrize("shape", [(4, 7), (4, 9), (4, 16), (4, 48), (2, 3, 4), (), (4, 0)], ids=str)
def test_another_width_is_refused(sae, shape):
    """A matrix of another width once returned rows that were mixed."""
    x = torch.randn(shape)
    for method in (sae, sae.encode):
        with pytest.raises(ValueError, match=rf"^x has the shape \[.*\]: expected \[\.\.\., d_in={D_IN}\]$"):
            method(x)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.ones(4, D_IN, dtype=torch.int64), r"x holds torch.int64: expected floating-point numbers"),
        (torch.ones(4, D_IN, dtype=torch.bool), r"x holds torch.bool"),
        (torch.ones(4, D_IN, dtype=torch.complex64), r"x holds torch.complex64"),
        ([[0.0] * D_IN], r"x is of type list: expected a tensor \[..., d_in=8\]"),
        (torch.ones(4, D_IN, device="meta"), r"x is on meta and the SAE on cpu: move one of them"),
    ],
    ids=["int", "bool", "complex", "list", "device"],
)
def test_what_is_no_activation_is_refused(sae, x, message):
    for method in (sae, sae.encode):
        with pytest.raises(ValueError, match=message):
            method(x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_numbers_that_are_not_finite_are_refused_with_their_place(sae, dtype, value):
    x = torch.randn(2, 3, D_IN).to(dtype)
    assert sae(x).dtype == dtype
    x[1, 2, 5] = value
    for method in (sae, sae.encode):
        with pytest.raises(ValueError, match=rf"x has 1 number of 48 that is not finite, first {value} at \[1, 2, 5\]"):
            method(x)


def test_latents_of_another_sae_are_refused(sae):
    with pytest.raises(ValueError, match=f"the code has d_sae=4: expected that of this SAE, d_sae={sae.d_sae}"):
        sae.decode(Code.from_dense(torch.ones(2, 4)))
    with pytest.raises(ValueError, match=rf"latents has the shape \[2, 4\]: expected \[..., d_sae={sae.d_sae}\]"):
        sae.decode(torch.ones(2, 4))
    dense = torch.zeros(2, sae.d_sae)
    dense[1, 3] = NAN
    with pytest.raises(ValueError, match=r"latents has 1 number .* not finite, first nan at \[1, 3\]"):
        sae.decode(dense)
    with pytest.raises(ValueError, match="latents has 1 number .* not finite"):
        sae.decode(Code.from_dense(dense))


def test_large_finite_numbers_are_accepted(sae):
    assert non_finite(torch.full((1000, 8), 3e38)) == ""
    assert non_finite(torch.full((1000, 8), 65504.0, dtype=torch.float16)) == ""


def test_an_sae_without_a_start_says_so():
    sae = JumpReLU(D_IN, d_sae=D_SAE)
    for use in (sae, sae.encode, lambda x: sae.losses(x, 0)):
        with pytest.raises(ValueError, match=r"this JumpReLU has no start yet.* call initialise\(seed, samples\) with"):
            use(torch.randn(4, D_IN))
    sae.load_state_dict(started(JumpReLU).state_dict())
    assert sae(torch.randn(4, D_IN)).isfinite().all()


# Training in a loop of one's own
# ----------------------------------------------------------------------------------------------------------------------


@pytest.fixture(params=VARIANTS, ids=lambda variant: variant.__name__)
def variant(request):
    return request.param


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.SGD, torch.optim.AdamW], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("fused", [None, True], ids=["plain", "fused"])
def test_a_forgotten_constraint_is_an_error(variant, kind, fused):
    sae = started(variant)
    optimizer = kind(sae.parameters(), lr=1e-2, fused=fused)
    sae.losses(torch.randn(32, D_IN), 0)["loss"].backward()
    optimizer.step()
    with pytest.raises(ValueError, match=r"have changed since the last losses.* call sae.step\(optimizer\)"):
        sae.losses(torch.randn(32, D_IN), 1)
    with pytest.raises(ValueError, match="have changed since the last losses"):  # it is not forgotten again
        sae.losses(torch.randn(32, D_IN), 1)
    sae.constrain()
    sae.losses(torch.randn(32, D_IN), 1)["loss"].backward()
    sae.losses(torch.randn(32, D_IN), 1)["loss"].backward()  # nothing has changed: gradients add up
    sae.step(optimizer)
    sae.losses(torch.randn(32, D_IN), 2)


def test_a_small_step_is_not_overlooked_and_copies_start_anew():
    sae = started(TopK, k=4)
    optimizer = torch.optim.SGD(sae.parameters(), lr=1e-9)
    sae.losses(torch.randn(32, D_IN), 0)["loss"].backward()
    copied = copy.deepcopy(sae)
    optimizer.step()
    with pytest.raises(ValueError, match="have changed since the last losses"):
        sae.losses(torch.randn(32, D_IN), 1)
    copied.losses(torch.randn(32, D_IN), 1)
    sae.load_state_dict(copied.state_dict())
    sae.losses(torch.randn(32, D_IN), 1)


def test_decoders_of_other_norms_are_refused():
    sae = TopK(D_IN, d_sae=D_SAE, k=4)
    with torch.no_grad():
        sae.W_dec.mul_(1.1)
    with pytest.raises(ValueError, match=r"decoder directions have norms from 1.1 to 1.1, expected 1"):
        sae.losses(torch.randn(32, D_IN), 0)


def test_a_policy_holds_in_a_loop_of_ones_own():
    for policy in (SoftFrozenDecoder(min_cosine=0.99), FrozenDecoder()):
        sae = started(TopK, k=4)
        policy.hold(sae)
        optimizer = torch.optim.Adam(sae.parameters(), lr=0.1)
        sae.losses(torch.randn(32, D_IN), 0)["loss"].backward()
        sae.step(optimizer)
        cosines = torch.linalg.vecdot(sae.W_dec.detach(), sae.W_dec_start)
        assert cosines.min() == pytest.approx(0.99 if isinstance(policy, SoftFrozenDecoder) else 1, abs=1e-5)
        assert [str(member) for member in sae.members] == [f"{policy.name}/0"]


# Gradients on request
# ----------------------------------------------------------------------------------------------------------------------


def test_gradients_of_latents_and_reconstruction_are_those_of_small_changes(sae):
    sae, x = sae.double(), torch.randn(2, 3, D_IN, dtype=torch.float64)
    weights, direction = torch.randn(2, 3, D_IN, dtype=torch.float64), torch.randn(2, 3, D_IN, dtype=torch.float64)
    x.requires_grad_()
    code = sae.encode(x, gradient=True)
    x_hat = sae.decode(code, gradient=True)
    (gradient,) = torch.autograd.grad((x_hat * weights).sum(), x)
    step = 1e-7 * direction
    change = (sae(x.detach() + step) - sae(x.detach() - step)).mul(weights).sum() / 2e-7
    torch.testing.assert_close((gradient * direction).sum(), change, rtol=1e-4, atol=1e-6)
    assert torch.equal(x_hat, sae(x))
    assert all(parameter.grad is None for parameter in sae.parameters())
    assert all(parameter.requires_grad for parameter in sae.parameters())
    assert not sae.encode(x).values.requires_grad
    assert not sae.decode(code).requires_grad


def test_dense_latents_have_gradients_where_they_are_zero(sae):
    latents = torch.zeros(4, sae.d_sae, requires_grad=True)
    sae.decode(latents, gradient=True)[0].sum().backward()
    torch.testing.assert_close(latents.grad[0], sae.W_dec.sum(1) / sae.input_scale)
    assert not latents.grad[1:].any()


def test_gradients_of_a_stitched_sae_with_a_gate_are_refused():
    stitched = Stitched(started(TopK, k=4), started(Gated), range(D_SAE), [1, 2])
    with pytest.raises(ValueError, match="large is a Gated SAE"):
        stitched.encode(torch.randn(2, D_IN), gradient=True)


def test_three_calls_do_what_a_trainer_does(variant):
    """The same as the calls of `SAEModule`, to the bit; and `step` asks for a gradient."""
    saes = [started(variant) for _ in range(2)]
    own, trainers = (torch.optim.Adam(sae.parameters(), lr=1e-2) for sae in saes)
    for step, x in enumerate(torch.randn(4, 32, D_IN)):
        for sae in saes:
            sae.losses(x, step)["loss"].backward()
        saes[0].step(own)
        saes[1].on_before_optimizer_step(trainers)
        trainers.step()
        saes[1].zero_grad()
        saes[1].constrain()
    for a, b in zip(saes[0].parameters(), saes[1].parameters(), strict=True):
        assert torch.equal(a, b)
    with pytest.raises(ValueError, match="this SAE has no gradient"):
        saes[0].step(own)


def test_norms_are_not_measured_where_nothing_can_have_changed_them(variant, monkeypatch):
    sae = started(variant)
    optimizer = torch.optim.Adam(sae.parameters(), lr=1e-2)
    for step in range(2):
        sae.losses(torch.randn(32, D_IN), step)["loss"].backward()
        optimizer.step()
        sae.constrain()
    monkeypatch.setattr(torch.linalg, "vector_norm", lambda *args, **kwargs: pytest.fail("measured"))
    sae.losses(torch.randn(32, D_IN), 2)


def test_a_frozen_decoder_is_left_alone():
    sae = started(TopK, k=4)
    sae.W_dec.requires_grad_(False).mul_(2.0)
    sae.losses(torch.randn(32, D_IN), 0)


def test_losses_take_any_leading_shape_and_refuse_the_rest(variant):
    x = torch.randn(2, 3, D_IN)
    sae = started(variant)
    torch.testing.assert_close(copy.deepcopy(sae).losses(x, 0), sae.losses(x.reshape(-1, D_IN), 0))
    with pytest.raises(ValueError, match=r"the batch has the shape \[4, 16\]: expected \[..., 8\]|d_in=8"):
        sae.losses(torch.randn(4, 16), 0)
    with pytest.raises(ValueError, match=r"the batch has the shape \[0, 8\]: expected one activation or more"):
        sae.losses(torch.randn(0, D_IN), 0)
    x[1, 0, 3] = NAN
    with pytest.raises(ValueError, match=r"the batch has 1 number of 48 that is not finite, first nan at \[3, 3\]"):
        sae.losses(x, 0)


def test_a_loss_that_is_not_finite_says_why():
    sae = started(ReLU)
    with torch.no_grad():
        sae.b_dec[2] = INF
    sae.constrain()
    with pytest.raises(
        ValueError, match=r"since b_dec has 1 number of 8 .*first inf at \[2\]: lower the learning rate"
    ):
        sae.losses(torch.randn(4, D_IN), 0)
    with pytest.raises(ValueError, match="the loss became (inf|nan): lower the learning rate"):
        started(ReLU).losses(torch.full((4, D_IN), 3e38), 0)


# Panels, and whatever a loader gives
# ----------------------------------------------------------------------------------------------------------------------


def test_a_panel_reconstructs_with_every_member():
    panel = SanityPanel(12, lambda d_in: TopK(d_in, d_sae=32, k=4), widths={"early": 8, "late": 4})
    panel.initialise_members(torch.randn(4096, 12))
    exported = ExportedSAEs(panel.members, {"early": 8, "late": 4})
    x = torch.randn(2, 3, 12)
    for module in (panel, exported):
        found = module(x)
        assert set(found) == set(panel.members)
        late = Member("trained", 0, "late")
        assert torch.equal(found[late], panel.members[late](x[..., 8:]))
        with pytest.raises(ValueError, match=r"x has the shape \[3, 16\]: expected \[..., d_in=12\]"):
            module(torch.randn(3, 16))


def loader(x, batch_size=16):
    return DataLoader(TensorDataset(x), batch_size=batch_size)


def once(batch):
    """A loader with this batch alone."""
    return DataLoader([0], collate_fn=lambda rows: batch)


def fit(sae, batches, folder, **kwargs):
    trainer = Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder, **kwargs,
    )  # fmt: skip
    trainer.fit(sae, batches, DataLoader(X, batch_size=32))
    return sae


X = torch.randn(64, D_IN, generator=torch.Generator().manual_seed(0))


class Sequences:
    """What a loader gives, by its name; `collate` makes a batch of rows of X."""

    @staticmethod
    def tuples(rows):
        return rows, torch.zeros(len(rows))

    @staticmethod
    def lists(rows):
        return [rows]

    @staticmethod
    def mappings(rows):
        return {"activations": rows, "label": torch.zeros(len(rows), dtype=torch.int64)}

    @staticmethod
    def sequences(rows):
        return rows.reshape(2, -1, D_IN)


@pytest.mark.parametrize("kind", ["tuples", "lists", "mappings", "sequences"])
def test_batches_of_any_kind_train_alike(kind, tmp_path):
    def trained(collate):
        return fit(TopK(D_IN, d_sae=D_SAE, k=4), DataLoader(X, batch_size=16, collate_fn=collate), tmp_path)

    expected, found = trained(torch.stack), trained(lambda rows: getattr(Sequences, kind)(torch.stack(rows)))
    assert torch.equal(found.W_dec, expected.W_dec)


def nan_at(row, column):
    x = X.clone()
    x[row, column] = NAN
    return x


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        (loader(torch.randn(64, 9)), r"the batch has the shape \[16, 9\]: expected \[..., d_in=8\]"),
        (loader(torch.randn(64, 16)), r"the batch has the shape \[16, 16\]"),
        (loader(torch.ones(64, D_IN, dtype=torch.int64)), "the batch holds torch.int64"),
        (loader(nan_at(21, 3)), r"trained/0 at step 1: the batch has 1 number of 128 .* first nan at \[5, 3\]"),
        (once(torch.randn(0, D_IN)), r"the batch has the shape \[0, 8\]: expected one activation or more"),
        (once({"a": X, "b": X}), r"keys \['a', 'b'\]: expected one tensor \[..., 8\] in it and found 2"),
        (once({"a": torch.zeros(4, 3)}), r"keys \['a'\].* found 0; give the loader a collate_fn"),
        (once("text"), "the batch is of type str: expected a tensor"),
    ],
    ids=["width", "twice the width", "integers", "nan", "empty", "two tensors", "no tensor", "text"],
)
def test_a_batch_that_cannot_be_trained_on_is_named(batches, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        fit(started(TopK, k=4), batches, tmp_path)


def test_held_out_activations_are_checked(tmp_path):
    trainer = Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        default_root_dir=tmp_path,
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"held-out batch 1 has 1 number of 128 .* first nan at \[5, 3\]"):
        trainer.validate(started(TopK, k=4), loader(nan_at(21, 3)), verbose=False)


def test_weights_that_are_not_finite_end_the_run(tmp_path):
    """The last step may have spoiled them, after its own loss was finite."""

    class Spoiling(torch.optim.SGD):
        def step(self, closure=None):
            super().step(closure)
            self.param_groups[0]["params"][0].data[0, 0] = INF

    sae = TopK(D_IN, d_sae=D_SAE, k=4, optimizer=Spoiling)
    with pytest.raises(
        ValueError, match=r"trained/0 after 1 steps: \w+ has \d+ numbers? of .*: lower the learning rate"
    ):
        fit(sae, loader(X, 64), tmp_path)


def test_activations_in_keeps_rows_in_order():
    assert torch.equal(activations_in((X.reshape(4, 16, D_IN),), D_IN), X)
