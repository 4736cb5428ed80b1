"""Locks on folders, which leave no file and go with the process that holds them, however that ends."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["locked"]


@contextlib.contextmanager
def locked(folder: str | os.PathLike) -> Iterator[bool]:
    """Hold the lock of `folder` in the block, whatever name the folder takes on meanwhile.

    The value is False where the system or the file system has no locks: then nobody is kept out.

    Raises
    ------
    BlockingIOError
        Another process, or another block in this one, holds it.
    """
    if fcntl is None:
        yield False
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = True
        except BlockingIOError:
            raise
        except OSError:
            held = False
        yield held
    finally:
        os.close(descriptor)
