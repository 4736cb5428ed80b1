"""What more cores than there are would do: loops are recorded task by task and scheduled anew.

The method is Cilkview's (He, Leiserson, Leiserson 2010, "The Cilkview scalability analyzer"): work and span
of a real run give a bound for any number of processors. Here tasks are scheduled as the core's loops do it.
"""

from __future__ import annotations

import ctypes
import heapq
import math
import re
import subprocess
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


class _RecordedLoop(ctypes.Structure):
    """That of cpp/threads/recorder/recorder.cpp."""

    _fields_ = (
        ("run", ctypes.c_void_p),
        ("threads", ctypes.c_int),
        ("standing", ctypes.c_int),
        ("caller_seconds", ctypes.c_double),
        ("tasks", ctypes.c_ssize_t),
        ("seconds", ctypes.POINTER(ctypes.c_double)),
    )


_module = ctypes.CDLL(_core.__file__)


def available():
    """Whether this module records loops."""
    return hasattr(_module, "record_loops")


def record(call, threads):
    """A call without arguments, with so many threads."""
    clock, number = _clock_cost(), ctypes.c_ssize_t()
    _module.recorded_loops.restype = ctypes.POINTER(_RecordedLoop)
    _module.record_loops(threads)
    try:
        start = time.thread_time_ns()
        result = call()
        total = (time.thread_time_ns() - start) * 1e-9
        recorded = _module.recorded_loops(ctypes.byref(number))[: number.value]
        loops = [
            Loop(_body(loop.run), loop.threads, bool(loop.standing), np.array(loop.seconds[: loop.tasks]))
            for loop in recorded
        ]
        outside = total - sum(loop.caller_seconds for loop in recorded) - clock * (len(loops) + 1)
    finally:
        _module.record_loops(0)
    del result
    for loop in loops:
        loop.seconds = np.maximum(loop.seconds - clock, 0)
    return Recording(loops, max(outside, 0))


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


@cache
def _body(run):
    """WinogradCorrelation::run_by_block of the address of what runs that loop's tasks."""
    symbols = _symbols()
    moved = ctypes.cast(_module.record_loops, ctypes.c_void_p).value - symbols["record_loops"]
    symbol = next(name for name, at in symbols.items() if at == run - moved and "parallel_for" in name)
    # Each name follows its length, up to the first lambda's arguments; S0_ is one met before, Li3E a 3.
    text, names = re.sub(r"[ST]\d*_|L[a-z]\d+E", "", symbol.partition("Ul")[0]), []
    while found := re.search(r"\d+", text):
        end = found.end() + int(found[0])
        names.append(text[found.end() : end])
        text = text[end:]
    left_out = {"", "cnnlib", "parallel_for", "parallel_grid", "each_on_its_own", "parallel_ranges"}
    return "::".join(name for name in names if name not in left_out.union(_core.available_isas()))[-60:]


@cache
def _symbols():
    """The addresses of the module's functions before it was loaded."""
    table = subprocess.run(["nm", _core.__file__], capture_output=True, text=True, check=True).stdout
    return {name: int(at, 16) for at, _, name in re.findall(r"^(\w+) ([tTwW]) (\S+)$", table, re.MULTILINE)}


@cache
def _clock_cost():
    """Seconds that reading the thread's clock takes."""
    readings = [time.clock_gettime_ns(time.CLOCK_THREAD_CPUTIME_ID) for _ in range(2000)]
    return float(np.min(np.diff(readings))) * 1e-9
