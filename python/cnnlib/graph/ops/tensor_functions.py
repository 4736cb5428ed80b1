"""The nodes of a graph that rearrange and combine tensors of any rank (N, ...), as NumPy does.

Axes are counted with that of the samples, 0, which stays where it is. Each `*_forward` returns
``(out, cache)`` and each `*_backward(dout, cache, needs)` the gradients of its inputs, and behind them those
of its parameters. In formulas n counts samples, and i, j and k the places along other axes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from cnnlib import layers
from cnnlib._typing import Array

_Gradients = tuple[Array | None, ...]
PAD_MODES: dict[str, Any] = {
    "constant": "constant",
    "reflect": "reflect",
    "replicate": "edge",
}  # and NumPy's names, which are ONNX's too


def transpose_forward(x: Array, axes: Sequence[int]) -> tuple[Array, Any]:
    """``out[n, i_1, i_2, ...] = x[n, ...]``: axis k of the output is axis ``axes[k]``; ``axes[0]`` is 0."""
    return np.ascontiguousarray(x.transpose(axes)), axes


def transpose_backward(dout: Array, cache: Any, needs: Sequence[bool]) -> _Gradients:
    return (np.ascontiguousarray(dout.transpose(np.argsort(cache))),)


def reshape_forward(x: Array, shape: Sequence[int]) -> tuple[Array, Any]:
    """x with its samples in another shape, in which -1 may stand once for what is left."""
    return x.reshape(len(x), *filled(shape, x.shape[1:])), x.shape


def filled(shape: Sequence[int], own: Sequence[int]) -> tuple[int, ...]:
    known = math.prod(size for size in shape if size != -1)
    return tuple(math.prod(own) // known if size == -1 else size for size in shape)


def reshape_backward(dout: Array, cache: Any, needs: Sequence[bool]) -> _Gradients:
    return (dout.reshape(cache),)


def slice_forward(x: Array, start: int | None, stop: int | None, step: int, axis: int) -> tuple[Array, Any]:
    """``x[n, ..., start:stop:step]`` along an axis, as Python slices."""
    chosen = (slice(None),) * axis + (slice(start, stop, step),)
    return np.ascontiguousarray(x[chosen]), (x.shape, chosen)


def slice_backward(dout: Array, cache: Any, needs: Sequence[bool]) -> _Gradients:
    shape, chosen = cache
    dx = np.zeros(shape, dout.dtype)
    dx[chosen] = dout
    return (dx,)


def pad_forward(x: Array, widths: Sequence[Sequence[int]], mode: str, value: float) -> tuple[Array, Any]:
    """Numbers (before, after) each axis of samples, by `mode`.

    ``out[i] = x[i - before]`` where there is such a place. Elsewhere it is `value` ('constant'), the mirror
    image about the first and the last number ('reflect'), or the nearest number ('replicate').
    """
    sides = [(0, 0), *map(tuple, widths)]
    constant = {"constant_values": value} if mode == "constant" else {}
    return np.pad(x, sides, PAD_MODES[mode], **constant), (x.shape, sides, mode)


def pad_backward(dout: Array, cache: Any, needs: Sequence[bool]) -> _Gradients:
    shape, sides, mode = cache
    for axis, ((before, after), size) in enumerate(zip(sides, shape, strict=True)):
        if before or after:
            places = np.pad(np.arange(size), (before, after), PAD_MODES[mode])
            if mode == "constant":
                dout = dout.take(np.arange(before, before + size), axis)
            else:
                dout = _added_at(dout, places, axis, size)
    return (np.ascontiguousarray(dout),)


def _added_at(parts: Array, places: Any, axis: int, size: int) -> Array:
    """Zeros to which parts along an axis are added at their places."""
    total = np.zeros((*parts.shape[:axis], size, *parts.shape[axis + 1 :]), parts.dtype)
    np.add.at(np.moveaxis(total, axis, 0), places, np.moveaxis(parts, axis, 0))
    return total


def expand_forward(x: Array, shape: Sequence[int]) -> tuple[Array, Any]:
    """``out[n, i, j] = x[n, 0, j]``: axes of 1 repeated to samples of this shape; -1 keeps an axis."""
    sizes = (n if m == -1 else m for n, m in zip(x.shape[1:], shape, strict=True))
    return np.ascontiguousarray(np.broadcast_to(x, (len(x), *sizes))), x.shape


def expand_backward(dout: Array, cache: Any, needs: Sequence[bool]) -> _Gradients:
    axes = tuple(axis for axis, (n, m) in enumerate(zip(cache, dout.shape, strict=True)) if n != m)
    return (dout.sum(axes, keepdims=True),)


def expand_as_forward(x: Array, y: Array) -> tuple[Array, Any]:
    """x with axes of 1 repeated to the sizes that y has there; of y the shape alone counts."""
    sizes = np.broadcast_shapes(x.shape[1:], y.shape[1:])
    return np.ascontiguousarray(np.broadcast_to(x, (len(x), *sizes))), (x.shape, y.shape)


def expand_as_backward(dout: Array, cache: Any, needs: Sequence[bool]) -> _Gradients:
    shape, other = cache
    return (
        expand_backward(dout, shape, needs)[0] if needs[0] else None,
        np.zeros(other, dout.dtype) if needs[1] else None,
    )


def roll_forward(x: Array, shift: Sequence[int], axis: Sequence[int]) -> tuple[Array, Any]:
    """``out[(i + shift) % size] = x[i]`` along axes, each by its own shift."""
    return np.roll(x, shift, axis), (shift, axis)


def roll_backward(dout: Array, cache: Any, needs: Sequence[bool]) -> _Gradients:
    shift, axis = cache
    return (np.roll(dout, tuple(-n for n in shift), axis),)


def flip_forward(x: Array, axis: Sequence[int]) -> tuple[Array, Any]:
    """``out[i] = x[size - 1 - i]`` along axes."""
    return np.ascontiguousarray(np.flip(x, tuple(axis))), axis


def flip_backward(dout: Array, cache: Any, needs: Sequence[bool]) -> _Gradients:
    return (np.ascontiguousarray(np.flip(dout, cache)),)


def gather_forward(x: Array, indices: Any, axis: int) -> tuple[Array, Any]:
    """``out[n, i, j, k] = x[n, i, indices[j], k]``; the axes of the indices take the place of `axis`."""
    return np.asarray(np.take(x, indices, axis)), (x.shape, indices, axis)


def gather_backward(dout: Array, cache: Any, needs: Sequence[bool]) -> _Gradients:
    shape, indices, axis = cache
    indices = np.asarray(indices) % shape[axis]
    flat = dout.reshape(*shape[:axis], indices.size, *shape[axis + 1 :])
    return (_added_at(flat, indices.ravel(), axis, shape[axis]),)


def constant_forward(x: Array, w: Array) -> tuple[Array, Any]:
    """``out[n] = w``, once for each sample of x."""
    return np.broadcast_to(w, (len(x), *w.shape)), x.shape


def constant_backward(dout: Array, cache: Any, needs: Sequence[bool]) -> _Gradients:
    return np.zeros(cache, dout.dtype) if needs[0] else None, dout.sum(0)


def linear_forward(x: Array, w: Array, b: Array | None) -> tuple[Array, Any]:
    """``out[n, ..., j] = sum_i x[n, ..., i] * w[i, j] + b[j]``."""
    out, cache = layers.affine_forward(np.ascontiguousarray(x.reshape(-1, x.shape[-1])), w, b)
    return out.reshape(*x.shape[:-1], w.shape[1]), (x.shape, cache)


def linear_backward(dout: Array, cache: Any, needs: Sequence[bool]) -> _Gradients:
    shape, cache = cache
    dx, dw, db = layers.affine_backward(np.ascontiguousarray(dout.reshape(-1, dout.shape[-1])), cache)
    return dx.reshape(shape), dw, db


def trailing_layernorm_forward(x: Array, gamma: Array, beta: Array, eps: float) -> tuple[Array, Any]:
    """``(x - mean) / sqrt(var + eps) * gamma + beta``, as Ba et al. 2016 (arXiv:1607.06450).

    Mean and variance are those of each sample's last axes, as many as gamma has, together.
    """
    rows = np.ascontiguousarray(x.reshape(-1, gamma.size))
    out, cache = layers.layernorm_forward(rows, gamma.ravel(), beta.ravel(), {"eps": eps})
    return out.reshape(x.shape), (cache, gamma.shape)


def trailing_layernorm_backward(dout: Array, cache: Any, needs: Sequence[bool]) -> _Gradients:
    cache, shape = cache
    rows = np.ascontiguousarray(dout.reshape(-1, math.prod(shape)))
    dx, dgamma, dbeta = layers.layernorm_backward(rows, cache)
    return dx.reshape(dout.shape), dgamma.reshape(shape), dbeta.reshape(shape)


def divide_forward(x: Array, y: Array) -> tuple[Array, Any]:
    """``x / y``, of one shape."""
    with np.errstate(all="ignore"):
        out = x / y
    return out, (y, out)


def divide_backward(dout: Array, cache: Any, needs: Sequence[bool]) -> _Gradients:
    y, out = cache
    with np.errstate(all="ignore"):
        dx = dout / y
        return dx, -dx * out


def power_forward(x: Array, exponent: float) -> tuple[Array, Any]:
    """``x ** exponent``, of a number as exponent."""
    with np.errstate(all="ignore"):
        return x**exponent, (x, exponent)


def power_backward(dout: Array, cache: Any, needs: Sequence[bool]) -> _Gradients:
    x, exponent = cache
    with np.errstate(all="ignore"):
        return (dout * exponent * x ** (exponent - 1),)


def minimum_forward(x: Array, y: Array) -> tuple[Array, Any]:
    """``min(x, y)``, of one shape; a tie shares its gradient, as in PyTorch."""
    return np.minimum(x, y), (x, y)


def minimum_backward(dout: Array, cache: Any, needs: Sequence[bool]) -> _Gradients:
    x, y = cache
    share = np.where(x == y, 0.5, x < y).astype(dout.dtype)
    return dout * share, dout * (1 - share)


def maximum_forward(x: Array, y: Array) -> tuple[Array, Any]:
    """``max(x, y)``, of one shape; a tie shares its gradient, as in PyTorch."""
    return np.maximum(x, y), (x, y)


def maximum_backward(dout: Array, cache: Any, needs: Sequence[bool]) -> _Gradients:
    x, y = cache
    share = np.where(x == y, 0.5, x > y).astype(dout.dtype)
    return dout * share, dout * (1 - share)


def where_forward(x: Array, y: Array, mask: Any) -> tuple[Array, Any]:
    """``x if mask else y``: `mask` is constant booleans in the shape of a sample, or 1 in place of sizes."""
    return np.where(mask, x, y), mask


def where_backward(dout: Array, cache: Any, needs: Sequence[bool]) -> _Gradients:
    zero = dout.dtype.type(0)
    return np.where(cache, dout, zero), np.where(cache, zero, dout)


def exp_forward(x: Array) -> tuple[Array, Any]:
    """``e ** x``."""
    with np.errstate(all="ignore"):
        out = np.exp(x)
    return out, out


def exp_backward(dout: Array, cache: Any, needs: Sequence[bool]) -> _Gradients:
    return (dout * cache,)


def log_forward(x: Array) -> tuple[Array, Any]:
    """``ln(x)``."""
    with np.errstate(all="ignore"):
        return np.log(x), x


def log_backward(dout: Array, cache: Any, needs: Sequence[bool]) -> _Gradients:
    with np.errstate(all="ignore"):
        return (dout / cache,)


def softplus_forward(x: Array) -> tuple[Array, Any]:
    """``ln(1 + e ** x)``."""
    return np.logaddexp(x, x.dtype.type(0)), x


def softplus_backward(dout: Array, cache: Any, needs: Sequence[bool]) -> _Gradients:
    out, _ = layers.sigmoid_forward(cache)
    return (dout * out,)


def absolute_forward(x: Array) -> tuple[Array, Any]:
    """``|x|``; its gradient at 0 is 0."""
    return np.abs(x), x


def absolute_backward(dout: Array, cache: Any, needs: Sequence[bool]) -> _Gradients:
    return (dout * np.sign(cache),)


def clip_forward(x: Array, low: float, high: float) -> tuple[Array, Any]:
    """``min(max(x, low), high)``; the gradient passes at the bounds, as in PyTorch."""
    return np.clip(x, x.dtype.type(low), x.dtype.type(high)), (x, low, high)


def clip_backward(dout: Array, cache: Any, needs: Sequence[bool]) -> _Gradients:
    x, low, high = cache
    return (dout * ((x >= low) & (x <= high)),)


def reduce_sum_forward(x: Array, axis: Sequence[int], keepdims: bool) -> tuple[Array, Any]:
    """``sum(x)`` over axes, which stay with a length of 1 if `keepdims` says so."""
    return x.sum(axis, keepdims=keepdims), (x.shape, axis)


def reduce_sum_backward(dout: Array, cache: Any, needs: Sequence[bool]) -> _Gradients:
    shape, axis = cache
    kept = [1 if place in axis else size for place, size in enumerate(shape)]
    return (np.broadcast_to(dout.reshape(kept), shape).copy(),)


def reduce_mean_forward(x: Array, axis: Sequence[int], keepdims: bool) -> tuple[Array, Any]:
    """``sum(x) / count`` over axes of `count` numbers together."""
    return x.mean(axis, keepdims=keepdims), (x.shape, axis)


def reduce_mean_backward(dout: Array, cache: Any, needs: Sequence[bool]) -> _Gradients:
    shape, axis = cache
    (dx,) = reduce_sum_backward(dout, cache, needs)
    assert dx is not None
    return (dx / dx.dtype.type(math.prod(shape[place] for place in axis)),)


def reduce_max_forward(x: Array, axis: Sequence[int], keepdims: bool) -> tuple[Array, Any]:
    """``max(x)`` over axes; a tie shares its gradient, as in PyTorch's amax."""
    out = x.max(axis, keepdims=True)
    kept = out if keepdims else out.reshape([n for place, n in enumerate(x.shape) if place not in axis])
    return kept, (x, out, axis)


def reduce_max_backward(dout: Array, cache: Any, needs: Sequence[bool]) -> _Gradients:
    x, out, axis = cache
    largest = (x == out).astype(dout.dtype)
    return (largest * (dout.reshape(out.shape) / largest.sum(axis, keepdims=True)),)


def matmul_forward(x: Array, y: Array) -> tuple[Array, Any]:
    """``out[..., i, j] = sum_k x[..., i, k] * y[..., k, j]``; the axes before are the same."""
    return np.matmul(x, y), (x, y)


def matmul_backward(dout: Array, cache: Any, needs: Sequence[bool]) -> _Gradients:
    x, y = cache
    dx = np.matmul(dout, y.swapaxes(-1, -2)) if needs[0] else None
    return dx, np.matmul(x.swapaxes(-1, -2), dout) if needs[1] else None
