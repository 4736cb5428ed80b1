"""Convolutions side by side: cnnlib, PyTorch and JAX, forward and backward, call by call in one process.

Each result is checked against the peer's before it is timed. Backward means dx, dw and db, but dw and db
alone for the first layer of a network (C <= 4), on all sides. GF/s count two operations for each multiply-add
of the direct method, whatever the algorithm. README.md in this folder says more.
"""

from __future__ import annotations

import contextlib
import sys

import numpy as np
from support import memory, peers, report, runner, shapes

_QUICK_SECONDS = 0.05
_SPEED = {"float32": 0.5, "float64": 0.3}  # of the peak: supposed for the estimate of a run's length


def main():
    """Run the command line; returns the exit status."""
    options = _options()
    cells = _cells(options)
    child = runner.child_of(options)
    if child:
        return _measure(cells, options, *child)
    if not cells:
        sys.exit("no cell matches")
    runner.prepare(options)
    machine = runner.machine(options)
    report.print_machine(machine)
    _print_length(cells, options, machine["peaks"])
    if options.list:
        print("\n".join(f"{case.group:11} {case.name} N={case.N}" for case in cells))
        return 0
    title = f"Convolutions, batch {', '.join(map(str, options.batches))}"
    rows, complete = runner.collect(
        options, lambda row: print(report.line(row, machine["peaks"]), flush=True)
    )
    return runner.finish(title, machine, rows, options, complete)


def _options():
    parser = runner.parser(__doc__, ("torch", "jax"))
    add = parser.add_argument
    directions, batches = ("forward", "backward"), [1, 8, 32]
    add(
        "--group",
        nargs="+",
        choices=shapes.GROUPS,
        metavar="NAME",
        help=f"only of {', '.join(shapes.GROUPS)}",
    )
    add("--random", type=int, nargs=2, metavar=("COUNT", "SEED"), help="so many random layers instead")
    add("--batches", type=int, nargs="+", metavar="N", default=batches, help="where the shape fixes none")
    add(
        "--directions",
        nargs="+",
        choices=directions,
        metavar="NAME",
        default=list(directions),
        help="of the pass",
    )
    add("--largest", type=float, metavar="GFLOP", help="leave out the cells whose forward pass takes more")
    add("--list", action="store_true", help="print the cells and how long they would take, and stop")
    options = parser.parse_args()
    if options.quick:
        options.batches, options.seconds = [8], min(options.seconds, _QUICK_SECONDS)
    return options


def _cells(options):
    """The cases asked for that fit in half of the memory that is free."""
    cases = shapes.select(options.batches, options.group, options.only, options.quick, options.random)
    if options.largest:
        cases = [case for case in cases if case.flops("forward") <= 1e9 * options.largest]
    return cases if options.child else memory.fitting(cases, options.dtypes)


def _measure(cells, options, condition, threads):
    """The child's part: print a row for each cell."""
    own, others = peers.sides(_peers_in(condition, options), threads)
    with contextlib.ExitStack() as stack:
        for other in others.values():
            stack.enter_context(other.session())
        for case, dtype, arrays in shapes.with_arrays(cells, options.dtypes):
            for direction in options.directions:
                call = _call(own, case, direction, arrays)
                calls = {name: _call(other, case, direction, arrays) for name, other in others.items()}
                row = {
                    "group": case.group,
                    "name": f"{case.name} N={case.N}",
                    "dtype": dtype,
                    "direction": direction,
                    "threads": threads,
                    "condition": condition,
                    "flops": case.flops(direction),
                    "bytes": case.traffic(direction) * np.dtype(dtype).itemsize,
                }
                runner.emit(row | runner.time_cell(call, calls, options.seconds, dtype))


def _call(side, case, direction, arrays):
    return getattr(side, direction)(case, arrays), side.arrays_of


def _peers_in(condition, options):
    """JAX allocates in its own way, so that one memory condition tells all of it."""
    first = condition == options.conditions[0]
    return [name for name in options.peers if name != "jax" or first]


def _print_length(cells, options, peaks):
    rows = len(cells) * len(options.dtypes) * len(options.directions)
    print(f"\n{rows} cells in each process; about how many minutes each process takes:")
    total = 0.0
    for threads in options.threads:
        for condition in options.conditions:
            pairs = len(_peers_in(condition, options))
            minutes = sum(_seconds(case, options, peaks, threads, pairs) for case in cells) / 60
            total += minutes
            print(f"  threads {threads}, memory {condition}: {minutes:.1f}")
    print(f"  in all: {total:.0f}", flush=True)


def _seconds(case, options, peaks, threads, pairs):
    """About how long a case takes in one process, supposing that a peer runs at a fixed share of the peak."""
    total = 0.0
    slowdown = 8 if case.groups == case.C > 1 else 1  # depthwise
    byte_rate = min(peaks["copy"][threads].values()) * 1e9 / 4
    for dtype in options.dtypes:
        itemsize = np.dtype(dtype).itemsize
        flop_rate = _SPEED[dtype] * 1e9 * peaks["fma"][threads][dtype] / slowdown
        total += case.footprint() * itemsize / 4e9
        for direction in options.directions:
            call = case.flops(direction) / flop_rate + case.traffic(direction) * itemsize / byte_rate
            total += 2 * call + max(1, pairs) * max(
                options.seconds, min(6 * call, 10 * options.seconds + 2 * call)
            )
    return total


if __name__ == "__main__":
    sys.exit(main())
