"""Which classes a model takes for which."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cnnlib._system.text import display_width, shortened
from cnnlib.layers import softmax
from cnnlib.plots._drawing import INK, labels_of, lettering, new_axes, new_figure, numbers_of
from cnnlib.plots.images import image_grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_LABELS = 20  # classes whose names fit beside a small matrix
_LONG_LABEL, _LONG_TITLE = 20, 14  # columns of a name that fit beside a matrix, above a small image


def plot_confusion_matrix(
    y_true: ArrayLike, y_pred: ArrayLike, classes: Sequence[str] | None = None, ax: Axes | None = None
) -> Axes:
    """Draw how many samples of each true class (rows) were taken for each class (columns).

    Parameters
    ----------
    y_true, y_pred : array of int (N,)
    classes : sequence of str, optional
        The classes' names, by default their numbers. They are drawn as they stand, long ones cut; characters
        that no installed font has are escaped.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> plot_confusion_matrix([0, 0, 1, 1], [0, 1, 1, 1], classes=("cat", "dog")).get_title()
    '3 of 4 right (75.0 %)'
    """
    y, seen = labels_of("plot_confusion_matrix", _count(classes), y_true=y_true, y_pred=y_pred)
    if classes is None:
        classes = [str(k) for k in range(1 + max(y.max(initial=0), seen.max(initial=0)))]
    K = len(classes)
    counts = _counts(y, seen, K)
    ax = new_axes(ax)
    share = _draw_shares(ax, counts)
    size = 9 if K <= 12 else max(4, 100 // K)
    for row, column in np.argwhere(counts):
        dark = math.sqrt(share[row, column]) > 0.6
        colour = "white" if dark else INK
        ax.text(column, row, counts[row, column], ha="center", va="center", fontsize=size, color=colour)
    names, properties = lettering(classes)
    names = [shortened(name, _LONG_LABEL) for name in names]
    slanted = max(map(display_width, names)) > 2
    place: dict[str, Any] = {"rotation": 45, "ha": "right"} if slanted else {}
    ax.set_xticks(range(K), names, **place, **properties)
    ax.set_yticks(range(K), names, **properties)
    ax.tick_params(length=0)
    accuracy = np.trace(counts) / max(counts.sum(), 1)
    ax.set(
        title=f"{np.trace(counts)} of {counts.sum()} right ({100 * accuracy:.1f} %)",
        xlabel="predicted",
        ylabel="true class",
    )
    return ax


def plot_confusion_history(
    y_true: ArrayLike,
    predictions: ArrayLike,
    titles: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    fig: Figure | None = None,
) -> Figure:
    """Draw a small confusion matrix for each of several times of a training, without numbers.

    Rows are true classes, columns predicted ones; above each stands the share of right answers.

    Parameters
    ----------
    y_true : array of int (N,)
    predictions : array of int (E, N)
        The predicted classes after each of E epochs.
    titles : sequence of str, optional
        Of the times, by default 'epoch 1', 'epoch 2' and so on.
    classes : sequence of str, optional
        As in :func:`plot_confusion_matrix`; drawn beside the first matrix.
    fig : matplotlib.figure.Figure, optional
        An empty figure.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        Predictions of another shape than (E, N) with E > 0, or not as many titles.

    Examples
    --------
    >>> fig = plot_confusion_history([0, 0, 1, 1], [[0, 0, 0, 0], [0, 0, 0, 1]])
    >>> [ax.get_title() for ax in fig.axes]
    ['epoch 1: 50 %', 'epoch 2: 75 %']
    """
    function = "plot_confusion_history"
    (y,), seen = labels_of(function, _count(classes), y_true=y_true), np.asarray(predictions)
    if seen.ndim != 2 or len(seen) == 0 or seen.shape[1:] != y.shape:
        raise ValueError(
            f"plot_confusion_history: predictions must be (E, {y.size}) with E > 0, got shape {seen.shape}"
        )
    labels_of(function, _count(classes), predictions=seen.ravel())
    names, properties = lettering(titles or [f"epoch {n}" for n in range(1, len(seen) + 1)])
    if len(names) != len(seen):
        raise ValueError(f"plot_confusion_history: {len(names)} titles for {len(seen)} times")
    K = 1 + int(max(y.max(initial=0), seen.max(initial=0))) if classes is None else len(classes)
    labels, of_labels = lettering(map(str, range(K)) if classes is None else classes)
    fig = new_figure(fig)
    columns = min(len(seen), 5)
    rows = math.ceil(len(seen) / columns)
    fig.set_size_inches(1.7 * columns + 0.5, 1.95 * rows + 0.2)
    for n, (name, row) in enumerate(zip(names, seen)):
        ax = fig.add_subplot(rows, columns, n + 1)
        _draw_shares(ax, _counts(y, row, K))
        right = 100 * np.mean(row == y) if y.size else 0
        ax.set_title(f"{name}: {right:.0f} %", fontsize=8, color=INK, **properties)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_color("#bbbbbb")
        if n == 0 and K <= _MOST_LABELS:
            labels = [shortened(label, _LONG_TITLE) for label in labels]
            ax.set_yticks(range(K), labels, fontsize=6, **of_labels)
            ax.tick_params(length=0)
    return fig


def plot_mistakes(
    images: NDArray[Any],
    y_true: ArrayLike,
    scores: ArrayLike,
    classes: Sequence[str] | None = None,
    max_images: int = 25,
    fig: Figure | None = None,
) -> Figure:
    """Draw the wrongly classified images of which the model was surest, with what it saw in them.

    Parameters
    ----------
    images : ndarray (N, C, H, W)
        C = 3 in colour, else grey; each is stretched to its own darkest and brightest pixel.
    y_true : array of int (N,)
    scores : ndarray (N, K)
        A model's scores, before the softmax.
    classes : sequence of str, optional
        As in :func:`plot_confusion_matrix`.
    max_images : int
        Draw at most so many.
    fig : matplotlib.figure.Figure, optional
        An empty figure.

    Returns
    -------
    matplotlib.figure.Figure

    Examples
    --------
    >>> scores = np.array([[2.0, 0.0], [0.0, 3.0], [1.0, 0.0]])
    >>> plot_mistakes(np.random.rand(3, 1, 8, 8), [0, 0, 0], scores).get_suptitle()
    '1 of 3 wrong, surest first'
    """
    function = "plot_mistakes"
    scores = numbers_of(function, "scores", scores, ndim=2)
    if classes is not None and len(classes) != scores.shape[1]:
        raise ValueError(f"{function}: {len(classes)} classes for scores {scores.shape}")
    (y_true,) = labels_of(function, scores.shape[1], y_true=y_true)
    if not len(images) == len(scores) == len(y_true):
        counts = f"{len(images)} images, {len(y_true)} labels in y_true and {len(scores)} scores"
        raise ValueError(f"{function}: {counts} do not belong together")
    names, properties = lettering(map(str, range(scores.shape[1])) if classes is None else classes)
    names = [shortened(name, _LONG_TITLE) for name in names]
    probability = softmax(np.asarray(scores, np.float64))
    predicted = scores.argmax(axis=1)
    wrong = np.flatnonzero(predicted != y_true)
    sureness = probability[wrong, predicted[wrong]]
    worst = wrong[np.argsort(-sureness, kind="stable")][:max_images]

    fig = new_figure(fig)
    columns = max(math.ceil(math.sqrt(len(worst))), 1)
    rows = max(math.ceil(len(worst) / columns), 1)
    fig.set_size_inches(max(1.5 * columns, 5), 1.75 * rows + 0.7)
    shown = f"the {len(worst)} surest" if len(worst) < len(wrong) else "surest first"
    fig.suptitle(
        f"{len(wrong)} of {len(y_true)} wrong, {shown}" if len(wrong) else f"None of {len(y_true)} wrong"
    )
    for i, n in enumerate(worst):
        ax = fig.add_subplot(rows, columns, i + 1)
        ax.imshow(image_grid(images[n : n + 1], padding=0, layout="NCHW"), interpolation="nearest")
        seen = f"seen: {names[predicted[n]]}, {100 * probability[n, predicted[n]]:.0f} %"
        ax.set_title(f"{seen}\ntrue: {names[y_true[n]]}", fontsize=7, color=INK, **properties)
        ax.set_axis_off()
    return fig


def _count(classes):
    """How many classes there may be; without names as many as any picture could show."""
    return 2**16 if classes is None else len(classes)


def _counts(y_true, y_pred, K):
    """How many samples of each class (rows) were taken for each class (columns)."""
    counts = np.zeros((K, K), dtype=np.int64)
    np.add.at(counts, (y_true, y_pred), 1)
    return counts


def _draw_shares(ax, counts):
    """Draw the share of each row that each column has, and return it."""
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    # The square root lets rare mistakes be seen beside the many right answers.
    ax.imshow(np.sqrt(share), cmap="Blues", vmin=0, vmax=1)
    return share
