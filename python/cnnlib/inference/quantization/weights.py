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
    F = len(filters)
    flat = filters.reshape(F, -1)
    bias = np.zeros(F) if b is None else np.asarray(b, np.float64)
    scales = np.abs(flat).max(axis=1) / 127
    # A filter of next to nothing gets larger steps, so that its bias and the other term fit its sums.
    scales = np.maximum(scales, np.abs(bias) / (x.scale * _ROOM))
    if other is not None:
        scales = np.maximum(scales, other.scale * 255 / (x.scale * _ROOM))
    scales[scales == 0] = 1 / 127
    q = np.clip(np.rint(flat / scales[:, None]), -127, 127)
    units = x.scale * scales  # of a sum
    shift = 0 if other is None else _shift(q, bias, units, other)
    factor = None if other is None else _int32(other.scale / units * 2.0**shift)
    return ByteWeights(
        np.ascontiguousarray(np.moveaxis(q.reshape(filters.shape), 0, axis).astype(np.int8)),
        _int32(bias / units * 2.0**shift),
        (units / (y_scale * 2.0**shift)).astype(np.float32),
        factor,
        shift,
    )


def _shift(q: Array, bias: Array, units: Array, other: Scale) -> int:
    """The most bits by which no filter's sum overflows."""
    largest = 255 * np.abs(q).sum(axis=1) + np.abs(bias) / units + 255 * other.scale / units
    return max(0, min(_MOST_SHIFT, int(np.floor(30 - np.log2(largest.max())))))


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
