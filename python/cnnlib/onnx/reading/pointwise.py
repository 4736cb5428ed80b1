"""Activations, sums and products, dropout."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from cnnlib.graph.importing import Feature
from cnnlib.graph.ops import OPS, OnnxForm
from cnnlib.graph.ops.sizes import batch_of
from cnnlib.onnx.reading.files import Constant
from cnnlib.onnx.reading.operator import Operator

_Reader = Callable[[Operator], Feature]


def _plain(layer: str, *names: str) -> _Reader:
    """A layer with these attributes."""
    return lambda op: op.same(layer, op.feature(), *(op[name] for name in names))


def prelu(op: Operator) -> Feature:
    x, slope = op.feature(), op.floats(1, "slope")
    rank = len(x.view) + 1
    if op.opset < 7 and slope.ndim == 1:  # of the channels
        slope = slope.reshape(-1, *(1,) * (rank - 2))
    shape = (1,) * (rank - slope.ndim) + slope.shape
    if len(shape) > rank or any(n not in (1, size) for n, size in zip(shape, (1, *x.view), strict=True)):
        op.fail(f"slope has the shape {slope.shape}, its input {batch_of(x.view)}")
    if slope.size != 1 and (slope != slope.flat[0]).any():
        op.fail("slope differs from channel to channel; a leaky ReLU has one here")
    return op.same("leaky_relu", x, float(slope.flat[0]))


def celu(op: Operator) -> Feature:
    """``max(0, x) + min(0, alpha * (exp(x / alpha) - 1))``, which is alpha * elu(x / alpha)."""
    alpha = op["alpha"]
    if alpha <= 0:
        op.fail(f"attribute alpha is {alpha}; here it is above 0")
    return op.scaled(op.same("elu", op.scaled(op.feature(), 1 / alpha), 1.0), alpha)


def selu(op: Operator) -> Feature:
    """``gamma * elu(x, alpha)``, with the constants of Klambauer et al. 2017 (arXiv:1706.02515)."""
    return op.scaled(op.same("elu", op.feature(), op["alpha"]), op["gamma"])


def hard_sigmoid(op: Operator) -> Feature:
    """``clip(alpha * x + beta, 0, 1)``; the layer's alpha is 1/6 and its beta 1/2."""
    op.expect("beta", 0.5)
    sixth = np.float32(op["alpha"]) == np.float32(1 / 6)  # files hold float32
    return op.same("hard_sigmoid", op.scaled(op.feature(), 1.0 if sixth else 6 * op["alpha"]))


def softmax(op: Operator) -> Feature:
    x = op.feature()
    op.check_axis(x, op["axis"])
    if op.opset < 13 and not x.channels_last:  # all axes from that one on together
        flat = op.plain(x.seen_as((math.prod(x.view),)))
        return op.emit("softmax", flat).seen_as(x.view)
    return op.softmax(x)


def dropout(op: Operator) -> Feature:
    x, p = op.feature(), op.scalar(1, "ratio", 0.5)
    op.ignore("seed")
    op.choice("is_test", 1)  # before version 7, where its default is 0
    if op.has(2) and bool(np.any(op.constant(2, "training_mode"))):
        op.fail("training_mode is on: a network is read as it infers")
    if not 0 <= p < 1:
        op.fail(f"ratio is {p}, expected [0, 1)")
    return op.same("dropout", x, {"p": p}) if p else x


# Sums and products ------------------------------------------------------------------------------------


def _sum(op: Operator, sign: int) -> Feature:
    """x + y, or x - y if the `sign` is -1; one of them may be constant."""
    first, second = op.value(0), op.value(1)
    if isinstance(first, Feature) and isinstance(second, Feature):
        y = op.feature(1)
        return op.joined("add", op.feature(0), y if sign > 0 else op.scaled(y, -1))
    if isinstance(first, Feature):
        return _shifted(op, 0, sign * op.floats(1, "the constant"))
    x = _shifted(op, 1, op.floats(0, "the constant") * sign)
    return x if sign > 0 else op.scaled(x, -1)


def multiply(op: Operator) -> Feature:
    first, second = op.value(0), op.value(1)
    if isinstance(first, Feature) and isinstance(second, Feature):
        return op.joined("multiply", op.feature(0), op.feature(1))
    i = 0 if isinstance(first, Feature) else 1
    return _stretched(op, i, op.floats(1 - i, "the constant"))


def divide(op: Operator) -> Feature:
    with np.errstate(all="ignore"):
        factor = 1 / op.floats(1, "the divisor")
    if not np.isfinite(factor).all():
        op.fail("divides by 0, or by less than has a reciprocal")
    return _stretched(op, 0, factor)


def total(op: Operator) -> Feature:
    """Sum of any number of values."""
    result = op.feature(0)
    for i in range(1, len(op.inputs)):
        result = op.joined("add", result, op.feature(i))
    return result


def _by_channel(op: Operator, x: Feature, constant: Constant) -> Constant:
    """A constant as one number for each channel of x (C,), or for all of them (1,)."""
    # Before version 7 an attribute said which axis of x a constant's first axis is.
    op.ignore("broadcast")
    axis = len(x.view) + 1 - constant.ndim if op["axis"] is None else op["axis"]
    if constant.ndim > len(x.view) + 1:
        op.fail(f"a constant of shape {constant.shape} gives {batch_of(x.view)} another axis in front")
    sizes = (1,) * axis + constant.shape + (1,) * (len(x.view) + 1 - constant.ndim - axis)
    if constant.size == 1:
        return constant.reshape(1)
    by_channel = [1] * (len(x.view) + 1)
    by_channel[x.channel_axis + 1] = x.view[x.channel_axis]
    if list(sizes) != by_channel or x.shape[0] != x.view[x.channel_axis]:
        op.fail(
            f"a constant of shape {constant.shape} beside {batch_of(x.view)}; here it is a number, or "
            "one for each channel"
        )
    return constant.reshape(-1)


def _shifted(op: Operator, i: int, constant: Constant) -> Feature:
    x = op.feature(i)
    return op.shifted(x, _by_channel(op, x, constant), op.names[1 - i], op.alone(i))


def _stretched(op: Operator, i: int, constant: Constant) -> Feature:
    x = op.feature(i)
    return op.stretched(x, _by_channel(op, x, constant), op.alone(i))


# Those that always become one layer.
PLAIN: dict[str, _Reader] = {
    form.kind: _plain(op.name, *form.arguments)
    for op in OPS.values()
    if isinstance(form := op.onnx, OnnxForm) and form.read
}
OPERATORS: dict[str, _Reader] = {
    **PLAIN,
    "HardSigmoid": hard_sigmoid,
    "PRelu": prelu,
    "Celu": celu,
    "Selu": selu,
    "Swish": _plain("silu"),
    "Gelu": lambda op: op.same("gelu", op.feature(), op.choice("approximate", "none", "tanh")),
    "Clip": lambda op: op.clipped(
        op.feature(), op.scalar(1, "min", -math.inf), op.scalar(2, "max", math.inf)
    ),
    "Softmax": softmax,
    "Dropout": dropout,
    "Add": lambda op: _sum(op, 1),
    "Sub": lambda op: _sum(op, -1),
    "Mul": multiply,
    "Div": divide,
    "Sum": total,
    "Mean": lambda op: op.scaled(total(op), 1 / len(op.inputs)),
}
