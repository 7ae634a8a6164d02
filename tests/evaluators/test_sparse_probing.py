import random

import pytest
import torch
from repeated import check_repeats
from tiny import WORDS, save_text, save_tiny_lm

from sae_lightning.code import Code
from sae_lightning.datamodules import LanguageModelDataModule
from sae_lightning.datamodules.file_text import FileText
from sae_lightning.evaluators import SparseProbing
from sae_lightning.members import Member
from sae_lightning.probing import Example, ExampleSets, ProbingTask
from sae_lightning.saes import SAEModule, TopK

D_IN, D_SAE = 16, 64
TRAINED, DEAD, DENSE = Member("trained", 0), Member("dead", 0), Member("dense_probe", 0)


class Animal(ProbingTask):
    """Cat or dog, read at the animal; 30 texts of each to train, 20 others to test, and 20 with another ending."""

    def load(self, n_train, n_test):
        def examples(end, start, n):
            return [
                Example(f"{WORDS[i % 9]} {WORDS[i // 9]} {animal} {end}", animal, str(i), str(i), self.span(i))
                for i in range(start, start + n)
                for animal in ("cat", "dog")
            ]

        return ExampleSets(examples("sat", 0, 30), examples("sat", 30, 20), examples("sang", 50, 20))

    @staticmethod
    def span(i):
        start = len(f"{WORDS[i % 9]} {WORDS[i // 9]} ")
        return start, start + 3


class Guess(Animal):
    """The same places with a label that has nothing to do with them."""

    def load(self, n_train, n_test):
        def shuffled(examples, seed):
            order = torch.randperm(len(examples), generator=torch.Generator().manual_seed(seed))
            return [
                Example(example.text, examples[int(i)].label, example.unit, example.document, example.span)
                for example, i in zip(examples, order, strict=True)
            ]

        sets = super().load(n_train, n_test)
        return ExampleSets(shuffled(sets.train, 0), shuffled(sets.test, 1))


class Planted(TopK):
    """Latent 7 fires for cats, whose embedding differs from that of dogs, and the others not at all."""

    def __init__(self, direction, middle, is_dead=False):
        super().__init__(D_IN, k=1, d_sae=D_SAE)
        self.direction, self.middle, self.is_dead = direction, middle, is_dead

    def encode(self, x):
        dense = torch.zeros(len(x), D_SAE)
        if not self.is_dead:
            dense[:, 7] = (x @ self.direction > self.middle).float()
        return Code.from_dense(dense)

    def decode(self, code):
        return code.to_dense()[:, :D_IN]


class Panel(SAEModule):
    def __init__(self, members):
        super().__init__()
        self._members = members

    @property
    def members(self):
        return self._members

    def validation_step(self, batch, batch_idx):
        return {}


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    folder = tmp_path_factory.mktemp("probing")
    return LanguageModelDataModule(
        save_tiny_lm(folder), "model.embed_tokens", FileText(save_text(folder / "text.jsonl")),
        context_length=8, batch_size=16, train_samples=64, val_samples=32, buffer_samples=600, llm_batch_size=8,
    )  # fmt: skip


@pytest.fixture
def members(text):
    cat, dog = text.source.model.get_input_embeddings().weight[[4 + WORDS.index(word) for word in ("cat", "dog")]]
    planted = Planted(cat - dog, float((cat - dog) @ (cat + dog) / 2))
    return {TRAINED: planted, DEAD: Planted(cat, 0.0, is_dead=True)}


def latents_of(trainer, text, members, *tasks, **settings):
    evaluator = SparseProbing(list(tasks), train_examples=60, test_examples=60, **settings)
    trainer(evaluator).validate(Panel(members), text, verbose=False)
    return {scores.name: scores.members for scores in evaluator.latent_scores}


def evaluate(trainer, text, members, *tasks, **settings):
    evaluator = SparseProbing(list(tasks), train_examples=60, test_examples=60, **settings)
    run = trainer(evaluator)
    run.validate(Panel(members), text, verbose=False)
    return evaluator.measured, {name: float(value) for name, value in run.callback_metrics.items()}


def test_a_latent_that_is_the_label_scores_one_and_a_dead_sae_one_half(trainer, text, members):
    measured, logged = evaluate(trainer, text, members, Animal(), ks=(1, 5))
    for name in ("accuracy_k1", "accuracy_ood_k1", "auroc_k1", "accuracy_k5", "auroc_ood_k5"):
        assert logged[f"val/probe_{name}/trained/0"] == pytest.approx(1), name
        assert logged[f"val/probe_{name}/dead/0"] == pytest.approx(0.5), name
        assert logged[f"val/probe_{name}/dense_probe/0"] == pytest.approx(1), name
        assert 0.3 < logged[f"val/probe_{name}/floor"] < 0.7
    assert logged["val/probe_reconstruction_accuracy/trained/0"] == pytest.approx(1)
    assert logged["val/probe_reconstruction_accuracy_ood/dead/0"] == pytest.approx(0.5)
    assert measured["probe_reconstruction_auroc"].member_floors[DEAD] == pytest.approx(0.5)
    assert set(measured["probe_auroc_k5"].members) == {
        TRAINED, DEAD, DENSE, Member("top_dimensions", 0), Member("random_directions", 0)
    }  # fmt: skip
    assert set(measured["probe_reconstruction_auroc"].members) == {TRAINED, DEAD, DENSE}
    assert len(measured) == 12


