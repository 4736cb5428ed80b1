"""Chains of operators that stand for one: rewritten before the network is read.

``0.5 * x * (1 + erf(x / sqrt(2)))`` is Gelu, ``x * sigmoid(x)`` is Swish, and ``x * clip(x + 3, 0, 6) / 6``
is HardSwish; exporters write them out where their version of the operators has no name for them.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from cnnlib.onnx.reading.files import OWN, Source

_CLOSE = 1e-3  # relative: factors come with the digits of float16, too


class _Chains:
    """The operators of a file by what they make and read."""

    def __init__(self, source: Source) -> None:
        graph = source.model.graph
        self.protos = list(graph.node)
        self.makers = {name: proto for proto in self.protos for name in proto.output}
        self.counts = Counter(name for proto in self.protos for name in proto.input)
        self.counts.update(value.name for value in graph.output)
        self.readers = {name: proto for proto in self.protos for name in proto.input}
        self.source = source

    def number(self, name: str) -> float | None:
        """The constant of that name, if it is one number."""
        array = self.source.constant(name)
        if array is None and name in self.makers and self.makers[name].op_type == "Constant":
            for attribute in self.makers[name].attribute:
                if attribute.name == "value":
                    array = self.source.array(attribute.t)
                elif attribute.name == "value_float":
                    return attribute.f
        if array is None or array.size != 1 or array.ndim > 2:  # more axes give rows of numbers another one
            return None
        return float(array.reshape(()))

    def factors(self, proto: Any) -> list[tuple[str, float | None]]:
        """The two sides of a Mul or Div, each with its number if it is one; a divisor's is inverted."""
        sides = [(name, self.number(name)) for name in proto.input]
        if proto.op_type == "Div" and sides[1][1]:
            sides[1] = sides[1][0], 1 / sides[1][1]
        return sides

    def scaled(self, name: str, factor: float) -> str | None:
        """The x of which `name` is factor * x, if it is."""
        proto = self.makers.get(name)
        if proto is None or proto.op_type not in ("Mul", "Div"):
            return None
        (first, a), (second, b) = self.factors(proto)
        if b is not None and math.isclose(b, factor, rel_tol=_CLOSE):
            return first
        if proto.op_type == "Mul" and a is not None and math.isclose(a, factor, rel_tol=_CLOSE):
            return second
        return None

    def shifted(self, name: str, shift: float) -> str | None:
        """The x of which `name` is x + shift, if it is."""
        proto = self.makers.get(name)
        if proto is None or proto.op_type != "Add":
            return None
        (first, a), (second, b) = ((side, self.number(side)) for side in proto.input)
        return first if b == shift else second if a == shift else None

    def only_reader(self, name: str) -> Any:
        return self.readers.get(name) if self.counts[name] == 1 else None

    def product(self, start: str, x: str, factor: float) -> str | None:
        """The name of start * x * factor, computed in any order by products that nothing else reads."""
        missing_x, missing_factor, name = True, factor != 1, start
        while missing_x or missing_factor:
            proto = self.only_reader(name)
            if proto is None or proto.op_type not in ("Mul", "Div"):
                return None
            sides = self.factors(proto)
            other, number = sides[1] if sides[0][0] == name else sides[0]
            if proto.op_type == "Div" and sides[1][0] != other:
                return None
            if missing_x and other == x and proto.op_type == "Mul":
                missing_x = False
            elif missing_factor and number is not None and math.isclose(number, factor, rel_tol=_CLOSE):
                missing_factor = False
            elif missing_x and missing_factor and proto.op_type == "Mul" and self.scaled(other, factor) == x:
                missing_x = missing_factor = False
            else:
                return None
            name = proto.output[0]
        return name


def rewritten(source: Source) -> list[Any]:
    """The file's operators, in its order, with such chains replaced; what nothing reads any more is gone."""
    chains = _Chains(source)
    replaced = {}
    for proto in chains.protos:
        finder = _FINDERS.get(proto.op_type)
        found = finder(chains, proto) if finder else None
        if found is not None:
            kind, x, output = found
            replaced[output] = source.onnx.helper.make_node(
                kind, [x], [output], name=proto.name or output, domain=OWN
            )
    protos = [replaced.get(proto.output[0] if proto.output else "", proto) for proto in chains.protos]
    return _needed(protos, {value.name for value in source.model.graph.output})


def _gelu(chains, erf):
    x = chains.scaled(erf.input[0], math.sqrt(0.5))
    add = chains.only_reader(erf.output[0])
    if x is None or add is None or chains.shifted(add.output[0], 1.0) != erf.output[0]:
        return None
    output = chains.product(add.output[0], x, 0.5)
    return output and ("Gelu", x, output)


def _swish(chains, sigmoid):
    x = sigmoid.input[0]
    output = chains.product(sigmoid.output[0], x, 1.0)
    return output and ("Swish", x, output)


def _hard_swish(chains, sigmoid):
    values = {attribute.name: attribute.f for attribute in sigmoid.attribute}
    alpha, beta = values.get("alpha", 0.2), values.get("beta", 0.5)
    if beta != 0.5 or not math.isclose(alpha, 1 / 6, rel_tol=_CLOSE):
        return None
    output = chains.product(sigmoid.output[0], sigmoid.input[0], 1.0)
    return output and ("HardSwish", sigmoid.input[0], output)


def _clipped(chains, clip):
    values = {attribute.name: attribute.f for attribute in clip.attribute}
    low, high = values.get("min"), values.get("max")
    if len(clip.input) == 3:
        low, high = chains.number(clip.input[1]), chains.number(clip.input[2])
    x = chains.shifted(clip.input[0], 3.0)
    if (low, high) != (0, 6) or x is None:
        return None
    output = chains.product(clip.output[0], x, 1 / 6)
    return output and ("HardSwish", x, output)


_FINDERS = {"Erf": _gelu, "Sigmoid": _swish, "HardSigmoid": _hard_swish, "Clip": _clipped}


def _needed(protos, names):
    kept = []
    for proto in reversed(protos):
        if any(name in names for name in proto.output):
            names.update(proto.input)
            kept.append(proto)
    return kept[::-1]
