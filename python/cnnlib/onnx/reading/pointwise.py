"""Activations, sums and products, dropout."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from cnnlib.graph.shapes import batch_of
from cnnlib.onnx.reading.operator import Operator
from cnnlib.onnx.reading.values import Constant, Feature

_Reader = Callable[[Operator], Feature]


def same(op: Operator, layer: str, x: Feature, *args: Any) -> Feature:
    """A layer that computes each value by itself, wherever the channels are."""
    return dataclasses.replace(op.emit(layer, x, args=args), view=x.view, channels_last=x.channels_last)


def _plain(layer: str) -> _Reader:
    return lambda op: same(op, layer, op.feature())


def leaky_relu(op: Operator) -> Feature:
    return same(op, "leaky_relu", op.feature(), op.attributes.number("alpha", 0.01))


def prelu(op: Operator) -> Feature:
    x, slope = op.feature(), op.floats(1, "slope")
    rank = len(x.view) + 1
    if op.opset < 7 and slope.ndim == 1:  # of the channels
        slope = slope.reshape(-1, *(1,) * (rank - 2))
    shape = (1,) * (rank - slope.ndim) + slope.shape
    if len(shape) > rank or any(n not in (1, size) for n, size in zip(shape[1:], x.view, strict=True)):
        op.fail(f"slope has the shape {slope.shape}, its input {batch_of(x.view)}")
    if op.net.follows(x) and any(n > 1 and axis != x.channel_axis for axis, n in enumerate(shape[1:])):
        op.fix(f"slope of shape {slope.shape}")
    if slope.size != 1 and (slope != slope.flat[0]).any():
        op.fail("slope differs from channel to channel; a leaky ReLU has one here")
    return same(op, "leaky_relu", x, float(slope.flat[0]))


def elu(op: Operator) -> Feature:
    return same(op, "elu", op.feature(), op.attributes.number("alpha", 1.0))


def celu(op: Operator) -> Feature:
    """``max(0, x) + min(0, alpha * (exp(x / alpha) - 1))``, which is alpha * elu(x / alpha)."""
    alpha = op.attributes.number("alpha", 1.0)
    return scaled(op, same(op, "elu", scaled(op, op.feature(), 1 / alpha), 1.0), alpha)


def selu(op: Operator) -> Feature:
    """``gamma * elu(x, alpha)``, with the constants of Klambauer et al. 2017 (arXiv:1706.02515)."""
    alpha = op.attributes.number("alpha", 1.67326319217681884765625)
    return scaled(
        op, same(op, "elu", op.feature(), alpha), op.attributes.number("gamma", 1.05070102214813232421875)
    )


def hard_sigmoid(op: Operator) -> Feature:
    """``clip(alpha * x + beta, 0, 1)``; the layer's alpha is 1/6 and its beta 1/2."""
    alpha, beta = op.attributes.number("alpha", 0.2), op.attributes.number("beta", 0.5)
    if beta != 0.5:
        op.fail(f"attribute beta is {beta}, here only 0.5")
    return same(op, "hard_sigmoid", scaled(op, op.feature(), 6 * alpha))


def swish(op: Operator) -> Feature:
    op.attributes.expect("alpha", 1.0)
    return same(op, "silu", op.feature())


def gelu(op: Operator) -> Feature:
    return same(op, "gelu", op.feature(), op.attributes.text("approximate", "none", ("none", "tanh")))


def clip(op: Operator) -> Feature:
    """From 0 to a bound: ReLU6 of what is scaled to it."""
    low, high = op.scalar(1, "min", -math.inf), op.scalar(2, "max", math.inf)
    x = op.feature()
    if low == -math.inf and high == math.inf:
        return x
    if low != 0 or high <= 0:
        op.fail(f"clips to [{low}, {high}]; here the lower bound is 0 and the upper one above it")
    if high > np.finfo(np.float32).max / 2:  # some exporters write the largest number for none
        return same(op, "relu", x)
    return scaled(op, same(op, "relu6", scaled(op, x, 6 / high)), high / 6)


