"""What joins values, scales them, or gives them another shape."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnlib._params import number
from cnnlib.graph.ops import join_functions
from cnnlib.graph.ops.op import NarrowForm, OnnxForm, Op, Stage
from cnnlib.graph.ops.sizes import Shape, batch_of, same_by_number

if TYPE_CHECKING:
    from cnnlib.graph.graph import Node
    from cnnlib.graph.targets import InferenceTarget, Target
    from cnnlib.models.spec.builder import Builder
    from cnnlib.onnx.writing.writer import Writer

_NO_NAIVE = "it is an expression of NumPy"


def _alike(function: str, x: Shape, y: Shape) -> Shape:
    if y != x and (len(x) != 3 or y not in (x[:1], (x[0], 1, 1))):
        raise ValueError(
            f"{function}: the inputs must have one shape, or the second one a value for each channel of the "
            f"first: got {batch_of(x)} and {batch_of(y)}"
        )
    return x


def _concat_shape(function: str, *xs: Shape) -> Shape:
    if any(x[1:] != xs[0][1:] for x in xs):
        listed = ", ".join(map(batch_of, xs))
        raise ValueError(f"{function}: the inputs differ in more than their channels: {listed}")
    return (sum(x[0] for x in xs), *xs[0][1:])


def _flatten_shape(function: str, x: Shape) -> Shape:
    return (math.prod(x),)


def _emit_add(target: Target, node: Node, bound: float | None) -> None:
    target.add(node, bound)


def _emit_multiply(target: InferenceTarget, node: Node, bound: float | None) -> None:
    target.multiply(node)


def _emit_concat(target: Target, node: Node, bound: float | None) -> None:
    target.concat(node)


def _emit_scale(target: Target, node: Node, bound: float | None) -> None:
    target.scale(node, node.args[0])


def _emit_flatten(target: Target, node: Node, bound: float | None) -> None:
    target.flatten(node)


def _emit_narrow_add(target: Target, node: Node, bound: float | None) -> None:
    target.narrow(node, "bfloat_sum", bound is not None)


def _emit_narrow_multiply(target: InferenceTarget, node: Node, bound: float | None) -> None:
    target.narrow(node, "bfloat_product")


def _emit_narrow_concat(target: Target, node: Node, bound: float | None) -> None:
    target.narrow_concat(node)


def _alike_narrow(node: Node, inputs: Sequence[Shape], arrays: Sequence[Any]) -> bool:
    """Whether no value is spread over images, which has no gradient on bfloat16."""
    return inputs[0] == inputs[1]


_NARROW_SUM = NarrowForm(_emit_narrow_add, trains=_alike_narrow)


def _write_joined(kind: str, writer: Writer, node: Node, inputs: list[str], output: str) -> None:
    shapes = [writer.shapes[name] for name in node.inputs]
    if len(shapes[0]) == 3 and len(shapes[1]) == 1:  # a value for each channel
        axes = writer.constant(node, "axes", [2, 3], np.int64)
        inputs = [inputs[0], writer.operator("Unsqueeze", node, [inputs[1], axes])]
    writer.operator(kind, node, inputs, output)


def _write_scale(writer: Writer, node: Node, inputs: list[str], output: str) -> None:
    writer.operator("Mul", node, [*inputs, writer.constant(node, "factor", node.args[0])], output)


def _build_scale(builder: Builder, where: str, factor: Any, options: dict[str, Any]) -> Any:
    factor = number(where, "factor", factor)
    return builder.layer("scale", f"scale {factor:g}", (), factor)


def _join(name: str, **known: Any) -> Op:
    return Op(name=name, module=join_functions, no_naive=_NO_NAIVE, **known)


OPS = (
    _join(
        "add",
        shape=_alike,
        inputs=2,
        in_place=True,
        hands_on=True,
        trained_alike=True,
        emit=_emit_add,
        narrow=_NARROW_SUM,
        onnx=partial(_write_joined, "Add"),
        onnx_kinds=("Add",),
        aten=("add", "sub"),
        stages=(Stage("add"),),
    ),
    _join(
        "add_relu",
        shape=_alike,
        inputs=2,
        in_place=True,
        hands_on=True,
        parts=("add", "relu"),
        runs_in=("layers", "training", "inference"),
        bound=math.inf,
        emit=_emit_add,
        narrow=_NARROW_SUM,
    ),
    _join(
        "multiply",
        shape=_alike,
        inputs=2,
        in_place=True,
        emit=_emit_multiply,
        narrow=NarrowForm(_emit_narrow_multiply, trains=None),
        not_trained="the core has no gradient of products",
        onnx=partial(_write_joined, "Mul"),
        onnx_kinds=("Mul",),
        aten=("mul",),
        stages=(Stage("multiply"),),
    ),
    _join(
        "concat",
        shape=_concat_shape,
        inputs=None,
        hands_on=True,
        selects=True,
        emit=_emit_concat,
        narrow=NarrowForm(_emit_narrow_concat),
        onnx=OnnxForm("Concat", fixed=(("axis", 1),)),
        aten=("cat",),
        stages=(Stage("concat"),),
    ),
    _join(
        "scale",
        shape=same_by_number,
        elementwise=True,
        in_place=True,
        emit=_emit_scale,
        onnx=_write_scale,
        onnx_kinds=("Mul",),
        aten=("mul", "div", "neg"),
        stages=(Stage("scale", build=_build_scale),),
    ),
    _join(
        "flatten",
        shape=_flatten_shape,
        hands_on=True,
        makes_rows=True,
        view=True,
        selects=True,
        emit=_emit_flatten,
        onnx=OnnxForm("Flatten", fixed=(("axis", 1),)),
        aten=("flatten", "view", "reshape"),
    ),
)
