"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["sync_folder", "written_whole"]


@contextlib.contextmanager
def written_whole(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """A binary file to write to, which becomes `path` at the end of the block.

    It is written under a temporary name in the same folder (made if missing), flushed to the disk and then
    renamed, so at every moment `path` is either the complete new file or what it was before. If the block
    raises, nothing is left behind; what a killed process left, the next one of its name removes. Any number
    of threads and processes may write to one path at a time: the last to finish counts.
    """
    path = os.fspath(path)
    folder, name = os.path.split(path)
    folder = folder or "."
    os.makedirs(folder, exist_ok=True)
    file = _temporary_file(folder, name)
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.replace(file.name, path)  # while it is locked: others remove what is not
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(file.name)
        if isinstance(error, OSError) and error.errno is not None and error.filename is None:
            error.filename = path  # a full disk does not say which file it was
        raise
    _remove_remains(folder, name)
    sync_folder(folder)


def _temporary_file(folder, name):
    """A new file, locked where the system and the folder have locks: its writer lives."""
    while True:
        file = open(os.path.join(folder, f".{name}.{secrets.token_hex(4)}.tmp"), "xb")
        try:
            with contextlib.suppress(OSError):
                _lock(file)
            if os.path.exists(file.name):  # another writer may have removed it before the lock
                return file
        except BaseException:
            file.close()
            with contextlib.suppress(OSError):
                os.unlink(file.name)
            raise
        file.close()


def _lock(file, wait=True):
    """Lock an open file; without `wait`, raise an OSError where another has locked it."""
    if fcntl is None:
        raise BlockingIOError("no locks here")
    fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


def _remove_remains(folder, name):
    """Remove the unfinished files that killed processes left of this one; what is being written is locked."""
    for entry in os.listdir(folder):
        if entry.startswith(f".{name}.") and entry.endswith(".tmp"):
            path = os.path.join(folder, entry)
            with contextlib.suppress(OSError), open(path, "r+b") as file:
                _lock(file, wait=False)
                os.unlink(path)


def sync_folder(folder: str | os.PathLike) -> None:
    """Make the renaming in a folder itself durable, where the system lets a folder be opened."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
