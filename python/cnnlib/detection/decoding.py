"""From the numbers of a network's output to boxes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnnlib._params import flag, number, positive_int
from cnnlib._params.arrays import reals
from cnnlib._typing import Array, ArrayLike

SCORE = 0.25  # below it an object is not shown: the default of Ultralytics' command
CORNERS = 4  # numbers of a box
ROW = 6  # numbers of an object that a network has found by itself: corners, score, class


class Candidates(NamedTuple):
    """
    Boxes that a network found in an image, before those of one object are told apart.

    Attributes
    ----------
    boxes : array, (K, 4)
        x1, y1, x2, y2 in pixels of the network's image.
    scores : array, (K,)
    classes : array of int, (K,)
    extras : array, (K, E)
        The numbers that belong to a box beside these: of its mask, or its key points.

    Examples
    --------
    >>> output = np.array([[50.0, 40.0, 20.0, 10.0, 0.1, 0.8]]).T
    >>> decode(output, num_classes=2).classes
    array([1])
    """

    boxes: Array
    scores: Array
    classes: NDArray[np.intp]
    extras: Array


def decode(
    output: ArrayLike, num_classes: int, *, score: float = SCORE, end_to_end: bool = False
) -> Candidates:
    """
    Read the boxes of one image from the output of a network of the YOLO family.

    Parameters
    ----------
    output : array, (4 + num_classes + E, A), or (A, 6 + E) with `end_to_end`
        A column for each of A places: centre x, centre y, width and height of a box, a score for each
        class, E numbers more. `end_to_end`: a row for each box, with x1, y1, x2, y2, score, class, E numbers.
    num_classes : int
    score : float in [0, 1]
        A box is read where its highest score is above this. A NaN is below every number.
    end_to_end : bool
        Whether the network has suppressed boxes of one object by itself.

    Returns
    -------
    Candidates
        In the order of the output. Of equal scores the first class counts. A box whose corners are not
        finite, or whose second corner lies above or left of the first, is none.

    Raises
    ------
    ValueError
        For an output of another shape, or a class that is not one of `num_classes`.
    TypeError
        For what is no array of numbers.

    Examples
    --------
    >>> output = np.array([[50.0, 40.0, 20.0, 10.0, 0.1, 0.8], [7.0, 8.0, 2.0, 2.0, 0.2, 0.1]]).T
    >>> found = decode(output, num_classes=2)
    >>> found.boxes, found.scores, found.classes
    (array([[40., 35., 60., 45.]]), array([0.8]), array([1]))
    """
    where = "decode"
    array = reals(where, "output", output)
    K, limit = positive_int(where, "num_classes", num_classes), number(where, "score", score, 0, 1)
    least = ROW if flag(where, "end_to_end", end_to_end) else CORNERS + K
    if array.ndim != 2 or array.shape[1 if end_to_end else 0] < least:
        wanted = f"(A, {ROW} + E)" if end_to_end else f"({CORNERS + K} + E, A)"
        raise ValueError(f"{where}: output must be {wanted} of {K} classes, got shape {array.shape}")
    with np.errstate(invalid="ignore", over="ignore"):  # a comparison with NaN is False
        found = _rows(array, limit, K) if end_to_end else _columns(array, limit, K)
        corners = found.boxes
        whole = np.isfinite(corners).all(axis=1) & (corners[:, 2:] >= corners[:, :2]).all(axis=1)
    return Candidates(*(part[whole] for part in found))


def _rows(array, limit, count):
    """Boxes that the network itself has chosen."""
    rows = array[array[:, 4] > limit]
    known = np.isin(rows[:, 5], np.arange(count))
    if not known.all():
        found = rows[~known][0, 5]
        raise ValueError(f"decode: the output has the class {found:g}, there are {count} classes from 0 on")
    return Candidates(rows[:, :CORNERS], rows[:, 4], rows[:, 5].astype(np.intp), rows[:, ROW:])


def _columns(array, limit, count):
    """Boxes at all places where a score is high enough."""
    scores = array[CORNERS : CORNERS + count]
    best = np.fmax.reduce(scores, axis=0)  # of all but NaN
    (places,) = np.nonzero(best > limit)
    chosen, scores = array[:, places].T, scores[:, places]
    classes = np.argmax(scores == best[places], axis=0)
    middle, half = chosen[:, :2], chosen[:, 2:CORNERS] / 2
    boxes = np.concatenate([middle - half, middle + half], axis=1)
    return Candidates(boxes, best[places], classes, chosen[:, CORNERS + count :])
