"""Operators between constants, computed while a file is read: above all the arithmetic of shapes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from cnnlib.onnx.reading.operator import Operator
from cnnlib.onnx.reading.values import BATCH, Constant

_LARGEST = 2**26  # values that a constant may be blown up to; weights come as they are, in the file
_CASTS = {
    1: np.float32,
    2: np.uint8,
    3: np.int8,
    6: np.int32,
    7: np.int64,
    9: np.bool_,
    10: np.float32,
    11: np.float64,
}


def fold(op: Operator) -> Constant:
    """The value of an operator whose inputs are constants."""
    inputs = [value for value in op.inputs if value is not None]
    symbolic = any(value.dtype == object for value in inputs)
    if symbolic and op.kind not in _OF_SYMBOLS:
        op.fail("computes with the number of images, which is not known when a network is loaded")
    with np.errstate(all="ignore"):
        return settled(np.asarray(FOLDED[op.kind](op, *op.inputs)))


def settled(array: Constant) -> Constant:
    """A shape, or a part of it, as integers where the number of images is not in it."""
    if array.dtype == object and not any(item is BATCH for item in array.flat):
        return array.astype(np.int64)
    return array


def _constant(op):
    for name in ("value", "value_float", "value_int", "value_floats", "value_ints"):
        if name in op.attributes:
            value = op.attributes.get(name)
            if name == "value":
                return op.net.source.array(value)
            return np.asarray(value, np.float32 if "float" in name else np.int64)
    op.fail("has no value that is numbers")


def _filled(op, shape):
    fill = op.attributes.get("value")
    number = np.zeros(1, np.float32) if fill is None else op.net.source.array(fill)
    return np.full(_bounded(op, shape), number.reshape(-1)[0], number.dtype)


def _shape(op, x):
    start, end = op.attributes.integer("start", 0), op.attributes.integer("end", x.ndim)
    return np.array(x.shape[start:end], np.int64)


def _bounded(op, shape):
    sizes = [int(size) for size in shape]
    if min(sizes, default=0) < 0 or math.prod(sizes) > _LARGEST:
        op.fail(f"makes a constant of shape {tuple(sizes)}; {_LARGEST} values are the limit")
    return sizes


def _expand(op, x, shape):
    shape = np.broadcast_shapes(x.shape, tuple(int(size) for size in shape))
    _bounded(op, shape)
    return np.broadcast_to(x, shape).copy()


def _range(op, start, limit, step):
    _bounded(op, [max(0, math.ceil((limit - start) / step))])
    return np.arange(start, limit, step, dtype=start.dtype)


def _gather(op, x, indices):
    return np.take(x, indices.astype(np.int64), axis=op.attributes.integer("axis", 0))


def _concat(op, *xs):
    return np.concatenate(xs, axis=op.attributes.integer("axis", 0))


def _slice(op, x, *_):
    lists = [op.integers(i, name) for i, name in enumerate(("starts", "ends", "axes", "steps"), start=1)]
    starts, ends = lists[0] or [], lists[1] or []
    axes, steps = lists[2] or range(len(starts)), lists[3] or [1] * len(starts)
    where = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        where[axis] = slice(start, None if step < 0 and end < -x.shape[axis] else end, step)
    return x[tuple(where)]


def _squeeze(op, x, *_):
    axes = op.integers(1, "axes")
    return np.squeeze(x, None if axes is None else tuple(axes))


def _unsqueeze(op, x, *_):
    return np.expand_dims(x, tuple(op.integers(1, "axes") or ()))


def _reshape(op, x, *_):
    shape = op.integers(1, "shape") or []
    zero_is_zero = op.attributes.integer("allowzero", 0)
    return x.reshape([x.shape[i] if n == 0 and not zero_is_zero else n for i, n in enumerate(shape)])


def _cast(op, x):
    op.attributes.drop("saturate", "round_mode")
    kind = _CASTS.get(op.attributes.integer("to", 0))
    if kind is None:
        op.fail("casts to a type that has no use here")
    return x if x.dtype == object and kind == np.int64 else x.astype(kind)


def _divide(op, x, y):
    """Integers are rounded towards zero."""
    return np.trunc(x / y).astype(x.dtype) if x.dtype.kind in "iu" else x / y


def _transpose(op, x):
    return np.transpose(x, op.attributes.integers("perm"))


def _flatten(op, x):
    axis = op.attributes.integer("axis", 1)
    return x.reshape(math.prod(x.shape[:axis]), -1)


def _product(op, x, *_):
    axes, keep = op.integers(1, "axes"), bool(op.attributes.integer("keepdims", 1))
    axis = None if axes is None else tuple(axes)
    product = np.prod(x, axis=axis, keepdims=True).astype(x.dtype)
    return product if keep else product.squeeze(axis)


def _same_dtype(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of NumPy that gives floats in the dtype of its first argument."""
    return lambda op, x, *more: np.asarray(function(x, *more), x.dtype)


FOLDED: dict[str, Callable[..., Any]] = {
    "Constant": _constant,
    "ConstantOfShape": _filled,
    "Shape": _shape,
    "Expand": _expand,
    "Range": _range,
    "Gather": _gather,
    "Concat": _concat,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Reshape": _reshape,
    "Cast": _cast,
    "Identity": lambda op, x: x,
    "Transpose": _transpose,
    "Flatten": _flatten,
    "ReduceProd": _product,
    "Add": _same_dtype(np.add),
    "Sub": _same_dtype(np.subtract),
    "Mul": _same_dtype(np.multiply),
    "Div": _divide,
    "Pow": _same_dtype(np.power),
    "Floor": _same_dtype(np.floor),
    "Ceil": _same_dtype(np.ceil),
    "Sqrt": _same_dtype(np.sqrt),
    "Neg": _same_dtype(np.negative),
    "Exp": _same_dtype(np.exp),
    "Abs": _same_dtype(np.abs),
    "Reciprocal": _same_dtype(np.reciprocal),
    "Min": _same_dtype(np.minimum),
    "Max": _same_dtype(np.maximum),
    "Equal": lambda op, x, y: np.equal(x, y),
    "Where": lambda op, condition, x, y: np.where(condition, x, y),
}
# What may meet the unknown number of images in a shape: it is moved about, never computed with.
_OF_SYMBOLS = ("Gather", "Concat", "Slice", "Squeeze", "Unsqueeze", "Reshape", "Cast", "Identity")
