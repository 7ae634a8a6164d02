import functools
import os
import re

import type_checks  # noqa: F401  (before the package, and so before torch, which imports some of it)

import torch  # isort: skip

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # read when triton is first imported: kernels/test_triton_bag.py

import pytest  # noqa: E402
from tiny_clip import save_images, save_tiny_clip  # noqa: E402

import sae_lightning  # noqa: E402, F401  (before anything that imports torchvision, see sae_lightning/_torchvision.py)
from sae_lightning.cpu_settings import PLAIN  # noqa: E402
from sae_lightning.kernels import pre_acts  # noqa: E402

collect_ignore = ["type_checks.py"]  # it is imported above, and once


def pytest_addoption(parser):
    parser.addoption(
        "--products",
        choices=("both", "plain", "fast"),
        default="both",
        help="run tests of products with torch's own, with the fast ones of this machine, or twice",
    )


def pytest_generate_tests(metafunc):
    if "plain_or_fast" in metafunc.fixturenames:
        chosen = metafunc.config.getoption("--products")
        metafunc.parametrize("plain_or_fast", ("plain", "fast") if chosen == "both" else (chosen,), indirect=True)


@pytest.fixture
def plain_or_fast(request, monkeypatch):
    """A machine without fast products, and one that uses all it has, whatever the size."""
    fast = request.param == "fast"
    dtypes = filter(pre_acts.can_pack, (torch.float32, torch.bfloat16)) if fast else ()
    monkeypatch.setattr(pre_acts.products, "packed", frozenset(dtypes))
    monkeypatch.setattr(pre_acts.products, "screened", fast)
    monkeypatch.setattr(pre_acts, "SCREEN_MIN_D_IN", 1)


@pytest.fixture(autouse=True)
def _settings_of_the_process(request, monkeypatch):
    """Give every test the products of a fresh process: a command that ran in this one has chosen others."""
    if request.config.getoption("--products") == "plain":
        monkeypatch.setenv(PLAIN, "1")
    monkeypatch.setattr(pre_acts.products, "packed", frozenset())
    monkeypatch.setattr(pre_acts.products, "screened", False)
    precision = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(precision)


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory):
    """Folder of a CLIP model with random weights, whose tokenizer is made once: that takes longer than most tests."""
    import open_clip

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(open_clip, "get_tokenizer", functools.cache(open_clip.get_tokenizer))
        yield str(save_tiny_clip(tmp_path_factory.mktemp("tiny_clip")))


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory):
    """Folder with red, green and blue images, in a folder each."""
    return str(save_images(tmp_path_factory.mktemp("images")))


SLOW = (
    "test_resume.py", "test_lost_rank.py", "test_two_processes.py", "test_train_step.py", "test_ranks.py",
    "test_fit.py", "test_fit_again.py", "test_configs.py", "test_stream.py", "report/test_images.py",
    "test_explorer.py", "evaluators/test_reconstruction.py", "metrics/test_reconstruction.py", "test_rank_watch.py",
    "test_datamodules.py", "test_report.py", "test_attribute_editing.py", "test_chat.py", "test_background.py",
    "test_concept_purity.py", "test_latent_images.py", "test_panel.py", "test_explain.py", "test_density.py",
    "test_old_run.py", "figures/test_runs.py", "test_meta_steering.py", "test_meta_latents.py",
    "test_causal_editing.py", "test_family.py", "test_auto_interp.py", "test_tasks.py", "test_triton_bag.py",
    "test_statistics.py", "test_pocket_clip.py", "test_pocket_lm.py", "pocket/test_text.py", "test_stitch.py",
    "test_report_browser.py", "test_explorer_browser.py", "test_cached.py", "test_clip_cache.py",
    "metrics/test_dictionary.py", "test_sparse_probing.py", "evaluators/test_base.py", "test_library.py",
    "test_new_evaluator.py", "test_parser.py", "test_cli.py", "test_page.py", "test_parts.py",
    "test_bad_inputs.py", "test_plain_loader.py", "saes/test_inputs.py", "test_export.py", "test_reading_back.py",
    "checking/test_published.py", "checking/test_scoreboard.py", "test_scoreboard_browser.py",
    "checking/test_training.py", "checking/test_remake.py", "commands/test_check.py", "test_examples.py",
    "tests/test_training.py", "saes/test_attached.py", "strategies/test_members.py",
    "test_cpu_settings.py", "benchmarks/test_gpu.py", "tests/test_latents.py", "commands/test_list.py",
)  # fmt: skip
"""Files of two seconds or more: they start processes, train through the command line, or open a browser."""


def pytest_collection_modifyitems(items):
    """Mark what `make fast` leaves out, and skip what needs a GPU where there is none."""
    for item in items:
        if item.path.as_posix().endswith(SLOW):
            item.add_marker("slow")
        if item.get_closest_marker("cuda") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a GPU"))


@pytest.fixture(autouse=True)
def _metrics_are_declared(monkeypatch):
    """Every metric that an evaluator of the package measures in any test is one that its class declares."""
    from sae_lightning.evaluators import Evaluator

    log = Evaluator._log

    def checked(self, *args):
        log(self, *args)
        if type(self).__module__.startswith("sae_lightning."):
            undeclared = [name for name in self.measured if not any(is_example(name, each) for each in self.declares)]
            assert not undeclared, f"{type(self).__name__} does not declare {undeclared}"

    def is_example(name, declared):
        parts = re.split(r"ATTRIBUTE|NULL|PART|OTHER|M$|(?<=_k)\d+$|(?<=recovery_at_)0\.8", declared.name)
        return re.fullmatch(".+".join(map(re.escape, parts)), name) is not None

    monkeypatch.setattr(Evaluator, "_log", checked)
