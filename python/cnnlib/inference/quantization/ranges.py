"""The range of a value that 256 steps cover: what calibration saw, cut where that loses least."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from cnnlib._typing import Array

METHODS = ("mse", "percentile", "minmax")
_SAMPLE = 2048  # values kept of an array: some hundred images give a picture of the distribution
_PERCENTILE = 99.99
_CUTS = np.linspace(1.0, 0.3, 36)  # of the whole range, tried by "mse"


@dataclass(frozen=True)
class Scale:
    """``real = scale * (q - zero)``, with q in 0 .. 255."""

    scale: float
    zero: int

    @property
    def range(self) -> tuple[float, float]:
        """The reals of 0 and of 255."""
        return self.scale * (0 - self.zero), self.scale * (255 - self.zero)


def scale_of(low: float, high: float) -> Scale:
    """The scale that covers [low, high] and 0, which a byte stands for exactly.

    A range that is too small for float32 becomes 1: all of its values are 0.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    step = float(np.float32((high - low) / 255))
    if step < np.finfo(np.float32).tiny:
        step = 1.0
    return Scale(step, int(np.clip(np.rint(-low / step), 0, 255)))


@dataclass
class Observed:
    """What calibration has seen of a value."""

    low: float = np.inf
    high: float = -np.inf
    samples: list[Array] = field(default_factory=list)
    lows: list[float] = field(default_factory=list)  # of single images the two least, and the two greatest
    highs: list[float] = field(default_factory=list)

    def add(self, x: Array) -> None:
        """Take note of an array: its bounds, and every so many of its elements."""
        flat, images = x.reshape(-1), x.reshape(len(x), -1)
        self.lows = sorted([*self.lows, *images.min(axis=1).tolist()])[:2]
        self.highs = sorted([*self.highs, *images.max(axis=1).tolist()])[-2:]
        self.low, self.high = self.lows[0], self.highs[-1]
        step = flat.size // _SAMPLE | 1  # odd: of rows of even length, not always the same columns
        self.samples.append(flat[::step].astype(np.float32))

    def outlier(self) -> tuple[float, tuple[float, float]] | None:
        """What one image alone reaches, beyond the range of all others by more than its width; and the range.

        Another image may then leave the range by as much.
        """
        if len(self.lows) < 2:
            return None
        others = self.lows[1], self.highs[0]
        width = others[1] - others[0]
        above, below = self.high - others[1], others[0] - self.low
        if 0 < width < max(above, below):
            return (self.high if above >= below else self.low), others
        return None

    def range(self, method: str) -> tuple[float, float]:
        """[low, high] by one of METHODS."""
        if method == "minmax" or self.low == self.high:
            return self.low, self.high
        values = np.concatenate(self.samples)
        if method == "percentile":
            low, high = np.percentile(values, (100 - _PERCENTILE, _PERCENTILE))
            return float(low), float(high)
        # Coordinates in turn: the least error over the upper bound, then over the lower one.
        low, high = self.low, self.high
        high = min((_error(values, low, high * cut), high * cut) for cut in _CUTS)[1] if high > 0 else high
        low = min((_error(values, low * cut, high), low * cut) for cut in _CUTS)[1] if low < 0 else low
        return low, high


def _error(values: Array, low: float, high: float) -> float:
    """The mean squared error of values in steps that cover [low, high]."""
    s = scale_of(low, high)
    q = np.clip(np.rint(values / np.float32(s.scale)), -s.zero, 255 - s.zero)
    return float(np.mean(np.square(values - q * np.float32(s.scale)), dtype=np.float64))
