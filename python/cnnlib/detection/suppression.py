"""One box for each object, of many that overlap."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cnnlib._params import number, positive_int
from cnnlib._params.arrays import reals
from cnnlib._typing import Array, ArrayLike

OVERLAP = 0.45  # of the boxes of one object, the default of Ultralytics' function
MOST = 300  # objects of an image: its default, too


def non_max_suppression(
    boxes: ArrayLike,
    scores: ArrayLike,
    classes: ArrayLike | None = None,
    *,
    overlap: float = OVERLAP,
    most: int = MOST,
) -> NDArray[np.intp]:
    """
    Choose boxes from the highest score down; each one drops those of its class that overlap it more.

    The overlap of two boxes is the area that they share, divided by the area that they cover together; of two
    boxes without area it is 0. Of equal scores the first box comes first. A box whose score is NaN is never
    chosen.

    Parameters
    ----------
    boxes : array, (K, 4)
        x1, y1, x2, y2 of opposite corners, the smaller first.
    scores : array, (K,)
    classes : array, (K,), or None
        Boxes of other classes do not drop each other. None: all are of one class.
    overlap : float in [0, 1]
        A box is dropped where it overlaps a chosen one by more than this.
    most : int
        The largest number of boxes to choose.

    Returns
    -------
    array of int, (M,)
        Indices of the chosen boxes, the highest score first.

    Raises
    ------
    ValueError
        For arrays of other shapes, or numbers out of range.
    TypeError
        For what is no array of numbers.

    Examples
    --------
    >>> boxes = [[0, 0, 10, 10], [1, 0, 11, 10], [20, 0, 30, 10]]
    >>> non_max_suppression(boxes, [0.6, 0.9, 0.5])
    array([1, 2])
    >>> non_max_suppression(boxes, [0.6, 0.9, 0.5], [0, 1, 0])
    array([1, 0, 2])
    """
    where = "non_max_suppression"
    corners = reals(where, "boxes", boxes).astype(np.float64)
    if corners.ndim != 2 or corners.shape[1] != 4:
        raise ValueError(f"{where}: boxes must be (K, 4), got shape {corners.shape}")
    count = len(corners)
    values = reals(where, "scores", scores).astype(np.float64)
    kinds = np.zeros(count) if classes is None else reals(where, "classes", classes)
    for name, array in (("scores", values), ("classes", kinds)):
        if array.shape != (count,):
            raise ValueError(
                f"{where}: {name} must be ({count},) as there are {count} boxes, got {array.shape}"
            )
    limit, most = number(where, "overlap", overlap, 0, 1), positive_int(where, "most", most)
    order = np.argsort(-values, kind="stable")
    order = order[~np.isnan(values[order])]
    chosen: list[int] = []
    while len(order) and len(chosen) < most:
        best, rest = order[0], order[1:]
        chosen.append(best)
        same = kinds[rest] == kinds[best]
        order = rest[~(same & (overlaps(corners[best], corners[rest]) > limit))]
    return np.array(chosen, np.intp)


def overlaps(box: Array, boxes: Array) -> Array:
    """The area that a box shares with each of `boxes` (K, 4), divided by what both cover; 0 for none."""
    with np.errstate(invalid="ignore", over="ignore"):  # corners may be NaN or infinite
        shared = _area(np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:]))
        covered = _area(box[:2], box[2:]) + _area(boxes[:, :2], boxes[:, 2:]) - shared
        return np.divide(shared, covered, out=np.zeros(len(boxes)), where=covered > 0)


def _area(low, high):
    """The areas between corners (..., 2); 0 where the second one is not above the first."""
    return np.prod(np.maximum(high - low, 0), axis=-1)