def softmax(op: Operator) -> Feature:
    x = op.feature()
    rank = len(x.view) + 1
    axis = op.attributes.integer("axis", -1 if op.opset >= 13 else 1) % rank
    if axis != x.channel_axis + 1:
        op.fail(f"attribute axis is {axis}; here it is that of the channels")
    if op.opset < 13 and not x.channels_last:  # all axes from that one on together
        flat = op.net.as_viewed(op, x.seen_as((math.prod(x.view),)))
        return op.emit("softmax", flat).seen_as(x.view)
    if x.channels_last:
        return same(op, "softmax", x)
    one_pixel = math.prod(x.view) == x.view[0] and x.shape != x.view
    return op.emit("softmax", op.net.as_viewed(op, x.seen_as(x.view[:1]) if one_pixel else x)).seen_as(x.view)


def dropout(op: Operator) -> Feature:
    x, p = op.feature(), op.scalar(1, "ratio", 0.5)
    op.attributes.ignore("seed")
    op.attributes.expect("is_test", 1)  # before version 7
    if op.has(2) and bool(np.any(op.constant(2, "training_mode"))):
        op.fail("training_mode is on: a network is read as it infers")
    if not 0 <= p < 1:
        op.fail(f"ratio is {p}, expected [0, 1)")
    return same(op, "dropout", x, {"p": p, "mode": "test"}) if p else x


# Sums and products ------------------------------------------------------------------------------------


def scaled(op: Operator, x: Feature, factor: float) -> Feature:
    """x * factor; of a factor that is 1 but for its float32, x."""
    return x if abs(factor - 1) < np.finfo(np.float32).eps else same(op, "scale", x, factor)


def add(op: Operator) -> Feature:
    return _sum(op, 1)


def subtract(op: Operator) -> Feature:
    return _sum(op, -1)


def _sum(op, sign):
    """x + y, or x - y if the `sign` is -1; one of them may be constant."""
    first, second = op.value(0), op.value(1)
    if isinstance(first, Feature) and isinstance(second, Feature):
        y = op.feature(1)
        return _joined(op, "add", op.feature(0), y if sign > 0 else scaled(op, y, -1))
    if isinstance(first, Feature):
        return _shifted(op, 0, sign * op.floats(1, "the constant"))
    x = _shifted(op, 1, op.floats(0, "the constant") * sign)
    return x if sign > 0 else scaled(op, x, -1)


def multiply(op: Operator) -> Feature:
    first, second = op.value(0), op.value(1)
    if isinstance(first, Feature) and isinstance(second, Feature):
        return _joined(op, "multiply", op.feature(0), op.feature(1))
    i = 0 if isinstance(first, Feature) else 1
    return _stretched(op, i, op.floats(1 - i, "the constant"))


def divide(op: Operator) -> Feature:
    divisor = op.floats(1, "the divisor")
    if not divisor.all():
        op.fail("divides by 0")
    return _stretched(op, 0, 1 / divisor)


def total(op: Operator) -> Feature:
    """Sum of any number of values."""
    result = op.feature(0)
    for i in range(1, len(op.inputs)):
        result = _joined(op, "add", result, op.feature(i))
    return result


def mean(op: Operator) -> Feature:
    return scaled(op, total(op), 1 / len(op.inputs))


def _joined(op, layer, x, y):
    """Two values of one shape, or one of them with a value for each channel of the other."""
    if (math.prod(x.view), op.net.follows(x)) < (math.prod(y.view), op.net.follows(y)):
        x, y = y, x
    if x.view == y.view and x.channels_last == y.channels_last:
        if x.shape == y.shape:
            return same_view(op.emit(layer, x, y), x)
        if sorted((x.shape, y.shape)) == [x.shape[:1], (x.shape[0], 1, 1)]:  # images of one pixel and rows
            x, y = (x, y) if len(x.shape) == 3 else (y, x)
            return same_view(op.emit(layer, x, y), x)
        view = x.view[:1] if math.prod(x.view) == x.view[0] else x.view  # one pixel: flat
        values = (op.net.as_viewed(op, value.seen_as(view)) for value in (x, y))
        return op.emit(layer, *values).seen_as(x.view)
    C = x.shape[0]
    by_channel = [1] * len(x.view)
    by_channel[x.channel_axis] = C
    if len(x.shape) != 3 or y.shape not in ((C,), (C, 1, 1)) or list(y.view) != by_channel:
        op.fail(
            f"its inputs have the shapes {batch_of(x.view)} and {batch_of(y.view)}; here they are equal, "
            "or one has a value for each channel of the other"
        )
    return same_view(op.emit(layer, x, y), x)


