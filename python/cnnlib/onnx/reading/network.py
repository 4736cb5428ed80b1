"""From the operators of a file to a graph of layers: :func:`load`."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnlib.graph.graph import Graph
from cnnlib.graph.importing import Feature
from cnnlib.graph.importing.builder import LARGEST_SAMPLE
from cnnlib.graph.importing.sizes import changed, difference, other_sizes
from cnnlib.graph.ops import OPS
from cnnlib.graph.shapes import checked_dim
from cnnlib.inference.predictor import Predictor
from cnnlib.models.graph_net import GraphNet
from cnnlib.onnx import metadata
from cnnlib.onnx.reading import pointwise, quantized, views, weighted, windows
from cnnlib.onnx.reading.constants import BY_HAND, FOLDED, fold, whole
from cnnlib.onnx.reading.files import OWN, STANDARD, FileBuilder, Source, Value
from cnnlib.onnx.reading.operator import Operator, Record, Refused
from cnnlib.onnx.reading.patterns import rewritten
from cnnlib.onnx.reading.tensors import TENSORS

if TYPE_CHECKING:
    from onnx import ModelProto

OPERATORS: dict[str, Callable[[Operator], Value]] = {
    **windows.OPERATORS,
    **weighted.OPERATORS,
    **pointwise.OPERATORS,
    **views.OPERATORS,
    **quantized.OPERATORS,
}
BY_HAND |= quantized.FOLDED
FOLDED |= dict.fromkeys(quantized.FOLDED, whole)
_OF_A_DAMAGED_FILE = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
# Numbers of images that shapes are computed with: a large prime apart, of other remainders and quotients.
_SAMPLES, _MORE_SAMPLES = 89, 89 + 10_007
_NEED_IMAGES = {"Resize", "Upsample", "ConvTranspose"}  # behind a global pool, too
# What these become, but for SAME_LOWER, depends on the channels of what they read, not on its size: what goes
# element by element, batch norms, and operators of ONNX whose readers look at no height and width.
_OF_CHANNELS = {
    *(kind for op in OPS.values() if op.elementwise or op.norm == "batch" for kind in op.kinds_in_onnx),
    *("Add", "Concat", "Constant", "Conv", "Dropout", "Flatten", "Gemm", "GlobalAveragePool", "Identity"),
    *("MaxPool", "Swish"),
}
_UNKNOWN = "this operator has no counterpart here"
_SEE_SAMPLES = ("Shape", "Reshape")  # alone: a large file without them is read once less


class Network(FileBuilder):
    """A builder that reads a file for samples of one shape."""

    def __init__(
        self, source: Source, records: Sequence[Record], name: str, shape: tuple[int, ...], samples: int
    ) -> None:
        super().__init__(source, samples)
        self.records = records
        self._values[name] = self.begin(name, shape)
        self.readers.update(name for record in records for name in record.names)
        self.readers.update(value.name for value in source.model.graph.output)
        self.pools_keep_images = any(record.kind in _NEED_IMAGES for record in records)

    def read(self) -> Graph:
        """The file's operators as far as its outputs need them."""
        self._walk()
        return self.graph(self._outputs())

    def model(self, graph: Graph) -> GraphNet | Predictor:
        """The network of what was read, an eight-bit one as a predictor."""
        if not any(node.output in self.codes for node in graph):
            # What is trained shares no memory: two names may stand for one constant of the file.
            own = {name: np.array(array, order="C") for name, array in self.params.items()}
            return GraphNet(graph, own, self.input.shape, frozen=self.frozen, dtype=self.dtype)
        title = self.source.title
        if self.dtype != np.float32:
            raise ValueError(f"{title}: an eight-bit network takes and gives float32, not {self.dtype}")
        graph.refuse_several(title)
        return quantized.predictor_of(title, graph, self.params, self.input.shape, self.source.quantized)

    def _walk(self):
        """Read each operator; those that are refused are named together, in one ValueError."""
        first: Refused | None = None
        others: list[str] = []
        lost: set[str] = set()  # values behind those that are refused
        for record in self.records:
            if not lost.isdisjoint(record.names):
                lost.update(record.outputs)
                if record.kind not in (*OPERATORS, *TENSORS, *FOLDED):
                    others.append(f"{record.kind} {record.label!r}: {_UNKNOWN}")
                continue
            try:
                made = self._read(record)
            except Refused as refused:
                lost.update(record.outputs)
                if first is None:
                    first = refused
                else:
                    others.append(refused.own)
                continue
            for name, value in zip(record.outputs, made, strict=False):
                self._values[name] = value
        if first is not None:
            first.add(others)
            raise first

    def _read(self, record):
        """The values that an operator makes: in its form for images, else in that for tensors.

        A form that is refused leaves nothing behind.
        """
        forms: list[tuple[Mapping[str, Callable[[Operator], Any]], bool]] = [(OPERATORS, False)]
        if not self.source.quantized and not self.codes:  # operators on bytes take images
            forms += [(TENSORS, False)] if record.kind in TENSORS else []
            forms += [(OPERATORS, True)] if record.kind in OPERATORS else []
        refusals = []
        for table, natural in forms:
            before = self.state()
            try:
                return self._read_as(record, table, natural)
            except Refused as refused:
                refusals.append(refused)
                self.go_back(before)
            if not self._has_values(record):
                break
        raise next((refused for refused in refusals if refused.of_layer), refusals[len(refusals) > 1])

    def _has_values(self, record):
        """Tell if an operator reads a value that is computed from the images."""
        return any(isinstance(self._values.get(name), Feature) for name in record.names)

    def _read_as(self, record, table, natural):
        op = Operator(self, record, natural)
        try:
            result = self._result(op, record, table)
            op.check_arguments()
        except Refused:
            raise
        except _OF_A_DAMAGED_FILE as error:
            op.fail(f"cannot be read: {error}")
        made = result if isinstance(result, list) else [result]
        for name in record.outputs[len(made) :]:
            if self.readers[name]:
                op.fail(f"its output {name!r} has no counterpart here")
        return made

    def _result(self, op, record, table):
        if record.domain not in (*STANDARD, OWN):
            op.fail(f"operators of {record.domain} have no counterpart here")
        if record.domain != OWN and (op.kind in OPERATORS or op.kind in TENSORS or op.kind in FOLDED):
            op.check_version()
        for value in op.inputs:
            if isinstance(value, Feature) and value.name in self.codes and op.kind not in quantized.OF_BYTES:
                quantized.refuse_operator_form(op)
                op.fail("reads what QuantizeLinear made; here DequantizeLinear comes first")
        if op.kind not in ("Cast", "Shape") and not self.integers.isdisjoint(op.names):
            if op.kind not in quantized.OF_BYTES:
                op.fail("computes in integers, as the input is; here a Cast to floats comes first")
            self.integers.add(op.output)
        if op.kind in FOLDED and not any(isinstance(value, Feature) for value in op.inputs):
            return fold(op)
        if op.kind not in table:
            quantized.refuse_operator_form(op)
            op.fail(_UNKNOWN)
        count = len(self.nodes)
        result = table[op.kind](op)
        if isinstance(result, Feature) and len(self.nodes) == count:  # the same value, seen in another way
            alone = all(op.alone(i) for i, value in enumerate(op.inputs) if isinstance(value, Feature))
            return dataclasses.replace(result, alone=alone)
        return result

    def _outputs(self):
        """The values that the file gives out, by their names, in the shapes that they have there."""
        found = {}
        for output in self.source.model.graph.output:
            value = self._values.get(output.name)
            if not isinstance(value, Feature):
                raise ValueError(
                    f"{self.source.title}: its output {output.name!r} does not depend on its input"
                )
            if value.name in self.codes:
                raise ValueError(f"{self.source.title}: its output {output.name!r} is quantised")
            proto = self.source.onnx.NodeProto(op_type="output", name=output.name, output=[output.name])
            op = Operator(self, Record(0, proto, self.source.opset))
            if not value.by_samples:
                op.fail("its first axis is not that of the samples alone")
            try:
                found[output.name] = op.plain(value)
            except Refused:
                found[output.name] = op.tensor(value)
        if not found:
            raise ValueError(f"{self.source.title}: the network has no output")
        return found


