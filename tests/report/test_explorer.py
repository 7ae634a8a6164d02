"""What the explorer gathers of a real run, and how it is packed."""

import json

import pytest
import tiny
import torch
import yaml
from report.runs import fit, panel, unpack
from safetensors.torch import save_file

import sae_lightning.commands.fit  # noqa: F401 - imported in a test, Lightning would log to the stderr of that test
from sae_lightning.cli import main
from sae_lightning.evaluators.latent_scores import LatentScores
from sae_lightning.members import Member
from sae_lightning.report.explorer import explorer_of, pack
from sae_lightning.report.held_out import by_column
from sae_lightning.report.latents import choose, gather
from sae_lightning.runs import Run
from sae_lightning.runs.latents import write_latents
from sae_lightning.saes import TopK
from sae_lightning.sources import LanguageModelSource, TokenBatch

D_SAE = 48
HOSTILE = "</script><img src=x onerror=alert(1)>\u2028\ud800 😀"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    before = torch.get_float32_matmul_precision()
    yield tmp_path_factory.mktemp("explorer")
    torch.set_float32_matmul_precision(before)


@pytest.fixture(scope="module")
def run(folder):
    """A run on a language model, with a null, a meta-SAE beside it, and what AutoInterp and stitching leave."""
    tiny.save_tiny_lm(folder / "lm")
    text = {
        "class_path": "FileText",
        "init_args": {"paths": tiny.save_text(folder / "text.jsonl", 300), "heldout_every": 4},
    }
    sizes = {"context_length": 16, "batch_size": 64, "llm_batch_size": 4, "train_samples": 640, "val_samples": 192}
    sizes |= {"loss_samples": 64, "buffer_samples": 200}
    run = fit(
        folder, "lm", panel(k=2, d_sae=D_SAE, scale_input=True), "LanguageModelDataModule", model=str(folder / "lm"),
        hook="model.layers.0", text=text, nulls={"gaussian": {"class_path": "GaussianMatched"}}, **sizes,
    )  # fmt: skip
    meta = {"class_path": "TopK", "init_args": {"k": 2, "d_sae": 12}}
    base = str(run / "saes/trained/3")
    fit(folder, "meta", meta, "DecoderDirections", saes=[base], batch_size=16, train_samples=160)
    line = {"member": "trained/3", "latent": 5, "frequency": 0.25, "explanation": HOSTILE, "score": 0.75}
    line["examples"] = [{"tokens": ["a", " cat"], "activations": [0.0, 2.5]}]
    (run / "interpretation.jsonl").write_text(json.dumps(line) + "\n")
    latents = {name: torch.arange(D_SAE) / 7 for name in ("change", "low", "high", "best_cosine")}
    place = run / "stitch/x2-0_to_trained-3"
    place.mkdir(parents=True)
    save_file(latents | {"label": torch.ones(D_SAE, dtype=torch.int64)}, place / "latents.safetensors")
    stability = torch.arange(D_SAE) / 50
    stability[3] = torch.nan  # it never fired
    own = {"stability": stability, "stability_above_random": stability / 2}
    of_latents = [LatentScores(name, "", {Member("trained", 3): values}, False) for name, values in own.items()]
    write_latents(run, Run(run).last.step, of_latents)
    return run


@pytest.fixture(scope="module")
def synthetic(folder):
    return fit(
        folder, "synthetic", panel(k=2, d_sae=D_SAE), "SyntheticDataModule",
        d_in=16, n_features=20, batch_size=64, train_samples=640, val_samples=640,
    )  # fmt: skip


@pytest.fixture(scope="module")
def gathered(run):
    return gather(Run(run), D_SAE)


def test_members_are_the_first_seed_of_each_policy_without_nulls(run, gathered):
    assert list(map(str, Run(run).first_seeds())) == ["trained/3", "frozen_decoder/3"]
    assert [str(shown.member) for shown in gathered.members] == ["trained/3", "frozen_decoder/3"]
    assert [len(member.latents) for member in gathered.members] == [D_SAE, D_SAE]


