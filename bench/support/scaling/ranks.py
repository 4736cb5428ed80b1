"""The ranks' part of bench/scaling.py: timed training steps and Allreduces; rank 0 prints a line of JSON."""

from __future__ import annotations

import json
import statistics
import sys
import time

import cnnlib
import numpy as np
from cnnlib.convnet import ConvNet
from cnnlib.distributed import MPIComm, SerialComm
from cnnlib.solver import Solver

SIZES = (8, 2**12, 2**16, 2**18, 2**20, 2**22)  # bytes
SHAPE, CLASSES = (3, 32, 32), 10


class TimedSolver(Solver):
    """Notes the seconds of each step."""

    def _step(self, X, y):
        started = time.perf_counter()
        super()._step(X, y)
        self.steps.append(time.perf_counter() - started)


class TimedComm(MPIComm):
    """Notes the seconds and bytes of each sum."""

    def add(self, array):
        started = time.perf_counter()
        super().add(array)
        self.sums.append((time.perf_counter() - started, array.nbytes))


def train(network, batch, steps, comm):
    """Seconds of each of so many steps, behind a few that do not count."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((batch * (steps + 3), *SHAPE), dtype=np.float32)
    data = {
        "X_train": X,
        "y_train": rng.integers(CLASSES, size=len(X)),
        "X_val": X[:1],
        "y_val": np.zeros(1, int),
    }
    solver = TimedSolver(
        ConvNet(network, SHAPE, CLASSES, seed=0),
        data,
        update_rule="sgd_nesterov_momentum",
        optim_config={"learning_rate": 1e-3},
        batch_size=batch,
        num_epochs=1,
        num_train_samples=1,
        verbose=False,
        seed=0,
        comm=comm,
    )
    solver.steps = []
    solver.train()
    return solver.steps[3:]


def compute(network, batches, seconds):
    """(batch, median, spread) of the steps of a process by itself, one batch size after the other."""
    rows = []
    for batch in batches:
        (once,) = train(network, batch, 1, SerialComm())
        times = train(network, batch, max(5, min(200, int(seconds / once))), SerialComm())
        middle = statistics.median(times)
        rows.append((batch, middle, 1.4826 * statistics.median(abs(t - middle) for t in times)))
    return rows


def allreduce(comm, repeats=60):
    """(bytes, median seconds) of the sum of arrays of several sizes."""
    rows = []
    for size in SIZES:
        array = np.zeros(size // 4, np.float32)
        times = []
        for _ in range(repeats):
            comm.bcast(None)
            started = time.perf_counter()
            comm.add(array)
            times.append(time.perf_counter() - started)
        rows.append((size, statistics.median(times)))
    return rows


def main(options):
    """Measure in one process, or as one rank of several."""
    from mpi4py import MPI

    cnnlib.set_num_threads(options["threads"])
    comm = TimedComm(MPI.COMM_WORLD, threads=options["threads"])
    comm.sums = []
    result = {"compute": compute(options["network"], options["batches"], options["seconds"])}
    if comm.size > 1:
        result["allreduce"] = allreduce(comm)
        comm.sums = []
        times = train(options["network"], options["batch"], options["steps"], comm)
        sums = comm.sums[-len(times) - 2 : -2]  # the last two are the accuracies'
        result["step"] = statistics.median(times)
        result["in_allreduce"] = statistics.median(seconds for seconds, _ in sums)
        result["bytes"] = sums[0][1]
    if comm.rank == 0:
        print("RESULT " + json.dumps(result), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
