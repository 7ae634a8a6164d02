"""Words with planted letters, and SAEs in which some of them are absorbed: the answer is known."""

import math

import numpy as np
import pytest
import torch
from repeated import check_repeats
from tiny import save_text, save_tiny_lm
from tiny_models import MODELS, save

from sae_lightning.datamodules import FileText, LanguageModelDataModule
from sae_lightning.evaluators import Absorption
from sae_lightning.evaluators.letter_latents import LetterScores, WordLatents
from sae_lightning.members import Member
from sae_lightning.probing.letters import LetterReader, vocabulary_words
from sae_lightning.saes import ReLU, SAEModule, TopK

LETTERS, SECOND, THIRD = "abcdeg", "bcdfgh", "aklmn"
TAKEN = [f"a{second}a" for second in SECOND]
"""Words whose letter a latent of their own can take over: a fifth of those with an a."""
VOCABULARY = [f"{a}{b}{c}" for a in LETTERS for b in SECOND for c in THIRD] + [
    "has",
    "the",
    "first",
    "letter",
    ":",
    "A",
    "B",
    "C",
    "D",
    "E",
    "G",
]
N_LATENTS = len(LETTERS) + len(TAKEN)
D_IN = N_LATENTS + 32
D_SAE = 2 * N_LATENTS
TRAINED, DENSE = Member("trained", 0), Member("dense_probe", 0)


def save_letter_lm(folder):
    """A model whose embedding of a word is 3 along its letter, along one of its own if in TAKEN, and noise."""
    from safetensors.torch import load_file, save_file

    save_tiny_lm(folder, d=D_IN, vocabulary=len(VOCABULARY) + 4, words=VOCABULARY)
    weights = load_file(folder / "model.safetensors")
    embedding = 0.7 * torch.randn(len(VOCABULARY) + 4, D_IN, generator=torch.Generator().manual_seed(0))
    embedding[:, :N_LATENTS] = 0
    embedding[:, 0] = 3  # of all other tokens: words must not be massive beside them
    for token, word in enumerate(VOCABULARY, 4):
        if word[0] in LETTERS:
            embedding[token, 0] = 0
            embedding[token, LETTERS.index(word[0])] = 3
        if word in TAKEN:
            embedding[token, len(LETTERS) + TAKEN.index(word)] = 3
    weights["model.embed_tokens.weight"] = embedding
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return str(folder)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    folder = tmp_path_factory.mktemp("letters")
    return data_of(save_letter_lm(folder / "lm"), folder)


def data_of(model, folder, hook="model.embed_tokens", **settings):
    sizes = {
        "context_length": 32,
        "batch_size": 16,
        "train_samples": 64,
        "val_samples": 32,
        "buffer_samples": 600,
        "llm_batch_size": 8,
    }
    return LanguageModelDataModule(model, hook, FileText(save_text(folder / "text.jsonl")), **(sizes | settings))


class Panel(SAEModule):
    def __init__(self, **members):
        super().__init__()
        self.saes = torch.nn.ModuleDict(members)

    @property
    def members(self):
        return {Member(name, 0): sae for name, sae in self.saes.items()}

    def validation_step(self, batch, batch_idx):
        return {}


def planted(taken_over=0.0):
    """An SAE with a latent for each letter, and one for each word in TAKEN that takes over this share of its letter.

    Whatever the share, the noise alone is missing from its reconstructions.
    """
    sae = ReLU(D_IN, d_sae=D_SAE, unit_norm_decoder=False).requires_grad_(False)
    sae.initialise(0)
    for parameter in (sae.W_enc, sae.W_dec, sae.b_enc, sae.b_dec):
        parameter.zero_()
    sae.b_enc[N_LATENTS:] = -1  # half of the latents never fire
    sae.W_dec[N_LATENTS:, 0] = 1
    sae.W_enc[:N_LATENTS, :N_LATENTS] = sae.W_dec[:N_LATENTS, :N_LATENTS] = torch.eye(N_LATENTS)
    sae.W_enc[len(LETTERS) : N_LATENTS, 0] = -taken_over
    sae.W_dec[len(LETTERS) : N_LATENTS, 0] = taken_over
    return sae


def evaluate(trainer, text, module, **settings):
    evaluator = Absorption(train_words=20, test_words=10, n_examples=1, **settings)
    run = trainer(evaluator)
    run.validate(module, text, verbose=False)
    logged = {name.removeprefix("val/"): float(value) for name, value in run.callback_metrics.items()}
    return evaluator, logged


def recognised(evaluator, draw=0):
    """Held-out words by letter for which the probe on the activations answers yes."""
    probed = evaluator._probed[draw][""]
    return {letter: [probed.words.words[row] for row in rows] for letter, rows in probed.recognised.items()}


def held_out(evaluator, draw=0):
    words = evaluator._probed[draw][""].words
    return [word for word, is_test in zip(words.words, words.is_test, strict=True) if is_test]


