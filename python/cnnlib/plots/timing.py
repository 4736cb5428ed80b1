"""Where the time of a network goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cnnlib._system.text import shortened
from cnnlib.plots._drawing import BLUE, INK, new_axes, open_frame
from cnnlib.plots._lettering import lettering

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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
    ax.barh(places, [1e3 * value for value in seconds], height=0.7, color=BLUE)
    for place, value, count in zip(places, seconds, operations):
        rate = f", {count / value / 1e9:.3g} Gop/s" if count and value else ""
        ax.annotate(
            f"{100 * value / total if total else 0:.0f} %{rate}",
            (1e3 * value, place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=7,
            color=INK,
        )
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
