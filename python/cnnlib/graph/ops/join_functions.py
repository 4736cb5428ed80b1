"""The nodes of a graph that are no layers: sums, products, concatenation, scaling, flattening.

Each `*_forward` returns ``(out, cache)`` and each `*_backward(dout, cache, needs)` the gradients of its
inputs; None where `needs`, a truth value for each input, asks for none. A gradient may be `dout` itself, or
a view of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from cnnlib import _core, layers
from cnnlib._typing import Array

_Gradients = tuple[Array | None, ...]


def add_forward(x: Array, y: Array) -> tuple[Array, Any]:
    """x + y; y may be (N, C) or (N, C, 1, 1) beside images x (N, C, H, W)."""
    if x.shape == y.shape:
        return _core.add("add", np.ascontiguousarray(x), np.ascontiguousarray(y)), None
    return x + _spread("add", x, y), y.shape


def add_backward(dout: Array, cache: Any, needs: Sequence[bool]) -> _Gradients:
    dy = dout if cache is None or not needs[1] else _sum_over_pixels(dout).reshape(cache)
    return dout if needs[0] else None, dy if needs[1] else None


def add_relu_forward(x: Array, y: Array) -> tuple[Array, Any]:
    """relu(x + y)."""
    if x.shape == y.shape:
        out = _core.add_relu("add", np.ascontiguousarray(x), np.ascontiguousarray(y))
        return out, (out, None)
    total, shape = add_forward(x, y)
    out, _ = layers.relu_forward(total)
    return out, (out, shape)


def add_relu_backward(dout: Array, cache: Any, needs: Sequence[bool]) -> _Gradients:
    out, shape = cache
    return add_backward(layers.relu_backward(dout, out), shape, needs)


def multiply_forward(x: Array, y: Array) -> tuple[Array, Any]:
    """x * y; y may be (N, C) or (N, C, 1, 1) beside images x (N, C, H, W)."""
    return x * _spread("multiply", x, y), (x, y)


def multiply_backward(dout: Array, cache: Any, needs: Sequence[bool]) -> _Gradients:
    x, y = cache
    dx = dout * _spread("multiply", x, y) if needs[0] else None
    dy = None
    if needs[1]:
        dy = dout * x
        dy = dy if x.shape == y.shape else _sum_over_pixels(dy).reshape(y.shape)
    return dx, dy


def concat_forward(*xs: Array) -> tuple[Array, Any]:
    """The inputs one behind the other along axis 1."""
    first = xs[0].shape
    for x in xs:
        if x.shape[:1] + x.shape[2:] != first[:1] + first[2:]:
            shapes = ", ".join(str(x.shape) for x in xs)
            raise ValueError(f"concat: the inputs differ in more than their channels: {shapes}")
    return np.concatenate(xs, axis=1), [x.shape[1] for x in xs]


def concat_backward(dout: Array, cache: Any, needs: Sequence[bool]) -> _Gradients:
    ends = np.cumsum(cache)
    parts = zip(ends - cache, ends, needs, strict=True)
    return tuple(np.ascontiguousarray(dout[:, low:high]) if need else None for low, high, need in parts)


def scale_forward(x: Array, factor: float) -> tuple[Array, Any]:
    """x * factor."""
    return x * x.dtype.type(factor), factor


def scale_backward(dout: Array, cache: Any, needs: Sequence[bool]) -> _Gradients:
    return (dout * dout.dtype.type(cache),)


def flatten_forward(x: Array) -> tuple[Array, Any]:
    """(N, d1, ..., dk) as (N, d1 * ... * dk)."""
    return x.reshape(x.shape[0], math.prod(x.shape[1:])), x.shape


def flatten_backward(dout: Array, cache: Any, needs: Sequence[bool]) -> _Gradients:
    return (dout.reshape(cache),)


def _spread(where: str, x: Array, y: Array) -> Array:
    """y in a shape that NumPy spreads over x: its own, or that of a value for each channel."""
    if x.shape == y.shape:
        return y
    if x.ndim != 4 or y.shape not in (x.shape[:2], (*x.shape[:2], 1, 1)):
        raise ValueError(
            f"{where}: the inputs must have one shape, or the second one a value for each channel of the "
            f"first: got {x.shape} and {y.shape}"
        )
    return y.reshape(*x.shape[:2], 1, 1)


def _sum_over_pixels(x: Array) -> Array:
    """x (N, C, H, W) summed to (N, C): the compiled mean, which is faster than NumPy's sum in float64."""
    means, _ = layers.global_avg_pool_forward(x)
    return means * x.dtype.type(math.prod(x.shape[2:]))
