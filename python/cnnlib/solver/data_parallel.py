"""The Solver's part in data-parallel training: shares of minibatches, and results joined over the ranks.

After every iteration all ranks hold the same parameters, running statistics, optimizer state and random
streams, bit for bit, so each of them could write the checkpoint.
"""

from __future__ import annotations

import itertools
from contextlib import nullcontext

import numpy as np

from cnnlib.distributed.batchnorm import refuse_without_graph, synchronized
from cnnlib.distributed.failures import OutOfStepError, on_all_ranks
from cnnlib.distributed.flat_buffer import FlatBuffer
from cnnlib.distributed.random_streams import next_number, own_stream
from cnnlib.distributed.sharding import ShareOfDraws, pieces_of, rows_of
from cnnlib.distributed.start_checks import (
    checksum,
    data_facts,
    model_facts,
    refuse_different,
    version_facts,
)
from cnnlib.inference.scoring import scorer
from cnnlib.solver.evaluation import accuracy_and_loss, batches_of, check_batch_size, look_at
from cnnlib.solver.minibatches import subsample
from cnnlib.solver.model_state import restore_statistics, statistics
from cnnlib.solver.options import OPTIONS
from cnnlib.solver.update import checked_gradients

__all__ = ["DataParallel"]

_EACH_RANKS_OWN = ("checkpoint_name", "prefetch", "print_every", "verbose")
_LOSS = ("loss",)  # among the names of parameters, which are strings, and of statistics, which are pairs


