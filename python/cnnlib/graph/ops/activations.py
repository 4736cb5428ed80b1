"""Layers that go element by element, and the softmax."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cnnlib._params import check_keys, choice, number, probability
from cnnlib.graph.ops.op import NarrowForm, OnnxForm, Op, Stage
from cnnlib.graph.ops.sizes import Shape, same, same_by_number
from cnnlib.layers.activations import _forward, softmax

if TYPE_CHECKING:
    from cnnlib.graph.graph import Node
    from cnnlib.graph.targets import Target, TrainingTarget
    from cnnlib.models.spec.builder import Builder
    from cnnlib.onnx.writing.writer import Writer


def _function(node: Node) -> tuple[str, float]:
    """What the core calls an activation, and its number: 'leaky_relu' and 'elu' have one."""
    return node.layer, float(next(iter(node.arguments().values()), 1.0))


def _gelu(node: Node) -> tuple[str, float]:
    return "gelu_tanh" if node.arguments()["approximate"] == "tanh" else "gelu", 1.0


def _emit(
    function: Callable[[Node], tuple[str, float]], target: Target, node: Node, bound: float | None
) -> None:
    target.call(node, "activation", target.like(node), *function(node))


def _emit_narrow(
    function: Callable[[Node], tuple[str, float]], target: Target, node: Node, bound: float | None
) -> None:
    target.narrow(node, "bfloat_activation", *function(node))


def _emit_softmax(target: Target, node: Node, bound: float | None) -> None:
    target.call(node, "softmax", target.like(node))


def _emit_dropout(target: TrainingTarget, node: Node, bound: float | None) -> None:
    target.dropout(node)


def _gelu_shape(function: str, x: Shape, approximate: Any) -> Shape:
    choice(function, "approximate", approximate, ("none", "tanh"))
    return x


def _dropout_shape(function: str, x: Shape, dropout_param: Any) -> Shape:
    check_keys(function, "dropout_param", dropout_param, ("p", "mode", "seed"), required=("p",))
    number(function, "p", dropout_param["p"], 0, 1)
    return x


def _write_relu6(writer: Writer, node: Node, inputs: list[str], output: str) -> None:
    bounds = [writer.constant(node, "low", 0), writer.constant(node, "high", 6)]
    writer.operator("Clip", node, [*inputs, *bounds], output)


def _write_silu(writer: Writer, node: Node, inputs: list[str], output: str) -> None:
    writer.operator("Mul", node, [*inputs, writer.operator("Sigmoid", node, inputs)], output)


def _write_dropout(writer: Writer, node: Node, inputs: list[str], output: str) -> None:
    """Nothing when a network infers; kept for those who train it."""
    ratio = writer.constant(node, "p", node.args[0]["p"])
    writer.operator("Dropout", node, [*inputs, ratio], output)


# In a spec


def _build_sloped(
    layer: str, usual: float, builder: Builder, where: str, alpha: Any, options: dict[str, Any]
) -> Any:
    alpha = usual if alpha is None else number(where, "slope", alpha)
    return builder.layer(layer, f"{layer} {alpha:g}", (), alpha)


def _build_gelu(builder: Builder, where: str, approximate: Any, options: dict[str, Any]) -> Any:
    approximate = "none" if approximate is None else approximate
    choice(where, "approximate", approximate, ("none", "tanh"))
    label = "gelu" if approximate == "none" else f"gelu {approximate}"
    return builder.layer("gelu", label, (), approximate)


def _build_dropout(builder: Builder, where: str, p: Any, options: dict[str, Any]) -> Any:
    p = probability(where, "dropout", p)
    return builder.layer("dropout", f"dropout {p:g}", (), {"p": p})


def _activation(name: str, function: Callable[[Node], tuple[str, float]] = _function, **known: Any) -> Op:
    """An activation: without arguments unless `known` says otherwise."""
    usual: dict[str, Any] = {
        "shape": same,
        "emit": functools.partial(_emit, function),
        "narrow": NarrowForm(functools.partial(_emit_narrow, function)),
        "aten": (name.replace("hard_", "hard"),),
        "aten_arguments": (),
        "stages": (Stage(name, value="none"),),
    }
    return Op(name=name, elementwise=True, in_place=True, **usual | known)


def _saved(name: str) -> functools.partial[Any]:
    """The forward pass of an activation whose cache is a copy of its output."""
    return functools.partial(_forward, f"{name}_forward", name)


OPS = (
    _activation("relu", onnx=OnnxForm("Relu", read=True)),
    _activation("relu6", onnx=_write_relu6, onnx_kinds=("Clip",)),
    _activation("sigmoid", onnx=OnnxForm("Sigmoid", read=True), scoring=_saved("sigmoid")),
    _activation("tanh", onnx=OnnxForm("Tanh", read=True), scoring=_saved("tanh")),
    _activation("silu", onnx=_write_silu, onnx_kinds=("Sigmoid", "Mul")),
    _activation("hard_sigmoid", onnx=OnnxForm("HardSigmoid", fixed=(("alpha", 1 / 6), ("beta", 0.5)))),
    _activation("hard_swish", onnx=OnnxForm("HardSwish", read=True)),
    _activation(
        "leaky_relu",
        shape=same_by_number,
        onnx=OnnxForm("LeakyRelu", ("alpha",), read=True),
        aten=("leaky_relu",),
        aten_arguments=("negative_slope",),
        stages=(
            Stage("leaky_relu", value="default", build=functools.partial(_build_sloped, "leaky_relu", 0.01)),
        ),
    ),
    _activation(
        "elu",
        shape=same_by_number,
        onnx=OnnxForm("Elu", ("alpha",), read=True),
        aten_arguments=("alpha",),
        stages=(Stage("elu", value="default", build=functools.partial(_build_sloped, "elu", 1.0)),),
    ),
    _activation(
        "gelu",
        _gelu,
        shape=_gelu_shape,
        onnx=OnnxForm("Gelu", ("approximate",)),
        aten_arguments=("approximate",),
        stages=(Stage("gelu", value="default", build=_build_gelu),),
    ),
    Op(
        name="softmax",
        shape=same,
        scoring=softmax,
        emit=_emit_softmax,
        onnx=OnnxForm("Softmax", fixed=(("axis", 1),)),
        aten=("softmax",),
        stages=(Stage("softmax", value="none"),),
    ),
    Op(
        name="dropout",
        shape=_dropout_shape,
        per_call=("mode", "seed"),
        hands_on=True,
        emit=_emit_dropout,
        identity=True,
        onnx=_write_dropout,
        onnx_kinds=("Dropout",),
        aten=("dropout",),
        stages=(Stage("dropout", build=_build_dropout),),
    ),
)
