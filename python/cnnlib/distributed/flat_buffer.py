"""Many arrays side by side in one, so that a single message carries them all."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping

import numpy as np


class FlatBuffer:
    """Rows of one array, each holding arrays of the same names and shapes.

    Parameters
    ----------
    shapes : dict
        The shape under each name.
    dtype : np.float32 or np.float64
    rows : int

    Attributes
    ----------
    data : ndarray (rows, sum of the sizes)
    views : list of dict
        For each row: name -> array, a view of that row.
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
