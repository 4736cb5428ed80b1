"""Curves of a training, and where the time of a network goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from cnnlib._system.text import shortened
from cnnlib.plots._drawing import (
    BLUE,
    INK,
    ORANGE,
    count_in_integers,
    lettering,
    new_axes,
    numbers_of,
    open_frame,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_GOOD = 95  # % of accuracy, above which a linear axis shows nothing
_ACCURACIES = (0, 50, 80, 90, 95, 98, 99, 99.5, 100)
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

    Examples
    --------
    >>> plot_loss([2.3, 1.7, 1.1, 0.9], iterations_per_epoch=2).get_title()
    'Training loss'
    """
    if val_loss_history is not None and iterations_per_epoch is None:
        raise ValueError("plot_loss: val_loss_history needs iterations_per_epoch")
    loss = numbers_of("plot_loss", "loss_history", loss_history).astype(np.float64)
    if val_loss_history is not None:
        val_loss_history = numbers_of("plot_loss", "val_loss_history", val_loss_history)
    ax = new_axes(ax)
    steps = np.arange(1, len(loss) + 1) / (iterations_per_epoch or 1)
    ax.plot(steps, loss, color=BLUE, alpha=0.35, linewidth=0.8, label="each minibatch")
    window = min(iterations_per_epoch or max(len(loss) // 50, 1), len(loss))
    if window > 1:
        sums = np.concatenate([[0.0], np.cumsum(loss)])
        mean = (sums[window:] - sums[:-window]) / window
        middle = (steps[window - 1 :] + steps[: len(loss) - window + 1]) / 2
        ax.plot(middle, mean, color=BLUE, linewidth=1.8, label=f"running mean of {window}")
    if val_loss_history is not None:
        val = val_loss_history[1:]
        epochs = np.arange(1, len(val) + 1)
        ax.plot(epochs, val, color=ORANGE, marker=".", linewidth=1.5, label="validation, unregularised")
    if window > 1 or val_loss_history is not None:
        ax.legend(frameon=False)
    if len(loss) and loss.min() > 0 and loss.max() > 30 * np.median(loss):
        ax.set_yscale("log")  # else the first iterations flatten all the others
    elif ax.dataLim.y0 >= 0:
        ax.set_ylim(bottom=0)
    count_in_integers(ax)
    title = "Training loss" if val_loss_history is None else "Loss"
    ax.set(title=title, xlabel="epoch" if iterations_per_epoch else "iteration", ylabel="loss")
    return open_frame(ax)


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

    Examples
    --------
    >>> plot_accuracy([0.1, 0.6, 0.8], [0.1, 0.5, 0.7]).get_ylabel()
    'accuracy (%)'
    """
    train = 100 * numbers_of("plot_accuracy", "train_acc_history", train_acc_history)
    val = 100 * numbers_of("plot_accuracy", "val_acc_history", val_acc_history)
    ax = new_axes(ax)
    best = int(np.argmax(val)) if len(val) else None
    _two_curves(ax, train, val, best, "best: {:.1f} %")
    if max(train.max(initial=0), val.max(initial=0)) >= _GOOD:
        ax.set_yscale("function", functions=(_place_of, _accuracy_at))
        ax.set_yticks(_ACCURACIES, [f"{accuracy:g}" for accuracy in _ACCURACIES])
        ax.minorticks_off()
        ax.set_ylim(0, 100.05)
        ylabel = "accuracy (%), stretched towards 100"
    else:
        ax.set_ylim(0, 102)
        ylabel = "accuracy (%)"
    ax.legend(frameon=False, loc="lower right")
    ax.set(title="Accuracy", xlabel="epoch", ylabel=ylabel)
    return open_frame(ax)


def plot_metric(
    train_history: ArrayLike,
    val_history: ArrayLike,
    name: str,
    best_epoch: int | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw any metric of training and validation by epoch.

    Parameters
    ----------
    train_history, val_history : sequence of float
        An entry before the first epoch and one after each, as a Solver keeps them in its `histories`.
    name : str
        What the axis says.
    best_epoch : int, optional
        Marked on the validation's curve.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> plot_metric([9.0, 2.0, 1.0], [9.1, 2.5, 2.7], "rmse", best_epoch=1).get_ylabel()
    'rmse'
    """
    train = numbers_of("plot_metric", "train_history", train_history)
    val = numbers_of("plot_metric", "val_history", val_history)
    if best_epoch is not None and not 0 <= best_epoch < len(val):
        raise ValueError(f"plot_metric: best_epoch is {best_epoch}, val_history has {len(val)} epochs")
    ax = new_axes(ax)
    _two_curves(ax, train, val, best_epoch, "kept: {:.4g}")
    ax.legend(frameon=False)
    ax.set(title=name, xlabel="epoch", ylabel=name)
    return open_frame(ax)


def _two_curves(ax, train, val, marked, label):
    """Draw training and validation by epoch, one of whose values is marked."""
    for values, colour, name in ((train, BLUE, "training"), (val, ORANGE, "validation")):
        ax.plot(values, color=colour, marker=".", linewidth=1.5, label=name)
    if marked is not None:
        text = f"{label.format(val[marked])} (epoch {marked})"
        ax.plot(marked, val[marked], "o", markersize=9, markerfacecolor="none", color=ORANGE, label=text)
    count_in_integers(ax)


def _place_of(accuracy):
    """Where an accuracy (%) lies on the axis that is logarithmic in the errors."""
    return -np.log10(100 + _LEAST_ERRORS - np.minimum(accuracy, 100 + _LEAST_ERRORS / 2))


def _accuracy_at(place):
    """The inverse of :func:`_place_of`."""
    return 100 + _LEAST_ERRORS - 10.0 ** -np.asarray(place)


_LONG_LABEL = 40  # columns of a step's name that fit beside the bars


def plot_profile(
    profile: Sequence[tuple[str, float, float]], max_steps: int = 30, ax: Axes | None = None
) -> Axes:
    """Draw the time of each step of a prepared network as a bar, in the order in which they run.

    Beside a bar stand its share of the whole and its rate, in operations of the direct method.

    Parameters
    ----------
    profile : list of (step, seconds, operations)
        As ``Predictor.profile`` returns it.
    max_steps : int
        Of more, the ones that take longest are drawn, and one bar for the others.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        A profile without steps, `max_steps` below 1.

    Examples
    --------
    >>> plot_profile([("conv 16 3x3", 2e-3, 6e7), ("affine 10", 5e-4, 1e6)]).get_title()
    'Time by layer: 2.50 ms'
    """
    if len(profile) == 0 or max_steps < 1:
        raise ValueError(f"plot_profile: needs a profile with steps and max_steps > 0, got {max_steps!r}")
    steps, seconds, operations = zip(*_longest(profile, max_steps))
    total = sum(seconds)
    names, properties = lettering(steps)
    ax = new_axes(ax)
    places = np.arange(len(names))
    bars = ax.barh(places, [1e3 * value for value in seconds], height=0.7, color=BLUE)
    labels = []
    for value, count in zip(seconds, operations):
        rate = f", {count / value / 1e9:.3g} Gop/s" if count and value else ""
        labels.append(f"{100 * value / total if total else 0:.0f} %{rate}")
    ax.bar_label(bars, labels, padding=4, fontsize=7, color=INK)
    ax.set_yticks(places, [shortened(name, _LONG_LABEL) for name in names], fontsize=8, **properties)
    ax.invert_yaxis()
    ax.tick_params(axis="y", length=0)
    ax.tick_params(axis="x", labelsize=8)
    ax.set_xlim(0, 1e3 * max(seconds) * 1.3 or 1)  # room for what stands beside the longest bar
    ax.set(title=f"Time by layer: {1e3 * total:.2f} ms", xlabel="ms")
    open_frame(ax)
    ax.grid(visible=False, axis="y")
    return ax


def _longest(profile, max_steps):
    """The steps, or the longest of them in their order and one for the others."""
    if len(profile) <= max_steps:
        return list(profile)
    order = sorted(range(len(profile)), key=lambda n: -profile[n][1])
    kept, others = sorted(order[: max_steps - 1]), order[max_steps - 1 :]
    rest = [sum(profile[n][column] for n in others) for column in (1, 2)]
    return [*(profile[n] for n in kept), (f"{len(others)} others", *rest)]
