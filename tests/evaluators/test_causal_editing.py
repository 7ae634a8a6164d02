from types import SimpleNamespace

import pytest
import torch
from causal.toy import D_IN, N_ENTITIES, VALUES, ToyData, ToyPrompts, ToySource
from repeated import check_repeats
from torch.utils.data import DataLoader

from sae_lightning.causal import knowledge
from sae_lightning.datamodules import ActivationDataModule
from sae_lightning.evaluators import CausalEditing, editing
from sae_lightning.evaluators.editing import principal_components, random_rotation
from sae_lightning.members import Member
from sae_lightning.saes import SAEModule, TopK

SETTINGS = {"n_train_pairs": 32, "n_test_pairs": 30, "n_epochs": 4}


class Data(ActivationDataModule):
    """The toy model, and activations that nobody looks at."""

    def __init__(self, **settings):
        super().__init__(batch_size=2, train_samples=4, val_samples=4, seed=0)
        toy = ToyData(**settings)
        self.packing, self.source, self.llm_batch_size = toy.packing, toy.source, toy.llm_batch_size

    def val_dataloader(self):
        return DataLoader(torch.zeros(4, D_IN), 2)

    def train_stream(self):
        raise NotImplementedError

    val_stream = calibration_sample = train_stream


class Members(SAEModule):
    """Any SAEs, of a part of the activations or of all."""

    def __init__(self, members, widths=None):
        super().__init__()
        self._members, self._widths = {Member.parse(key): sae for key, sae in members.items()}, widths

    @property
    def members(self):
        return self._members

    def activations_for(self, member, activations):
        return activations[:, :D_IN]

    def validation_step(self, batch, batch_idx):
        return {}


def planted(directions, k, b_enc=0.0):
    """An SAE with these decoder directions, which it also encodes with."""
    sae = TopK(D_IN, k=k, d_sae=len(directions)).requires_grad_(False)
    sae.initialise(0)
    sae.W_dec.copy_(directions / directions.norm(dim=1, keepdim=True))
    sae.W_enc.copy_(sae.W_dec.T)
    sae.b_enc.fill_(b_enc)
    return sae


def aligned():
    """A latent for each value of each attribute."""
    return planted(torch.eye(D_IN), k=2)


def mixing():
    """A latent for each combination of values."""
    return planted(torch.stack([torch.eye(6)[c] + torch.eye(6)[3 + f] for c in range(3) for f in range(3)]), k=1)


class Watched(CausalEditing):
    """Fails where it draws from the global random state."""

    def setup(self, *args, **kwargs):
        state = torch.get_rng_state()
        super().setup(*args, **kwargs)
        assert torch.get_rng_state().equal(state)

    def scores(self, *args):
        state = torch.get_rng_state()
        scores = list(super().scores(*args))
        assert torch.get_rng_state().equal(state)
        return scores


def evaluate(trainer, members, data=None):
    run = trainer(Watched(ToyPrompts(), **SETTINGS))
    run.validate(Members(members), data or Data(), verbose=False)
    (evaluator,) = (callback for callback in run.callbacks if isinstance(callback, CausalEditing))
    return evaluator.measured, {name: float(value) for name, value in run.callback_metrics.items()}


def values_of(logged, member):
    return [logged[f"val/causal_{kind}/{member}"] for kind in ("cause", "isolation", "score")]


def test_latents_of_one_attribute_each_cause_and_isolate_and_mixed_ones_cannot(trainer):
    dead = planted(torch.eye(D_IN), k=2, b_enc=-9.0)
    measured, logged = evaluate(trainer, {"aligned/0": aligned(), "mixing/0": mixing(), "dead/0": dead})
    assert values_of(logged, "aligned/0") == [1, 1, 1]
    cause, isolation, score = values_of(logged, "mixing/0")
    assert cause + isolation == pytest.approx(2 * score)
    assert score <= 0.6
    # The reconstruction takes the activation's place: an SAE that is dead answers nothing, and does not even isolate.
    assert values_of(logged, "dead/0") == [0, 0, 0]
    assert values_of(logged, "floor") == [0, 1, 0.5]
    assert values_of(logged, "full_swap/0") == [1, 0, 0.5]
    assert values_of(logged, "neurons/0") == [1, 1, 1]
    assert values_of(logged, "random_rotation/0")[2] < 1
    assert "val/causal_score/pca/0" in logged


