"""Numbers of eight bits: scales of values by what they range over, weights, biases, factors of sums."""

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
        """Record an array: its bounds, and a sample of its elements."""
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


MOST_TERMS = 60_000  # of a sum: 255 * 127 * terms stays below 2**31
MOST_BYTES = 2**31 // 255  # of a mean
_ROOM = 2.0**29  # for a bias, and for the other term of a sum, in a sum of less than 2**31
_MOST_SHIFT = 8


@dataclass(frozen=True)
class ByteWeights:
    """The numbers of a convolution or fully connected layer; see cnnlib.naive, quantized.py.

    `w` is int8 in the shape of the float weights. `b` and the `factor` of another term, or None, are int32
    (F,) in units of the sums ``<< shift``; `multiplier` is float32 (F,).
    """

    w: np.ndarray
    b: np.ndarray
    multiplier: Array
    factor: np.ndarray | None
    shift: int


@dataclass(frozen=True)
class GivenWeights:
    """Weights that are quantised: `q`, int8 in the shape of the float weights; scales and bias (F,), float64.

    `axis` is that of q along which the filters lie; `fit`: their sums are known to fit into 32 bits.
    """

    q: np.ndarray
    scales: Array
    bias: Array
    axis: int
    fit: bool = False


def rounded_weights(
    w: Array, b: Array | None, axis: int, x: Scale, other: Scale | None = None
) -> GivenWeights:
    """Weights in steps whose sums fit, for an input of scale x and perhaps a term to add."""
    filters = np.moveaxis(np.asarray(w, np.float64), axis, 0)
    flat = filters.reshape(len(filters), -1)
    bias = np.zeros(len(filters)) if b is None else np.asarray(b, np.float64)
    scales = np.abs(flat).max(axis=1) / 127
    # A filter of next to nothing gets larger steps, so that its bias and the other term fit its sums.
    scales = np.maximum(scales, np.abs(bias) / (x.scale * _ROOM))
    if other is not None:
        scales = np.maximum(scales, other.scale * 255 / (x.scale * _ROOM))
    scales = scales.astype(np.float32).astype(np.float64)  # as files have them
    scales[scales == 0] = 1 / 128
    q = np.clip(np.rint(flat / scales[:, None]), -127, 127).reshape(filters.shape)
    return GivenWeights(np.moveaxis(q, 0, axis).astype(np.int8), scales, bias, axis, fit=True)


def in_steps(given: GivenWeights, x: Scale, y_scale: float, other: Scale | None = None) -> ByteWeights:
    """The numbers of weights between an input and an output of these scales."""
    units = x.scale * given.scales  # of a sum
    shift = 0
    if other is not None:  # the most bits by which no filter's sum overflows
        bits = 30 - np.log2(_largest(given, units, other).max())
        shift = max(0, min(_MOST_SHIFT, int(np.floor(bits))))
    return ByteWeights(
        np.ascontiguousarray(given.q),
        _int32(given.bias / units * 2.0**shift),
        (units / (y_scale * 2.0**shift)).astype(np.float32),
        None if other is None else _int32(other.scale / units * 2.0**shift),
        shift,
    )


def sums_fit(given: GivenWeights, x: Scale, y_scale: float, other: Scale | None) -> bool:
    """Whether 32 bits hold the sums of such weights, and float32 what they are multiplied by.

    And whether the units of sums hold biases in floats, and a term that is added, to half a step of y.
    """
    units = x.scale * given.scales
    largest = _largest(given, units, other)
    multipliers = (units / (y_scale * 2.0**_MOST_SHIFT)).astype(np.float32)
    steps, biases = units / y_scale, given.bias / units
    lost = np.abs(biases - np.rint(biases)) * steps
    if other is not None:
        lost = lost + 255 * steps / 2.0 ** (_MOST_SHIFT + 1)
    if (lost > 0.5).any():
        return False
    return bool((largest < 2**31).all() and np.isfinite(multipliers).all() and (multipliers > 0).all())


def _largest(given: GivenWeights, units: Array, other: Scale | None) -> Array:
    """What the sum of each filter is at most, in its units."""
    filters = np.moveaxis(given.q, given.axis, 0).reshape(len(given.scales), -1)
    products = 255 * np.abs(filters.astype(np.float64)).sum(axis=1) + np.abs(given.bias) / units
    return products if other is None else products + 255 * other.scale / units


def _int32(values: Array) -> np.ndarray:
    return np.rint(values).astype(np.int32)
