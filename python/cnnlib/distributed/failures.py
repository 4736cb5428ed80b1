"""What ends a job of several processes when one of them fails: none may wait for a rank that is gone.

A rank that dies is mpiexec's affair: it ends the others. A rank that raises while the others wait for it in a
collective call would leave them there, so it reports its error and calls ``MPI_Abort``. An error that all
ranks raise together, because they have agreed on it, is an ordinary exception, see :func:`on_all_ranks`.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
import traceback
from typing import Any


class OutOfStepError(ValueError):
    """The ranks do not train the same model, with the same data and options; every rank raises it."""


def on_all_ranks(error):
    """Mark an exception as one that every rank raises at the same place; returns it."""
    error.cnnlib_on_all_ranks = True
    return error


def is_on_all_ranks(error):
    """Whether :func:`on_all_ranks` has marked the exception."""
    return getattr(error, "cnnlib_on_all_ranks", False)


@contextlib.contextmanager
def guarded(comm, report=None):
    """End the job if the block raises anything that is not marked by :func:`on_all_ranks`.

    `report(error)` returns the message for an exception; by default that is its traceback.
    """
    try:
        yield
    except BaseException as error:
        if is_on_all_ranks(error):
            raise
        _say(comm, _traceback(error) if report is None else report(error))
        comm.abort()


def abort_on_uncaught(comm):
    """Let an exception that nobody catches end the job (as ``python -m mpi4py`` does)."""
    if getattr(sys.excepthook, "cnnlib_aborts", False):
        return
    earlier = sys.excepthook

    def hook(kind: Any, error: Any, trace: Any) -> None:
        if is_on_all_ranks(error):
            if comm.rank == 0:
                earlier(kind, error, trace)
            return
        _say(comm, _traceback(error))
        comm.abort()

    setattr(hook, "cnnlib_aborts", True)  # noqa: B010 - a function, as a type checker knows them, has none
    sys.excepthook = hook


class Watchdog:
    """Ends the job when this rank has waited too long for the others: one is stopped, or the network is down.

    MPI itself waits for ever. The `timeout` is in seconds.
    """

    def __init__(self, comm, timeout):
        self.comm, self.timeout = comm, timeout
        self._waiting = None  # what for, and since when
        threading.Thread(target=self._watch, name="cnnlib-watchdog", daemon=True).start()

    @contextlib.contextmanager
    def waiting(self, what):
        """The block waits for the other ranks; `what` names the operation."""
        self._waiting = what, time.monotonic()
        try:
            yield
        finally:
            self._waiting = None

    def _watch(self):
        while True:
            time.sleep(min(1.0, self.timeout / 4))
            waiting = self._waiting
            if waiting is not None and time.monotonic() - waiting[1] > self.timeout:
                _say(self.comm, f"waited {self.timeout:g} s for the other ranks in {waiting[0]}")
                self.comm.abort()


def _traceback(error):
    return "".join(traceback.format_exception(error)).rstrip()


def _say(comm, text):
    """A message on the standard error, in one piece, so that those of several ranks do not mix."""
    lead = f"cnnlib: rank {comm.rank} of {comm.size}: "
    sys.stdout.flush()
    sys.stderr.write(f"{lead}{text}\n{lead}ending the job\n")
    sys.stderr.flush()
