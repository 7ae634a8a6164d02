"""Names for files that hold neither text nor rows, by their first bytes."""

import re

_MAGIC = (
    (b"%PDF", "a PDF document"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"II*\0", "a TIFF image"),
    (b"MM\0*", "a TIFF image"),
    (b"RIFF", "an image, sound or film (RIFF)"),
    (b"PK\x03\x04", "a zip archive (as docx, xlsx, epub and npz are)"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!", "a rar archive"),
    (b"\x7fELF", "a program (ELF)"),
    (b"MZ", "a program (Windows)"),
    (b"\xcf\xfa\xed\xfe", "a program (macOS)"),
    (b"\xca\xfe\xba\xbe", "a program (macOS or Java)"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"GGUF", "weights of a model (GGUF)"),
    (b"\x80\x02", "a Python pickle"),
    (b"\x80\x03", "a Python pickle"),
    (b"\x80\x04", "a Python pickle"),
    (b"\x80\x05", "a Python pickle"),
    (b"\xd0\xcf\x11\xe0", "an old Office document (doc, xls)"),
    (b"{\\rtf", "an RTF document"),
    (b"%!PS", "a PostScript document"),
    (b"FEA1", "a Feather file of version 1"),
    (b"ORC", "an ORC table"),
    (b"Obj\x01", "an Avro table"),
    (b"OggS", "sound (Ogg)"),
    (b"fLaC", "sound (FLAC)"),
    (b"ID3", "sound (MP3)"),
    (b"\x1f\x9d", "packed by `compress`"),
    (b"version https://git-lfs.github.com/spec", "a pointer of Git LFS and not the file itself (run `git lfs pull`)"),
)
_ONLY_WITH_NUL = (b"MZ", b"RIFF", b"ORC", b"GGUF", b"ID3")  # a text may begin with these letters
_CONTROL = re.compile(r"[\x00-\x06\x0e-\x1a\x1c-\x1f\x7f]")


def foreign_kind(head: bytes) -> str:
    """Return what a file is by its first bytes, where it is neither text nor a table; "" where they say nothing.

    Args:
        head: 512 bytes or more, where there are so many.
    """
    for magic, kind in _MAGIC:
        if head.startswith(magic) and (magic not in _ONLY_WITH_NUL or b"\0" in head):
            return kind
    if head[257:262] == b"ustar":
        return "a tar archive (unpack it first)"
    if head[4:8] == b"ftyp":
        return "a film, sound or image (MP4)"
    if head[8:10] == b'{"' and int.from_bytes(head[:8], "little") < 1 << 30:
        return "tensors (safetensors)"
    return ""


def is_binary(text: str) -> bool:
    """Tell whether a text has so many control characters that it is none."""
    return len(_CONTROL.findall(text)) > len(text) / 50


def wide_encoding(head: bytes) -> str:
    """Return the encoding of two bytes a letter that bytes without a mark seem to be in; "" where there is none."""
    even, odd = head[0::2].count(0), head[1::2].count(0)
    if max(even, odd) > 0.3 * len(head) / 2 and min(even, odd) < 0.02 * len(head) / 2:
        return "utf-16-le" if odd > even else "utf-16-be"
    return ""
