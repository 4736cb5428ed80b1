"""A graph in the making from a file: its values by their names there."""

from __future__ import annotations

from collections import Counter
from typing import Any

from cnnlib.graph.importing import Builder, Feature
from cnnlib.inference.quantization.images import BYTE_RULES
from cnnlib.onnx import metadata
from cnnlib.onnx.reading.files import Source
from cnnlib.onnx.reading.symbols import Constant, Symbol, Value


class FileBuilder(Builder):
    """A builder that knows the file's constants.

    Attributes
    ----------
    source : Source
    batch : int or None
        The number of images that the file is fixed to, if it is.
    folded : int
        Values of all constants that have been computed from others.
    codes : dict
        The type, 'uint8' or 'int8', of each of the graph's values that consists of bytes.
    quantized : dict of Quantized
        Constants made of integers, by the file's names.
    readers : Counter
        How often each of the file's values is read; the output counts as one.
    pools_keep_images : bool
        Whether a global pool has to give (N, C, 1, 1), since something behind it takes nothing but images.
    """

    batch: int | None
    rules = BYTE_RULES

    def __init__(self, source: Source) -> None:
        super().__init__()
        self.source = source
        known = {entry.key: entry.value for entry in source.model.metadata_props}
        self.fixed_by = str(known.get(metadata.FIXED_BY, ""))
        self._tensors = {tensor.name: tensor for tensor in source.model.graph.initializer}
        self._values: dict[str, Value] = {}
        self.folded = 0
        self.codes: dict[str, str] = {}
        self.quantized: dict[str, Any] = {}
        self.readers: Counter[str] = Counter()
        self.pools_keep_images = False

    def tensor(self, name: str) -> Constant | None:
        """The constant of that name that the file holds, if there is one."""
        return self.source.array(self._tensors[name]) if name in self._tensors else None

    def value(self, name: str) -> Value | None:
        if name not in self._values and name in self._tensors:
            self._values[name] = self.source.array(self._tensors[name])
        return self._values.get(name)

    def size_of(self, feature: Feature, axis: int) -> int | Symbol:
        """A size of a sample of the graph's value."""
        if axis == 0 or not self.follows(feature):
            return feature.shape[axis]
        return Symbol(feature.shape[axis], (self.like(feature), axis))
