"""Fully connected layers, and what they fuse with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnlib._params import flag, positive_int
from cnnlib._typing import Array
from cnnlib.graph.ops.op import NarrowForm, Op, Stage
from cnnlib.graph.ops.sizes import Shape, batch_of
from cnnlib.layers.axes import check_shape
from cnnlib.layers.scoring import affine_bn_relu, affine_relu

if TYPE_CHECKING:
    from cnnlib.graph.graph import Node
    from cnnlib.graph.targets import InferenceTarget, Target
    from cnnlib.models.spec.builder import Builder
    from cnnlib.onnx.writing.writer import Writer


def _shape(function: str, x: Shape, w: Array, b: Array | None) -> Shape:
    if w.ndim != 2 or w.shape[0] != math.prod(x):
        raise ValueError(f"{function}: x is {batch_of(x)}, so w must be ({math.prod(x)}, M), got {w.shape}")
    check_shape(function, "b", b, w.shape[1:])
    return w.shape[1:]


def _multiply_adds(w: Shape, before: Sequence[int], after: Sequence[int]) -> int:
    return math.prod(w)


def _rescaled(w: Array, factor: Any, arguments: Sequence[Any]) -> Array:
    return np.asarray(w * factor)


def _emit(target: Target, node: Node, bound: float | None) -> None:
    target.affine(node, bound)


def _emit_narrow(target: InferenceTarget, node: Node, bound: float | None) -> None:
    """As a convolution whose filters are as large as the image, channels first as its weights have them."""
    w, b = map(target.array, node.params)
    C, H, W, *_ = target.images[node.inputs[0]]
    target.narrow_conv(node, np.ascontiguousarray(w.T).reshape(-1, C, H, W), b, {}, bound)


_NARROW = NarrowForm(_emit_narrow, trains=None, multiplies=True)


def _write(writer: Writer, node: Node, inputs: list[str], output: str) -> None:
    names = [name for param in node.params for name in writer.parameter(param)]
    if len(writer.shapes[node.inputs[0]]) > 1:
        inputs = [writer.operator("Flatten", node, inputs, axis=1)]
    writer.operator("Gemm", node, [*inputs, *names], output)


def _build(builder: Builder, where: str, M: Any, options: dict[str, Any]) -> Any:
    M = positive_int(where, "units", M)
    D = math.prod(builder.shape)
    names = builder.weights((D, M), D, M, flag(where, "bias", options["bias"]))
    return builder.layer("affine", f"affine {M}", names)


OPS = (
    Op(
        name="affine",
        shape=_shape,
        weighted_axis=1,
        makes_rows=True,
        leaves_out=True,
        multiply_adds=_multiply_adds,
        rescaled=_rescaled,
        emit=_emit,
        narrow=_NARROW,
        onnx=_write,
        onnx_kinds=("Gemm",),
        aten=("linear",),
        stages=(Stage("affine", ("bias",), bias=True, build=_build),),
    ),
    Op(
        name="affine_relu",
        shape=_shape,
        leaves_out=True,
        parts=("affine", "relu"),
        runs_in=("layers", "training", "inference"),
        bound=math.inf,
        emit=_emit,
        narrow=_NARROW,
        scoring=affine_relu,
    ),
    Op(
        name="affine_bn_relu",
        shape=_shape,
        leaves_out=True,
        parts=("affine", "batchnorm", "relu"),
        runs_in=("layers",),
        scoring=affine_bn_relu,
    ),
)
