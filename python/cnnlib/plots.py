"""Pictures of a training run, for notebooks and files; they need matplotlib (``pip install cnnlib[plots]``).

Each function draws into the axes or the figure that it is given, or else into a new one of
``matplotlib.pyplot``, and returns it; nothing is shown or saved. Matplotlib is imported when one is called.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "image_grid",
    "plot_accuracy",
    "plot_confusion_matrix",
    "plot_filters",
    "plot_loss",
    "plot_mistakes",
]

_TRAIN, _VAL = "#1f77b4", "#d95f02"  # blue and orange: told apart by colour-blind readers too
_INK = "#333333"
_GROUND = 0.80, 0.87, 0.94  # a blue that is neither black, white nor grey: a filter's edge pixels stand out
_GOOD = 95  # % of accuracy, above which a linear axis shows nothing
_ACCURACIES = (0, 50, 80, 90, 95, 98, 99, 99.5, 100)
_LONG_LABEL, _LONG_TITLE = (
    20,
    14,
)  # characters of a class's name that fit beside a matrix, above a small image
_LEAST_ERRORS = 0.3  # %, added to the errors on a logarithmic axis: 100 % has a place there too


def plot_loss(
    loss_history: ArrayLike,
    iterations_per_epoch: int | None = None,
    ax: Axes | None = None,
    val_loss_history: ArrayLike | None = None,
) -> Axes:
    """Draw the loss of every iteration, and its running mean; beside it the validation loss.

    Parameters
    ----------
    loss_history : sequence of float
        As a Solver keeps it.
    iterations_per_epoch : int, optional
        Label the horizontal axis in epochs, and average over an epoch (else over a fiftieth of the run).
    ax : matplotlib.axes.Axes, optional
    val_loss_history : sequence of float, optional
        An entry before the first epoch, which is not drawn (an untrained batch norm makes it huge), and one
        after each, as a Solver keeps it; it needs `iterations_per_epoch`.

    Returns
    -------
    matplotlib.axes.Axes
    """
    if val_loss_history is not None and iterations_per_epoch is None:
        raise ValueError("plot_loss: val_loss_history needs iterations_per_epoch")
    ax = _axes(ax)
    loss = np.asarray(loss_history, dtype=np.float64)
    steps = np.arange(1, len(loss) + 1) / (iterations_per_epoch or 1)
    ax.plot(steps, loss, color=_TRAIN, alpha=0.35, linewidth=0.8, label="each minibatch")
    window = min(iterations_per_epoch or max(len(loss) // 50, 1), len(loss))
    if window > 1:
        sums = np.concatenate([[0.0], np.cumsum(loss)])
        mean = (sums[window:] - sums[:-window]) / window
        middle = (steps[window - 1 :] + steps[: len(loss) - window + 1]) / 2
        ax.plot(middle, mean, color=_TRAIN, linewidth=1.8, label=f"running mean of {window}")
    if val_loss_history is not None:
        val = np.asarray(val_loss_history)[1:]
        epochs = np.arange(1, len(val) + 1)
        ax.plot(epochs, val, color=_VAL, marker=".", linewidth=1.5, label="validation, unregularised")
    if window > 1 or val_loss_history is not None:
        ax.legend(frameon=False)
    if len(loss) and loss.min() > 0 and loss.max() > 30 * np.median(loss):
        ax.set_yscale("log")  # else the first iterations flatten all the others
    else:
        ax.set_ylim(bottom=0)
    _count_in_integers(ax)
    title = "Training loss" if val_loss_history is None else "Loss"
    ax.set(title=title, xlabel="epoch" if iterations_per_epoch else "iteration", ylabel="loss")
    return _open_frame(ax)


def plot_accuracy(train_acc_history: ArrayLike, val_acc_history: ArrayLike, ax: Axes | None = None) -> Axes:
    """Draw training and validation accuracy by epoch, and mark the best validation accuracy.

    Where one of them reaches 95 %, the axis is logarithmic in the share of errors, so that 98, 99 and 99.5 %
    can be told apart; else it is linear, from 0 to 100 %.

    Parameters
    ----------
    train_acc_history, val_acc_history : sequence of float
        In 0..1, an entry before the first epoch and one after each, as a Solver keeps them.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = _axes(ax)
    train = 100 * np.asarray(train_acc_history)
    ax.plot(train, color=_TRAIN, marker=".", linewidth=1.5, label="training")
    val = 100 * np.asarray(val_acc_history)
    ax.plot(val, color=_VAL, marker=".", linewidth=1.5, label="validation")
    if len(val):
        best = int(np.argmax(val))
        label = f"best: {val[best]:.1f} % (epoch {best})"
        ax.plot(best, val[best], "o", markersize=9, markerfacecolor="none", color=_VAL, label=label)
    if max(train.max(initial=0), val.max(initial=0)) >= _GOOD:
        ax.set_yscale("function", functions=(_place_of, _accuracy_at))
        ax.set_yticks(_ACCURACIES, [f"{accuracy:g}" for accuracy in _ACCURACIES])
        ax.minorticks_off()
        ax.set_ylim(0, 100.05)
    else:
        ax.set_ylim(0, 102)
    _count_in_integers(ax)
    ax.legend(frameon=False, loc="lower right")
    ax.set(title="Accuracy", xlabel="epoch", ylabel="accuracy (%)")
    return _open_frame(ax)


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
    """
    ax = _axes(ax)
    weights = np.asarray(weights)
    shown = weights[:max_filters]
    ax.imshow(image_grid(shown, layout="NCHW", ground=_GROUND), interpolation="nearest")
    _frame(ax, len(shown), *shown.shape[2:])
    ax.set_axis_off()
    count = f"{len(shown)} of {len(weights)}" if len(shown) < len(weights) else str(len(weights))
    ax.set_title(f"First-layer filters ({count})")
    return ax


def plot_confusion_matrix(
    y_true: ArrayLike, y_pred: ArrayLike, classes: Sequence[str] | None = None, ax: Axes | None = None
) -> Axes:
    """Draw how many samples of each true class (rows) were taken for each class (columns).

    Parameters
    ----------
    y_true, y_pred : array of int (N,)
    classes : sequence of str, optional
        The classes' names, of which long ones are cut; by default their numbers.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
    """
    y_true, y_pred = np.asarray(y_true), np.asarray(y_pred)
    if classes is None:
        classes = [str(k) for k in range(1 + max(y_true.max(initial=0), y_pred.max(initial=0)))]
    K = len(classes)
    counts = np.zeros((K, K), dtype=np.int64)
    np.add.at(counts, (y_true, y_pred), 1)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)

    ax = _axes(ax)
    # The square root lets rare mistakes be seen beside the many right answers.
    ax.imshow(np.sqrt(share), cmap="Blues", vmin=0, vmax=1)
    size = 9 if K <= 12 else max(4, 100 // K)
    for row, column in np.argwhere(counts):
        dark = math.sqrt(share[row, column]) > 0.6
        colour = "white" if dark else _INK
        ax.text(column, row, counts[row, column], ha="center", va="center", fontsize=size, color=colour)
    classes = [_cut(name, _LONG_LABEL) for name in classes]
    longest = max(map(len, classes))
    ax.set_xticks(
        range(K), classes, rotation=45 if longest > 2 else 0, ha="right" if longest > 2 else "center"
    )
    ax.set_yticks(range(K), classes)
    ax.tick_params(length=0)
    accuracy = np.trace(counts) / max(counts.sum(), 1)
    ax.set(
        title=f"{np.trace(counts)} of {counts.sum()} right ({100 * accuracy:.1f} %)",
        xlabel="predicted",
        ylabel="true class",
    )
    return ax


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
        Long names are cut.
    max_images : int
        Draw at most so many.
    fig : matplotlib.figure.Figure, optional
        An empty figure.

    Returns
    -------
    matplotlib.figure.Figure
    """
    scores, y_true = np.asarray(scores), np.asarray(y_true)
    classes = [_cut(name, _LONG_TITLE) for name in classes or map(str, range(scores.shape[1]))]
    probability = softmax(scores)
    predicted = scores.argmax(axis=1)
    wrong = np.flatnonzero(predicted != y_true)
    sureness = probability[wrong, predicted[wrong]]
    worst = wrong[np.argsort(-sureness, kind="stable")][:max_images]

    if fig is None:
        fig = _pyplot().figure(layout="constrained")
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
        seen = f"seen: {classes[predicted[n]]}, {100 * probability[n, predicted[n]]:.0f} %"
        ax.set_title(f"{seen}\ntrue: {classes[y_true[n]]}", fontsize=7, color=_INK)
        ax.set_axis_off()
    return fig


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


