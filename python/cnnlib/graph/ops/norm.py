"""Norms: by a batch's statistics, or by those of each sample."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnlib._params import check_keys, flag, integer, number, positive_int
from cnnlib._typing import Array
from cnnlib.graph.ops.op import Executor, NarrowForm, Op, Stage
from cnnlib.graph.ops.sizes import Shape, check_rank
from cnnlib.layers.axes import check_shape
from cnnlib.layers.norm.batch import batch_options, running_statistics
from cnnlib.layers.norm.rows import KEYS

if TYPE_CHECKING:
    from cnnlib.graph.graph import Node
    from cnnlib.graph.targets import Target
    from cnnlib.models.spec.builder import Builder
    from cnnlib.onnx.writing.writer import Writer


def _batch_shape(rank: int, function: str, x: Shape, gamma: Array, beta: Array, bn_param: Any) -> Shape:
    check_rank(function, x, rank)
    batch_options(function, {**bn_param, "mode": "test"} if isinstance(bn_param, Mapping) else bn_param)
    for name, array in (("gamma", gamma), ("beta", beta)):
        check_shape(function, name, array, x[:1])
    running_statistics(function, bn_param, x[:1], np.float64)
    return x


def _rows_shape(
    rank: int, name: str, function: str, x: Shape, gamma: Array, beta: Array, *args: Any
) -> Shape:
    """A norm by each sample's own statistics; `groups` of channels where it takes their number."""
    check_rank(function, x, rank)
    *groups, param = args
    check_keys(function, name, param, KEYS)
    number(function, "eps", param.get("eps", 1e-5), 0)
    if groups and (integer(function, "G", groups[0]) < 1 or x[0] % groups[0]):
        raise ValueError(f"{function}: G must divide the number of channels, {x[0]}, got {groups[0]}")
    for role, array in (("gamma", gamma), ("beta", beta)):
        if rank != 3 or array.shape != (1, x[0], 1, 1):
            check_shape(function, role, array, x[:1])
    return x


STATISTICS = ("running_mean", "running_var")


