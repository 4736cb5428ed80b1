"""Sources of a Solver's samples: arrays, or batches of the user's own.

A :class:`Source` hands out the minibatches of an epoch. The Solver asks it for four things:

- ``plan(random)``: a ticket for each minibatch of the next epoch, an array of integers. A checkpoint holds
  the tickets that are left, so an interrupted epoch goes on where it stood.
- ``read(ticket, epoch, share)``: the :class:`Minibatch` of a ticket. `share` picks this rank's rows. Tickets
  are read in the order of the plan. A thread reads ahead of the training where reading takes time (`waits`).
  The order, and with it every bit, is the same with and without that thread.
- ``to_measure(num_samples, random, size)``: the batches that are measured, a :class:`Batches`.
- `example`: images and targets to look at before the training; loss, metrics and checks follow from them.

There are three kinds:

- :class:`ArraySource` has arrays, in memory or not. A ticket holds the indices of a minibatch's samples.
- :class:`BatchSequence` has an object with ``len()`` and ``[number]``. A ticket is the number of a batch;
  each epoch has the batches in a new order.
- :class:`BatchStream` has an iterable, or a function that returns one. A ticket is a place in the stream,
  whose order is its own.

Exact resumption needs a source that can seek. The first two can. A stream can if it is a function of the
epoch, ``batches(epoch)``: such a function promises the same batches for the same epoch, so those that the run
has seen are read again and dropped. Any other stream has `cannot_seek`, which says why not.

With several ranks every rank reads the same batches, and takes its share of their rows. Of arrays it reads
its share alone.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from cnnlib._params import type_name
from cnnlib._params.arrays import as_array
from cnnlib.data.rows import Rows, as_rows, waits
from cnnlib.data.targets import Targets, named_arrays
from cnnlib.distributed.start_checks import data_facts
from cnnlib.solver.data import check_samples, checked_split

Ticket: TypeAlias = np.ndarray
Named: TypeAlias = Sequence[tuple[str, Any]]  # arrays by what messages call them, the images first
Share: TypeAlias = Callable[[Any], Any]
_UNKNOWN = 2**31  # samples in the largest minibatch where it is not known: more than any has


@dataclass
class Minibatch:
    """A rank's share of a minibatch.

    Attributes
    ----------
    X, y
        Images and targets, as they came.
    weights : ndarray or None
        Of the samples.
    total : int
        Samples of the whole minibatch.
    rows : ndarray
        The samples' numbers, for augmentations that depend on them.
    origin, origin_rows
        The arrays that the samples come from, by name, and their rows there: a message can name a bad one.
    """

    X: Any
    y: Any
    weights: Any
    total: int
    rows: Any
    origin: Named
    origin_rows: Any


class Batches:
    """Batches to measure: ``len(batches)`` and ``batches[number]``, which reads images and targets."""

    def __init__(self, count: int, read: Callable[[int], tuple[Any, Any]]) -> None:
        self._count, self._read = count, read

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> tuple[Any, Any]:
        return self._read(number)

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return map(self._read, range(self._count))


class Source(ABC):
    """Samples to train with, or to validate by.

    Attributes
    ----------
    part : str
        'train' or 'val'.
    example : (X, y)
        Images and targets: all of them, or a first batch.
    count, unit : int, str
        Samples, or batches where the samples are not counted: what a run that goes on must have.
    steps : int
        Minibatches of an epoch.
    sizes : (int, int)
        Samples in the smallest and the largest minibatch, as far as they are known.
    waits : bool
        True if a thread should read ahead.
    weighs : bool
        True if samples have weights.
    cannot_seek : str
        Why a run cannot go on from a checkpoint; empty where it can.
    """

    part: str
    example: tuple[Any, Any]
    count: int
    unit = "batches"
    steps: int
    sizes: tuple[int, int]
    waits = True
    weighs = False
    cannot_seek = ""

    @abstractmethod
    def plan(self, random: Any) -> list[Ticket]:
        """Return the tickets of an epoch."""

    @abstractmethod
    def read(self, ticket: Ticket, epoch: int, share: Share) -> Minibatch:
        """Read a minibatch."""

    @abstractmethod
    def to_measure(self, num_samples: int | None, random: Any, size: int) -> Batches:
        """Return batches of at least `num_samples` samples, None: of all; arrays give batches of `size`."""

    @abstractmethod
    def not_finite(self, fault_of_rows: Callable[[Named, Iterable[int]], str | None]) -> str | None:
        """Name the first sample that is not finite; None if all are."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """Return what has to be the same on all ranks."""

    @abstractmethod
    def check(self, labels: bool) -> None:
        """Refuse targets that are no numbers, one or more for each sample; or that are no `labels` (N,)."""


class ArraySource(Source):
    """Samples in arrays, in memory or read by rows.

    `sampling` and `batch_size` are the Solver's options. ValueError or TypeError for unusable arrays.
    """

    unit = "samples"

    def __init__(
        self,
        part: str,
        X: Any,
        y: Any,
        weights: Any = None,
        outputs: Sequence[str] = (),
        sampling: str = "epoch",
        batch_size: int = 1,
    ) -> None:
        self.part, self.X, self.y, self.weights = part, X, y, weights
        self._sampling, self._batch_size = sampling, batch_size
        self._has_labels = not outputs
        check_samples("Solver", f"X_{part}", X)
        self.example = X, y
        self.count = len(X)
        self.weighs = weights is not None
        self.waits = any(waits(array) for _, array in self.named)
        if sampling == "epoch":
            self.steps = -(-self.count // batch_size)  # no sample is missed
            self.sizes = self.count // self.steps, -(-self.count // self.steps)
        else:
            self.steps, self.sizes = max(self.count // batch_size, 1), (batch_size, batch_size)

    @property
    def named(self) -> Named:
        """Images and targets, of which several outputs have one each, by what messages call them."""
        return [(f"X_{self.part}", self.X), *named_arrays(f"y_{self.part}", self.y)]

    def check(self, labels: bool) -> None:
        labels = labels and self._has_labels
        for name, array in named_arrays(f"y_{self.part}", self.y):
            checked_split("Solver", self.X, array, f"X_{self.part}", name, labels)

    def plan(self, random: Any) -> list[Ticket]:
        """Draw the indices of an epoch's minibatches.

        'epoch': a shuffled pass over all samples in minibatches whose sizes differ by one at most, so that
        none is much smaller than `batch_size` (a last batch of one sample would upset batch norm).
        'replacement': each minibatch draws `batch_size` samples independently, as the course does.
        """
        if self._sampling == "epoch":
            return np.array_split(random.permutation(self.count), self.steps)
        return list(random.choice(self.count, size=(self.steps, self._batch_size)))

    def read(self, ticket: Ticket, epoch: int, share: Share) -> Minibatch:
        rows = share(ticket)
        weights = None if self.weights is None else self.weights[rows]
        return Minibatch(self.X[rows], self.y[rows], weights, len(ticket), rows, self.named, rows)

    def to_measure(self, num_samples: int | None, random: Any, size: int) -> Batches:
        return batches_of(self.X, self.y, subsample(self.X, num_samples, random), size)

    def not_finite(self, fault_of_rows: Callable[[Named, Iterable[int]], str | None]) -> str | None:
        return fault_of_rows(self.named, range(self.count))

    def facts(self) -> dict[str, Any]:
        return data_facts(dict(self.named))


class _BatchSource(Source):
    """Batches ``(X, y)`` or ``(X, y, weights)`` of the user's own, numbered from 0 in each epoch."""

    def __init__(self, part: str, outputs: Sequence[str]) -> None:
        self.part, self._outputs, self._labels = part, outputs, False

    def _begin(self, first: Any) -> None:
        """Look at the first batch."""
        X, y, weights = self._checked(first, 0)
        self.example, self.weighs = (X, y), weights is not None
        self.sizes = len(X), _UNKNOWN
        self._stride = max(len(X), 1)

    def _checked(self, batch: Any, number: int) -> tuple[Any, Any, Any]:
        """Return images, targets and weights of a batch; ValueError or TypeError if it is none."""
        where = f"Solver: {self.part}: batch {number}"
        if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
            raise TypeError(f"{where} must be (X, y) or (X, y, weights), got {_told(batch)}{_advice(batch)}")
        X, y = as_array(where, "X", batch[0]), batch[1]
        y = Targets.of(where, y, self._outputs) if self._outputs else as_array(where, "y", y)
        if not isinstance(y, Targets) and y.ndim == 0:
            raise ValueError(
                f"{where} is a single sample, X {X.shape} and y {y}: a batch has several; of a data set of "
                "PyTorch's a DataLoader makes them"
            )
        check_samples(where, "X", X)
        for name, array in named_arrays("y", y):
            checked_split(where, X, array, "X", name, self._labels)
        known = getattr(self, "example", None)
        if known is not None and X.shape[1:] != known[0].shape[1:]:
            raise ValueError(
                f"{where} has samples of shape {X.shape[1:]}, the first batch {known[0].shape[1:]}"
            )
        weights = None if len(batch) == 2 else checked_weights(where, "weights", batch[2], len(X))
        if known is not None and (weights is not None) != self.weighs:
            raise ValueError(f"{where}: either all batches have weights or none, the first has others")
        return X, y, weights

    def check(self, labels: bool) -> None:
        self._labels = labels and not self._outputs
        X, y = self.example
        for name, array in named_arrays(f"{self.part}: y of batch 0", y):
            checked_split("Solver", X, array, f"{self.part}: X of batch 0", name, self._labels)

    @abstractmethod
    def _batch(self, epoch: int, number: int) -> Any:
        """Return a batch as it comes."""

    def read(self, ticket: Ticket, epoch: int, share: Share) -> Minibatch:
        number = int(ticket[0])
        X, y, weights = self._checked(self._batch(epoch, number), number)
        every = np.arange(len(X))
        rows = share(every)
        origin = [
            (f"{self.part}: batch {number}: {name}", array)
            for name, array in [("X", X), *named_arrays("y", y)]
        ]
        total, numbers = len(X), number * self._stride + rows
        if len(rows) < total:
            X, y = X[rows], y[rows]
            weights = None if weights is None else weights[rows]
        return Minibatch(X, y, weights, total, numbers, origin, rows)

    def not_finite(self, fault_of_rows: Callable[[Named, Iterable[int]], str | None]) -> str | None:
        for number, (X, y) in enumerate(self.to_measure(None, None, 0)):
            named = [("X", X), *named_arrays("y", y)]
            fault = fault_of_rows([(f"{self.part}: batch {number}: {n}", a) for n, a in named], range(len(X)))
            if fault is not None:
                return fault
        return None

    def facts(self) -> dict[str, Any]:
        X, y = self.example
        first = data_facts(dict([("X", X), *named_arrays("y", y)]))
        return {f"{self.part}: the first batch's {name}": value for name, value in first.items()} | {
            f"{self.part}'s batches in an epoch": self.steps
        }


