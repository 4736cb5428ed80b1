"""Locks on files and folders, which leave no file and end with the process that holds them."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator

if sys.platform == "win32":
    import ctypes
else:
    import fcntl


@contextlib.contextmanager
def locked(path: str | os.PathLike, wait: bool = False) -> Iterator[bool]:
    """Hold the lock of a file or a folder in the block, whatever name it takes on meanwhile.

    The value is False where the system or the file system has no locks: then nobody is kept out. Windows
    knows the locks of its own machine alone.

    Raises
    ------
    BlockingIOError
        Another process, or another block in this one, holds it; with `wait`, the call waits instead.
    FileNotFoundError
        There is none of the name.
    """
    with _locked(path, wait) as held:
        yield held


if sys.platform == "win32":

    @contextlib.contextmanager
    def _locked(path: str | os.PathLike, wait: bool) -> Iterator[bool]:
        """Windows locks no folders, and locked files cannot be read: a named object is held instead."""
        state = os.stat(path)
        if state.st_ino == 0:  # the file system does not tell files apart
            yield False
            return
        kernel = ctypes.WinDLL("kernel32", use_last_error=True)
        kernel.CreateMutexW.restype = ctypes.c_void_p
        kernel.CloseHandle.argtypes = [ctypes.c_void_p]
        name = f"Global\\cnnlib-{state.st_dev:x}-{state.st_ino:x}"
        access_denied, already_exists = 5, 183
        while True:
            ctypes.set_last_error(0)
            handle = kernel.CreateMutexW(None, False, name)
            error = ctypes.get_last_error()
            if handle and error != already_exists:
                break
            if handle:
                kernel.CloseHandle(handle)
            elif error != access_denied:  # which says that another user has made it
                yield False
                return
            if not wait:
                raise BlockingIOError(f"{os.fspath(path)} is locked")
            time.sleep(0.001)
        try:
            yield True
        finally:
            kernel.CloseHandle(handle)

else:

    @contextlib.contextmanager
    def _locked(path: str | os.PathLike, wait: bool) -> Iterator[bool]:
        # Some file systems lock what is open for writing alone; folders cannot be.
        descriptor = os.open(path, os.O_RDONLY if os.path.isdir(path) else os.O_RDWR)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
                held = True
            except BlockingIOError:
                raise
            except OSError:
                held = False
            yield held
        finally:
            os.close(descriptor)
