"""One operator of a file with its inputs and attributes, as its version has them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np

from cnnlib.graph.importing import Feature, TensorOperation
from cnnlib.graph.importing.tensors import Known, Operand
from cnnlib.graph.ops.sizes import batch_of
from cnnlib.onnx.metadata import require_onnx
from cnnlib.onnx.reading.files import Constant, FileBuilder, Value


def _plain(entry: Any) -> Any:
    """The value of an attribute; None where its schema says none.

    Files hold numbers of float32: of those that it does not tell apart this is the shortest one.
    """
    if not entry.type:
        return None
    value = require_onnx("cnnlib.onnx.load").helper.get_attribute_value(entry)
    if isinstance(value, float):
        return float(str(np.float32(value)))
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


@functools.cache
def schema_of(kind: str, opset: int) -> tuple[Any, dict[str, Any]]:
    """What a version of the standard operators has: its OpSchema, None if there is none, and the defaults."""
    defs = require_onnx("cnnlib.onnx.load").defs
    try:
        found = defs.get_schema(kind, opset, "")
    except defs.SchemaError:
        return None, {}
    return found, {name: _plain(entry.default_value) for name, entry in found.attributes.items()}


class Record:
    """An operator as it stands in a file, read once for all sizes of images.

    `kind` is 'Conv' or so, and `label` what messages and nodes call this one. `given` are its attributes,
    `defaults` those of its `schema`, an OpSchema or None.
    """

    def __init__(self, number: int, proto: Any, opset: int) -> None:
        self.proto, self.kind, self.domain = proto, proto.op_type, proto.domain
        self.names, self.outputs = list(proto.input), list(proto.output)
        self.output = self.outputs[0] if self.outputs else ""
        self.label = proto.name or self.output or f"number {number}"
        self.given = {entry.name: _plain(entry) for entry in proto.attribute}
        (self.schema, self.defaults), self.checked = schema_of(self.kind, opset), False
        self.made: tuple[Sequence[Any], Any] | None = None  # what was computed last, and from what


class Refused(ValueError):
    """An operator that has no counterpart; the message names it, and `reason` as a graph's messages do."""

    def __init__(self, title: str, op: Operator, text: str) -> None:
        self.own = f"{op.kind} {op.label!r}: {text}"  # without the file
        super().__init__(f"{title}: {self.own}")
        self.reason = f"node {op.label!r} ({op.kind}): {text}"
        self.of_layer = not op.net.runs  # for shapes that the layer refuses
        self.nodes = op.net.nodes

    def add(self, others: Sequence[str]) -> None:
        """Name other operators that are refused, too."""
        self.args = ("; ".join([self.args[0], *others]),)


