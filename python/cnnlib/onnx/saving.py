"""Writing a network to an ONNX file: :func:`save`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

import cnnlib
from cnnlib._files.written import written_whole
from cnnlib._params import positive_int, type_name
from cnnlib.inference.predictor import Predictor
from cnnlib.models.graph_model import Model, input_dim_of, refuse_uninitialized
from cnnlib.onnx import metadata
from cnnlib.onnx.metadata import require_onnx
from cnnlib.onnx.writing.eight_bits import EightBits, scales_of
from cnnlib.onnx.writing.writer import Writer

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 21  # of 2024: the first whose GroupNormalization has a scale for each channel
_IR_VERSION = 10  # of the file format that came with it
_LARGEST = 2**31 - 1  # bytes of a message in protocol buffers
_OUTPUT = "scores"


def save(model: Model | Predictor, path: str | os.PathLike[str], *, batch: str | int = "N") -> None:
    """Write a model to an ONNX file, for ONNX Runtime and other programs.

    The file computes what ``model(X)`` gives: scores, batch norm with the running statistics, nothing
    dropped. Its operators are those of version 21, in the model's dtype; its tensors have the names of the
    parameters. Images go in as the model takes them, so normalised; a `preprocess` that is a
    :class:`cnnlib.data.Normalization`, `classes`, and a graph's `fixed_by` are put into the metadata, from
    which :func:`cnnlib.onnx.load` restores them. Several outputs keep their names; a parameter of the name of
    one gets another. Height and width of images are those of `input_dim`.

    Parameters
    ----------
    model : a model of cnnlib.models, or what cnnlib.prepare made of one
        A prepared network is written as it is: batch norms are part of the weights. One of eight bits has
        QuantizeLinear and DequantizeLinear around its layers, whose results ONNX Runtime meets within a step.
    path : str or path
        The file is written whole or not at all.
    batch : str or int
        The number of samples: a name where it is open, or a number that the file is fixed to.

    Raises
    ------
    ValueError
        For a layer that has no operator, a model larger than 2 GiB, or a ConvNet whose filters wait for
        `initialize`.
    TypeError
        For anything else.
    OSError
        If the file cannot be written; nothing is left behind then.
    ImportError
        Without the onnx package, the extra `onnx`.

    Examples
    --------
    >>> import tempfile
    >>> from cnnlib.models import ThreeLayerConvNet
    >>> from cnnlib.onnx import load
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "net.onnx")
    ...     save(ThreeLayerConvNet((1, 8, 8), num_filters=4, filter_size=3, seed=0), path)
    ...     load(path)
    GraphNet(1x8x8 -> 10, 6 nodes, float32, 7,550 parameters)
    """
    where = "cnnlib.onnx.save"
    proto = _model_proto(where, model, batch)
    if proto.ByteSize() > _LARGEST:
        raise ValueError(f"{where}: {os.fspath(path)} would be larger than 2 GiB, which ONNX files cannot be")
    with written_whole(path) as file:
        file.write(proto.SerializeToString())


def _model_proto(where: str, model: Any, batch: str | int) -> ModelProto:
    onnx = require_onnx(where)
    graph, params = _content(where, model)
    if not isinstance(batch, str):
        batch = positive_int(where, "batch", batch)
    shape = input_dim_of(model)
    writer = Writer(onnx, params, model.dtype, graph, shape, _OUTPUT)
    _write_nodes(where, writer, graph)
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(model.dtype))
    make_info = onnx.helper.make_tensor_value_info
    proto = onnx.helper.make_model(
        onnx.helper.make_graph(
            writer.nodes,
            type(model).__name__,
            [make_info(writer.value(graph.input), kind, [batch, *shape])],
            [make_info(writer.value(name), kind, [batch, *writer.shapes[name]]) for name in graph.results()],
            writer.tensors,
        ),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=_IR_VERSION,
        producer_name="cnnlib",
        producer_version=cnnlib.__version__,
    )
    onnx.helper.set_model_props(proto, metadata.described(model, writer.fixed_by))
    return proto


def _content(where, model):
    if isinstance(model, Predictor):
        return model.graph_and_params(eight_bits=True)
    if not callable(getattr(model, "graph", None)):
        raise TypeError(f"{where}: model must be one of cnnlib.models or a Predictor, got {type_name(model)}")
    refuse_uninitialized(where, model)
    return model.graph(), model.params


def _write_nodes(where, writer, graph):
    if not graph.nodes:
        raise ValueError(f"{where}: the model's graph has no layers")
    scales = scales_of(graph)
    eight_bits = EightBits(writer, scales)
    for node in graph:
        write = eight_bits.write if node.op.eight_bits else writer.layer
        write(node, [writer.value(name) for name in node.inputs], writer.value(node.output))
