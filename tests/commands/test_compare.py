"""``sae compare`` on runs written by hand."""

import json
from pathlib import Path

import pytest
import yaml

from sae_lightning.cli import main
from sae_lightning.runs import Run
from sae_lightning.verdict import write_verdict
from sae_lightning.verdict.files import RULE

QUESTION = {"name": "explain", "text": "Does it explain?", "order": 1}


def about(better: str | None = None) -> dict:
    """What a run says about its metrics; nothing about others than these."""
    names = ("explained_variance", "l0")
    return {name: {"label": name, "question": QUESTION} | ({"better": better} if better else {}) for name in names}


FIRST = {
    "step": 5,
    "samples": 50,
    "seconds": 1.0,
    "metrics": {"explained_variance": {"trained": {"0": 0.1}}},
    "floors": {"explained_variance": 0.0},
}
LAST = {
    "step": 10,
    "samples": 100,
    "seconds": 2.0,
    "metrics": {
        "zeta": {"trained": {"0": None, "1": None}},
        "explained_variance": {
            "other": {"0": 0.5},
            "frozen_decoder": {"0": 0.6},
            "trained": {"0": 0.7, "1": 0.8},
        },
        "l0": {"trained": {"0": 31.0, "1": 33.0}, "frozen_decoder": {"0": 32.0}},
    },
    "floors": {"explained_variance": 0.0, "l0": 0.0, "zeta": None},
    "about": about(),
}
TABLE = """\
                            trained  frozen_decoder   floor   other
seeds                             2               1               1
-------------------------------------------------------------------
explained_variance  0.7500 ± 0.0707          0.6000  0.0000  0.5000
l0                    32.00 ± 1.41           32.00    0.00       -
zeta                              -               -       -       -
-------------------------------------------------------------------
mean ± sample standard deviation over seeds; floor: an SAE that does nothing
"""


def write_run(
    folder: Path, *lines: dict, k: int = 2, seed: int = 0, panel: bool = False, freeze: str = "", **settings: dict
) -> Path:
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    sae = {"class_path": "TopK", "init_args": {"k": k, "seed": seed}}
    model = (
        {"class_path": "SanityPanel", "init_args": {"sae": sae, "policies": None, "seeds": [seed]}} if panel else sae
    )
    data = {"class_path": "SyntheticDataModule", "init_args": {"d_in": 8}}
    policy = {"class_path": f"sae_lightning.freeze.{freeze}"} if freeze else None
    (folder / "config.yaml").write_text(yaml.safe_dump({"model": model, "data": data, "freeze": policy} | settings))
    return folder


def run_with(value: float, floor: float = 0.0, policy: str = "trained", seed: int = 0) -> dict:
    return LAST | {
        "metrics": {"explained_variance": {policy: {str(seed): value}}},
        "floors": {"explained_variance": floor},
    }


def compare(capsys: pytest.CaptureFixture, *args: object) -> str:
    main(["compare", "--all", *map(str, args)])
    return capsys.readouterr().out


def test_table_of_the_last_validation(tmp_path: Path, capsys: pytest.CaptureFixture):
    table = compare(capsys, write_run(tmp_path / "a", FIRST, LAST))
    assert [line.split() for line in table.splitlines()] == [line.split() for line in TABLE.splitlines()]
    assert len({len(line) for line in table.splitlines()[2:6]}) == 1  # columns stand under each other


def test_a_short_table_leaves_out_what_says_nothing_and_fits_80_columns(tmp_path: Path, capsys: pytest.CaptureFixture):
    explained = {
        "trained": {"0": 0.7, "1": 0.71, "2": 0.69},
        "frozen_decoder": {"0": 0.6, "1": 0.612, "2": 0.588},
        "soft_frozen_decoder": {"0": 0.69996, "1": 0.709959, "2": 0.689961},
        "frozen_encoder": {"0": 0.5, "1": 0.515, "2": 0.485},
    }
    lines = LAST | {"metrics": {"explained_variance": explained, "fvu": explained, "zeta": explained}}
    lines["about"] = {"fvu": about()["l0"], "explained_variance": about("higher")["explained_variance"]}
    run = write_run(tmp_path / "a", lines, panel=True)
    main(["compare", str(run)])
    short = capsys.readouterr().out
    assert short.endswith("\n\nDoes the trained SAE beat random? Yes.\n"), "the end is what a terminal shows"
    assert max(map(len, short.splitlines())) <= 80
    rows = [line.split()[0] for line in short.splitlines() if line.strip()]
    assert "fvu" not in rows
    assert "zeta" in rows, "nothing is known of it"
    assert "0.700±0.010" in short
    verdict = next(line for line in short.splitlines() if line.startswith("explained_variance") and "beats" in line)
    assert "beats +0.100±0.009" in verdict
    assert "beats +0.000040±0.000004" in verdict, "no interval seems to hold 0 by rounding alone"
    assert "fvu" in compare(capsys, run)


