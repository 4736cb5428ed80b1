"""A folder that one process has to itself, with nothing but Python's own modules.

SQLite's lock serves for it. Of what Python brings along, it alone works on every system, holds between
threads as between processes, and ends with its process, however that ends. Nothing is stored in its file.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

LOCK_FILE = ".lock"  # it stays, empty: to remove it would let two processes lock two files of its name
_BUSY = "database is locked"
_WITHOUT_LOCKS = ("disk I/O error", "locking protocol")  # what a file system answers that has none


@contextlib.contextmanager
def exclusive(folder: str | os.PathLike[str]) -> Iterator[bool]:
    """Keep all others that ask for `folder` out of it in the block, whatever name it takes on meanwhile.

    The value is False where that is not possible, since the file system has no locks or Python no SQLite.

    Raises
    ------
    BlockingIOError
        If another process has the folder, or another block in this one.
    OSError
        If there is no such folder, or no file can be made in it.
    """
    os.stat(folder)  # SQLite does not say that it is not there
    try:
        import sqlite3
    except ImportError:
        yield False
        return
    with contextlib.ExitStack() as stack:
        held = True
        try:
            path = Path(folder, LOCK_FILE)
            connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
            stack.callback(connection.close)
            connection.execute("PRAGMA journal_mode=MEMORY")  # no second file
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            if str(error) == _BUSY:
                raise BlockingIOError(errno.EAGAIN, "another process has it", os.fspath(folder)) from None
            if str(error) not in _WITHOUT_LOCKS:
                reason = f"its {LOCK_FILE} cannot be locked ({error})"
                raise OSError(errno.EACCES, reason, os.fspath(folder)) from error
            held = False
        yield held