class DataParallel:
    """Splits a Solver's work among the ranks of its communicator.

    Attributes
    ----------
    plain : bool
        One process, whole minibatches: nothing is to be split or joined.
    main : bool
        Whether this rank shows progress and writes files.
    """

    def __init__(self, solver):
        self.comm, self.micro_batches = solver.comm, solver.micro_batches
        self.plain = self.comm.size == 1 and self.micro_batches is None
        self.main = self.comm.rank == 0
        self._global_norms = solver.batchnorm_statistics == "global" and self.comm.size > 1
        self._buffer = None  # made when the first gradients are known
        if solver.batchnorm_statistics == "global":
            if self.micro_batches is not None:
                raise ValueError("Solver: micro_batches and batchnorm_statistics='global' exclude each other")
            refuse_without_graph(solver.model)
        self._check_sizes(solver)
        self.check_in_step(solver)

    def _check_sizes(self, solver):
        """Every rank needs something to do in every minibatch."""
        smallest = largest = solver.batch_size
        if solver.sampling == "epoch":
            smallest = len(solver.X_train) // solver.iterations_per_epoch
            largest = -(-len(solver.X_train) // solver.iterations_per_epoch)
        self._most_pieces = 1 if self.micro_batches is None else min(largest, self.micro_batches)
        pieces = smallest if self.micro_batches is None else min(smallest, self.micro_batches)
        if pieces < self.comm.size:
            what = "samples in a minibatch" if pieces == smallest else "micro_batches"
            raise ValueError(f"Solver: {pieces} {what} are too few for {self.comm.size} ranks")

    # The start -------------------------------------------------------------------------------------------

    def check_in_step(self, solver):
        """Refuse ranks with another model, data, options or version; OutOfStepError on all of them."""
        if self.comm.size == 1:
            return
        facts = version_facts() | model_facts(solver.model)
        for name, option in OPTIONS.items():
            if option.saved is not None and name not in _EACH_RANKS_OWN:
                facts[name] = repr(option.saved(getattr(solver, name)))
        names = ("X_train", "y_train", "X_val", "y_val")
        facts |= data_facts({name: getattr(solver, name) for name in names})
        refuse_different("Solver", self.comm, facts)

    def start(self, solver):
        """Let all ranks stand where rank 0 stands: parameters, optimizer state, random streams, histories."""
        if self.comm.size == 1:
            return
        self.check_in_step(solver)
        state = self.comm.bcast(solver.state() if self.main else None)
        if not self.main:
            solver.load_state(state)

    def batch_norms(self, model):
        """A context in which the model's batch norms take the statistics that the run is to have."""
        return synchronized(model, self.comm) if self._global_norms else nullcontext()

    # An iteration ----------------------------------------------------------------------------------------

    def share(self, batch):
        """The part of a minibatch's indices that this rank is to read."""
        return batch if self.plain else batch[rows_of(self._pieces(len(batch)))]

    def generator(self, seed, total):
        """The augmentation's random numbers for this rank's share of a minibatch of `total` samples."""
        if self.comm.size == 1:
            return np.random.default_rng(seed)
        return ShareOfDraws(seed, total, rows_of(self._pieces(total)))

    def gradients(self, solver, X, y, total):
        """Loss and gradients of a minibatch of `total` samples, of which X and y are this rank's share.

        Each piece counts by its number of samples. The pieces' running statistics are averaged in the same
        way, and travel in the same message. The gradients are valid until the next call.
        """
        model, frozen, pieces = solver.model, getattr(solver.model, "frozen", ()), self._pieces(total)
        seed, before = _seed(solver, "train"), statistics(model)
        rows = [0] if self.micro_batches is None else [number for number, _ in pieces]
        start = pieces[0][1].start
        for row, (number, run) in zip(rows, pieces, strict=True):
            restore_statistics(model, before)
            part = slice(run.start - start, run.stop - start)
            with own_stream(model, [*seed, number]):
                loss, grads = model.loss(X[part], y[part])
            values = {_LOSS: loss, **_flat(statistics(model))}
            values |= checked_gradients(model.params, grads, frozen)
            share = (run.stop - run.start) / total
            if self.comm.size == 1 and number > 0:
                self._buffer.add(values, share)
            else:
                self._buffer_for(model, values).put(row, values, share)
        joined = self._joined(total)
        restore_statistics(model, _averaged(statistics(model), joined))
        return float(joined[_LOSS]), {name: joined[name] for name in model.params if name not in frozen}

    def _pieces(self, total):
        return pieces_of(total, self.comm.rank, self.comm.size, self.micro_batches)

    def _buffer_for(self, model, values):
        if self._buffer is None:
            dtype = np.result_type(np.float32, *(value.dtype for value in model.params.values()))
            if dtype not in (np.float32, np.float64):
                raise TypeError(f"Solver: parameters of {dtype} cannot be trained on several ranks")
            shapes = {name: np.shape(value) for name, value in values.items()}
            rows = min(self._most_pieces, 2) if self.comm.size == 1 else self._most_pieces
            self._buffer = FlatBuffer(shapes, dtype, rows)
        return self._buffer

    def _joined(self, total):
        """The sum over all pieces of the minibatch."""
        if self.comm.size == 1:
            return self._buffer.views[0]  # added up piece by piece
        if self.micro_batches is None:
            self.comm.add(self._buffer.data)
            return self._buffer.views[0]
        ranks = (pieces_of(total, rank, self.comm.size, self.micro_batches) for rank in range(self.comm.size))
        counts = [len(pieces) for pieces in ranks]
        self.comm.gather_rows(self._buffer.data[: sum(counts)], counts)
        return self._buffer.add_up(sum(counts))

    # The end of an epoch ---------------------------------------------------------------------------------

    def evaluate(self, solver, X, y, num_samples, stream):
        """Accuracy and loss, as of one process; each rank looks at every size-th batch.

        The batches' sums are added up in their order on every rank, so that the loss is the same bits at any
        number of ranks.
        """
        batches = batches_of(X, subsample(X, num_samples, stream), check_batch_size(X, solver.batch_size))
        seed = _seed(solver, "test")
        scores = scorer(solver.model)

        def scores_of(images):
            return scores(images if solver.preprocess is None else solver.preprocess(images))

        own = []
        for number in range(self.comm.rank, len(batches), self.comm.size):
            with own_stream(solver.model, [*seed, number]):
                own.append(look_at(scores_of, X[batches[number]], y[batches[number]]))
        found = self.comm.allgather(own)
        ranks = itertools.cycle(map(iter, found))
        return accuracy_and_loss(next(results) for results, _ in zip(ranks, batches))

    def agree(self, stop):
        """Rank 0's decision."""
        return self.comm.bcast(stop)

    def first_known(self, value):
        """The `value` of the first rank whose is not None; None if there is none."""
        return next((value for value in self.comm.allgather(value) if value is not None), None)

    def check_parameters(self, solver):
        """Refuse to go on when the ranks' parameters have come to differ."""
        if self.comm.size == 1:
            return
        sums = self.comm.allgather(checksum(solver.model.params.values()))
        rank = next((rank for rank, value in enumerate(sums) if value != sums[0]), None)
        if rank is not None:
            raise on_all_ranks(
                OutOfStepError(
                    f"Solver: the parameters of rank {rank} have come to differ from rank 0's in epoch "
                    f"{solver.epoch}; an update rule or a callback must do the same on all ranks"
                )
            )


def _seed(solver, purpose):
    """What the model's random numbers depend on beside the piece: the stream they come from, and the time."""
    own = getattr(solver.model, "rng", None)
    number = next_number(solver._random if own is None else own)
    return [number, len(solver.loss_history), ("train", "test").index(purpose)]


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
