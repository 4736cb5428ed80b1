"""Reading a network from an ONNX file: :func:`load`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cnnlib.onnx import metadata
from cnnlib.onnx.reading.files import Source
from cnnlib.onnx.reading.network import Network

if TYPE_CHECKING:
    from onnx import ModelProto


def load(
    path_or_proto: str | os.PathLike[str] | ModelProto, *, input_dim: Sequence[int] | None = None
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
    input_dim : sequence of int or None
        (C, H, W) or (D,) of a sample, for a model that leaves sizes of its input open.

    Returns
    -------
    GraphNet or Predictor
        A model whose parameters, and outputs where they are several, have the names of the file. Of a file
        with QuantizeLinear and DequantizeLinear an eight-bit :class:`cnnlib.inference.Predictor`: layers
        between them whose weights are quantised, symmetric, for the whole tensor or for each filter, compute
        in integers, and give what the file says to within a step of their output's scale. `preprocess` and
        `classes` are those of the model that :func:`cnnlib.onnx.save` wrote.

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
    net = Network(source, input_dim).model()
    content = {entry.key: entry.value for entry in source.model.metadata_props}
    metadata.restore(source.title, net, content)
    return net
