import pytest
import torch
from causal.toy import WORDS, ToyData, ToyPrompts, prompt
from torch.nn.functional import one_hot

from sae_lightning.causal import (
    Coordinates,
    Swaps,
    ask,
    ask_what_is_known,
    entity_activations,
    is_correct,
    known_prompts,
    read_questions,
    train_mask,
)
from sae_lightning.causal.prompts import EntityPrompt
from sae_lightning.saes import ReLU, TopK


@pytest.fixture
def data():
    return ToyData()


def test_questions_know_where_entity_and_answer_are(data):
    prompts = [prompt("the {1} of {0} is", 4, "country"), prompt("{} {} is", 5, "language")]
    first, second = read_questions(data.reader, prompts, [" country1", " language0 language1"])
    assert [WORDS[i] for i in first.input_ids] == ["<s>", "the", "country", "of", "e4", "is", "country1"]
    assert (first.entity_at, first.answer_at) == (4, 6)
    assert (second.entity_at, second.answer_at, len(second.input_ids)) == (1, 4, 6)


def test_what_cannot_be_asked_is_no_question(data):
    glued = EntityPrompt("e1", "e1", 2, "country", "x")  # one token has the entity and the answer
    long = EntityPrompt("the " * 20 + "e1", "e1", 82, "country", " country1")
    assert read_questions(data.reader, [glued, long], ["x", " country1"]) == [None, None]


def test_every_token_of_the_answer_counts_whatever_is_read_beside_it(data):
    prompts = [prompt("{} {} is", 4, "country")] * 3 + [prompt("the {1} of {0} is", 4, "country")]
    questions = read_questions(data.reader, prompts, [" country1", " country2", " country1 country2", " country1"])
    loss, correct = ask(data.source, questions)
    assert correct.tolist() == [True, False, False, True]  # entity 4 has country 1
    sure = torch.zeros(len(WORDS))
    sure[WORDS.index("country1")] = 5
    nll = -sure.log_softmax(0)
    one, two = nll[WORDS.index("country1")], nll[WORDS.index("country2")]
    torch.testing.assert_close(loss, torch.stack([one, two, (one + two) / 2, one]))
    assert is_correct(data.source, questions, batch_size=3).tolist() == [True, False, False, True]
    expected = data.source.table[WORDS.index("e4")].expand(4, -1)
    assert torch.equal(entity_activations(data.source, questions, batch_size=3), expected)


class Oracle:
    """Knows every next token."""

    def replace(self, inputs, edit, hook):
        return one_hot(inputs.input_ids.roll(-1, dims=1), len(WORDS)).float()


def test_a_token_is_predicted_where_the_one_before_it_is_read(data):
    questions = read_questions(data.reader, [prompt("{} {} is", 4, "country")], [" country1 country2"])
    assert ask(Oracle(), questions)[1].item()


def test_an_edit_reaches_the_entity_alone_and_has_a_gradient(data):
    questions = read_questions(data.reader, [prompt("{} {} is", 4, "country")], [" country2"])
    edited = data.source.table[[WORDS.index("e2")]].requires_grad_()  # country 2
    loss, correct = ask(data.source, questions, edited, "somewhere")
    assert correct.item()
    assert data.source.hooks[-1] == "somewhere"
    (gradient,) = torch.autograd.grad(loss.sum(), edited)
    assert gradient[0, 2] < 0 < gradient[0, 0]


@pytest.mark.parametrize("sae", [TopK(6, k=3, d_sae=8), ReLU(6, d_sae=8), TopK(6, k=3, d_sae=8, d_out=4, skip=True)])
def test_swapped_is_the_decoded_mixture(sae):
    sae.initialise(0)
    sae.input_scale.fill_(2.0)
    if sae.is_transcoder:
        sae.target_scale.fill_(5.0)
        torch.nn.init.normal_(sae.W_skip)
    sae.eval()
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    coordinates = Coordinates.of_sae(sae, x)
    base, source, mask = torch.tensor([0, 1, 1]), torch.tensor([4, 2, 3]), torch.rand(8)
    latents = sae.encode(x).to_dense()
    mixture = latents[base] + mask * (latents[source] - latents[base])
    skipped = 2 * x[base] @ sae.W_skip if sae.is_transcoder else 0
    expected = (mixture @ sae.W_dec + sae.b_dec + skipped) / sae.output_scale
    torch.testing.assert_close(coordinates.swapped(base, source, mask), expected.detach())


def test_a_rotation_loses_nothing():
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    rotation = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(1))).Q
    coordinates = Coordinates.of_rotation(rotation, x)
    base, source = torch.tensor([0, 1]), torch.tensor([2, 3])
    assert torch.equal(coordinates.swapped(base, source, torch.zeros(6)), x[base])
    torch.testing.assert_close(coordinates.swapped(base, source, torch.ones(6)), x[source])


def test_a_mask_names_what_holds_the_attribute(data):
    answers = ask_what_is_known(data.reader, ToyPrompts(), 100, 0, "", "train")
    known = known_prompts(data.reader, answers, ["country", "language"], 64, 0)
    x = entity_activations(data.source, known.questions, 16)
    swaps = known.swaps["language"]

    def loss(pairs, edited):
        return ask(data.source, [swaps.questions[i] for i in pairs], edited)[0].mean()

    state = torch.get_rng_state()
    with torch.no_grad():
        batches = swaps.batches(4, 16, seed=0)
        mask = train_mask(Coordinates.of_rotation(torch.eye(6), x), swaps, loss, batches, 0.01)
    assert mask.tolist() == [False] * 3 + [True] * 3
    assert torch.get_rng_state().equal(state)


def test_batches_are_half_cause_and_half_isolation():
    swaps = Swaps(torch.zeros(20), torch.zeros(20), [], n_cause=10)
    batches = swaps.batches(2, 4, seed=0)
    assert len(batches) == 10
    assert all((batch < 10).sum() == 2 and len(batch) == 4 for batch in batches)
    assert torch.equal(torch.cat(batches[:5]).sort().values, torch.arange(20))
    assert not torch.equal(batches[0], batches[5])
