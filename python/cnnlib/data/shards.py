"""One array out of several files, each mapped into memory."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlib.data.row_array import RowArray


class ShardedArray(RowArray):
    """The rows of several arrays, one after the other, without a copy of them.

    It is read like an array along its first axis: by an integer, a slice, or an array of integers. What comes
    is an ordinary array; only these rows are read, so of memory maps no others come into memory. The
    :class:`cnnlib.solver.Solver` takes it as ``X_train`` or ``X_val``.

    Parameters
    ----------
    shards : sequence of ndarray
        At least one; all of the same dtype, and of the same shape but for the first axis.

    Attributes
    ----------
    shards : tuple of ndarray
    shape : tuple of int
    dtype : numpy.dtype

    Raises
    ------
    ValueError
        Without shards, or for shards that differ in more than the length of their first axis.

    Examples
    --------
    >>> joined = ShardedArray([np.arange(3), np.arange(10, 12)])
    >>> joined.shape, joined[np.array([4, 0])]
    ((5,), array([11,  0]))
    """

    def __init__(self, shards: Sequence[NDArray[Any]]) -> None:
        self.shards = tuple(shards)
        if not self.shards:
            raise ValueError("ShardedArray: shards must be at least one array, got none")
        first = self.shards[0]
        for number, shard in enumerate(self.shards):
            if shard.ndim == 0 or (shard.shape[1:], shard.dtype) != (first.shape[1:], first.dtype):
                raise ValueError(
                    f"ShardedArray: shard {number} has shape {shard.shape} and dtype {shard.dtype}, "
                    f"shard 0 {first.shape} and {first.dtype}: they cannot be joined"
                )
        self._starts = np.array([0, *itertools.accumulate(map(len, self.shards))])
        self.shape = (int(self._starts[-1]), *first.shape[1:])
        self.dtype = first.dtype

    def __repr__(self) -> str:
        return f"ShardedArray(shape={self.shape}, dtype={self.dtype}, {len(self.shards)} shards)"

    def _between(self, start: int, stop: int) -> NDArray[Any]:
        part = self.part(start, stop)
        return np.concatenate(part.shards) if isinstance(part, ShardedArray) else part

    def _at(self, index: NDArray[np.integer[Any]]) -> Any:
        if index.ndim == 0:
            number = self._shard_of(index)
            return self.shards[number][operator.index(index - self._starts[number])]
        out = np.empty((*index.shape, *self.shape[1:]), self.dtype)
        shard_of = self._shard_of(index)
        for number in np.unique(shard_of):
            here = shard_of == number
            out[here] = self.shards[number][index[here] - self._starts[number]]
        return out

    def part(self, start: int, stop: int) -> NDArray[Any] | ShardedArray:
        """Return rows `start` to `stop` without reading them; a plain array if they lie in one shard."""
        bounds = zip(self.shards, self._starts, strict=False)
        views = [shard[max(start - first, 0) : max(stop - first, 0)] for shard, first in bounds]
        parts = [view for view in views if len(view)] or [self.shards[0][:0]]
        return parts[0] if len(parts) == 1 else ShardedArray(parts)

    def _shard_of(self, index):
        return np.searchsorted(self._starts, index, side="right") - 1