def test_the_latents_that_edits_swap_are_known(trainer):
    """Latents 0 to 2 are countries and 3 to 5 languages: each is swapped for its own attribute alone."""
    dead = planted(torch.eye(D_IN), k=2, b_enc=-9.0)
    extra = planted(torch.cat([torch.eye(D_IN), -torch.ones(1, D_IN)]), k=2)
    evaluator = CausalEditing(ToyPrompts(), **SETTINGS)
    trainer(evaluator).validate(Members({"aligned/0": extra, "dead/0": dead}), Data(), verbose=False)
    (scores,) = evaluator.latent_scores
    assert scores.name == "edit_choices"
    assert set(map(str, scores.members)) == {"aligned/0", "dead/0"}
    assert scores.members[Member("aligned", 0)].tolist() == pytest.approx([0.5] * 6 + [torch.nan], nan_ok=True)
    assert scores.members[Member("dead", 0)].isnan().all()


class TwoHooks(ToySource):
    """Beside what answers, at another hook, the same of an entity in other coordinates and another order."""

    def __init__(self):
        super().__init__()
        self.d_in, self.widths = 2 * D_IN, {"read": D_IN, "answer": D_IN}

    def capture(self, inputs):
        answer, mask = super().capture(inputs)
        return torch.cat([3 * answer.flip(-1), answer], -1), mask


class Transcoders(Members):
    targets = {"read": "answer", "null_read": "null_answer"}

    def target_for(self, member, activations):
        return activations[:, D_IN:]


class NullsOfBothHooks(Data):
    null_parts, noise_parts = ("null_read", "null_answer"), ()
    hook_widths = {"read": D_IN, "answer": D_IN}
    widths = hook_widths | {"null_read": D_IN, "null_answer": D_IN}


def test_a_transcoder_stands_in_where_it_answers(trainer):
    """Its latents are those of what it reads, its answer stands at its target, and so do other coordinates."""
    sae = TopK(D_IN, k=2, d_sae=D_IN, d_out=D_IN, skip=True).requires_grad_(False)
    sae.initialise(0)
    sae.W_dec.copy_(torch.eye(D_IN))
    sae.W_enc.copy_(torch.eye(D_IN).flip(0) / 3)
    data = NullsOfBothHooks()
    data.source = TwoHooks()
    run = trainer(CausalEditing(ToyPrompts(), **SETTINGS))
    run.validate(Transcoders({"read/aligned/0": sae, "null_read/aligned/0": sae}), data, verbose=False)
    logged = {name: float(value) for name, value in run.callback_metrics.items()}
    for policy in ("aligned/0", "neurons/0"):
        assert [logged[f"val/causal_{kind}@read/{policy}"] for kind in ("cause", "isolation")] == [1, 1], policy
    assert logged["val/causal_cause@read/full_swap/0"] == 1
    assert set(data.source.hooks) == {"read", "answer"}, "the first where nothing is edited"
    assert not any("null_read/aligned" in name for name in logged), "a null of both hooks has none that is edited alone"


def test_items_make_up_the_scores(trainer):
    measured, _ = evaluate(trainer, {"mixing/0": mixing()})
    of_all = {name: scores for name, scores in measured.items() if scores.metric.better == "higher"}
    assert set(of_all) == {"causal_cause", "causal_isolation", "causal_score"}
    for name, scores in of_all.items():
        assert set(scores.items.numerators) == set(scores.members)
        for member, value in scores.members.items():
            numerators, denominators = scores.items.numerators[member], scores.items.denominators[member]
            assert len(numerators) == len(denominators) == 2 * 30 * (2 if name == "causal_score" else 1)
            assert float(numerators.sum() / denominators.sum()) == pytest.approx(value)


def test_what_the_model_knows_and_each_attribute_have_metrics(trainer):
    measured, _ = evaluate(trainer, {"mixing/0": mixing()})
    member = Member("mixing", 0)
    by_attribute = [measured[f"causal_score_{name}"].members[member] for name in ("country", "language")]
    assert sum(by_attribute) / 2 == pytest.approx(measured["causal_score"].members[member])
    assert measured["causal_known"].members == measured["causal_known_country"].members == {member: 1.0}
    assert measured["causal_known"].floor == pytest.approx(1 / 3)


def test_edits_go_to_the_hook_that_the_member_reads(trainer):
    data = Data()
    _, logged = evaluate(trainer, {"early/aligned/0": aligned(), "late/aligned/0": aligned()}, data)
    assert set(data.source.hooks) == {"early", "late"}
    for part in ("early", "late"):
        assert logged[f"val/causal_score@{part}/aligned/0"] == 1
        assert logged[f"val/causal_score@{part}/floor"] == 0.5
        assert logged[f"val/causal_cause@{part}/full_swap/0"] == 1


