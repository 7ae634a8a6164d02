"""Words of a verdict in colour, where a terminal shows them and nobody has asked for none (https://no-color.org)."""

import os
import re
import sys

_GREEN, _RED, _BOLD, _PLAIN = "\x1b[32m", "\x1b[31m", "\x1b[1m", "\x1b[0m"
_COLOURS = {"beats": _GREEN, "loses": _RED}
_WORD = re.compile(r"\b(beats|loses)(?= [-+])")
_ANSWER = re.compile(r"(?<=random\? ).+")


def coloured(text: str) -> str:
    """Return a verdict with its words in colour, and the answer in bold; as it is where that is not wanted."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    text = _WORD.sub(lambda match: f"{_COLOURS[match[0]]}{match[0]}{_PLAIN}", text)
    return _ANSWER.sub(lambda match: f"{_BOLD}{match[0]}{_PLAIN}", text)
