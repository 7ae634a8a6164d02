import pytest
import torch

from sae_lightning.datamodules import SyntheticDataModule
from sae_lightning.evaluators import SeedAgreement
from sae_lightning.evaluators.agreement import (
    MATCHED_COSINE,
    MATCHED_COSINE_ENCODER,
    MMCS,
    MMCS_ABSOLUTE,
    PW_MCC,
    SHARED_FRACTION,
    Directions,
    agreement,
    chance,
    random_pairs,
)
from sae_lightning.evaluators.seed_agreement import later_seeds
from sae_lightning.freeze import FrozenDecoder, NoFreeze
from sae_lightning.members import Member
from sae_lightning.panel import SanityPanel
from sae_lightning.saes import CovarianceMatched, Isotropic, TopK
from sae_lightning.sources import ConstantProbability

D_IN, D_SAE, K = 6, 24, 3  # of conftest.py
ALL = {PW_MCC, MATCHED_COSINE, MATCHED_COSINE_ENCODER, SHARED_FRACTION, MMCS, MMCS_ABSOLUTE}
NAMES = {
    "seed_pw_mcc", "seed_matched_cosine", "seed_matched_cosine_encoder", "seed_shared_fraction", "seed_mmcs",
    "seed_mmcs_absolute",
}  # fmt: skip

OF_LATENTS = {"seed_stability", "seed_stable_fraction"}


def rows(n, d_in, seed):
    return torch.randn(n, d_in, generator=torch.Generator().manual_seed(seed))


def panel_of(*seeds, widths=None):
    policies = {"trained": NoFreeze(), "frozen_decoder": FrozenDecoder()}
    isotropic = {"frozen_decoder": Isotropic()}  # a start without data
    return SanityPanel(D_IN, lambda d_in: TopK(d_in, k=K, d_sae=D_SAE), policies, isotropic, seeds, widths)


def logged(run):
    return {name.removeprefix("val/"): value.item() for name, value in run.callback_metrics.items()}


def test_a_permuted_copy_agrees_whatever_the_length_of_its_rows():
    first = Directions(rows(30, 10, 0), rows(30, 10, 1))
    order = torch.randperm(30, generator=torch.Generator().manual_seed(2))
    second = Directions(3 * first.decoder[order], first.encoder[order] / 2)
    for scores in agreement(first, second):
        assert scores == pytest.approx(dict.fromkeys(ALL, 1.0), abs=1e-6)


def test_a_negated_copy_agrees_where_the_sign_does_not_count():
    first = Directions(rows(30, 10, 0), rows(30, 10, 1))
    scores, _ = agreement(first, Directions(-first.decoder, -first.encoder))
    assert scores[PW_MCC] == pytest.approx(1)
    assert scores[MMCS_ABSOLUTE] == pytest.approx(1)
    for signed in ALL - {PW_MCC, MMCS_ABSOLUTE}:
        assert scores[signed] < 0.8, signed.name


def test_a_latent_is_shared_if_decoder_and_encoder_agree_on_average():
    first = Directions(torch.eye(4), torch.eye(4))
    # cosines to the partner: 1 and 1; 1 and 0.6, 0.8 on average; 1 and 0.2; none at all
    encoder = torch.tensor([[1, 0, 0, 0], [0, 0.6, 0, 0.8], [0, 0, 0.2, 0.96**0.5], [0, 0, 0, -1]])
    decoder = torch.tensor([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, -1.0]])
    for scores in agreement(first, Directions(decoder, encoder)):
        assert scores[SHARED_FRACTION] == 0.5


def test_a_latent_without_partner_counts_as_nothing():
    many = Directions(rows(30, 10, 0), rows(30, 10, 0))
    few = Directions(many.decoder[:10], many.encoder[:10])
    from_many, from_few = agreement(many, few)
    for metric in (PW_MCC, MATCHED_COSINE, MATCHED_COSINE_ENCODER, SHARED_FRACTION):
        assert (from_many[metric], from_few[metric]) == (pytest.approx(1 / 3), pytest.approx(1))
    assert from_few[MMCS] == pytest.approx(1)
    assert 1 / 3 < from_many[MMCS] < 0.95  # no assignment
    for scores in agreement(many, Directions(few.decoder[:0], few.encoder[:0])):
        assert all(value != value for value in scores.values())


