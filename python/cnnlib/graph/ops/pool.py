"""Pools: of windows, of whole planes, and to a given size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cnnlib._params import pair
from cnnlib._system.text import shape_text
from cnnlib.graph.ops.op import NarrowForm, Op, Stage
from cnnlib.graph.ops.sizes import Shape, check_rank, positive_pair, samples_like
from cnnlib.graph.ops.windows import write_windows
from cnnlib.layers.axes import Axis, pool_axes
from cnnlib.layers.pool import _AVG_KEYS, _MAX_KEYS, _geometry

if TYPE_CHECKING:
    from cnnlib.graph.graph import Node
    from cnnlib.graph.targets import Target
    from cnnlib.models.spec.builder import Builder
    from cnnlib.onnx.writing.writer import Writer

_SAVING = "cnnlib.onnx.save"


def _shape(count: int, kind: str, function: str, x: Shape, pool_param: Any) -> Shape:
    axes, *_ = pool_axes(function, pool_param, samples_like(x), count, kind)
    return (x[0], *(axis.outputs for axis in axes))


def _global_shape(function: str, x: Shape) -> Shape:
    check_rank(function, x, 3)
    return x[:1]


def _adaptive_shape(function: str, x: Shape, size: Any) -> Shape:
    check_rank(function, x, 3)
    return (x[0], *positive_pair(function, "size", size))


def pool_arguments(where: str, kind: str, pool_param: Mapping[str, Any], like: Any) -> tuple[Any, ...]:
    """A pool's windows, ceil_mode, and, of a mean, count_include_pad."""
    if kind == "max":
        return _geometry(where, pool_param, like, _MAX_KEYS)
    return *_geometry(where, pool_param, like, _AVG_KEYS), pool_param.get("count_include_pad", True)


def _emit(kind: str, target: Target, node: Node, bound: float | None) -> None:
    like = target.like(node)
    target.call(node, node.layer, like, *pool_arguments(target.where, kind, node.args[0], like))


def _emit_global(target: Target, node: Node, bound: float | None) -> None:
    target.call(node, "adaptive_avg_pool", target.like(node), (1, 1))


def _emit_adaptive(target: Target, node: Node, bound: float | None) -> None:
    target.call(node, node.layer, target.like(node), target.after(node)[1:])


def _emit_narrow(kind: str, target: Target, node: Node, bound: float | None) -> None:
    windows = pool_arguments(target.where, kind, node.args[0], target.like(node))
    target.narrow_pool(node, kind == "avg", *windows)


def _fits_narrow(kind: str, node: Node, inputs: Sequence[Shape], arrays: Sequence[Any]) -> bool:
    return kind == "max" or node.args[0].get("dilation", 1) in (1, (1, 1))


def _trains_narrow(node: Node, inputs: Sequence[Shape], arrays: Sequence[Any]) -> bool:
    return node.args[0].get("dilation", 1) in (1, (1, 1))


def _emit_narrow_global(target: Target, node: Node, bound: float | None) -> None:
    H, W = target.before(node)[1:]
    target.narrow_pool(node, True, (H, W, H, W, 0, 0, 0, 0, 1, 1), False, True)


def _fits_narrow_adaptive(node: Node, inputs: Sequence[Shape], arrays: Sequence[Any]) -> bool:
    return node.args[0] in (1, (1, 1))


# To ONNX


def _write(kind: str, writer: Writer, node: Node, inputs: list[str], output: str) -> None:
    x = samples_like(writer.shapes[node.inputs[0]])
    axes, counted, ceil_mode = pool_axes(_SAVING, node.args[0], x, x.ndim - 2, kind)
    attributes = {**write_windows(writer, node, axes), "kernel_shape": [axis.taps for axis in axes]}
    if kind == "avg":
        attributes["count_include_pad"] = int(counted)
    if ceil_mode:
        attributes = _with_ceil(writer, node, axes, attributes)
    if kind == "avg":
        del attributes["dilations"]
    writer.operator("MaxPool" if kind == "max" else "AveragePool", node, inputs, output, **attributes)


