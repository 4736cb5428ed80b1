"""How calls are timed and compared."""

from __future__ import annotations

import gc
import math
import statistics
import time
from typing import NamedTuple

import numpy as np

# Largest difference from the peer, relative to the peer's largest value, that passes as rounding. Sums over a
# million pixels lose this much in float32 on either side.
TOLERANCE = {"float32": 5e-4, "float64": 1e-10}

_TURNS = 5
_QUIET = 0.02  # seconds until the idle threads of an OpenMP runtime have stopped to spin and gone to sleep


class Times(NamedTuple):
    """Of many calls, in seconds."""

    minimum: float
    median: float
    calls: int
    p99: float  # the 99th percentile: the slowest of fewer than 100 calls

    @classmethod
    def of(cls, samples):
        ordered = sorted(samples)
        p99 = ordered[math.ceil(0.99 * len(ordered)) - 1]
        return cls(ordered[0], statistics.median(ordered), len(ordered), p99)


def interleave(calls, seconds):
    """Time calls in turn, one of each in every round.

    The others' caches and the machine's moods then meet all of them alike. A result is freed after the clock
    has been read. The calls should have run once before.

    Parameters
    ----------
    calls : dict of name -> callable without arguments
    seconds : float
        Of all calls together; at least three rounds are done, two where they take ten times as long.

    Returns
    -------
    dict of name -> Times
    """
    clock, spent = time.perf_counter, 0.0
    samples = {name: [] for name in calls}
    pairs = [(call, samples[name].append) for name, call in calls.items()]
    rounds = 0
    with _no_collection():
        while spent < seconds or rounds < (2 if spent > 10 * seconds else 3):
            for call, note in pairs:
                started = clock()
                result = call()
                elapsed = clock() - started
                del result
                note(elapsed)
                spent += elapsed
            rounds += 1
    return {name: Times.of(values) for name, values in samples.items()}


def once(call):
    """Seconds of one call."""
    started = time.perf_counter()
    result = call()
    elapsed = time.perf_counter() - started
    del result
    return elapsed


def take_turns(calls, seconds):
    """Time calls of different thread pools: several of one in a row, a pause, then the next one's turn.

    A pool's idle threads spin for a while after a call, on the very cores that the other's next call needs.
    The first call of a turn wakes the pool and is not counted. There are five turns, or two where the calls
    take longer than `seconds`.
    """
    clock = time.perf_counter
    samples = {name: [] for name in calls}
    share = seconds / (_TURNS * len(calls))
    began, turns = clock(), 0
    with _no_collection():
        while turns < (2 if clock() - began > 4 * seconds else _TURNS):
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


class _no_collection:
    """A garbage collection in the middle of a call would be counted as its time."""

    def __enter__(self):
        gc.collect()
        gc.disable()

    def __exit__(self, *exception):
        gc.enable()


def difference(got, want):
    """Largest difference between two tuples of arrays, relative to the largest value of each wanted array.

    None matches None; a shape or dtype that differs, or a NaN on one side, counts as infinite.
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


def geometric_mean(values):
    return math.exp(statistics.fmean(math.log(value) for value in values))


class Normals:
    """Normally distributed arrays, cut from one block: drawing gigabytes would take longer than the timing.

    The block's length is prime, so that no two images or filters are alike.
    """

    def __init__(self, seed=0):
        block = np.random.default_rng(seed).standard_normal(1_000_003)
        self._blocks = {"float32": block.astype(np.float32), "float64": block}

    def __call__(self, dtype, *shapes):
        return [np.resize(np.roll(self._blocks[dtype], 7919 * i), s) for i, s in enumerate(shapes)]
