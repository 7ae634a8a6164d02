"""Small checks as `sae check` writes them, with numbers made up."""

from copy import deepcopy

from sae_lightning.checking.check_file import CHECK_FILE, write_check

RANDOM, PERMUTED = "random_encoder", "permuted_decoder"
LABELS = {RANDOM: "Random encoder", PERMUTED: "Permuted decoder"}
DATA = {
    "class": "LanguageModelDataModule",
    "model": "google/gemma-2-2b",
    "weights": "ab12",
    "hook": "model.layers.12",
    "hook_input": False,
    "dtype": "bfloat16",
    "text": {"files": ["pile.jsonl"], "sha256": "5ca1ab1e" * 8},
    "context_length": 1024,
    "bos_in_every_row": True,
    "skip_first_positions": 1,
    "max_norm_ratio": 10.0,
    "n_tokens": 65536,
}


def control(name, difference=0.2, half=0.05, verdict="beats", value=0.6):
    return {
        "label": LABELS[name],
        "controls_for": "what a random encoder can reach",
        "value": value,
        "draws": [value - 0.01, value, value + 0.01],
        "difference": difference,
        "interval": None if half is None else [difference - half, difference + half],
        "verdict": verdict,
        "share_above_floor": 0.75,
        "n_items": 512,
        "notes": [],
    }


def metric(label, question_name, value, controls, better="higher", is_headline=True):
    return {
        "label": label,
        "question": f"Question on {question_name}?",
        "question_name": question_name,
        "better": better,
        "value": value,
        "floor": 0.0,
        "margin": 0.04,
        "is_headline": is_headline,
        "controls": controls,
    }


def sae(name="published", fingerprint="f00d", **changes):
    """Of width 32, with two headline metrics and one that is none."""
    content = {
        "name": name,
        "where": f"hf://someone/{name}",
        "fingerprint": fingerprint,
        "format": "Gemma Scope",
        "variant": "JumpReLU",
        "d_in": 16,
        "d_sae": 32,
        "stated": {"l0": 30},
        "assumed": {},
        "inspection": {},
        "read_right": "It is read right.",
        "l0": 31.25,
        "metrics": {
            "explained_variance": metric(
                "Explained variance",
                "reconstruction",
                0.8,
                {RANDOM: control(RANDOM), PERMUTED: control(PERMUTED, 0.79, 0.01, value=0.01)},
            ),
            "ce_recovered_mean": metric(
                "Loss recovered", "model", 0.9, {RANDOM: control(RANDOM, -0.01, 0.02, "unclear", 0.91)}
            ),
            "fvu": metric("Fraction of variance unexplained", "reconstruction", 0.2, {}, "lower", False),
        },
        "controls": {
            name: {"label": LABELS[name], "controls_for": "", "l0": 31.2, "l0_off": 0.002}
            for name in (RANDOM, PERMUTED)
        },
        "null_data": {},
        "questions": [
            {
                "name": "reconstruction",
                "text": "Does it reconstruct?",
                "metric": "explained_variance",
                "word": "yes",
                "sentence": "Better.",
            },
            {
                "name": "model",
                "text": "Is the model kept?",
                "metric": "ce_recovered_mean",
                "word": "unclear",
                "sentence": "Not told from one.",
            },
        ],
        "limits": [],
        "remake": None,
    }
    return content | changes


def check(*saes, **changes):
    """The content of a check.json, without its format."""
    content = {
        "time": "2026-11-28T20:00:00",
        "seconds": 312.5,
        "command": "sae check A",
        "commit": "1234567",
        "versions": {"sae_lightning": "0.1.0"},
        "hardware": {"processor": "Xeon", "cores": 2, "accelerator": None},
        "budget": {"kind": "nulls"},
        "data": DATA,
        "evaluators": [{"class": "Reconstruction"}, {"class": "LossRecovered", "every_n_validations": 1}],
        "draws": 3,
        "control_samples": 65536,
        "saes": list(saes) or [sae()],
    }
    return deepcopy(content | changes)


def write(folder, *saes, **changes):
    """Write a check.json into a folder and return its path."""
    path = folder / CHECK_FILE
    write_check(path, check(*saes, **changes))
    return path