def _with_ceil(
    writer: Writer, node: Node, axes: Sequence[Axis], attributes: dict[str, Any]
) -> dict[str, Any]:
    """Windows that hang over the end as padding there.

    Programs differ in whether `ceil_mode` has a last window that starts in the padding, so it is written only
    where a mean counts padding and not what hangs over, or where so much padding is not admitted.
    """
    if any(axis.stride > 1 for axis in axes):
        writer.fix(node, "ceil_mode")
    before, kept = [axis.before for axis in axes], [max(0, axis.reach) for axis in axes]
    over = any(axis.reach > axis.after for axis in axes)
    apart = over and attributes.get("count_include_pad") and any(attributes["pads"])
    if not apart and all(high < axis.taps for high, axis in zip(kept, axes, strict=True)):
        if over and "count_include_pad" in attributes:
            attributes["count_include_pad"] = 0
        return {**attributes, "pads": [*before, *kept]}
    ends = [min(axis.reach, axis.after) for axis in axes]
    if min(ends) < 0:
        raise ValueError(
            f"{_SAVING}: {node.title}: ceil_mode, where windows of one axis hang over the end and "
            "those of another one leave pixels over, has no operator"
        )
    return {**attributes, "pads": [*before, *ends], "ceil_mode": 1}


def _write_global(writer: Writer, node: Node, inputs: list[str], output: str) -> None:
    pooled = writer.operator("GlobalAveragePool", node, inputs)
    writer.operator("Flatten", node, [pooled], output, axis=1)


def _write_adaptive_avg(writer: Writer, node: Node, inputs: list[str], output: str) -> None:
    """Even windows as a pool; uneven ones as a product with a matrix of the windows for each axis."""
    if _even("AveragePool", writer, node, inputs, output):
        return
    (_, H, W), (OH, OW) = writer.shapes[node.inputs[0]], pair(node.layer, "size", node.args[0])
    rows = writer.constant(node, "rows", _means(H, OH))
    columns = writer.constant(node, "columns", _means(W, OW).T)
    pooled = writer.operator("MatMul", node, [rows, *inputs])
    writer.operator("MatMul", node, [pooled, columns], output)


def _write_adaptive_max(writer: Writer, node: Node, inputs: list[str], output: str) -> None:
    """Even windows as a pool; uneven ones gathered, and reduced, along each axis."""
    if _even("MaxPool", writer, node, inputs, output):
        return
    (_, H, W), (OH, OW) = writer.shapes[node.inputs[0]], pair(node.layer, "size", node.args[0])
    for axis, (n, m) in ((2, (H, OH)), (3, (W, OW))):
        pixels = writer.constant(node, "pixels", _pixels(n, m), np.int64)
        gathered = writer.operator("Gather", node, [*inputs, pixels], axis=axis)
        last = writer.constant(node, "axis", [axis + 1], np.int64)
        inputs = [
            writer.operator("ReduceMax", node, [gathered, last], output if axis == 3 else "", keepdims=0)
        ]


