"""Less to read of a command that runs others: what says nothing is left out, and all else is said once."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from typing_extensions import override

_LOGGERS = ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.seed")
_NOISE = (
    "GPU available",
    "TPU available",
    "HPU available",
    "Seed set to",
    "Loading `train_dataloader`",
    "`Trainer.fit`",
)


class _Once(logging.Filter):
    """Lets a message pass the first time, and noise never."""

    def __init__(self) -> None:
        super().__init__()
        self._said: set[str] = set()

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if message.startswith(_NOISE) or message in self._said:
            return False
        self._said.add(message)
        return True


@contextmanager
def said_once() -> Iterator[None]:
    """Leave out what Lightning and transformers say of every run, and say nothing twice."""
    import huggingface_hub.utils as hub
    import transformers.utils.logging as transformers

    once, loggers = _Once(), [logging.getLogger(name) for name in _LOGGERS]
    for logger in loggers:
        logger.addFilter(once)
    downloads_are_shown = not hub.are_progress_bars_disabled()
    bars_are_shown = transformers.is_progress_bar_enabled()
    transformers.disable_progress_bar()
    if downloads_are_shown:  # which take minutes, and the bars of loading weights seconds
        hub.enable_progress_bars()
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(once)
        if bars_are_shown:
            transformers.enable_progress_bar()
