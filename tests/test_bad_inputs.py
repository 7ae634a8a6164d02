"""The mistakes in bad_inputs.txt: each ends in one message that says what was given, what was expected and what to do.

Through the real `main`: exit code 2, no traceback, and of what is refused before a run starts nothing is left behind.
"""

import re
import shlex
import shutil
from pathlib import Path
from string import Template

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import save_text, save_tiny_lm

from sae_lightning.cli import main
from sae_lightning.commands import fit  # noqa: F401 - imported in a test, Lightning would log to the stderr of that test

QUIET = (
    "--trainer.enable_progress_bar false --trainer.enable_model_summary false --trainer.log_every_n_steps 1 "
    "--trainer.accelerator cpu"
)
LONE = "--model BatchTopK --model.k 4 --model.expansion_factor 4"
SYNTHETIC = (
    "--data SyntheticDataModule --data.n_features 64 --data.d_in 16 --data.train_samples 1024 --data.batch_size 256 "
    f"--data.val_samples 512 {QUIET}"
)
LM = (
    "--data LanguageModelDataModule --data.model $lm --data.hook model.layers.0 --data.text FileText "
    "--data.text.paths $text --data.context_length 16 --data.batch_size 32 --data.train_samples 64 "
    "--data.val_samples 64 --data.loss_samples 64 --data.buffer_samples 128 --data.llm_batch_size 4"
)
COMMON = {
    "QUIET": QUIET,
    "LONE": LONE,
    "SYNTHETIC": SYNTHETIC,
    "S": f"{LONE} {SYNTHETIC}",
    "PANEL": f"--model SanityPanel --model.sae TopK {SYNTHETIC}",
    "LM": LM,
    "B": f"{LONE} {LM}",
    "IMAGES": "--model TopK --data ClipImages --data.model none --data.hook visual --data.images ImageFolder "
    "--data.images.folder",
    "P": "$plain --assume variant=TopK --assume k=4 --assume apply_b_dec_to_input=true",
    "LETTERS": 300 * "a",
}
TABLE = Path(__file__).with_name("bad_inputs.txt").read_text(encoding="utf-8")


def cases(text: str) -> dict[str, tuple[str, list[str]]]:
    """Command and needles by the name of the mistake."""
    found = re.findall(r"^(\S.*)\n  (\S.*)\n  (\S.*)$", text, re.MULTILINE)
    assert len({name for name, _, _ in found}) == len(found) == text.count("\n  ") / 2
    return {name: (command, needles.split(" | ")) for name, command, needles in found}


