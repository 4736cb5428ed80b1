"""One operator of a file with its inputs and attributes, as its version has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from cnnlib.graph.importing import Feature, Operation
from cnnlib.graph.shapes import batch_of
from cnnlib.onnx.reading.files import Constant, FileBuilder, Value

_NOT_SET = object()


class Attributes:
    """Typed access to an operator's attributes; :meth:`finish` refuses those that nobody asked for.

    Parameters
    ----------
    values : mapping
        Their values by name, as ``onnx.helper.get_attribute_value`` gives them.
    fail : callable
        Raises the ValueError that names the operator, from a text.
    """

    def __init__(self, values: Mapping[str, Any], fail: Callable[[str], NoReturn]) -> None:
        self._left = {
            k: v.decode("utf-8", "replace") if isinstance(v, bytes) else v for k, v in values.items()
        }
        self._fail = fail

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def get(self, name: str, default: Any = None) -> Any:
        """Any value: that of a tensor, say."""
        return self._left.pop(name, default)

    def peek(self, name: str, default: Any) -> Any:
        """Any value, which is still to be taken."""
        return self._left.get(name, default)

    def integer(self, name: str, default: int) -> int:
        return int(self._typed(name, default, int))

    def number(self, name: str, default: float) -> float:
        """A real number: of those that float32, which files hold, does not tell apart the shortest one."""
        return float(str(np.float32(self._typed(name, default, (int, float)))))

    def text(self, name: str, default: str, allowed: Sequence[str]) -> str:
        value = self._typed(name, default, str)
        if value not in allowed:
            self._fail(f"attribute {name} is {value!r}, here only {', '.join(map(repr, allowed))}")
        return value

    def integers(self, name: str, default: Sequence[int] | None = None) -> list[int] | None:
        value = self._left.pop(name, _NOT_SET)
        if value is _NOT_SET:
            return None if default is None else list(default)
        if not isinstance(value, (list, tuple)) or not all(isinstance(item, int) for item in value):
            self._fail(f"attribute {name} is {value!r}, expected integers")
        return list(value)

    def numbers(self, name: str, count: int, default: int) -> tuple[int, ...]:
        """A number for each axis, or for each side of each axis."""
        values = self.integers(name, [default] * count) or []
        if len(values) != count:
            self._fail(f"attribute {name} is {values}; {count} numbers belong to its input")
        return tuple(values)

    def expect(self, name: str, value: Any) -> None:
        """Take an attribute that here can only have one value."""
        came = self._left.pop(name, value)
        if came != value:
            self._fail(f"attribute {name} is {came!r}, here only {value!r}")

    def ignore(self, *names: str) -> None:
        """Take attributes that change nothing, whatever they are."""
        for name in names:
            self._left.pop(name, None)

    def finish(self) -> None:
        for name in self._left:
            self._fail(f"attribute {name} has no counterpart here")

    def _typed(self, name, default, kind):
        value = self._left.pop(name, default)
        if not isinstance(value, kind):
            self._fail(f"attribute {name} is {value!r}")
        return value


class Refused(ValueError):
    """An operator that has no counterpart; the message names it, and `reason` as a graph's messages do."""

    def __init__(self, title: str, op: Operator, text: str) -> None:
        super().__init__(f"{title}: {op.kind} {op.label!r}: {text}")
        self.reason = f"node {op.label!r} ({op.kind}): {text}"
        self.of_layer = not op.net.runs  # for shapes that the layer refuses


