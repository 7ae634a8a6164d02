import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

from sae_lightning.datamodules import ActivationDataModule
from sae_lightning.evaluators import LossRecovered, loss_recovered
from sae_lightning.evaluators.edits import mean_activation
from sae_lightning.members import Member
from sae_lightning.saes import SAEModule, TopK
from sae_lightning.sources import ActivationSource
from sae_lightning.sources.replacing import replace_valid
from sae_lightning.sources.tokens import TokenBatch

D_IN, VOCAB = 8, 20


class TinyLlama(ActivationSource):
    """A source over the first block of a random two-layer Llama that is sure of its predictions."""

    d_in, is_language_model, no_next_token, vocabulary = D_IN, True, "", VOCAB

    def __init__(self):
        from transformers import LlamaConfig, LlamaForCausalLM

        sizes = {"hidden_size": D_IN, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.model = LlamaForCausalLM(LlamaConfig(vocab_size=VOCAB, **sizes)).eval().requires_grad_(False)
            for parameter in self.model.parameters():
                parameter.mul_(12)
        self.n_forwards = 0

    def run(self, inputs, hook):
        handle = self.model.model.layers[0].register_forward_hook(hook)
        self.n_forwards += 1
        try:
            return self.model(inputs.input_ids).logits
        finally:
            handle.remove()

    def capture(self, inputs):
        kept = []
        self.run(inputs, lambda module, args, output: kept.append(output))
        return kept[0], inputs.mask

    def replace(self, inputs, edit):
        return self.run(inputs, lambda module, args, output: edit(output))


class Text(ActivationDataModule):
    """Texts that the model itself finds likely, with two special tokens at the start of each."""

    def __init__(self):
        super().__init__(batch_size=2, train_samples=4, val_samples=4, seed=0)
        self.source = TinyLlama()
        ids = torch.randint(VOCAB, (6, 2), generator=torch.Generator().manual_seed(1))
        while ids.shape[1] < 10:
            ids = torch.cat([ids, self.source.model(ids).logits[:, -1:].argmax(-1)], 1)
        mask = torch.arange(10).expand(6, 10) >= 2
        self.inputs = TokenBatch(ids, mask).split(4)

    def validation_inputs(self):
        return iter(self.inputs)

    def loader(self):
        return DataLoader(torch.zeros(4, D_IN), 2)

    val_dataloader = test_dataloader = loader

    def train_stream(self):
        raise NotImplementedError

    val_stream = calibration_sample = train_stream


class TextAndNull(Text):
    """The same beside a null."""

    widths, null_parts = {"": D_IN, "gaussian": D_IN}, ("gaussian",)


class Edits(SAEModule):
    """A module whose members are any functions of activations."""

    def __init__(self, **members):
        super().__init__()
        self._members = members

    @property
    def members(self):
        return {Member.parse(f"{name}/0"): edit for name, edit in self._members.items()}

    def test_step(self, batch, batch_idx):
        return {}

    validation_step = test_step


class Edit(TopK):
    """Any function of activations in place of the reconstruction."""

    def __init__(self, edit):
        super().__init__(D_IN, k=1, d_sae=1)
        self.edit = edit

    def forward(self, x):
        return self.edit(x)


@pytest.fixture(scope="module")
def text():
    return Text()


def evaluate(trainer, text, **edits):
    run = trainer(LossRecovered())
    run.validate(Edits(**{name: Edit(edit) for name, edit in edits.items()}), text, verbose=False)
    return {name.removeprefix("val/"): value.item() for name, value in run.callback_metrics.items()}


def held_out_mean(text):
    return torch.cat([text.source.capture(inputs)[0][inputs.mask] for inputs in text.inputs]).mean(0)


def test_identity_recovers_everything_and_each_ablation_nothing(trainer, text):
    mean = held_out_mean(text)
    values = evaluate(trainer, text, identity=lambda x: x, zero=lambda x: 0 * x, mean=lambda x: mean.expand_as(x))
    for kind in ("ce", "kl"):
        for ablation in ("zero", "mean"):
            recovered = f"{kind}_recovered_{ablation}"
            assert values[f"{recovered}/identity/0"] == pytest.approx(1, abs=1e-6)
            assert values[f"{recovered}/{ablation}/0"] == pytest.approx(0, abs=1e-5)
            # The floor is an SAE that answers with the mean.
            assert values[f"{recovered}/floor"] == pytest.approx(values[f"{recovered}/mean/0"], abs=1e-5)
    assert values["ce_recovered_mean/floor"] == 0
    assert values["ce_reconstruction/identity/0"] == values["ce_clean/identity/0"]
    assert values["kl_reconstruction/identity/0"] == 0


def test_losses_are_those_of_a_plain_forward_over_scored_positions(trainer, text):
    values = evaluate(trainer, text, half=lambda x: x / 2)
    losses = {"ce_clean": lambda x: x, "ce_zero": lambda x: 0 * x, "ce_reconstruction": lambda x: x / 2}
    for name, edit in losses.items():
        nll = []
        for inputs in text.inputs:
            logits = text.source.replace(
                inputs, lambda x, inputs=inputs, edit=edit: torch.where(inputs.mask[..., None], edit(x), x)
            )
            # Tokens 0 and 1 are special: predictions 2 -> 3 to 8 -> 9 are scored.
            nll.append(F.cross_entropy(logits[:, 2:-1].transpose(1, 2), inputs.input_ids[:, 3:], reduction="none"))
        assert values[f"{name}/half/0"] == pytest.approx(torch.cat(nll).double().mean().item(), rel=1e-5)
    gap = values["ce_zero/half/0"] - values["ce_clean/half/0"]
    expected = (values["ce_zero/half/0"] - values["ce_reconstruction/half/0"]) / gap
    assert values["ce_recovered_zero/half/0"] == pytest.approx(expected, rel=1e-5)
    expected = 1 - values["kl_reconstruction/half/0"] / values["kl_zero/half/0"]
    assert values["kl_recovered_zero/half/0"] == pytest.approx(expected, rel=1e-5)


def test_clean_and_ablated_passes_are_shared_by_all_members(trainer, text):
    text.source.n_forwards = 0
    evaluate(trainer, text, a=lambda x: x, b=lambda x: x, c=lambda x: x)
    assert text.source.n_forwards == len(text.inputs) * (1 + 3 + 3)


def test_a_real_sae_is_between(trainer, text):
    sae = TopK(D_IN, k=4, d_sae=64)
    sae.initialise(0)
    sae.validation_step = sae.test_step = lambda batch, batch_idx: {}
    run = trainer(LossRecovered())
    run.test(sae, text, verbose=False)
    assert run.callback_metrics["test/ce_recovered_zero/trained/0"] < 1
    assert run.callback_metrics["test/kl_reconstruction/trained/0"] > 0


def test_special_positions_keep_their_activation():
    x, mask = torch.randn(2, 3, 4, dtype=torch.bfloat16), torch.tensor([[False, True, True], [False, False, True]])
    edited = replace_valid(x, mask, lambda rows: rows.float() * 0)
    assert torch.equal(edited[~mask], x[~mask])
    assert edited[mask].abs().max() == 0
    assert edited.dtype == x.dtype
    assert replace_valid(x, mask, lambda rows: rows + 1) is not x


def test_the_mean_is_over_valid_positions(text):
    torch.testing.assert_close(mean_activation(text, torch.device("cpu")).float(), held_out_mean(text))


def test_a_ratio_over_a_small_gap_is_withheld_with_one_warning(trainer, text):
    run, module = trainer(LossRecovered(min_gap_nats=1e6)), Edits(identity=Edit(lambda x: x))
    with pytest.warns(UserWarning, match=r"ce_recovered_zero is withheld \(nan\).*min_gap_nats=1000000.0") as caught:
        run.validate(module, text, verbose=False)
    assert len([w for w in caught if "withheld" in str(w.message)]) == 1
    run.validate(module, text, verbose=False)  # warnings are errors: it does not warn again
    assert run.callback_metrics["val/ce_recovered_zero/identity/0"].isnan()
    assert run.callback_metrics["val/kl_recovered_mean/floor"].isnan()
    assert run.callback_metrics["val/ce_clean/identity/0"].isfinite()


def test_data_without_held_out_text_are_refused(sae, data, trainer):
    with pytest.raises(ValueError, match="LossRecovered needs a language model .* data=Activations"):
        trainer(LossRecovered()).fit(sae, data)


def test_a_model_that_predicts_no_next_token_is_refused_before_anything_is_read(trainer, text, monkeypatch):
    monkeypatch.setattr(text.source, "no_next_token", "a BertForMaskedLM is a masked model")
    monkeypatch.setattr(text.source, "replace", None)
    with pytest.raises(ValueError, match="LossRecovered asks for the next token.*none: a BertForMaskedLM is a masked"):
        evaluate(trainer, text, identity=lambda x: x)


@pytest.mark.parametrize("gap", [0.0, -1.0])
def test_the_gap_must_be_positive(gap):
    with pytest.raises(ValueError, match=f"min_gap_nats={gap}: expected a finite number above 0"):
        LossRecovered(min_gap_nats=gap)


def test_saes_of_nulls_are_left_out(trainer):
    values = evaluate(
        trainer, TextAndNull(), **{"half": lambda x: x / 2, "gaussian/half": lambda x: pytest.fail("asked")}
    )
    assert {name.partition("/")[2] for name in values} == {"half/0", "floor"}
    assert not any("@" in name for name in values)


def test_few_rows_at_a_time_give_the_same(trainer, text, monkeypatch):
    at_once = evaluate(trainer, text, half=lambda x: x / 2)
    n_forwards = text.source.n_forwards
    monkeypatch.setattr(loss_recovered, "MOST_LOGITS", 2 * 10 * VOCAB)  # two rows of ten tokens
    assert evaluate(trainer, text, half=lambda x: x / 2) == pytest.approx(at_once, nan_ok=True)
    assert text.source.n_forwards - n_forwards == 2 + 3 * 4, "the mean of two batches, and four losses of three blocks"


def test_memory_that_a_validation_lacks_is_missed_after_the_first_step(text):
    def fail(x):
        assert not sae.training, "a step of training would move thresholds"
        raise torch.OutOfMemoryError("CUDA out of memory")

    sae, evaluator = Edit(fail).train(), LossRecovered()
    evaluator._datamodule = text
    with pytest.raises(ValueError, match="4 of the rows of 10 tokens, with 20 logits each, do not fit.*sae validate"):
        evaluator.try_out(Edits(trained=sae))
    assert sae.training
    sae.edit = lambda x: x
    evaluator.try_out(Edits(trained=sae))


def test_memory_is_tried_out_once_and_not_on_a_cpu(trainer, monkeypatch):
    tried, evaluator, module = [], LossRecovered(), Edits()
    run = trainer(evaluator)

    def try_out(module):
        tried.append(module)
        evaluator._is_tried_out = True

    monkeypatch.setattr(evaluator, "try_out", try_out)
    for device, step, n_tried in (("cpu", 1, 0), ("cuda", 0, 0), ("cuda", 1, 1), ("cuda", 2, 1)):
        monkeypatch.setattr(Edits, "device", torch.device(device))
        monkeypatch.setattr(type(run), "global_step", step)
        evaluator.on_train_batch_end(run, module)
        assert len(tried) == n_tried


@pytest.mark.cuda
def test_memory_is_tried_out_on_a_gpu():
    text, evaluator = Text(), LossRecovered()
    text.source.model.cuda()
    text.inputs = [inputs.to("cuda") for inputs in text.inputs]
    evaluator._datamodule = text
    evaluator.try_out(Edits(trained=Edit(lambda x: x).cuda()).cuda())
    assert evaluator._is_tried_out
