"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import sys
import time
from collections.abc import Iterator
from typing import BinaryIO

from cnnlib._files.locks import locked

_PATIENCE = 2.0  # seconds, on Windows


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
    with contextlib.ExitStack() as lock:
        file = _temporary_file(folder, name, lock)
        try:
            with file:
                yield file
                file.flush()
                os.fsync(file.fileno())
                if sys.platform == "win32":
                    file.close()
                # Now, since this may be the last writer of the name, and be killed behind the next line.
                _remove_remains(folder, name, os.path.basename(file.name))
                _replace(file.name, path)  # while it is locked: others remove what is not
        except BaseException as error:
            with contextlib.suppress(OSError):
                os.unlink(file.name)
            if isinstance(error, OSError) and error.errno is not None and error.filename is None:
                error.filename = path  # a full disk does not say which file it was
            raise
    sync_folder(folder)


def _temporary_file(folder, name, lock):
    """A new file, locked by `lock` where the system and the folder have locks: its writer lives."""
    while True:
        file = open(os.path.join(folder, f".{name}.{secrets.token_hex(4)}.tmp"), "xb")
        try:
            with contextlib.suppress(OSError):
                lock.enter_context(locked(file.name, wait=True))
            if os.path.exists(file.name):  # another writer may have removed it before the lock
                return file
        except BaseException:
            file.close()
            with contextlib.suppress(OSError):
                os.unlink(file.name)
            raise
        file.close()
        lock.close()


def _replace(new, path):
    """``os.replace``; on Windows, where no open file can be replaced, it waits a while for readers to end."""
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            return os.replace(new, path)
        except PermissionError:
            if sys.platform != "win32" or os.path.isdir(path):
                raise
            if time.monotonic() > end:
                reason = "it is open in a program, or in a predictor that was loaded from it"
                raise PermissionError(errno.EACCES, reason, path) from None
        time.sleep(0.01)


def _remove_remains(folder, name, own):
    """Remove the unfinished files that killed processes left of `name`; what is being written is locked."""
    for entry in os.listdir(folder):
        if entry.startswith(f".{name}.") and entry.endswith(".tmp") and entry != own:
            path = os.path.join(folder, entry)
            with contextlib.suppress(OSError), locked(path) as certain:
                if certain:
                    os.unlink(path)


def sync_folder(folder: str | os.PathLike) -> None:
    """Make the renaming in a folder itself durable, where the system lets a folder be opened."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
