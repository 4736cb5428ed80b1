"""Plain-loop detection: images in a frame, boxes of a network's output, one box for each object, masks.

Each ``<name>_naive`` computes what its twin in :mod:`cnnlib.detection` does.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlib._typing import Array

__all__ = ["decode_naive", "letterbox_naive", "mask_of_naive", "non_max_suppression_naive"]

_FILL = 114  # the grey of the frame


def letterbox_naive(image: NDArray[np.uint8], size: tuple[int, int]) -> tuple[NDArray[np.uint8], Any]:
    """Scale an image (C, H, W) by ``min(OH / H, OW / W)`` and put it into the middle of a grey frame.

    Returns
    -------
    framed : ndarray (C, OH, OW)
    placement : tuple
        (H, W), (OH, OW), (h, w) of the image in the frame, its first row and its first column.
    """
    C, H, W = image.shape
    OH, OW = size
    scale = min(OH / H, OW / W)
    h, w = max(1, round(H * scale)), max(1, round(W * scale))
    top, left = round((OH - h) / 2 - 0.1), round((OW - w) / 2 - 0.1)
    framed = np.full((C, OH, OW), _FILL, np.uint8)
    for c, i, j in np.ndindex(C, h, w):
        y, x = (i + 0.5) * (H / h) - 0.5, (j + 0.5) * (W / w) - 0.5
        framed[c, top + i, left + j] = math.floor(_bilinear(image[c], y, x) + 0.5)
    return framed, ((H, W), (OH, OW), (h, w), top, left)


def _bilinear(plane, y, x):
    """The value between the four pixels around a point; outside the plane that of its edge."""
    H, W = plane.shape
    y, x = min(max(y, 0.0), H - 1.0), min(max(x, 0.0), W - 1.0)
    above, left = math.floor(y), math.floor(x)
    below, right = min(above + 1, H - 1), min(left + 1, W - 1)

    def between(j):
        upper, lower = float(plane[above, j]), float(plane[below, j])
        return upper + (lower - upper) * (y - above)

    return between(left) + (between(right) - between(left)) * (x - left)


def non_max_suppression_naive(
    boxes: Array, scores: Array, classes: Array | None = None, *, overlap: float = 0.45, most: int = 300
) -> list[int]:
    """Indices of the boxes that stay: a box does not where a better one of its class overlaps it more.

    Better is a higher score, and of equal scores the first; a box whose score is NaN does not stay.
    """
    numbered = [k for k in range(len(boxes)) if not math.isnan(scores[k])]
    chosen: list[int] = []
    for k in sorted(numbered, key=lambda k: (-float(scores[k]), k)):
        if len(chosen) == most:
            break
        others = [c for c in chosen if classes is None or classes[c] == classes[k]]
        if not any(_overlap(boxes[c], boxes[k]) > overlap for c in others):
            chosen.append(k)
    return chosen


def _overlap(a, b):
    """The area that two boxes share, divided by the area that they cover together; 0 where there is none."""
    shared = _area(max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3]))
    covered = _area(*a) + _area(*b) - shared
    return shared / covered if covered > 0 else 0.0


def _area(x1, y1, x2, y2):
    return max(float(x2) - float(x1), 0.0) * max(float(y2) - float(y1), 0.0)


def decode_naive(
    output: Array, num_classes: int, *, score: float = 0.25, end_to_end: bool = False
) -> tuple[Array, Array, NDArray[np.intp], Array]:
    """Corners, scores, classes and further numbers of the boxes whose highest score is above `score`."""
    rows = output if end_to_end else output.T
    found = []
    for row in rows:
        if end_to_end:
            corners, best, label, extras = row[:4], row[4], int(row[5]), row[6:]
        else:
            x, y, w, h = row[:4]
            with np.errstate(invalid="ignore"):  # of infinite numbers
                corners = np.array([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
            extras, label, best = row[4 + num_classes :], 0, -math.inf
            for k in range(num_classes):
                if row[4 + k] > best:  # never of NaN
                    label, best = k, row[4 + k]
        in_order = corners[0] <= corners[2] and corners[1] <= corners[3]
        if best > score and np.isfinite(corners).all() and in_order:
            found.append((corners, best, label, extras))
    boxes = np.array([corners for corners, *_ in found], output.dtype).reshape(-1, 4)
    scores = np.array([best for _, best, _, _ in found], output.dtype)
    classes = np.array([label for _, _, label, _ in found], np.intp)
    extras = np.zeros((len(found), rows.shape[1] - (6 if end_to_end else 4 + num_classes)), output.dtype)
    for row, (*_, numbers) in zip(extras, found):
        row[:] = numbers
    return boxes, scores, classes, extras


def mask_of_naive(coefficients: Array, prototypes: Array, box: Array, placement: Any) -> NDArray[np.bool_]:
    """The mask (H, W) of an object: the pixels in its box at which the prototypes' sum is above 0."""
    (H, W), (OH, OW), (h, w), top, left = placement
    K, rows, columns = prototypes.shape
    logits = np.zeros((rows, columns))
    for k in range(K):
        logits += float(coefficients[k]) * prototypes[k].astype(float)
    mask = np.zeros((H, W), bool)
    for i, j in np.ndindex(H, W):
        if box[0] <= j + 0.5 < box[2] and box[1] <= i + 0.5 < box[3]:
            y, x = top + (i + 0.5) * h / H, left + (j + 0.5) * w / W  # in the network's image
            mask[i, j] = _bilinear(logits, y * rows / OH - 0.5, x * columns / OW - 0.5) > 0
    return mask