class Operator(TensorOperation):
    """What a reader of an operator gets.

    `inputs` are Features, arrays, or None for an optional one that is left out; `names` are what the file
    calls them. `kind` is 'Conv' or so, `label` what messages and nodes call this one, and `output` the name
    of the value it makes.
    """

    net: FileBuilder
    word = "attribute "
    compares_sizes = True

    def __init__(self, net: FileBuilder, record: Record, natural: bool = False) -> None:
        """With `natural`, values are taken as tensors in the shape that the file sees."""
        super().__init__(record.given, record.defaults)
        self.natural = natural
        self.net, self.record, self.opset = net, record, net.source.opset
        self.kind, self.label = record.kind, record.label
        self.names, self.output = record.names, record.output
        self.inputs = [self._value(name) for name in self.names]

    def fail(self, text: str) -> NoReturn:
        raise Refused(self.net.source.title, self, text)

    def number_of_samples(self) -> int:
        return self.net.samples

    def once(self, function: Callable[..., Constant], *arrays: Constant | None) -> Constant:
        """Compute function(*arrays) once; other sizes of images reuse it for the very same arrays."""
        made = self.record.made
        if made is None or any(a is not b for a, b in zip(made[0], arrays, strict=True)):
            made = self.record.made = arrays, function(*arrays)
        return made[1]

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
        w, known = self.floats(1, "w", ndim), self.net.source.quantized.get(self.names[1])
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
            return self[name]
        value = self.constant(i, name)
        if value.ndim > 1 or value.dtype.kind not in "iu":
            self.fail(f"{name} has type {value.dtype} and shape {value.shape}, expected integers")
        return [int(item) for item in np.atleast_1d(value)]

    def axes(self) -> list[int] | None:
        """Those of Squeeze; an empty list, which some programs take for none, is refused."""
        if (axes := self.integers(1, "axes")) == []:
            self.fail("axes is empty, which programs take for none of the axes or for all of length 1")
        return axes

    def numbers(self, name: str, count: int, default: int) -> tuple[int, ...]:
        """An attribute with a number for each axis, or for each side of each axis."""
        values = [default] * count if self[name] is None else self[name]
        if len(values) != count:
            self.fail(f"attribute {name} is {values}; {count} numbers belong to its input")
        return tuple(values)

    def scalar(self, i: int, name: str, default: float) -> float:
        """A number that older versions have as an attribute and newer ones as input `i`."""
        if not self.has(i):
            self.ignore(name)
            return self.arguments.get(name, default)
        value = self.constant(i, name)
        if value.size != 1 or value.dtype.kind not in "fiub":
            self.fail(f"{name} has shape {value.shape}, expected one number")
        return float(value.reshape(())[()])

    def feature(self, i: int = 0) -> Feature:
        """An input that is computed from the images, padding included."""
        return self.unpadded(self._by_samples(self.tensor_of(i)))

    def _by_samples(self, value: Feature) -> Feature:
        """A value whose first axis is that of the samples, as a tensor where those are asked for."""
        if not value.by_samples:
            shape = value.source_shape(self.net.samples)
            self.fail(f"takes a value of shape {shape}, whose samples share an axis")
        return self.tensor(value) if self.natural else value

    def tensor_of(self, i: int) -> Feature:
        """An input that is computed from the images, of any rank."""
        value = self.value(i)
        if not isinstance(value, Feature):
            self.fail(f"input {i} is constant; here it has to be computed from the images")
        return value

    def operand(self, i: int) -> Operand:
        """An input that may be constant; one with a name and several numbers is trained."""
        value = self.value(i)
        if isinstance(value, Feature):
            return value
        array = self.floats(i, f"input {i}")
        trained = value.size > 1 and self.net.source.constant(self.names[i]) is not None
        return Known(array, self.names[i] if trained and value.dtype.kind == "f" else "")

    def number(self, value: Operand) -> float | None:
        """The number that a constant is, of at most one axis: more of them would be the result's, too."""
        return super().number(value) if isinstance(value, Known) and value.array.ndim <= 1 else None

    def sizes_of(self, value: Operand) -> tuple[int, ...]:
        """The file's shape of an operand."""
        return value.shape if isinstance(value, Known) else value.source_shape(self.net.samples)

    def alone(self, i: int = 0) -> bool:
        """Whether nothing else reads the input, so that the layer that makes it may change."""
        value = self.inputs[i]
        return isinstance(value, Feature) and value.alone and self.net.readers[self.names[i]] == 1

    def grid(self, i: int = 0, *, padded_with: float | None = None) -> Feature:
        """An input that is images (C, H, W), sequences (C, L) or volumes (C, D, H, W).

        Constant pixels of the given value around images stay apart, in `pad`.
        """
        value = self.value(i)
        if isinstance(value, Feature):
            value = self._by_samples(value)
        apart = isinstance(value, Feature) and value.pad is not None and value.pad_value == padded_with
        feature = value if apart and isinstance(value, Feature) else self.feature(i)
        if len(feature.view) not in (2, 3, 4) or feature.channels_last:
            order = " with the channels last" if feature.channels_last else ""
            self.fail(f"its input has the shape {batch_of(feature.view)}{order}; expected (N, C, H, W)")
        return feature if feature.pad is not None else self.plain(feature)

    def images(self, i: int = 0) -> Feature:
        """An input that is images (C, H, W)."""
        return self.as_images(self.feature(i))

    def check_version(self) -> None:
        """Refuse what the file's version of the operators does not have: kinds, attributes, inputs."""
        if self.record.checked:
            return
        schema, of = self.record.schema, f"version {self.opset} of {self.kind}"
        if schema is None:
            self.fail(f"version {self.opset} of the standard operators has no {self.kind}")
        known = schema.attributes
        for entry in self.record.proto.attribute:
            if entry.name not in known:
                self.fail(f"attribute {entry.name}, which {of} does not have")
            if entry.type != known[entry.name].type.value:
                self.fail(f"attribute {entry.name} is {self.arguments[entry.name]!r}, of another type")
        for name, attribute in known.items():
            if attribute.required and name not in self.arguments:
                self.fail(f"attribute {name} is missing")
        if len(self.names) > schema.max_input:
            self.fail(f"{len(self.names)} inputs; {of} has {schema.max_input} at most")
        self.record.checked = True
