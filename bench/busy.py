"""Training steps beside other busy processes: what cnnlib and PyTorch lose, each in a process of its own.

A cell is a number of processes that do nothing but count, and a number of threads (OMP_NUM_THREADS) or a
single processor. Given are the mean and the longest step, since a loss of the processor shows in few steps,
and the mean as a multiple of that on the idle machine. Linux only.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import time

from support import runner
from support.training import own

_SIDES = ("cnnlib", "torch")
_WARM_STEPS = 3
_RULE = "sgd_momentum"


def main():
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--network", choices=own.NETWORKS, default="vgg-small")
    add("--batch", type=int, default=64, help="images in a minibatch")
    add("--busy", type=int, nargs="+", default=[0, 1, 2], metavar="N", help="other processes")
    add("--threads", type=int, nargs="+", default=[1, 2, 4, 8], metavar="N", help="OMP_NUM_THREADS")
    add("--seconds", type=float, default=3.0, help="of steps, for each cell and side")
    add("--side", choices=_SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(*_times(options))
        return 0
    runner.warn_of_load()
    cpus = sorted(os.sched_getaffinity(0))
    settings = [(f"{n} threads", n, cpus) for n in options.threads]
    settings.append(("as installed, one processor", None, cpus[:1]))
    print("| others | setting | cnnlib mean | longest | x idle | torch mean | longest | x idle |")
    print("| ---: | --- |" + " ---: |" * 6)
    idle = {}
    for busy in options.busy:
        for setting in settings:
            with _busy(busy):
                cells = [_cell(options, side, setting, idle) for side in _SIDES]
            print(f"| {busy} | {setting[0]} | {' | '.join(cells)} |", flush=True)
    return 0


def _cell(options, side, setting, idle):
    """The side's columns of a row; `idle` gets the mean of the first row of each setting."""
    name, threads, cpus = setting
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    command = [sys.executable, __file__, "--side", side, "--network", options.network]
    command += ["--batch", str(options.batch), "--seconds", str(options.seconds)]
    run = subprocess.run(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, cpus),
    )
    mean, longest = map(float, run.stdout.split())
    first = idle.setdefault((side, name), mean)
    return f"{mean * 1e3:.1f} | {longest * 1e3:.0f} | {mean / first:.1f}"


def _times(options):
    """The mean and the longest step, in seconds."""
    step = _step(options)
    for _ in range(_WARM_STEPS):
        step()
    times = []
    end = time.perf_counter() + options.seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return sum(times) / len(times), max(times)


def _step(options):
    """The side's step; cnnlib's in a process without PyTorch."""
    if options.side == "torch":
        import torch
        from support.training import sides

        return sides.Pair(torch, options.network, "float32", options.batch, _RULE).torch_step
    model = own.model(options.network, "float32")
    return own.OwnStep(model, *own.minibatch("float32", options.batch), _RULE)


@contextlib.contextmanager
def _busy(count):
    """So many processes that count, for as long as the block runs."""
    count_up = [sys.executable, "-c", "while True: pass"]
    processes = [subprocess.Popen(count_up) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


if __name__ == "__main__":
    sys.exit(main())