def test_principal_components_and_rotation_are_orthonormal():
    x = torch.randn(50, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 5, 2, 3])
    components = principal_components(x)
    torch.testing.assert_close(components @ components.T, torch.eye(4))
    covariance = (x @ components.T).T.cov()
    torch.testing.assert_close(covariance, covariance.diag().diag(), atol=1e-3, rtol=0)
    rotation = random_rotation(4)
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(4))
    assert torch.equal(rotation, random_rotation(4))


def test_an_sae_over_several_hooks_is_refused(trainer):
    data = Data()
    data.source.widths = {"early": 3, "late": 3}
    with pytest.raises(ValueError, match="CausalEditing edits .* at one hook, and this SAE reads early, late side by"):
        evaluate(trainer, {"trained/0": aligned()}, data)


def test_a_model_that_predicts_no_next_token_is_refused_before_it_is_asked(trainer):
    data = Data()
    data.source.no_next_token, data.source.replace = "a BertForMaskedLM is a masked model", None
    with pytest.raises(ValueError, match="CausalEditing asks for the next token.* a BertForMaskedLM is a masked model"):
        evaluate(trainer, {"trained/0": aligned()}, data)


def test_a_model_that_knows_too_little_is_refused_before_anything_is_trained(trainer):
    with pytest.raises(ValueError, match="answers 0 of 36 train prompts about country correctly"):
        evaluate(trainer, {"trained/0": aligned()}, Data(knows=False))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_test_pairs": 0}, "n_test_pairs=0: expected a whole number, 1 or more"),
        ({"batch_size": 1}, "batch_size=1: expected a whole number, 2 or more"),
        ({"learning_rate": 0.0}, "learning_rate=0.0: expected a finite number above 0"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(ValueError, match=message):
        CausalEditing(ToyPrompts(), **settings)


def test_the_toy_has_every_combination():
    assert len({(VALUES["country"][i], VALUES["language"][i]) for i in range(N_ENTITIES // 2)}) == 9


def test_repeats_draw_other_pairs_and_ask_the_model_each_prompt_once(trainer, monkeypatch):
    asked = []
    ask_all = knowledge.is_correct
    monkeypatch.setattr(knowledge, "is_correct", lambda source, questions, *args, **kwargs: (
        asked.append(len(questions)) or ask_all(source, questions, *args, **kwargs)
    ))  # fmt: skip
    found = []
    for n in (1, 3):
        evaluator = CausalEditing(ToyPrompts(), n_train_pairs=16, n_test_pairs=15, n_epochs=1, n_repeats=n)
        trainer(evaluator).validate(Members({"mixing/0": mixing(), "aligned/0": aligned()}), Data(), verbose=False)
        found.append(evaluator.measured)
    assert "causal_score" in check_repeats(*found, 3)
    assert asked == [72, 72] * 2, "train and test; the draws of the second evaluator share their prompts"


class Fewer(ToyPrompts):
    """So few entities that each of their prompts is asked."""

    def prompts(self, split):
        return [prompt for prompt in super().prompts(split) if int(prompt.entity[1:]) % 18 < 4]


def test_the_message_says_what_helps(trainer):
    def message(prompts, **settings):
        with pytest.raises(ValueError, match="answers") as error:
            trainer(CausalEditing(prompts, **settings)).validate(Members({"a/0": aligned()}), Data(), verbose=False)
        return str(error.value)

    assert "answers 8 of 8 train prompts about country correctly, and 16 are needed" in message(Fewer())
    assert "so n_prompts does not help. Give more train entities (now 4) or wordings, or leave out country" in message(
        Fewer()
    )
    assert "raise n_prompts, now 5 of the 36 that there are" in message(ToyPrompts(), n_prompts=5)


def test_many_members_are_said_to_take_long_once(monkeypatch):
    said, clock = [], iter(range(0, 1000, 10))
    monkeypatch.setattr(editing, "rank_zero_info", said.append)
    monkeypatch.setattr(editing, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    for n in (18, 6):
        measure = editing.said_how_long("CausalEditing", n, lambda member, value: value)
        assert [measure(Member("trained", 0), value) for value in (1, 2)] == [1, 2]
    assert said == [
        "CausalEditing: 10 s for trained/0, the first of 18 SAEs and references: at most 3 minutes for all."
    ]