def test_texts_and_frequencies_are_what_the_sae_says_of_the_model(run, folder, gathered):
    sae, source = TopK.load(run / "saes/frozen_decoder/3"), LanguageModelSource(str(folder / "lm"), "model.layers.0")
    member = gathered.members[1]
    assert sum(record["frequency"] for record in member.latents) == pytest.approx(2, rel=0.01)  # k = 2
    assert member.n_firing == sum(record["frequency"] > 0 for record in member.latents)
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder / "lm")
    record = max(member.latents, key=lambda record: record["frequency"])
    peaks = [max(example["activations"]) for example in record["examples"]]
    assert peaks == sorted(peaks, reverse=True)
    assert record["histogram"]["most"] == peaks[0]
    assert sum(record["histogram"]["counts"]) == record["histogram"]["n"]
    assert len(record["quarters"]) == 4
    of_quarters = [max(max(of["activations"]) for of in quarter) for quarter in record["quarters"]]
    assert of_quarters == sorted(of_quarters, reverse=True)
    example = record["examples"][0]
    ids = torch.tensor([tokenizer.convert_tokens_to_ids([token.strip() for token in example["tokens"]])])
    x, _ = source.capture(TokenBatch(ids, torch.ones_like(ids, dtype=torch.bool)))
    again = sae.encode(x[0]).to_dense()[:, record["latent"]]
    valid = ~torch.isin(ids[0], torch.tensor(tokenizer.all_special_ids))  # between documents there is one, too
    torch.testing.assert_close(again[valid], torch.tensor(example["activations"])[valid], rtol=0.01, atol=0.01)


def test_what_a_run_has_kept_is_shown_in_the_units_of_the_saved_sae(run, gathered):
    record = gathered.members[0].latents[5]
    assert (record["explanation"], record["score"]) == (HOSTILE, 0.75)
    scale = json.loads((run / "saes/trained/3/sae.json").read_text())["fold"]["scale"]
    assert record["examples"][0]["activations"] == [0, pytest.approx(2.5 / scale, rel=0.01)]
    assert record["tokens"] == [" cat"]
    assert record["stitched"][0]["class"] == "reconstruction"
    assert gathered.members[0].n_interpreted == 1
    assert (record["stability"], record["above_random"]) == (0.1, 0.05)
    assert gathered.members[0].latents[3]["stability"] is None
    assert "stability" not in gathered.members[1].latents[5]


def test_what_follows_from_decoder_directions(run, folder, gathered):
    sae, record = TopK.load(run / "saes/trained/3"), gathered.members[0].latents[7]
    cosines = (sae.W_dec @ sae.W_dec[7]).detach()
    cosines[7] = -1
    assert record["neighbours"][0] == [int(cosines.argmax()), pytest.approx(float(cosines.max()), rel=0.01)]
    assert record["cosine_to_start"] == pytest.approx((sae.W_dec[7] @ sae.W_dec_start[7]).item(), rel=0.01)
    assert record["cosine_to_start"] < 1
    assert all(of["cosine_to_start"] == 1 for of in gathered.members[1].latents)
    code = TopK.load(folder / "logs/meta/version_0/saes/trained/0").encode(sae.W_dec.detach()).to_dense()
    fires = [i for i in code[7].argsort(descending=True).tolist() if code[7, i] > 0]
    assert [of[0] for of in record["meta"]["latents"]] == fires
    assert all(code[other, of[0]] > 0 for of in record["meta"]["latents"] for other, _ in of[2])
    assert "meta" not in gathered.members[1].latents[7]
    assert record["promoted"][0][1] > 0 > record["suppressed"][0][1]
    assert (record["logits"]["high"], record["logits"]["low"]) == (record["promoted"][0][1], record["suppressed"][0][1])
    assert (
        sum(record["logits"]["counts"])
        == LanguageModelSource(str(folder / "lm"), "model.layers.0").model.config.vocab_size
    )
    other = TopK.load(run / "saes/frozen_decoder/3").W_dec @ sae.W_dec[7]
    nearest = ["frozen_decoder/3", int(other.argmax()), pytest.approx(float(other.max()), rel=0.01)]
    assert record["elsewhere"] == [nearest]


def test_latents_that_fire_together_are_told(gathered):
    pairs = {
        (record["latent"], other): value
        for record in gathered.members[0].latents
        for other, value in record["together"]
    }
    assert pairs
    assert all(0 < value <= 1 and one != other for (one, other), value in pairs.items())


def test_synthetic_data_have_true_features_and_no_texts(synthetic):
    found = gather(Run(synthetic), D_SAE)
    assert found.unit == "sample"
    assert found.n_read == 640
    for member in found.members:
        assert sum(record["frequency"] for record in member.latents) == pytest.approx(2, rel=0.01)
        firing = next(record for record in member.latents if record["frequency"])
        assert firing["histogram"]["n"] == pytest.approx(640 * firing["frequency"], rel=0.01)
        assert firing["examples"] == []
        assert 0 <= firing["feature"][0] < 20