def test_a_wide_table_comes_in_parts(tmp_path: Path, capsys: pytest.CaptureFixture):
    policies = ["trained", *(f"policy_number_{number}" for number in range(12))]
    metrics = {
        "explained_variance": {policy: {"0": 0.5, "1": 0.25} for policy in policies},
        "l0": {"trained": {"0": 3.0}},
    }
    table = compare(capsys, write_run(tmp_path / "a", LAST | {"metrics": metrics}))
    lines = table.splitlines()
    assert max(map(len, lines)) <= 80
    heads = [line.split() for line in lines if "policy_number" in line]
    assert len(heads) > 1
    assert sorted(name for head in heads for name in head) == sorted([*policies, "floor"])
    assert sum(line.startswith("explained_variance") for line in lines) == len(heads)
    assert sum(line.startswith("l0") for line in lines) == 1, "in the part of the trained SAE and of the floor"


def test_json_is_one_object(tmp_path: Path, capsys: pytest.CaptureFixture):
    assert json.loads(compare(capsys, "--json", write_run(tmp_path / "a", FIRST, LAST))) == {
        "metrics": {
            "zeta": {"trained": [None, None]},
            "l0": {"trained": [31.0, 33.0], "frozen_decoder": [32.0]},
            "explained_variance": {"other": [0.5], "frozen_decoder": [0.6], "trained": [0.7, 0.8]},
        },
        "floors": {"explained_variance": 0.0, "l0": 0.0, "zeta": None},
        "verdicts": {"a": {"level": 0.95, "margin": 0.05, "rule": RULE, "metrics": {}}},
        "stability": {},
        "notes": [],
    }


def test_runs_that_differ_in_seed_and_policy_are_put_together(tmp_path: Path, capsys: pytest.CaptureFixture):
    runs = [
        write_run(tmp_path / "a", run_with(0.1)),
        write_run(tmp_path / "b", run_with(0.3, seed=1), seed=1),
        write_run(tmp_path / "c", run_with(0.5, policy="frozen_decoder"), freeze="FrozenDecoder"),
        write_run(tmp_path / "d", run_with(0.7, seed=2), panel=True, seed=2),
    ]
    together = json.loads(compare(capsys, "--json", *runs))
    assert together["metrics"] == {"explained_variance": {"trained": [0.1, 0.3, 0.7], "frozen_decoder": [0.5]}}


def test_runs_of_different_settings_are_labelled(tmp_path: Path, capsys: pytest.CaptureFixture):
    runs = [write_run(tmp_path / "a/version_0", run_with(0.1)), write_run(tmp_path / "b/version_0", run_with(0.3), k=3)]
    apart = json.loads(compare(capsys, "--json", *runs))
    labelled = {"trained (a/version_0)": [0.1], "trained (b/version_0)": [0.3]}
    assert apart["metrics"] == {"explained_variance": labelled}
    assert apart["floors"] == {"explained_variance": 0.0}
    assert set(apart["verdicts"]) == {"a/version_0", "b/version_0"}
    table = compare(capsys, *runs)
    assert "trained (a/version_0)" in table
    assert "trained (b/version_0)" in table


def test_floors_that_disagree_are_labelled(tmp_path: Path, capsys: pytest.CaptureFixture):
    runs = [write_run(tmp_path / "a", run_with(0.1)), write_run(tmp_path / "b", run_with(0.3, floor=0.2), k=3)]
    floors = json.loads(compare(capsys, "--json", *runs))["floors"]
    assert floors == {"explained_variance (a)": 0.0, "explained_variance (b)": 0.2}


def test_the_verdict_stands_under_the_table_and_in_a_file(tmp_path: Path, capsys: pytest.CaptureFixture):
    values = {"trained": {"0": 0.9, "1": 0.91}, "frozen_decoder": {"0": 0.6, "1": 0.611}}
    line = {"metrics": {"explained_variance": values}, "floors": {"explained_variance": 0.0}}
    folder = write_run(tmp_path / "a", LAST | line | {"about": about("higher")})
    text = compare(capsys, folder)
    assert "frozen_decoder: the trained SAE beats it on 1" in text
    of_json = json.loads(compare(capsys, "--json", folder))["verdicts"]["a"]
    write_verdict(Run(folder))
    assert json.loads((folder / "verdict.json").read_text()) == of_json
    baseline = of_json["metrics"]["explained_variance"]["baselines"]["frozen_decoder"]
    assert baseline["verdict"] == "beats"
    assert baseline["difference"] == pytest.approx(0.2995)