def test_planted_absorption_comes_out_exactly(trainer, text):
    module = Panel(trained=planted(1.0), two_thirds=planted(2 / 3), none=planted(0.0))
    evaluator, logged = evaluate(trainer, text, module)
    taken = [word in TAKEN for word in recognised(evaluator)["a"]]
    rate = sum(taken) / len(taken) / 6  # of one letter of six
    assert 0 < rate < 1 / 6
    assert logged["absorption_full_rate/trained/0"] == pytest.approx(rate)
    assert logged["absorption_fraction/trained/0"] == pytest.approx(rate)
    assert logged["absorption_full_rate/two_thirds/0"] == 0, "the main latent fires on every word"
    assert logged["absorption_fraction/two_thirds/0"] == pytest.approx(2 / 3 * rate, rel=0.1)  # the noise has a share
    assert logged["absorption_full_rate/none/0"] == logged["absorption_fraction/none/0"] == 0
    recall = 1 - sum(word in TAKEN for word in held_out(evaluator)) / 10
    assert logged["letter_f1/trained/0"] == pytest.approx((5 + 2 * recall / (1 + recall)) / 6)
    assert logged["letter_f1/none/0"] == 1
    assert logged["letter_f1/dense_probe/0"] > 0.9
    for name in ("trained", "two_thirds", "none"):
        assert logged[f"letter_main_latents/{name}/0"] == 1
        assert logged[f"letters_told/{name}/0"] == 6
        assert evaluator.measured["letter_f1"].member_floors[Member(name, 0)] < 0.7


def test_values_are_made_of_words_and_letters(trainer, text):
    evaluator, logged = evaluate(trainer, text, Panel(trained=planted(1.0), none=planted(0.0)))
    words = [word for own in recognised(evaluator).values() for word in own]
    for name, scores in evaluator.measured.items():
        if name == "letters_told":
            continue
        assert scores.items.paired
        for member, value in scores.members.items():
            numerators, denominators = scores.items.numerators[member], scores.items.denominators[member]
            names = scores.items.names[member]
            assert names == (words if name.startswith("absorption") else list(LETTERS))
            assert len(numerators) == len(names)
            assert float(numerators.sum() / denominators.sum()) == pytest.approx(value)
            assert logged[f"{name}/{member}"] == pytest.approx(value)
    full = evaluator.measured["absorption_full_rate"].items
    absorbed = {word for word, value in zip(full.names[TRAINED], full.numerators[TRAINED], strict=True) if value}
    assert absorbed == set(words) & set(TAKEN)


def test_what_tells_no_letter_absorbs_none_and_has_no_score(trainer, text):
    dead, at_random = planted(), TopK(D_IN, d_sae=D_SAE, k=1)
    dead.b_enc.fill_(-100)
    with pytest.warns(UserWarning, match=r"withheld \(nan\) for dead/0, at_random/0.*no better than random directions"):
        evaluator, logged = evaluate(trainer, text, Panel(trained=planted(1.0), dead=dead, at_random=at_random))
    for name in ("dead", "at_random"):
        assert math.isnan(logged[f"absorption_fraction/{name}/0"])
        assert math.isnan(logged[f"absorption_full_rate/{name}/0"])
    assert (logged["letter_f1/dead/0"], logged["letter_main_latents/dead/0"]) == (0, 0)
    assert math.isfinite(logged["absorption_fraction/trained/0"])
    assert logged["letter_f1/at_random/0"] == pytest.approx(
        evaluator.measured["letter_f1"].member_floors[Member("at_random", 0)], abs=0.25
    )


def test_better_on_most_letters_is_better_than_chance():
    def scores(*f1):
        no_words = np.zeros(0)
        return LetterScores(np.array(f1), np.zeros(len(f1)), no_words, no_words)

    chance = scores(*[0.1] * 9)
    assert scores(*[0.2] * 8, 0.1).is_above(chance)
    assert not scores(*[0.2] * 7, 0.1, 0.1).is_above(chance)
    assert not chance.is_above(chance)
    assert not scores().is_above(scores())


def test_repeats_draw_other_words(trainer, text):
    module = Panel(trained=planted(1.0), none=planted(0.0))
    once, _ = evaluate(trainer, text, module)
    repeated, _ = evaluate(trainer, text, module, n_repeats=3)
    assert held_out(repeated) == held_out(once)
    assert set(held_out(repeated)) != set(held_out(repeated, 1)) != set(held_out(repeated, 2))
    differ = check_repeats(once.measured, repeated.measured, 3)
    assert differ <= {"absorption_full_rate", "absorption_fraction", "letter_f1", "letter_main_latents"}


