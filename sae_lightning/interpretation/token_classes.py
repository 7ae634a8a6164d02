"""Classes of tokens that their text shows: a word, a number, an operator; in a string, in a comment."""

from collections.abc import Iterable
from functools import lru_cache
from keyword import iskeyword

_BRACKETS = set("()[]{}")
_QUOTES = "\"'"


@lru_cache(maxsize=65536)
def classes(token: str, before: str | None) -> tuple[str, ...]:
    r"""Return names of the classes of a token, in words.

    Args:
        token: its text, with the space in front.
        before: text of the token before it; None where that is not known.

    >>> classes(" Paris", " in")
    ('a capitalised word',)
    >>> classes("return", "    ")
    ('a word in lower case', 'a keyword of Python')
    >>> classes("ing", " sing")
    ('a word in lower case', 'the rest of a word')
    >>> classes("    ", "\n")
    ('white space', 'indentation')
    """
    text = token.strip()
    names = []
    if not text:
        names.append("a line break" if "\n" in token else "white space")
        if token.endswith((" ", "\t")) and ("\n" in token or (before or "").endswith("\n")):
            names.append("indentation")
        return tuple(names)
    if text.isdigit():
        names.append("a number")
    elif text.isalpha():
        if len(text) > 1 and text.isupper():
            names.append("a word in capitals")
        elif text[0].isupper():
            names.append("a capitalised word")
        elif text.islower():
            names.append("a word in lower case")
    elif not any(character.isalnum() for character in text):
        if set(text) <= _BRACKETS:
            names.append("a bracket")
        elif set(text) == {"_"}:
            names.append("an underscore")
        else:
            names.append("an operator or punctuation")
    if iskeyword(text):
        names.append("a keyword of Python")
    if before is not None and before[-1:].isalnum() and token[0].isalnum():
        names.append("the rest of a word")
    return tuple(names)


def quote_state(tokens: Iterable[str]) -> list[tuple[str, ...]]:
    """Tell for each token whether its end is in a string or a comment, as far as the text shows.

    A quotation mark after a letter or digit opens no string, so that apostrophes open none; one that is open ends with
    its line.

    >>> quote_state(["x", " =", " '", "it", "'", " #", " no", chr(10)])
    [(), (), ('inside a string',), ('inside a string',), (), ('inside a comment',), ('inside a comment',), ()]
    """
    quote, is_comment, last = "", False, " "
    states: list[tuple[str, ...]] = []
    for token in tokens:
        for character in token:
            if character == "\n":
                quote, is_comment = "", False
            elif is_comment:
                pass
            elif quote:
                quote = "" if character == quote else quote
            elif character == "#":
                is_comment = True
            elif character in _QUOTES and not last.isalnum():
                quote = character
            last = character
        states.append(("inside a comment",) if is_comment else ("inside a string",) if quote else ())
    return states
