"""Arrays that are read by rows: those on the disk, and some rows of others."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlib._params.arrays import as_array
from cnnlib.data.row_array import RowArray


class Rows(RowArray):
    """Rows of an array that stays where it is: in an HDF5 file, in a Zarr store, on the disk.

    It is read like an array along its first axis, by an integer, a slice, or an array of integers; only these
    rows are read. Several rows are asked for in ascending order and once each, as h5py wants them. The
    :class:`cnnlib.solver.Solver` makes one of every object with `shape`, `dtype` and ``[...]`` that is not an
    array in memory.

    Parameters
    ----------
    array : object
        With `shape`, `dtype` and ``array[rows]``, where rows are a slice or ascending integers.
    rows : ndarray of int, optional
        The rows (N,) that count, in their order; all of them by default.

    Attributes
    ----------
    shape : tuple of int
    dtype : numpy.dtype

    Raises
    ------
    IndexError
        On reading, for rows that there are not, and for what is no integer.
    ValueError
        On reading, if the array gives other rows than those that were asked for.

    Examples
    --------
    >>> some = Rows(np.arange(10) ** 2, np.array([9, 3, 3]))
    >>> some.shape, some[:], some[1]
    ((3,), array([81,  9,  9]), np.int64(9))
    """

    def __init__(self, array: Any, rows: NDArray[np.integer[Any]] | None = None) -> None:
        self.array, self.rows = array, rows
        count = array.shape[0] if rows is None else len(rows)
        self.shape = (int(count), *map(int, array.shape[1:]))
        self.dtype = np.dtype(array.dtype)

    def __repr__(self) -> str:
        return f"Rows(shape={self.shape}, dtype={self.dtype}, of {type(self.array).__name__})"

    def _between(self, start: int, stop: int) -> NDArray[Any]:
        if self.rows is None:
            return self._read(slice(start, stop), stop - start)
        return self._at(np.arange(start, stop))

    def _at(self, index: NDArray[np.integer[Any]]) -> Any:
        if self.rows is not None:
            index = self.rows[index]
        if index.ndim == 0:
            first = operator.index(index)
            return self._read(slice(first, first + 1), 1)[0]
        found, places = np.unique(index, return_inverse=True)
        adjoin = len(found) and found[-1] - found[0] + 1 == len(found)
        wanted = slice(int(found[0]), int(found[-1]) + 1) if adjoin else found
        part = self._read(wanted, len(found)) if len(found) else self._read(slice(0, 0), 0)
        return part[places.reshape(index.shape)]

    def _read(self, rows: Any, count: int) -> NDArray[Any]:
        part = np.asarray(self.array[rows])
        if part.shape != (count, *self.shape[1:]):
            raise ValueError(
                f"Rows: the {type(self.array).__name__} of shape {self.shape} gave {part.shape} for "
                f"{count} rows"
            )
        return part


def as_rows(where: str, name: str, value: Any) -> Any:
    """`value` as what is read by rows: arrays, memory maps, shards and rows stay what they are.

    Arrays on the disk become :class:`Rows`; anything else becomes an array in memory.
    """
    if isinstance(value, RowArray):
        return value
    if isinstance(value, np.ndarray) and not np.ma.isMaskedArray(value):
        return value
    return Rows(value) if _is_read_by_rows(value) else as_array(where, name, value)


def waits(array: Any) -> bool:
    """Return whether reading rows takes more than memory's time, so that a thread had better read ahead."""
    if isinstance(array, Rows):
        return not isinstance(array.array, np.ndarray) or waits(array.array)
    return isinstance(array, (np.memmap, RowArray))


def _is_read_by_rows(value: Any) -> bool:
    """Return whether an object is an array that does not lie in memory.

    One in memory has NumPy's or DLPack's interface, and a table (`iloc`) is indexed by labels.
    """
    in_memory = ("__array_interface__", "__array_struct__", "__dlpack__", "iloc", "mask")
    if any(hasattr(value, name) for name in in_memory) or not hasattr(type(value), "__getitem__"):
        return False
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    return isinstance(shape, tuple) and len(shape) > 0 and isinstance(dtype, np.dtype)