def _records(source):
    try:
        return [Record(k, proto, source.opset) for k, proto in enumerate(rewritten(source), start=1)]
    except _OF_A_DAMAGED_FILE as error:
        if str(error).startswith(source.title):
            raise
        raise ValueError(f"{source.title} is damaged: {error}") from error


def _input(source, input_dim, image_size):
    """The name of the file's input, and the shape of a sample.

    `image_size` (H, W) is what the file's metadata say of images, or None.
    """
    title, inputs = source.title, source.inputs()
    if len(inputs) != 1:
        names = ", ".join(repr(value.name) for value in inputs)
        raise ValueError(f"{title}: a network has one input here, this one {len(inputs)}: {names}")
    sizes = source.sizes(inputs[0])
    if input_dim is not None:
        wanted = checked_dim(title, input_dim)
        known = zip(sizes[1:], wanted)
        if sizes and (len(sizes) != 1 + len(wanted) or any(a not in (None, b) for a, b in known)):
            raise ValueError(f"{title}: input_dim is {wanted}, the file's input {_sizes(sizes)}")
        sizes = [None, *wanted]
    elif image_size is not None and len(sizes) == 4:
        sizes[2:] = [said if size is None else size for size, said in zip(sizes[2:], image_size, strict=True)]
    shape = tuple(size for size in sizes[1:] if size is not None)
    if not shape or len(shape) != len(sizes) - 1:
        raise ValueError(
            f"{title}: input {inputs[0].name!r} has the shape {_sizes(sizes)}, whose sizes must be "
            "known; those that the file leaves open are given with input_dim"
        )
    if math.prod(shape) > LARGEST_SAMPLE:
        raise ValueError(f"{title}: a sample has the shape {shape}, which no memory holds")
    return inputs[0].name, shape


