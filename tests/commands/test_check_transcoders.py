"""``sae check`` of transcoders through the real ``main``: in several formats, on a tiny model, and what is refused."""

import json

import pytest
import tiny
import torch
import yaml
from safetensors.torch import save_file

import sae_lightning.commands.fit  # noqa: F401 - imported in a test, Lightning would log to the stderr of that test
from benchmarks.check import transcoder_files
from sae_lightning.checking.check_file import read_check
from sae_lightning.checking.scoreboard import read_boards
from sae_lightning.checking.scoreboard_text import as_markdown
from sae_lightning.cli import main
from sae_lightning.runs import Run
from sae_lightning.saes import BatchTopK, SparseAutoencoder, TopK

# Ablation costs a model with random weights nothing.
pytestmark = pytest.mark.filterwarnings("ignore:.*is withheld")
SMALL = ["--n_tokens=256", "--context_length=16", "--control_samples=512", "--latents=3", "--draws=2"]
READS, ANSWERS = "model.layers.1.post_attention_layernorm", "model.layers.1.mlp"
HOOKS = [f"--hook={READS}", f"--target={ANSWERS}"]
WIDTH, D_SAE, K = 16, 40, 3


def run(capsys, *args):
    main(["check", *map(str, args)])
    return capsys.readouterr().out


def refused(capsys, *args):
    with pytest.raises(SystemExit):
        main(["check", *map(str, args)])
    return capsys.readouterr().err


def on_text(folder):
    return ["--model", folder / "model", "--text", folder / "text.jsonl"]


def weights(seed=0):
    draw = torch.Generator().manual_seed(seed)
    shapes = {"W_enc": (WIDTH, D_SAE), "W_dec": (D_SAE, WIDTH), "W_skip": (WIDTH, WIDTH)}
    tensors = {name: torch.randn(*shape, generator=draw) for name, shape in shapes.items()}
    return tensors | {"b_enc": torch.zeros(D_SAE), "b_dec": torch.zeros(WIDTH)}


def sparsify(folder, skip=True):
    """A transcoder in the format of sparsify, which states its hookpoint by the folder."""
    (place := folder / "layers.1.mlp").mkdir(parents=True)
    config = {"d_in": WIDTH, "num_latents": D_SAE, "k": K, "transcode": True, "skip_connection": skip}
    (place / "cfg.json").write_text(json.dumps(config))
    own = weights()
    tensors = {"encoder.weight": own["W_enc"].T.contiguous(), "encoder.bias": own["b_enc"]}
    tensors |= {name: own[name] for name in ("W_dec", "b_dec", *(["W_skip"] if skip else []))}
    save_file(tensors, place / "sae.safetensors")
    return place