def test_the_latents_that_probes_choose_are_known(trainer, text, members):
    found = latents_of(trainer, text, members, Animal(), Guess(), ks=(1, 2))
    assert set(found["probe_choices"]) == {TRAINED, DEAD}
    (latent,) = found["probe_choices"][TRAINED].isfinite().nonzero()[:, 0].tolist()  # the others fire in no example
    assert latent == 7
    n_problems = int(found["probe_choices"][TRAINED][7])
    assert n_problems == found["probe_choices"][TRAINED][7] > 1, "those of both tasks"
    guess, _ = evaluate(trainer, text, members, Guess(), ks=(1,))
    expected = (1 + guess["probe_accuracy_k1"].members[TRAINED]) / 2  # the tasks have as many problems
    assert found["probe_accuracy"][TRAINED][7] == pytest.approx(expected)
    for values in found.values():
        assert not values[DEAD].isfinite().any(), "a probe on a latent that never fires chooses nothing"
    assert latents_of(trainer, text, members, Animal(), ks=(2,)) == {}


def test_the_mean_is_over_tasks_and_made_of_the_items(trainer, text, members):
    measured, logged = evaluate(trainer, text, members, Animal(), Guess(), ks=(1,))
    guessed, _ = evaluate(trainer, text, members, Guess(), ks=(1,))
    guess = guessed["probe_accuracy_k1"].members[TRAINED]
    assert guess == pytest.approx(0.5, abs=0.15)
    assert logged["val/probe_accuracy_k1/trained/0"] == pytest.approx((1 + guess) / 2)
    assert logged["val/probe_accuracy_ood_k1/trained/0"] == pytest.approx(1)  # only one task has that set
    assert "probe_accuracy_ood_k1" not in guessed
    for scores in (measured["probe_accuracy_k1"], measured["probe_reconstruction_accuracy_ood"]):
        assert scores.metric.better == "higher"
        for member, value in scores.members.items():
            numerators, denominators = scores.items.numerators[member], scores.items.denominators[member]
            assert (denominators > 0).all()
            assert numerators.sum() / denominators.sum() == pytest.approx(value)
    assert len(measured["probe_accuracy_k1"].items.numerators[TRAINED]) == 40  # 20 documents of each task


def test_many_tasks_are_the_items(trainer, text, members):
    class Many(Animal):
        def parts(self):
            return [Animal()] * 19 + [Guess()]

    del members[DEAD]
    few, _ = evaluate(trainer, text, members, Animal(), Guess(), ks=(1,))
    many, logged = evaluate(trainer, text, members, Many(), ks=(1,))
    guess = 2 * few["probe_accuracy_k1"].members[TRAINED] - 1
    items = many["probe_accuracy_k1"].items
    assert items.numerators[TRAINED].tolist() == pytest.approx([1.0] * 19 + [guess])
    assert set(items.denominators[TRAINED].tolist()) == {1.0}
    assert logged["val/probe_accuracy_k1/trained/0"] == pytest.approx((19 + guess) / 20)
    # Out of distribution there are 19 tasks, too few for that.
    assert len(many["probe_accuracy_ood_k1"].items.numerators[TRAINED]) == 19 * 20


def test_it_draws_nothing_and_runs_the_model_once_for_each_task(trainer, text, members, monkeypatch):
    calls = []
    capture = text.source.capture
    monkeypatch.setattr(text.source, "capture", lambda inputs: calls.append(len(inputs.input_ids)) or capture(inputs))
    evaluator = SparseProbing([Animal()], (1,), train_examples=60, test_examples=60)
    run = trainer(evaluator, num_sanity_val_steps=0)
    state = torch.get_rng_state()
    run.validate(Panel(members), text, verbose=False)
    assert torch.equal(torch.get_rng_state(), state)
    n_read_by_the_stream = sum(calls) - 140
    assert 0 <= n_read_by_the_stream < 140  # 140 different texts, whatever the number of members


@pytest.mark.parametrize("pooling", ["mean", "max", "last"])
def test_a_real_sae_on_whole_texts(trainer, text, pooling):
    class Whole(Animal):
        def load(self, n_train, n_test):
            sets = super().load(n_train, n_test)
            return ExampleSets(
                *([Example.whole(example.text, example.label) for example in each] for each in (sets.train, sets.test))
            )

    sae = TopK(D_IN, k=4, d_sae=D_SAE)
    sae.validation_step = lambda batch, batch_idx: {}
    evaluator = SparseProbing([Whole()], (1, 5), pooling, 60, 60)
    trainer(evaluator).validate(sae, text, verbose=False)
    dense = evaluator.measured["probe_accuracy_k1"].members[DENSE]
    # At the last token of all texts, the embedding of one word, nothing is left of the animal.
    assert dense == pytest.approx(0.5) if pooling == "last" else dense > 0.9
    assert 0.4 <= evaluator.measured["probe_accuracy_k5"].members[TRAINED] <= 1


