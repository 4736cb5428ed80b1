"""Sums, products and concatenations of values, and their products with numbers."""

from __future__ import annotations

from collections.abc import Callable

from cnnlib.torch.aten.call import Call
from cnnlib.torch.aten.value import CHANNELS_LAST, PLAIN, SPREAD, Value

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
    if not (call.is_value("self") and call.is_value("other")):
        call.refuse("takes two values that are computed from the input")
    values = [call.value(which, CHANNELS_LAST, SPREAD) for which in ("self", "other")]
    if (values[0].kind == CHANNELS_LAST) != (values[1].kind == CHANNELS_LAST):
        call.refuse("images with channels first and with channels last are not joined")
    return values


def _join(call, layer, first, second):
    """A sum or product of two values, of which the one for each channel comes second."""
    if len(first.shape) < len(second.shape) or first.shape[2:] == (1, 1):
        first, second = second, first
    ranks = {len(call.shape("self")), len(call.shape("other"))}
    same = first.shape == second.shape and len(ranks) == 1
    by_channel = second.shape in (first.shape[:2], (*first.shape[:2], 1, 1))
    if not same and not (by_channel and ranks == {4} and first.kind != CHANNELS_LAST):
        call.refuse(f"values of shapes {call.shape('self')} and {call.shape('other')} are not joined")
    kind = first.kind
    if kind != CHANNELS_LAST:
        kind = PLAIN if first.shape == call.out_shape else SPREAD
    call.emit_as(Value("", first.shape, kind), layer, (first.name, second.name))


def _scale(call, which, factor):
    value = call.value(which, CHANNELS_LAST, SPREAD)
    call.emit_as(value, "scale", (value.name,), (), (factor,))


def _scale_channels(call, which, other):
    """A product with a parameter that has a factor for each channel: a convolution of each by itself."""
    value, factors = call.value(which, CHANNELS_LAST), call.shape(other)
    C, wanted = value.shape[1], (1, 1, 1, value.shape[1])
    if value.kind == PLAIN:
        wanted = (1, C, 1, 1)
    padded = (1,) * (4 - len(factors)) + factors
    if len(value.shape) != 4 or padded != wanted:
        call.refuse(f"a product of {value.shape} with a parameter of shape {factors} has no counterpart")
    params, param = (call.parameter(other, "depthwise"), None), {"stride": 1, "pad": 0, "groups": C}
    call.emit_as(value, "conv", (value.name,), params, (param,))


def _multiply(call: Call) -> None:
    for which, other in (("other", "self"), ("self", "other")):
        factor = _number(call, which)
        if factor is not None:
            return _scale(call, other, factor)
        if call[which] in call.reader.constants:
            return _scale_channels(call, other, which)
    return _join(call, "multiply", *_two_values(call))


def _divide(call: Call) -> None:
    divisor = _number(call, "other")
    if not divisor:
        call.refuse("values are divided by numbers other than 0 alone")
    _scale(call, "self", 1 / divisor)


def _negative(call: Call) -> None:
    _scale(call, "self", -1.0)


def _add(call: Call, sign: int = 1) -> None:
    if _number(call, "other") == 0:
        return call.pass_on(call.any_value("self"))
    first, second = _two_values(call)
    factor = sign * call["alpha"]
    if factor != 1:
        name = call.step("scale", (second.name,), (), (float(factor),), f"{call.node.name}_scaled")
        second = Value(name, second.shape, second.kind)
    return _join(call, "add", first, second)


def _subtract(call: Call) -> None:
    _add(call, -1)


def _concat(call: Call) -> None:
    """Along the channels, which may be last."""
    tensors = call["tensors"]
    if any(tensor not in call.reader.values for tensor in tensors):
        call.refuse("takes values that are computed from the input")
    values = [call.reader.values[tensor] for tensor in tensors]
    kind, rank = values[0].kind, len(call.out_shape)
    if kind not in (PLAIN, CHANNELS_LAST) or any(value.kind != kind for value in values):
        call.refuse(
            "images with channels first, with channels last, and values for each channel are not joined"
        )
    if call["dim"] % rank != (rank - 1 if kind == CHANNELS_LAST else 1):
        call.refuse(f"values are concatenated along their channels alone, got dim={call['dim']}")
    if len(values) == 1:
        return call.pass_on(values[0])
    N, _, *size = values[0].shape
    C = sum(value.shape[1] for value in values)
    return call.emit_as(Value("", (N, C, *size), kind), "concat", tuple(value.name for value in values))


OPERATORS: dict[str, Callable[[Call], None]] = {
    "add": _add,
    "sub": _subtract,
    "mul": _multiply,
    "div": _divide,
    "neg": _negative,
    "cat": _concat,
}
