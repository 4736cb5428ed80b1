"""cnnlib's convolution methods against each other: does 'auto' choose the fastest, what is each one worth?

    python bench/methods.py --isa avx512 avx2 --json methods.json --markdown bench/METHODS-zen5.md
    python bench/methods.py --isa avx512 avx2 --steps --json steps.json
    python bench/methods.py --load methods.json steps.json --markdown bench/METHODS-zen5.md
    python bench/methods.py --load methods.json --fit

For each shape and pass (forward, dx alone, dw alone) every method that fits is forced by its name, checked
against the one that 'auto' takes, and timed. The tables show the cells where 'auto' takes over a tenth longer
than the best; what each cell would take if a method did not exist and 'auto' took the next cheapest; and
with --fit measured cycles beside the model's cost. With --steps the convolutions are those of four networks'
training steps, and a method's worth is the time that the step's convolutions would take without it.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from support import memory, method_tables, peaks, peers, report, results, runner, shapes, timing
from support.training import convolutions

PASSES = {"forward": "forward", "dx": "input_gradient", "dw": "weight_gradient"}  # in the plan's words
_STEP_BATCH = 100  # images
_HOPELESS = 3  # times as slow as the best: two calls tell enough
_TOLERANCE = 4  # of timing.TOLERANCE: two methods may err in opposite directions


def main():
    """Run the command line; returns the exit status."""
    options = _options()
    child = runner.child_of(options)
    if child:
        return _measure(options, *child)
    machine, rows, complete = _load(options.load) if options.load else _collect(options)
    valid = [row for row in rows if "error" not in row]
    if not valid:
        sys.exit("no cell matches, or all failed")
    _print_tables(valid, options)
    if options.json:
        _write_json(options.json, machine, rows, complete)
    if options.markdown:
        _write_markdown(options.markdown, machine, valid, complete)
    faults = [row for row in rows if _faulty(row)]
    for row in faults:
        print(f"fault: {row['isa']} {_line(row)}")
    return 0 if complete and not faults else 1


def _faulty(row):
    return "error" in row or row["difference"] > _TOLERANCE * timing.TOLERANCE[row["dtype"]]


def _options():
    parser = runner.parser(__doc__)
    add = parser.add_argument
    add("--group", nargs="+", choices=shapes.GROUPS, metavar="NAME", help=f"of {', '.join(shapes.GROUPS)}")
    add("--batches", type=int, nargs="+", metavar="N", default=[8], help="where the shape fixes none")
    add("--steps", action="store_true", help="the convolutions of training steps of 100 images")
    add("--isa", nargs="+", metavar="NAME", help="instruction sets; by default the best of this processor")
    add("--passes", nargs="+", choices=PASSES, metavar="NAME", default=list(PASSES), help="to time")
    add("--load", nargs="+", metavar="FILE", help="what --json has written, instead of timing")
    add("--fit", action="store_true", help="measured cycles over the cost, by method, for its constants")
    add("--ghz", type=float, help="the clock for --fit; by default as measured beside each cell")
    return parser.parse_args()


def _collect(options):
    runner.prepare(options)
    machine, rows, complete = runner.facts(), [], True
    report.print_machine(machine)
    chosen = os.environ.get("CNNLIB_ISA")
    for isa in options.isa or [chosen]:
        if isa:
            os.environ["CNNLIB_ISA"] = isa
        found, whole = runner.collect(options, lambda row: print(_line(row), flush=True))
        rows += found
        complete &= whole
        if not whole:
            break
    return machine, rows, complete


def _measure(options, condition, threads):
    """The child's part: print a row for each cell."""
    import cnnlib

    own, _ = peers.sides([], threads)
    isa = runner.facts()["isa"]
    counts = convolutions.cases(_STEP_BATCH) if options.steps else {}
    cases = list(counts) or shapes.select(options.batches, options.group, options.only, options.quick)
    for case, dtype, arrays in shapes.with_arrays(memory.fitting(cases, options.dtypes), options.dtypes):
        for name in options.passes:
            row = {"group": case.group, "name": case.name, "N": case.N, "dtype": dtype, "isa": isa}
            row |= {"pass": name, "threads": threads}
            if counts:
                row["count"] = counts[case]
            try:
                costs = _costs(cnnlib, case, dtype, name)
                calls = {method: _call(own, case, arrays, name, method) for method in costs}
                row |= {"auto": next(iter(costs)), "cost": costs}
                row |= _time(calls, options.seconds, own.arrays_of)
            except Exception as error:  # the other cells are still worth having
                row["error"] = f"{type(error).__name__}: {error}".splitlines()[0]
            runner.emit(row)


def _costs(cnnlib, case, dtype, name):
    """Method -> cost in cycles, the chosen one first; each of them has to be what runs when it is forced."""
    x_shape, w_shape, _, _ = case.shapes

    def plan(method):
        param = {**case.conv_param, "algorithm": method}
        return getattr(cnnlib.explain(x_shape, w_shape, param, dtype), PASSES[name])

    auto = plan("auto")
    costs = dict(auto.alternatives)
    for method in costs:
        if plan(method).method != method:
            raise RuntimeError(f"{method} is listed, but forced it gives {plan(method).method}")
    return {auto.method: costs[auto.method]} | costs


