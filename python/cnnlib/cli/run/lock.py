"""A lock on a run's folder, so that two processes do not train into it."""

import contextlib
import os

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["locked"]


@contextlib.contextmanager
def locked(folder):
    """Hold the lock of `folder`; it leaves no file, and goes with the process however that ends.

    Raises
    ------
    ValueError
        Another process, or another command in this one, holds it.
    """
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{folder} is in use: another training is writing to it") from None
        except OSError:  # a file system without locks
            pass
        yield
    finally:
        os.close(descriptor)
