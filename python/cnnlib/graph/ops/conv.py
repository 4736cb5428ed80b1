"""Convolutions of sequences, images and volumes, transposed ones, and what they fuse with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnlib import _core, layers
from cnnlib._params import choice, flag, pair, positive_int
from cnnlib._system.text import shape_text
from cnnlib._typing import Array
from cnnlib.graph.ops.narrow_images import NO_BORDER, image_of
from cnnlib.graph.ops.op import Executor, NarrowForm, Op, Stage
from cnnlib.graph.ops.sizes import Shape, check_rank, samples_like
from cnnlib.graph.ops.windows import write_windows
from cnnlib.graph.options import plain
from cnnlib.layers.axes import check_shape, conv_axes, conv_transpose_axes
from cnnlib.layers.scoring import conv_bn_relu, conv_bn_relu_pool, conv_relu, conv_relu_pool

if TYPE_CHECKING:
    from cnnlib.graph.graph import Node
    from cnnlib.graph.targets import InferenceTarget, Target, TrainingTarget
    from cnnlib.models.spec.builder import Builder
    from cnnlib.onnx.writing.writer import Writer

_SAVING = "cnnlib.onnx.save"
_USUAL_SIZE = 3  # of filters, in pixels, where a spec names none


def _shape(count: int, function: str, x: Shape, w: Array, b: Array | None, conv_param: Any) -> Shape:
    axes, _ = conv_axes(function, conv_param, samples_like(x), w, b, count)
    _check_algorithm(function, x, w, conv_param)
    return (w.shape[0], *(axis.outputs for axis in axes))


def _check_algorithm(function: str, x: Shape, w: Array, conv_param: Any) -> None:
    """Let the layer refuse a method that is unknown, or does not fit: of no images it computes nothing."""
    if "algorithm" in conv_param:
        getattr(layers, function)(np.empty((0, *x), w.dtype), w, None, conv_param)


def _transposed_shape(function: str, x: Shape, w: Array, b: Array | None, conv_param: Any) -> Shape:
    check_rank(function, x, 3)
    axes, _, groups = conv_transpose_axes(function, conv_param, samples_like(x), w)
    F = w.shape[1] * groups
    check_shape(function, "b", b, (F,))
    _check_algorithm(function, x, w, conv_param)
    return (F, *(axis.outputs for axis in axes))


def _multiply_adds(w: Shape, before: Sequence[int], after: Sequence[int]) -> int:
    return math.prod(w[1:]) * math.prod(after)


def _transposed_multiply_adds(w: Shape, before: Sequence[int], after: Sequence[int]) -> int:
    return math.prod(w[1:]) * math.prod(before)


def _rescaled(w: Array, factor: Any, arguments: Sequence[Any]) -> Array:
    return w * np.reshape(factor, (-1, *(1,) * (w.ndim - 1)))


def _transposed_rescaled(w: Array, factor: Any, arguments: Sequence[Any]) -> Array:
    """w is (C, F / groups, KH, KW)."""
    groups = arguments[0].get("groups", 1)
    C, F, KH, KW = w.shape
    by_group = np.broadcast_to(factor, (groups * F,)).reshape(groups, 1, F, 1, 1)
    return (w.reshape(groups, C // groups, F, KH, KW) * by_group).reshape(w.shape)


def _emit(target: Target, node: Node, bound: float | None) -> None:
    target.conv(node, "conv", bound)


def _emit_narrow(target: Target, node: Node, bound: float | None) -> None:
    w, b = map(target.array, node.params)
    target.narrow_conv(node, w, b, plain(node.args[0]), bound)


def _fits_narrow(
    node: Node, inputs: Sequence[Shape], arrays: Sequence[Array | None], trained: bool = False
) -> bool:
    """Any convolution but one by a method of float32, or in groups that the core has no method for."""
    conv_param, w = plain(node.args[0]), np.asarray(arrays[0], np.float32)
    free = conv_param.get("algorithm", "auto") in ("auto", "direct")
    return free and bool(_core.bfloat_conv_fits(image_of(inputs[0], NO_BORDER), w, conv_param, trained))


def _emit_narrow_normed(target: TrainingTarget, node: Node, bound: float | None) -> None:
    target.narrow_conv_bn_relu(node)


_TRAINS = partial(_fits_narrow, trained=True)
_NARROW = NarrowForm(_emit_narrow, _fits_narrow, _TRAINS, multiplies=True)


def _emit_transposed(target: Target, node: Node, bound: float | None) -> None:
    target.conv(node, "conv_transpose", bound)


def _emit_normed(target: TrainingTarget, node: Node, bound: float | None) -> None:
    target.conv_bn_relu(node)


def _emit_inverted_residual(target: InferenceTarget, node: Node, bound: float | None) -> None:
    target.inverted_residual(node)


def _write(writer: Writer, node: Node, inputs: list[str], output: str) -> None:
    x, w = samples_like(writer.shapes[node.inputs[0]]), writer.params[str(node.params[0])]
    axes, groups = conv_axes(_SAVING, node.args[0], x, w, None, w.ndim - 2)
    _operator("Conv", writer, node, inputs, output, group=groups, **write_windows(writer, node, axes))


def _write_transposed(writer: Writer, node: Node, inputs: list[str], output: str) -> None:
    x, w = samples_like(writer.shapes[node.inputs[0]]), writer.params[str(node.params[0])]
    axes, extras, groups = conv_transpose_axes(_SAVING, node.args[0], x, w)
    attributes = {"group": groups, "output_padding": extras, **write_windows(writer, node, axes)}
    _operator("ConvTranspose", writer, node, inputs, output, **attributes)


def _operator(
    kind: str, writer: Writer, node: Node, inputs: list[str], output: str, **attributes: Any
) -> None:
    names = [name for param in node.params for name in writer.parameter(param)]
    writer.operator(kind, node, [*inputs, *names], output, **attributes)


def _convolution(name: str, count: int, **known: Any) -> Op:
    return Op(
        name=name,
        shape=partial(_shape, count),
        weighted_axis=0,
        leaves_out=True,
        multiply_adds=_multiply_adds,
        rescaled=_rescaled,
        onnx=_write,
        onnx_kinds=("Conv",),
        **known,
    )


_IN_PYTHON = "the core's networks are of rows and of images"


# In a spec


def _build(builder: Builder, where: str, F: Any, options: dict[str, Any], label: str = "conv") -> Any:
    F, C, KH, KW, bias, options = _filters(builder, where, F, options)
    init = choice(where, "init", options.pop("init", "normal"), ("normal", "dirac", "whiten"))
    frozen = options.pop("frozen", False)
    frozen = frozen if frozen == "filters" else flag(where, "frozen", frozen)
    conv_param = {"stride": 1, "pad": "same", **options}
    C_group = C // positive_int(where, "groups", conv_param.get("groups", 1))
    gain = 1 / 3 if init == "dirac" else 2  # then the drawn filters are about as long as the others
    names = builder.weights((F, C_group, KH, KW), C_group * KH * KW, F, bias, gain)
    builder.initialize(where, names[0], init)
    if frozen:
        builder.frozen.update(name for name in names[: 1 if frozen == "filters" else 2] if name)
    return builder.layer("conv", f"{label} {F} {KH}x{KW}{_strided(conv_param)}", names, conv_param)


def _build_depthwise(builder: Builder, where: str, size: Any, options: dict[str, Any]) -> Any:
    C, _, _ = builder.image(where)
    options = dict(options)
    multiplier = positive_int(where, "multiplier", options.pop("multiplier", 1))
    return _build(builder, where, C * multiplier, {"size": size, "groups": C, **options}, "depthwise")


def _build_transposed(builder: Builder, where: str, F: Any, options: dict[str, Any]) -> Any:
    F, C, KH, KW, bias, options = _filters(builder, where, F, options)
    conv_param = {"stride": 1, "pad": 0, **options}
    SH, SW = pair(where, "stride", conv_param["stride"])
    F_group = F // positive_int(where, "groups", conv_param.get("groups", 1))
    taps = C * F_group / F * KH * KW / max(SH * SW, 1)  # that meet in an output pixel, on the average
    names = builder.weights((C, F_group, KH, KW), taps, F, bias)
    label = f"conv_transpose {F} {KH}x{KW}{_strided(conv_param)}"
    return builder.layer("conv_transpose", label, names, conv_param)


def _filters(
    builder: Builder, where: str, F: Any, options: dict[str, Any]
) -> tuple[int, int, int, int, bool, dict[str, Any]]:
    """F, C, KH, KW and the bias of a convolution, and its other options."""
    F, options = positive_int(where, "filters", F), dict(options)
    KH, KW = (positive_int(where, "size", n) for n in pair(where, "size", options.pop("size", _USUAL_SIZE)))
    C, _, _ = builder.image(where)
    return F, C, KH, KW, flag(where, "bias", options.pop("bias")), options


def _strided(conv_param: dict[str, Any]) -> str:
    stride = conv_param["stride"]
    return "" if stride == 1 else f" stride {shape_text(stride)}"


def _fused(name: str, *parts: str, runs_in: tuple[Executor, ...], **known: Any) -> Op:
    return Op(
        name=name,
        shape=partial(_shape, 2),
        leaves_out=True,
        parts=("conv", *parts),
        runs_in=runs_in,
        **known,
    )


OPS = (
    _convolution(
        "conv",
        2,
        emit=_emit,
        narrow=_NARROW,
        aten=("conv2d",),
        stages=(
            Stage(
                "conv",
                ("size", "stride", "pad", "dilation", "groups", "bias", "init", "frozen"),
                bias=True,
                build=_build,
                size=_USUAL_SIZE,
            ),
            Stage(
                "depthwise",
                ("multiplier", "stride", "pad", "dilation", "bias"),
                bias=True,
                by_axis=True,
                build=_build_depthwise,
            ),
        ),
    ),
    *(
        _convolution(
            name,
            count,
            not_trained=_IN_PYTHON,
            not_prepared=_IN_PYTHON,
            no_aten="modules of sequences and volumes are not recorded",
        )
        for name, count in (("conv1d", 1), ("conv3d", 3))
    ),
    Op(
        name="conv_transpose",
        shape=_transposed_shape,
        weighted_axis=1,
        leaves_out=True,
        multiply_adds=_transposed_multiply_adds,
        rescaled=_transposed_rescaled,
        emit=_emit_transposed,
        onnx=_write_transposed,
        onnx_kinds=("ConvTranspose",),
        aten=("conv_transpose2d",),
        stages=(
            Stage(
                "conv_transpose",
                ("size", "stride", "pad", "dilation", "groups", "output_pad", "bias"),
                bias=True,
                build=_build_transposed,
                size=_USUAL_SIZE,
            ),
        ),
    ),
    _fused(
        "conv_relu",
        "relu",
        runs_in=("layers", "training", "inference"),
        bound=math.inf,
        emit=_emit,
        narrow=_NARROW,
        scoring=conv_relu,
    ),
    _fused(
        "conv_relu6",
        "relu6",
        runs_in=("inference",),
        bound=6.0,
        emit=_emit,
        narrow=_NARROW,
        no_naive="the core alone has it",
    ),
    _fused(
        "conv_bn_relu",
        "spatial_batchnorm",
        "relu",
        runs_in=("layers", "training"),
        emit=_emit_normed,
        narrow=NarrowForm(_emit_narrow_normed, _fits_narrow, _TRAINS, multiplies=True),
        scoring=conv_bn_relu,
    ),
    _fused("conv_relu_pool", "relu", "max_pool", runs_in=("layers",), scoring=conv_relu_pool),
    _fused(
        "conv_bn_relu_pool",
        "spatial_batchnorm",
        "relu",
        "max_pool",
        runs_in=("layers",),
        scoring=conv_bn_relu_pool,
    ),
    # A 1x1 convolution that widens, a depthwise one and a 1x1 one that narrows, which no chain shows by its
    # layers alone.
    Op(
        name="inverted_residual",
        shape=partial(_shape, 2),
        runs_in=("inference",),
        emit=_emit_inverted_residual,
        no_naive="the core alone has it",
    ),
)