def _cut(name, length):
    """`name`, or its beginning where it is longer."""
    return name if len(name) <= length else f"{name[: length - 1].rstrip()}…"


def _frame(ax, count, H, W):
    """Draw a line around each image of an :func:`image_grid` with a pixel between images."""
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    columns = _grid_columns(count)
    corners = [(n % columns * (W + 1) - 0.5, n // columns * (H + 1) - 0.5) for n in range(count)]
    frames = [Rectangle(corner, W, H) for corner in corners]
    ax.add_collection(PatchCollection(frames, facecolor="none", edgecolor=_INK, linewidth=0.8))
    ax.set_xlim(-0.8, columns * (W + 1) - 1.2)  # room for the outermost lines
    ax.set_ylim(math.ceil(count / columns) * (H + 1) - 1.2, -0.8)


def _place_of(accuracy):
    """Where an accuracy (%) lies on the axis that is logarithmic in the errors."""
    return -np.log10(100 + _LEAST_ERRORS - np.minimum(accuracy, 100 + _LEAST_ERRORS / 2))


def _accuracy_at(place):
    """The inverse of :func:`_place_of`."""
    return 100 + _LEAST_ERRORS - 10.0 ** -np.asarray(place)


def _has_channels_last(shape):
    """Whether a shape is that of images (N, H, W, C); filters of 3x3 or of one row are (F, C, KH, KW)."""
    return shape[3] in (1, 3) and min(shape[1:3]) > 3


def softmax(scores: ArrayLike) -> NDArray[np.float64]:
    """Probabilities (N, K) of scores (N, K): ``exp(scores)``, divided by its sum over the classes."""
    scores = np.asarray(scores, dtype=np.float64)
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def _pyplot():
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError("cnnlib.plots needs matplotlib: pip install cnnlib[plots]") from error
    return plt


def _axes(ax):
    return _pyplot().subplots(layout="constrained")[1] if ax is None else ax


def _count_in_integers(ax):
    ax.xaxis.get_major_locator().set_params(integer=True)


def _open_frame(ax):
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(color="#dddddd", linewidth=0.6)
    ax.set_axisbelow(True)
    return ax