def same_view(value: Feature, like: Feature) -> Feature:
    return dataclasses.replace(value, view=like.view, channels_last=like.channels_last)


def _by_channel(op: Operator, x: Feature, constant: Constant) -> Constant:
    """A constant as one number for each channel of x (C,), or for all of them (1,)."""
    # Before version 7 an attribute said which axis of x a constant's first axis is.
    op.attributes.ignore("broadcast")
    axis = op.attributes.integer("axis", -1) if "axis" in op.attributes else len(x.view) + 1 - constant.ndim
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


_WITH_BIAS = {"conv": 0, "conv_transpose": 1, "affine": 1}  # the axis of w that the outputs are
_WITH_BETA = ("spatial_batchnorm", "batchnorm", "spatial_groupnorm", "spatial_instancenorm", "layernorm")


def _shifted(op: Operator, i: int, constant: Constant) -> Feature:
    """x + constant: in the bias of the layer that makes x, if that is free to change."""
    x = op.feature(i)
    shift = _by_channel(op, x, constant)
    if not shift.any():
        return x
    found = _free_maker(op, i, x, len(shift))
    if found is None:
        return _one_by_one(op, x, np.ones_like(shift), shift)
    place, node, w, b = found
    total = np.broadcast_to(shift if b is None else op.net.params[b] + shift, (_outputs(op, node),))
    name = op.parameter("b", total, op.names[1 - i] if b is None else b)
    op.net.nodes[place] = dataclasses.replace(node, params=(w, name))
    return x


def _stretched(op: Operator, i: int, constant: Constant) -> Feature:
    """x * constant: in the weights of the layer that makes x, if that is free to change."""
    x = op.feature(i)
    factor = _by_channel(op, x, constant)
    if len(factor) == 1:
        return scaled(op, x, float(factor[0]))
    found = _free_maker(op, i, x, len(factor))
    if found is None or (found[1].layer == "conv_transpose" and found[1].args[0]["groups"] > 1):
        return _one_by_one(op, x, factor, None)
    place, node, w, b = found
    sizes = [1] * op.net.params[w].ndim
    sizes[_WITH_BIAS.get(node.layer, 0)] = -1
    names = (
        op.parameter("w", op.net.params[w] * factor.reshape(sizes), w),
        None if b is None else op.parameter("b", op.net.params[b] * factor, b),
    )
    op.net.nodes[place] = dataclasses.replace(node, params=names)
    return x


def _free_maker(op, i, x, count):
    """Place, node and parameters of the layer that makes x, if it has `count` outputs and no other reader."""
    found = op.net.maker(x)
    if not op.alone(i) or found is None or found[1].layer not in (*_WITH_BIAS, *_WITH_BETA):
        return None
    place, node = found
    return (place, node, *node.params) if count in (1, _outputs(op, node)) else None


def _outputs(op, node):
    w = op.net.params[node.params[0]]
    if node.layer == "conv_transpose":
        return w.shape[1] * node.args[0]["groups"]
    return w.shape[_WITH_BIAS.get(node.layer, 0)]


def _one_by_one(op, x, factor, shift):
    """x * factor + shift as a 1x1 convolution of each channel by itself."""
    if len(x.shape) != 3:
        op.fail("a constant for each value of (N, D) has a counterpart only behind a layer with weights")
    C = x.shape[0]
    w = op.parameter("w", np.broadcast_to(factor, (C,)).reshape(C, 1, 1, 1))
    b = None if shift is None else op.parameter("b", np.broadcast_to(shift, (C,)))
    out = op.emit("conv", x, params=(w, b), args=({"stride": 1, "pad": 0, "groups": C},))
    return same_view(out, x)


OPERATORS: dict[str, _Reader] = {
    "Relu": _plain("relu"),
    "Sigmoid": _plain("sigmoid"),
    "Tanh": _plain("tanh"),
    "HardSwish": _plain("hard_swish"),
    "HardSigmoid": hard_sigmoid,
    "LeakyRelu": leaky_relu,
    "PRelu": prelu,
    "Elu": elu,
    "Celu": celu,
    "Selu": selu,
    "Swish": swish,
    "Gelu": gelu,
    "Clip": clip,
    "Softmax": softmax,
    "Dropout": dropout,
    "Add": add,
    "Sub": subtract,
    "Mul": multiply,
    "Div": divide,
    "Sum": total,
    "Mean": mean,
}
