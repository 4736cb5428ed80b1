"""Print what this machine can do at best: multiply-adds and copies a second, and the clock.

The instruction set is the one that cnnlib runs (CNNLIB_ISA may lower it), or another that the processor has.
"""

from __future__ import annotations

import argparse
import contextlib

import cnnlib
from support import peaks


def main():
    """Run the command line."""
    with contextlib.redirect_stdout(None):
        config = cnnlib.show_config()
    running, available = config["instruction set"], config["available"].split(", ")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="numbers of threads")
    parser.add_argument("--isa", default=running, choices=available, help="instruction set")
    options = parser.parse_args()
    print("\n".join(peaks.describe(peaks.measure(options.threads, ("float32", "float64"), options.isa))))
    ghz = peaks.clock()
    if ghz:
        print(f"clock: {ghz:.2f} GHz")


if __name__ == "__main__":
    main()
