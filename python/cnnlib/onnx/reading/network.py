"""From the operators of a file to a graph of layers."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cnnlib._params import pads, pair
from cnnlib._typing import Params
from cnnlib.graph.graph import OF_A_SIZE, Graph, Node
from cnnlib.graph.shapes import batch_of, shape_behind
from cnnlib.models.graph_net import GraphNet
from cnnlib.onnx import metadata
from cnnlib.onnx.reading import norms, pointwise, products, resizing, views, windows
from cnnlib.onnx.reading.constants import FOLDED, fold
from cnnlib.onnx.reading.files import OWN, STANDARD, Source
from cnnlib.onnx.reading.operator import Operator, Refused
from cnnlib.onnx.reading.patterns import rewritten
from cnnlib.onnx.reading.symbols import BATCH, Symbol, settled
from cnnlib.onnx.reading.values import Constant, Feature, Value
from cnnlib.onnx.reading.versions import check_version

OPERATORS: dict[str, Callable[[Operator], Value]] = {
    **windows.OPERATORS,
    **resizing.OPERATORS,
    **norms.OPERATORS,
    **products.OPERATORS,
    **pointwise.OPERATORS,
    **views.OPERATORS,
}
_LARGEST_SAMPLE = 2**31  # numbers of one sample's value: 8 GiB in float32
_OF_A_DAMAGED_FILE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
_RESIZING = {"conv", "conv_transpose", "max_pool", "avg_pool", "upsample", "affine", "flatten"}
_NEED_IMAGES = {"Resize", "Upsample", "ConvTranspose"}  # behind a global pool, too


class Network:
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

    def __init__(self, source: Source, input_dim: Sequence[int] | None = None) -> None:
        self.source = source
        graph = source.model.graph
        known = {entry.key: entry.value for entry in source.model.metadata_props}
        self.fixed_by = str(known.get(metadata.FIXED_BY, ""))
        self._tensors = {tensor.name: tensor for tensor in graph.initializer}
        if graph.sparse_initializer:
            raise ValueError(f"{source.title}: sparse tensors have no counterpart here")
        self._values: dict[str, Value] = {}
        self.folded = 0
        self.nodes: list[Node] = []
        self._places: dict[str, int] = {}  # of the node that makes a value
        self.params: Params = {}
        self._variants: dict[str, dict[bytes, str]] = {}  # of parameters of one name, by their content
        self.frozen: set[str] = set()
        self._shapes: dict[str, tuple[int, ...]] = {}
        # Of the graph's values whose shape follows the size of the images, one of the same height and width.
        self._like: dict[str, str] = {}
        self._read_input(graph, input_dim)
        self.protos = self._patterns()
        self.readers = Counter(name for proto in self.protos for name in proto.input)
        self.readers.update(value.name for value in graph.output)
        self.pools_keep_images = any(proto.op_type in _NEED_IMAGES for proto in self.protos)
        self._walk()

    def model(self) -> GraphNet:
        """The network with what its output needs."""
        graph, shape = self._finished()
        used = {name for node in graph for name in node.params if name}
        return GraphNet(
            graph,
            {name: value for name, value in self.params.items() if name in used},
            self.input.shape,
            num_classes=shape[0] if len(shape) == 1 else None,
            bn_params=_dicts(graph, ("batchnorm", "spatial_batchnorm")),
            frozen=[name for name in self.params if name in self.frozen and name in used],
            dtype=self.dtype,
        )

    # The file's values ----------------------------------------------------------------------------------

    def tensor(self, name: str) -> Constant | None:
        """The constant of that name that the file holds, if there is one."""
        return self.source.array(self._tensors[name]) if name in self._tensors else None

    def value(self, name: str) -> Value | None:
        if name not in self._values and name in self._tensors:
            self._values[name] = self.source.array(self._tensors[name])
        return self._values.get(name)

    def _read_input(self, graph, input_dim):
        title = self.source.title
        inputs = [value for value in graph.input if value.name not in self._tensors]
        if len(inputs) != 1:
            names = ", ".join(repr(value.name) for value in inputs)
            raise ValueError(f"{title}: a network has one input here, this one {len(inputs)}: {names}")
        tensor = inputs[0].type.tensor_type
        double = tensor.elem_type == self.source.onnx.TensorProto.DOUBLE
        self.dtype = np.dtype(np.float64 if double else np.float32)
        sizes = [dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim]
        self.batch = sizes[0] if sizes else None
        if input_dim is not None:
            wanted = [int(size) for size in input_dim]
            if sizes and not _agree(sizes[1:], wanted):
                raise ValueError(f"{title}: input_dim is {wanted}, the file's input {_sizes(sizes)}")
            sizes = [None, *wanted]
        shape = tuple(size for size in sizes[1:] if size)
        if not shape or len(shape) != len(sizes) - 1:
            raise ValueError(
                f"{title}: input {inputs[0].name!r} has the shape {_sizes(sizes)}, whose sizes must be "
                "known; those that the file leaves open are given with input_dim"
            )
        if math.prod(shape) > _LARGEST_SAMPLE:
            raise ValueError(f"{title}: a sample has the shape {shape}, which no memory holds")
        self.input = Feature(inputs[0].name, shape, shape)
        self._values[self.input.name] = self.input
        self._shapes[self.input.name] = shape
        if len(shape) == 3:
            self._like[self.input.name] = self.input.name

    def _patterns(self):
        title = self.source.title
        try:
            return rewritten(self.source, self.tensor)
        except _OF_A_DAMAGED_FILE as error:
            if str(error).startswith(title):
                raise
            raise ValueError(f"{title} is damaged: {error}") from error

    def _walk(self):
        for number, proto in enumerate(self.protos, start=1):
            op = Operator(self, number, proto)
            try:
                result = self._result(op, proto)
                op.attributes.finish()
            except Refused:
                raise
            except _OF_A_DAMAGED_FILE as error:
                op.fail(f"cannot be read: {error}")
            self._values[op.output] = result
            for name in list(proto.output)[1:]:
                if self.readers[name]:
                    op.fail(f"its output {name!r} has no counterpart here")

    def _result(self, op, proto):
        if proto.domain not in (*STANDARD, OWN):
            op.fail(f"operators of {proto.domain} have no counterpart here")
        if proto.domain != OWN and (op.kind in OPERATORS or op.kind in FOLDED):
            check_version(op, proto)
        if op.kind in FOLDED and not any(isinstance(value, Feature) for value in op.inputs):
            return fold(op)
        if op.kind not in OPERATORS:
            op.fail("this operator has no counterpart here")
        count = len(self.nodes)
        result = OPERATORS[op.kind](op)
        if isinstance(result, Feature) and len(self.nodes) == count:  # the same value, seen in another way
            self._check_single_pixels(op, result)
            alone = all(op.alone(i) for i, value in enumerate(op.inputs) if isinstance(value, Feature))
            return dataclasses.replace(result, alone=alone)
        return result

    def _check_single_pixels(self, op, seen):
        """Fix the size of images of one row or column, which views take for axes that are always 1."""
        reshaped = seen.pad is None and len(seen.view) > 1 and seen.view != seen.shape
        if reshaped and self.follows(seen) and 1 in seen.shape[1:]:
            op.fix(f"{batch_of(seen.shape)} seen as {batch_of(seen.view)}")

    # The graph ------------------------------------------------------------------------------------------

    def emit(
        self,
        op: Operator,
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
        if math.prod(shape) > _LARGEST_SAMPLE:
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

    def as_viewed(self, op: Operator, feature: Feature) -> Feature:
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

    def padded(self, op: Operator, feature: Feature) -> Feature:
        """Padding that no layer takes in: a convolution of each channel with a single 1, which is frozen."""
        if feature.pad_value != 0 or feature.channels_last:
            op.fail(f"padding with {feature.pad_value} before it has no counterpart here")
        C = feature.shape[0]
        name = op.parameter("pad", np.ones((C, 1, 1, 1)))
        self.frozen.add(name)
        bare = dataclasses.replace(feature, pad=None)
        return op.emit("conv", bare, params=(name, None), args=({"pad": feature.pad, "groups": C},))

    def _finished(self):
        """The graph of the nodes that the output needs, and the output's shape."""
        outputs = self.source.model.graph.output
        if len(outputs) != 1:
            names = ", ".join(repr(value.name) for value in outputs)
            raise ValueError(
                f"{self.source.title}: a network has one output here, this one {len(outputs)}: {names}"
            )
        value = self._values.get(outputs[0].name)
        if not isinstance(value, Feature):
            name = outputs[0].name
            raise ValueError(f"{self.source.title}: its output {name!r} does not depend on its input")
        proto = self.source.onnx.NodeProto(op_type="output", name=outputs[0].name, output=[outputs[0].name])
        value = self.as_viewed(Operator(self, 0, proto), value)
        needed, nodes = {value.name}, []
        for node in reversed(self.nodes):
            if node.output in needed:
                needed.update(node.inputs)
                nodes.append(node)
        return Graph(nodes[::-1], self.input.name, value.name, self.fixed_by), value.shape


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


def _agree(shape, wanted):
    """Whether sizes are those wanted, where they are known."""
    return len(shape) == len(wanted) and all(a in (None, b) for a, b in zip(shape, wanted, strict=True))


def _sizes(sizes):
    """The shape of a file's input, for messages."""
    return f"(N, {', '.join('?' if size is None else str(size) for size in sizes[1:])})"


def shape_of(op: Operator) -> Value:
    """Shape of what depends on the images: the number of images stays open."""
    feature = op.value(0)
    assert isinstance(feature, Feature)  # else it has been folded
    start, end = op.attributes.integer("start", 0), op.attributes.integer("end", len(feature.view) + 1)
    sizes: list[Any] = list(feature.view)
    if feature.view == feature.shape:
        sizes = [op.net.size_of(feature, axis) for axis in range(len(sizes))]
    elif op.net.follows(feature):
        images = feature.channels_last or feature.pad is not None
        for axis, size in enumerate(feature.view):
            if not images or axis != feature.channel_axis:
                sizes[axis] = Symbol(size)
    return settled(np.array([BATCH, *sizes], dtype=object)[start:end])


OPERATORS["Shape"] = shape_of


def _dicts(graph, kinds):
    return [node.args[0] for node in graph if node.layer in kinds]