def _call(own, case, arrays, name, method):
    if name == "forward":
        return own.forward(case, arrays, method)
    return own.backward(case, arrays, method, needs=(name,))


def _time(calls, seconds, arrays_of):
    """`seconds` of each call, the largest `difference` from the first one's result, and the clock's `ghz`."""
    want, difference = None, 0.0
    for call in calls.values():
        got = arrays_of(call())
        want = want or got
        difference = max(difference, timing.difference(got, want))
    del got, want
    once = {method: min(timing.once(call) for _ in range(2)) for method, call in calls.items()}
    limit, auto = _HOPELESS * min(once.values()), next(iter(calls))
    close = {method: call for method, call in calls.items() if method == auto or once[method] < limit}
    ghz = peaks.clock()
    times = once | _minima(close, seconds)
    if times[auto] > method_tables.BAR * min(times.values()):  # perhaps it was disturbed
        again = _minima(close, 3 * seconds)
        times |= {method: min(times[method], again[method]) for method in again}
    ghz = ghz and max(ghz, peaks.clock())
    return {"seconds": times, "difference": difference, "ghz": ghz}


def _minima(calls, seconds):
    """Of the calls in both orders: a call finds the caches as the one before has left them."""
    both = [timing.interleave(order, seconds / 2) for order in (calls, dict(reversed(calls.items())))]
    return {name: min(times[name].minimum for times in both) for name in calls}


def _line(row):
    text = f"{method_tables.cell(row):44} {row['dtype']} {row['pass']:7} {row['threads']} "
    if "error" in row:
        return f"{text} FAILED: {row['error']}"
    seconds = sorted(row["seconds"].items(), key=lambda item: item[1])
    for method, value in seconds:
        text += f" {'*' if method == row['auto'] else ''}{method} {1e3 * value:.3g}"
    lost = method_tables.loss(row)
    text += f"  LOSES {lost:.2f}" if lost > method_tables.BAR else ""
    return text + (f"  DIFFER by {row['difference']:.1e}" if _faulty(row) else "")


def _print_tables(rows, options):
    print("\n'auto' against the best method\n")
    print(method_tables.as_text(method_tables.choice_table(rows)))
    print("\nthe cells where it takes over a tenth longer\n")
    print(method_tables.as_text(method_tables.lost_table(rows)))
    steps, cells = method_tables.of_steps(rows), method_tables.of_cells(rows)
    if cells:
        print("\nwhat is lost without each method\n")
        print(method_tables.as_text(method_tables.worth_table(cells)))
        print(f"\nworth little: {_candidates(cells)}")
    if steps:
        print("\nwhat the convolutions of a training step lose without each method\n")
        print(method_tables.as_text(method_tables.step_table(steps)))
    if options.fit:
        print("\nmeasured cycles over the model's cost, one thread\n")
        print(method_tables.as_text(method_tables.fit_table(rows, options.ghz)))


def _candidates(rows):
    found = [f"{method} ({name})" for name, method in method_tables.candidates(rows)]
    return ", ".join(found) or "none"


def _load(files):
    machine, rows, complete = {}, [], True
    for file in files:
        with results.opened(file, "rt") as opened:
            read = json.load(opened)
        machine = machine or read["machine"]
        rows += read["rows"]
        complete &= read["complete"]
    return machine, rows, complete


def _write_json(path, machine, rows, complete):
    head = json.dumps({"machine": machine, "complete": complete})
    lines = ",\n".join(map(json.dumps, rows))
    with results.opened(path, "wt") as file:
        file.write(f'{head[:-1]}, "rows": [\n{lines}\n]}}\n')


_MARKDOWN = """# Convolution methods: {processor}

Written by `methods.py`, which says how.

{machine}

## What is lost without each method

If a method did not exist, 'auto' would take the next cheapest by cost. "Alone" counts the cells that no other
method fits, which the losses leave out; "mean" is over the cells of the networks ({networks}), "network" the
one that loses most, "cell" the worst of all.

{worth}

Worth less than {little_network:.0f} % on every network and {little_cell:.0f} % on every cell: {candidates}.

## What the convolutions of a training step lose without each method

Steps of 100 images (`--steps`): the time of all convolutions of the step, forward, dx and dw, if 'auto' took
the next cheapest wherever it takes the method now; a first layer has no dx.

{steps}

## 'auto' against the best method

{choice}

The cells where it takes over a tenth longer:

{lost}
"""


def _write_markdown(path, machine, rows, complete):
    facts = [f"- {key}: {value}" for key, value in machine.items()]
    if not complete:
        facts.append("- **This run is incomplete.**")
    cells = method_tables.of_cells(rows)
    text = _MARKDOWN.format(
        processor=machine["class"],
        machine="\n".join(facts),
        networks=", ".join(shapes.NETWORKS),
        worth=method_tables.as_markdown(method_tables.worth_table(cells)),
        steps=method_tables.as_markdown(method_tables.step_table(method_tables.of_steps(rows))),
        little_network=100 * (method_tables.LITTLE_NETWORK - 1),
        little_cell=100 * (method_tables.LITTLE_CELL - 1),
        candidates=_candidates(cells),
        choice=method_tables.as_markdown(method_tables.choice_table(rows)),
        lost=method_tables.as_markdown(method_tables.lost_table(rows)),
    )
    Path(path).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
