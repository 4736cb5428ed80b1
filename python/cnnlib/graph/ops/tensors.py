"""Operators that rearrange and combine tensors of any rank: in NumPy, in the core and in ONNX."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnlib._typing import Array
from cnnlib.graph.ops import pieces, tensor_functions
from cnnlib.graph.ops.op import OnnxForm, Op
from cnnlib.graph.ops.sizes import Shape, batch_of, same, same_by_number
from cnnlib.layers.axes import check_shape

if TYPE_CHECKING:
    from cnnlib.graph.graph import Node
    from cnnlib.graph.targets import InferenceTarget, Target
    from cnnlib.onnx.writing.writer import Writer

_INT64 = np.iinfo(np.int64)  # ONNX's start and stop beyond the ends of an axis


def _refuse(function: str, text: str, *shapes: Shape) -> None:
    raise ValueError(f"{function}: {text}, got x {', '.join(map(batch_of, shapes))}")


def _transpose(function: str, x: Shape, axes: Sequence[int]) -> Shape:
    if sorted(axes) != list(range(len(x) + 1)) or axes[0] != 0:
        _refuse(function, f"axes must be an order of the axes of x that begins with 0, got {axes!r}", x)
    return tuple(x[axis - 1] for axis in axes[1:])


def _reshape(function: str, x: Shape, shape: Sequence[int]) -> Shape:
    if list(shape).count(-1) > 1 or any(size < 1 and size != -1 for size in shape):
        _refuse(function, f"shape must be sizes of at least 1, of which one may be -1, got {shape!r}", x)
    made = tensor_functions.filled(shape, x)
    if math.prod(made) != math.prod(x):
        _refuse(function, f"shape {tuple(shape)} does not hold the numbers of x", x)
    return made


def _slice(function: str, x: Shape, start: int | None, stop: int | None, step: int, axis: int) -> Shape:
    _check_axes(function, x, (axis,))
    if not step:
        _refuse(function, "step must not be 0", x)
    size = len(range(x[axis - 1])[start:stop:step])
    if not size:
        _refuse(function, f"takes nothing of the {x[axis - 1]} of axis {axis}", x)
    return (*x[: axis - 1], size, *x[axis:])


def _check_axes(function: str, x: Shape, axes: Sequence[int]) -> None:
    if len(set(axes)) != len(axes) or any(not 0 < axis <= len(x) for axis in axes):
        _refuse(function, f"axis must be one or several behind that of the samples, got {axes!r}", x)


def _pad(function: str, x: Shape, widths: Sequence[Sequence[int]], mode: str, value: float) -> Shape:
    if mode not in tensor_functions.PAD_MODES or len(widths) != len(x):
        _refuse(function, f"widths must be (before, after) for each axis, got {widths!r} in mode {mode!r}", x)
    if any(
        min(side) < 0 or (mode == "reflect" and max(side) >= n) for side, n in zip(widths, x, strict=True)
    ):
        _refuse(function, f"widths {widths!r} in mode {mode!r} do not fit", x)
    return tuple(n + sum(side) for n, side in zip(x, widths, strict=True))


def _expand(function: str, x: Shape, shape: Sequence[int]) -> Shape:
    if len(shape) != len(x) or any(m not in (-1, n) and (n != 1 or m < 1) for n, m in zip(x, shape)):
        _refuse(function, f"shape {tuple(shape)} is none that x spreads to", x)
    return tuple(n if m == -1 else m for n, m in zip(x, shape, strict=True))


def _expand_as(function: str, x: Shape, y: Shape) -> Shape:
    if len(x) != len(y) or any(n != m and 1 not in (n, m) for n, m in zip(x, y)):
        _refuse(function, "the axes of x must have the sizes of y, or 1", x, y)
    return tuple(m if n == 1 else n for n, m in zip(x, y, strict=True))


def _along(function: str, x: Shape, axis: Sequence[int]) -> Shape:
    _check_axes(function, x, axis)
    return x


def _rolled(function: str, x: Shape, shift: Sequence[int], axis: Sequence[int]) -> Shape:
    _check_axes(function, x, axis)
    if len(shift) != len(axis):
        _refuse(function, f"shift must have a number for each axis of {axis!r}, got {shift!r}", x)
    return x


def _gather(function: str, x: Shape, indices: Any, axis: int) -> Shape:
    _check_axes(function, x, (axis,))
    indices = np.asarray(indices)
    if indices.dtype.kind not in "iu":
        _refuse(function, f"indices must be integers, got {indices.dtype}", x)
    if indices.size and not -x[axis - 1] <= indices.min() <= indices.max() < x[axis - 1]:
        _refuse(function, f"indices must lie in axis {axis}, got {indices.min()} to {indices.max()}", x)
    return (*x[: axis - 1], *indices.shape, *x[axis:])


def _constant(function: str, x: Shape, w: Array) -> Shape:
    return w.shape


def _linear(function: str, x: Shape, w: Array, b: Array | None) -> Shape:
    if w.ndim != 2 or w.shape[0] != x[-1]:
        raise ValueError(f"{function}: x is {batch_of(x)}, so w must be ({x[-1]}, M), got {w.shape}")
    check_shape(function, "b", b, w.shape[1:])
    return (*x[:-1], w.shape[1])


def _trailing(function: str, x: Shape, gamma: Array, beta: Array, eps: float) -> Shape:
    if x[len(x) - gamma.ndim :] != gamma.shape or gamma.shape != beta.shape:
        raise ValueError(
            f"{function}: x is {batch_of(x)}, got gamma {gamma.shape} and beta {beta.shape} for its last axes"
        )
    return x


def _alike(function: str, x: Shape, y: Shape) -> Shape:
    if x != y:
        _refuse(function, "the inputs must have one shape", x, y)
    return x


def _where(function: str, x: Shape, y: Shape, mask: Any) -> Shape:
    _alike(function, x, y)
    mask = np.asarray(mask)
    fits = mask.ndim == len(x) and all(n in (1, size) for n, size in zip(mask.shape, x, strict=True))
    if mask.dtype != bool or not fits:
        wanted = f"mask must be booleans of shape {x}, or 1 in place of a size"
        _refuse(function, f"{wanted}, got {mask.dtype} of shape {mask.shape}", x)
    return x


def _clip(function: str, x: Shape, low: float, high: float) -> Shape:
    if not low <= high:
        _refuse(function, f"low must not be above high, got {low} and {high}", x)
    return x


def _reduce(function: str, x: Shape, axis: Sequence[int], keepdims: bool) -> Shape:
    _check_axes(function, x, axis)
    return tuple(1 if i in axis else n for i, n in enumerate(x, start=1) if keepdims or i not in axis)


def _matmul(function: str, x: Shape, y: Shape) -> Shape:
    if len(x) < 2 or x[:-2] != y[:-2] or x[-1] != y[-2]:
        _refuse(function, "the inputs must be matrices that fit, and alike in the axes before", x, y)
    return (*x[:-1], y[-1])


# In the core


def _emit_transpose(target: InferenceTarget, node: Node, bound: float | None) -> None:
    target.copy(node, pieces.transposed(target.before(node), [axis - 1 for axis in node.args[0][1:]]))


def _emit_reshape(target: InferenceTarget, node: Node, bound: float | None) -> None:
    target.copy(node, pieces.picked((math.prod(target.before(node)),), [None]))


def _emit_slice(target: InferenceTarget, node: Node, bound: float | None) -> None:
    start, stop, step, axis = node.args
    shape = target.before(node)
    slices = [slice(start, stop, step) if place == axis else slice(None) for place in _axes(shape)]
    target.copy(node, pieces.sliced(shape, slices))


def _axes(shape: Shape) -> range:
    """The axes of a value behind that of the samples."""
    return range(1, len(shape) + 1)


def _emit_pad(target: InferenceTarget, node: Node, bound: float | None) -> None:
    widths, mode, value = node.args
    shape = target.before(node)
    if mode == "constant":
        return target.copy(node, pieces.padded(shape, [tuple(sides) for sides in widths]), float(value))
    kind = tensor_functions.PAD_MODES[mode]
    places = [np.pad(np.arange(n), sides, kind).tolist() for n, sides in zip(shape, widths, strict=True)]
    target.copy(node, pieces.picked(shape, places))


def _emit_expand(target: InferenceTarget, node: Node, bound: float | None) -> None:
    target.copy(node, pieces.expanded(target.before(node), target.after(node)))


def _emit_places(target: InferenceTarget, node: Node, places: Mapping[int, Array]) -> None:
    """The numbers at places along axes, of which an axis may have any more than once."""
    shape = target.before(node)
    chosen = [places[axis].tolist() if axis in places else None for axis in _axes(shape)]
    target.copy(node, pieces.picked(shape, chosen))


def _emit_roll(target: InferenceTarget, node: Node, bound: float | None) -> None:
    shape, (shifts, axes) = target.before(node), node.args
    moved = {axis: np.arange(shape[axis - 1]) for axis in axes}
    for shift, axis in zip(shifts, axes, strict=True):
        moved[axis] = np.roll(moved[axis], shift)
    _emit_places(target, node, moved)


def _emit_flip(target: InferenceTarget, node: Node, bound: float | None) -> None:
    shape = target.before(node)
    _emit_places(target, node, {axis: np.arange(shape[axis - 1])[::-1] for axis in node.args[0]})


def _emit_gather(target: InferenceTarget, node: Node, bound: float | None) -> None:
    indices, axis = node.args
    size = target.before(node)[axis - 1]
    _emit_places(target, node, {axis: np.asarray(indices).ravel() % size})


def _emit_constant(target: InferenceTarget, node: Node, bound: float | None) -> None:
    target.call(node, "constant", target.array(node.params[0]))


def _emit_linear(target: Target, node: Node, bound: float | None) -> None:
    target.affine(node, bound)


def _emit_trailing(target: Target, node: Node, bound: float | None) -> None:
    D = target.array(node.params[0]).size
    target.row_norm(node, (math.prod(target.before(node)) // D, D, 1, D, 1), node.args[0])


def _emit_function(target: InferenceTarget, node: Node, bound: float | None) -> None:
    """A function of each number, with up to two arguments."""
    a, b = (*map(float, node.args), 0.0, 0.0)[:2]
    target.call(node, "function", node.layer, a, b)


def _emit_pair(target: InferenceTarget, node: Node, bound: float | None) -> None:
    target.call(node, "pair", node.layer, reads=(target.reads(node),))


def _emit_where(target: InferenceTarget, node: Node, bound: float | None) -> None:
    mask = np.broadcast_to(np.asarray(node.args[0]), target.before(node))
    target.call(node, "where", mask.astype(np.uint8).ravel(), reads=(target.reads(node),))


def _emit_reduced(target: InferenceTarget, node: Node, bound: float | None) -> None:
    shape, (axes, _) = target.before(node), node.args
    kind, steps = node.layer.removeprefix("reduce_"), pieces.steps_of(shape)
    kept = [place for place in range(len(shape)) if place + 1 not in axes]
    gone = [place for place in range(len(shape)) if place + 1 in axes]
    listed = [([shape[i] for i in places], [steps[i] for i in places]) for places in (kept, gone)]
    target.call(node, "reduce", kind, *listed)


def _emit_matmul(target: InferenceTarget, node: Node, bound: float | None) -> None:
    *front, M, K = target.before(node)
    sizes = math.prod(front), M, target.after(node)[-1], K
    target.call(node, "matmul", *sizes, reads=(target.reads(node),))


# In ONNX


def _write_transpose(writer: Writer, node: Node, inputs: list[str], output: str) -> None:
    writer.operator("Transpose", node, inputs, output, perm=list(node.args[0]))


def _write_reshape(writer: Writer, node: Node, inputs: list[str], output: str) -> None:
    shape = writer.constant(node, "shape", [0, *node.args[0]], np.int64)  # 0: as many samples as there are
    writer.operator("Reshape", node, [*inputs, shape], output)


def _sliced(
    writer: Writer, node: Node, x: str, places: Sequence[tuple[Any, Any, int, int]], output: str = ""
) -> str:
    """Slices by (start, stop, step, axis)."""
    starts, stops, steps, axes = zip(*places, strict=True)
    ends = [(0, _INT64.max) if step > 0 else (_INT64.max, _INT64.min) for step in steps]
    first = [end[0] if start is None else start for start, end in zip(starts, ends, strict=True)]
    last = [end[1] if stop is None else stop for stop, end in zip(stops, ends, strict=True)]
    lists = {"starts": first, "ends": last, "axes": axes, "steps": steps}
    given = [writer.constant(node, role, numbers, np.int64) for role, numbers in lists.items()]
    return writer.operator("Slice", node, [x, *given], output)


def _write_slice(writer: Writer, node: Node, inputs: list[str], output: str) -> None:
    start, stop, step, axis = node.args
    _sliced(writer, node, inputs[0], [(start, stop, step, axis)], output)


def _write_flip(writer: Writer, node: Node, inputs: list[str], output: str) -> None:
    _sliced(writer, node, inputs[0], [(None, None, -1, axis) for axis in node.args[0]], output)


def _write_roll(writer: Writer, node: Node, inputs: list[str], output: str) -> None:
    """Along each axis the end before the beginning."""
    (x,), (shifts, axes) = inputs, node.args
    for last, (shift, axis) in enumerate(zip(shifts, axes, strict=True), start=1 - len(axes)):
        size = writer.shapes[node.inputs[0]][axis - 1]
        if abs(shift) >= size:
            writer.fix(node, f"its shift {shift} is taken modulo {size}")
            shift %= size
        ends = [(-shift, None), (None, -shift)] if shift else [(None, None)]
        parts = [_sliced(writer, node, x, [(*end, 1, axis)]) for end in ends]
        x = writer.operator("Concat", node, parts, output if last == 0 else "", axis=axis)


def _write_pad(writer: Writer, node: Node, inputs: list[str], output: str) -> None:
    widths, mode, value = node.args
    before, after = zip(*widths, strict=True)
    given = [writer.constant(node, "pads", [0, *before, 0, *after], np.int64)]
    if mode == "constant":
        given.append(writer.constant(node, "value", value))
    writer.operator("Pad", node, [*inputs, *given], output, mode=tensor_functions.PAD_MODES[mode])


def _write_expand(writer: Writer, node: Node, inputs: list[str], output: str) -> None:
    sizes = [1, *(1 if size == -1 else size for size in node.args[0])]
    writer.operator("Expand", node, [*inputs, writer.constant(node, "shape", sizes, np.int64)], output)


def _write_expand_as(writer: Writer, node: Node, inputs: list[str], output: str) -> None:
    shape = writer.operator("Shape", node, inputs[1:])
    writer.operator("Expand", node, [inputs[0], shape], output)


def _write_gather(writer: Writer, node: Node, inputs: list[str], output: str) -> None:
    indices, axis = node.args
    names = [*inputs, writer.constant(node, "indices", indices, np.int64)]
    writer.operator("Gather", node, names, output, axis=axis)


def _write_constant(writer: Writer, node: Node, inputs: list[str], output: str) -> None:
    """Spread over as many samples as the input has."""
    w = str(node.params[0])
    samples = writer.operator("Shape", node, inputs, start=0, end=1)
    sizes = writer.constant(node, "sizes", writer.params[w].shape, np.int64)
    shape = writer.operator("Concat", node, [samples, sizes], axis=0)
    writer.operator("Expand", node, [*writer.parameter(w), shape], output)


def _write_linear(writer: Writer, node: Node, inputs: list[str], output: str) -> None:
    w, b = map(writer.parameter, node.params)
    product = writer.operator("MatMul", node, [*inputs, *w], "" if b else output)
    if b:
        writer.operator("Add", node, [product, *b], output)


def _write_trailing(writer: Writer, node: Node, inputs: list[str], output: str) -> None:
    names = [name for param in node.params for name in writer.parameter(param)]
    axis = -writer.params[str(node.params[0])].ndim
    writer.operator(
        "LayerNormalization", node, [*inputs, *names], output, axis=axis, epsilon=float(node.args[0])
    )


def _write_power(writer: Writer, node: Node, inputs: list[str], output: str) -> None:
    writer.operator("Pow", node, [*inputs, writer.constant(node, "exponent", node.args[0])], output)


def _write_clip(writer: Writer, node: Node, inputs: list[str], output: str) -> None:
    bounds = [
        "" if math.isinf(bound) else writer.constant(node, role, bound)
        for role, bound in zip(("low", "high"), node.args, strict=True)
    ]
    writer.operator("Clip", node, [*inputs, *bounds], output)


def _write_where(writer: Writer, node: Node, inputs: list[str], output: str) -> None:
    mask = writer.constant(node, "mask", np.asarray(node.args[0])[None], bool)
    writer.operator("Where", node, [mask, *inputs], output)


def _write_reduced(kind: str, writer: Writer, node: Node, inputs: list[str], output: str) -> None:
    axis, keepdims = node.args
    axes = writer.constant(node, "axes", axis, np.int64)
    writer.operator(kind, node, [*inputs, axes], output, keepdims=int(keepdims))


def _op(name: str, shape: Any, **known: Any) -> Op:
    usual: dict[str, Any] = {
        "not_trained": "the core has no gradient of it",
        "no_naive": "it is an expression of NumPy",
    }
    return Op(name=name, shape=shape, module=tensor_functions, **usual | known)


def _each(name: str, kind: str, aten: str) -> Op:
    """A function of each number alone, without arguments."""
    form = OnnxForm(kind, read=True)
    known = {"elementwise": True, "in_place": True, "emit": _emit_function, "own_bits": name != "absolute"}
    return _op(name, same, onnx=form, aten=(aten,), aten_arguments=(), **known)


def _of_two(name: str, kind: str, aten: str) -> Op:
    """A function of two values of one shape, number by number."""
    return _op(name, _alike, inputs=2, emit=_emit_pair, onnx=OnnxForm(kind), aten=(aten,))


def _reduced(name: str, kind: str, *aten: str, **known: Any) -> Op:
    write = functools.partial(_write_reduced, kind)
    known = {"emit": _emit_reduced, "own_bits": name != "reduce_max"} | known
    return _op(name, _reduce, onnx=write, onnx_kinds=(kind,), aten=aten, **known)


OPS = (
    _op(
        "transpose",
        _transpose,
        selects=True,
        emit=_emit_transpose,
        onnx=_write_transpose,
        onnx_kinds=("Transpose",),
        aten=("permute", "transpose", "movedim", "t"),
    ),
    _op(
        "reshape",
        _reshape,
        hands_on=True,
        selects=True,
        emit=_emit_reshape,
        onnx=_write_reshape,
        onnx_kinds=("Reshape",),
        aten=("view", "reshape", "flatten", "unflatten"),
    ),
    _op(
        "slice",
        _slice,
        selects=True,
        emit=_emit_slice,
        onnx=_write_slice,
        onnx_kinds=("Slice",),
        aten=("slice", "narrow", "select", "chunk", "split", "unbind"),
    ),
    _op("pad", _pad, emit=_emit_pad, onnx=_write_pad, onnx_kinds=("Pad",), aten=("pad", "constant_pad_nd")),
    _op(
        "expand",
        _expand,
        emit=_emit_expand,
        selects=True,
        onnx=_write_expand,
        onnx_kinds=("Expand",),
        aten=("expand",),
    ),
    _op(
        "expand_as",
        _expand_as,
        inputs=2,
        selects=True,
        emit=_emit_expand,
        onnx=_write_expand_as,
        onnx_kinds=("Shape", "Expand"),
        no_aten="operators that broadcast make it",
    ),
    _op(
        "roll",
        _rolled,
        emit=_emit_roll,
        selects=True,
        onnx=_write_roll,
        onnx_kinds=("Slice", "Concat"),
        aten=("roll",),
    ),
    _op(
        "flip", _along, emit=_emit_flip, selects=True, onnx=_write_flip, onnx_kinds=("Slice",), aten=("flip",)
    ),
    _op(
        "gather",
        _gather,
        selects=True,
        emit=_emit_gather,
        onnx=_write_gather,
        onnx_kinds=("Gather",),
        aten=("index", "index_select"),
    ),
    _op(
        "constant",
        _constant,
        emit=_emit_constant,
        onnx=_write_constant,
        onnx_kinds=("Shape", "Concat", "Expand"),
        no_aten="a constant that an operator joins with a value becomes it",
    ),
    _op(
        "linear",
        _linear,
        no_naive="it is affine, which has a twin, of the rows along the last axis",
        emit=_emit_linear,
        onnx=_write_linear,
        onnx_kinds=("MatMul", "Add"),
        aten=("linear",),
    ),
    _op(
        "trailing_layernorm",
        _trailing,
        no_naive="it is layernorm, which has a twin, of rows that the last axes are",
        emit=_emit_trailing,
        onnx=_write_trailing,
        onnx_kinds=("LayerNormalization",),
        aten=("layer_norm",),
    ),
    _of_two("divide", "Div", "div"),
    _of_two("minimum", "Min", "minimum"),
    _of_two("maximum", "Max", "maximum"),
    _op(
        "where",
        _where,
        inputs=2,
        selects=True,
        emit=_emit_where,
        onnx=_write_where,
        onnx_kinds=("Where",),
        aten=("where", "masked_fill"),
    ),
    _op(
        "power",
        same_by_number,
        elementwise=True,
        emit=_emit_function,
        own_bits=True,
        onnx=_write_power,
        onnx_kinds=("Pow",),
        aten=("pow",),
    ),
    _op(
        "clip",
        _clip,
        elementwise=True,
        emit=_emit_function,
        onnx=_write_clip,
        onnx_kinds=("Clip",),
        aten=("clamp", "hardtanh"),
    ),
    _each("exp", "Exp", "exp"),
    _each("log", "Log", "log"),
    _each("absolute", "Abs", "abs"),
    _op(
        "softplus",
        same,
        elementwise=True,
        emit=_emit_function,
        own_bits=True,
        onnx=OnnxForm("Softplus", read=True),
        aten=("softplus",),
    ),
    _reduced("reduce_sum", "ReduceSum", "sum"),
    _reduced("reduce_mean", "ReduceMean", "mean"),
    _reduced("reduce_max", "ReduceMax", "amax", "max", selects=True),
    _op(
        "matmul",
        _matmul,
        inputs=2,
        emit=_emit_matmul,
        own_bits=True,
        onnx=OnnxForm("MatMul"),
        aten=("matmul", "bmm", "mm"),
    ),
)
