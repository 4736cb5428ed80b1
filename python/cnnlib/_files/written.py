"""Files that are written whole or not at all, and locks."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import sys
import time
from collections.abc import Iterator
from typing import BinaryIO

if sys.platform == "win32":
    import ctypes
else:
    import fcntl


if sys.platform == "win32":

    @contextlib.contextmanager
    def locked(path: str | os.PathLike, wait: bool = False) -> Iterator[bool]:
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
    def locked(path: str | os.PathLike, wait: bool = False) -> Iterator[bool]:
        """Hold the lock of a file or a folder in the block, whatever name it takes on meanwhile.

        BlockingIOError where another process, or another block in this one, holds it; with `wait`, the call
        waits instead. The value is False where the system or the file system has no locks: then nobody is
        kept out. Windows knows the locks of its own machine alone.
        """
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
        try:
            file = open(os.path.join(folder, f".{name}.{secrets.token_hex(4)}.tmp"), "xb")
        except OSError as error:
            error.filename = os.path.join(folder, name)  # which the caller knows
            raise
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
