"""Members of one size, and the references that stand beside them."""

import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger

from sae_lightning.callbacks.metrics_file import MetricsFile
from sae_lightning.datamodules import SyntheticDataModule
from sae_lightning.evaluators import SeedAgreement
from sae_lightning.evaluators.sizes import same_sizes
from sae_lightning.family import SAEFamily
from sae_lightning.freeze import FrozenDecoder
from sae_lightning.members import Member, Tag
from sae_lightning.panel import SanityPanel
from sae_lightning.runs.latents import read_latents
from sae_lightning.runs.measurements import Measurements
from sae_lightning.runs.metrics_lines import read_validations
from sae_lightning.saes import TopK
from sae_lightning.sources import ConstantProbability


@pytest.fixture
def family():
    def sae(d_in, /, *, expansion_factor):
        return TopK(d_in, k=2, expansion_factor=expansion_factor)

    return SAEFamily(6, sae, (1, 4), {"frozen_decoder": FrozenDecoder()}, policy_factors=(4,), seeds=(0, 1))


def test_sizes_of_a_family_have_references_of_their_own(family):
    sizes = list(same_sizes(family))
    assert [(size.d_sae, size.reference("isotropic")) for size in sizes] == [
        (6, Member("x1_isotropic", 0)), (24, Member("x4_isotropic", 0))
    ]  # fmt: skip
    assert sizes[1].members == tuple(Member(policy, seed) for policy in ("x4", "x4_frozen_decoder") for seed in (0, 1))


def test_of_a_panel_references_have_plain_names_in_each_part():
    panel = SanityPanel(6, lambda d_in: TopK(d_in, k=2, d_sae=4 * d_in), widths={"a": 2, "b": 4})
    assert [(size.part, size.d_sae, size.reference("pca")) for size in same_sizes(panel)] == [
        ("a", 8, Member("pca", 0, "a")), ("b", 16, Member("pca", 0, "b"))
    ]  # fmt: skip
    of_b = same_sizes(panel, [Member("trained", 0, "b")])
    assert [{member.part for member in size.members} for size in of_b] == [{"b"}]


def test_the_run_knows_of_which_size_a_reference_is(family, trainer, tmp_path):
    data = SyntheticDataModule(ConstantProbability(0.2), 6, 10, batch_size=16, train_samples=160, val_samples=160)
    torch.manual_seed(0)
    family.initialise_members(torch.randn(4096, 6))
    run = trainer(SeedAgreement(), MetricsFile(), logger=TensorBoardLogger(tmp_path))
    run.validate(family, data, verbose=False)
    (line,) = read_validations(next(tmp_path.rglob("metrics.jsonl")))
    assert line.sizes["x4_isotropic"] == ["x4", "isotropic"]
    assert list(line.sizes)[:3] == ["x1", "x4", "x4_frozen_decoder"], "SAEs first"
    sized = Measurements(line.values, line.floors, sizes=line.sizes).by_size()
    assert set(sized.by_policy(Tag("seed_mmcs", "x1"))) == {"trained", "isotropic"}
    assert set(sized.by_policy(Tag("seed_mmcs", "x4"))) == {"trained", "frozen_decoder", "isotropic"}
    latents = read_latents(next(tmp_path.rglob("latents.safetensors")).parent, line.step)
    assert {member.policy: len(own) for member, own in latents["stability"].members.items()} == {
        "x1": 6, "x4": 24, "x4_frozen_decoder": 24
    }  # fmt: skip
    floors = line.member_floors[Tag("seed_mmcs")]
    assert floors[Member("x1", 0)] < floors[Member("x4", 0)]
