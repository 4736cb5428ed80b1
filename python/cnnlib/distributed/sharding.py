"""A rank's part of a minibatch, of random numbers and of a buffer: alike for any number of ranks."""

from __future__ import annotations

import contextlib
import copy
import itertools
import math
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np

Piece = tuple[int, slice]  # number of the piece, and its rows in the minibatch


def split(total: int, parts: int) -> list[slice]:
    """`total` rows in `parts` runs whose lengths differ by one at most, the longer ones first."""
    lengths = (total // parts + (part < total % parts) for part in range(parts))
    bounds = itertools.accumulate(lengths, initial=0)
    return [slice(start, stop) for start, stop in itertools.pairwise(bounds)]


def pieces_of(total: int, rank: int, size: int, micro_batches: int | None) -> list[Piece]:
    """What a rank computes of a minibatch of `total` samples, piece by piece.

    Without micro-batches that is one run of rows, with them several of the runs that the minibatch is cut
    into, whatever the number of ranks.
    """
    if micro_batches is None:
        return [(rank, split(total, size)[rank])]
    runs = split(total, min(micro_batches, total))
    own = split(len(runs), size)[rank]
    return list(enumerate(runs))[own]


def rows_of(pieces: list[Piece]) -> slice:
    """All rows of adjoining pieces."""
    return slice(pieces[0][1].start, pieces[-1][1].stop)


class ShareOfDraws(np.random.Generator):
    """Draws for a minibatch of `total` samples, and hands out the part of those that its `rows` are.

    So a sample gets the same random numbers whichever rank it falls to. An array that is asked for counts as
    one with an entry for each sample if the length of the share is that of its last axis (where it has two at
    most) or of its first. Other draws are the same on all ranks. For a share that is the whole minibatch the
    stream is ``np.random.default_rng(seed)``.
    """

    def __init__(self, seed: Any, total: int, rows: slice) -> None:
        super().__init__(np.random.default_rng(seed).bit_generator)
        self._total, self._rows = total, rows

    def _part(self, draw, size):
        """``draw(size)``, or the share's part of a larger draw."""
        length = self._rows.stop - self._rows.start
        shape = (size,) if np.ndim(size) == 0 else tuple(size)
        axes = [len(shape) - 1, 0] if len(shape) <= 2 else [0]
        axis = next((axis for axis in axes if shape and shape[axis] == length), None)
        if axis is None:
            return draw(size)
        drawn = draw((*shape[:axis], self._total, *shape[axis + 1 :]))
        return drawn[(slice(None),) * axis + (self._rows,)]


def _shared(name, place):
    """The method `name` of Generator, whose argument number `place` is `size`."""
    method = getattr(np.random.Generator, name)

    def draw(self, *given, **kwargs):
        args = list(given)
        size = args[place] if len(args) > place else kwargs.pop("size", None)
        if size is None or kwargs.get("out") is not None:
            return method(self, *args, **kwargs)
        before, after = args[:place], args[place + 1 :]
        if after:
            return self._part(lambda size: method(self, *before, size, *after, **kwargs), size)
        return self._part(lambda size: method(self, *before, size=size, **kwargs), size)

    draw.__name__ = name
    draw.__doc__ = f"As ``np.random.Generator.{name}``, or the share's part of a larger draw."
    return draw


_PLACES = {  # of the argument `size` of Generator's methods
    0: ("random", "standard_exponential", "standard_normal"),
    1: ("choice", "exponential", "poisson"),
    2: ("beta", "binomial", "gamma", "integers", "laplace", "lognormal", "normal", "uniform"),
}
for _place, _names in _PLACES.items():
    for _name in _names:
        setattr(ShareOfDraws, _name, _shared(_name, _place))


class FlatBuffer:
    """Rows of one array, `data`, each holding arrays of the same names and shapes.

    `views` has for each row a dict from name to array, a view of that row.
    """

    def __init__(self, shapes: Mapping[Hashable, tuple[int, ...]], dtype: np.dtype, rows: int = 1) -> None:
        sizes = {name: math.prod(shape) for name, shape in shapes.items()}
        self.data = np.zeros((rows, sum(sizes.values())), dtype)
        self.views = []
        for row in self.data:
            views, start = {}, 0
            for name, shape in shapes.items():
                views[name] = row[start : start + sizes[name]].reshape(shape)
                start += sizes[name]
            self.views.append(views)

    def put(self, row: int, values: Mapping[Hashable, np.ndarray], weight: float) -> None:
        """Fill a row with ``weight * value`` under each name."""
        factor = self.data.dtype.type(weight)
        for name, view in self.views[row].items():
            np.multiply(values[name], factor, out=view, casting="same_kind")

    def add(self, values: Mapping[Hashable, np.ndarray], weight: float) -> None:
        """Add ``weight * value`` to the first row, by way of the last: the bits of :meth:`add_up`."""
        self.put(-1, values, weight)
        self.data[0] += self.data[-1]

    def add_up(self, rows: int) -> Mapping[Hashable, np.ndarray]:
        """The sum of the first `rows` rows, one after the other, as views of the first."""
        for row in self.data[1:rows]:
            self.data[0] += row
        return self.views[0]


def next_number(stream: Any) -> int:
    """What a RandomState, a Generator or ``np.random`` would draw next; it is left as it is.

    So the order of the data is that of a run that draws nothing else, at any number of ranks.
    """
    twin = copy.deepcopy(np.random.mtrand._rand if stream is np.random else stream)
    return int((twin.integers if isinstance(twin, np.random.Generator) else twin.randint)(2**31))


@contextlib.contextmanager
def own_stream(model: Any, seed: list[int]):
    """Let the model draw from a stream that belongs to `seed` alone.

    That is its `rng`, if it has such an attribute, and ``np.random``; both are put back behind the block, so
    the streams of all ranks stay the same however much the models have drawn.
    """
    outside = np.random.get_state(legacy=False)
    rng = getattr(model, "rng", None)
    own = np.random.RandomState(np.random.MT19937(np.random.SeedSequence(seed)))
    np.random.set_state(own.get_state(legacy=False))
    if hasattr(model, "rng"):
        model.rng = np.random.default_rng(seed) if isinstance(rng, np.random.Generator) else own
    try:
        yield
    finally:
        np.random.set_state(outside)
        if hasattr(model, "rng"):
            model.rng = rng