def gemma(folder):
    """A transcoder with an affine path in the format of Gemma Scope 2."""
    folder.mkdir(parents=True)
    config = {
        "type": "transcoder", "architecture": "jump_relu", "width": D_SAE, "affine_connection": True,
        "hf_hook_point_in": f"{READS}.output", "hf_hook_point_out": f"{ANSWERS}.output",
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    own = weights(1)
    names = {"w_enc": "W_enc", "w_dec": "W_dec", "b_enc": "b_enc", "b_dec": "b_dec", "affine_skip_connection": "W_skip"}
    tensors = {theirs: own[ours] for theirs, ours in names.items()} | {"threshold": torch.full((D_SAE,), 2.0)}
    save_file(tensors, folder / "params.safetensors")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model, text, transcoders of several formats, and an SAE."""
    folder = tmp_path_factory.mktemp("check")
    tiny.save_tiny_lm(folder / "model")
    tiny.save_text(folder / "text.jsonl", 300)
    x = torch.randn(600, WIDTH, generator=torch.Generator().manual_seed(0))
    ours = TopK(WIDTH, d_sae=D_SAE, k=K, d_out=WIDTH)
    ours.initialise(0, x, x)
    ours.eval().save(folder / "ours")
    narrow = BatchTopK(WIDTH, d_sae=D_SAE, k=K, d_out=WIDTH - 2)
    narrow.initialise(0, x, x[:, 2:])
    narrow.threshold.fill_(0.5)
    narrow.eval().save(folder / "narrow")
    sae = TopK(WIDTH, d_sae=D_SAE, k=K)
    sae.initialise(0, x)
    sae.eval().save(folder / "sae")
    sparsify(folder / "sparsify")
    gemma(folder / "gemma")
    for hook in ("ln2.hook_normalized", "hook_mlp_in"):
        ours.provenance = {"imported": {"stated": {"hook": f"blocks.1.{hook}", "target": "blocks.1.hook_mlp_out"}}}
        ours.save(folder / hook)
    return folder


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{f}/ours"], "give --model, the language model that it reads, and --hook, the submodule that it reads"),
        (["{f}/ours", "--model", "{f}/model", "--text", "t", "--hook", "h"], "give --target, the submodule at which"),
        (["{f}/sae", "--target", "b"], "--target b: "),
        (["{f}/ours", "{f}/sae"], "has the kind SAE and"),
        (["{f}/ours", "{f}/narrow"], "has the d_out 14 and"),
        (["{f}/ours", "--hook_input"], "--hook_input: "),
        (["{f}/ours", "--activations", "a.pt"], "what it is to answer with is not there"),
        (
            ["{f}/ours", "--controls", "[raw_dimensions]"],
            "raw_dimensions: is of SAEs, and this is a transcoder",
        ),
        (["{f}/sae", "--controls", "[best_linear_map]"], "best_linear_map: is of transcoders, and this is an SAE"),
        (["{f}/ours", "--controls", "[best_linear]"], "did you mean best_linear_map?"),
        (["{f}/ln2.hook_normalized", "--model", "{f}/model", "--text", "t"], "states the hook blocks.1.ln2.hook_norm"),
    ],
)
def test_wrong_input_is_named(folder, capsys, arguments, message):
    assert message in refused(capsys, *[one.format(f=folder) for one in arguments])


def test_widths_and_hooks_of_both_sides_are_checked(folder, capsys):
    said = refused(capsys, folder / "narrow", *on_text(folder), *HOOKS, *SMALL)
    assert "narrow has d_out=14, and the activations at its target have 16" in said
    said = refused(capsys, folder / "ours", *on_text(folder), f"--hook={READS}", "--target=model.layers.9.mlp", *SMALL)
    assert "model.layers.9.mlp" in said


def test_what_the_file_states_says_which_hooks_are_meant(folder, capsys):
    for name in ("sparsify/layers.1.mlp", "gemma"):
        printed = yaml.safe_load(run(capsys, folder / name, *on_text(folder), "--print_config"))
        arguments, panel = printed["data"]["init_args"], printed["model"]["init_args"]
        assert arguments["hook"] == {"source": READS, "target": ANSWERS}
        assert arguments["nulls"]["reinitialised"]["init_args"]["modules"] == [ANSWERS]
        assert panel["targets"]["source"] == "target"
        assert panel["targets"]["gaussian_source"] == "gaussian_target"
        assert list(panel["references"])[:2] == ["source/published", "gaussian_source/published"]
        assert "skip_path_alone" in panel["controls"]
    printed = yaml.safe_load(run(capsys, folder / "ours", *on_text(folder), *HOOKS, "--print_config"))
    assert "skip_path_alone" not in printed["model"]["init_args"]["controls"]


@pytest.fixture(scope="module")
def finished(folder, tmp_path_factory):
    """A finished check of a transcoder of sparsify with all controls and nulls."""
    out = tmp_path_factory.mktemp("finished") / "run"
    main([*map(str, ["check", folder / "sparsify/layers.1.mlp", *on_text(folder), *SMALL]), f"--out={out}"])
    return out


def test_a_check_of_a_transcoder_says_source_and_target(finished):
    check = read_check(finished / "check.json")
    [checked] = check["saes"]
    assert (checked["kind"], checked["variant"], checked["skip"]) == ("transcoder", "TopK", True)
    assert (check["data"]["hook"], check["data"]["target"]) == (READS, ANSWERS)
    assert set(checked["null_data"]) == {"gaussian", "shuffled", "reinitialised"}
    assert all(own["explained_variance"] is not None for own in checked["null_data"].values())
    metric = checked["metrics"]["explained_variance"]
    assert metric["label"] == "Explained variance of the target"
    without = {"best_linear_map", "linear_map_of_rank_l0", "skip_path_alone"}
    for name, control in checked["controls"].items():
        assert control["l0"] == 0 if name in without else abs(control["l0_off"]) < 0.05, name
        assert (control["l0_off"] is None) == (name in without)
    assert metric["controls"]["target_pursuit"]["is_bound"]
    assert "is_bound" not in metric["controls"]["best_linear_map"]
    [question] = [one for one in checked["questions"] if one["metric"] == "explained_variance"]
    assert question["word"] == "no"
    assert "of 10 controls" in question["sentence"], "a bound decides nothing"
    assert "a bound that is shown the target" in question["sentence"]
    said = " ".join(checked["limits"])
    assert "It is one transcoder" in said
    assert "Controls with random parts have the best linear map as their skip path" in said
    assert "SAE" not in said.replace("as an SAE", "")


def test_the_linear_map_and_what_is_shown_the_target_are_measured_in_the_place_of_the_mlp(finished):
    """Against the maps that LinearMaps would fit: fitted to other samples they are near, and not equal."""
    run = Run(finished)
    explained = {f"{one.policy}/{one.seed}": value for tag, own in run.measurements.values.items()
                 for one, value in own.items() if str(tag) == "explained_variance@source"}  # fmt: skip
    assert explained["best_linear_map/0"] > explained["linear_map_of_rank_l0/0"] > 0
    assert explained["random_encoder/0"] > explained["best_linear_map/0"] - 0.1
    assert explained["target_pursuit/0"] > 0.5
    assert explained["published/0"] < 0 < explained["random_decoder_regressed/0"]
    losses = {f"{one.policy}/{one.seed}": value for tag, own in run.measurements.values.items()
              for one, value in own.items() if str(tag) == "kl_reconstruction@source"}  # fmt: skip
    assert losses["target_pursuit/0"] < losses["best_linear_map/0"] < losses["published/0"]
    exported = SparseAutoencoder.load(finished / "saes/source/best_linear_map/0")
    assert exported.is_transcoder
    assert not (finished / "saes/gaussian_source").exists()


def test_page_screen_and_scoreboard_call_it_a_transcoder(finished, capsys):
    page = (finished / "report.html").read_text(encoding="utf-8")
    assert f"It reads {READS} and answers at {ANSWERS}" in page
    assert "The transcoder and its controls" in page
    table = as_markdown(read_boards([finished]))
    assert "| transcoder | variant |" in table
    assert "| TopK transcoder with a skip path | 40 | 3 |" in table
    assert f"| {READS} -> {ANSWERS} |" in table
    main(["explain", str(finished), "source/published/0", "3", "--n_tokens=256"])
    assert "A transcoder: reads layers.1.mlp.input, answers at layers.1.mlp" in capsys.readouterr().out


FEW = ["--controls=[best_linear_map, random_encoder]", "--nulls=[gaussian]"]


def test_the_configuration_that_is_printed_runs_to_the_same_numbers(folder, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = [folder / "gemma", *on_text(folder), *SMALL, *FEW]
    screen = run(capsys, *arguments, "--out", tmp_path / "run")
    assert max(map(len, screen.splitlines()[:-2])) <= 80
    assert "JumpReLU transcoder with a skip path and 40 latents, from width 16 to 16" in " ".join(screen.split())
    assert f"Reads        {READS}" in screen
    assert f"Answers at   {ANSWERS}" in screen
    assert "transcoder" in screen.split("l0")[1]
    (tmp_path / "printed.yaml").write_text(run(capsys, *arguments, "--print_config"))
    main(["validate", f"--config={tmp_path / 'printed.yaml'}", "--verbose=false"])
    capsys.readouterr()
    lines = [
        json.loads((path / "metrics.jsonl").read_text().splitlines()[-1])["metrics"]
        for path in (tmp_path / "run", tmp_path / "lightning_logs/check/version_0")
    ]
    assert lines[0] == lines[1]
    again = run(capsys, "--config", tmp_path / "printed.yaml", "--print_config")
    assert yaml.safe_load(again)["model"] == yaml.safe_load((tmp_path / "printed.yaml").read_text())["model"]


def test_two_transcoders_in_one_pass_with_training_of_their_own(folder, capsys, tmp_path):
    both = [folder / "sparsify/layers.1.mlp", folder / "ours"]
    run(capsys, *both, *on_text(folder), *HOOKS, *SMALL, *FEW, "--out", tmp_path / "both")
    saes = read_check(tmp_path / "both/check.json")["saes"]
    assert [len(one["controls"]) for one in saes] == [2, 2]
    assert (tmp_path / "both/saes/source/ours_random_encoder/0/sae.json").is_file()
    budget = ["--budget=tokens 2048", "--seeds=[0]", "--controls=[permuted_decoder]"]
    out = run(capsys, both[0], *on_text(folder), *SMALL, *budget, "--out", tmp_path / "remake")
    assert "Does a re-make on 2,048 tokens beat its twins?" in out
    [checked] = read_check(tmp_path / "remake/check.json")["saes"]
    settings = checked["remake"]["settings"]["init_args"]
    assert (settings["skip"], settings["k"]) == (True, K)
    assert set(checked["remake"]["l0"]) == {"trained", "frozen_decoder", "frozen_encoder"}
    assert "There is no soft-frozen twin: it turns unit vectors" in " ".join(checked["limits"])
    twin = SparseAutoencoder.load(tmp_path / "remake/saes/source/frozen_encoder/0")
    assert twin.is_transcoder
    assert twin.skip


def test_a_cache_of_both_hooks_gives_the_activations(folder, capsys, tmp_path):
    data = tiny.save_lm_data(tmp_path, 300, context_length=16, batch_size=64, buffer_samples=200, llm_batch_size=4)
    data["init_args"] |= {"train_samples": 1024, "val_samples": 256, "loss_samples": 256}
    data["init_args"]["hook"] = {"mlp_in": READS, "mlp_out": ANSWERS}
    (tmp_path / "data.yaml").write_text(yaml.safe_dump({"data": data}))
    main(["cache", f"--config={tmp_path / 'data.yaml'}", f"--out={tmp_path / 'cache'}"])
    capsys.readouterr()
    arguments = ["--cache", tmp_path / "cache", "--n_tokens=256", "--control_samples=512", "--latents=0"]
    run(capsys, folder / "ours", *arguments, "--controls=[permuted_decoder]", "--out", tmp_path / "run")
    [checked] = read_check(tmp_path / "run/check.json")["saes"]
    assert list(checked["controls"]) == ["permuted_decoder"]
    said = refused(capsys, folder / "narrow", *arguments)
    assert "has activations of mlp_in of width 16, mlp_out of width 16, and" in said


def test_one_transcoder_in_the_files_of_others_comes_to_the_same_numbers(folder, capsys, tmp_path):
    """Hooks that a file names as the model does need no option; those of Llama Scope are said, and the rest is read."""
    x, y = torch.randn(2, 4096, WIDTH, generator=torch.Generator().manual_seed(5))
    ours = BatchTopK(WIDTH, d_sae=D_SAE, k=K, d_out=WIDTH)
    ours.initialise(0, x, y)
    ours.threshold.fill_(1.0)
    ours.provenance = {"activations": {"hook": READS}, "target": {"hook": ANSWERS}}
    ours.eval().save(tmp_path / "own")
    transcoder_files.main(str(tmp_path / "own"), tmp_path / "files")
    found = {}
    for name, hooks in {"gemma_scope_2": [], "saelens": [], "llama_scope": HOOKS}.items():
        few = ["--controls=[permuted_decoder]", "--nulls=[]", "--latents=0"]
        place = tmp_path / "files" / name
        run(capsys, place, *on_text(folder), *hooks, *SMALL, *few, "--out", tmp_path / name)
        [found[name]] = read_check(tmp_path / name / "check.json")["saes"]
        main(["inspect", *map(str, [place, *on_text(folder), *HOOKS]), "--n_tokens=256", "--context_length=16"])
        said = capsys.readouterr().out
        assert "answers at" in said
        assert ("are these one place?" in said) == (name == "llama_scope"), "TransformerLens has no weight in its norms"
    assert {one["format"] for one in found.values()} == {"gemma_scope", "saelens", "llama_scope"}
    values = {name: one["metrics"]["explained_variance"]["value"] for name, one in found.items()}
    assert values["gemma_scope_2"] != 0
    assert all(value == pytest.approx(values["gemma_scope_2"], abs=1e-4) for value in values.values())
    assert all(one["l0"] == pytest.approx(found["saelens"]["l0"], abs=0.02) for one in found.values())
    said = refused(capsys, tmp_path / "files/llama_scope", *on_text(folder), *SMALL)
    assert "states the hook blocks.1.ln2.hook_normalized" in said
