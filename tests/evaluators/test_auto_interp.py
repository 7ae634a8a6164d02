import json

import pytest
import torch
from repeated import check_repeats
from tiny import WORDS, save_text, save_tiny_lm
from torch.nn.functional import normalize

from sae_lightning.cli import main
from sae_lightning.code import Code
from sae_lightning.datamodules import LanguageModelDataModule
from sae_lightning.datamodules.file_text import FileText
from sae_lightning.datamodules.text_reader import TextReader
from sae_lightning.evaluators import AutoInterp
from sae_lightning.interpretation import ChatJudge, Explanation, Judge
from sae_lightning.interpretation.excerpts import Excerpts
from sae_lightning.interpretation.firings import TextCodes
from sae_lightning.members import Member
from sae_lightning.panel import SanityPanel
from sae_lightning.saes import Isotropic, SAEModule, TopK

SETTINGS = {"n_latents": 6, "n_shown": 3, "n_judged": 4, "excerpt_length": 8, "n_tokens": 1500, "min_excerpts": 3}


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    folder = tmp_path_factory.mktemp("auto_interp")
    files = FileText(save_text(folder / "text.jsonl", 400), heldout_every=2)
    return LanguageModelDataModule(
        save_tiny_lm(folder), "model.layers.0", files, context_length=32, batch_size=64, llm_batch_size=4,
        train_samples=64, val_samples=64, buffer_samples=256,
    )  # fmt: skip


@pytest.fixture
def panel(text):
    isotropic = {"frozen_decoder": Isotropic()}  # a start without data
    return SanityPanel(text.d_in, sae=lambda d_in: TopK(d_in, k=3, d_sae=24), inits=isotropic)


class Coin(Judge):
    """Guesses, and does not say so."""

    def __init__(self):
        self.random = torch.Generator().manual_seed(0)

    def explain(self, shown, contrast):
        return Explanation("heads")

    def judge(self, explanation, excerpts):
        return (torch.rand(len(excerpts), generator=self.random) < 0.5).tolist()


class Members(SAEModule):
    """A module of anything that encodes."""

    def __init__(self, **members):
        super().__init__()
        self._members = members

    @property
    def members(self):
        return {Member(name, 0): member for name, member in self._members.items()}

    def test_step(self, batch, batch_idx):
        return {}

    validation_step = test_step


class Planted(TopK):
    """A latent for each word, which fires on it alone if the model has a source; else none ever fires."""

    def __init__(self, source=None):
        super().__init__(16, k=1, d_sae=len(WORDS))
        self.embedding = None if source is None else source.model.get_input_embeddings().weight[4 : 4 + self.d_sae]

    def encode(self, x):
        if self.embedding is None:
            return Code.from_dense(torch.zeros(len(x), self.d_sae))
        near = torch.cdist(x, self.embedding)
        return Code.from_dense((near < 1e-4).float())


def validate(trainer, module, text, evaluator, **settings):
    run = trainer(evaluator, **settings)
    run.validate(module, text, verbose=False)
    return {name.removeprefix("val/"): value.item() for name, value in run.callback_metrics.items()}


def test_latents_of_one_word_are_interpreted_and_dead_ones_are_not(trainer, tmp_path):
    text = LanguageModelDataModule(
        save_tiny_lm(tmp_path), "model.embed_tokens", FileText(save_text(tmp_path / "text.jsonl"), heldout_every=2),
        context_length=32, batch_size=64, llm_batch_size=4, train_samples=64, val_samples=64, buffer_samples=256,
    )  # fmt: skip
    members, evaluator = Members(planted=Planted(text.source), dead=Planted()), AutoInterp(**SETTINGS)
    with pytest.warns(UserWarning, match=r"interp_accuracy is withheld \(nan\) for dead/0 .* no latent fires often"):
        values = validate(trainer, members, text, evaluator)
    assert values["interp_accuracy/planted/0"] == 1
    assert values["interp_accuracy_weighted/planted/0"] == 1
    assert values["interp_share_above_0.7/planted/0"] == 1
    assert values["interp_alive_fraction/planted/0"] > 0.7
    assert values["interp_alive_fraction/dead/0"] == 0
    assert torch.tensor(values["interp_accuracy/dead/0"]).isnan()
    assert values["interp_dense_fraction/dead/0"] == 0
    # Of the 8 answers about a latent a judge that guesses has 6, 7 or 8 right in 37 of 256 cases.
    assert (values["interp_accuracy/floor"], values["interp_share_above_0.7/floor"]) == (0.5, 37 / 256)
    assert evaluator.measured["interp_share_above_0.7"].member_floors == {Member("planted", 0): 37 / 256}
    items = evaluator.measured["interp_accuracy"].items
    assert {member.policy: len(values) for member, values in items.numerators.items()} == {"planted": 6, "dead": 0}
    (of_latents,) = evaluator.latent_scores
    planted, dead = of_latents.members.values()
    sampled = planted.isfinite().nonzero()[:, 0].tolist()
    assert sampled == sorted(items.names[Member("planted", 0)])
    assert planted[sampled].tolist() == [1.0] * 6
    assert (len(dead), bool(dead.isfinite().any())) == (len(WORDS), False)
    assert not items.paired