def test_saes_of_several_hooks_are_shown_each_on_its_own_activations(run, folder):
    """The run has two hooks; the second layer reads what the first gives, so mixing them up would show."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    hooks = {"first": "model.layers.0", "second": "model.layers.1"}
    data = config["data"]["init_args"] | {"hook": hooks, "nulls": None}
    several = fit(folder, "hooks", panel(k=2, d_sae=D_SAE), "LanguageModelDataModule", **data)
    main(["report", str(several), "--latents", str(D_SAE)])
    shown = gather(Run(several), D_SAE)
    names = ["first/trained/3", "first/frozen_decoder/3", "second/trained/3", "second/frozen_decoder/3"]
    assert [str(one.member) for one in shown.members] == names
    page = (several / "report.html").read_text()
    assert all(f"<b>{name}</b>" in page for name in names)
    rows = Run(several).datamodule().heldout_rows(10_000)
    for one, hook in zip(shown.members, [hook for hook in hooks.values() for _ in range(2)], strict=True):
        source = LanguageModelSource(str(folder / "lm"), hook)
        x, mask = source.capture(TokenBatch(rows.input_ids, rows.mask))
        fires = (TopK.load(several / "saes" / str(one.member)).encode(x[mask].float()).to_dense() > 0).double().mean(0)
        assert [record["frequency"] for record in one.latents] == pytest.approx(fires.tolist(), rel=0.01)


def test_a_sample_takes_the_interpreted_first_and_then_those_that_fire():
    firing = torch.arange(100) % 2 == 0
    chosen = choose(100, firing, {3: {}, 7: {}}, 20)
    assert chosen == sorted(chosen)
    assert len(chosen) == 20
    assert {3, 7} < set(chosen)
    assert all(firing[latent] for latent in chosen if latent not in (3, 7))
    assert set(chosen) < set(choose(100, firing, {3: {}, 7: {}}, 30))
    assert choose(100, firing, {}, 100) == list(range(100))
    assert len(choose(100, firing, {}, 60)) == 50


def test_values_by_column_keep_their_order():
    columns, values = torch.tensor([2, 0, 2, 0]), torch.tensor([5.0, 6.0, 7.0, 8.0])
    assert [of.tolist() for (of,) in by_column(columns, values, n=4)] == [[6, 8], [], [5, 7], []]


def test_parts_are_in_the_page_or_in_scripts_beside_it(run, tmp_path):
    inside = explorer_of(Run(run), 10, None)
    assert set(inside["parts"]) == {"0-index", "0-0", "1-index", "1-0"}
    index = unpack(inside["parts"]["0-index"])
    assert len(index["latent"]) == 10
    assert index["explanation"][index["latent"].index(5)] == HOSTILE
    assert index["stability"][index["latent"].index(5)] == 0.1
    assert "stability" not in unpack(inside["parts"]["1-index"])
    beside = explorer_of(Run(run), 10, tmp_path)
    assert beside["parts"] == {}
    assert unpack(beside["manifest"])["folder"] == "latents"
    for name, packed in inside["parts"].items():
        assert (tmp_path / f"latents/{name}.js").read_text() == f'saeLatents("{name}", "{packed}");\n'
    for packed in inside["parts"].values():
        assert set(packed) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=")


def test_packing_is_exact_and_repeatable():
    value = {"a": [HOSTILE, 1.5, None]}
    assert unpack(pack(value)) == value
    assert pack(value) == pack(value)


def test_a_model_that_is_gone_costs_the_texts_only(run, folder):
    config = run / "config.yaml"
    text = config.read_text()
    config.write_text(text.replace(f"model: {folder / 'lm'}", f"model: {folder / 'gone'}"))
    try:
        with pytest.warns(UserWarning, match="held-out data cannot be read"):
            found = gather(Run(run), D_SAE)
    finally:
        config.write_text(text)
    assert found.problem == f"model={folder / 'gone'}: there is no such folder"
    assert found.n_read == 0
    record = found.members[0].latents[5]
    assert record["examples"]
    assert record["frequency"] == 0.25
    assert record["neighbours"]
    assert found.members[0].latents[6]["frequency"] is None


def test_nothing_to_show(run, tmp_path):
    assert explorer_of(Run(run), 0, None) is None
    (tmp_path / "config.yaml").touch()
    assert explorer_of(Run(tmp_path), 10, None) is None
    with pytest.raises(ValueError, match="--latents -1: expected 0 or more"):
        explorer_of(Run(run), -1, None)
