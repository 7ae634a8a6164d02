"""Bytes of a file, unpacked where its first bytes say that it is packed."""

import bz2
import gzip
import io
import lzma
import tempfile
import zlib
from pathlib import Path
from typing import Any

# Longest first bytes that `packing_of` needs.
_ZSTD, _LZ4 = b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18"
_MAGIC = {b"\x1f\x8b": "gz", b"BZh": "bz2", b"\xfd7zXZ\0": "xz", _ZSTD: "zst", _LZ4: "lz4"}
PACKED_SUFFIXES = (".gz", ".gzip", ".bz2", ".xz", ".lzma", ".zst", ".zstd", ".lz4")
_BLOCK = 1 << 20


class DamageError(ValueError):
    """A file that can be read up to a place and not beyond it."""


def is_damage(error: Exception) -> bool:
    """Tell whether an error means that a file is damaged, and not that the disk or the network failed."""
    if isinstance(error, OSError):
        return error.errno is None  # what bz2, gzip and pyarrow raise for bytes that cannot be unpacked
    return isinstance(error, (DamageError, EOFError, zlib.error, lzma.LZMAError))


def packing_of(path: Path) -> str:
    """Return how a file is packed, such as gz, by its first bytes; "" where it is not.

    Raises:
        ValueError: if only its name says that it is packed.
    """
    with path.open("rb") as file:
        head = file.read(8)
    for magic, packing in _MAGIC.items():
        if head.startswith(magic):
            return packing
    if head[1:4] == b"\x2a\x4d\x18" and 0x50 <= head[0] <= 0x5F:  # a zstd file may begin with a frame to skip
        return "zst"
    suffix = path.suffix.lower()
    if suffix == ".lzma" and head.startswith(b"\x5d\0\0"):
        return "xz"
    if suffix in PACKED_SUFFIXES and head:
        raise ValueError(
            f"{path}: cannot be unpacked (its name ends in {path.suffix}, its first bytes are not those of such a "
            "file); give a file that is whole, or rename it"
        )
    return ""


def open_bytes(path: Path) -> io.BufferedIOBase:
    """Open a file, unpacked. Memory does not grow with the file."""
    packing = packing_of(path)
    if packing == "gz":
        return gzip.open(path)
    if packing == "bz2":
        return bz2.open(path)
    if packing == "xz":
        return lzma.open(path)
    if packing:
        import pyarrow as pa  # has what Python before 3.14 lacks

        unpacked: Any = pa.CompressedInputStream(pa.OSFile(str(path)), "zstd" if packing == "zst" else "lz4")
        return io.BufferedReader(unpacked)
    return path.open("rb")


def first_bytes(path: Path, n: int) -> bytes:
    """Return the first n bytes of a file, unpacked, or all where there are fewer.

    Raises:
        ValueError: if it cannot be unpacked.
    """
    head = b""
    try:
        with open_bytes(path) as file:
            while len(head) < n and (block := file.read(n - len(head))):
                head += block
    except Exception as error:
        if not is_damage(error):
            raise
        if not head:
            raise ValueError(f"{path}: cannot be unpacked ({error}); give a file that is whole") from error
    return head


def open_seekable(path: Path) -> io.BufferedIOBase:
    """Open a file, unpacked, for readers that jump in it: what is packed goes into a temporary file first."""
    if not packing_of(path):
        return path.open("rb")
    whole = tempfile.TemporaryFile()  # noqa: SIM115 - whoever asked for it closes it
    with open_bytes(path) as file:
        while block := file.read(_BLOCK):
            whole.write(block)
    whole.seek(0)
    return whole
