"""``cnnlib train --log``: what happened in a run, iteration by iteration, for other programs to read."""

import csv
import io
import json
import math

import numpy as np

from cnnlib._system.packages import required
from cnnlib.solver.histories import OF_EPOCHS, measured

LOG_FILES = {"csv": "log.csv", "jsonl": "log.jsonl"}
_EVENTS = "tensorboard"  # the folder
_PATTERNS = {**LOG_FILES, "tensorboard": f"{_EVENTS}/events.out.tfevents.*"}
LOG_KINDS = tuple(_PATTERNS)


def log_columns(solver):
    """Name what is logged: the histories by their names."""
    return ("epoch", "iteration", *solver.histories)


def epoch_row(solver, epoch):
    """Collect what is known when an epoch has ended, by name; epoch 0 is the untrained model."""
    row = {"epoch": epoch, "iteration": epoch * solver.iterations_per_epoch}
    row |= {name: solver.histories[name][epoch] for name in measured(solver.histories)}
    if epoch > 0:
        row |= {name: solver.histories[name][epoch - 1] for name in OF_EPOCHS}
    return row


def history(solver):
    """Yield the rows of history.csv: a heading, and one an epoch of a Solver, with the mean of its losses."""
    steps, columns = solver.iterations_per_epoch, log_columns(solver)
    yield [*columns, "samples_per_second"]
    for k in range(1, solver.epoch + 1):
        row = epoch_row(solver, k) | {"loss": np.mean(solver.loss_history[(k - 1) * steps : k * steps])}
        values = (*(row[name] for name in columns), len(solver.X_train) / max(row["epoch_seconds"], 1e-9))
        yield [f"{value:.6g}" for value in values]


class RunLog:
    """Brings a run's logs, of these `kinds` and those that its folder has, up to date after each epoch."""

    def __init__(self, run, kinds):
        self._run = run
        self._kinds = {*kinds, *(kind for kind in LOG_KINDS if any(_files(run.folder, kind)))}
        self._writer, self._written = None, -1  # the last epoch in TensorBoard's files

    def start(self, epoch):
        """The run begins, or goes on, after `epoch` epochs."""
        if any(_files(self._run.folder, "tensorboard")):
            self._written = epoch

    def after_epoch(self, solver):
        """Write what is new."""
        rows = list(_rows(solver))
        if "csv" in self._kinds:
            text = io.StringIO()
            writer = csv.DictWriter(text, log_columns(solver), lineterminator="\n")
            writer.writeheader()
            writer.writerows({name: _short(value) for name, value in row.items()} for row in rows)
            self._run.write_file(LOG_FILES["csv"], text.getvalue())
        if "jsonl" in self._kinds:
            lines = (json.dumps({name: _or_null(value) for name, value in row.items()}) for row in rows)
            self._run.write_file(LOG_FILES["jsonl"], "".join(f"{line}\n" for line in lines))
        if "tensorboard" in self._kinds:
            self._write_events(solver, rows)

    def close(self):
        """The run has come to its end."""
        if self._writer is not None:
            self._writer.close()

    def _write_events(self, solver, rows):
        if self._writer is None:
            # An older file's word on later iterations, which the run takes again, does not count.
            purge = None if self._written < 0 else self._written * solver.iterations_per_epoch + 1
            folder = self._run.folder / _EVENTS
            # A name of their own even for runs that begin in one second.
            number = f".{len(list(folder.glob('*')))}"
            self._writer = _summary_writer()(str(folder), purge_step=purge, filename_suffix=number)
        for row in rows:
            if row["epoch"] > self._written:
                for name, value in row.items():
                    if name not in ("epoch", "iteration", "epoch_seconds"):
                        self._writer.add_scalar(name, value, row["iteration"])
        self._writer.flush()
        self._written = solver.epoch


def check_kinds(kinds):
    """ImportError if TensorBoard's files are asked for and tensorboardX, which writes them, is missing."""
    if "tensorboard" in kinds:
        _summary_writer()


def remove_event_files(folder):
    """Remove TensorBoard's files in a run's folder."""
    for path in _files(folder, "tensorboard"):
        path.unlink()


def _files(folder, kind):
    """The files of a kind of log in a run's folder."""
    return folder.glob(_PATTERNS[kind])


def _rows(solver):
    """A dict for each iteration, and one for each epoch behind its last; what is unknown is left out."""
    steps = solver.iterations_per_epoch
    for epoch in range(solver.epoch + 1):
        for iteration in range((epoch - 1) * steps, epoch * steps):
            if iteration >= 0:
                yield {"epoch": epoch, "iteration": iteration + 1, "loss": solver.loss_history[iteration]}
        yield epoch_row(solver, epoch)


def _short(value):
    return value if isinstance(value, int) else f"{value:.9g}"


def _or_null(value):
    """JSON knows no NaN and no infinity."""
    return value if math.isfinite(value) else None


def _summary_writer():
    return required("tensorboardX", "--log tensorboard", "tensorboardX", "tensorboard").SummaryWriter
