"""The training loop: iterations, and what follows each epoch."""

from __future__ import annotations

import contextlib
import functools
import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from cnnlib._params import is_flag
from cnnlib._params.random import put_back, set_random_state
from cnnlib._system.ahead import in_order
from cnnlib._typing import Trainable
from cnnlib.augment import Samples, augmented
from cnnlib.data.shards import ShardedArray, named_arrays
from cnnlib.distributed.batchnorm import refuse_without_graph
from cnnlib.distributed.failures import on_all_ranks
from cnnlib.distributed.start_checks import data_facts
from cnnlib.inference.scoring import BatchScorer, scorer
from cnnlib.models.graph_model import GraphModel
from cnnlib.models.state import restore, snapshot, undone_on_error
from cnnlib.solver.evaluation import batches_of, check_batch_size, takes_loss
from cnnlib.solver.interrupts import Interrupts
from cnnlib.solver.minibatches import subsample
from cnnlib.solver.progress import Progress
from cnnlib.solver.resuming import ResumableRun
from cnnlib.solver.run_file import save_run
from cnnlib.solver.update import (
    checked_gradients,
    fault_of_data,
    fault_of_params,
    fault_of_rows,
    holding_averages,
)
from cnnlib.solver.worker import DataParallel, Worker

_EACH_RANKS_OWN = ("checkpoint_name", "prefetch", "print_every", "verbose")


