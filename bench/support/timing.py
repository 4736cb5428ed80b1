"""How calls are timed and compared."""

from __future__ import annotations

import importlib.util
import math
import statistics
import time
from pathlib import Path

import numpy as np


def _own_timing():
    """Load the package's module of this checkout: the build that is measured may be older, and lack it."""
    file = Path(__file__).parents[2] / "python" / "cnnlib" / "benchmarking" / "timing.py"
    spec = importlib.util.spec_from_file_location("support.package_timing", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_timing = _own_timing()
Times, difference, take_turns = _timing.Times, _timing.difference, _timing.take_turns
without_collection = _timing.without_collection

__all__ = ["TOLERANCE", "Normals", "difference", "geometric_mean", "interleave", "once", "take_turns"]

# Largest difference from the peer, relative to the peer's largest value, that passes as rounding. Sums over a
# million pixels lose this much in float32 on either side.
TOLERANCE = {"float32": 5e-4, "float64": 1e-10}


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
    with without_collection():
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
