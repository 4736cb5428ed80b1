"""A lock on a run's folder, so that two processes do not train into it."""

import contextlib

from cnnlib._files import locks as _locks


@contextlib.contextmanager
def locked(folder):
    """Hold the lock of `folder`; ValueError where another process, or command in this one, holds it."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(_locks.locked(folder))
        except BlockingIOError:
            raise ValueError(f"{folder} is in use: another training is writing to it") from None
        yield
