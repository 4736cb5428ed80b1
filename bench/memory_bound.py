"""Pools, norms, activations, affine layers, attention, losses and updates: cnnlib beside PyTorch.

Each result is checked against PyTorch's before it is timed; calls alternate. GB/s count what has to be read
and written at least, and stand next to what a plain copy of as many bytes reaches here; affine layers are
given in GF/s, and so is attention. README.md in this folder says more.
"""

from __future__ import annotations

import functools
import sys

from support import memory_cells, peers, runner

_QUICK_SECONDS = 0.03
_CELLS = 70  # of each dtype, for the estimate of a run's length


def main():
    """Run the command line; returns the exit status."""
    parser = runner.parser(__doc__, ("torch",))
    groups = memory_cells.GROUPS
    parser.add_argument(
        "--group", nargs="+", choices=groups, metavar="NAME", default=list(groups), help="only these"
    )
    options = parser.parse_args()
    if options.quick:
        options.seconds = min(options.seconds, _QUICK_SECONDS)
    return runner.beside_torch(
        "Memory-bound layers", options, _measure, minutes=functools.partial(_minutes, options)
    )


def _minutes(options):
    processes = len(options.threads) * len(options.conditions)
    return processes * len(options.dtypes) * _CELLS * (options.seconds + 0.1) / 60


def _measure(options, condition, threads):
    """The child's part: print a row for each cell."""
    _, others = peers.sides(["torch"], threads)
    torch = others["torch"].torch
    for dtype in options.dtypes:
        cells = memory_cells.Cells(torch, dtype)
        for group in options.group:
            with torch.inference_mode():
                for cell in cells.make(group):
                    if options.only and not options.only.search(f"{group} {cell.name} {cell.direction}"):
                        continue
                    row = {
                        "group": group,
                        "name": cell.name,
                        "dtype": dtype,
                        "direction": cell.direction,
                        "threads": threads,
                        "condition": condition,
                        "flops": cell.flops,
                        "bytes": cell.bytes,
                    }
                    runner.emit(
                        row | runner.time_cell(cell.own, {"torch": cell.torch}, options.seconds, dtype)
                    )


if __name__ == "__main__":
    sys.exit(main())
