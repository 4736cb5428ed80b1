"""What more cores than there are would do: loops are recorded task by task and scheduled anew.

The method is Cilkview's (He, Leiserson, Leiserson 2010, "The Cilkview scalability analyzer"): work and span
of a real run give a bound for any number of processors. Here tasks are scheduled as the core's loops do it.
"""

from __future__ import annotations

import heapq
import math
import re
import time
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from cnnlib import _core


@dataclass
class Loop:
    body: str
    threads: int
    standing: bool
    seconds: np.ndarray  # of each task


@dataclass
class Recording:
    """A call with so many threads: its loops, and the seconds outside of them."""

    loops: list[Loop]
    outside: float

    def least(self, other):
        """Of two recordings of the same loops, task by task."""
        if [len(loop.seconds) for loop in self.loops] != [len(loop.seconds) for loop in other.loops]:
            raise RuntimeError("a call started other loops at its second run")
        loops = [
            replace(a, seconds=np.minimum(a.seconds, b.seconds)) for a, b in zip(self.loops, other.loops)
        ]
        return Recording(loops, min(self.outside, other.outside))


@dataclass
class Costs:
    """What threads cost beside the work, in seconds."""

    team: float = (
        0.5e-6  # to start and end a loop, times log2 of its threads: measured barriers take 0.2 to 1 us
    )
    standing: float = 0.25e-6  # the same where a team waits
    steal: float = 0.2e-6  # to find a task of another thread


def available():
    """Whether this build records loops."""
    return hasattr(_core, "record_loops")


def record(call, threads):
    """A call without arguments, with so many threads."""
    clock = _clock_cost()
    _core.record_loops(threads)
    try:
        start = time.thread_time_ns()
        result = call()
        total = (time.thread_time_ns() - start) * 1e-9
        loops = _core.take_recorded_loops()
    finally:
        _core.record_loops(0)
    del result
    outside = max(total - sum(loop[3] for loop in loops) - clock * (len(loops) + 1), 0)
    tasks = [np.maximum(np.array(seconds) - clock, 0) for *_, seconds in loops]
    return Recording(
        [Loop(_short(body), n, standing, s) for (body, n, standing, *_), s in zip(loops, tasks)], outside
    )


def span(loop, costs):
    """Seconds that a loop takes: each thread its own range of tasks, then one by one from the fullest."""
    tasks, threads = len(loop.seconds), loop.threads
    start = costs.standing if loop.standing else costs.team
    if threads == 1:
        return float(loop.seconds.sum())
    bounds = [tasks * t // threads for t in range(threads + 1)]
    at, last = bounds[:-1], bounds[1:]
    waiting = [(0.0, t) for t in range(threads)]
    heapq.heapify(waiting)
    end = 0.0
    while waiting:
        now, t = heapq.heappop(waiting)
        victim, extra = t, 0.0
        if at[t] >= last[t]:
            victim = max(range(threads), key=lambda k: last[k] - at[k])
            extra = costs.steal
            if at[victim] >= last[victim]:
                end = max(end, now)
                continue
        task = at[victim]
        at[victim] += 1
        heapq.heappush(waiting, (now + extra + loop.seconds[task], t))
    return end + start * math.log2(threads)


def predicted(recording, costs):
    """Seconds of a recorded call, and of each of its loops."""
    spans = [span(loop, costs) for loop in recording.loops]
    return recording.outside + sum(spans), spans


def bound(recording, spans, threads):
    """Where most of the time beyond a perfect division is spent: the loop's body, or outside."""
    lost = {"outside of loops": recording.outside}
    for loop, seconds in zip(recording.loops, spans):
        lost[loop.body] = lost.get(loop.body, 0) + seconds - loop.seconds.sum() / threads
    name = max(lost, key=lost.get)
    return name, lost[name]


def _short(body):
    """WinogradCorrelation::run_by_block of what the compiler calls a loop's body."""
    found = re.search(r"Body = (.*)::<lambda", body)
    text = found[1] if found else body
    text = re.sub(r"\[with .*?\]|\([^()]*\)( const)?|cnnlib::|base::|avx2::|avx512::|\s", "", text)
    return re.sub(r"<[^<>]*>", "", re.sub(r"<[^<>]*>", "", text))[-60:]


@cache
def _clock_cost():
    """Seconds that reading the thread's clock takes."""
    readings = [time.clock_gettime_ns(time.CLOCK_THREAD_CPUTIME_ID) for _ in range(2000)]
    return float(np.min(np.diff(readings))) * 1e-9