def test_random_dictionaries_are_at_the_known_chance():
    sae = TopK(128, k=4, d_sae=1024)
    known = {MMCS: 0.283, MMCS_ABSOLUTE: 0.299, MATCHED_COSINE: 0.272, PW_MCC: 0.290}
    for init, samples in ((Isotropic(), torch.zeros(1, 128)), (CovarianceMatched(), rows(20_000, 128, 0))):
        scores, _ = chance(random_pairs(init, sae, samples), 1024, 1024)
        assert {metric: scores[metric] for metric in known} == pytest.approx(known, abs=0.004)
        assert scores[MATCHED_COSINE_ENCODER] == scores[MATCHED_COSINE]
        assert scores[SHARED_FRACTION] == 0
    anisotropic = rows(20_000, 128, 0) * torch.linspace(0.1, 2, 128) ** 2
    assert chance(random_pairs(CovarianceMatched(), sae, anisotropic), 1024, 1024, to_match=False)[0][MMCS] > 0.33


def test_members_are_compared_with_all_others_of_their_policy(data, trainer):
    panel, run = panel_of(0, 1, 2), trainer(SeedAgreement())
    saes = panel.members
    saes[Member("trained", 1)].load_state_dict(saes[Member("trained", 0)].state_dict())
    run.validate(panel, data, verbose=False)
    values = logged(run)
    curves = {*map(str, saes), "floor", "isotropic/0"}
    assert {metric.name for metric in ALL} == NAMES
    of_latents = {f"{name}/{curve}" for name in OF_LATENTS for curve in curves - {"isotropic/0"}}
    assert set(values) == {f"{name}/{curve}" for name in NAMES for curve in curves} | of_latents
    alive = [sae.encode(data.x).firing_counts() > 0 for sae in saes.values()]
    both = [Directions(sae.W_dec.detach()[on], sae.W_enc.detach().T[on]) for sae, on in zip(saes.values(), alive)]  # noqa: B905
    assert 0 < alive[0].sum() < D_SAE
    to_second = agreement(both[0], both[2])[0]
    for metric in ALL:
        assert values[f"{metric.name}/trained/0"] == pytest.approx((1 + to_second[metric]) / 2)
        assert values[f"{metric.name}/trained/0"] == pytest.approx(values[f"{metric.name}/trained/1"])
    # the frozen decoders start where the others do, and are compared with each other alone
    assert values["seed_pw_mcc/frozen_decoder/0"] == pytest.approx(
        (agreement(both[3], both[4])[0][PW_MCC] + agreement(both[3], both[5])[0][PW_MCC]) / 2
    )
    assert values["seed_mmcs/isotropic/0"] == pytest.approx(values["seed_mmcs/floor"], abs=0.1)


def test_parts_have_floors_of_their_own_and_nothing_is_drawn_globally(data, trainer):
    panel, evaluator = panel_of(0, 1, widths={"a": 2, "b": 4}), SeedAgreement()
    run = trainer(evaluator)
    run.validate(panel, data, verbose=False)
    before, evaluator._random = torch.get_rng_state(), {}
    list(evaluator.scores(run, panel, "val"))
    assert torch.equal(before, torch.get_rng_state())
    values = logged(run)
    assert values["seed_mmcs@a/floor"] > values["seed_mmcs@b/floor"]
    assert values["seed_mmcs@a/isotropic/0"] > values["seed_mmcs@b/isotropic/0"]
    assert values["seed_mmcs@a/trained/0"] > 0.9
    assert {scores.metric.better for scores in evaluator.measured.values()} == {None}, "seeds share pairs"


