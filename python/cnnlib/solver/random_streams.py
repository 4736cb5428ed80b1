"""Random streams as plain values, and what a model draws from."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np


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
    states = [random_state(stream) for stream in streams]
    try:
        yield
    finally:
        for stream, state in zip(streams, states, strict=True):
            set_random_state(stream, state)


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
