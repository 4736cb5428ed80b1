"""The loss over growing learning rates, and which of them is a good one to train with."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SMOOTHING = 0.9  # weight of the losses before in the mean that says whether the loss diverges
_WINDOW = (
    0.05  # share of the curve, on either side, of which a smoothed loss is the mean: it lags behind nothing
)
_BELOW = 10.0  # times below the rate of the least loss, behind which training soon becomes unstable
_DIVERGED = 4.0  # times the least smoothed loss: behind it the curve tells nothing more
LEAST_STEPS = 10  # of a curve that has a slope
_FIRST = 0.1  # share of the curve that is still that of an untrained network
_WIDTH = 40  # columns of the longest bar
_LINES = 20  # of the curve as text


@dataclass(frozen=True)
class RateCurve:
    """The loss of training steps with growing learning rates.

    Attributes
    ----------
    rates, losses : list of float
        Of each step.
    smoothed : list of float
        The mean of the losses around each.
    suggestion : float or None
        The rate at which the smoothed loss falls most steeply (after Smith 2017, arXiv:1506.01186, section
        3.3, where good rates begin when the loss starts to fall), but at most a tenth of that where it is
        least. None: it does not fall.

    Examples
    --------
    >>> curve = find_rate(lambda rate: 2 - min(rate, 0.5) + max(rate - 0.5, 0) ** 2, np.geomspace(1e-3, 9))
    >>> 0.05 < curve.suggestion < 1
    True
    """

    rates: list[float]
    losses: list[float]
    smoothed: list[float]
    suggestion: float | None

    def __str__(self) -> str:
        """Draw the smoothed loss for the terminal, a line for every few steps."""
        if not self.rates:
            return "no curve: the loss of the first step is no number"
        low, high = min(self.smoothed), max(self.smoothed)
        lines = ["learning rate  loss"]
        for place in np.unique(np.linspace(0, len(self.rates) - 1, _LINES).astype(int)):
            loss = self.smoothed[place]
            bar = "█" * round(_WIDTH * (loss - low) / (high - low)) if high > low else ""
            lines.append(f"{self.rates[place]:13.2e}  {loss:.4g} {bar}".rstrip())
        found = "none: the loss does not fall" if self.suggestion is None else f"{self.suggestion:.2g}"
        return "\n".join([*lines, f"suggestion: {found}"])

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw losses, their running mean and the suggestion; needs matplotlib."""
        from cnnlib.plots._drawing import BLUE, INK, ORANGE, new_axes

        ax = new_axes(ax)
        ax.plot(self.rates, self.losses, ".", color=INK, markersize=3, alpha=0.4)
        ax.plot(self.rates, self.smoothed, color=BLUE)
        if self.suggestion is not None:
            ax.axvline(self.suggestion, color=ORANGE, label=f"suggestion: {self.suggestion:.2g}")
            ax.legend()
        ax.set(xscale="log", xlabel="learning rate", ylabel="loss")
        return ax


def find_rate(step: Callable[[float], float], rates: Iterable[float]) -> RateCurve:
    """Call ``step(rate)``, which trains by a step and returns the loss, for growing `rates`.

    It ends where the loss is no number, or four times the least one.

    Examples
    --------
    >>> find_rate(lambda rate: 1.0, np.geomspace(1e-3, 1, 20)).suggestion is None
    True
    """
    used: list[float] = []
    losses: list[float] = []
    mean, least = 0.0, math.inf
    for rate in rates:
        loss = step(float(rate))
        if not math.isfinite(loss):
            break
        mean = _SMOOTHING * mean + (1 - _SMOOTHING) * loss
        used.append(float(rate))
        losses.append(loss)
        least = min(least, mean / (1 - _SMOOTHING ** len(losses)))
        if loss > _DIVERGED * least:
            break
    half = max(1, int(_WINDOW * len(losses)))
    smoothed = [float(np.mean(losses[max(k - half, 0) : k + half + 1])) for k in range(len(losses))]
    return RateCurve(used, losses, smoothed, _steepest(used, smoothed))


def _steepest(rates: list[float], smoothed: list[float]) -> float | None:
    """Return the rate of the steepest fall before the least loss."""
    first, end = int(_FIRST * len(rates)), int(np.argmin(smoothed)) + 1 if smoothed else 0
    if len(rates) < LEAST_STEPS or end - first < 2:
        return None
    slopes = np.gradient(smoothed, np.log(rates))[first:end]
    place = int(slopes.argmin())
    return min(rates[first + place], rates[end - 1] / _BELOW)