SIZES = {f"x{n}": [f"x{n}", "trained"] for n in (1, 2, 16)}
SIZES |= {f"x{n}_my_x2_policy": [f"x{n}", "my_x2_policy"] for n in (2, 16)}
SIZES["x16_frozen_decoder"] = ["x16", "frozen_decoder"]


def family_line():
    """A bigger SAE of random directions beats a smaller trained one: sizes must not be mixed up."""
    means = {
        "x1": 0.2,
        "x2": 0.5,
        "x16": 0.9,
        "x2_my_x2_policy": 0.3,
        "x16_my_x2_policy": 0.95,
        "x16_frozen_decoder": 0.7,
    }
    values = {policy: {"0": mean, "1": mean + (0.002 if "_" in policy else 0.001)} for policy, mean in means.items()}
    values |= {"pca": {"0": 0.6}}
    line = {"metrics": {"explained_variance": values, "l0@early": values}, "sizes": SIZES}
    return LAST | line | {"floors": {"explained_variance": 0.1}, "about": about("higher")}


def test_a_family_is_compared_size_by_size(tmp_path: Path, capsys: pytest.CaptureFixture):
    folder = write_run(tmp_path / "a", family_line())
    text = compare(capsys, folder)
    assert text.splitlines()[-1].startswith("Does the trained SAE beat random?")
    policies = ["pca", "x1", "x2", "x2_my_x2_policy", "x16", "x16_frozen_decoder"]
    assert [word for word in text.split() if word in policies][:6] == policies, "in the heads of the parts of the table"
    assert "my_x2_policy: the trained SAE beats it on 2, loses on 2" in text
    assert "@x2: the trained SAE of size x2 against the baselines of its size" in text
    verdict = json.loads(compare(capsys, "--json", folder))["verdicts"]["a"]
    metrics = verdict["metrics"]
    names = [f"{metric}{size}" for metric in ("explained_variance@", "l0@early ") for size in ("x1", "x2", "x16")]
    assert list(metrics) == names
    assert [list(entry["baselines"]) for entry in metrics.values()] == 2 * [
        ["pca"],
        ["my_x2_policy", "pca"],
        ["frozen_decoder", "my_x2_policy", "pca"],
    ]
    large = metrics["explained_variance@x16"]
    assert (large["trained"], large["floor"]) == (pytest.approx(0.9005), 0.1)
    assert large["baselines"]["my_x2_policy"]["verdict"] == "loses"
    assert large["baselines"]["frozen_decoder"]["difference"] == pytest.approx(0.1995)
    assert large["baselines"]["frozen_decoder"]["n_seeds"] == 2
    assert metrics["explained_variance@x2"]["baselines"]["my_x2_policy"]["verdict"] == "beats"
    assert metrics["explained_variance@x2"]["baselines"]["pca"]["difference"] == pytest.approx(-0.0995)
    write_verdict(Run(folder))
    assert json.loads((folder / "verdict.json").read_text()) == verdict


def test_the_margin_is_stated_and_can_be_chosen(tmp_path: Path, capsys: pytest.CaptureFixture):
    values = {"trained": {"0": 0.9, "1": 0.91, "2": 0.92}, "frozen_decoder": {"0": 0.901, "1": 0.909, "2": 0.9204}}
    line = {"metrics": {"explained_variance": values}, "floors": {"explained_variance": 0.0}}
    folder = write_run(tmp_path / "a", LAST | line | {"about": about("higher")})
    assert "frozen_decoder: the trained SAE is equivalent on 1" in compare(capsys, folder)
    text = compare(capsys, folder, "--margin", "0.001")
    assert "frozen_decoder: the trained SAE is unclear on 1" in text
    assert "equivalent: it lies within 0.1% of what the trained SAE has above the floor" in " ".join(text.split())
    verdict = json.loads(compare(capsys, folder, "--json", "--margin", "0.2"))["verdicts"]["a"]
    assert verdict["margin"] == 0.2
    assert verdict["metrics"]["explained_variance"]["margin"] == pytest.approx(0.2 * 0.91)
    assert verdict["metrics"]["explained_variance"]["baselines"]["frozen_decoder"]["is_within_margin"]


def test_floors_of_single_policies_stand_from_the_least_to_the_greatest(tmp_path: Path, capsys: pytest.CaptureFixture):
    floors = {"explained_variance": {"trained": {"0": 0.2, "1": 0.3}, "frozen_decoder": {"0": 0.5}}}
    folder = write_run(tmp_path / "a", LAST | {"member_floors": floors})
    assert "0.2500 to 0.5000" in compare(capsys, folder)
