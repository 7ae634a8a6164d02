"""What a command says beside its results, and that afterwards all is as before."""

import logging
import warnings
from pathlib import Path

import lightning
import pytest
import transformers.utils.logging as transformers

import sae_lightning
from sae_lightning.messages import own_messages

LOG = logging.getLogger("lightning.pytorch.utilities.rank_zero")


def record(message: str, path: str) -> None:
    LOG.handle(LOG.makeRecord(LOG.name, logging.INFO, path, 1, message, (), None))


def test_own_messages_once_and_those_of_lightning_never(caplog: pytest.LogCaptureFixture):
    bars_were_shown = transformers.is_progress_bar_enabled()  # never where HF_HUB_DISABLE_PROGRESS_BARS is set
    with caplog.at_level(logging.INFO):
        with own_messages():
            assert not transformers.is_progress_bar_enabled()
            for message in ("Massive activations: 3", "Massive activations: 3", "another"):
                record(message, __file__)
            record("GPU available: False", f"{lightning.__path__[0]}/pytorch/trainer/setup.py")
        assert transformers.is_progress_bar_enabled() is bars_were_shown
        record("Massive activations: 3", __file__)
    assert caplog.messages == ["Massive activations: 3", "another", "Massive activations: 3"]


def test_a_warning_of_ours_is_a_sentence_and_one_of_others_keeps_its_place():
    own, other = str(Path(sae_lightning.__file__).parent / "panel.py"), "/elsewhere/module.py"
    before = warnings.formatwarning
    with own_messages():
        assert warnings.formatwarning("withheld (nan)", UserWarning, own, 3) == "warning: withheld (nan)\n"
        assert "module.py:3" in warnings.formatwarning("deprecated", UserWarning, other, 3)
    assert warnings.formatwarning is before


def test_everything_is_shown_on_request(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SAE_DEBUG", "1")
    with caplog.at_level(logging.INFO), own_messages():
        record("GPU available: False", f"{lightning.__path__[0]}/pytorch/trainer/setup.py")
    assert caplog.messages == ["GPU available: False"]
