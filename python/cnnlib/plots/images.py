"""Images and filters side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cnnlib.plots._drawing import INK, new_axes, numbers_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GROUND = 0.80, 0.87, 0.94  # a blue that is neither black, white nor grey: a filter's edge pixels stand out


def plot_filters(weights: ArrayLike, max_filters: int = 64, ax: Axes | None = None) -> Axes:
    """Draw filters side by side, each in a frame and stretched to its own smallest and largest weight.

    Parameters
    ----------
    weights : ndarray (F, C, KH, KW)
        With C = 3 in colour, otherwise the mean over C in grey.
    max_filters : int
        Draw the first so many.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> plot_filters(np.random.randn(16, 3, 5, 5)).get_title()
    'First-layer filters (16)'
    """
    weights = numbers_of("plot_filters", "weights", weights, ndim=4)
    ax = new_axes(ax)
    shown = weights[:max_filters]
    ax.imshow(image_grid(shown, layout="NCHW", ground=GROUND), interpolation="nearest")
    _frame(ax, len(shown), *shown.shape[2:])
    ax.set_axis_off()
    count = f"{len(shown)} of {len(weights)}" if len(shown) < len(weights) else str(len(weights))
    ax.set_title(f"First-layer filters ({count})")
    return ax


def image_grid(
    images: ArrayLike, padding: int = 1, layout: str | None = None, ground: float | Sequence[float] = 1.0
) -> NDArray[np.float64]:
    """Lay images out in a near-square grid, each stretched to its own range.

    Parameters
    ----------
    images : ndarray (N, C, H, W) or (N, H, W, C)
        C = 3 gives colours, any other C the grey mean over C.
    padding : int
        Pixels between images.
    layout : 'NCHW', 'NHWC' or None
        None: NHWC where the last dimension is 1 or 3 and both before it are larger than 3, else NCHW.

    ground : float or (red, green, blue)
        Brightness, in [0, 1], between images and where none is left for a place: 1 is white.

    Returns
    -------
    ndarray (rows * (H + padding) - padding, columns * (W + padding) - padding, 3)
        Float, in [0, 1]: what ``imshow`` takes.

    Raises
    ------
    ValueError
        Images of another shape, none at all, another layout.

    Examples
    --------
    >>> image_grid(np.random.rand(5, 3, 8, 8)).shape, image_grid(np.random.rand(5, 8, 8, 3)).shape
    ((17, 26, 3), (17, 26, 3))
    """
    pictures = np.asarray(images, dtype=np.float64)
    if pictures.ndim != 4 or len(pictures) == 0:
        raise ValueError(
            f"image_grid: images must be (N, C, H, W) or (N, H, W, C) with N > 0, got shape {pictures.shape}"
        )
    if layout not in (None, "NCHW", "NHWC"):
        raise ValueError(f"image_grid: layout must be 'NCHW', 'NHWC' or None, got {layout!r}")
    if layout == "NHWC" or (layout is None and _has_channels_last(pictures.shape)):
        pictures = pictures.transpose(0, 3, 1, 2)
    if pictures.shape[1] != 3:
        pictures = np.repeat(pictures.mean(axis=1, keepdims=True), 3, axis=1)
    low = pictures.min(axis=(1, 2, 3), keepdims=True)
    span = pictures.max(axis=(1, 2, 3), keepdims=True) - low
    pictures = (pictures - low) / np.where(span > 0, span, 1)
    N, _, H, W = pictures.shape
    columns = _grid_columns(N)
    rows = math.ceil(N / columns)
    grid = np.empty((rows, H + padding, columns, W + padding, 3))
    grid[:] = np.clip(ground, 0, 1)
    for n in range(N):
        grid[n // columns, :H, n % columns, :W] = pictures[n].transpose(1, 2, 0)
    return grid.reshape(rows * (H + padding), columns * (W + padding), 3)[
        : rows * (H + padding) - padding, : columns * (W + padding) - padding
    ]


def _grid_columns(count):
    """Columns of a near-square grid of so many images."""
    return math.ceil(math.sqrt(count))


def _frame(ax, count, H, W):
    """Draw a line around each image of an :func:`image_grid` with a pixel between images."""
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    columns = _grid_columns(count)
    corners = [(n % columns * (W + 1) - 0.5, n // columns * (H + 1) - 0.5) for n in range(count)]
    frames = [Rectangle(corner, W, H) for corner in corners]
    ax.add_collection(PatchCollection(frames, facecolor="none", edgecolor=INK, linewidth=0.8))
    ax.set_xlim(-0.8, columns * (W + 1) - 1.2)  # room for the outermost lines
    ax.set_ylim(math.ceil(count / columns) * (H + 1) - 1.2, -0.8)


def _has_channels_last(shape):
    """Whether a shape is that of images (N, H, W, C); filters of 3x3 or of one row are (F, C, KH, KW)."""
    return shape[3] in (1, 3) and min(shape[1:3]) > 3
