"""A command that runs others says each thing once, and afterwards all is as before."""

import logging

import transformers.utils.logging as transformers

from sae_lightning.commands.quiet import said_once

LOG = logging.getLogger("lightning.pytorch.utilities.rank_zero")


def test_each_message_once_and_noise_never(caplog):
    bars_were_shown = transformers.is_progress_bar_enabled()  # never where HF_HUB_DISABLE_PROGRESS_BARS is set
    with caplog.at_level(logging.INFO):
        with said_once():
            assert not transformers.is_progress_bar_enabled()
            for message in ("Massive activations: 3", "GPU available: False", "Massive activations: 3", "another"):
                LOG.info(message)
            logging.getLogger("lightning.fabric.utilities.seed").info("Seed set to 0")
        assert transformers.is_progress_bar_enabled() is bars_were_shown
        LOG.info("Massive activations: 3")
    assert caplog.messages == ["Massive activations: 3", "another", "Massive activations: 3"]
