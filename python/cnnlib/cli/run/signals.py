"""SIGTERM as an exception, and the words and status with which an interrupted command ends."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class Terminated(KeyboardInterrupt):
    """The process was told to end."""


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM raise :class:`Terminated` in the block, unless somebody handles or ignores it already."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def how_it_ended(error: KeyboardInterrupt) -> tuple[str, int]:
    """In words, and the exit status."""
    return ("terminated", 143) if isinstance(error, Terminated) else ("interrupted", 130)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated
