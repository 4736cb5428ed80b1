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

    Rows come first: ``a + (b - a) * share`` of the rows above and below, then of the columns beside.
    """
    above, below, share = neighbours(rows, plane.shape[0])
    upper = plane[above].astype(np.float64)
    lines = upper + (plane[below] - upper) * share[:, None]
    left, right, share = neighbours(columns, plane.shape[1])
    return lines[:, left] + (lines[:, right] - lines[:, left]) * share
