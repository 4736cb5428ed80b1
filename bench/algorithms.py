"""cnnlib's convolution algorithms against each other: does 'auto' choose the fastest?"""

from __future__ import annotations

import peers
import runner
import shapes
import timing

_BAR = 1.1  # 'auto' may take this much longer than the best of the others


def measure(cells, options, condition, threads):
    """The child's part: print a row for each cell on which there is a choice."""
    own, _ = peers.sides([], threads)
    for case, dtype, arrays in shapes.with_arrays(cells, options.dtypes):
        for direction in options.directions:
            calls = _calls(own, case, direction, arrays)
            if len(calls) < 3:
                continue
            results = {name: own.arrays_of(call()) for name, call in calls.items()}
            difference = max(timing.difference(result, results["direct"]) for result in results.values())
            del results
            seconds = _minima(calls, options.seconds)
            if _loss(seconds) > _BAR:  # once more: it may have been a disturbance
                again = _minima(calls, 3 * options.seconds)
                seconds = {name: min(seconds[name], again[name]) for name in calls}
            row = {"group": case.group, "name": f"{case.name} N={case.N}", "dtype": dtype}
            row |= {"direction": direction, "threads": threads}
            runner.emit(row | {"seconds": seconds, "difference": difference})


def _calls(own, case, direction, arrays):
    """A call for each algorithm that takes the case."""
    calls = {}
    for algorithm in ("direct", "winograd", "auto"):
        call = getattr(own, direction)(case, arrays, algorithm)
        try:
            call()
        except ValueError:  # Winograd is for some kernels only
            continue
        calls[algorithm] = call
    return calls


def _minima(calls, seconds):
    """Of the calls in both orders: a call finds the caches as the one before has left them."""
    both = [timing.interleave(order, seconds / 2) for order in (calls, dict(reversed(calls.items())))]
    return {name: min(times[name].minimum for times in both) for name in calls}


def _loss(seconds):
    return seconds["auto"] / min(value for name, value in seconds.items() if name != "auto")


def show(options):
    """Run the children, print their rows, name those where 'auto' loses; returns the exit status."""
    print(f"{'':65} threads  direct ms  winograd ms    auto ms  auto / best")
    rows, complete = runner.collect(options, lambda row: print(_line(row), flush=True))
    lost = [row for row in rows if _loss(row["seconds"]) > _BAR]
    print(f"\n{len(lost)} of {len(rows)} cells where 'auto' takes over {_BAR - 1:.0%} longer than the best")
    for row in lost:
        print(_line(row))
    return 0 if complete and not lost else 1


def _line(row):
    times = "".join(f"{1e3 * row['seconds'][name]:12.3g}" for name in ("direct", "winograd", "auto"))
    loss = _loss(row["seconds"])
    text = (
        f"{row['group']:11} {row['name']:34} {row['dtype']:8} {row['direction']:8} {row['threads']:7}{times}"
    )
    text += f"{loss:13.2f}" + ("  LOSES" if loss > _BAR else "")
    return text + ("  DIFFERS" if row["difference"] > timing.TOLERANCE[row["dtype"]] else "")
