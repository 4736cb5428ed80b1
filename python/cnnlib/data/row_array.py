"""Arrays that are read by rows: :class:`RowArray` is their common base."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


class RowArray(ABC):
    """An array that is read along its first axis: by an integer, a slice, or an array of integers.

    Attributes
    ----------
    shape : tuple of int
    dtype : numpy.dtype
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """All rows, read into memory."""
        if copy is False:
            raise ValueError(f"{type(self).__name__}: an array of all rows is a copy")
        rows = self[:]
        return np.asarray(rows if rows.base is None else np.array(rows), dtype=dtype)

    def __getitem__(self, rows: int | slice | ArrayLike) -> Any:
        name = type(self).__name__
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            if step == 1:
                return self._between(start, max(start, stop))
            rows = np.arange(start, stop, step)
        index = np.asarray(rows)
        if isinstance(rows, tuple) or index.dtype.kind not in "iu":
            got = "a tuple" if isinstance(rows, tuple) else index.dtype
            raise IndexError(f"{name}: rows are chosen by integers or a slice, got {got}")
        if index.size and not -len(self) <= index.min() <= index.max() < len(self):
            raise IndexError(f"{name}: there are {len(self)} rows, got {index.min()} to {index.max()}")
        return self._at(index % max(len(self), 1))

    @abstractmethod
    def _between(self, start: int, stop: int) -> NDArray[Any]:
        """Read rows `start` to `stop`."""

    @abstractmethod
    def _at(self, index: NDArray[np.integer[Any]]) -> Any:
        """Read the rows of an array of integers of any shape, none of them negative; of a number its row."""
