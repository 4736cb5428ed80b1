"""Peak memory of one convolution, forward and backward, in cnnlib and PyTorch: each in a process of its own.

Given is the growth of the resident set, at its peak, over the point where the arrays exist and the libraries
are warm; the results are held. Linux only.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import re
import subprocess
import sys

import numpy as np
from cnnlib.benchmarking import growth
from support import peers, shapes

_SIDES = ("cnnlib", "torch")


def main():
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add(
        "--only",
        type=re.compile,
        default="64->64 3x3 @224",
        metavar="REGEX",
        help="the shapes, see compare.py",
    )
    add("--batch", type=int, default=8, help="for the shapes that do not fix their own")
    add("--threads", type=int, default=2, help="of both sides")
    add(
        "--dtypes",
        nargs="+",
        choices=("float32", "float64"),
        default=["float32", "float64"],
        help="of the arrays",
    )
    add("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    cases = shapes.select([options.batch], only=options.only)
    if options.child:
        side, dtype, index = options.child
        print(_growth(side, dtype, cases[int(index)], options.threads))
        return
    print(f"{'':36} {'':8} {'arrays':>9}" + "".join(f"{side:>9}" for side in _SIDES) + "  MiB")
    for index, case in enumerate(cases):
        for dtype in options.dtypes:
            arrays = sum(np.prod(shape) for shape in case.shapes) * np.dtype(dtype).itemsize >> 20
            results = []
            for side in _SIDES:
                command = [sys.executable, *sys.argv, "--child", side, dtype, str(index)]
                output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
                results.append(int(output.split()[-1]) >> 20)
            print(f"{case.name} N={case.N:<6}".ljust(36), f"{dtype} {arrays:9}", *(f"{n:8}" for n in results))


def _growth(name, dtype, case, threads):
    """Bytes by which the resident set grows, at its peak."""
    own, others = peers.sides(["torch"], threads)
    side = own if name == "cnnlib" else others[name]
    small = next(case for case in shapes.CASES if case.group == "tiny")
    with others["torch"].session():
        for _, _, arrays in shapes.with_arrays([small], [dtype]):
            side.forward(small, arrays)()
            side.backward(small, arrays)()
        (arrays,) = (arrays for _, _, arrays in shapes.with_arrays([case], [dtype]))
        with contextlib.suppress(AttributeError):  # glibc's: gives back what making the arrays left free
            ctypes.CDLL(None).malloc_trim(0)
        before = growth.resident_from_here()
        held = side.forward(case, arrays)(), side.backward(case, arrays)()
        after = growth.peak_resident()
    del held
    return after - before


if __name__ == "__main__":
    main()