class BatchSequence(_BatchSource):
    """Batches of an object with ``len()`` and ``[number]``; each epoch has them in a new order.

    `numbers` are those of the batches to use; None: all. `steps` is the Solver's `batches_per_epoch`,
    `sampling` its option of that name.
    """

    def __init__(
        self,
        part: str,
        batches: Any,
        outputs: Sequence[str] = (),
        sampling: str = "epoch",
        steps: int | None = None,
        numbers: np.ndarray | None = None,
    ) -> None:
        super().__init__(part, outputs)
        self.batches, self._sampling = batches, sampling
        self.numbers = np.arange(len(batches)) if numbers is None else numbers
        self.count = len(self.numbers)
        if self.count == 0:
            raise ValueError(f"Solver: {part} is empty: it has no batches")
        self.steps = self.count if steps is None else min(steps, self.count)
        self._begin(batches[int(self.numbers[0])])

    def plan(self, random: Any) -> list[Ticket]:
        if self._sampling == "epoch":
            order = random.permutation(self.count)[: self.steps]
        else:
            order = random.choice(self.count, size=self.steps)
        return [self.numbers[place : place + 1] for place in order]

    def _batch(self, epoch: int, number: int) -> Any:
        return self.batches[number]

    def to_measure(self, num_samples: int | None, random: Any, size: int) -> Batches:
        wanted = self.count if num_samples is None else -(-num_samples // self._stride)
        numbers = self.numbers
        if wanted < self.count:
            numbers = self.numbers[np.sort(random.choice(self.count, size=wanted, replace=False))]

        def read(place: int) -> tuple[Any, Any]:
            number = int(numbers[place])
            return self._checked(self.batches[number], number)[:2]

        return Batches(len(numbers), read)


class BatchStream(_BatchSource):
    """Batches of an iterable, or of a function that returns one, in their own order.

    `steps` is the Solver's `batches_per_epoch`. Where it is None, and the iterable has no length, the batches
    are counted; `tell` is called with a line that says so. The last `kept` batches, which a thread may have
    read ahead, and two more are kept, so that a training that was stopped can go on in the same process.
    """

    def __init__(
        self,
        part: str,
        batches: Any,
        outputs: Sequence[str] = (),
        steps: int | None = None,
        kept: int = 1,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        super().__init__(part, outputs)
        self._open, seeks = _opener(part, batches)
        if not seeks:
            self.cannot_seek = (
                f"{part} cannot go back to where it stood: only a function of the epoch can, "
                f"'{part}': lambda epoch: ..., which returns the same batches for the same epoch"
            )
        self._kept: deque[tuple[int, int, Any]] = deque(maxlen=0 if seeks else kept + 2)
        self._iterator: Iterator[Any] | None = None
        self._epoch, self._next = -1, 0
        length = _length(batches)
        if steps is not None:
            self.steps = steps if length is None else min(steps, length)
            first = next(iter(self._open(0)), None)
        elif length is not None:
            self.steps, first = length, next(iter(self._open(0)), None)
        else:
            tell(f"counting the batches of {part}; batches_per_epoch= says how many there are")
            first, self.steps = None, 0
            for batch in self._open(0):
                first = batch if self.steps == 0 else first
                self.steps += 1
        if first is None or self.steps == 0:
            raise ValueError(f"Solver: {part} is empty: it has no batches")
        self.count = self.steps
        self._begin(first)

    def plan(self, random: Any) -> list[Ticket]:
        return [np.array([number]) for number in range(self.steps)]

    def _batch(self, epoch: int, number: int) -> Any:
        for known_epoch, known, batch in self._kept:
            if (known_epoch, known) == (epoch, number):
                return batch
        if epoch != self._epoch or number < self._next:
            if number > 0 and self.cannot_seek:
                raise ValueError(f"Solver: {self.cannot_seek}")
            self._iterator, self._epoch, self._next = iter(self._open(epoch)), epoch, 0
        assert self._iterator is not None
        batch, iterator = None, self._iterator
        if not self.cannot_seek:
            self._epoch = -1  # an exception ends a generator: the next call opens the epoch again
        while self._next <= number:
            batch = _next_of(iterator, self.part, epoch, self._next, self.steps)
            self._next += 1
        self._epoch = epoch
        self._kept.append((epoch, number, batch))
        if self._next == self.steps:  # lets go of what the iterator holds, such as a loader's processes
            self._iterator, self._epoch = None, -1
        return batch

    def to_measure(self, num_samples: int | None, random: Any, size: int) -> Batches:
        wanted = self.steps if num_samples is None else min(self.steps, -(-num_samples // self._stride))
        stream, place = iter(self._open(0)), -1

        def read(number: int) -> tuple[Any, Any]:
            nonlocal place
            batch = None
            while place < number:
                place += 1
                batch = _next_of(stream, self.part, 0, place, self.steps)
            return self._checked(batch, number)[:2]

        return Batches(wanted, read)


@dataclass
class Sources:
    """The samples to train with, and those to validate by."""

    train: Source
    val: Source


def subsample(X: Any, num_samples: int | None, random: Any) -> np.ndarray | None:
    """Draw sorted indices of `num_samples` different samples, or None for all of them."""
    if num_samples is None or num_samples >= len(X):
        return None
    return np.sort(random.choice(len(X), size=num_samples, replace=False))


def batches_of(X: Any, y: Any, rows: np.ndarray | None, batch_size: int) -> Batches:
    """Return the samples `rows` (None: all) of arrays, batch by batch."""
    total = len(X) if rows is None else len(rows)

    def read(number: int) -> tuple[Any, Any]:
        part: Any = slice(number * batch_size, (number + 1) * batch_size)
        part = part if rows is None else rows[part]
        return X[part], y[part]

    return Batches(-(-total // batch_size), read)


def checked_weights(where: str, name: str, value: Any, samples: int) -> np.ndarray:
    """Return weights (N,) of samples as float64; ValueError if they are no numbers of at least 0."""
    weights = as_array(where, name, value)
    if weights.shape != (samples,) or weights.dtype.kind not in "biuf":
        raise ValueError(
            f"{where}: {name} must be a number for each of the {samples} samples, got {weights.dtype} of "
            f"shape {weights.shape}"
        )
    weights = weights.astype(np.float64)
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise ValueError(f"{where}: {name} must be finite and at least 0")
    return weights


def _opener(part: str, batches: Any) -> tuple[Callable[[int], Iterable[Any]], bool]:
    """Return a function from an epoch to an iterable, and True if it gives the same for the same epoch."""
    if hasattr(type(batches), "__iter__"):
        if hasattr(batches, "__next__"):
            raise TypeError(
                f"Solver: {part} is a {type(batches).__name__}, which is over after one pass: give the "
                f"function that makes it, '{part}': make_batches or lambda epoch: make_batches(epoch)"
            )
        return lambda epoch: batches, False
    takes = _positional(batches)
    if takes not in (0, 1):
        raise TypeError(
            f"Solver: {part}: the function must be called as batches() or batches(epoch), and return an "
            f"iterable of (X, y); {getattr(batches, '__name__', 'it')} takes {takes} arguments"
        )

    def opened(epoch: int) -> Iterable[Any]:
        made = batches(epoch) if takes else batches()
        if not hasattr(made, "__iter__"):
            raise TypeError(
                f"Solver: {part}: the function must return an iterable of (X, y), got {type_name(made)}"
            )
        return made

    return opened, takes == 1


def _positional(function: Callable[..., Any]) -> int:
    """Count the arguments that a call needs: those without a default, and one called `epoch`."""
    parameters = inspect.signature(function).parameters.values()
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    named = [each for each in parameters if each.kind in kinds]
    if any(each.name == "epoch" for each in named):
        return 1
    return sum(each.default is inspect.Parameter.empty for each in named)


def _length(batches: Any) -> int | None:
    """Return the number of batches of an iterable; None if it has no length."""
    if not hasattr(type(batches), "__len__"):
        return None
    try:
        return len(batches)
    except TypeError:  # a DataLoader of an iterable has the method, but no length
        return None


def _next_of(iterator: Iterator[Any], part: str, epoch: int, number: int, steps: int) -> Any:
    """Return the next batch, which has this number; ValueError if there is none."""
    try:
        return next(iterator)
    except StopIteration:
        raise ValueError(
            f"Solver: {part} ended after {number} batches in epoch {epoch + 1}, {steps} were expected"
        ) from None


def _told(batch: Any) -> str:
    """Name what came in place of a batch."""
    if isinstance(batch, (tuple, list)):
        return f"a {type(batch).__name__} of {len(batch)}"
    return type_name(batch)


def _advice(batch: Any) -> str:
    """Say how it becomes a batch, where that is known."""
    if isinstance(batch, dict):
        keys = ", ".join(repr(key) for key in list(batch)[:2])
        return f"; make pairs of it: ((b[k], b[l]) for b in batches), where k, l = {keys}"
    if hasattr(batch, "shape"):
        return "; arrays are given as X_train, y_train, X_val, y_val"
    return ""


# From the Solver's `data` ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wanted:
    """The Solver's options that sources depend on."""

    sampling: str = "epoch"
    batch_size: int = 1
    batches_per_epoch: int | None = None
    validation_fraction: float | None = None
    seed: int | None = None
    prefetch: int = 0
    tell: Callable[[str], None] = lambda text: None


_KEYS = ("X_train", "y_train", "X_val", "y_val")


def build_sources(data: Any, outputs: Sequence[str], wanted: Wanted, labels: bool) -> Sources:
    """Return the sources in the Solver's `data`: a dict of arrays, or of batches, or of both.

    `outputs` are the names of several outputs, which have targets each. `labels`: targets must be labels of
    classes. TypeError or ValueError for anything else.
    """
    sources = data if isinstance(data, Sources) else _sources(data, outputs, wanted, labels)
    for source in (sources.train, sources.val):
        source.check(labels)
    return sources


def _sources(data: Any, outputs: Sequence[str], wanted: Wanted, labels: bool) -> Sources:
    if not hasattr(data, "keys"):
        advice = ""
        if hasattr(data, "__iter__") and not isinstance(data, str) and not hasattr(data, "shape"):
            advice = "; batches are given as {'train': batches, 'val': others}"
        raise TypeError(f"Solver: data must be a dict with {', '.join(_KEYS)}, got {type_name(data)}{advice}")
    fraction = wanted.validation_fraction
    train = _one(data, "train", outputs, wanted)
    has_val = "val" in data or "X_val" in data or "y_val" in data
    if has_val and fraction is not None:
        raise ValueError("Solver: validation_fraction is for data without a validation split; this has one")
    if fraction is None:
        return Sources(train, _one(data, "val", outputs, wanted))
    train.check(labels)  # the targets must fit the samples before both are divided
    return Sources(*_split(train, fraction, outputs, wanted))


def _one(data: Any, part: str, outputs: Sequence[str], wanted: Wanted) -> Source:
    """Return the source of a part, 'train' or 'val'."""
    X_name, y_name = f"X_{part}", f"y_{part}"
    if part in data:
        if X_name in data or y_name in data:
            raise ValueError(f"Solver: data has both {part} and {X_name} or {y_name}")
        return _batches(data[part], part, outputs, wanted)
    missing = [key for key in (X_name, y_name) if key not in data]
    if missing:
        others = [key for key in _KEYS if key not in data and key[2:] not in data]
        advice = ""
        if part == "val" and len(missing) == 2:
            advice = "; validation_fraction=0.1 takes a tenth of the training samples"
        raise ValueError(
            f"Solver: data lacks {', '.join(others)}; it has {', '.join(map(str, data.keys()))}{advice}"
        )
    X, y = as_rows("Solver", X_name, data[X_name]), data[y_name]
    y = Targets.of(f"Solver: {y_name}", y, outputs) if outputs else as_rows("Solver", y_name, y)
    if part == "train" and wanted.batches_per_epoch is not None:
        raise ValueError(
            "Solver: batches_per_epoch is for data={'train': batches}; of arrays batch_size says it"
        )
    weights = None
    if part == "train" and data.get("weights_train") is not None:
        weights = checked_weights("Solver", "weights_train", data["weights_train"], len(X))
    return ArraySource(part, X, y, weights, outputs, wanted.sampling, wanted.batch_size)


def _batches(batches: Any, part: str, outputs: Sequence[str], wanted: Wanted) -> Source:
    """Return the source of a part that is given as batches."""
    steps = wanted.batches_per_epoch if part == "train" else None
    if hasattr(batches, "shape") or hasattr(batches, "keys"):
        raise TypeError(
            f"Solver: {part} must be batches (X, y), got {type_name(batches)}; arrays are X_{part}, y_{part}"
        )
    is_loader = hasattr(batches, "dataset") and hasattr(type(batches), "__iter__")
    if not is_loader and hasattr(type(batches), "__getitem__") and hasattr(type(batches), "__len__"):
        return BatchSequence(part, batches, outputs, wanted.sampling, steps)
    if not callable(batches) and not hasattr(type(batches), "__iter__"):
        raise TypeError(
            f"Solver: {part} must be an iterable of batches (X, y), a sequence of them, or a function that "
            f"returns an iterable, got {type_name(batches)}"
        )
    if part == "train" and wanted.sampling != "epoch":
        raise ValueError(
            f"Solver: sampling={wanted.sampling!r} draws samples; the order of {part} is its own"
        )
    return BatchStream(part, batches, outputs, steps, wanted.prefetch, wanted.tell)


def _split(train: Source, fraction: float, outputs: Sequence[str], wanted: Wanted) -> tuple[Source, Source]:
    """Divide the training samples, or batches, in two: of labels both parts get the same share of each."""
    if isinstance(train, BatchStream):
        raise ValueError(
            "Solver: validation_fraction needs arrays or a sequence of batches; of a stream give 'val', too"
        )
    random = np.random.RandomState(np.random.MT19937(np.random.SeedSequence([wanted.seed or 0, 1])))
    order = random.permutation(train.count)
    if isinstance(train, ArraySource) and not isinstance(train.y, Targets) and train.y.ndim == 1:
        labels = np.asarray(train.y[:])
        if labels.dtype.kind in "iu":
            order = order[np.argsort(labels[order], kind="stable")]
    places = np.arange(train.count)
    taken = np.floor((places + 1) * fraction) > np.floor(places * fraction)
    own, others = np.sort(order[~taken]), np.sort(order[taken])
    if len(own) == 0 or len(others) == 0:
        raise ValueError(
            f"Solver: validation_fraction={fraction:g} of {train.count} {train.unit} leaves "
            f"{len(own)} to train with and {len(others)} to validate by"
        )
    if isinstance(train, BatchSequence):
        sequence = train.batches
        steps = wanted.batches_per_epoch
        return (
            BatchSequence("train", sequence, outputs, wanted.sampling, steps, own),
            BatchSequence("val", sequence, outputs, numbers=others),
        )
    assert isinstance(train, ArraySource)
    weights = None if train.weights is None else train.weights[own]
    options = outputs, wanted.sampling, wanted.batch_size
    return (
        ArraySource("train", Rows(train.X, own), _rows_of(train.y, own), weights, *options),
        ArraySource("val", Rows(train.X, others), _rows_of(train.y, others), None, *options),
    )


def _rows_of(y: Any, rows: np.ndarray) -> Any:
    """Return these rows of targets, of several outputs those of each."""
    if isinstance(y, Targets):
        return Targets({name: Rows(array, rows) for name, array in y.arrays.items()})
    return Rows(y, rows)