def _sizes(sizes):
    """The shape of a file's input, for messages."""
    return f"(N, {', '.join('?' if size is None else str(size) for size in sizes[1:])})"


def _refuse_counted(net, graph):
    """Raise a ValueError if what a file gives depends on the number of images."""
    if not any(record.kind in _SEE_SAMPLES for record in net.records):
        return
    more, same = _again(net, net.input.shape, _MORE_SAMPLES)
    why = difference(graph, net.params, same, more.params, "other numbers of images")
    counted = [(n, m) for n, m in zip(net.counts, more.counts, strict=True) if n != m]
    if any(pair != (_SAMPLES, _MORE_SAMPLES) for pair in counted):
        why = why or "sizes that a Resize is told"
    why = why or _decided(net, more, "number")
    if why:
        raise ValueError(f"{net.source.title}: the number of images is to stay open, but it decides {why}")


def _fixed_by(net, graph):
    """Why images must have the size that a file was read for; empty if others give the same layers."""
    shape = net.input.shape
    if net.fixed_by:
        return net.fixed_by
    alike = all(r.kind in _OF_CHANNELS and r.given.get("auto_pad") != "SAME_LOWER" for r in net.records)
    if graph.why_fixed() or len(shape) != 3 or alike:
        return ""
    for size in other_sizes(*shape[1:]):
        other, where = None, "{}x{} images".format(*size)
        try:
            other, same = _again(net, (shape[0], *size), _SAMPLES)
        except Refused as refused:
            # With the same settings the layer refuses them at a call, too.
            if why := changed(net.nodes, refused.nodes, where) if refused.of_layer else refused.reason:
                return why
            continue
        why = difference(graph, net.params, same, other.params, where) or _decided(net, other, "size")
        if why:
            return why
    return ""


