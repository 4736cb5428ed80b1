"""Masks of objects, from prototypes that a network shares between them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from cnnlib._typing import Array
from cnnlib.detection.letterboxing import Placement
from cnnlib.detection.sampling import bilinear

_BLOCK = 2**18  # pixels of a mask that are interpolated together: the temporaries fit into a cache


class MaskPart(NamedTuple):
    """
    A mask as far as its box reaches; it is False everywhere else.

    Attributes
    ----------
    top, left : int
        The first row and column of the image that `inside` holds.
    inside : array of bool, (h, w)

    Examples
    --------
    >>> MaskPart(1, 0, np.ones((1, 2), bool)).whole((3, 3)).astype(int)
    array([[0, 0, 0],
           [1, 1, 0],
           [0, 0, 0]])
    """

    top: int
    left: int
    inside: NDArray[np.bool_]

    def whole(self, size: tuple[int, int]) -> NDArray[np.bool_]:
        """The mask of the image, (H, W)."""
        mask = np.zeros(size, bool)
        h, w = self.inside.shape
        mask[self.top : self.top + h, self.left : self.left + w] = self.inside
        return mask

    def run_lengths(self, size: tuple[int, int]) -> list[int]:
        """How many pixels in turn are outside, inside, outside ... of the mask, column after column.

        Those are the uncompressed `counts` of the COCO data set (cocodataset.org, "Data format").
        """
        H, W = size
        steps = np.diff(np.pad(self.inside, ((1, 1), (0, 0))).astype(np.int8), axis=0)  # 1 in, -1 out
        columns, rows = np.nonzero(steps.T)
        # In and out alternate within each column. What leaves one at its end may come in again in the next.
        turns = (self.left + columns) * H + self.top + rows
        meets = np.flatnonzero(turns[1:-1:2] == turns[2::2])
        turns = np.delete(turns, np.concatenate([2 * meets + 1, 2 * meets + 2]))
        lengths = np.diff(np.concatenate([[0], turns, [H * W]])).tolist()
        return lengths if len(lengths) == 1 or lengths[-1] else lengths[:-1]


def mask_of(coefficients: Array, prototypes: Array, box: Array, placement: Placement) -> MaskPart:
    """
    Compute the mask of one object in the pixels of the image.

    A pixel belongs to it where its centre lies in the box, and where ``sum of coefficients[k] *
    prototypes[k]``, interpolated linearly at its centre, is above 0: where its sigmoid is above 1/2 (Bolya et
    al. 2019, YOLACT, arXiv:1904.02689).

    Parameters
    ----------
    coefficients : array, (K,)
    prototypes : array, (K, h, w)
        Planes that cover the network's image.
    box : array, (4,)
        x1, y1, x2, y2 in pixels of the image, and within it.
    placement : Placement
        How the image lay in the network's.

    Returns
    -------
    MaskPart

    Examples
    --------
    >>> placement = Placement((4, 4), (4, 4), (4, 4), 0, 0)
    >>> plane = np.array([[[1.0, -1.0], [1.0, -1.0]]])
    >>> mask_of(np.array([1.0]), plane, np.array([0.0, 1.0, 3.0, 4.0]), placement).inside.astype(int)
    array([[1, 1, 0],
           [1, 1, 0],
           [1, 1, 0]])
    """
    left, top, right, bottom = (math.ceil(edge - 0.5) for edge in box.tolist())
    (H, W), (h, w), frame = placement.image, placement.inner, placement.frame
    K, *size = prototypes.shape
    y = placement.top + (np.arange(top, max(top, bottom)) + 0.5) * (h / H)
    x = placement.left + (np.arange(left, max(left, right)) + 0.5) * (w / W)
    with np.errstate(invalid="ignore", over="ignore"):  # NaN is not above 0
        logits = (coefficients @ prototypes.reshape(K, -1)).reshape(size)
        rows, columns = y * (size[0] / frame[0]) - 0.5, x * (size[1] / frame[1]) - 0.5
        inside, step = np.empty((len(y), len(x)), bool), max(1, _BLOCK // max(1, len(x)))
        for start in range(0, len(y), step):
            block = slice(start, start + step)
            inside[block] = bilinear(logits, rows[block], columns) > 0
    return MaskPart(top, left, inside)


class MaskParts(Sequence[MaskPart]):
    """
    Masks of the objects in an image, each computed by :func:`mask_of` when it is asked for.

    A mask of a large photo takes as many bytes as the photo has pixels; hundreds of them need not be there at
    a time.

    Parameters
    ----------
    coefficients : array, (N, K)
    prototypes : array, (K, h, w)
    boxes : array, (N, 4)
    placement : Placement

    Examples
    --------
    >>> placement = Placement((4, 4), (4, 4), (4, 4), 0, 0)
    >>> parts = MaskParts(np.ones((1, 1)), np.ones((1, 2, 2)), np.array([[0.0, 1.0, 2.0, 2.0]]), placement)
    >>> len(parts), parts[0]
    (1, MaskPart(top=1, left=0, inside=array([[ True,  True]])))
    """

    def __init__(self, coefficients: Array, prototypes: Array, boxes: Array, placement: Placement) -> None:
        self._coefficients, self._prototypes = coefficients, prototypes
        self._boxes, self._placement = boxes, placement

    def __len__(self) -> int:
        return len(self._boxes)

    @overload
    def __getitem__(self, index: int) -> MaskPart: ...

    @overload
    def __getitem__(self, index: slice) -> MaskParts: ...

    def __getitem__(self, index: Any) -> Any:
        chosen = self._coefficients[index], self._prototypes, self._boxes[index], self._placement
        return MaskParts(*chosen) if isinstance(index, slice) else mask_of(*chosen)
