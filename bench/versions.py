"""Two builds of cnnlib side by side: convolutions, forward and backward, other layers, or whole networks.

    python bench/versions.py --old DIR --new DIR --isa avx512 avx2
    python bench/versions.py --old DIR --new DIR --steps
    python bench/versions.py --old DIR --new build/windows/python --layers
    python bench/versions.py --old DIR --new DIR --predictions --batch 1

DIR is a folder that holds the package `cnnlib`, or a Python that has it, such as the one under wine that
`make test-windows` leaves. Each build lives in a process of its own; the two take turns on every cell, old,
new, new, old and so on, and wait without using a processor in between. Results are compared before they are
timed. Each turn is set beside the other build's turn next to it, and the median of these ratios of minima is
the cell's: a processor that changes its pace meets neighbours alike. A cell on which the new build has less
than 0.93 of the old one's speed is measured once more at the end, for three times as long, and that counts.
The exit status is 1 if a result differed or a cell failed.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import json
import re
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from support import build_side, memory, results, runner, shapes, timing
from support.training import own

_SUSPECT = 0.93  # old over new: below it a cell is measured again
_AGAIN = 3  # times as long
_STEPS_TIMES = 10  # as long as a convolution
_WORST = 10
_ROUNDS = {1: 9}  # of old, new, new, old, by the threads: with several, each turn costs a wait for quiet
_ROUNDS_ELSE = 3
_LOSS_TOLERANCE = {"float32": 1e-4, "float64": 1e-10}
_KEYS = ("isa", "dtype", "threads", "direction")


def main():
    """Run the command line; returns the exit status."""
    options = _options()
    cells = _cells(options)
    if not cells:
        sys.exit("no cell matches")
    runner.warn_of_load()
    settings = list(itertools.product(options.isa or [None], options.threads))
    seconds = 2.5 * options.seconds * (_STEPS_TIMES if options.steps or options.predictions else 1)
    minutes = len(cells) * sum(seconds + 0.05 + 0.14 * (threads > 1) for _, threads in settings) / 60
    print(f"{len(cells) * len(settings)} cells, some {minutes:.0f} minutes and more where calls are long")
    rows, about, complete = [], {}, True
    try:
        for isa, threads in settings:
            complete &= _measure(options, cells, isa, threads, rows, about)
    except RuntimeError as error:  # a build that does not start
        sys.exit(str(error))
    except KeyboardInterrupt:
        complete = False
        print("interrupted", file=sys.stderr)
    if options.json:
        head = {"complete": complete, "builds": about, "rows": rows}
        with results.opened(options.json, "wt") as file:
            json.dump(head, file, indent=1)
    return _finish(rows, complete)


def _options():
    if sys.argv[1:] == ["--child"]:
        build_side.serve()
        sys.exit()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    for build in ("old", "new"):
        add(f"--{build}", required=True, metavar="DIR", help=f"folder or Python of the {build} build")
    add("--isa", nargs="+", metavar="NAME", help="instruction sets (the best of this processor)")
    add("--dtypes", nargs="+", choices=("float32", "float64"), default=["float32", "float64"])
    add("--threads", type=int, nargs="+", metavar="N", default=[1, 2])
    add("--directions", nargs="+", choices=("forward", "backward"), default=["forward", "backward"])
    add("--batches", type=int, nargs="+", metavar="N", default=[8], help="where the shape fixes none (8)")
    add("--group", nargs="+", choices=shapes.GROUPS, metavar="NAME", help=f"of {', '.join(shapes.GROUPS)}")
    add("--random", type=int, nargs=2, metavar=("COUNT", "SEED"), help="so many random layers instead")
    add("--only", type=re.compile, metavar="RE", help="only the cells whose text matches")
    add("--seconds", type=float, default=0.06, help="of each build and cell (0.06; for steps tenfold)")
    add(
        "--layers",
        action="store_true",
        help="all kinds of layers, as the tests' large ones, instead of these",
    )
    add("--steps", action="store_true", help="training steps of four networks instead of convolutions")
    add("--predictions", action="store_true", help="the same networks, prepared for inference")
    add("--batch", type=int, default=100, help="images of a step or prediction (100)")
    add("--json", metavar="FILE", help="write all figures here (gzip where the name ends in .gz)")
    return parser.parse_args()


def _cells(options):
    """What to open in both processes: (order, its arguments, the row's group and name)."""
    if options.steps or options.predictions:
        order = "open_step" if options.steps else "open_prediction"
        rest = {"batch": options.batch} | ({"rule": "sgd_nesterov_momentum"} if options.steps else {})
        return [
            (order, {"network": name, "dtype": dtype} | rest)
            for dtype in options.dtypes
            for name in own.NETWORKS
            if not options.only or options.only.search(name)
        ]
    if options.layers:
        return [
            ("open_layer", {"layer": name, "dtype": dtype, "direction": direction})
            for dtype in options.dtypes
            for name in build_side.large_layers()
            for direction in options.directions
            if not options.only or options.only.search(name)
        ]
    cases = shapes.select(options.batches, options.group, options.only, random=options.random)
    cases = memory.fitting(cases, options.dtypes, processes=2)
    return [
        ("open_conv", {"case": dataclasses.asdict(case), "dtype": dtype, "direction": direction})
        for dtype in options.dtypes
        for case in cases
        for direction in options.directions
    ]


def _measure(options, cells, isa, threads, rows, about):
    """Measure all cells in one pair of processes, append to `rows`; False if a process ended too early."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(dir=_shared_memory()))
        sides = {}
        for name in ("old", "new"):
            sides[name] = build_side.Side(getattr(options, name), __file__, threads, isa)
            stack.callback(sides[name].close)
            about[name] = {key: value for key, value in sides[name].about.items() if key != "isa"}
        running = {side.about["isa"] for side in sides.values()}
        if len(running) > 1:
            sys.exit(f"the builds run different instruction sets: {running}")
        seconds = options.seconds * (_STEPS_TIMES if options.steps or options.predictions else 1)
        base = {"isa": running.pop(), "threads": threads}
        print(f"\n{base['isa']}, threads {threads}; minima in ms, old / new by turns (of all minima)")
        suspects = []
        for cell in cells:
            row = base | _row(cell) | _time(sides, cell, seconds, threads, Path(folder, "results"))
            rows.append(row)
            print(_line(row), flush=True)
            if not row.get("error") and _ratio(row) < _SUSPECT:
                suspects.append((row, cell))
            if any(side.ended() for side in sides.values()):
                print("a process ended; the cells that were left are missing", file=sys.stderr)
                return False
        for row, cell in suspects:
            again = _time(sides, cell, _AGAIN * seconds, threads, Path(folder, "results"))
            if not again.get("error"):
                row["first"] = {name: row[name] for name in ("old", "new", "ratios")}
                row |= again
            print("again:", _line(row), flush=True)
    return True


def _shared_memory():
    """A folder in memory for the results that are compared, where there is one of some size."""
    folder = "/dev/shm"
    with contextlib.suppress(OSError):
        return folder if shutil.disk_usage(folder).free > 4 << 30 else None
    return None


def _row(cell):
    order, arguments = cell
    if "network" in arguments:
        name, kind = f"{arguments['network']} N={arguments['batch']}", order.removeprefix("open_")
        return {"group": kind, "name": name, "dtype": arguments["dtype"], "direction": kind}
    if "layer" in arguments:
        return {"group": "layer", "name": arguments["layer"]} | {
            key: arguments[key] for key in ("dtype", "direction")
        }
    case = arguments["case"]
    case = shapes.ConvCase(**case)
    row = {"group": case.group, "name": f"{case.name} N={case.N}"}
    return row | {"dtype": arguments["dtype"], "direction": arguments["direction"]}


def _time(sides, cell, seconds, threads, file):
    """Check and time a cell.

    Returns
    -------
    dict
        `difference`: the largest between results; `old`, `new`: [minimum, median, calls] in seconds;
        `ratios`: old over new of the minima of turns next to each other. Or only `error`, a message.
    """
    order, arguments = cell
    try:
        old = sides["old"].order(order, **arguments, file=str(file), write=True)
        new = sides["new"].order(order, **arguments, file=str(file), write=False)
        rounds = _ROUNDS.get(threads, _ROUNDS_ELSE)
        while rounds > 1 and max(old["seconds"], new["seconds"]) > seconds / rounds:
            rounds -= 1
        turns = []
        for name, parts in [("old", 1), *(rounds - 1) * [("new", 2), ("old", 2)], ("new", 2), ("old", 1)]:
            answer = sides[name].order("turn", seconds=parts * seconds / (2 * rounds), calls=parts)
            turns.append(answer["minimum"])
        times = {name: side.order("close")["times"] for name, side in sides.items()}
    except RuntimeError as error:
        return {"error": str(error)}
    ratios = [a / b if i % 2 == 0 else b / a for i, (a, b) in enumerate(itertools.pairwise(turns))]
    return {"difference": new["difference"], "ratios": ratios} | times


def _ratio(row):
    return statistics.median(row["ratios"])


def _differs(row):
    tolerance = _LOSS_TOLERANCE if row["direction"] == "step" else timing.TOLERANCE
    return row["difference"] > tolerance[row["dtype"]]


def _line(row):
    text = f"{row['group']:11} {row['name']:32} {row['dtype']} {row['direction']:8}"
    if row.get("error"):
        return f"{text} FAILED: {row['error']}"
    old, new = (1e3 * row[name][0] for name in ("old", "new"))
    text += f" {old:9.4g} {new:9.4g} {_ratio(row):6.3f} ({old / new:.3f})"
    return text + (f"  DIFFERS by {row['difference']:.1e}" if _differs(row) else "")


def _finish(rows, complete):
    """Print the summary; returns the exit status."""
    valid = [row for row in rows if not row.get("error")]
    if valid:
        print("\nold / new, above 1 the new build is faster")
        print(f"{'':37} cells  geometric mean  below 0.9  least")
        groups = {}
        for row in valid:
            groups.setdefault(tuple(row[key] for key in _KEYS), []).append(row)
        for (isa, dtype, threads, direction), members in (groups | {("all", "", "", ""): valid}).items():
            label = f"{isa:7} {dtype:8} {threads!s:2} {direction}"
            least = min(members, key=_ratio)
            mean = timing.geometric_mean(_ratio(row) for row in members)
            behind = sum(_ratio(row) < 0.9 for row in members)
            cell = f"{least['group']} {least['name']}"
            print(f"{label:37} {len(members):5}  {mean:14.3f}  {behind:9}  {_ratio(least):.3f} {cell}")
        print("\nthe worst cells")
        for row in sorted(valid, key=_ratio)[:_WORST]:
            print(f"{row['isa']:7} {row['threads']} {_line(row)}")
    faults = [row for row in rows if row.get("error") or _differs(row)]
    for row in faults:
        print(f"fault: {row['isa']:7} {row['threads']} {_line(row)}")
    return 0 if complete and not faults else 1


if __name__ == "__main__":
    sys.exit(main())
