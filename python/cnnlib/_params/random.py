"""Random streams that leave NumPy's global one alone, and their states."""

from __future__ import annotations

import contextlib
import math
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlib._params import integer

_VALUES_THAT_TELL = 2**13  # of a minibatch, one from another


def random_stream(seed: int | None, where: str) -> Any:
    """``np.random`` itself for None, otherwise a stream of its own, which leaves the global one alone."""
    if seed is None:
        return np.random
    seed = integer(where, "seed", seed, 2**32)
    if seed < 0:
        raise ValueError(f"{where}: seed must be at least 0, got {seed}")
    return np.random.RandomState(seed)


def mask_seed(seed: int, X: NDArray[Any], layer: int) -> int:
    """Seed of a dropout layer's mask for the minibatch X: the same X gives the same mask, another X another.

    So the loss of a seeded model is a function of its parameters, which numeric gradients need, while
    every minibatch of a training run still gets masks of its own, in any order and after any restart.
    A large minibatch is told from others by a few thousand of its values, which takes microseconds.
    """
    values = np.ascontiguousarray(X).reshape(-1)
    step = max(1, values.size // _VALUES_THAT_TELL)
    while math.gcd(step, np.shape(X)[-1]) > 1:  # or it would miss columns of the images
        step += 1
    content = zlib.crc32(np.ascontiguousarray(values[::step]).data)
    return int(np.random.SeedSequence([int(seed), content, layer]).generate_state(1)[0] >> 1)


def new_mask_seed(model: Any, X: NDArray[Any], layer: int) -> int | None:
    """The seed of a dropout layer's next mask, by the model's `seed` or `rng`; None: of ``np.random``."""
    if model.seed is not None:
        return mask_seed(model.seed, X, layer)
    if model.rng is not None:
        is_generator = isinstance(model.rng, np.random.Generator)
        return int((model.rng.integers if is_generator else model.rng.randint)(2**31))
    return None


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


def set_random_states(streams: Sequence[Any], states: Sequence[Any]) -> None:
    """Set each stream to its state."""
    for stream, state in zip(streams, states, strict=True):
        set_random_state(stream, state)


@contextlib.contextmanager
def put_back(streams: Sequence[Any]) -> Iterator[None]:
    """Restore the streams behind the block, whatever was drawn in it."""
    states = list(map(random_state, streams))
    try:
        yield
    finally:
        set_random_states(streams, states)


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