def _decided(net, other, of):
    """In words, which operator compares what follows the number or size `of` the images; empty if none."""
    for (node, one), (_, two) in zip(net.choices, other.choices, strict=False):
        if not all(map(np.array_equal, one, two)):
            return f"{node}, which compares what is computed from the {of} of the images"
    return ""


def _read(source, records, name, shape, pools_keep_images=False):
    """A network and its graph."""
    net = Network(source, records, name, shape, _SAMPLES)
    net.pools_keep_images |= pools_keep_images
    try:
        return net, net.read()
    except Refused:
        if not net.pools_keep_images:  # rows that a global pool has made never become images again
            with contextlib.suppress(Refused):
                return _read(source, records, name, shape, pools_keep_images=True)
        raise


def _again(net, shape, samples):
    other = Network(net.source, net.records, net.input.name, shape, samples)
    other.pools_keep_images = net.pools_keep_images
    return other, other.read()


def load(
    path_or_proto: str | os.PathLike[str] | ModelProto, *, input_dim: int | Sequence[int] | None = None
) -> Any:
    """Read a network from an ONNX model: its layers, branches and weights.

    Each operator becomes the layer that computes the same; what only reshapes, and arithmetic between
    constants, is worked out here. docs/exchange.md lists the operators. The network computes in float64 if
    the model's input is float64, else in float32 (weights of float16 and bfloat16 become float32), for any
    number of samples, even where the file is made for one, and for images of other sizes: an operator that
    holds to the size that the network is loaded at has other sizes refused when they come. All weights are
    trained by a Solver; a softmax at the end belongs to the output and is best left out of a model that is to
    be trained.

    Parameters
    ----------
    path_or_proto : str, path or onnx.ModelProto
        Weights in files of their own are read from the model's folder and those below it, nowhere else.
    input_dim : int, sequence of int or None
        (C, H, W) or (D,) of a sample, for a model that leaves sizes of its input open. Metadata that
        Ultralytics wrote say height and width too.

    Returns
    -------
    GraphNet or Predictor
        A model whose parameters, and outputs where they are several, have the names of the file. Of a file
        with QuantizeLinear and DequantizeLinear an eight-bit :class:`cnnlib.inference.Predictor`: layers
        between them whose weights are quantised, symmetric, for the whole tensor or for each filter, compute
        in integers, and give what the file says to within a step of their output's scale. `preprocess` and
        `classes` are those of the model that :func:`cnnlib.onnx.save` wrote, or that Ultralytics exported;
        of that one's networks `detection` says what the outputs mean, for :func:`cnnlib.detect`.

    Raises
    ------
    ValueError
        For an operator, or an attribute of one, that has no counterpart here: the message names the file,
        the operator and its name. For a file that is damaged or no ONNX model, weights that lie outside its
        folder, more than one input. For quantised weights with zero points or scales along another axis than
        the filters', other numbers than uint8, int8 and int32, the operator form (QLinearConv, ...), and an
        eight-bit network with several outputs.
    OSError
        If the file cannot be read.
    ImportError
        Without the onnx package, the extra `onnx`.

    Examples
    --------
    >>> import onnx.parser
    >>> model = onnx.parser.parse_model('''
    ...     <ir_version: 10, opset_import: ["": 21]>
    ...     net (float[N, 3, 8, 8] images) => (float[N, 3] y) {
    ...         a = Relu(images)
    ...         p = GlobalAveragePool(a)
    ...         y = Flatten(p)
    ...     }''')
    >>> load(model)
    GraphNet(3x8x8 -> 3, 2 nodes, float32, 0 parameters)
    """
    source = Source(path_or_proto)
    content = {entry.key: entry.value for entry in source.model.metadata_props}
    name, shape = _input(source, input_dim, metadata.image_size(source.title, content))
    net, graph = _read(source, _records(source), name, shape)
    _refuse_counted(net, graph)
    graph.fixed_by = content.get(metadata.FIXED_BY, "") or _fixed_by(net, graph)
    model = net.model(graph)
    metadata.restore(source.title, model, content)
    return model