def test_a_crosscoder_of_two_hooks_is_interpreted(trainer, tmp_path):
    """Latents fire for the embedding of one word each, which is the second part."""
    hooks = {"late": "model.layers.0", "embedding": "model.embed_tokens"}
    text = LanguageModelDataModule(
        save_tiny_lm(tmp_path), hooks, FileText(save_text(tmp_path / "text.jsonl"), heldout_every=2),
        context_length=32, batch_size=64, llm_batch_size=4, train_samples=64, val_samples=64, buffer_samples=256,
    )  # fmt: skip
    words = normalize(text.source.model.get_input_embeddings().weight[4 : 4 + len(WORDS)].detach(), dim=1)
    crosscoder = TopK(32, k=1, d_sae=len(WORDS), crosscoder=True, widths=text.widths)
    crosscoder.initialise(0, torch.randn(64, 32))
    with torch.no_grad():
        crosscoder.b_dec.zero_()
        crosscoder.W_enc.zero_()[16:] = words.T
    values = validate(trainer, Members(planted=crosscoder), text, AutoInterp(**SETTINGS))
    assert values["interp_accuracy/planted/0"] > 0.9
    assert values["interp_alive_fraction/planted/0"] > 0.7


def test_counts_and_firings_are_those_of_all_codes_at_once(panel, text):
    excerpts = Excerpts(text.heldout_rows(1000), 8, text.packing.tokenizer)
    codes = TextCodes(TextReader(text), panel, panel.members, excerpts)
    activations, mask = text.source.capture(excerpts.rows)
    chosen = {member: [2, 5, 23] for member in panel.members}
    counts, firings = codes.count(), codes.firings(chosen)
    for member, sae in panel.members.items():
        dense = torch.zeros(mask.numel(), 24)
        dense[mask.flatten()] = sae.encode(activations[mask].float()).to_dense()
        fires = (dense != 0).view(len(excerpts), 8, 24).any(1)
        assert counts[member].tokens.equal((dense != 0).sum(0))
        assert counts[member].shown.equal(fires[excerpts.shown].sum(0))
        assert counts[member].judged.equal(fires[excerpts.judged].sum(0))
        assert counts[member].n_tokens == mask.sum()
        for column, latent in enumerate(chosen[member]):
            torch.testing.assert_close(firings[member].activations(column, mask.numel()), dense[:, latent])


def test_two_ranks_find_what_one_does(panel, text, monkeypatch):
    from sae_lightning.interpretation import firings as module

    excerpts = Excerpts(text.heldout_rows(1000), 8, text.packing.tokenizer)
    alone = [numbers for numbers, _ in TextCodes(TextReader(text), panel, panel.members, excerpts)]
    monkeypatch.setattr(module, "world_size", lambda: 2)
    shared = []
    for rank in range(2):
        monkeypatch.setattr(module, "rank", lambda rank=rank: rank)
        shared.append([numbers for numbers, _ in TextCodes(TextReader(text), panel, panel.members, excerpts)])
    assert torch.cat(alone).tolist() == sorted(torch.cat(shared[0] + shared[1]).tolist())
    assert shared[0]
    assert shared[1]


def test_a_judge_that_guesses_scores_one_half_and_metrics_follow_from_items(trainer, panel, text):
    many = SETTINGS | {"n_latents": 24, "n_judged": 30}
    values = validate(trainer, panel, text, evaluator := AutoInterp(Coin(), **many))
    members = list(panel.members)
    accuracies = [values[f"interp_accuracy/{member}"] for member in members]
    assert sum(accuracies) / 4 == pytest.approx(0.5, abs=0.03)
    for metric in ("interp_accuracy", "interp_accuracy_weighted", "interp_share_above_0.7"):
        items = evaluator.measured[metric].items
        for member in members:
            ratio = items.numerators[member].sum() / items.denominators[member].sum()
            assert values[f"{metric}/{member}"] == pytest.approx(ratio.item())
    accuracy = evaluator.measured["interp_accuracy"].items.numerators[members[0]]
    weights = evaluator.measured["interp_accuracy_weighted"].items.denominators[members[0]]
    assert values[f"interp_accuracy_weighted/{members[0]}"] == pytest.approx(
        ((accuracy * weights).sum() / weights.sum()).item()
    )
    assert len(set(weights.tolist())) > 1


def test_a_second_evaluation_says_the_same_and_draws_nothing_globally(trainer, panel, text):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = validate(trainer, panel, text, AutoInterp(**SETTINGS))
    assert torch.equal(before, torch.get_rng_state())
    assert validate(trainer, panel, text, AutoInterp(**SETTINGS)) == first


def test_a_dry_run_counts_and_asks_nothing(trainer, panel, text, tmp_path):
    judge = ChatJudge("tiny", "http://127.0.0.1:9", key_variable="", cache=str(tmp_path / "cache"), dry_run=True)
    values = validate(trainer, panel, text, AutoInterp(judge, **SETTINGS))
    assert {name.split("/")[0] for name in values} == {"interp_dense_fraction", "interp_alive_fraction"}
    assert not list(tmp_path.rglob("answers.jsonl"))