def test_matchings_that_would_take_hours_are_left_out(data, trainer, monkeypatch):
    monkeypatch.setattr("sae_lightning.evaluators.seed_agreement.LARGEST_MATCHING", D_SAE - 1)
    run = trainer(SeedAgreement())
    run.validate(panel_of(0, 1), data, verbose=False)
    assert {name.split("/")[0] for name in logged(run)} == {"seed_mmcs", "seed_mmcs_absolute"} | OF_LATENTS


def test_one_seed_is_refused(sae, data, trainer):
    for module in (sae, panel_of(7)):
        with pytest.raises(ValueError, match=r"of trained there is one: take a SanityPanel .*model.seeds=\[0, 1\]"):
            trainer(SeedAgreement()).fit(module, data)


def test_each_pair_is_compared_once_and_no_sae_with_itself():
    members = [
        Member(name, seed, part) for part in ("", "a") for name in ("trained", "untrained") for seed in (10, 2, 1)
    ]
    later = later_seeds(members)
    assert list(later) == members
    pairs = [(one, other) for one, others in later.items() for other in others]
    assert len(pairs) == len({frozenset(pair) for pair in pairs}) == 12
    for one, other in pairs:
        assert one.seed != other.seed
        assert (one.part, one.policy) == (other.part, other.policy)


def test_two_different_seeds_are_compared_with_each_other_alone(data, trainer):
    run = trainer(SeedAgreement())
    run.validate(panel := panel_of(0, 1), data, verbose=False)
    first, second = (panel.members[Member("trained", seed)] for seed in (0, 1))
    both = [
        Directions(sae.W_dec.detach()[on], sae.W_enc.detach().T[on])
        for sae in (first, second)
        for on in [sae.encode(data.x).firing_counts() > 0]
    ]
    expected, _ = agreement(*both)
    for metric in ALL:
        assert logged(run)[f"{metric.name}/trained/0"] == pytest.approx(expected[metric])
    assert logged(run)["seed_pw_mcc/trained/0"] < 0.95


def test_a_seed_of_which_no_latent_fires_leaves_the_others_their_value(data, trainer):
    panel, run = panel_of(0, 1, 2), trainer(SeedAgreement())
    panel.members[Member("trained", 2)].b_enc.data.fill_(-1e3)
    with pytest.warns(UserWarning, match=r"is withheld \(nan\) for trained/2 .* no latent fires"):
        run.validate(panel, data, verbose=False)
    values = logged(run)
    assert values["seed_mmcs/trained/0"] == values["seed_mmcs/trained/0"]
    assert values["seed_mmcs/trained/2"] != values["seed_mmcs/trained/2"]
    assert values["seed_mmcs/floor"] == values["seed_mmcs/floor"]


def test_seeds_of_transcoders_agree_on_both_sides(trainer):
    data = SyntheticDataModule(
        ConstantProbability(0.2), D_IN, 10, batch_size=16, train_samples=160, val_samples=160, d_answer=5
    )
    panel = SanityPanel(
        data.d_in,
        lambda d_in, d_out: TopK(d_in, k=K, d_sae=D_SAE, d_out=d_out),
        {"trained": NoFreeze()},
        seeds=[0, 1],
        widths=data.widths,
        targets={"read": "answer"},
    )
    one, other = panel.members.values()
    other.load_state_dict(one.state_dict())
    other.W_enc.data = one.W_enc.data.roll(1, 0)  # what is written is the same, what is read is not
    run = trainer(SeedAgreement())
    run.validate(panel, data, verbose=False)
    logged = {name: value.item() for name, value in run.callback_metrics.items()}
    decoder, encoder = (logged[f"val/seed_matched_cosine{side}@read/trained/0"] for side in ("", "_encoder"))
    assert decoder > 0.8 > encoder, "of latents that fire, which are not the same, since they read other directions"
    assert 0 < logged["val/seed_matched_cosine_encoder@read/floor"] < 0.9
