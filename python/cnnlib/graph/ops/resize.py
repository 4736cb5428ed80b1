"""Layers that give images another size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cnnlib._params import pair
from cnnlib._system.text import shape_text
from cnnlib.graph.ops.op import Op, Stage
from cnnlib.graph.ops.sizes import Shape, check_rank, positive_pair
from cnnlib.layers.resizing import _upsampling

if TYPE_CHECKING:
    from cnnlib.graph.graph import Node
    from cnnlib.graph.targets import Target
    from cnnlib.models.spec.builder import Builder
    from cnnlib.onnx.writing.writer import Writer


def _shape(function: str, x: Shape, scale: Any, mode: Any, align_corners: Any) -> Shape:
    check_rank(function, x, 3)
    (vertical, horizontal), *_ = _upsampling(function, scale, mode, align_corners)
    positive_pair(function, "scale", scale)
    return x[0], x[1] * vertical, x[2] * horizontal


def _emit(target: Target, node: Node, bound: float | None) -> None:
    _, mode, corners = node.arguments().values()
    sizes = zip(target.before(node)[1:], target.after(node)[1:], strict=True)
    factors = tuple(m // n for n, m in sizes)
    target.call(node, "upsample", target.like(node), factors, mode == "bilinear", bool(corners))


def _write(writer: Writer, node: Node, inputs: list[str], output: str) -> None:
    scale, mode, align_corners = node.arguments().values()
    vertical, horizontal = pair("upsample", "scale", scale)
    scales = writer.constant(node, "scales", [1, 1, vertical, horizontal], np.float32)
    if mode == "nearest":
        attributes = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    else:
        attributes = {"coordinate_transformation_mode": "align_corners" if align_corners else "half_pixel"}
    kind = "nearest" if mode == "nearest" else "linear"
    writer.operator("Resize", node, [*inputs, "", scales], output, mode=kind, **attributes)


def _build(builder: Builder, where: str, scale: Any, options: dict[str, Any]) -> Any:
    scale = pair(where, "scale", scale)
    args = (scale, options.get("mode", "nearest"), options.get("align_corners", False))
    return builder.layer("upsample", f"upsample {shape_text(scale)} {args[1]}", (), *args)


OPS = (
    Op(
        name="upsample",
        shape=_shape,
        emit=_emit,
        onnx=_write,
        onnx_kinds=("Resize",),
        aten=("upsample_nearest2d", "upsample_bilinear2d"),
        stages=(Stage("upsample", ("mode", "align_corners"), images=True, by_axis=True, build=_build),),
    ),
)
