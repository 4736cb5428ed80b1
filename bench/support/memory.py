"""How much memory is free, and which cells fit in it."""

from __future__ import annotations

import contextlib
import sys

import numpy as np


def free():
    """Bytes that could be allocated without swapping, or 8 GB where the system does not say."""
    with contextlib.suppress(OSError), open("/proc/meminfo", encoding="ascii") as info:
        for line in info:
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    return 8e9


def fitting(cases, dtypes, processes=1):
    """The cases that so many processes can hold in half of the free memory; names the others on stderr."""
    itemsize = max(np.dtype(name).itemsize for name in dtypes)
    budget = free() / 2 / processes
    chosen = [case for case in cases if case.footprint() * itemsize <= budget]
    if len(chosen) < len(cases):
        left_out = [f"{case.name} N={case.N}" for case in cases if case not in chosen]
        print(f"left out, too large for the memory here: {', '.join(left_out)}", file=sys.stderr)
    return chosen
