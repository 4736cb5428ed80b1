"""Files of single handwritten characters, as a network of scanned ones wants them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from cnnlib.data.image_files import open_image
from cnnlib.data.image_folder import in_order_of_splits, splits

_INK = 51  # of 255: what counts as part of a digit


def load_writing(
    root: str | os.PathLike, shape: tuple[int, ...], validation: float = 0.1, test: float = 0.1
) -> dict[str, Any]:
    """The splits of ``load_image_folder``, of images (N, *shape) of the files' ink, float32 in [0, 1]."""
    root = Path(root)
    classes, files, labels, place = in_order_of_splits(root, seed=0)
    paths = tuple(root / file for file in files)
    images = [ink_of(open_image(path).convert("L"), *shape[1:]) for path in paths]
    X = np.array(images, np.float32).reshape(-1, *shape)
    return {**splits("load_writing", X, labels, paths, place, validation, test), "classes": classes}


def ink_of(image, H, W):
    """A grey image of a character as float32 (H, W) in [0, 1], bright ink on a dark ground."""
    pixels = np.asarray(image)
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    if np.median(edge) > 127.5:
        pixels = 255 - pixels
    if pixels.shape == (H, W):
        return np.float32(pixels) / 255
    inked = pixels > _INK
    rows, columns = np.flatnonzero(inked.any(axis=1)), np.flatnonzero(inked.any(axis=0))
    if len(rows) == 0:
        return np.zeros((H, W), dtype=np.float32)
    ink = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    # On a square (or H : W) ground that the longer side of the ink fills, and that is never whole in memory.
    if ink.shape[0] * W > ink.shape[1] * H:
        ground = round(ink.shape[0] / H * W)
        return np.float32(_boxes(_boxes(ink, H, ink.shape[0]).T, W, ground).T / 255)
    ground = round(ink.shape[1] / W * H)
    return np.float32(_boxes(_boxes(ink.T, W, ink.shape[1]).T, H, ground) / 255)


def _boxes(image, rows, height):
    """`image` in the middle of a dark ground of that height, in so many rows.

    Each is the mean of a block of rows, as the published digits are counts of inked dots in blocks, or, of
    fewer rows, the nearest one. The ground itself takes no memory.
    """
    height = max(height, len(image))
    top = (height - len(image)) // 2
    if height < rows:
        first = (2 * np.arange(rows) + 1) * height // (2 * rows)
        last = first + 1
    else:
        edges = (2 * np.arange(rows + 1) * height - rows) // (2 * rows) + 1
        first, last = edges[:-1], edges[1:]
    sums = [
        image[max(start - top, 0) : max(stop - top, 0)].sum(axis=0, dtype=np.float64)
        for start, stop in zip(first, last, strict=True)
    ]
    return np.stack(sums) / (last - first)[:, None]