BEFORE, IN_A_MODEL, WHILE_RUNNING = map(cases, re.split("\n# found in a model|\n# found while running", TABLE))


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Files and folders by the names that the commands have for them."""
    folder = tmp_path_factory.mktemp("bad")
    for name, content in {
        "empty.yaml": "", "list.yaml": "- a\n", "syntax.yaml": "model: {class_path: TopK\n", "lone.yaml": "name: a\n",
        "tabs.yaml": "model:\n\tclass_path: TopK\n", "empty.ckpt": "", "empty.txt": "",
        "evaluators.yaml": "trainer: {callbacks+: [LossRecoverd]}\n",
    }.items():  # fmt: skip
        (folder / name).write_text(content)
    (folder / "binary.yaml").write_bytes(b"\x00\xff\xfe\x01")
    run = fitted(folder / "logs", "tiny")
    places = {"folder": folder, "run": run, "sae": run / "saes/trained/0", "smaller": small_sae(folder / "logs")}
    places |= {"lm": save_tiny_lm(folder / "lm"), "text": save_text(folder / "text.jsonl", n=50)}
    for name in ("nometrics", "garbage", "items", "config", "cut", "foreign", "diverged"):
        places[name] = folder / "runs" / name
        shutil.copytree(run, places[name])
    (places["nometrics"] / "metrics.jsonl").unlink()
    (places["garbage"] / "metrics.jsonl").write_text("garbage{")
    (places["items"] / "items.safetensors").write_bytes(b"\x00\xff" * 20)
    (places["config"] / "config.yaml").write_text("model: {")
    cut = places["cut"] / "saes/trained/0/sae.safetensors"
    cut.write_bytes(cut.read_bytes()[:300])
    (places["foreign"] / "saes/trained/0/sae.json").write_text("{}")
    spoil(places["diverged"] / "saes/trained/0/sae.safetensors", "W_dec", torch.nan)
    places["plain"] = folder / "plain.pt"
    whole = load_file(places["sae"] / "sae.safetensors")
    torch.save({name: whole[name] for name in ("W_enc", "W_dec", "b_enc", "b_dec")}, places["plain"])
    command = Template(f"cache --out {folder}/cache $LM").substitute(COMMON)
    main(shlex.split(Template(command).substitute(places)))
    for name, part, value in (("spoilt", "train", torch.nan), ("spoilt_heldout", "heldout", torch.inf)):
        places[name] = folder / name
        shutil.copytree(folder / "cache", places[name])
        spoil(places[name] / f"{part}-00000.safetensors", "activations", value)
    return places


def fitted(logs: Path, name: str, *options: str) -> Path:
    """The folder of a finished run."""
    main(shlex.split(f"fit {COMMON['S']} --name {name} --trainer.logger.save_dir {logs}") + list(options))
    return logs / name / "version_0"


def small_sae(logs: Path) -> Path:
    return fitted(logs, "smaller", "--model.expansion_factor", "2") / "saes/trained/0"


def spoil(file: Path, name: str, value: float) -> None:
    """Put a number that is not finite into a file of tensors, which keeps its size."""
    tensors = load_file(file)
    tensors[name][3, 2] = value
    save_file(tensors, file)


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)


def everything_in(*folders: Path) -> set[Path]:
    return {path for folder in folders for path in folder.rglob("*")}


def message_of(command: str, places: dict[str, Path], capsys: pytest.CaptureFixture) -> str:
    """Run a command that cannot work; return its message."""
    with pytest.raises(SystemExit) as stop:
        main(shlex.split(Template(Template(command).safe_substitute(COMMON)).substitute(places)))
    assert stop.value.code == 2
    told = capsys.readouterr().err
    assert "Traceback" not in told
    return told[told.index("error: ") :]


@pytest.fixture
def _no_weights(monkeypatch: pytest.MonkeyPatch):
    """Let no model of transformers read its weights, which may take minutes."""
    from transformers import PreTrainedModel

    def refuse(*args: object, **settings: object) -> None:
        raise AssertionError("a model is loaded for a mistake that can be seen before")

    monkeypatch.setattr(PreTrainedModel, "from_pretrained", refuse)


@pytest.mark.usefixtures("_no_weights")
@pytest.mark.parametrize(("command", "needles"), BEFORE.values(), ids=BEFORE.keys())
def test_a_mistake_that_needs_no_model_is_one_message(command, needles, places, tmp_path, capsys):
    check_message(command, needles, places, tmp_path, capsys)


@pytest.mark.parametrize(("command", "needles"), IN_A_MODEL.values(), ids=IN_A_MODEL.keys())
def test_a_mistake_that_needs_the_model_is_one_message(command, needles, places, tmp_path, capsys):
    check_message(command, needles, places, tmp_path, capsys)


def check_message(command, needles, places, tmp_path, capsys):
    before = everything_in(tmp_path, places["folder"])
    message = message_of(command, places, capsys)
    for needle in needles:
        assert needle in message
    assert everything_in(tmp_path, places["folder"]) == before, "something is left behind"


@pytest.mark.parametrize(("command", "needles"), WHILE_RUNNING.values(), ids=WHILE_RUNNING.keys())
def test_what_only_running_can_find_is_one_message_too(command, needles, places, capsys):
    message = message_of(command, places, capsys)
    for needle in needles:
        assert needle in message
    assert not list(Path().rglob("sae.safetensors")), "an SAE is exported"


def test_there_are_more_than_a_hundred():
    assert len(BEFORE) > 150
