"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from typing import BinaryIO

_PATIENCE = 2.0  # seconds, on Windows
TEMPORARY = ".cnnlib-tmp"  # how the names of unfinished files end
_STALE_SECONDS = 24 * 3600  # without a byte written: no writer takes so long, a killed one left it


@contextlib.contextmanager
def written_whole(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """A binary file to write to, which becomes `path` at the end of the block.

    It is written under a temporary name in the same folder (made if missing), flushed to the disk and then
    renamed, so at every moment `path` is either the complete new file or what it was before. If the block
    raises, nothing is left behind; what a killed process left in the folder is removed when it is a day old.
    Any number of threads and processes may write to one path at a time: the last to finish counts.
    """
    path = os.fspath(path)
    folder, name = os.path.split(path)
    folder = folder or "."
    os.makedirs(folder, exist_ok=True)
    _remove_stale(folder)
    file = _temporary_file(folder, name)
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            if sys.platform == "win32":
                file.close()
            _put_in_place(file, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(file.name)
        if isinstance(error, OSError) and error.errno is not None and error.filename is None:
            error.filename = path  # a full disk does not say which file it was
        raise
    sync_folder(folder)


def _temporary_file(folder, name):
    """A new file, for writing and reading."""
    try:
        return open(os.path.join(folder, f".{name}.{secrets.token_hex(4)}{TEMPORARY}"), "x+b")
    except OSError as error:
        error.filename = os.path.join(folder, name)  # which the caller knows
        raise


def _put_in_place(file, path):
    """Give a finished temporary file its name.

    Where its writer slept for a day, as on a suspended machine, another one may have removed it. Then it is
    written once more, from the file that is still open. (Windows removes no open file.)
    """
    try:
        _replace(file.name, path)
    except FileNotFoundError:
        if file.closed:
            raise
        with written_whole(path) as copy:
            file.seek(0)
            shutil.copyfileobj(file, copy)


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


def _remove_stale(folder):
    """Remove the unfinished files that killed processes left in a folder."""
    newest = time.time() - _STALE_SECONDS
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") and entry.name.endswith(TEMPORARY):
                with contextlib.suppress(OSError):
                    if entry.stat(follow_symlinks=False).st_mtime < newest:
                        os.unlink(entry.path)


def sync_folder(folder: str | os.PathLike) -> None:
    """Make the renaming in a folder itself durable, where the system lets a folder be opened."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
