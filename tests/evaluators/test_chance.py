"""Floors by chance: an SAE that was never trained sits at its own, whatever its size and the number of live latents."""

import pytest
import torch
from torch.nn.functional import normalize

from sae_lightning.datamodules import DecoderDirections, SyntheticDataModule
from sae_lightning.evaluators import MetaLatents, Recovery, SeedAgreement
from sae_lightning.evaluators.agreement import MMCS, PW_MCC, chance, random_pairs
from sae_lightning.family import SAEFamily
from sae_lightning.freeze import FrozenDecoder, Untrained
from sae_lightning.members import Member
from sae_lightning.saes import CovarianceMatched, TopK
from sae_lightning.sources import ConstantProbability

D_IN = 32
SIZES = (1, 4, 16)


def family(data, seeds=(0,), init=None, k=4):
    def sae(d_in, /, *, expansion_factor):
        return TopK(d_in, k=k, expansion_factor=expansion_factor, init=init)

    return SAEFamily(data.d_in, sae, SIZES, {"untrained": Untrained()}, seeds=seeds, widths=data.widths)


@pytest.fixture
def features():
    return SyntheticDataModule(ConstantProbability(0.1), D_IN, 200, batch_size=64, train_samples=2048, val_samples=2048)


def measured(trainer, evaluator, module, data):
    trainer(evaluator).validate(module, data, verbose=False)
    return evaluator.measured


def test_recovery_has_a_floor_for_each_size(trainer, features):
    scores = measured(trainer, Recovery(), family(features), features)
    for name, error in (("mean_best_cosine", 0.02), ("mean_best_cosine_absolute", 0.02), ("matched_cosine", 0.02)):
        floors = scores[name].member_floors
        for factor in SIZES:
            member = Member(f"x{factor}_untrained", 0)
            assert float(scores[name].members[member]) == pytest.approx(floors[member], abs=error), (name, member)
        assert len(set(floors.values())) == len(SIZES)
    floors = scores["mean_best_cosine"].member_floors
    assert floors[Member("x16", 0)] - floors[Member("x1", 0)] > 0.1


def test_recovery_pairs_items_only_where_all_have_one_for_each_feature(trainer, features):
    scores = measured(trainer, Recovery(), family(features), features)
    lengths = {len(values) for values in scores["matched_cosine"].items.numerators.values()}
    assert lengths == {32, 128, 200}
    assert not scores["matched_cosine"].items.paired
    assert scores["mean_best_cosine"].items.paired


def test_agreement_of_seeds_has_the_floor_of_the_live_latents(trainer, features):
    """A third of the latents is cut off: the others agree as so many random directions do, and no more."""
    module = family(features, seeds=(0, 1), init=CovarianceMatched())
    for sae in module.members.values():
        sae.initialise(sae.seed * 1000 + sae.d_sae, features.calibration_sample(640))
        sae.b_enc.data[: sae.d_sae // 3] = -1e3
        sae.b_enc.data[sae.d_sae // 3 :] = 10.0
        sae.k = sae.d_sae - sae.d_sae // 3
    scores = measured(trainer, SeedAgreement(), module, features)
    for metric, error in ((MMCS, 0.03), (PW_MCC, 0.03)):
        floors = scores[metric.name].member_floors
        for factor in SIZES:
            member = Member(f"x{factor}_untrained", 0)
            assert scores[metric.name].members[member] == pytest.approx(floors[member], abs=error), (
                metric.name,
                factor,
            )
    pairs = random_pairs(CovarianceMatched(), module.members[Member("x16", 0)], features.calibration_sample(640))
    n_live = 512 - 170
    floor = scores[MMCS.name].member_floors[Member("x16_untrained", 0)]
    assert floor == chance(pairs, n_live, n_live)[0][MMCS]
    assert floor < chance(pairs, 512, 512)[0][MMCS] - 0.01
    isotropic = {member for member in scores[MMCS.name].members if "isotropic" in member.policy}
    assert isotropic == {Member(f"x{factor}_isotropic", 0) for factor in SIZES}, "a reference for each size"


def test_meta_latents_have_a_floor_for_each_size(trainer, tmp_path):
    def save(name, n, seed):
        sae = TopK(D_IN, k=2, d_sae=n, seed=99)
        rows = torch.randn(n, D_IN, generator=torch.Generator().manual_seed(seed))
        sae.W_dec.data.copy_(normalize(rows, dim=1))
        sae.save(tmp_path / name)
        return str(tmp_path / name)

    data = DecoderDirections([save("base", 600, 1001)], batch_size=600)
    module = family(data, init=CovarianceMatched(), k=2)
    for sae in module.members.values():
        sae.initialise(sae.seed * 1000 + sae.d_sae, data.rows)
    scores = measured(trainer, MetaLatents([save("smaller", 24, 1002)], k=2), module, data)
    for name, error in (("meta_best_cosine_24", 0.05), ("pursuit_explained_variance", 0.03)):
        floors = scores[name].member_floors
        for factor in SIZES:
            member = Member(f"x{factor}_untrained", 0)
            assert float(scores[name].members[member]) == pytest.approx(floors[member], abs=error), (name, factor)
    floors = scores["pursuit_explained_variance"].member_floors
    assert floors[Member("x16", 0)] - floors[Member("x1", 0)] > 0.1


def test_frozen_decoders_of_one_size_have_one_floor(trainer, features):
    module = SAEFamily(
        D_IN, lambda d_in, /, *, expansion_factor: TopK(d_in, k=4, expansion_factor=expansion_factor), (2,),
        {"frozen_decoder": FrozenDecoder()},
    )  # fmt: skip
    module.initialise_members(torch.randn(4096, D_IN))
    scores = measured(trainer, Recovery(), module, features)["mean_best_cosine"]
    assert len(set(scores.member_floors.values())) == 1
    assert float(scores.members[Member("x2_frozen_decoder", 0)]) == pytest.approx(
        scores.member_floors[Member("x2_frozen_decoder", 0)], abs=0.02
    )