def statistics(bn_param: Mapping[str, Any], C: int) -> tuple[np.ndarray, np.ndarray]:
    """The running mean of a batch norm, and 1 / sqrt(variance + eps), in float64."""
    mean, var = (
        np.zeros(C) if bn_param.get(name) is None else np.asarray(bn_param[name], np.float64)
        for name in STATISTICS
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        return mean, 1 / np.sqrt(var + bn_param.get("eps", 1e-5))


def _emit_batch(target: Target, node: Node, bound: float | None) -> None:
    target.batchnorm(node, bound)


def _emit_narrow(target: Target, node: Node, bound: float | None) -> None:
    target.narrow_norm(node, bound)


def _fits_narrow(node: Node, inputs: Sequence[Shape], arrays: Sequence[Array | None]) -> bool:
    return inputs[0][0] > 1  # a single channel has no depthwise convolution


_NARROW = NarrowForm(_emit_narrow, _fits_narrow)


# What a norm of rows takes of an image: rows, channels of each, values of a channel, C and pixels.
_Rows = tuple[int, int, int, int, int]


def _pixels(shape: Shape, args: tuple[Any, ...]) -> _Rows:
    C, S = shape[0], math.prod(shape[1:])
    return S, C, 1, C, S


def _groups(shape: Shape, args: tuple[Any, ...]) -> _Rows:
    C, S, G = shape[0], math.prod(shape[1:]), int(args[0])
    return G, C // G, S, C, 1


def _whole(shape: Shape, args: tuple[Any, ...]) -> _Rows:
    C, S = shape[0], math.prod(shape[1:])
    return 1, C, S, C, 1


def _channels(shape: Shape, args: tuple[Any, ...]) -> _Rows:
    C, S = shape[0], math.prod(shape[1:])
    return C, 1, S, C, 1


def _emit_rows(
    rows: Callable[[Shape, tuple[Any, ...]], _Rows], target: Target, node: Node, bound: float | None
) -> None:
    *_, param = node.arguments().values()
    target.row_norm(node, rows(target.before(node), node.args), param.get("eps", 1e-5))


def _write_batch(writer: Writer, node: Node, inputs: list[str], output: str) -> None:
    param, C = node.args[0], writer.shapes[node.inputs[0]][0]
    mean, var = (np.zeros(C) if param.get(key) is None else param[key] for key in STATISTICS)
    names = [
        *(_by_channel(writer, node, name) for name in node.params),
        writer.constant(node, "running_mean", mean),
        writer.constant(node, "running_var", var),
    ]
    attributes = {"epsilon": float(param.get("eps", 1e-5)), "momentum": float(param.get("momentum", 0.9))}
    writer.operator("BatchNormalization", node, [*inputs, *names], output, **attributes)


def _write_pixels(writer: Writer, node: Node, inputs: list[str], output: str) -> None:
    """The operator normalises over the last axes."""
    last = writer.operator("Transpose", node, inputs, perm=[0, 2, 3, 1])
    normed = _write("LayerNormalization", writer, node, [last], "", axis=-1)
    writer.operator("Transpose", node, [normed], output, perm=[0, 3, 1, 2])


def _write_groups(writer: Writer, node: Node, inputs: list[str], output: str) -> None:
    _write("GroupNormalization", writer, node, inputs, output, num_groups=int(node.args[0]))


def _write(kind: str, writer: Writer, node: Node, inputs: list[str], output: str, **attributes: Any) -> str:
    names = [_by_channel(writer, node, name) for name in node.params]
    *_, param = node.arguments().values()
    eps = float(param.get("eps", 1e-5))
    return writer.operator(kind, node, [*inputs, *names], output, epsilon=eps, **attributes)


def _by_channel(writer: Writer, node: Node, name: str | None) -> str:
    """A norm's parameter; that of groups may be (1, C, 1, 1) here, and is (C,) there."""
    if writer.params[str(name)].ndim == 1:
        return writer.parameter(name)[0]
    return writer.constant(node, str(name), writer.params[str(name)].reshape(-1))


# In a spec


def _build_batch(builder: Builder, where: str, value: Any, options: dict[str, Any]) -> Any:
    options = dict(options)
    scaled = flag(where, "scale", options.pop("scale", True))
    for name, high in (("momentum", 1), ("eps", math.inf)):
        if name in options:
            number(where, name, options[name], 0, high)
    names = builder.norm()
    if not scaled:
        builder.frozen.add(names[0])
    layer = "spatial_batchnorm" if len(builder.shape) == 3 else "batchnorm"
    return builder.layer(layer, "batchnorm", names, options)


def _build_groups(builder: Builder, where: str, G: Any, options: dict[str, Any]) -> Any:
    G = positive_int(where, "groups", G)
    return builder.layer("spatial_groupnorm", f"groupnorm {G}", builder.norm(), G, dict(options))


def _build_instance(builder: Builder, where: str, value: Any, options: dict[str, Any]) -> Any:
    return builder.layer("spatial_instancenorm", "instancenorm", builder.norm(), dict(options))


def _build_layer(builder: Builder, where: str, value: Any, options: dict[str, Any]) -> Any:
    layer = "spatial_layernorm" if len(builder.shape) == 3 else "layernorm"
    return builder.layer(layer, "layernorm", builder.norm(), dict(options))


def _batch(name: str, rank: int, **known: Any) -> Op:
    return Op(
        name=name,
        shape=partial(_batch_shape, rank),
        norm="batch",
        statistics=True,
        per_call=("mode",),
        in_place=True,
        emit=_emit_batch,
        narrow=_NARROW,
        onnx=_write_batch,
        onnx_kinds=("BatchNormalization",),
        aten=("batch_norm",),
        **known,
    )


def _rectified(name: str, rank: int, runs_in: tuple[Executor, ...]) -> Op:
    """A batch norm with the ReLU behind it, which only the core has."""
    return Op(
        name=f"{name}_relu",
        shape=partial(_batch_shape, rank),
        in_place=True,
        parts=(name, "relu"),
        runs_in=runs_in,
        bound=math.inf,
        emit=_emit_batch,
        narrow=_NARROW,
        no_naive="the core alone has it",
    )


def _rows(name: str, rank: int, param: str, rows: Callable[..., _Rows], **known: Any) -> Op:
    return Op(
        name=name,
        shape=partial(_rows_shape, rank, param),
        norm="rows",
        emit=partial(_emit_rows, rows),
        **known,
    )


OPS = (
    _batch(
        "batchnorm",
        1,
        stages=(
            Stage(
                "batchnorm",
                ("momentum", "eps", "scale"),
                "none",
                subtracts_bias=True,
                build=_build_batch,
            ),
        ),
    ),
    _batch("spatial_batchnorm", 3),
    _rectified("batchnorm", 1, ("training", "inference")),
    _rectified("spatial_batchnorm", 3, ("inference",)),
    _rows(
        "layernorm",
        1,
        "ln_param",
        _whole,
        onnx=partial(_write, "LayerNormalization", axis=-1),
        onnx_kinds=("LayerNormalization",),
        aten=("layer_norm",),
        stages=(Stage("layernorm", ("eps",), "none", build=_build_layer),),
    ),
    _rows(
        "spatial_layernorm",
        3,
        "ln_param",
        _pixels,
        onnx=_write_pixels,
        onnx_kinds=("Transpose", "LayerNormalization"),
        aten=("layer_norm",),
    ),
    _rows(
        "spatial_groupnorm",
        3,
        "gn_param",
        _groups,
        onnx=_write_groups,
        onnx_kinds=("GroupNormalization",),
        aten=("group_norm",),
        stages=(Stage("groupnorm", ("eps",), images=True, build=_build_groups),),
    ),
    _rows(
        "spatial_instancenorm",
        3,
        "in_param",
        _channels,
        onnx=partial(_write, "InstanceNormalization"),
        onnx_kinds=("InstanceNormalization",),
        aten=("instance_norm",),
        stages=(Stage("instancenorm", ("eps",), "none", images=True, build=_build_instance),),
    ),
)