@pytest.mark.parametrize("settings", [{}, {"scale_input": True}, {"input_norm": "layer_norm"}])
def test_latents_are_brought_to_the_units_of_the_activations(settings):
    x = 5 + torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    sae = TopK(8, d_sae=24, k=3, **settings)
    sae.initialise(0, x)
    latents = WordLatents.of_sae(sae, x)
    code = sae.encode(x)
    added = sae.decode(code) - sae.decode(code.with_values(torch.zeros_like(code.values)))
    values = torch.from_numpy(latents.values.toarray() * latents.scales[:, None]).float()
    assert torch.allclose(values @ latents.directions, added, atol=1e-4)


def test_random_latents_reconstruct_as_well_as_one_scale_allows():
    x = 5 + torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    latents = WordLatents.at_random(24, 6, x)
    assert latents.l0 == pytest.approx(6, abs=0.5)
    x_hat = torch.from_numpy(latents.values @ latents.directions.numpy() * latents.scales[:, None])
    centred = x - x.mean(0)
    errors = [float((centred - scale * x_hat).square().sum()) for scale in (0.95, 1, 1.05)]
    assert errors[1] < min(errors[0], errors[2])


def test_nothing_is_drawn_and_the_model_runs_before_training_alone(trainer, text, monkeypatch):
    read = []
    capture = text.source.capture
    evaluator = Absorption(train_words=20, test_words=10, n_examples=1)
    run = trainer(evaluator)
    state = torch.get_rng_state()
    monkeypatch.setattr(text.source, "capture", lambda inputs: read.append(len(inputs.input_ids)) or capture(inputs))
    run.validate(Panel(trained=planted()), text, verbose=False)
    n_read = sum(read)
    run.validate(Panel(trained=planted()), text, verbose=False)
    assert sum(read) - n_read < n_read / 2, "the stream alone"
    assert torch.equal(torch.get_rng_state(), state)


def test_words_are_read_at_their_own_token_after_examples(text, tmp_path):
    from sae_lightning.datamodules.text_reader import TextReader

    reader = LetterReader(TextReader(text), 20, 10, 2)
    words = reader.read(0)
    assert (words.alphabet, list(words.left_out)) == (list(LETTERS), list("fhlt"))
    assert len(set(words.words)) == len(words.words) == 180
    for word, row in zip(words.words, words.activations, strict=True):
        assert row[: len(LETTERS)].tolist() == [3 * (letter == word[0]) for letter in LETTERS]
    for letter in LETTERS:
        assert words.is_test[words.letters == letter].sum() == 10
    texts = list(reader._texts(list(words.words), np.random.default_rng(0)))
    assert sorted(word for _, places in texts for word in places.values()) == sorted(words.words)
    for lines, places in texts:
        assert min(places) == len(" aba has the first letter: A\n") * 2 + 1
        assert all(
            lines[place:].startswith(f"{word} has the first letter: {word[0].upper()}\n")
            for place, word in places.items()
        )


def test_the_vocabulary_of_a_model(tmp_path):
    from transformers import AutoTokenizer

    words = ["cat", "Cat", "ab", "x1y", "naïve", "dog"]
    tokenizer = AutoTokenizer.from_pretrained(save_tiny_lm(tmp_path, words=words))
    assert vocabulary_words(tokenizer) == {"cat": 4, "Cat": 5, "dog": 9}


def test_what_cannot_be_asked_is_refused_before_training(trainer, text, tmp_path):
    with pytest.raises(ValueError, match=r"Absorption: n_examples=4: a text of context_length=32 tokens holds 4 lines"):
        trainer(Absorption(n_examples=4)).fit(planted(), text)
    few = data_of(save_tiny_lm(tmp_path / "few"), tmp_path)
    with pytest.raises(
        ValueError, match=r"Absorption: first letters need a vocabulary with 30 words or more for each of 5"
    ):
        trainer(Absorption()).fit(TopK(16, d_sae=32, k=2), few)
    at_random = save_tiny_lm(tmp_path / "random", vocabulary=len(VOCABULARY) + 4, words=VOCABULARY)
    with pytest.raises(ValueError, match=r"Absorption: the activations tell \d of 6 first letters"):
        trainer(Absorption(n_examples=1)).fit(TopK(16, d_sae=32, k=2), data_of(at_random, tmp_path))
    bert, _ = save(tmp_path / "bert", "BertModel", MODELS["BertModel"][0])
    encoder = data_of(bert, tmp_path, "encoder.layer.0", tokenizer=str(tmp_path / "few"), context_length=8)
    with pytest.raises(ValueError, match="Absorption needs a causal language model"):
        trainer(Absorption()).fit(TopK(16, d_sae=32, k=2), encoder)


@pytest.mark.parametrize("argument", [{"max_k": 0}, {"train_words": 19}, {"test_words": 9}, {"n_examples": -1}])
def test_bad_arguments(argument):
    with pytest.raises(ValueError, match=f"{next(iter(argument))}="):
        Absorption(**argument)
