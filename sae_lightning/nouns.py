"""What the SAEs of a run are called where people read: SAEs, transcoders or crosscoders.

What is said of several runs at once, a page or a table, has one noun, which whoever makes it sets for as long as that
takes: labels are made in many places, and none of them has a run at hand.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

SAE: Final = "SAE"
TRANSCODER: Final = "transcoder"
CROSSCODER: Final = "crosscoder"
_NOUN = ContextVar("noun", default=SAE)


@contextmanager
def speaking_of(nouns: Iterable[str]) -> Iterator[None]:
    """Set the noun: the one of all of them, or SAE where they differ, since transcoders and crosscoders are SAEs too.

    >>> with speaking_of(["transcoder", "transcoder"]):
    ...     noun()
    'transcoder'
    >>> with speaking_of(["transcoder", "crosscoder"]):
    ...     noun()
    'SAE'
    """
    names = set(nouns)
    token = _NOUN.set(names.pop() if len(names) == 1 else SAE)
    try:
        yield
    finally:
        _NOUN.reset(token)


def noun_of(is_transcoder: bool, is_crosscoder: bool) -> str:
    """Return what something is called that reads and answers at two places, or has one code for several, or neither."""
    return TRANSCODER if is_transcoder else CROSSCODER if is_crosscoder else SAE


def noun() -> str:
    """Return what one of them is called."""
    return _NOUN.get()


def nouns() -> str:
    """Return what several are called."""
    return f"{noun()}s"


def a_noun() -> str:
    """Return what one of them is called, with its article.

    >>> a_noun()
    'an SAE'
    """
    return f"{'an' if noun() == SAE else 'a'} {noun()}"
