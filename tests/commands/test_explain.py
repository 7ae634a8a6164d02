"""``sae explain`` through the real ``main``, on runs of a tiny model."""

import json
import shutil
from contextlib import redirect_stdout

import pytest
import tiny
import torch
import yaml
from safetensors.torch import save_file
from transformers import AutoTokenizer

import sae_lightning.commands.fit  # noqa: F401 - imported in a test, Lightning would log to the stderr of that test
from sae_lightning.cli import main
from sae_lightning.evaluators.latent_scores import LatentScores
from sae_lightning.members import Member
from sae_lightning.runs import Run
from sae_lightning.runs.latents import write_latents
from sae_lightning.saes import TopK
from sae_lightning.sources import LanguageModelSource, TokenBatch

D_SAE = 48
PANEL = {
    "class_path": "SanityPanel",
    "init_args": {
        "sae": {"class_path": "TopK", "init_args": {"k": 2, "d_sae": D_SAE}},
        "policies": {"trained": {"class_path": "NoFreeze"}},
    },
}
QUIET = {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False, "log_every_n_steps": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Runs of the real command: one of a language model at two hooks, one with a null, one of a meta-SAE."""
    folder = tmp_path_factory.mktemp("explain")
    before = torch.get_float32_matmul_precision()
    tiny.save_tiny_lm(folder / "lm")
    text = {
        "class_path": "FileText",
        "init_args": {"paths": tiny.save_text(folder / "text.jsonl", 300), "heldout_every": 4},
    }
    arguments = {"model": str(folder / "lm"), "text": text, "context_length": 16, "batch_size": 64, "llm_batch_size": 4}
    arguments |= {"train_samples": 640, "val_samples": 192, "loss_samples": 64, "buffer_samples": 200}

    def fit(name, sae, kind, **init_args):
        config = {"name": name, "model": sae, "data": {"class_path": kind, "init_args": init_args}}
        logger = {"class_path": "MemberTensorBoardLogger", "init_args": {"save_dir": str(folder)}}
        config["trainer"] = QUIET | {"logger": logger}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(config))
        with (folder / f"{name}.txt").open("w") as told, redirect_stdout(told):
            main(["fit", "--config", str(folder / f"{name}.yaml")])

    hooks = {"early": "model.layers.0", "late": "model.layers.1"}
    fit("hooks", PANEL, "LanguageModelDataModule", hook=hooks, **arguments)
    nulls = {"gaussian": {"class_path": "GaussianMatched"}}
    fit("lm", PANEL, "LanguageModelDataModule", hook="model.layers.0", nulls=nulls, **arguments)
    base = str(folder / "lm/version_0/saes/trained/0")
    meta = {"class_path": "TopK", "init_args": {"k": 2, "d_sae": 12, "seed": 1}}
    fit("meta", meta, "DecoderDirections", saes=[base], batch_size=16, train_samples=640)
    TopK(16, k=2, d_sae=24).save(folder / "smaller")
    torch.set_float32_matmul_precision(before)
    return folder


@pytest.mark.parametrize(("name", "member"), [("hooks", "early/trained/0"), ("lm", "trained/0")])
def test_a_run_ends_with_the_command_for_a_latent_of_the_activations_and_not_of_a_null(folder, name, member):
    told = (folder / f"{name}.txt").read_text()
    assert f"sae explain {folder / name}/version_0 {member} 0" in told


def explain(capsys, *arguments):
    capsys.readouterr()
    main(["explain", *map(str, arguments), "--json"])
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def run(folder):
    return folder / "lm/version_0"


def firing_latent(capsys, run, member="trained/0"):
    """A latent that fires in the text, and what is said of it."""
    for latent in range(D_SAE):
        found = explain(capsys, run, member, latent)
        if found["text"]["examples"]:
            return latent, found
    raise AssertionError("none fires")


def test_everything_of_one_latent(folder, run, capsys):
    latent, found = firing_latent(capsys, run)
    assert found["text"]["from"] == "the held-out text"
    assert 0 < found["text"]["frequency"] < 1
    peaks = [max(example["activations"]) for example in found["text"]["examples"]]
    assert peaks == sorted(peaks, reverse=True)
    assert min(peaks) > 0
    assert found["meta"] is found["smaller"] is None
    W_dec = TopK.load(run / "saes/trained/0").W_dec.detach()
    cosines = W_dec @ W_dec[latent]
    cosines[latent] = -1
    assert found["neighbours"][0] == {"latent": int(cosines.argmax()), "value": pytest.approx(float(cosines.max()))}

    every = explain(
        capsys, run, "trained/0", latent, "--meta", folder / "meta/version_0", "--smaller", folder / "smaller"
    )
    assert every["text"] == found["text"]
    meta = every["meta"]
    assert meta["is_of_this_sae"]
    code = TopK.load(folder / "meta/version_0/saes/trained/1").encode(W_dec).to_dense()
    expected = code[latent].topk(2)
    assert [of["latent"] for of in meta["meta_latents"]] == expected.indices.tolist()
    assert [of["value"] for of in meta["meta_latents"]] == pytest.approx(expected.values.tolist(), rel=1e-5)
    for of in meta["meta_latents"]:
        assert latent not in [other["latent"] for other in of["others"]]
        assert all(code[other["latent"], of["latent"]] > 0 for other in of["others"])
    nearest = TopK.load(folder / "smaller").W_dec.detach() @ W_dec[latent]
    assert every["smaller"]["nearest"][0]["latent"] == int(nearest.argmax())

    main(["explain", *map(str, [run, "trained/0", latent]), "--meta", str(folder / "meta/version_0")])
    printed = capsys.readouterr().out
    for words in (f"trained/0, latent {latent} of {D_SAE}", "Fires on ", "«", "Tokens promoted", "Meta-latents of"):
        assert words in printed


def test_how_stable_a_latent_is_over_seeds_is_said_where_it_was_measured(folder, run, capsys):
    assert explain(capsys, run, "trained/0", 7)["stability"] is None
    values = {"stability": torch.tensor([0.625, torch.nan]), "stability_above_random": torch.tensor([0.9, torch.nan])}
    own = [LatentScores(name, "", {Member("trained", 0): each.repeat(24)}, False) for name, each in values.items()]
    write_latents(run, Run(run).last.step, own)
    shutil.copytree(run / "saes/trained/0", run / "saes/trained/1")
    try:
        found = explain(capsys, run, "trained/0", 6)["stability"]
        main(["explain", str(run), "trained/0", "6"])
        printed = " ".join(capsys.readouterr().out.split())
        assert explain(capsys, run, "trained/0", 7)["stability"] is None, "it does not fire"
    finally:
        shutil.rmtree(run / "saes/trained/1")
        (run / "latents.safetensors").unlink()
    assert found == {"cosine": 0.625, "above_random": pytest.approx(0.9), "n_other_seeds": 1}
    assert "mean over 1 other seed; 90% of random directions are less stable" in printed


def test_texts_are_those_on_which_it_fires_and_logits_what_its_direction_adds(folder, run, capsys):
    latent, found = firing_latent(capsys, run)
    source = LanguageModelSource(str(folder / "lm"), "model.layers.0")
    tokenizer, sae = AutoTokenizer.from_pretrained(folder / "lm"), TopK.load(run / "saes/trained/0")
    tokens, activations = (found["text"]["examples"][0][name] for name in ("tokens", "activations"))
    ids = torch.tensor([tokenizer.convert_tokens_to_ids([token.strip() for token in tokens])])
    x, _ = source.capture(TokenBatch(ids, torch.ones_like(ids, dtype=torch.bool)))
    again = sae.encode(x[0]).to_dense()[:, latent]
    torch.testing.assert_close(again[1:], torch.tensor(activations)[1:], rtol=1e-3, atol=1e-4)
    gain = source.model.model.norm.weight
    added = ((sae.W_dec[latent] * gain) @ source.model.get_output_embeddings().weight.T).detach()
    token, value = found["logits"]["promoted"][0]
    assert token.strip() == tokenizer.decode([int(added.argmax())]).strip()
    assert value == pytest.approx(float(added.max() - added.mean()), rel=1e-4)
    assert found["logits"]["suppressed"][0][1] < 0


def test_kept_interpretations_are_taken_instead_of_reading(run, capsys):
    line = {"member": "trained/0", "latent": 5, "frequency": 0.25, "explanation": "cats", "score": 0.75}
    line |= {"n_judged": 4, "n_not_understood": 0, "examples": [{"tokens": ["a", " cat"], "activations": [0.0, 2.5]}]}
    path = run / "interpretation.jsonl"
    path.write_text(json.dumps({**line, "latent": 4}) + "\n" + json.dumps(line) + "\n")
    try:
        found = explain(capsys, run, "trained/0", 5)
        assert explain(capsys, run, "trained/0", 6)["text"]["from"] == "the held-out text"
        main(["explain", str(run), "trained/0", "5"])
    finally:
        path.unlink()
    assert found["text"] == {
        "from": "interpretation.jsonl", "frequency": 0.25, "explanation": "cats", "score": 0.75,
        "top_tokens": [[" cat", 2.5]], "examples": [{"tokens": ["a", " cat"], "activations": [0.0, 2.5]}],
    }  # fmt: skip
    printed = capsys.readouterr().out
    assert "explained as: cats (right in 75% of texts, chance 50%)" in printed
    assert "a« cat»" in printed


def test_a_member_reads_its_own_hook(folder, capsys):
    run = folder / "hooks/version_0"
    latent, late = firing_latent(capsys, run, "late/trained/0")
    alone = yaml.safe_load((run / "config.yaml").read_text())
    alone["data"]["init_args"]["hook"] = "model.layers.1"
    other = folder / "alone"
    TopK.load(run / "saes/late/trained/0").save(other / "saes/trained/0")
    (other / "config.yaml").write_text(yaml.safe_dump(alone))
    assert explain(capsys, other, "trained/0", latent)["text"] == late["text"]


def test_a_text_of_ones_own_is_read_token_by_token(folder, run, capsys):
    tokenizer, sae = AutoTokenizer.from_pretrained(folder / "lm"), TopK.load(run / "saes/trained/0")
    text = tokenizer.decode([5, 6, 7])
    found = explain(capsys, run, "trained/0", "--text", text)
    (tokens,) = found["texts"]
    ids = [tokenizer.bos_token_id, 5, 6, 7]
    assert [token["token"].strip() for token in tokens] == [tokenizer.decode([i]).strip() for i in ids]
    assert [token["is_read"] for token in tokens] == [False, True, True, True]
    x, _ = LanguageModelSource(str(folder / "lm"), "model.layers.0").capture(
        TokenBatch(torch.tensor([ids]), torch.ones(1, 4, dtype=torch.bool))
    )
    code = sae.encode(x[0]).to_dense()
    for place in (1, 2, 3):
        expected = code[place].topk(2)
        assert [latent for latent, _ in tokens[place]["latents"]] == expected.indices.tolist()
        assert [value for _, value in tokens[place]["latents"]] == pytest.approx(expected.values.tolist(), rel=1e-3)
    peaks = {one["latent"]: one["peak"] for one in found["latents"]}
    assert peaks[int(code[1:].amax(0).argmax())] == pytest.approx(float(code[1:].max()), rel=1e-3)

    main(["explain", str(run), "trained/0", "--text", text])
    printed = capsys.readouterr().out
    assert "Token by token" in printed
    assert "(not read)" in printed
    main(["explain", str(run), "trained/0", "--text", f"{text} <script>", "--html", str(folder / "text.html")])
    page = (folder / "text.html").read_text()
    assert "<script" not in page
    assert f"Latent {found['latents'][0]['latent']}</h3>" in page


def test_a_meta_sae_has_no_text(folder, capsys):
    found = explain(capsys, folder / "meta/version_0", "trained/1", 1)
    assert found["text"] is found["logits"] is None
    main(["explain", str(folder / "meta/version_0"), "trained/1", "1"])
    assert "These data have no text" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{folder}/none", "trained/0", "1"], ["none: no such folder; give a run folder"]),
        (["{run}", "trained/7", "1"], ["has no SAE trained/7; it has ", "trained/0, gaussian/trained/0"]),
        (["{run}", "trained/0", "48"], ["LATENT 48: trained/0 has 48 latents; expected 0 to 47"]),
        (["{run}", "trained/0", "x"], ["LATENT: expected int, got x"]),
        (["{run}", "trained/0", "--text", " "], ["--text is empty"]),
        (["{run}", "trained/0", "3", "--text", "a"], ["without a LATENT"]),
        (["{run}", "trained/0", "3", "--html", "a.html"], ["--html a.html: is for --text"]),
        (["{run}", "trained/0"], ["give RUN MEMBER LATENT"]),
        (["{run}", "gaussian/trained/0", "1"], ["a null version of the activations"]),
        (["{run}", "trained/0", "1", "--meta", "{run}"], ["expected a run whose data are DecoderDirections"]),
        (["{run}", "trained/0", "1", "--smaller", "{run}"], ["holds no SAE itself", "give one of"]),
        (["{run}", "trained/0", "1", "--smaller", "{folder}/narrow"], ["narrow has d_in=4, and the SAE to explain 16"]),
        (["{run}", "trained/0", "1", "--n", "0"], ["--n 0: expected at least 1"]),
    ],
)
def test_wrong_input(folder, run, arguments, words, capsys):
    TopK(4, k=1, d_sae=8).save(folder / "narrow")
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(["explain", *(argument.format(folder=folder, run=run) for argument in arguments)])
    assert stop.value.code == 2
    told = capsys.readouterr().err
    assert "error: " in told
    assert "Traceback" not in told
    for word in words:
        assert word in told


def test_what_stitching_found_is_told(run, capsys):
    n = D_SAE
    latents = {"change": torch.arange(n) - 20.0, "low": torch.arange(n) - 21.0, "high": torch.arange(n) - 19.0}
    latents |= {"best_cosine": torch.full((n,), 0.25), "label": (torch.arange(n) >= 20).long()}
    place = run / "stitch" / "x2-0_to_trained-0"
    place.mkdir(parents=True)
    save_file(latents, place / "latents.safetensors")
    assert explain(capsys, run, "trained/0", 3)["stitched"] == [
        {"small": "x2-0", "class": "novel", "change": -17.0, "low": -18.0, "high": -16.0, "best_cosine": 0.25}
    ]
    main(["explain", str(run), "trained/0", "30"])
    assert "Inserted into x2-0 (sae stitch): reconstruction; squared error of a token +10" in capsys.readouterr().out


def test_an_sae_that_is_of_no_run(tmp_path, capsys):
    tiny.save_tiny_lm(tmp_path / "model")
    sae = TopK(16, d_sae=20, k=3)
    sae.initialise(0, torch.randn(4096, 16))
    names = ("W_enc", "W_dec", "b_enc", "b_dec")
    torch.save({name: getattr(sae, name).detach().contiguous() for name in names}, tmp_path / "sae.pt")
    assumed = ["--assume=variant=TopK", "--assume=k=3", "--assume=apply_b_dec_to_input=true"]
    text = tiny.save_text(tmp_path / "text.jsonl", 100)
    read = ["--model", tmp_path / "model", "--hook", "model.layers.1", "--text", text, "--context_length", "16"]
    main(["explain", *map(str, [tmp_path / "sae.pt", 3, *assumed, *read, "--n_tokens", 512])])
    out = capsys.readouterr().out
    assert "latent 3 of 20" in out
    assert "Neighbours in its own dictionary" in out
    assert "of tokens; its texts are from the held-out text" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "3"], "give RUN MEMBER LATENT"),
        (["nowhere", "trained/0", "3", "--model", "m", "--text", "t", "--hook", "h"], "MEMBER trained/0: is of a run"),
    ],
)
def test_a_run_and_an_sae_of_no_run_are_told_apart(arguments, message, capsys):
    with pytest.raises(SystemExit):
        main(["explain", *arguments])
    assert message in capsys.readouterr().err