def _even(kind: str, writer: Writer, node: Node, inputs: list[str], output: str) -> bool:
    """Write a pool of whole images, or one whose windows tile them; False if they do not."""
    (_, H, W), (OH, OW) = writer.shapes[node.inputs[0]], pair(node.layer, "size", node.args[0])
    if (OH, OW) == (1, 1):
        writer.operator(f"Global{kind}", node, inputs, output)
        return True
    writer.fix(node, f"size {(OH, OW)}")
    if H % OH or W % OW:
        return False
    window = (H // OH, W // OW)
    writer.operator(kind, node, inputs, output, kernel_shape=window, strides=window)
    return True


def _adaptive_windows(n: int, m: int) -> list[range]:
    return [range(i * n // m, -(-(i + 1) * n // m)) for i in range(m)]


def _means(n: int, m: int) -> NDArray[np.float64]:
    """(m, n): what the mean of each window takes of each pixel."""
    matrix = np.zeros((m, n))
    for row, window in zip(matrix, _adaptive_windows(n, m), strict=True):
        row[window.start : window.stop] = 1 / len(window)
    return matrix


def _pixels(n: int, m: int) -> NDArray[np.int64]:
    """(m, longest window): each window's pixels, the last one repeated."""
    windows = _adaptive_windows(n, m)
    longest = max(map(len, windows))
    return np.array([[min(window.start + i, window.stop - 1) for i in range(longest)] for window in windows])


# In a spec


def _build(layer: str, builder: Builder, where: str, size: Any, options: dict[str, Any]) -> Any:
    height, width = pair(where, "size", size)
    pool_param = {"size": (height, width), **options}
    stride = f" stride {shape_text(options['stride'])}" if "stride" in options else ""
    return builder.layer(layer, f"{layer} {height}x{width}{stride}", (), pool_param)


def _build_adaptive(layer: str, builder: Builder, where: str, size: Any, options: dict[str, Any]) -> Any:
    size = pair(where, "size", size)
    return builder.layer(layer, f"{layer} {shape_text(size)}", (), size)


def _adaptive_stage(layer: str) -> Stage:
    return Stage(layer, images=True, build=partial(_build_adaptive, layer), by_axis=True)


def _build_global_max(builder: Builder, where: str, value: Any, options: dict[str, Any]) -> Any:
    return builder.layer("adaptive_max_pool", "global_max_pool", (), 1)


_OPTIONS = ("stride", "pad", "ceil_mode")
_IN_PYTHON = "the core's networks are of rows and of images"


def _pools(kind: Any, options: tuple[str, ...]) -> list[Op]:
    """The pools of windows of images, sequences and volumes."""
    common: dict[str, Any] = {
        "pool": kind,
        "onnx": partial(_write, kind),
        "onnx_kinds": ("MaxPool" if kind == "max" else "AveragePool",),
        "selects": kind == "max",
    }
    name = f"{kind}_pool"
    aten = ("max_pool2d", "max_pool2d_with_indices") if kind == "max" else ("avg_pool2d",)
    elsewhere: dict[str, Any] = {
        "not_trained": _IN_PYTHON,
        "not_prepared": _IN_PYTHON,
        "no_aten": "modules of sequences and volumes are not recorded",
    }
    return [
        Op(
            name=name,
            shape=partial(_shape, 2, kind),
            emit=partial(_emit, kind),
            narrow=NarrowForm(partial(_emit_narrow, kind), partial(_fits_narrow, kind), _trains_narrow),
            aten=aten,
            stages=(
                Stage(name, (*_OPTIONS, *options), images=True, by_axis=True, build=partial(_build, name)),
            ),
            **common,
        ),
        Op(name=f"{name}1d", shape=partial(_shape, 1, kind), **common, **elsewhere),
        Op(name=f"{name}3d", shape=partial(_shape, 3, kind), **common, **elsewhere),
    ]


OPS = (
    *_pools("max", ("dilation",)),
    *_pools("avg", ("count_include_pad",)),
    Op(
        name="global_avg_pool",
        shape=_global_shape,
        own_size=True,
        pool="avg",
        emit=_emit_global,
        narrow=NarrowForm(_emit_narrow_global),
        onnx=_write_global,
        onnx_kinds=("GlobalAveragePool",),
        aten=("adaptive_avg_pool2d", "mean"),
        stages=(Stage("global_avg_pool", value="none", images=True),),
    ),
    Op(
        name="adaptive_avg_pool",
        shape=_adaptive_shape,
        own_size=True,
        emit=_emit_adaptive,
        narrow=NarrowForm(_emit_narrow_global, _fits_narrow_adaptive, _fits_narrow_adaptive),
        onnx=_write_adaptive_avg,
        onnx_kinds=("GlobalAveragePool", "AveragePool"),
        aten=("adaptive_avg_pool2d",),
        stages=(_adaptive_stage("adaptive_avg_pool"),),
    ),
    Op(
        name="adaptive_max_pool",
        shape=_adaptive_shape,
        own_size=True,
        emit=_emit_adaptive,
        onnx=_write_adaptive_max,
        onnx_kinds=("GlobalMaxPool", "MaxPool"),
        aten=("adaptive_max_pool2d",),
        stages=(
            _adaptive_stage("adaptive_max_pool"),
            Stage("global_max_pool", value="none", images=True, build=_build_global_max),
        ),
    ),
)
