"""A picture of many small ones."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray


def visualize_grid(Xs: ArrayLike, ubound: float = 255.0, padding: int = 1) -> NDArray[np.float64]:
    """Lay images out in a square grid on black, each stretched to 0 .. ubound.

    (:func:`cnnlib.plots.image_grid` is the one to use elsewhere.)

    Parameters
    ----------
    Xs : array, (N, H, W, C)
        Images or filters with channels last: ``W1.transpose(0, 2, 3, 1)`` of filters (F, C, KH, KW).
    ubound : float
        What the largest value of each image becomes; the smallest becomes 0.
    padding : int
        Black pixels between images.

    Returns
    -------
    array, (K * (H + padding) - padding, K * (W + padding) - padding, C)
        With ``K = ceil(sqrt(N))``; float64, so that pictures ask for ``.astype('uint8')``.

    Raises
    ------
    ValueError
        Images of another shape.

    Examples
    --------
    >>> visualize_grid(np.random.rand(5, 7, 7, 3)).shape
    (23, 23, 3)
    """
    images = np.asarray(Xs, dtype=np.float64)
    if images.ndim != 4:
        raise ValueError(f"visualize_grid: Xs must be (N, H, W, C), got shape {images.shape}")
    N, H, W, C = images.shape
    K = math.ceil(math.sqrt(N))
    grid = np.zeros((max(K * (H + padding) - padding, 0), max(K * (W + padding) - padding, 0), C))
    for n, image in enumerate(images):
        top, left = n // K * (H + padding), n % K * (W + padding)
        span = np.ptp(image) if image.size else 0
        if span > 0:
            grid[top : top + H, left : left + W] = ubound * ((image - image.min()) / span)
    return grid
