"""The ranks' part of bench/parity.py: trainings whose losses do not depend on the number of ranks."""

from __future__ import annotations

import json
import statistics
import sys

import numpy as np
from cnnlib.data import load_digits
from cnnlib.models import ConvNet
from cnnlib.solver import Solver

from support.scaling.launch import report
from support.scaling.timed import TimedComm

# Name of a training: dtype, and the Solver's settings. The first is the one that the picture shows.
TRAININGS = {
    "float32, global statistics": (np.float32, {"batchnorm_statistics": "global"}),
    "float64, global statistics": (np.float64, {"batchnorm_statistics": "global"}),
    "float32, local statistics": (np.float32, {}),
    "float32, micro_batches=4": (np.float32, {"micro_batches": 4}),
}


class StepSolver(Solver):
    """Notes how many messages each step has sent."""

    def _step(self, X, y):
        self.comm.joined.clear()
        super()._step(X, y)
        self.messages.append(list(self.comm.joined))


def train(name, options, comm):
    """One of the trainings: its losses, accuracies, parameters and messages."""
    dtype, settings = TRAININGS[name]
    solver = StepSolver(
        ConvNet(options["network"], (1, 8, 8), 10, seed=0, reg=1e-4, dtype=dtype),
        load_digits(),
        update_rule="sgd_nesterov_momentum",
        optim_config={"learning_rate": 0.02},
        batch_size=options["batch"],
        num_epochs=options["epochs"],
        num_train_samples=1,
        seed=0,
        verbose=False,
        comm=comm,
        **settings,
    )
    solver.messages = []
    solver.train()
    sent = [(sum(s for s, _ in step), sum(b for _, b in step), len(step)) for step in solver.messages]
    seconds, size, count = zip(*sent, strict=True)
    return {
        "losses": solver.loss_history,
        "accuracy": solver.val_acc_history[-1],
        "params": np.concatenate([value.ravel() for value in solver.last_params.values()]).tolist(),
        "seconds": statistics.median(seconds),
        "bytes": statistics.median(size),
        "messages": statistics.median(count),
    }


def main(options):
    """Train every case; rank 0 reports."""
    from mpi4py import MPI

    comm = TimedComm(MPI.COMM_WORLD, threads=1)
    results = {name: train(name, options, comm) for name in TRAININGS}
    if comm.rank == 0:
        report(results)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
