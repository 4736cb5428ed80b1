"""Images sampled between their pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlib._typing import Array


def neighbours(places: Array, size: int) -> tuple[NDArray[np.intp], NDArray[np.intp], Array]:
    """The pixels of an axis before and behind each place, and the share of the second one.

    Pixel i lies at the place i. A place beyond the first or last pixel counts as that pixel.
    """
    inside = np.clip(places, 0, size - 1)
    before = np.floor(inside).astype(np.intp)
    return before, np.minimum(before + 1, size - 1), inside - before


def bilinear(plane: NDArray[Any], rows: Array, columns: Array) -> Array:
    """Interpolate a plane (H, W) linearly at each of the `rows` and `columns`, in float64.

    Rows come first: ``a + (b - a) * share`` of the rows above and below, then of the columns. Memory is
    taken for the result, however large the plane is.
    """
    above, below, share = neighbours(rows, plane.shape[0])

    def between_rows(places: NDArray[np.intp]) -> Array:
        upper = plane[np.ix_(above, places)].astype(np.float64)
        return upper + (plane[np.ix_(below, places)] - upper) * share[:, None]

    left, right, across = neighbours(columns, plane.shape[1])
    values = between_rows(left)
    return values + (between_rows(right) - values) * across
