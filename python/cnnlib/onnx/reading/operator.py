"""One operator of a file with its inputs and attributes."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

from cnnlib.graph.importing import Feature, Operation
from cnnlib.graph.shapes import batch_of
from cnnlib.onnx.reading.attributes import Attributes
from cnnlib.onnx.reading.building import FileBuilder
from cnnlib.onnx.reading.symbols import Symbol
from cnnlib.onnx.reading.values import Constant, Value


class Refused(ValueError):
    """An operator that has no counterpart; the message names it."""


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
        raise Refused(f"{self.net.source.title}: {self.kind} {self.label!r}: {text}")

    def fix(self, text: str) -> None:
        self.net.fix(f"node {self.label!r} ({self.kind}): {text}")

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
        """An input that does not depend on the images; one that depends on their size fixes this."""
        return self.known(self.symbols(i, what), what)

    def symbols(self, i: int, what: str) -> Constant:
        """An input that does not depend on the images, but perhaps on their number and size."""
        value = self.value(i)
        if isinstance(value, Feature):
            self.fail(f"{what} is computed from the images; here it has to be constant")
        return value

    def known(self, value: Constant, what: str) -> Constant:
        """The numbers that a constant's Symbols stand for."""
        if value.dtype != object:
            return value
        numbers = [item.value if isinstance(item, Symbol) else item for item in value.flat]
        if None in numbers:
            self.fail(f"{what} depends on the number of images, which is not known when a network is loaded")
        self.fix(f"{what} {tuple(numbers)}, computed from the size of the images")
        return np.array(numbers).reshape(value.shape)

    def floats(self, i: int, what: str, ndim: int | None = None) -> Constant:
        """A constant in the network's dtype."""
        value = self.constant(i, what)
        if value.dtype.kind not in "fiub" or (ndim is not None and value.ndim != ndim):
            self.fail(f"{what} has type {value.dtype} and shape {value.shape}")
        return np.asarray(value, self.net.dtype)

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
        return value if value.pad is None else self.net.padded(self, value)

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
        feature = self.feature(i)
        if len(feature.view) != 3:
            self.fail(f"its input has the shape {batch_of(feature.view)}; expected images (N, C, H, W)")
        return self.plain(feature)

    def flat(self, i: int = 0) -> Feature:
        """An input as (N, D)."""
        feature = self.feature(i)
        if len(feature.view) != 1:
            self.fail(f"its input has the shape {batch_of(feature.view)}, expected (N, D)")
        return self.plain(feature)
