"""The worker of a Solver, which computes gradients and measures: in one process, or on the ranks of MPI."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnlib._params import type_name
from cnnlib._params.random import drawing_from
from cnnlib.distributed import sharding
from cnnlib.distributed.batchnorm import refuse_without_graph, synchronized
from cnnlib.distributed.communicator import MPIComm, SerialComm
from cnnlib.distributed.failures import OutOfStepError, on_all_ranks
from cnnlib.distributed.start_checks import checksum, model_facts, refuse_different, version_facts
from cnnlib.models.losses import Loss, PartOfLoss, WeightedLosses
from cnnlib.models.state import restore_statistics, statistics
from cnnlib.solver.evaluation import look_at, takes_loss, values_of
from cnnlib.solver.interrupts import Interrupts
from cnnlib.solver.metrics import Metric
from cnnlib.solver.options import Options
from cnnlib.solver.sources import Batches
from cnnlib.solver.update import checked_gradients


def build_worker(
    model: Any,
    loss: Loss | WeightedLosses | None,
    options: Options,
    random: Any,
    sizes: tuple[int, int],
    interrupts: Interrupts,
) -> Worker:
    """Make the worker of a training with these options, whose Solver draws from `random`.

    `loss` is what a model that takes one is trained with. `sizes` are the samples in the smallest and the
    largest minibatch.
    """
    stream = None if options.seed is None else random
    loss = loss if takes_loss(model) else None
    norms = options.batchnorm_statistics
    if norms == "global":
        refuse_without_graph(model)
    if options.comm.size == 1 and options.micro_batches is None:
        return Worker(model, loss, stream, interrupts)
    comm, parts = options.comm, options.micro_batches
    return DataParallel(model, loss, stream, interrupts, random, comm, parts, norms, sizes)


@dataclass
class Worker:
    """Computes by itself.

    `loss` is what the model is to be trained with, `stream` what it draws from; None: its own affair. The
    `allowed` blocks of `interrupts` surround what the model computes. `main` says whether this process shows
    progress and writes files, `size` how many ranks there are.
    """

    model: Any
    loss: Loss | WeightedLosses | None
    stream: Any
    interrupts: Interrupts

    main, size = True, 1

    def _loss(self, X: Any, y: Any, part: PartOfLoss | None = None) -> tuple[float, Mapping[str, Any]]:
        loss = part or self.loss
        given = {} if loss is None else {"loss": loss}
        result = self.model.loss(X, y, **given)
        if not (isinstance(result, (tuple, list)) and len(result) == 2):
            raise TypeError(
                f"Solver: the model's loss(X, y) must return (loss, grads), got {type_name(result)}"
            )
        return result[0], result[1]

    # The ranks together -----------------------------------------------------------------------------------

    def ending_all(self) -> contextlib.AbstractContextManager[Any]:
        """Return a context in which an exception ends the whole job, unless all ranks raise it."""
        return contextlib.nullcontext()

    def of_main(self, value: Any) -> Any:
        """Return the main process's `value`."""
        return value

    def on_main(self, function: Callable[[], Any]) -> Any:
        """Call ``function()`` in the main process alone; every rank gets its result, or raises its error."""
        return function()

    def first(self, value: Any) -> Any:
        """Return the `value` of the first rank where it is not None; None if there is no such rank."""
        return value

    def on_all(self, error: Exception) -> Exception:
        """Mark an exception as one that every rank raises at the same place; returns it."""
        return error

    def refuse_different(self, facts: Callable[[], Mapping[str, Any]]) -> None:
        """Refuse ranks of which these facts differ; they are asked for where there are several ranks."""

    def refuse_other_parameters(self, epoch: int) -> None:
        """Refuse to go on when the ranks' parameters have come to differ."""

    def batch_norms(self) -> contextlib.AbstractContextManager[Any]:
        """Return a context in which the model's batch norms take the statistics that the run is to have."""
        return contextlib.nullcontext()

    # An iteration -----------------------------------------------------------------------------------------

    def share(self, batch: Any) -> Any:
        """Return the part of a minibatch's indices that this process is to read."""
        return batch

    def generator(self, seed: Sequence[int], total: int) -> np.random.Generator:
        """Return the augmentation's random numbers for its share of a minibatch of `total` samples."""
        return np.random.default_rng(seed)

    def gradients(self, X: Any, y: Any, total: int, iteration: int) -> tuple[float, Mapping[str, Any]]:
        """Loss and gradients of a minibatch of `total` samples, of which X and y are this process's share.

        The gradients are valid until the next call.
        """
        with self._drawing(), self.interrupts.allowed():
            return self._loss(X, y)

    # The end of an epoch ----------------------------------------------------------------------------------

    def measure(
        self, metrics: Sequence[Metric], batches: Batches, scorer: Any, iteration: int
    ) -> dict[str, float]:
        """Return the metrics, by their names, of batches of images and targets; the ranks share the work.

        ``scorer(tta, around)`` makes a :class:`BatchScorer`.
        """
        return self.measure_alone(metrics, batches, scorer)

    def measure_alone(
        self, metrics: Sequence[Metric], batches: Batches, scorer: Any, tta: str | None = None
    ) -> dict[str, float]:
        """Like `measure`, on this rank alone."""
        scores = scorer(tta, self._scoring)
        return values_of(metrics, (look_at(scores, metrics, X, y) for X, y in batches))

    def _drawing(self) -> contextlib.AbstractContextManager[Any]:
        """Let the model draw from the Solver's own stream, where that has one."""
        return contextlib.nullcontext() if self.stream is None else drawing_from(self.stream, self.model)

    @contextlib.contextmanager
    def _scoring(self):
        with self._drawing(), self.interrupts.allowed():
            yield