def test_a_crosscoder_tells_what_either_of_its_hooks_does(trainer, text, members, tmp_path):
    """Its latent reads the animal from the second hook alone, the embedding; the first has none of it."""
    hooks = {"late": "model.layers.0", "embedding": "model.embed_tokens"}
    both = LanguageModelDataModule(
        save_tiny_lm(tmp_path), hooks, FileText(save_text(tmp_path / "text.jsonl")),
        context_length=8, batch_size=16, train_samples=64, val_samples=32, buffer_samples=600, llm_batch_size=8,
    )  # fmt: skip
    planted = members[TRAINED]
    sae = TopK(2 * D_IN, k=1, d_sae=D_SAE, crosscoder=True, widths=both.widths)
    sae.initialise(0, torch.randn(64, 2 * D_IN))
    with torch.no_grad():
        for tensor, value in ((sae.W_enc, 0), (sae.b_dec, 0), (sae.input_scale, 1)):
            tensor.fill_(value)
        sae.W_enc[D_IN:, 7], sae.b_enc[7] = planted.direction, -planted.middle
    measured, _ = evaluate(trainer, both, {TRAINED: sae}, Animal(), ks=(1,))
    assert measured["probe_accuracy_k1"].members[TRAINED] == pytest.approx(1)


def test_bad_arguments(trainer, text):
    for ks in ((), (0,), (1, 1)):
        with pytest.raises(ValueError, match="ks="):
            SparseProbing(ks=ks)
    with pytest.raises(ValueError, match="tasks=.*: expected one task or more"):
        SparseProbing([])
    with pytest.raises(ValueError, match="test_examples=5: expected a whole number, 20 or more"):
        SparseProbing(test_examples=5)
    with pytest.raises(ValueError, match=f"ks=.100.: expected at most the number of latents, {D_SAE}"):
        trainer(SparseProbing([Animal()], (100,))).validate(TopK(D_IN, k=4, d_sae=D_SAE), text, verbose=False)


class Drawn(Animal):
    """The same places, of which each draw takes others, and has others in test."""

    def load(self, n_train, n_test, draw=0):
        if not draw:
            return super().load(n_train, n_test)
        order = random.Random(draw).sample(range(50), 50)
        by_place = {}
        for sets in (super().load(n_train, n_test),):
            for example in sets.train + sets.test:
                by_place.setdefault(int(example.document), []).append(example)
        train, test = ([example for i in part for example in by_place[i]] for part in (order[:30], order[30:]))
        return ExampleSets(train, test, super().load(n_train, n_test).ood)


def test_repeats_draw_other_examples_and_read_each_text_once(trainer, text, members, monkeypatch):
    once, _ = evaluate(trainer, text, members, Drawn(), ks=(1,))
    read = []
    capture = text.source.capture
    evaluator = SparseProbing([Drawn()], (1,), train_examples=60, test_examples=60, n_repeats=3)
    run = trainer(evaluator)
    monkeypatch.setattr(text.source, "capture", lambda inputs: read.append(inputs.input_ids) or capture(inputs))
    run.validate(Panel(members), text, verbose=False)
    assert 0 <= sum(map(len, read)) - 140 < 140, "all draws are of the same 140 texts"
    assert check_repeats(once, evaluator.measured, 3) <= set(once)
    items = evaluator.measured["probe_accuracy_k1"].items
    assert len(items.numerators[TRAINED]) > 20
    assert len(set(items.names[TRAINED])) == len(items.names[TRAINED])


def test_a_task_that_draws_the_same_examples_cannot_be_repeated(trainer, text, members):
    with pytest.raises(ValueError, match=r"Animal\(\) draws the same examples each time: for n_repeats above 1"):
        evaluate(trainer, text, members, Animal(), n_repeats=2)


def test_the_floor_of_a_dense_probe_is_measured_with_control_labels(trainer, text, members):
    """Of few words that come again in test, a dense probe knows the random label of each."""

    class Words(Animal):
        def load(self, n_train, n_test):
            def examples(n):
                texts = [(word, label) for word in WORDS[:6] for label in ("a", "b") for _ in range(n)]
                return [Example(f"{word} the", label, word, f"{word} {label}", (0, len(word))) for word, label in texts]

            return ExampleSets(examples(10), examples(5))

    sae = TopK(D_IN, k=8, d_sae=D_SAE).requires_grad_(False)
    sae.W_enc.copy_(sae.W_dec.T)
    measured, logged = evaluate(trainer, text, {TRAINED: sae, DEAD: members[DEAD]}, Words(), ks=(1,))
    floors = measured["probe_reconstruction_accuracy"].member_floors
    assert floors[TRAINED] > 0.9
    assert floors[DENSE] == pytest.approx(1)
    assert floors[DEAD] == pytest.approx(0.5)
    assert logged["val/probe_reconstruction_accuracy/trained/0"] < 0.6
