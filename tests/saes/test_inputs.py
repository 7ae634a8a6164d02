"""What is given to `encode`, `decode`, the SAE itself and a fit is checked, by every variant and what holds them."""

import jaxtyping
import pytest
import torch
from lightning.pytorch import Trainer
from saes.started import D_IN, D_SAE, started
from torch.utils.data import DataLoader, TensorDataset

from sae_lightning.code import Code
from sae_lightning.members import Member
from sae_lightning.panel import SanityPanel
from sae_lightning.saes import TopK
from sae_lightning.saes.exported import ExportedSAEs
from sae_lightning.saes.inputs import activations_in, non_finite

NAN, INF = float("nan"), float("inf")


@pytest.fixture(autouse=True)
def _without_type_checks():
    """As outside pytest, where the SAE alone looks at what it is given."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


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
