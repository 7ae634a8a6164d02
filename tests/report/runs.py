"""Run folders: by hand, with a bit of everything that needs no SAE, and by the real command."""

import base64
import gzip
import json

import yaml

from sae_lightning.cli import main

SCRIPT = "<script>alert(1)</script>"
QUIET = {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False, "log_every_n_steps": 1}
POLICIES = ("trained", "frozen_decoder", "soft_frozen_decoder", "frozen_encoder")


QUESTIONS = {
    "explain": {"text": "Does it explain?", "order": 10},
    "probing": {"text": "Do a few latents hold a concept?", "order": 50, "title": "Probing", "lead": "A probe reads."},
    "mine": {"text": f"Is it mine? {SCRIPT}", "order": 60},
    "interpretation": {"text": "Can one tell?", "order": 90, "title": "Interpretation"},
    "seeds": {"text": "Do two seeds agree?", "order": 100, "title": "Agreement of seeds", "lead": "Latents of seeds."},
    "drift": {"text": "Did directions move?", "order": 200},
}


def about(question, label, better=None, **more):
    return {"label": label, "question": QUESTIONS[question] | {"name": question}, "better": better} | more


ABOUT = {
    "explained_variance": about("explain", "Explained variance", "higher", is_headline=True),
    "dead_fraction": about("explain", "Dead latents", "lower"),
    "l0": about("explain", "Active latents a sample"),
    "cosine_to_start_mean": about("drift", "Cosine of directions to their start, mean"),
    "probe_accuracy_k1": about("probing", "Probe on the best single latent, accuracy"),
    "probe_accuracy_k2": about("probing", "Probe on the best 2 latents, accuracy"),
    "seed_mmcs": about("seeds", "Nearest latent of the other seed (cosine)"),
    "interp_alive_fraction": about("interpretation", "Latents that could be sampled"),
    f"mine_{SCRIPT}_$x_": about("mine", f"Mine {SCRIPT} $x", "higher"),
}


def write_run(folder, name="a run", n_lines=3, seed=0, **values):
    """Names and texts in it try to close a tag, to start a script, and to be mathematics."""
    folder.mkdir(parents=True)

    def line(number):
        shift = number / 20
        scores = dict(zip(POLICIES, (0.7, 0.4, 0.66, 0.5), strict=True)) | values
        ev = {
            policy: {"0": value + shift, "1": value + shift + 0.01 - place / 1000}
            for place, (policy, value) in enumerate(scores.items())
        }
        ev["soft_frozen_decoder"]["1"] += 0.05  # with one seed above and one below the trained SAE
        ev[SCRIPT] = {"0": 0.3}
        metrics = {"explained_variance": ev, "l0": {policy: {"0": 20.0, "1": 21.0} for policy in ev}}
        metrics |= {"dead_fraction": {policy: {"0": 0.1, "1": None} for policy in POLICIES}}
        metrics |= {"cosine_to_start_mean": {policy: {"0": 0.9, "1": 0.8} for policy in POLICIES}}
        metrics |= {f"probe_accuracy_k{k}": {policy: {"0": 0.6 + k / 10} for policy in POLICIES} for k in (1, 2)}
        metrics |= {"explained_variance@noise": ev, f"mine_{SCRIPT}_$x_": ev, "seed_mmcs": ev}
        floors = {"explained_variance": 0.0, "explained_variance@noise": 0.0, "l0": None}
        counters = {"step": 100 * number, "samples": 20_000 * number, "seconds": 100.0 * number}
        return counters | {"format": 2, "metrics": metrics, "floors": floors, "about": ABOUT, "nulls": ["noise"]}

    lines = [json.dumps(line(number)) for number in range(1, n_lines + 1)]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    sae = {"class_path": "sae_lightning.saes.TopK", "init_args": {"k": 20, "seed": 0}}
    panel = {"sae": sae, "policies": dict.fromkeys([*POLICIES, SCRIPT]), "seeds": [0, 1]}
    data = {"model": f"{name} </script>{SCRIPT}", "hook": "\"'><img src=http://x.y/z onerror=alert(2)>", "seed": seed}
    settings = {
        "model": {"class_path": "sae_lightning.panel.SanityPanel", "init_args": panel},
        "data": {"class_path": "LanguageModelDataModule", "init_args": data | {"nulls": {"noise": None}}},
    }
    (folder / "config.yaml").write_text("# lightning.pytorch==2.6.6\n" + yaml.safe_dump(settings))
    return folder


def fit(folder, name, sae, kind, **init_args):
    config = {"name": name, "model": sae, "data": {"class_path": kind, "init_args": init_args}}
    logger = {"class_path": "MemberTensorBoardLogger", "init_args": {"save_dir": str(folder / "logs")}}
    config["trainer"] = QUIET | {"logger": logger}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(config))
    main(["fit", "--config", str(folder / f"{name}.yaml")])
    return folder / "logs" / name / "version_0"


def panel(**sae):
    sae["optimizer"] = {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.05}}
    policies = {"frozen_decoder": {"class_path": "FrozenDecoder"}, "trained": {"class_path": "NoFreeze"}}
    return {
        "class_path": "SanityPanel",
        "init_args": {"sae": {"class_path": "TopK", "init_args": sae}, "policies": policies, "seeds": [3, 11]},
    }


def unpack(packed):
    return json.loads(gzip.decompress(base64.b64decode(packed)))
