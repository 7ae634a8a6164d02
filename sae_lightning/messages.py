"""What a command says beside its results: its own messages, each once, and nothing of the libraries about themselves.

Lightning tells of seeds, devices and loaders through the same loggers as this library tells what was left out of the
data; a record knows the file that it is from. With ``SAE_DEBUG=1`` in the environment everything is shown.
"""

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import lightning
from lightning.fabric.utilities.warnings import PossibleUserWarning
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from typing_extensions import override

from sae_lightning.moving_line import LINE, without_bars, wrapped

_OWN, _LIGHTNING = Path(__file__).parent, Path(lightning.__file__).parent
_LOGGERS = (
    "lightning.pytorch.utilities.rank_zero",
    "lightning.fabric.utilities.rank_zero",
    "lightning.fabric.utilities.seed",
    "lightning.fabric.utilities.distributed",
    "lightning.pytorch.accelerators.cuda",
)


class _OwnMessages(logging.Filter):
    """Lets a message of this library pass the first time, and what Lightning tells of itself never."""

    def __init__(self) -> None:
        super().__init__()
        self._said: set[str] = set()

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        is_of_lightning = record.levelno < logging.WARNING and _LIGHTNING in Path(record.pathname).parents
        if is_of_lightning or message in self._said:
            return False
        self._said.add(message)
        LINE.clear()
        if sys.stderr.isatty():
            record.msg, record.args = wrapped(message), ()
        return True


@contextmanager
def own_messages() -> Iterator[None]:
    """Leave out what Lightning and transformers say of every run, say nothing twice, and show the moving line."""
    with ExitStack() as stack:
        if rank_zero_only.rank == 0:  # type: ignore[attr-defined]
            stack.enter_context(LINE.on())
        if not os.environ.get("SAE_DEBUG"):
            stack.enter_context(_own_records())
            stack.enter_context(_own_warnings())
            stack.enter_context(without_bars())
        yield


@contextmanager
def _own_records() -> Iterator[None]:
    own, loggers = _OwnMessages(), [logging.getLogger(name) for name in _LOGGERS]
    for logger in loggers:
        logger.addFilter(own)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(own)


@contextmanager
def _own_warnings() -> Iterator[None]:
    """Print a warning of this library as a sentence, without a place in the source; leave out Lightning's tips."""
    before = warnings.formatwarning

    def in_words(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
    ) -> str:
        LINE.clear()
        if _OWN in Path(filename).parents:
            return wrapped(f"warning: {message}") + "\n"
        return before(message, category, filename, lineno, line)

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=PossibleUserWarning)
        warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")  # a resumed run's
        warnings.formatwarning = in_words
        try:
            yield
        finally:
            warnings.formatwarning = before
