"""A graph in the making: values as a file sees them, nodes and parameters as the graph holds them."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, NoReturn, Protocol

import numpy as np

from cnnlib._params import pads, pair
from cnnlib._typing import Params
from cnnlib.graph.graph import OF_A_SIZE, Node
from cnnlib.graph.shapes import batch_of, shape_behind
from cnnlib.onnx import metadata
from cnnlib.onnx.reading.files import Source
from cnnlib.onnx.reading.symbols import Symbol
from cnnlib.onnx.reading.values import Constant, Feature, Value

LARGEST_SAMPLE = 2**31  # numbers of one sample's value: 8 GiB in float32
_RESIZING = {"conv", "conv_transpose", "max_pool", "avg_pool", "upsample", "affine", "flatten"}


class Caller(Protocol):
    """What a builder needs of the operator for which it makes a node."""

    name: str
    output: str

    def fail(self, text: str) -> NoReturn: ...


class Builder:
    """A graph in the making.

    Attributes
    ----------
    source : Source
    dtype : dtype
        float64 if the file's input is, else float32.
    batch : int or None
        The number of images that the file is fixed to, if it is.
    input : Feature
    folded : int
        Values of all constants that have been computed from others.
    nodes : list of Node
    params : dict
    frozen : set of str
        Parameters that are not the file's and are not to be trained.
    readers : Counter
        How often each of the file's values is read; the output counts as one.
    fixed_by : str
        Why images must have the size that the network is loaded at; empty where they may have another.
    pools_keep_images : bool
        Whether a global pool has to give (N, C, 1, 1), since something behind it takes nothing but images.
    """

    input: Feature
    dtype: np.dtype[Any]
    batch: int | None

    def __init__(self, source: Source) -> None:
        self.source = source
        known = {entry.key: entry.value for entry in source.model.metadata_props}
        self.fixed_by = str(known.get(metadata.FIXED_BY, ""))
        self._tensors = {tensor.name: tensor for tensor in source.model.graph.initializer}
        self._values: dict[str, Value] = {}
        self.folded = 0
        self.nodes: list[Node] = []
        self._places: dict[str, int] = {}  # of the node that makes a value
        self.params: Params = {}
        self._variants: dict[str, dict[bytes, str]] = {}  # of parameters of one name, by their content
        self.frozen: set[str] = set()
        self.readers: Counter[str] = Counter()
        self.pools_keep_images = False
        self._shapes: dict[str, tuple[int, ...]] = {}
        # Of the graph's values whose shape follows the size of the images, one of the same height and width.
        self._like: dict[str, str] = {}

    def tensor(self, name: str) -> Constant | None:
        """The constant of that name that the file holds, if there is one."""
        return self.source.array(self._tensors[name]) if name in self._tensors else None

    def value(self, name: str) -> Value | None:
        if name not in self._values and name in self._tensors:
            self._values[name] = self.source.array(self._tensors[name])
        return self._values.get(name)

    def emit(
        self,
        op: Caller,
        layer: str,
        inputs: Sequence[Feature],
        params: tuple[str | None, ...] = (),
        args: tuple[Any, ...] = (),
    ) -> Feature:
        """Put a node at the end."""
        name, count = op.output, 1
        while name in self._shapes:
            count += 1
            name = f"{op.output}.{count}"
        node = Node(layer, tuple(feature.name for feature in inputs), name, params, args, op.name)
        shapes = [self._shapes[feature.name] for feature in inputs]
        values = [None if key is None else self.params[key] for key in params]
        try:
            shape = shape_behind(node, shapes, values)
        except (TypeError, ValueError) as error:
            op.fail(str(error))
        if math.prod(shape) > LARGEST_SAMPLE:
            op.fail(f"makes {batch_of(shape)}, which no memory holds")
        self._places[name] = len(self.nodes)
        self.nodes.append(node)
        following = [self._like[value] for value in node.inputs if value in self._like]
        if following and node.layer not in OF_A_SIZE:
            self._like[name] = following[0] if _keeps_size(node, values) else name
        self._shapes[name] = shape
        return Feature(name, shape, shape)

    def parameter(self, name: str, array: Constant) -> str:
        """Add a parameter; what is the file's same tensor, used in the same way, is shared."""
        if name not in self.params:
            self.params[name] = array
            return name
        variants = self._variants.setdefault(name, {_digest(self.params[name]): name})
        digest, count = _digest(array), len(variants)
        while digest not in variants:
            count += 1
            if f"{name}.{count}" not in self.params:
                variants[digest] = f"{name}.{count}"
                self.params[variants[digest]] = array
        return variants[digest]

    def follows(self, feature: Feature) -> bool:
        """Whether the shape of a value follows the size of the images."""
        return feature.name in self._like

    def size_of(self, feature: Feature, axis: int) -> int | Symbol:
        """A size of a sample of the graph's value."""
        if axis == 0 or not self.follows(feature):
            return feature.shape[axis]
        return Symbol(feature.shape[axis], (self._like[feature.name], axis))

    def fix(self, reason: str) -> None:
        """Tie the network to the size of images that it is loaded at; the first reason stays."""
        if len(self.input.shape) == 3:
            self.fixed_by = self.fixed_by or reason

    def maker(self, feature: Feature) -> tuple[int, Node] | None:
        """The node that makes a value, and its place."""
        place = self._places.get(feature.name)
        return None if place is None else (place, self.nodes[place])

    def as_viewed(self, op: Caller, feature: Feature) -> Feature:
        """A value whose shape in the graph is that in the file."""
        if feature.pad is not None:
            feature = self.padded(op, feature)
        if feature.channels_last:
            op.fail("takes or gives images with the channels last, which has no counterpart here")
        if feature.shape == feature.view:
            return feature
        if len(feature.view) == 1:
            return self.emit(op, "flatten", [feature])
        found = self.maker(feature)
        if (
            found is not None
            and found[1].layer == "global_avg_pool"
            and feature.view == (*feature.shape, 1, 1)
        ):
            (name,) = found[1].inputs  # pooled once more, to images
            pooled = Feature(name, self._shapes[name], self._shapes[name])
            return self.emit(op, "adaptive_avg_pool", [pooled], args=(1,))
        op.fail(f"{batch_of(feature.shape)} cannot become {batch_of(feature.view)} here")

    def padded(self, op: Caller, feature: Feature) -> Feature:
        """Padding that no layer takes in: a convolution of each channel with a single 1, which is frozen."""
        if feature.pad_value != 0 or feature.channels_last:
            op.fail(f"padding with {feature.pad_value} before it has no counterpart here")
        C = feature.shape[0]
        name = self.parameter(f"{op.name}.pad", np.ones((C, 1, 1, 1), self.dtype))
        self.frozen.add(name)
        bare = dataclasses.replace(feature, pad=None)
        return self.emit(op, "conv", [bare], (name, None), ({"pad": feature.pad, "groups": C},))


def _keeps_size(node: Node, params: Sequence[Constant | None]) -> bool:
    """Whether what a node makes of images has their height and width, whatever these are."""
    if node.layer == "conv" and params[0] is not None:
        param = {"stride": 1, "dilation": 1, "pad": 0, **node.args[0]}
        stride, dilation = (pair("conv", key, param[key]) for key in ("stride", "dilation"))
        spans = tuple(d * (k - 1) for d, k in zip(dilation, params[0].shape[2:], strict=True))
        top, bottom, left, right = pads("conv", param["pad"], (1, 1), (spans[0] + 1, spans[1] + 1), stride)
        return stride == (1, 1) and (top + bottom, left + right) == spans
    return node.layer not in _RESIZING


def _digest(array: Constant) -> bytes:
    content = hashlib.blake2b(repr((array.shape, array.dtype)).encode(), digest_size=16)
    content.update(np.ascontiguousarray(array).data.cast("B") if array.size else b"")
    return content.digest()
