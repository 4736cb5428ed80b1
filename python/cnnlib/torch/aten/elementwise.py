"""Activations, dropout, and joins: sums, products and concatenations."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from cnnlib.graph.importing import Feature
from cnnlib.graph.ops import OPS
from cnnlib.torch.aten.call import Call


def _same(call: Call, layer: str, *args: Any) -> Feature:
    """A layer that goes element by element."""
    return call.same(layer, call.value(0), *args)


def _plain(layer: str, *options: str) -> Callable[[Call], Feature]:
    """A layer with these arguments of the call."""
    return lambda call: _same(call, layer, *(_option(call[name]) for name in options))


def _option(value: Any) -> Any:
    """An argument of a layer; numbers as floats."""
    return float(value) if isinstance(value, int) else value


def _clamp(call: Call, *names: str) -> Feature:
    none = zip(names, (-math.inf, math.inf))
    low, high = (absent if call[name] is None else _number(call, name) for name, absent in none)
    if low is None or high is None:
        call.fail("values are clamped to numbers alone")
    return call.clipped(call.value(0), low, high)


def _softmax(call: Call) -> Feature:
    value = call.value("self")
    call.check_axis(value, call["dim"])
    return call.softmax(value)


def share_dropped(call: Call) -> float:
    """The share of values that a dropout drops, in training alone."""
    if call["train"]:
        call.fail("it drops values in eval mode too (training=True)")
    return float(call["p"])


def _dropout(call: Call) -> Feature:
    return _same(call, "dropout", {"p": share_dropped(call)})


OPERATORS: dict[str, Callable[[Call], Feature]] = {
    **{
        op.aten[0]: _plain(op.name, *op.aten_arguments)
        for op in OPS.values()
        if op.aten_arguments is not None
    },
    "hardtanh": lambda call: _clamp(call, "min_val", "max_val"),
    "clamp": lambda call: _clamp(call, "min", "max"),
    "softmax": _softmax,
    "dropout": _dropout,
}


def _number(call, which):
    """An argument that is a number, or a constant of one element; None for others."""
    given = call[which]
    if isinstance(given, (int, float)):
        return float(given)
    constant = call.net.constants.get(given)
    if constant is not None and constant.numel() == 1 and not constant.requires_grad:
        return float(constant)
    return None


def _scale_channels(call, which, other):
    """A product with a parameter that has a factor for each channel."""
    value, factors = call.value(which), call.shape(other)
    wanted = [1, *(n if axis == value.channel_axis else 1 for axis, n in enumerate(value.view))]
    if len(value.shape) != 3 or [*(1,) * (4 - len(factors)), *factors] != wanted:
        shape = (call.net.batch, *value.view)
        call.fail(f"a product of {shape} with a parameter of shape {factors} has no counterpart")
    array, name = call.weights(other)
    return call.one_by_one(value, array.ravel(), name=name)


def _multiply(call: Call) -> Feature:
    for which, other in (("other", "self"), ("self", "other")):
        factor = _number(call, which)
        if factor is not None:
            return call.scaled(call.value(other), factor)
        if call[which] in call.net.constants:
            return _scale_channels(call, other, which)
    return call.joined("multiply", call.value("self"), call.value("other"))


def _divide(call: Call) -> Feature:
    divisor = _number(call, "other")
    if not divisor:
        call.fail("values are divided by numbers other than 0 alone")
    return call.scaled(call.value("self"), 1 / divisor)


def _add(call: Call, sign: int = 1) -> Feature:
    if _number(call, "other") == 0:
        return call.any_value("self")
    second = call.scaled(call.value("other"), float(sign * call["alpha"]))
    return call.joined("add", call.value("self"), second)


def _concat(call: Call) -> Feature:
    values = [call.unpadded(call.value_of(tensor)) for tensor in call["tensors"]]
    return call.concatenated(values, call["dim"])


JOINS: dict[str, Callable[[Call], Feature]] = {
    "add": _add,
    "sub": lambda call: _add(call, -1),
    "mul": _multiply,
    "div": _divide,
    "neg": lambda call: call.scaled(call.value("self"), -1.0),
    "cat": _concat,
}
