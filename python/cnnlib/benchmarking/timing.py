"""How calls are timed in turns, and how results are compared."""

from __future__ import annotations

import contextlib
import gc
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

_TURNS = 5
_FEWER_TURNS = 2  # where the calls take long
_QUIET = 0.02  # seconds until the idle threads of an OpenMP runtime have stopped to spin and gone to sleep


class Times(NamedTuple):
    """Seconds of many calls."""

    minimum: float
    median: float
    calls: int
    p99: float  # the 99th percentile: the slowest of fewer than 100 calls

    @classmethod
    def of(cls, samples: Sequence[float]) -> Times:
        """Summarise the seconds of calls, of which there is one at least."""
        ordered = sorted(samples)
        p99 = ordered[math.ceil(0.99 * len(ordered)) - 1]
        return cls(ordered[0], statistics.median(ordered), len(ordered), p99)


def take_turns(calls: Mapping[str, Callable[[], Any]], seconds: float) -> dict[str, Times]:
    """Time calls of different thread pools: several of one in a row, a pause, then the next one's turn.

    A pool's idle threads spin for a while after a call, on the very cores that the other's next call needs.
    The first call of a turn wakes the pool and is not counted. There are five turns, or two where the calls
    take longer than `seconds`.
    """
    clock = time.perf_counter
    samples: dict[str, list[float]] = {name: [] for name in calls}
    share = seconds / (_TURNS * max(len(calls), 1))
    began, turns = clock(), 0
    with without_collection():
        while turns < (_FEWER_TURNS if clock() - began > 4 * seconds else _TURNS):
            turns += 1
            for name, call in calls.items():
                time.sleep(_QUIET)
                call()
                until = clock() + share
                while True:
                    started = clock()
                    result = call()
                    elapsed = clock() - started
                    del result
                    samples[name].append(elapsed)
                    if clock() >= until:
                        break
    return {name: Times.of(values) for name, values in samples.items()}


@contextlib.contextmanager
def without_collection() -> Iterator[None]:
    """Keep the garbage collector from running in the middle of a call, whose time it would add to."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def difference(got: Sequence[Any], want: Sequence[Any]) -> float:
    """Return the largest difference of two tuples of arrays, relative to each wanted array's largest value.

    None matches None. A shape or dtype that differs, or a NaN on one side, counts as infinite.
    """
    worst = 0.0
    for g, w in zip(got, want, strict=True):
        if g is None and w is None:
            continue
        if g is None or w is None or g.shape != w.shape or g.dtype != w.dtype:
            return math.inf
        if w.size:
            scale = max(float(w.max()), -float(w.min())) or 1.0
            error = float(np.max(np.abs(g - w))) / scale
            worst = max(worst, error if math.isfinite(error) else math.inf)
    return worst
