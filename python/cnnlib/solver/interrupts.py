"""Ctrl-C and other signals in a training, answered where it can go on from."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any


class Interrupts:
    """Holds signals back outside of `allowed` blocks; use it as a context manager around a training.

    Covers the signals of `SIGNALS` that a Python function handles: Ctrl-C as a rule (``KeyboardInterrupt``),
    SIGTERM in programs that have said what it is to do. Where none is, or not in the main thread, which alone
    gets signals, nothing is held back. A second signal is not held back either, for who presses Ctrl-C twice
    wants an end at once. `clean`: whether a KeyboardInterrupt, if there was one, came in an `allowed` block.
    """

    SIGNALS = ("SIGINT", "SIGTERM")

    def __init__(self) -> None:
        self.clean = False
        self._open = False
        self._waiting: tuple[int, FrameType | None] | None = None
        self._handlers: dict[int, Callable[[int, FrameType | None], Any]] = {}

    def __enter__(self) -> Interrupts:
        self.clean, self._waiting, self._handlers = False, None, {}
        if threading.current_thread() is threading.main_thread():
            for number in (getattr(signal, name) for name in self.SIGNALS if hasattr(signal, name)):
                handler = signal.getsignal(number)
                if callable(handler):
                    self._handlers[number] = handler
                    signal.signal(number, self._receive)
        return self

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if error is None:
            self._answer()

    def allowed(self) -> _Allowed:
        """A context manager: a KeyboardInterrupt in it leaves a state that training can go on from."""
        return _Allowed(self)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self._open:
            self.clean, self._open = True, False
            self._handlers[number](number, frame)
            self._open = True  # that did not raise
        elif self._waiting is None:
            self._waiting = number, frame
        else:
            self.clean = False
            self._handlers[number](number, frame)

    def _answer(self) -> None:
        """Pass on the signal that was held back."""
        if self._waiting is not None:
            (number, frame), self._waiting = self._waiting, None
            self._handlers[number](number, frame)


class _Allowed:
    """See :meth:`Interrupts.allowed`."""

    def __init__(self, interrupts: Interrupts) -> None:
        self._interrupts = interrupts
        self._before = interrupts._open

    def __enter__(self) -> None:
        self._interrupts._open = True
        if self._interrupts._waiting is not None:
            self._interrupts.clean, self._interrupts._open = True, False
            self._interrupts._answer()
            self._interrupts._open = True

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        self._interrupts._open = self._before
        if isinstance(error, KeyboardInterrupt):
            self._interrupts.clean = True
