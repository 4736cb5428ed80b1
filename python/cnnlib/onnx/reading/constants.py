"""Operators between constants, computed while a file is read: above all the arithmetic of shapes."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from cnnlib.onnx.reading.files import Constant
from cnnlib.onnx.reading.operator import Operator

_MOST = 2**24  # values that all operators between constants may make
_EACH = 16  # and as many times those that the file holds
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
    _bounded(op, (0,))
    if op.kind in ("Min", "Max") or (op.kind == "Equal" and not any((x < 0).all() for x in op.inputs)):
        op.net.choices.append((f"node {op.label!r} ({op.kind})", op.inputs))
    with np.errstate(all="ignore"):
        made = np.asarray(FOLDED[op.kind](op, *op.inputs))
    op.net.folded += made.size
    return made


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
    """The shape of a constant that is to be made, if all of them together stay within the limit."""
    sizes = [int(size) for size in shape]
    most = _MOST + _EACH * op.net.source.values
    if min(sizes, default=0) < 0 or op.net.folded + math.prod(sizes) > most:
        op.fail(
            f"makes a constant of shape {tuple(sizes)}; {most} values are the limit of what is computed from "
            "the constants of this file"
        )
    return sizes


def _expand(op, x, shape):
    shape = _bounded(op, np.broadcast_shapes(x.shape, tuple(int(size) for size in shape)))
    return np.broadcast_to(x, shape).copy()


def _range(op, start, limit, step):
    _bounded(op, [max(0, math.ceil((limit - start) / step))])
    return np.arange(start, limit, step, dtype=start.dtype)


def _gather(op, x, indices):
    axis, indices = op.attributes.integer("axis", 0), indices.astype(np.int64)
    _bounded(op, (indices.size, x.size // max(x.shape[axis], 1)))
    return np.take(x, indices, axis=axis)


def _concat(op, *xs):
    _bounded(op, (sum(x.size for x in xs),))
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


def _reshape(op, x, *_):
    shape = op.integers(1, "shape") or []
    zero_is_zero = op.attributes.integer("allowzero", 0)
    return x.reshape([x.shape[i] if n == 0 and not zero_is_zero else n for i, n in enumerate(shape)])


def _cast(op, x):
    op.attributes.ignore("saturate", "round_mode")  # of floats of 8 bits
    kind = _CASTS.get(op.attributes.integer("to", 0))
    if kind is None:
        op.fail("casts to a type that has no use here")
    return x.astype(kind)


def _divide(op, x, y):
    """Integers are rounded towards zero."""
    if x.dtype.kind in "iu":
        return np.where((x % y != 0) & ((x < 0) != (y < 0)), x // y + 1, x // y).astype(x.dtype)
    return x / y


def _flatten(op, x):
    axis = op.attributes.integer("axis", 1)
    return x.reshape(math.prod(x.shape[:axis]), -1)


def _product(op, x, *_):
    axes, keep = op.integers(1, "axes"), bool(op.attributes.integer("keepdims", 1))
    axis = None if axes is None else tuple(axes)
    product = np.asarray(np.prod(x, axis=axis, keepdims=True), x.dtype)
    return product if keep else product.squeeze(axis)


def _alone(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of NumPy that keeps the dtype."""

    def folded(op: Operator, x: Constant) -> Constant:
        _bounded(op, x.shape)
        return np.asarray(function(x), x.dtype)

    return folded


def _together(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of two arrays that spread over each other, of any number of them one after the other."""

    def folded(op: Operator, *xs: Constant) -> Constant:
        _bounded(op, np.broadcast_shapes(*(x.shape for x in xs)))
        return functools.reduce(functools.partial(function, op), xs)

    return folded


def _kept(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same, in the dtype of the first one."""
    return lambda op, x, y: np.asarray(function(x, y), x.dtype)


def _where(op, condition, x, y):
    _bounded(op, np.broadcast_shapes(condition.shape, x.shape, y.shape))
    return np.where(condition, x, y)


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
    "Unsqueeze": lambda op, x, *_: np.expand_dims(x, tuple(op.integers(1, "axes") or ())),
    "Reshape": _reshape,
    "Cast": _cast,
    "Identity": lambda op, x: x,
    "Transpose": lambda op, x, *_: np.transpose(x, op.attributes.integers("perm")),
    "Flatten": _flatten,
    "ReduceProd": _product,
    "Add": _together(_kept(np.add)),
    "Sub": _together(_kept(np.subtract)),
    "Mul": _together(_kept(np.multiply)),
    "Div": _together(_divide),
    "Pow": _together(_kept(np.power)),
    "Min": _together(_kept(np.minimum)),
    "Max": _together(_kept(np.maximum)),
    "Equal": _together(lambda op, x, y: np.equal(x, y)),
    "Where": _where,
    "Floor": _alone(np.floor),
    "Ceil": _alone(np.ceil),
    "Neg": _alone(np.negative),
    "Sqrt": _alone(np.sqrt),
    "Exp": _alone(np.exp),
    "Abs": _alone(np.abs),
    "Reciprocal": _alone(np.reciprocal),
}
