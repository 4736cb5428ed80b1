"""Locks of files, by the package filelock, which the extras bring that need them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator

from cnnlib._system.packages import required


@contextlib.contextmanager
def locked(
    path: str | os.PathLike[str], where: str, extra: str, waits: Callable[[], object] | None = None
) -> Iterator[None]:
    """Hold the lock of the file `path` in the block; it is made if missing, and stays.

    Where another holds it, `waits` is called, and the block waits; without `waits` it is refused. `where` and
    `extra` are what the message says where filelock is missing.

    Raises
    ------
    BlockingIOError
        If another process holds the lock, or another block in this one, and nobody waits.
    ImportError
        Without filelock.
    OSError
        If the file cannot be made.
    """
    filelock = required("filelock", where, "filelock", extra)
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        if waits is None:
            raise BlockingIOError(f"{os.fspath(path)} is locked") from None
        waits()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
