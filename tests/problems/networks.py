"""The convolutions of named networks as lines, from the table that the benchmarks have."""

import sys
from pathlib import Path

LINES = Path(__file__).with_name("lines")
BENCH = Path(__file__).parents[2] / "bench"


def texts():
    """Return the text of a file of lines for each group of bench/support/shapes.py, by name."""
    sys.path.insert(0, str(BENCH))
    try:
        from support import shapes
    finally:
        sys.path.remove(str(BENCH))
    found = dict.fromkeys(shapes.GROUPS, "")
    for case in shapes.CASES:
        found[case.group] += f"conv {_sizes(case)}\n"
    return found


def _sizes(case):
    """Return a case's sizes; those that say nothing are left out, and a batch that anyone may choose."""
    parts = {"n": case.N, "c": case.C, "h": case.H, "w": case.W if case.W != case.H else None, "f": case.F}
    parts["k"] = _pair(case.KH, case.KW)
    parts["s"] = case.stride if case.stride > 1 else None
    parts["p"] = _pair(*case.pad) if any(case.pad) else None
    parts["r"] = case.dilation if case.dilation > 1 else None
    parts["g"] = case.groups if case.groups > 1 else None
    return "".join(f"{letter}{number}" for letter, number in parts.items() if number is not None)


def _pair(a, b):
    return str(a) if a == b else f"{a}x{b}"


def write():
    """Write lines/GROUP.txt for each group."""
    for group, text in texts().items():
        (LINES / f"{group}.txt").write_text(text, encoding="utf-8")