_LOSS = ("loss",)  # among the names of parameters, which are strings, and of statistics, which are pairs


@dataclass
class DataParallel(Worker):
    """Splits the work among the ranks of a communicator, and minibatches into micro-batches.

    `random` is the Solver's stream: the streams of the pieces follow from what it would draw next. `sizes`
    are the samples in the smallest and the largest minibatch. ValueError if a rank would have nothing to do.
    """

    random: Any
    comm: SerialComm | MPIComm
    micro_batches: int | None
    batchnorm_statistics: str
    sizes: tuple[int, int]

    def __post_init__(self) -> None:
        self.main, self.size = self.comm.rank == 0, self.comm.size
        self._buffer: sharding.FlatBuffer | None = None  # made when the first gradients are known
        smallest, largest = self.sizes
        pieces = smallest if self.micro_batches is None else min(smallest, self.micro_batches)
        self._most_pieces = 1 if self.micro_batches is None else min(largest, self.micro_batches)
        if pieces < self.comm.size:
            what = "samples in a minibatch" if pieces == smallest else "micro_batches"
            raise ValueError(f"Solver: {pieces} {what} are too few for {self.comm.size} ranks")

    # The ranks together -----------------------------------------------------------------------------------

    def ending_all(self) -> contextlib.AbstractContextManager[Any]:
        return self.comm.guard()

    def of_main(self, value: Any) -> Any:
        return self.comm.bcast(value)

    def on_main(self, function: Callable[[], Any]) -> Any:
        return self.comm.from_root(function)

    def first(self, value: Any) -> Any:
        return next((one for one in self.comm.allgather(value) if one is not None), None)

    def on_all(self, error: Exception) -> Exception:
        return on_all_ranks(error)

    def refuse_different(self, facts: Callable[[], Mapping[str, Any]]) -> None:
        """Refuse ranks with another model, version, or other facts; OutOfStepError on all of them."""
        if self.comm.size > 1:
            refuse_different("Solver", self.comm, version_facts() | model_facts(self.model) | dict(facts()))

    def batch_norms(self) -> contextlib.AbstractContextManager[Any]:
        if self.batchnorm_statistics == "global" and self.comm.size > 1:
            return synchronized(self.model, self.comm)
        return contextlib.nullcontext()

    # An iteration -----------------------------------------------------------------------------------------

    def share(self, batch: Any) -> Any:
        return batch[sharding.rows_of(self._pieces(len(batch)))]

    def generator(self, seed: Sequence[int], total: int) -> np.random.Generator:
        if self.comm.size == 1:
            return np.random.default_rng(seed)
        return sharding.ShareOfDraws(seed, total, sharding.rows_of(self._pieces(total)))

    def gradients(self, X: Any, y: Any, total: int, iteration: int) -> tuple[float, Mapping[str, Any]]:
        """Gradients of all pieces together, each weighted by its samples or by what a loss averages over.

        The pieces' running statistics are averaged by the samples, and travel in the same message.
        """
        model, frozen, pieces = self.model, getattr(self.model, "frozen", ()), self._pieces(total)
        seed, before = self._seed(iteration, "train"), statistics(model)
        rows = [0] if self.micro_batches is None else [number for number, _ in pieces]
        start = pieces[0][1].start
        parts = [slice(run.start - start, run.stop - start) for _, run in pieces]
        losses = self._losses([y[part] for part in parts], total)
        for row, (number, run), part, of_part in zip(rows, pieces, parts, losses, strict=True):
            restore_statistics(model, before)
            with sharding.own_stream(model, [*seed, number]), self.interrupts.allowed():
                loss, grads = self._loss(X[part], y[part], of_part)
            values = {_LOSS: loss, **_flat(statistics(model))}
            values |= checked_gradients(model.params, grads, frozen)
            share = (run.stop - run.start) / total
            buffer = self._buffer_for(values)
            if self.comm.size == 1 and number > 0:
                buffer.add(values, share)
            else:
                buffer.put(row, values, share)
        joined = self._joined(total)
        restore_statistics(model, _averaged(statistics(model), joined))
        return float(joined[_LOSS]), {name: joined[name] for name in model.params if name not in frozen}

    def _losses(self, targets: Sequence[Any], total: int) -> list[PartOfLoss | None]:
        """For each piece its loss, where labels do not count alike; None: the usual one.

        Its mean over a piece is to count by what is averaged there, as in that of the whole minibatch.
        """
        loss: Any = getattr(self.model, "criterion", None) or self.loss
        by_output = loss.losses if isinstance(loss, WeightedLosses) else {"": loss}
        alike = all(not isinstance(each, Loss) or each.counts_alike for each in by_output.values())
        if alike or not takes_loss(self.model):
            return [None] * len(targets)
        counts = [[each.weight(y[name] if name else y) for name, each in by_output.items()] for y in targets]
        every = np.array([row for rows in self.comm.allgather(counts) for row in rows], np.float64)
        share = np.array(counts) / np.maximum(every.sum(axis=0), np.finfo(np.float64).tiny)
        return [PartOfLoss(loss, factors * total / len(y)) for y, factors in zip(targets, share, strict=True)]

    def _seed(self, iteration: int, purpose: str) -> list[int]:
        """Return what the model's random numbers depend on beside the piece: their stream, and the time."""
        own = getattr(self.model, "rng", None)
        number = sharding.next_number(self.random if own is None else own)
        return [number, iteration, ("train", "test").index(purpose)]

    def _pieces(self, total: int) -> list[sharding.Piece]:
        return sharding.pieces_of(total, self.comm.rank, self.comm.size, self.micro_batches)

    def _buffer_for(self, values: Mapping[Any, Any]) -> sharding.FlatBuffer:
        if self._buffer is None:
            dtype = np.result_type(np.float32, *(value.dtype for value in self.model.params.values()))
            if dtype not in (np.float32, np.float64):
                raise TypeError(f"Solver: parameters of {dtype} cannot be trained on several ranks")
            shapes = {name: np.shape(value) for name, value in values.items()}
            rows = min(self._most_pieces, 2) if self.comm.size == 1 else self._most_pieces
            self._buffer = sharding.FlatBuffer(shapes, dtype, rows)
        return self._buffer

    def _joined(self, total: int) -> Mapping[Any, np.ndarray]:
        """The sum over all pieces of the minibatch."""
        assert self._buffer is not None  # each rank has a piece
        if self.comm.size == 1:
            return self._buffer.views[0]  # added up piece by piece
        if self.micro_batches is None:
            self.comm.add(self._buffer.data)
            return self._buffer.views[0]
        size = self.comm.size
        ranks = (sharding.pieces_of(total, rank, size, self.micro_batches) for rank in range(size))
        counts = [len(pieces) for pieces in ranks]
        self.comm.gather_rows(self._buffer.data[: sum(counts)], counts)
        return self._buffer.add_up(sum(counts))

    # The end of an epoch ----------------------------------------------------------------------------------

    def measure(
        self, metrics: Sequence[Metric], batches: Batches, scorer: Any, iteration: int
    ) -> dict[str, float]:
        """The metrics as one process would have them; each rank looks at every size-th batch.

        What the batches gave is joined in their order on every rank, so that the metrics are the same bits at
        any number of ranks.
        """
        scores = scorer(None, self.interrupts.allowed)
        seed, own = self._seed(iteration, "test"), []
        for number in range(self.comm.rank, len(batches), self.comm.size):
            X, y = batches[number]
            with sharding.own_stream(self.model, [*seed, number]):
                own.append(look_at(scores, metrics, X, y))
        ranks = itertools.cycle(map(iter, self.comm.allgather(own)))
        return values_of(metrics, (next(results) for results, _ in zip(ranks, range(len(batches)))))

    def refuse_other_parameters(self, epoch: int) -> None:
        """OutOfStepError on all ranks where the parameters have come to differ."""
        if self.comm.size == 1:
            return
        sums = self.comm.allgather(checksum(self.model.params.values()))
        rank = next((rank for rank, value in enumerate(sums) if value != sums[0]), None)
        if rank is not None:
            reason = f"the parameters of rank {rank} have come to differ from rank 0's in epoch {epoch}"
            advice = "an update rule or a callback must do the same on all ranks"
            raise on_all_ranks(OutOfStepError(f"Solver: {reason}; {advice}"))


def _flat(statistics):
    """The floating-point arrays among the running statistics, under pairs of names."""
    return {
        (key, name): value
        for key, arrays in statistics.items()
        for name, value in arrays.items()
        if value.dtype.kind == "f"
    }


def _averaged(statistics, joined):
    """Running statistics with the joined values in them, in the dtypes that the model has."""
    return {
        key: {name: joined.get((key, name), value).astype(value.dtype) for name, value in arrays.items()}
        for key, arrays in statistics.items()
    }
