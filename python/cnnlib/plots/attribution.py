"""What in an image a network answers to: maps over images, patches that excite units, adversarial changes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cnnlib._system.text import shortened
from cnnlib.layers import softmax
from cnnlib.plots._drawing import INK, lettering, new_figure, numbers_of
from cnnlib.plots.images import GROUND, image_grid

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LONG_TITLE = 18  # columns of a name that fit above an image
_PATCH = 48  # pixels of a drawn patch, at least
_PALE = 0.85  # how much white is mixed into the image below a map


def plot_attributions(
    images: ArrayLike, maps: ArrayLike, titles: Sequence[str] | None = None, fig: Figure | None = None
) -> Figure:
    """Draw images, and below each a map of what in it matters, over a pale copy of the image.

    Maps with negative values (the gradient of a score with respect to the image) go from red over
    transparent to blue, others (Grad-CAM, a fall of probability) from transparent to purple. A map is
    stretched to the image's size, and to its own largest absolute value.

    Parameters
    ----------
    images : ndarray (N, C, H, W)
        C = 3 in colour, else grey; each is stretched to its own darkest and brightest pixel.
    maps : ndarray (N, h, w) or (N, C, h, w)
        Of any size; the sum over C is drawn.
    titles : sequence of str, optional
        Above the images.
    fig : matplotlib.figure.Figure, optional
        An empty figure.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        As many maps as images are wanted, and at least one.

    Examples
    --------
    >>> images, gradients = np.random.rand(3, 1, 8, 8), np.random.randn(3, 1, 8, 8)
    >>> len(plot_attributions(images, gradients, titles=["7", "1", "4"]).axes)
    6
    """
    pictures, values = np.asarray(images), np.asarray(maps, dtype=np.float64)
    if values.ndim == 4:
        values = values.sum(axis=1)
    if values.ndim != 3 or len(values) != len(pictures) or len(values) == 0:
        raise ValueError(
            f"plot_attributions: maps must be (N, h, w) or (N, C, h, w) with the N > 0 of images, got shape "
            f"{np.shape(maps)} and images of shape {pictures.shape}"
        )
    signed = bool((values < 0).any())
    fig, axes = _rows(fig, 2, len(pictures))
    _head(axes[0], titles)
    for column, (picture, value) in enumerate(zip(pictures, values)):
        shown = _shown(picture)
        H, W = shown.shape[:2]
        axes[0, column].imshow(shown, interpolation="nearest")
        axes[1, column].imshow(shown + _PALE * (1 - shown), interpolation="nearest")
        limit = max(float(np.abs(value).max()), np.finfo(np.float64).tiny)
        axes[1, column].imshow(
            value,
            cmap="RdBu" if signed else "Purples",
            vmin=-limit if signed else 0,
            vmax=limit,
            alpha=0.9 * np.abs(value) / limit,  # what does not matter lets the image through
            extent=(-0.5, W - 0.5, H - 0.5, -0.5),
            interpolation="nearest" if value.shape == (H, W) else "bilinear",
        )
    return fig


def plot_adversarial(
    images: ArrayLike,
    changed: ArrayLike,
    scores: ArrayLike,
    changed_scores: ArrayLike,
    classes: Sequence[str] | None = None,
    fig: Figure | None = None,
) -> Figure:
    """Draw images, a change of each, and the changed images, with what a model sees before and after.

    Parameters
    ----------
    images, changed : ndarray (N, C, H, W)
        C = 3 in colour, else grey. Both are stretched to the image's darkest and brightest pixel, so that
        they can be compared; of the change, red is darker than before and blue brighter.
    scores, changed_scores : ndarray (N, K)
        A model's scores of both, before the softmax.
    classes : sequence of str, optional
        As in :func:`plot_confusion_matrix`.
    fig : matplotlib.figure.Figure, optional
        An empty figure.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        Images and changed images of different shapes, or none.

    Examples
    --------
    >>> images = np.random.rand(2, 1, 8, 8)
    >>> fig = plot_adversarial(images, images + 0.1, [[2.0, 0.0], [0.0, 1.0]], [[0.0, 2.0], [1.0, 0.0]])
    >>> [ax.get_title() for ax in fig.axes[::4]]
    ['0: 88 %', '1: 88 %']
    """
    before, after = np.asarray(images, dtype=np.float64), np.asarray(changed, dtype=np.float64)
    if before.shape != after.shape or before.ndim != 4 or len(before) == 0:
        raise ValueError(
            "plot_adversarial: images and changed must be (N, C, H, W) of one shape with N > 0, got shapes "
            f"{before.shape} and {after.shape}"
        )
    fig, axes = _rows(fig, 3, len(before))
    change = (after - before).sum(axis=1)
    limit = max(float(np.abs(change).max()), np.finfo(np.float64).tiny)
    for row, of_row in ((0, scores), (2, changed_scores)):
        names = _seen(of_row, classes)
        _head(axes[row], names)
    for column, (image, value) in enumerate(zip(before, change)):
        low, high = image.min(), image.max()
        axes[0, column].imshow(_shown(image), interpolation="nearest")
        axes[1, column].imshow(value, cmap="RdBu", vmin=-limit, vmax=limit, interpolation="nearest")
        axes[2, column].imshow(_shown(after[column], low, high), interpolation="nearest")
    for ax, name in zip(axes[:, 0], ("image", "change", "changed")):
        ax.set_ylabel(name, fontsize=8, color=INK)
    return fig


def plot_patches(
    patches: ArrayLike, labels: Sequence[str] | None = None, fig: Figure | None = None
) -> Figure:
    """Draw a row of patches for each unit of a network: what it answers to most.

    Parameters
    ----------
    patches : ndarray (units, count, C, h, w)
        C = 3 in colour, else grey. The patches of a unit share one range of brightness.
    labels : sequence of str, optional
        Beside the rows; by default 'unit 0', 'unit 1' and so on.
    fig : matplotlib.figure.Figure, optional
        An empty figure.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        An array of another number of axes, or an empty one.

    Examples
    --------
    >>> len(plot_patches(np.random.rand(4, 6, 1, 5, 5)).axes)
    4
    """
    pieces = np.asarray(patches, dtype=np.float64)
    if pieces.ndim != 5 or pieces.size == 0:
        raise ValueError(f"plot_patches: patches must be (units, count, C, h, w), got shape {pieces.shape}")
    units, count, _, h, w = pieces.shape
    names, properties = lettering((f"unit {n}" for n in range(units)) if labels is None else labels)
    fig = new_figure(fig)
    fig.set_size_inches(0.6 * count * w / h + 0.8, 0.62 * units + 0.2)
    axes = fig.subplots(units, 1, squeeze=False)[:, 0]
    scale = math.ceil(_PATCH / h)  # so that the gap is narrower than a pixel of a small patch
    gap = math.ceil(scale * h / 12)
    for ax, of_unit, name in zip(axes, pieces, names):
        low, high = of_unit.min(), of_unit.max()
        strip = np.full((scale * h + 2 * gap, count * (scale * w + gap) + gap, 3), GROUND)
        for n, patch in enumerate(of_unit):
            left = n * (scale * w + gap) + gap
            large = _shown(patch, low, high).repeat(scale, axis=0).repeat(scale, axis=1)
            strip[gap:-gap, left : left + scale * w] = large
        ax.imshow(strip, interpolation="nearest")
        label = ax.set_ylabel(shortened(name, _LONG_TITLE), fontsize=8, **properties)
        label.set(rotation=0, ha="right", va="center")
        _bare(ax)
    return fig


def _rows(fig: Figure | None, rows: int, columns: int) -> tuple[Figure, NDArray[Any]]:
    """A figure with axes (rows, columns) without frames."""
    fig = new_figure(fig)
    fig.set_size_inches(max(1.15 * columns, 3), 1.15 * rows + 0.3)
    axes = fig.subplots(rows, columns, squeeze=False)
    for ax in axes.flat:
        _bare(ax)
    return fig, axes


def _bare(ax):
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def _head(axes, titles):
    if titles is not None:
        names, properties = lettering(titles)
        for ax, name in zip(axes, names):
            ax.set_title(shortened(name, _LONG_TITLE), fontsize=8, color=INK, **properties)


def _seen(scores, classes):
    """The likeliest class of each, with its probability."""
    numbers = numbers_of("plot_adversarial", "scores", scores, ndim=2)
    probability = softmax(numbers.astype(np.float64))
    best = probability.argmax(axis=1)
    names = [str(k) if classes is None else classes[k] for k in best]
    return [
        f"{shortened(name, _LONG_TITLE - 7)}: {100 * row[k]:.0f} %"
        for name, row, k in zip(names, probability, best)
    ]


def _shown(image, low=None, high=None):
    """An image (C, H, W) as imshow takes it; `low` is black and `high` white, by default its own."""
    if low is None:
        return image_grid(image[None], padding=0, layout="NCHW")
    picture = image if len(image) == 3 else np.repeat(image.mean(axis=0, keepdims=True), 3, axis=0)
    return np.clip((picture - low) / (high - low if high > low else 1), 0, 1).transpose(1, 2, 0)
