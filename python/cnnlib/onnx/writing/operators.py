"""The operators that compute what the layers do: a function for each, from a node to its output."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from cnnlib._params import pair
from cnnlib.graph.graph import Node
from cnnlib.onnx.writing import windows
from cnnlib.onnx.writing.writer import Writer

_Emit = Callable[[Writer, Node, list[str], str], Any]  # inputs and output by their names in the file


def upsample(writer: Writer, node: Node, inputs: list[str], output: str) -> None:
    scale, mode, align_corners = node.arguments().values()
    vertical, horizontal = pair("upsample", "scale", scale)
    scales = writer.constant(node, "scales", [1, 1, vertical, horizontal], np.float32)
    if mode == "nearest":
        attributes = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    else:
        attributes = {"coordinate_transformation_mode": "align_corners" if align_corners else "half_pixel"}
    kind = "nearest" if mode == "nearest" else "linear"
    writer.operator("Resize", node, [*inputs, "", scales], output, mode=kind, **attributes)


def batch_norm(writer: Writer, node: Node, inputs: list[str], output: str) -> None:
    param, C = node.args[0], writer.shapes[node.inputs[0]][0]
    mean, var = (
        np.zeros(C) if param.get(key) is None else param[key] for key in ("running_mean", "running_var")
    )
    names = [
        *(_by_channel(writer, node, name) for name in node.params),
        writer.constant(node, "running_mean", mean),
        writer.constant(node, "running_var", var),
    ]
    attributes = {"epsilon": float(param.get("eps", 1e-5)), "momentum": float(param.get("momentum", 0.9))}
    writer.operator("BatchNormalization", node, [*inputs, *names], output, **attributes)


def spatial_layer_norm(writer: Writer, node: Node, inputs: list[str], output: str) -> None:
    """The operator normalises over the last axes."""
    last = writer.operator("Transpose", node, inputs, perm=[0, 2, 3, 1])
    normed = _norm("LayerNormalization", writer, node, [last], "", axis=-1)
    writer.operator("Transpose", node, [normed], output, perm=[0, 3, 1, 2])


def group_norm(writer: Writer, node: Node, inputs: list[str], output: str) -> None:
    _norm("GroupNormalization", writer, node, inputs, output, num_groups=int(node.args[0]))


def _norm(kind, writer, node, inputs, output, **attributes):
    names = [_by_channel(writer, node, name) for name in node.params]
    eps = float(node.args[-1].get("eps", 1e-5))
    return writer.operator(kind, node, [*inputs, *names], output, epsilon=eps, **attributes)


def _by_channel(writer, node, name):
    """A norm's parameter; that of groups may be (1, C, 1, 1) here, and is (C,) there."""
    if writer.params[name].ndim == 1:
        return writer.parameter(name)[0]
    return writer.constant(node, name, writer.params[name].reshape(-1))


def affine(writer: Writer, node: Node, inputs: list[str], output: str) -> None:
    names = [name for param in node.params for name in writer.parameter(param)]
    if len(writer.shapes[node.inputs[0]]) > 1:
        inputs = [writer.operator("Flatten", node, inputs, axis=1)]
    writer.operator("Gemm", node, [*inputs, *names], output)


def relu6(writer: Writer, node: Node, inputs: list[str], output: str) -> None:
    bounds = [writer.constant(node, "low", 0), writer.constant(node, "high", 6)]
    writer.operator("Clip", node, [*inputs, *bounds], output)


def silu(writer: Writer, node: Node, inputs: list[str], output: str) -> None:
    writer.operator("Mul", node, [*inputs, writer.operator("Sigmoid", node, inputs)], output)


def dropout(writer: Writer, node: Node, inputs: list[str], output: str) -> None:
    """Nothing when a network infers; kept for those who train it."""
    ratio = writer.constant(node, "p", node.args[0]["p"])
    writer.operator("Dropout", node, [*inputs, ratio], output)


def scale(writer: Writer, node: Node, inputs: list[str], output: str) -> None:
    writer.operator("Mul", node, [*inputs, writer.constant(node, "factor", node.args[0])], output)


def _joined(kind: str, writer: Writer, node: Node, inputs: list[str], output: str) -> None:
    shapes = [writer.shapes[name] for name in node.inputs]
    if len(shapes[0]) == 3 and len(shapes[1]) == 1:  # a value for each channel
        axes = writer.constant(node, "axes", [2, 3], np.int64)
        inputs = [inputs[0], writer.operator("Unsqueeze", node, [inputs[1], axes])]
    writer.operator(kind, node, inputs, output)


def _operator(kind: str, *named: str, **fixed: Any) -> _Emit:
    """One operator with these attributes; those named are the layer's own arguments."""

    def emit(writer: Writer, node: Node, inputs: list[str], output: str) -> None:
        given = {name: node.arguments()[name] for name in named}
        own = {name: value if isinstance(value, str) else float(value) for name, value in given.items()}
        writer.operator(kind, node, inputs, output, **own, **fixed)

    return emit


EMIT: dict[str, _Emit] = {
    **dict.fromkeys(("conv", "conv1d", "conv3d"), windows.conv),
    "conv_transpose": windows.conv_transpose,
    **dict.fromkeys(("max_pool", "max_pool1d", "max_pool3d"), windows.max_pool),
    **dict.fromkeys(("avg_pool", "avg_pool1d", "avg_pool3d"), windows.avg_pool),
    "global_avg_pool": windows.global_avg_pool,
    "batchnorm": batch_norm,
    "spatial_batchnorm": batch_norm,
    "layernorm": functools.partial(_norm, "LayerNormalization", axis=-1),
    "spatial_layernorm": spatial_layer_norm,
    "spatial_groupnorm": group_norm,
    "affine": affine,
    "spatial_instancenorm": functools.partial(_norm, "InstanceNormalization"),
    "adaptive_avg_pool": windows.adaptive_avg_pool,
    "adaptive_max_pool": windows.adaptive_max_pool,
    "upsample": upsample,
    "relu": _operator("Relu"),
    "leaky_relu": _operator("LeakyRelu", "alpha"),
    "relu6": relu6,
    "sigmoid": _operator("Sigmoid"),
    "tanh": _operator("Tanh"),
    "silu": silu,
    "hard_sigmoid": _operator("HardSigmoid", alpha=1 / 6, beta=0.5),
    "hard_swish": _operator("HardSwish"),
    "gelu": _operator("Gelu", "approximate"),
    "elu": _operator("Elu", "alpha"),
    "softmax": _operator("Softmax", axis=1),
    "dropout": dropout,
    "add": functools.partial(_joined, "Add"),
    "multiply": functools.partial(_joined, "Mul"),
    "scale": scale,
    "concat": _operator("Concat", axis=1),
    "flatten": _operator("Flatten", axis=1),
}
