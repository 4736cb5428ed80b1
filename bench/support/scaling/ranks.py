"""The ranks' part of bench/scaling.py: timed training steps and Allreduces; rank 0 prints a line of JSON."""

from __future__ import annotations

import json
import statistics
import sys
import time

import numpy as np
from cnnlib.distributed import SerialComm
from cnnlib.models import ConvNet
from cnnlib.solver import Solver

from support.scaling.launch import report
from support.scaling.timed import TimedComm

SIZES = (8, 2**12, 2**16, 2**18, 2**20, 2**22)  # bytes
CALLS = 4
SHAPE, CLASSES = (3, 32, 32), 10


class TimedSolver(Solver):
    """Notes the seconds of each step."""

    def _step(self, X, y):
        started = time.perf_counter()
        super()._step(X, y)
        self.steps.append(time.perf_counter() - started)


class Training:
    """A training that goes on epoch by epoch; the first does not count.

    Attributes
    ----------
    times : list of float
        Seconds of the steps so far.
    """

    def __init__(self, network, batch, steps, comm):
        rng = np.random.default_rng(0)
        X = rng.standard_normal((batch * steps, *SHAPE), dtype=np.float32)
        y = rng.integers(CLASSES, size=len(X))
        self.batch = batch
        self.solver = TimedSolver(
            ConvNet(network, SHAPE, CLASSES, seed=0),
            {"X_train": X, "y_train": y, "X_val": X[:1], "y_val": y[:1]},
            update_rule="sgd_nesterov_momentum",
            optim_config={"learning_rate": 1e-3},
            batch_size=batch,
            num_epochs=0,
            num_train_samples=1,
            verbose=False,
            seed=0,
            comm=comm,
        )
        self.solver.steps = []
        self.go_on()
        self.times = self.solver.steps = []

    def go_on(self):
        """Another epoch."""
        self.solver.num_epochs += 1
        self.solver.train()

    def median(self):
        return statistics.median(self.times)

    def spread(self):
        """The standard deviation of the times, from their median deviation: stray ones do not count."""
        return 1.4826 * statistics.median(abs(seconds - self.median()) for seconds in self.times)


def allreduce(comm, gradients, repeats):
    """(bytes, seconds) of the sum of arrays of several sizes, that of the gradients among them.

    Calls follow each other, and their mean is taken: one rank may begin each of them earlier than the other
    by as much as a message is under way, so a single call's time says little. It is the median of such means.
    """
    rows = []
    for size in (*SIZES, gradients):
        array = np.zeros(size // 4, np.float32)
        comm.add(array)
        means = []
        for _ in range(repeats // CALLS):
            started = time.perf_counter()
            for _ in range(CALLS):
                comm.add(array)
            means.append((time.perf_counter() - started) / CALLS)
        rows.append((size, statistics.median(means)))
    return rows


def main(options):
    """Measure in one process, or as one rank of several; in rounds, so that all meet the same conditions."""
    from mpi4py import MPI

    comm = TimedComm(MPI.COMM_WORLD, threads=options["threads"])
    network, steps = options["network"], options["steps"]
    alone = [Training(network, batch, steps, SerialComm()) for batch in options["batches"]]
    together = [Training(network, options["batch"], steps, comm)] if comm.size > 1 else []
    comm.joined.clear()
    for _ in range(options["rounds"]):
        for training in (*alone, *together):
            comm.bcast(None)
            training.go_on()
    result = {"compute": [(training.batch, training.median(), training.spread()) for training in alone]}
    if together:
        result["step"] = together[0].median()
        result["in_allreduce"] = statistics.median(seconds for seconds, _ in comm.joined)
        result["bytes"] = comm.joined[0][1]
        result["allreduce"] = allreduce(comm, result["bytes"], options["repeats"])
    if comm.rank == 0:
        report(result)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
