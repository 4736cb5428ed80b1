"""Products that stand for one operator: rewritten before the network is read.

``0.5 * x * (1 + erf(x / sqrt(2)))`` is Gelu, ``x * sigmoid(x)`` is Swish, and ``x * clip(x + 3, 0, 6) / 6``
is HardSwish; exporters write them out where their version of the operators has no name for them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

from cnnlib.onnx.reading.files import OWN, STANDARD, Source

_CLOSE = 1e-3  # relative: factors come with the digits of float16, too
_EQUAL = 1e-6  # for those that it holds exactly; they may be products of others
_DEEPEST = 8  # products within products: exporters write three


class _Products:
    """The operators of a file by what they make and read, and its products whatever their order."""

    def __init__(self, source: Source) -> None:
        graph = source.model.graph
        self.source, self.protos = source, list(graph.node)
        standard = (proto for proto in self.protos if proto.domain in STANDARD)
        self.makers = {name: proto for proto in standard for name in proto.output}
        self.counts = Counter(name for proto in self.protos for name in proto.input)
        self.counts.update(value.name for value in graph.output)

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

    def factors(self, name: str, depth: int = 0) -> tuple[float, list[str]]:
        """The number and the values that `name` is the product of.

        Products within are taken apart where nothing else reads them.
        """
        number, proto = self.number(name), self.makers.get(name)
        if number is not None:
            return number, []
        within = depth == 0 or (depth < _DEEPEST and self.counts[name] == 1)
        if proto is None or proto.op_type not in ("Mul", "Div") or not within:
            return 1.0, [name]
        (a, some), (b, others) = (self.factors(side, depth + 1) for side in proto.input)
        if proto.op_type == "Mul":
            return a * b, some + others
        return (1.0, [name]) if others or not b else (a / b, some)

    def shifted(self, name: str, shift: float) -> str:
        """The x of which `name` is x + shift; empty if it is not."""
        proto = self.makers.get(name)
        if proto is None or proto.op_type != "Add":
            return ""
        first, second = proto.input
        return first if self.number(second) == shift else second if self.number(first) == shift else ""

    def activation(self, output: str) -> tuple[str, str] | None:
        """The activation that a product is, and of which value."""
        number, names = self.factors(output)
        for x, other in (names, names[::-1]) if len(names) == 2 else ():
            proto = self.makers.get(other)
            if proto is None or self.counts[other] > 1:
                continue
            for kind, factor, of in self._gates(proto):
                close = _EQUAL if factor in (0.5, 1.0) else _CLOSE
                if of == x and math.isclose(number, factor, rel_tol=close):
                    return kind, x
        return None

    def _gates(self, proto: Any) -> Iterator[tuple[str, float, str]]:
        """By what an operator may be multiplied to be an activation: its kind, a number and a value."""
        given = {attribute.name: attribute.f for attribute in proto.attribute}
        if proto.op_type == "Sigmoid":
            yield "Swish", 1.0, proto.input[0]
        elif proto.op_type == "HardSigmoid":
            sixth = math.isclose(given.get("alpha", 0.2), 1 / 6, rel_tol=_CLOSE)
            if sixth and given.get("beta", 0.5) == 0.5:
                yield "HardSwish", 1.0, proto.input[0]
        elif proto.op_type == "Clip":
            bounds = given.get("min"), given.get("max")
            if len(proto.input) == 3:
                bounds = self.number(proto.input[1]), self.number(proto.input[2])
            if bounds == (0, 6):
                yield "HardSwish", 1 / 6, self.shifted(proto.input[0], 3.0)
        else:
            erf = self.makers.get(self.shifted(proto.output[0], 1.0))
            if erf is not None and erf.op_type == "Erf" and self.counts[erf.output[0]] == 1:
                number, names = self.factors(erf.input[0])
                if math.isclose(number, math.sqrt(0.5), rel_tol=_CLOSE) and len(names) == 1:
                    yield "Gelu", 0.5, names[0]


def rewritten(source: Source) -> list[Any]:
    """The file's operators, in its order, with such products replaced; what nothing reads is gone."""
    products = _Products(source)
    protos = []
    for proto in products.protos:
        found = products.activation(proto.output[0]) if proto.op_type in ("Mul", "Div") else None
        if found is not None:
            name, outputs = proto.name or proto.output[0], proto.output[:1]
            proto = source.onnx.helper.make_node(found[0], [found[1]], outputs, name=name, domain=OWN)
        protos.append(proto)
    return _needed(protos, {value.name for value in source.model.graph.output})


def _needed(protos, names):
    kept = []
    for proto in reversed(protos):
        if any(name in names for name in proto.output):
            names.update(proto.input)
            kept.append(proto)
    return kept[::-1]
