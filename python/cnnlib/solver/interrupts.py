"""Ctrl-C and other signals in a training, answered where it can go on from; states of random streams."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any

import numpy as np

from cnnlib.models.state import restore_statistics, statistics


def random_state(stream: Any) -> Any:
    """State of a Generator, a RandomState or ``np.random``, as a dict; None for None."""
    if stream is None:
        return None
    if isinstance(stream, np.random.Generator):
        return stream.bit_generator.state
    return stream.get_state(legacy=False)


def set_random_state(stream: Any, state: Any) -> None:
    """The inverse of :func:`random_state`."""
    if isinstance(stream, np.random.Generator):
        stream.bit_generator.state = state
    elif stream is not None:
        stream.set_state(state)


@contextlib.contextmanager
def put_back(streams: Sequence[Any]) -> Iterator[None]:
    """Behind the block the streams stand where they stood before it, whatever was drawn."""
    states = list(map(random_state, streams))
    try:
        yield
    finally:
        _set_all(streams, states)


@contextlib.contextmanager
def drawing_from(stream: Any, model: Any) -> Iterator[None]:
    """Let the model draw from a RandomState.

    A model with an `rng` that is None is given it for the time being. For any other it stands in for the
    stream of ``np.random``, which is the only way to what a user's model draws from there.
    """
    if getattr(model, "rng", stream) is None:
        model.rng = stream
        try:
            yield
        finally:
            model.rng = None
        return
    outside = np.random.get_state(legacy=False)
    np.random.set_state(stream.get_state(legacy=False))
    try:
        yield
    finally:
        stream.set_state(np.random.get_state(legacy=False))
        np.random.set_state(outside)


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


@contextlib.contextmanager
def undone_on_error(model: Any, streams: Sequence[Any]) -> Iterator[None]:
    """After an exception in the block, running statistics and random streams are what they were."""
    running, states = statistics(model), list(map(random_state, streams))
    try:
        yield
    except BaseException:
        restore_statistics(model, running)
        _set_all(streams, states)
        raise


def _set_all(streams, states):
    for stream, state in zip(streams, states, strict=True):
        set_random_state(stream, state)