class Mumbles(Coin):
    def judge(self, explanation, excerpts):
        return [None] * len(excerpts)


def test_answers_that_cannot_be_understood_are_told(trainer, panel, text):
    with pytest.warns(UserWarning, match="answers of Mumbles could not be understood and count as"):
        assert validate(trainer, panel, text, AutoInterp(Mumbles(), **SETTINGS))["interp_accuracy/trained/0"] == 0.5


def test_equal_judges_are_one_key_in_checkpoints():
    keys = {AutoInterp(ChatJudge("a")).state_key, AutoInterp(ChatJudge("a")).state_key}
    assert len(keys) == 1
    assert AutoInterp(ChatJudge("b")).state_key not in keys


def test_the_command_line_runs_it_and_keeps_every_latent(text, tmp_path, capsys):
    folder = text.source.name
    main([
        "fit", "--model=TopK", "--model.k=3", "--model.d_sae=24", "--name=run", f"--trainer.logger.save_dir={tmp_path}",
        "--data=LanguageModelDataModule", f"--data.model={folder}", "--data.hook=model.layers.0",
        "--data.text=FileText",
        f"--data.text.paths={folder}/text.jsonl", "--data.text.heldout_every=2", "--data.context_length=32",
        "--data.batch_size=64", "--data.llm_batch_size=4", "--data.train_samples=128", "--data.val_samples=64",
        "--data.buffer_samples=256", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false",
        "--trainer.enable_model_summary=false", "--trainer.log_every_n_steps=1", "--trainer.callbacks+=AutoInterp",
        *(f"--trainer.callbacks.{name}={value}" for name, value in SETTINGS.items()),
        "--trainer.callbacks.judge=LexicalJudge", "--trainer.callbacks.judge.n_terms=2",
    ])  # fmt: skip
    run = tmp_path / "run/version_0"
    lines = [json.loads(line) for line in (run / "interpretation.jsonl").read_text().splitlines()]
    assert len(lines) == 6
    assert {"member", "latent", "frequency", "explanation", "score", "examples"} <= set(lines[0])
    metrics = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["metrics"]
    mean = sum(line["score"] for line in lines) / 6
    assert metrics["interp_accuracy"]["trained"]["0"] == pytest.approx(mean)
    assert "interp_accuracy" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "value"),
    [("n_latents", 0), ("n_shown", 0), ("n_judged", 0), ("n_tokens", 0), ("min_excerpts", 0), ("min_frequency", 1.0)],
)
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name}={value}: expected"):
        AutoInterp(**{name: value})


def test_excerpts_that_fit_into_no_row_are_refused(trainer, panel, text):
    with pytest.raises(ValueError, match="excerpt_length=33: expected at most data.context_length=32"):
        validate(trainer, panel, text, AutoInterp(excerpt_length=33))


def test_data_without_text_are_refused(sae, data, trainer):
    with pytest.raises(ValueError, match="AutoInterp needs a language model, and data=Activations has none"):
        trainer(AutoInterp()).fit(sae, data)


def test_repeats_draw_other_latents_and_texts_and_read_the_text_twice(trainer, panel, text, monkeypatch):
    readings = []
    read = TextCodes.__iter__
    monkeypatch.setattr(TextCodes, "__iter__", lambda self: readings.append(1) or read(self))
    measured = []
    for n in (1, 3):
        evaluator = AutoInterp(**SETTINGS, n_repeats=n)
        validate(trainer, panel, text, evaluator)
        measured.append(evaluator.measured)
    assert len(readings) == 4
    assert "interp_accuracy" in check_repeats(*measured, 3)
    trained = Member("trained", 0)
    assert 6 < len(measured[1]["interp_accuracy"].items.numerators[trained]) <= 18
    assert (
        measured[1]["interp_dense_fraction"].repeats[trained]
        == (measured[0]["interp_dense_fraction"].members[trained],) * 3
    )


def test_halves_of_another_draw_share_no_text(text):
    excerpts = Excerpts(text.heldout_rows(1000), 8, text.packing.tokenizer)
    other = excerpts.with_other_halves(7)
    assert not (other.shown & other.judged).any()
    assert torch.equal(other.shown | other.judged, excerpts.shown | excerpts.judged)
    assert not torch.equal(other.shown, excerpts.shown)
    rows = (excerpts.start == 0).cumsum(0)
    assert not set(rows[other.shown].tolist()) & set(rows[other.judged].tolist()), "whole rows"


class Diverged(Planted):
    """Says nan of every token."""

    def encode(self, x):
        return Code.from_dense(torch.full((len(x), self.d_sae), torch.nan))


def test_of_an_sae_that_has_diverged_no_latent_fires(trainer, text):
    with pytest.warns(UserWarning, match=r"interp_accuracy is withheld \(nan\)"):
        values = validate(trainer, Members(diverged=Diverged()), text, AutoInterp(**SETTINGS))
    assert values["interp_alive_fraction/diverged/0"] == 0
    assert values["interp_dense_fraction/diverged/0"] == 0
