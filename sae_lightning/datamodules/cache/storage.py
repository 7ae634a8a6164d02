"""A folder of small and large files, local or on any filesystem that fsspec knows, where no file is ever half written.

A file is written under a temporary name beside its place and then moved there. Locally that is `os.replace` after an
fsync. Elsewhere it is the filesystem's own move, which object stores (S3, GCS) carry out as a copy on the server: the
final name appears with the whole content or not at all.
"""

import errno
import os
import secrets
import shutil
from contextlib import suppress
from pathlib import Path

TEMPORARY = ".tmp"
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


class Folder:
    """A folder and its files, without folders in it.

    Args:
        url: a path, or a URL such as s3://bucket/folder.
    """

    def __init__(self, url: str) -> None:
        import fsspec
        from fsspec.implementations.local import LocalFileSystem

        self.url = url
        try:
            self.filesystem, root = fsspec.core.url_to_fs(url)
        except ImportError as error:
            raise ValueError(f"{url}: {error}") from error
        self.root = root.rstrip("/")
        self.is_local = isinstance(self.filesystem, LocalFileSystem)
        if self.is_local and Path(self.root).is_file():
            raise ValueError(f"{url} is a file; expected a folder")

    def sizes(self) -> dict[str, int]:
        """Return the size of every file in bytes by name; empty if there is no folder."""
        self.filesystem.invalidate_cache()
        if not self.filesystem.isdir(self.root):
            return {}
        entries = self.filesystem.ls(self.root, detail=True)
        return {entry["name"].rsplit("/", 1)[-1]: entry["size"] for entry in entries if entry["type"] == "file"}

    def read(self, name: str) -> bytes:
        """Return the content of a file.

        Raises:
            FileNotFoundError: if there is none.
        """
        return self.filesystem.cat_file(f"{self.root}/{name}")

    def write(self, name: str, data: bytes) -> None:
        """Write a file, or replace an older one; an error leaves everything as it was."""
        final = f"{self.root}/{name}"
        temporary = f"{final}.{os.getpid()}-{secrets.token_hex(4)}{TEMPORARY}"
        self.filesystem.makedirs(self.root, exist_ok=True)
        try:
            if self.is_local:
                _write_and_sync(temporary, data)
                os.replace(temporary, final)
            else:
                self.filesystem.pipe_file(temporary, data)
                self._move(temporary, final)
        except BaseException:
            with suppress(FileNotFoundError):
                self.filesystem.rm_file(temporary)
            raise

    def fetch(self, name: str, target: Path) -> None:
        """Copy a file to a local place, where it appears whole or not at all."""
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f"{target.name}.{os.getpid()}{TEMPORARY}")
        try:
            self.filesystem.get_file(f"{self.root}/{name}", str(temporary))
            os.replace(temporary, target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def remove(self, name: str) -> None:
        """Remove a file, unless another process has done so."""
        with suppress(FileNotFoundError):
            self.filesystem.rm_file(f"{self.root}/{name}")

    def free_bytes(self) -> int | None:
        """Return the free bytes of the disk; None where that is unknown."""
        return free_bytes(Path(self.root)) if self.is_local else None

    def _move(self, temporary: str, final: str) -> None:
        if self.filesystem.exists(final):  # some filesystems refuse to move onto a file
            self.filesystem.rm_file(final)
        self.filesystem.mv(temporary, final)


def free_bytes(folder: Path) -> int:
    """Return the free bytes of the disk that holds, or will hold, a folder."""
    folder = folder.absolute()
    return shutil.disk_usage(next(parent for parent in (folder, *folder.parents) if parent.is_dir())).free


def is_full(error: OSError) -> bool:
    """Tell whether an error means that a disk, or a user's quota on it, is full."""
    return error.errno in _NO_SPACE


def _write_and_sync(path: str, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
