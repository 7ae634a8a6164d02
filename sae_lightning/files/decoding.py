"""Bytes -> text: a byte order mark decides, then what the user says, then UTF-8."""

import codecs
import io
from pathlib import Path
from typing import IO, cast

from sae_lightning.files.unpacking import first_bytes, open_bytes

_MARKS = (  # those of UTF-32 first: one of them begins as one of UTF-16 does
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_BLOCK = 1 << 16


def check_encoding(encoding: str) -> None:
    """Raise a `ValueError` for the name of an encoding that Python does not know."""
    try:
        "a".encode(encoding)
    except LookupError as error:
        raise ValueError(
            f"encoding={encoding}: there is no such encoding; for example utf-8, cp1252, latin-1 or utf-16"
        ) from error


def encoding_of(head: bytes, default: str) -> str:
    """Return the encoding of a file.

    Args:
        head: its first bytes.
        default: the encoding where there is no byte order mark.
    """
    return next((encoding for mark, encoding in _MARKS if head.startswith(mark)), default)


def is_utf8(encoding: str) -> bool:
    """Tell whether an encoding is UTF-8, with or without a byte order mark."""
    return codecs.lookup(encoding).name in ("utf-8", "utf-8-sig")


def open_text(path: Path, default: str, errors: str = "strict", newline: str | None = None) -> io.TextIOWrapper:
    """Open a file as text, unpacked and without its byte order mark.

    Args:
        path: the file.
        default: the encoding where there is no byte order mark.
        errors: what happens to bytes that are no text, as for `open`; surrogateescape only where it can be, in UTF-8.
        newline: what ends a line, as for `open`.
    """
    encoding, unpacked = encoding_of(first_bytes(path, 4), default), cast("IO[bytes]", open_bytes(path))
    if errors == "surrogateescape" and not is_utf8(encoding):
        errors = "strict"
    return io.TextIOWrapper(unpacked, encoding=encoding, errors=errors, newline=newline)


def bad_byte(path: Path, default: str) -> str:
    """Return file, line and byte of the first place that cannot be decoded; reads the file again up to there."""
    encoding = encoding_of(first_bytes(path, 4), default)
    decoder = codecs.getincrementaldecoder(encoding)()
    line, n_read = 1, 0
    name = "UTF-8" if is_utf8(encoding) else encoding
    with open_bytes(path) as file:
        while True:
            block = file.read(_BLOCK)
            try:
                decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                line += error.object[: error.start].count(b"\n")
                byte = n_read + len(block) - len(error.object) + error.start
                return f"{path}, line {line}: byte 0x{error.object[error.start]:02x} at position {byte} is not {name}"
            if not block:
                return f"{path}: its bytes are not {name}"
            n_read += len(block)
            line += block.count(b"\n")