class TrainingLoop(ResumableRun):
    """Trains a model on data with checked `settings`, one for each option."""

    def __init__(self, model: Trainable, data: Mapping[str, Any], **settings: Any) -> None:
        super().__init__(model, data, **settings)
        steps, total = (self.lookahead or {}).get("steps", 0), self.num_epochs * self.iterations_per_epoch
        if steps > total > 0:  # the untrained model would stay
            raise ValueError(f"Solver: lookahead has {steps} steps, the run has but {total} iterations")
        self._interrupts = Interrupts()
        self._worker = self._new_worker()
        self._worker.refuse_different(self._facts())

    def _new_worker(self) -> Worker:
        stream = None if self.seed is None else self._random
        loss = self.loss if takes_loss(self.model) else None
        if self.batchnorm_statistics == "global":
            refuse_without_graph(self.model)
        shared = self.model, loss, stream, self._interrupts
        if self.comm.size == 1 and self.micro_batches is None:
            return Worker(*shared)
        sizes = self.batch_size, self.batch_size
        if self.sampling == "epoch":
            count = self.iterations_per_epoch
            sizes = len(self.X_train) // count, -(-len(self.X_train) // count)
        norms = self.batchnorm_statistics
        return DataParallel(*shared, self._random, self.comm, self.micro_batches, norms, sizes)

    def _facts(self) -> dict[str, Any]:
        """Collect what has to be the same on all ranks beside the model."""
        if self.comm.size == 1:
            return {}
        settings = self._settings().items()
        facts = {name: repr(value) for name, value in settings if name not in _EACH_RANKS_OWN}
        names = ("X_train", "y_train", "X_val", "y_val")
        arrays = [pair for name in names for pair in named_arrays(name, getattr(self, name))]
        return facts | data_facts(dict(arrays))

    @property
    def iterations_per_epoch(self) -> int:
        samples = len(self.X_train)
        if self.sampling == "epoch":  # no sample is missed
            return -(-samples // self.batch_size)
        return max(samples // self.batch_size, 1)

    # The run ----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        record = self._record
        if self._resumed_random_state is not None:
            set_random_state(self._random, self._resumed_random_state)
            self._resumed_random_state = None
        if self._last is not None:
            restore(self.model, self._last)
            self._last = None
        total = self.num_epochs * self.iterations_per_epoch
        verbose = self.verbose and self._worker.main
        with Progress(total, len(self.loss_history), self.print_every, verbose) as progress:
            if self.augment is not None and self._augment_seed is None:
                self._augment_seed = int(self._random.randint(2**31))
            if not record.begun:
                self._end_epoch(progress)
            if self.num_epochs > self._known_end and record.unimproved(self.early_stopping)[0]:
                record.patience_from = record.epoch
            self._known_end = self.num_epochs
            stopped = self.comm.bcast(self._stops_early(progress))
            while record.epoch < self.num_epochs and not stopped:
                stopped = self._train_epoch(progress) or self.comm.bcast(self._stops_early(progress))
        self._last = snapshot(self.model)
        restore(self.model, record.best)

    def _train_epoch(self, progress: Progress) -> bool:
        """An epoch, or what is left of it; return whether the training should end behind it."""
        if self._pending is None:
            self._pending = self._minibatches()[::-1]  # popped from the end
        losses = self.loss_history
        jobs = [
            functools.partial(self._minibatch, batch, len(losses) + i)
            for i, batch in enumerate(reversed(self._pending))
        ]
        arrays = [self.X_train, *(array for _, array in named_arrays("y_train", self.y_train))]
        mapped = any(isinstance(array, (np.memmap, ShardedArray)) for array in arrays)
        ahead = self.prefetch if self.augment is not None or mapped else 0
        minibatches = in_order(lambda job: job(), jobs, 1, ahead) if ahead else (job() for job in jobs)
        started = time.perf_counter()
        try:
            with contextlib.closing(minibatches):
                while self._pending:
                    with self._interrupts.allowed():
                        X, y = next(minibatches)
                    self._step(X, y)
                    self._pending.pop()
                    progress.iteration(len(losses), losses[-1])
        finally:
            self._seconds += time.perf_counter() - started
        self._end_epoch(progress)
        self._worker.refuse_other_parameters(self._record.epoch)
        self.comm.from_root(self._save)
        ends = None if self.on_epoch is None else self._call_on_epoch()
        return self.comm.bcast(is_flag(ends) and bool(ends))

    def _save(self) -> None:
        if self.checkpoint_name is not None:
            save_run(self.checkpoint_name, self._settings(), self.state())

    def _call_on_epoch(self) -> Any:
        """Call `on_epoch`, and put the random streams back behind it: the checkpoint was written before."""
        assert self.on_epoch is not None
        with put_back(self._streams()), self._interrupts.allowed():
            return self.on_epoch(self)

    def _streams(self) -> list[Any]:
        """What the training draws from."""
        return [self._random, getattr(self.model, "rng", None)]

    # An iteration -----------------------------------------------------------------------------------------

    def _minibatches(self) -> list[Any]:
        """Indices of an epoch's minibatches.

        'epoch': a shuffled pass over all samples in minibatches whose sizes differ by one at most, so that
        none is much smaller than `batch_size` (a last batch of one sample would upset batch norm).
        'replacement': each minibatch draws `batch_size` samples independently, as the course does.
        """
        samples, count = len(self.X_train), self.iterations_per_epoch
        if self.sampling == "epoch":
            return np.array_split(self._random.permutation(samples), count)
        return list(self._random.choice(samples, size=(count, self.batch_size)))

    def _minibatch(self, batch: Any, iteration: int) -> tuple[Any, Any]:
        """Images and targets of this rank's share of a minibatch.

        Runs in the prefetching thread, so it changes no state.
        """
        rows = self._worker.share(batch)
        X, y = self.X_train[rows], self.y_train[rows]
        if self.preprocess is not None:
            X = self.preprocess(X)
        if self.augment is not None:
            shapes = X.shape, y.shape
            assert self._augment_seed is not None
            rng = self._worker.generator([self._augment_seed, iteration], len(batch))
            epoch = iteration // self.iterations_per_epoch
            X, y = augmented(self.augment, X, y, rng, Samples(rows, epoch, self._augment_seed))
            for what, array, shape in zip(("images", "targets"), (X, y), shapes, strict=True):
                if np.shape(array) != shape:
                    raise ValueError(f"Solver: augment made {what} of shape {np.shape(array)} from {shape}")
        return X, y

    def _step(self, X: Any, y: Any) -> None:
        """One iteration: the gradients of the newest minibatch, and an update of each parameter."""
        losses, model = self.loss_history, self.model
        assert self._pending is not None
        newest = self._pending[-1]
        draws = self.loss is not None or not isinstance(model, GraphModel) or model._draws()
        # Only the streams that are drawn from: their states take longer than a small step.
        with undone_on_error(model, self._streams() if draws else ()):
            loss, grads = self._worker.gradients(X, y, len(newest), len(losses))
            loss = float(loss)
            t = len(losses) + 1
            try:
                if not math.isfinite(loss):
                    raise FloatingPointError(f"the loss is {loss}")
                grads = checked_gradients(model.params, grads, self._frozen)
                self._updater.step(model.params, grads, (t - 1) / self.iterations_per_epoch, self.num_epochs)
            except FloatingPointError as error:
                # Loss and gradients are those of all ranks, so all are here; the images are each rank's own.
                arrays = [("X_train", self.X_train), *named_arrays("y_train", self.y_train)]
                fault = fault_of_data(X, arrays, self._worker.share(newest))
                advice = next((one for one in self.comm.allgather(fault) if one is not None), None)
                advice = advice or fault_of_params(model.params) or "a lower learning rate may help"
                message = f"iteration {t} (epoch {self._record.epoch + 1}): {error}; {advice}"
                raise on_all_ranks(FloatingPointError(message)) from None
        losses.append(loss)
        if self._averages is not None:
            self._averages.after_iteration(model, t, self.num_epochs * self.iterations_per_epoch)

    # The end of an epoch ----------------------------------------------------------------------------------

    def _end_epoch(self, progress: Progress) -> None:
        """Look at the model at the start of the training or the end of an epoch; keep the best."""
        record = self._record
        with undone_on_error(self.model, self._streams()), holding_averages(self._averages, self.model):
            scored = functools.partial(BatchScorer, scorer(self.model), self.preprocess)  # prepared once
            measured = functools.partial(self._measured, scored)
            train = measured(self._metrics, self.X_train, self.y_train, self.num_train_samples)
            values = {f"train_{name}": value for name, value in train.items()}
            values |= measured(self._val_metrics, self.X_val, self.y_val, self.num_val_samples)
            self._refuse_faulty_samples(values["val_loss"])
            better = self.keep == "last" or record.is_better(values)
            best = snapshot(self.model) if better else None
        if self._pending is not None:
            self._pending = None
            record.epoch += 1
            record.histories["epoch_seconds"].append(self._seconds)
            self._seconds = 0.0
            record.histories["learning_rate"].append(self._updater.end_epoch())
        record.add(values, best)
        progress.message(record.line(self.num_epochs))

    def _measured(
        self, scored: Any, metrics: Any, X: Any, y: Any, num_samples: int | None
    ) -> dict[str, float]:
        """Metrics of the samples, or of a random subset; the ranks share the work."""
        size = check_batch_size(X, self.batch_size)
        batches = batches_of(X, subsample(X, num_samples, self._random), size)
        return self._worker.measure(metrics, X, y, batches, scored, len(self.loss_history))

    def _refuse_faulty_samples(self, val_loss: float) -> None:
        """FloatingPointError where NaN among the validation samples is why their loss is NaN."""
        if math.isnan(val_loss) and self._loss_is_known:
            arrays = [("X_val", self.X_val), *named_arrays("y_val", self.y_val)]
            fault = fault_of_rows(arrays, range(len(self.X_val)))
            if fault is not None:
                raise on_all_ranks(FloatingPointError(f"the validation loss is {val_loss}; {fault}"))

    def _stops_early(self, progress: Progress) -> bool:
        """Whether `early_stopping` ends the training here, which `progress` then tells."""
        stops, improved = self._record.unimproved(self.early_stopping)
        if stops:
            assert self.early_stopping is not None
            text = self.early_stopping.message(improved, self._record.monitor)
            progress.message(f"(Epoch {self._record.epoch}) {text}")
        return stops

    # Before and after -----------------------------------------------------------------------------------

    def _save_interrupted(self) -> None:
        """Write a checkpoint from within an epoch, unless the newest one says as much."""
        begun = self._pending is not None and self._record.begun
        if begun and self._interrupts.clean and self.checkpoint_name is not None:
            save_run(self.checkpoint_name, self._settings(), self.state(), interrupted=True)

    def _start(self) -> None:
        """Give all ranks the state of rank 0: parameters, optimizer state, random streams, histories."""
        if self.comm.size == 1:
            return
        self._worker.refuse_different(self._facts())
        state = self.comm.bcast(self.state() if self._worker.main else None)
        if not self._worker.main:
            self.load_state(state)
