"""Sums, products and concatenations of values, and their products with numbers."""

from __future__ import annotations

from collections.abc import Callable

from cnnlib.torch.aten.call import Call

__all__ = ["OPERATORS"]


def _number(call, which):
    """An argument that is a number, or a constant of one element; None for others."""
    given = call[which]
    if isinstance(given, (int, float)):
        return float(given)
    constant = call.reader.constants.get(given)
    if constant is not None and constant.numel() == 1 and not constant.requires_grad:
        return float(constant)
    return None


def _two_values(call):
    """The names of both arguments."""
    if not (call.is_value("self") and call.is_value("other")):
        call.refuse("takes two values that are computed from the input")
    if call.has_channels_last("self") != call.has_channels_last("other"):
        call.refuse("images with channels first and with channels last are not joined")
    return [call.value(which, channels_last=True) for which in ("self", "other")]


def _join(call, layer, names):
    """A sum or product of two values, of which the one for each channel comes second."""
    shapes = [call.reader.shapes[name] for name in names]
    if len(shapes[0]) < len(shapes[1]) or shapes[0][2:] == (1, 1):
        names, shapes = names[::-1], shapes[::-1]
    first, second = shapes
    spread = len(first) == 4 and second in (first[:2], (*first[:2], 1, 1))
    if first != second and not (spread and len(call.shape("self")) == len(call.shape("other")) == 4):
        call.refuse(f"values of shapes {call.shape('self')} and {call.shape('other')} are not joined")
    call.emit(layer, tuple(names), shape=first, channels_last=call.has_channels_last("self"))


def _scale(call, which, factor):
    name, last = call.value(which, channels_last=True), call.has_channels_last(which)
    call.emit("scale", (name,), (), (factor,), shape=call.reader.shapes[name], channels_last=last)


def _scale_channels(call, which, other):
    """A product with a parameter that has a factor for each channel: a convolution of each by itself."""
    last, name = call.has_channels_last(which), call.value(which, channels_last=True)
    shape, factors = call.reader.shapes[name], call.shape(other)
    C, wanted = shape[1], (shape[1],) if last else (shape[1], 1, 1)
    padded = (1,) * (len(wanted) - len(factors)) + factors
    if len(shape) != 4 or call.out_shape != call.shape(which) or padded[-len(wanted) :] != wanted:
        call.refuse(f"a product of {shape} with a parameter of shape {factors} has no counterpart")
    params, param = (call.parameter(other, "depthwise"), None), {"stride": 1, "pad": 0, "groups": C}
    call.emit("conv", (name,), params, (param,), shape=shape, channels_last=last)


def _multiply(call: Call) -> None:
    for which, other in (("other", "self"), ("self", "other")):
        factor = _number(call, which)
        if factor is not None:
            return _scale(call, other, factor)
        if call[which] in call.reader.constants:
            return _scale_channels(call, other, which)
    return _join(call, "multiply", _two_values(call))


def _divide(call: Call) -> None:
    divisor = _number(call, "other")
    if not divisor or call._arguments.get("rounding_mode"):
        call.refuse("values are divided by numbers other than 0 alone")
    _scale(call, "self", 1 / divisor)


def _negative(call: Call) -> None:
    _scale(call, "self", -1.0)


def _add(call: Call, sign: int = 1) -> None:
    if _number(call, "other") == 0:
        last = call.has_channels_last("self")
        return call.pass_on(call.value("self", channels_last=True), channels_last=last)
    names, factor = _two_values(call), sign * call["alpha"]
    if factor != 1:
        output = f"{call.node.name}_scaled"
        shape = call.reader.shapes[names[1]]
        names[1] = call.step("scale", (names[1],), (), (float(factor),), shape, output)
    return _join(call, "add", names)


def _subtract(call: Call) -> None:
    _add(call, -1)


def _concat(call: Call) -> None:
    tensors = call["tensors"]
    values, shapes = call.reader.values, call.reader.shapes
    rank = len(call.out_shape)
    if call["dim"] % rank != 1 or any(tensor not in values for tensor in tensors):
        call.refuse(f"values computed from the input are concatenated along axis 1, got dim={call['dim']}")
    names = tuple(values[tensor] for tensor in tensors)
    if any(len(shapes[name]) != rank for name in names):
        call.refuse("values of (N, C, 1, 1) that were made of (N, C) are not concatenated")
    if len(names) == 1:
        return call.pass_on(names[0])
    return call.emit("concat", names)


OPERATORS: dict[str, Callable[[Call], None]] = {
    "add": _add,
    "sub": _subtract,
    "mul": _multiply,
    "div": _divide,
    "neg": _negative,
    "cat": _concat,
}
