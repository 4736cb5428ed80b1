"""
Replay problems that are one line each, and look for new ones.

    python tests/problems/driver.py conv dx f64 avx512 n2c64h12f8k1 t5 algorithm=pixel-lanes
    python tests/problems/driver.py --bits --file tests/problems/lines/found.txt
    python tests/problems/driver.py --time --file tests/problems/lines/resnet18.txt --batch 8
    python tests/problems/driver.py --search --bits --seconds 600
    python tests/problems/driver.py --search --problems 200 --seed 3

What a line says stands in line.py, which layers there are in layers.py. A problem is compared with the loops
in float64; with --bits its bits on its threads, of both engines, of single images and at other addresses are
compared; with --time it is timed beside PyTorch. The search prints the line of each problem that fails, with
what is wrong and a smaller line that fails too. The last line that it tried lies in a file (--last), in case
it takes the process along. The exit status is 1 if a problem failed.
"""

import argparse
import dataclasses
import math
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

from problems import beside_torch, layers, line, networks, search
from problems.run import Run, differing_bits, errors

DEFAULT_BATCH = 8  # images of lines of networks, which name none


def failures(problem, bits):
    """Return what is wrong with a problem, a text each."""
    return list(dict.fromkeys((differing_bits if bits else errors)(Run(problem))))


def replay(problems, options):
    """Run the problems; return how many failed."""
    failed = 0
    for problem in problems:
        if options.time:
            print(f"{problem}: {beside_torch.timed(Run(problem), options.seconds_each)}", flush=True)
            continue
        texts = failures(problem, options.bits)
        failed += bool(texts)
        print(f"{problem}: {'FAILED' if texts else 'sound'}", *texts, sep="\n    ", flush=True)
    return failed


def find(options):
    """Draw problems and print those that fail; return their number, and what was tried."""
    draw, tried, failed = search.Draw(options.seed, small=not options.bits), Counter(), 0
    end = time.monotonic() + options.seconds
    while tried["problems"] < options.problems and time.monotonic() < end:
        problem = draw.problem()
        if options.last:
            options.last.write_text(f"{problem}\n", encoding="utf-8")
        texts = failures(problem, options.bits)
        if texts:
            failed += 1
            smaller = search.shrunk(problem, lambda other: bool(failures(other, options.bits)))
            print(problem, *texts, f"smaller: {smaller}", sep="\n    ", flush=True)
        tried["problems"] += 1
        layer = layers.layer_of(problem)
        size = np.prod(layer.shapes[0]) * np.dtype(problem.dtype).itemsize
        tried[f"input {'above' if size > 1 << 20 else 'below'} 1 MB"] += 1
        tried.update([problem.layer, problem.dtype, problem.isa])
        tried.update([problem.options["algorithm"]] if "algorithm" in problem.options else [])
    tried["plans"] = draw.plans
    return failed, tried


def read(options):
    """Return the problems of the command line and of the files, with a batch where they name none."""
    problems = [line.parse(" ".join(options.line))] if options.line else []
    for path in options.file:
        problems += line.parse_file(path)
    batch = {"n": (options.batch,)}
    return [each if "n" in each.sizes else dataclasses.replace(each, sizes={**batch, **each.sizes})
            for each in problems]  # fmt: skip


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("line", nargs="*", metavar="WORD", help="the words of a line")
    add("--file", type=Path, nargs="+", default=[], help="files of lines")
    add("--batch", type=int, default=DEFAULT_BATCH, help="images of lines that name none")
    add("--bits", action="store_true", help="compare bits over threads, engines, batches and addresses")
    add("--time", action="store_true", help="time beside PyTorch, where it is installed")
    add("--seconds-each", type=float, default=0.2, help="of timing for each problem")
    add("--search", action="store_true", help="look for problems that fail")
    add("--seconds", type=float, default=math.inf, help="of the search")
    add("--problems", type=int, default=sys.maxsize, help="of the search, the same in every run")
    add("--seed", type=int, default=0, help="of the search")
    add("--last", type=Path, help="file that keeps the line which is being tried")
    add("--write-networks", action="store_true", help="write lines/*.txt anew from bench/support/shapes.py")
    options = parser.parse_args()
    if options.write_networks:
        networks.write()
        return 0
    if not options.search:
        problems = read(options)
        if not problems:
            parser.error("a line, --file or --search is needed")
        return int(replay(problems, options) > 0)
    failed, tried = find(options)
    print(", ".join(f"{count} {name}" for name, count in tried.items()))
    print(f"{failed} of {tried['problems']} problems failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
