"""Weights of eight bits: int8 with a scale for each filter, biases and factors of sums in their scale."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cnnlib._typing import Array
from cnnlib.inference.quantization.ranges import Scale

MOST_TERMS = 60_000  # of a sum: 255 * 127 * terms stays below 2**31
_ROOM = 2.0**29  # for a bias, and for the other term of a sum, in a sum of less than 2**31
_MOST_SHIFT = 8


@dataclass(frozen=True)
class ByteWeights:
    """The numbers of a convolution or fully connected layer; see cnnlib.naive, quantized.py.

    Attributes
    ----------
    w : ndarray of int8
        In the shape of the float weights.
    b, factor : ndarray of int32 (F,)
        Bias and factor of the other term, or None, both in units of the sums ``<< shift``.
    multiplier : ndarray of float32 (F,)
    shift : int
    """

    w: np.ndarray
    b: np.ndarray
    multiplier: Array
    factor: np.ndarray | None
    shift: int


def byte_weights(
    w: Array, b: Array | None, axis: int, x: Scale, y_scale: float, other: Scale | None = None
) -> ByteWeights:
    """Quantise weights whose filters lie along `axis`, for an input, an output and perhaps a term to add."""
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
    return in_steps(np.moveaxis(q, 0, axis).astype(np.int8), scales, bias, axis, x, y_scale, other)


def in_steps(
    q: np.ndarray, scales: Array, bias: Array, axis: int, x: Scale, y_scale: float, other: Scale | None
) -> ByteWeights:
    """The numbers of weights that are quantised, with a scale and a bias for each filter."""
    flat = np.moveaxis(q, axis, 0).reshape(q.shape[axis], -1)
    units = x.scale * scales  # of a sum
    shift = 0 if other is None else _shift(flat, bias, units, other)
    return ByteWeights(
        np.ascontiguousarray(q),
        _int32(bias / units * 2.0**shift),
        (units / (y_scale * 2.0**shift)).astype(np.float32),
        None if other is None else _int32(other.scale / units * 2.0**shift),
        shift,
    )


def sums_fit(
    q: np.ndarray, scales: Array, bias: Array, axis: int, x: Scale, y_scale: float, other: Scale | None
) -> bool:
    """Whether 32 bits hold the sums of such weights, and float32 what they are multiplied by.

    And whether the units of sums hold biases in floats, and a term that is added, to half a step of y.
    """
    units = x.scale * scales
    largest = _largest(np.moveaxis(q, axis, 0).reshape(len(scales), -1), bias, units, other)
    multipliers = (units / (y_scale * 2.0**_MOST_SHIFT)).astype(np.float32)
    steps = units / y_scale
    lost = np.abs(bias / units - np.rint(bias / units)) * steps
    if other is not None:
        lost = lost + 255 * steps / 2.0 ** (_MOST_SHIFT + 1)
    if (lost > 0.5).any():
        return False
    return bool((largest < 2**31).all() and np.isfinite(multipliers).all() and (multipliers > 0).all())


def _shift(q: Array, bias: Array, units: Array, other: Scale) -> int:
    """The most bits by which no filter's sum overflows."""
    return max(0, min(_MOST_SHIFT, int(np.floor(30 - np.log2(_largest(q, bias, units, other).max())))))


def _largest(q: Array, bias: Array, units: Array, other: Scale | None) -> Array:
    """What the sum of each filter, a row of q, is at most, in its units."""
    products = 255 * np.abs(q.astype(np.float64)).sum(axis=1) + np.abs(bias) / units
    return products if other is None else products + 255 * other.scale / units


def _int32(values: Array) -> np.ndarray:
    return np.rint(values).astype(np.int32)


def folded_bias(
    w: np.ndarray, axis: int, b: np.ndarray, x_zero: int, shift: int, other: tuple[np.ndarray, int] | None
) -> np.ndarray:
    """What the core adds to ``sum(x * w) << shift + other * factor``: the bias less what zero points add.

    The numbers wrap around at 32 bits as the core's sums do.
    """
    rest = tuple(i for i in range(w.ndim) if i != axis)
    total = b.astype(np.int64) - (x_zero * w.sum(axis=rest, dtype=np.int64) << shift)
    if other is not None:
        factor, zero = other
        total -= zero * factor.astype(np.int64)
    return (total & 0xFFFFFFFF).astype(np.uint32).view(np.int32)
