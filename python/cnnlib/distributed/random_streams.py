"""Random streams of a model's own while it computes a piece of a minibatch."""

from __future__ import annotations

import contextlib
import copy
from typing import Any

import numpy as np


def next_number(stream: Any) -> int:
    """What a RandomState, a Generator or ``np.random`` would draw next; it is left as it is.

    So the order of the data is that of a run that draws nothing else, at any number of ranks.
    """
    twin = copy.deepcopy(np.random.mtrand._rand if stream is np.random else stream)
    return int((twin.integers if isinstance(twin, np.random.Generator) else twin.randint)(2**31))


@contextlib.contextmanager
def own_stream(model: Any, seed: list[int]):
    """Let the model draw from a stream that belongs to `seed` alone.

    That is its `rng`, if it has such an attribute, and ``np.random``; both are put back behind the block, so
    the streams of all ranks stay the same however much the models have drawn.
    """
    outside = np.random.get_state(legacy=False)
    rng = getattr(model, "rng", None)
    own = np.random.RandomState(np.random.MT19937(np.random.SeedSequence(seed)))
    np.random.set_state(own.get_state(legacy=False))
    if hasattr(model, "rng"):
        model.rng = np.random.default_rng(seed) if isinstance(rng, np.random.Generator) else own
    try:
        yield
    finally:
        np.random.set_state(outside)
        if hasattr(model, "rng"):
            model.rng = rng