class Operator(Operation):
    """What a reader of an operator gets.

    Attributes
    ----------
    net : FileBuilder
        Of the network that is being read.
    kind, label : str
        'Conv', and what messages and nodes call this one.
    output : str
        The name of the value it makes.
    inputs : list of Feature, ndarray or None
        None for an optional input that is left out.
    names : list of str
        The inputs' names in the file.
    attributes : Attributes
    """

    net: FileBuilder

    def __init__(self, net: FileBuilder, number: int, proto: Any) -> None:
        self.net, self.kind, self.opset = net, proto.op_type, net.source.opset
        self.names = list(proto.input)
        self.output = proto.output[0] if proto.output else ""
        self.label = proto.name or self.output or f"number {number}"
        get = net.source.onnx.helper.get_attribute_value
        self.attributes = Attributes({entry.name: get(entry) for entry in proto.attribute}, self.fail)
        self.inputs = [self._value(name) for name in self.names]

    def fail(self, text: str) -> NoReturn:
        raise Refused(self.net.source.title, self, text)

    def _value(self, name):
        if not name:
            return None
        value = self.net.value(name)
        if value is None:
            self.fail(f"reads {name!r}, which nothing before it makes")
        return value

    def has(self, i: int) -> bool:
        return i < len(self.inputs) and self.inputs[i] is not None

    def value(self, i: int) -> Value:
        value = self.inputs[i] if i < len(self.inputs) else None
        if value is None:
            self.fail(f"input {i} is missing")
        return value

    def constant(self, i: int, what: str) -> Constant:
        """An input that does not depend on the images, but perhaps on their number and size."""
        value = self.value(i)
        if isinstance(value, Feature):
            self.fail(f"{what} is computed from the images; here it has to be constant")
        return value

    def floats(self, i: int, what: str, ndim: int | None = None) -> Constant:
        """A constant in the network's dtype."""
        value = self.constant(i, what)
        if value.dtype.kind not in "fiub" or (ndim is not None and value.ndim != ndim):
            self.fail(f"{what} has type {value.dtype} and shape {value.shape}")
        return np.asarray(value, self.net.dtype)

    def weights(self, axis: int, ndim: int | None = None) -> Constant:
        """Input 1, filters along an axis; quantised ones have their scales along it, and no zero points."""
        w, known = self.floats(1, "w", ndim), self.net.quantized.get(self.names[1])
        if known is not None:
            title = f"its weights {self.names[1]!r} of DequantizeLinear have"
            if not known.symmetric:
                self.fail(f"{title} a zero_point; here weights are symmetric (0 of int8, 128 of uint8)")
            if known.axis not in (None, axis):
                self.fail(f"{title} axis {known.axis}; here it is that of the filters, {axis}")
        return w

    def parameters(self, **arrays: Constant) -> tuple[str, ...]:
        """Arrays by their roles as parameters with the names of the inputs from 1 on."""
        names = [*self.names[1:], *[""] * len(arrays)]
        return tuple(self.parameter(*item, name) for item, name in zip(arrays.items(), names))

    def integers(self, i: int, name: str) -> list[int] | None:
        """A list of numbers that older versions have as an attribute and newer ones as input `i`."""
        if not self.has(i):
            return self.attributes.integers(name)
        value = self.constant(i, name)
        if value.ndim > 1 or value.dtype.kind not in "iu":
            self.fail(f"{name} has type {value.dtype} and shape {value.shape}, expected integers")
        return [int(item) for item in np.atleast_1d(value)]

    def scalar(self, i: int, name: str, default: float) -> float:
        """A number that older versions have as an attribute and newer ones as input `i`."""
        if not self.has(i):
            return self.attributes.number(name, default)
        value = self.constant(i, name)
        if value.size != 1 or value.dtype.kind not in "fiub":
            self.fail(f"{name} has shape {value.shape}, expected one number")
        return float(value.reshape(())[()])

    def feature(self, i: int = 0) -> Feature:
        """An input that is computed from the images, padding included."""
        value = self.value(i)
        if not isinstance(value, Feature):
            self.fail(f"input {i} is constant; here it has to be computed from the images")
        return self.unpadded(value)

    def alone(self, i: int = 0) -> bool:
        """Whether nothing else reads the input, so that the layer that makes it may change."""
        value = self.inputs[i]
        return isinstance(value, Feature) and value.alone and self.net.readers[self.names[i]] == 1

    def grid(self, i: int = 0, *, padded_with: float | None = None) -> Feature:
        """An input that is images (C, H, W), sequences (C, L) or volumes (C, D, H, W).

        Constant pixels of the given value around images stay apart, in `pad`.
        """
        value = self.value(i)
        apart = isinstance(value, Feature) and value.pad is not None and value.pad_value == padded_with
        feature = value if apart and isinstance(value, Feature) else self.feature(i)
        if len(feature.view) not in (2, 3, 4) or feature.channels_last:
            order = " with the channels last" if feature.channels_last else ""
            self.fail(f"its input has the shape {batch_of(feature.view)}{order}; expected (N, C, H, W)")
        return feature if feature.pad is not None else self.plain(feature)

    def images(self, i: int = 0) -> Feature:
        """An input that is images (C, H, W)."""
        return self.as_images(self.feature(i))


def check_version(op: Operator, proto: Any) -> None:
    """Refuse an operator, an attribute or an input that the file's version of the operators does not have."""
    onnx = op.net.source.onnx
    try:
        schema = onnx.defs.get_schema(op.kind, op.opset, "")
    except onnx.defs.SchemaError:
        op.fail(f"version {op.opset} of the standard operators has no {op.kind}")
    for attribute in proto.attribute:
        if attribute.name not in schema.attributes:
            op.fail(f"attribute {attribute.name}, which version {op.opset} of {op.kind} does not have")
    for name, attribute in schema.attributes.items():
        if attribute.required and all(given.name != name for given in proto.attribute):
            op.fail(f"attribute {name} is missing")
    if len(op.names) > schema.max_input:
        op.fail(f"{len(op.names)} inputs; version {op.opset} of {op.kind} has {schema.max_input} at most")
