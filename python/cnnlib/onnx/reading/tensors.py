"""Operators on tensors of any rank: axes, parts, arithmetic with broadcasting, products."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from cnnlib.graph.importing import Feature
from cnnlib.graph.importing.resizing import COORDINATES, ROUNDINGS
from cnnlib.graph.importing.tensors import Known, Operand
from cnnlib.graph.ops import OPS, OnnxForm
from cnnlib.graph.ops.sizes import batch_of
from cnnlib.onnx.reading.operator import Operator

_DOUBLE, _LOW_PRECISIONS = 11, (1, 10, 16)  # ONNX's types: float64; float32, float16, bfloat16
_Reader: TypeAlias = Callable[[Operator], "Feature | list[Feature]"]


def _target(op: Operator, x: Feature, sizes: Sequence[int], allow_zero: bool) -> list[int]:
    """The shape that a Reshape asks for, with the number of samples in it."""
    own = x.source_shape(op.net.samples)
    shape = [own[i] if n == 0 and not allow_zero and i < len(own) else n for i, n in enumerate(sizes)]
    total = math.prod(own)
    if shape.count(-1) == 1:
        known = -math.prod(shape)
        if known > 0 and total % known == 0:
            shape[shape.index(-1)] = total // known
    if math.prod(shape) != total and shape and shape[0] == op.net.batch:  # a file made for so many
        shape[0] = op.net.samples
    return shape


def _reshape(op: Operator) -> Feature:
    x, sizes = op.tensor_of(0), op.integers(1, "shape")
    if not sizes:
        op.fail("shape is missing")
    return op.shaped(x, _target(op, x, sizes, bool(op["allowzero"])))


def _flatten(op: Operator) -> Feature:
    x = op.tensor_of(0)
    shape = x.source_shape(op.net.samples)
    axis = op["axis"] + (len(shape) if op["axis"] < 0 else 0)
    if not 0 <= axis <= len(shape):
        op.fail(f"axis is {op['axis']}, where there are {len(shape)}")
    return op.shaped(x, (math.prod(shape[:axis]), math.prod(shape[axis:])))


def _squeeze(op: Operator) -> Feature:
    x, axes = op.tensor_of(0), op.axes()
    shape = x.source_shape(op.net.samples)
    if axes is None and op.net.batch == 1:
        one = batch_of(x.view)
        op.fail(f"has no axes: it takes away that of the one image of {one}; name the others")
    if axes is None:
        axes = [axis for axis, n in enumerate(shape) if n == 1 and axis != x.batch_axis]
    gone = {op.axis(axis, len(shape)) for axis in axes}
    if any(shape[axis] != 1 for axis in gone):
        op.fail(f"axes are {axes}, of {shape}")
    return op.shaped(x, [n for axis, n in enumerate(shape) if axis not in gone])


def _unsqueeze(op: Operator) -> Feature:
    x, axes = op.tensor_of(0), op.integers(1, "axes") or []
    rank = op.rank(x) + len(axes)
    for axis in sorted(op.axis(axis, rank) for axis in axes):
        x = op.with_axis(x, axis)
    return x


def _transpose(op: Operator) -> Feature:
    x = op.tensor_of(0)
    return op.ordered(x, op["perm"] or range(op.rank(x))[::-1])


def _concat(op: Operator) -> Feature:
    values = [op.operand(i) for i in range(len(op.inputs))]
    return op.concat([x for x in values if not isinstance(x, Known) or x.array.size], op["axis"])


def _slice(op: Operator) -> Feature:
    x, starts, ends = op.tensor_of(0), op.integers(1, "starts"), op.integers(2, "ends")
    if starts is None or ends is None:
        op.fail("starts or ends are missing")
    axes = op.integers(3, "axes") or list(range(len(starts)))
    steps = op.integers(4, "steps") if op.has(4) else [1] * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps or ()):
        op.fail(f"starts, ends, axes and steps are {starts}, {ends}, {axes} and {steps}")
    if 0 in (steps or ()):
        op.fail(f"steps are {steps}, of which none may be 0")
    for axis, start, end, step in zip(axes, starts, ends, steps or (), strict=True):
        size = x.source_shape(op.net.samples)[op.axis(axis, op.rank(x))]
        below = -size - 1  # where ONNX stops before the first, counting backwards
        stop = None if (step > 0 and end == size) or (step < 0 and end <= below) else end
        x = op.sliced(x, axis, start, stop, step)
    return x


def _split(op: Operator) -> list[Feature]:
    x, axis = op.tensor_of(0), op["axis"]
    size, sizes = op.size(x, op.axis(axis, op.rank(x))), op.integers(1, "split")
    count = len(op.record.outputs)
    op.ignore("num_outputs")
    if sizes is None:
        part = -(-size // count)
        sizes = [part] * (count - 1) + [size - part * (count - 1)]
    if len(sizes) != count or sum(sizes) != size or min(sizes) < 1:
        op.fail(f"split is {sizes}, of {size} into {count}")
    return op.split(x, axis, sizes)


def _gather(op: Operator) -> Feature:
    x, indices, axis = op.tensor_of(0), op.constant(1, "indices"), op["axis"]
    if indices.dtype.kind not in "iu":
        op.fail(f"indices are of type {indices.dtype}")
    if indices.ndim == 0:
        return op.selected(x, axis, int(indices))
    size = op.size(x, op.axis(axis, op.rank(x)))
    if indices.size and not -size <= indices.min() <= indices.max() < size:
        op.fail(f"indices lie from {indices.min()} to {indices.max()}, of {size}")
    return op.gathered(x, indices, axis)


def _expand(op: Operator) -> Feature:
    x, shape = op.tensor_of(0), op.integers(1, "shape") or []
    own = x.source_shape(op.net.samples)
    try:
        target = np.broadcast_shapes(own, tuple(shape))
    except ValueError:
        op.fail(f"shape is {shape}, which {own} does not spread to")
    return op.spread(x, target)


def _tile(op: Operator) -> Feature:
    return op.tiled(op.tensor_of(0), op.integers(1, "repeats") or [])


def _pad(op: Operator) -> Feature:
    x, amounts = op.tensor_of(0), op.integers(1, "pads")
    mode = {"edge": "replicate"}.get(op["mode"] or "constant", op["mode"] or "constant")
    if amounts is None or mode not in ("constant", "reflect", "replicate"):
        op.fail(f"pads are {amounts}, attribute mode is {mode!r}")
    axes = op.integers(3, "axes") if op.has(3) else list(range(op.rank(x)))
    half, sides = len(amounts) // 2, [(0, 0)] * op.rank(x)
    if len(amounts) != 2 * len(axes or ()):
        op.fail(f"pads are {amounts} for the axes {axes}, expected two for each")
    for axis, side in zip(axes or (), zip(amounts[:half], amounts[half:]), strict=True):
        sides[op.axis(axis, op.rank(x))] = side
    return op.padded_tensor(x, sides, mode, op.scalar(2, "value", 0.0))


def _blocks(op: Operator, x: Feature, to_space: bool) -> tuple[int, tuple[int, ...]]:
    """The side of the blocks, and the shape of images that hold them."""
    r, shape = op["blocksize"], x.source_shape(op.net.samples)
    if len(shape) != 4:
        op.fail(f"takes images (N, C, H, W), got {shape}")
    if r < 1 or (shape[1] % r**2 if to_space else shape[2] % r or shape[3] % r):
        op.fail(f"attribute blocksize is {r}, which does not divide {batch_of(x.view)}")
    return r, shape


def _depth_to_space(op: Operator) -> Feature:
    x, mode = op.tensor_of(0), op.choice("mode", "DCR", "CRD")
    r, (N, C, H, W) = _blocks(op, x, to_space=True)
    if mode == "CRD":
        x = op.ordered(op.shaped(x, (N, C // (r * r), r, r, H, W)), (0, 1, 4, 2, 5, 3))
    else:
        x = op.ordered(op.shaped(x, (N, r, r, C // (r * r), H, W)), (0, 3, 4, 1, 5, 2))
    return op.shaped(x, (N, C // (r * r), H * r, W * r))


def _space_to_depth(op: Operator) -> Feature:
    x = op.tensor_of(0)
    r, (N, C, H, W) = _blocks(op, x, to_space=False)
    x = op.ordered(op.shaped(x, (N, C, H // r, r, W // r, r)), (0, 3, 5, 1, 2, 4))
    return op.shaped(x, (N, C * r * r, H // r, W // r))


# Arithmetic -------------------------------------------------------------------------------------------


def _each(layer: str, *names: str) -> _Reader:
    return lambda op: op.each(layer, op.tensor_of(0), *(op[name] for name in names))


def _power_of(exponent: float) -> _Reader:
    return lambda op: op.each("power", op.tensor_of(0), exponent)


def _combined(layer: str) -> _Reader:
    """A chain of operands, each of which may be constant."""

    def read(op: Operator) -> Feature:
        values = [op.operand(i) for i in range(len(op.inputs))]
        made, *rest = sorted(values, key=lambda value: isinstance(value, Known))
        for value in rest:
            made = op.combined(layer, made, value)
        assert isinstance(made, Feature)  # else all are constant, and have been folded
        return made

    return read


def _subtract(op: Operator) -> Feature:
    x, y = op.operand(0), op.operand(1)
    return op.combined("add", op.times(y, -1, x), x)


def _power(op: Operator) -> Feature:
    x, exponent = op.tensor_of(0), op.number(op.operand(1))
    if exponent is None:
        op.fail("takes values to the power of numbers alone")
    return op.combined("multiply", x, x) if exponent == 2 else op.each("power", x, exponent)


def _clip(op: Operator) -> Feature:
    return op.each("clip", op.tensor_of(0), op.scalar(1, "min", -math.inf), op.scalar(2, "max", math.inf))


def _where(op: Operator) -> Feature:
    """x where a constant mask is True, else y."""
    return op.chosen(op.constant(0, "condition"), op.operand(1), op.operand(2))


def _prelu(op: Operator) -> Feature:
    x, slope = op.tensor_of(0), op.operand(1)
    if op.opset < 7 and isinstance(slope, Known) and slope.array.ndim == 1:  # of the channels
        slope = Known(slope.array.reshape(-1, *(1,) * (op.rank(x) - 2)), slope.name)
    return op.bent(x, slope)


def _hard_sigmoid(op: Operator) -> Feature:
    """clip(alpha * x + beta, 0, 1)."""
    x = op.combined("add", op.scaled(op.tensor_of(0), op["alpha"]), Known(np.array(op["beta"])))
    return op.each("clip", x, 0.0, 1.0)


# Sums, products ---------------------------------------------------------------------------------------


def _reduced(reduce: Callable[[Operator, Feature, list[int], bool], Feature], itself: bool = True) -> _Reader:
    """A reduction over axes; `itself`: of no axes it may be its input."""

    def read(op: Operator) -> Feature:
        x, axes, keep = op.tensor_of(0), op.integers(1, "axes"), bool(op["keepdims"])
        if not axes and itself and op["noop_with_empty_axes"]:
            return x
        if not axes:
            op.fail("goes over all samples, which stay apart")
        return reduce(op, x, axes, keep)

    return read


def _by(layer: str) -> _Reader:
    return _reduced(lambda op, x, axes, keep: op.reduced(layer, x, axes, keep))


def _softmax(layer: str) -> _Reader:
    def read(op: Operator) -> Feature:
        x, axis = op.tensor_of(0), op["axis"]
        if op.opset < 13 and op.axis(axis, op.rank(x)) != op.rank(x) - 1:
            op.fail(f"attribute axis is {axis}: before version 13 all axes from that one on are one")
        return op.normalised(layer, x, axis)

    return read


def _matmul(op: Operator) -> Feature:
    x, y = op.operand(0), op.operand(1)
    if isinstance(x, Feature) and isinstance(y, Known) and y.array.ndim == 2 and y.name:
        return op.linear(x, y.array, names=(y.name, ""))
    return op.matrix_product(x, y)


def _gemm(op: Operator) -> Feature:
    """``alpha * x @ w + beta * b``."""
    x = op.tensor_of(0)
    op.expect("transA", 0)
    w = op.floats(1, "w", 2)
    b = op.floats(2, "b") * op["beta"] if op.has(2) and op["beta"] else None
    if b is not None:
        M = w.shape[0] if op["transB"] else w.shape[1]
        if b.ndim > 2 or b.shape[-1:] not in ((), (1,), (M,)) or b.shape[:-1] not in ((), (1,)):
            op.fail(f"C has the shape {b.shape}, expected ({M},), the same for all samples")
        b = np.broadcast_to(b, (1, M))[0]
    w = w * op["alpha"]
    return op.linear(x, w.T if op["transB"] else w, b, op.names[1:])


def _layer_norm(op: Operator) -> Feature:
    x = op.tensor(op.tensor_of(0))
    place, eps = op.axis(op["axis"], op.rank(x)), op["epsilon"]
    op.ignore("stash_type")
    gamma = op.floats(1, "scale")
    beta = op.floats(2, "bias") if op.has(2) else np.zeros_like(gamma)
    if place <= x.batch_axis:
        op.fail("normalises over the samples, which stay apart")
    shape = x.view[place - 1 :]
    if gamma.shape != shape or beta.shape != shape:
        op.fail(f"scale and bias have the shapes {gamma.shape} and {beta.shape}, expected {shape}")
    params = op.parameters(gamma=gamma, beta=beta)
    return op.emit("trailing_layernorm", x, params=params, args=(float(eps),)).seen_like(x)


def _batch_norm(op: Operator) -> Feature:
    """Normalise sequences and volumes as images of one column."""
    x = op.tensor_of(0)
    op.ignore("consumed_inputs")
    op.choice("is_test", 1)  # before version 7, where its default is 0
    shape = x.source_shape(op.net.samples)
    C = shape[1]
    x = op.shaped(x, (shape[0], C, math.prod(shape[2:]), 1))
    names = ("scale", "bias", "mean", "var")
    gamma, beta, mean, var = (op.floats(i, name, 1) for i, name in enumerate(names, start=1))
    param = {"eps": op["epsilon"], "momentum": op["momentum"], "running_mean": mean, "running_var": var}
    params = op.parameters(gamma=gamma, beta=beta)
    made = op.emit("spatial_batchnorm", x, params=params, args=(param,))
    return op.shaped(made.seen_like(x), shape)


def _attention(op: Operator) -> Feature:
    """Attention in one call, without keys of earlier ones: (N, heads, L, D), or (N, L, heads * D)."""
    for i, name in enumerate(("past_key", "past_value", "nonpad_kv_seqlen"), start=4):
        if op.has(i):
            op.fail(f"{name} is given; here all keys come in one call")
    op.expect("softcap", 0.0)
    op.expect("left_window_size", -1)
    op.expect("right_window_size", -1)
    op.ignore("qk_matmul_output_mode")  # of an output that is refused where something reads it
    precision = op["softmax_precision"]
    if precision not in (None, *_LOW_PRECISIONS) and not (
        precision == _DOUBLE and op.net.dtype == np.float64
    ):
        op.fail(f"attribute softmax_precision is {precision}; a network of {op.net.dtype} computes in that")
    values = [op.operand(i) for i in range(3)]
    ranks, counts = {op.rank(x) for x in values}, [op["q_num_heads"], op["kv_num_heads"], op["kv_num_heads"]]
    if ranks not in ({3}, {4}):
        op.fail(f"Q, K and V have {sorted(ranks)} axes, expected three or four")
    if ranks == {3}:
        values = [_heads(op, x, count) for x, count in zip(values, counts, strict=True)]
    q, k, v = values
    made = op.attended(q, k, v, _mask(op, k), op["scale"], bool(op["is_causal"]))
    if ranks == {4}:
        return made
    N, heads, L, D = made.source_shape(op.net.samples)
    return op.shaped(op.moved(made, 1, 2), (N, L, heads * D))


def _heads(op: Operator, x: Operand, count: int | None) -> Operand:
    """(N, L, heads * D) as (N, heads, L, D)."""
    N, L, D = op.sizes_of(x)
    if not count or count < 1 or D % count:
        op.fail(f"has {count} heads, of {D} features")
    if isinstance(x, Known):
        return Known(x.array.reshape(N, L, count, D // count).swapaxes(1, 2), "")
    return op.moved(op.shaped(x, (N, L, count, D // count)), 1, 2)


def _mask(op: Operator, k: Operand) -> Operand | None:
    """Read the mask, added to the scores or boolean; keys behind its last one are hidden."""
    if not op.has(3):
        return None
    mask = op.value(3)
    if isinstance(mask, Feature):
        return mask
    if mask.dtype.kind not in "fiub" or mask.ndim < 2:
        op.fail(f"attn_mask has type {mask.dtype} and shape {mask.shape}")
    missing = op.sizes_of(k)[-2] - mask.shape[-1]
    if missing > 0:
        hidden = False if mask.dtype == bool else -np.inf
        mask = np.pad(mask, [(0, 0)] * (mask.ndim - 1) + [(0, missing)], constant_values=hidden)
    return Known(mask)


def _einsum(op: Operator) -> Feature:
    if len(op.inputs) != 2:
        op.fail(f"an einsum of {len(op.inputs)} operands has no counterpart")
    return op.contracted(op["equation"], op.operand(0), op.operand(1))


def _resize(op: Operator) -> Feature:
    """To any size; nearest, linear and cubic, at half pixels, with corners aligned, or from corners."""
    x = op.tensor(op.tensor_of(0))
    if not x.by_samples or len(x.view) != 3:
        op.fail(f"its input has the shape {x.source_shape(op.net.samples)}; expected images (N, C, H, W)")
    mode = {"linear": "bilinear", "cubic": "bicubic"}.get(op["mode"], op["mode"])
    axes = op["coordinate_transformation_mode"] or "asymmetric"
    rounding = op["nearest_mode"]
    scales = op.floats(2, "scales") if op.has(2) else np.empty(0)
    sizes = op.constant(3, "sizes") if op.has(3) and not scales.size else np.empty(0)
    op.ignore("extrapolation_value", "keep_aspect_ratio_policy")
    for name in ("axes", "antialias", "exclude_outside"):
        if op[name]:
            op.fail(f"attribute {name} is {op[name]}, which has no counterpart")
    if axes not in COORDINATES:
        op.fail(f"attribute coordinate_transformation_mode is {axes!r}, which has no counterpart")
    if mode not in ("nearest", "bilinear", "bicubic") or (mode == "nearest" and rounding not in ROUNDINGS):
        op.fail(f"attributes mode and nearest_mode are {op['mode']!r} and {rounding!r}")
    given = sizes if sizes.size else scales
    before = x.view[1:]
    if given.shape != (4,) or not np.isfinite(given).all():
        op.fail(f"scales or sizes are {given.tolist()}, expected four")
    if given[1] != (x.view[0] if sizes.size else 1) or (scales.size and given[0] != 1):
        kept = "here height and width change, not the number of images and channels"
        op.fail(f"scales or sizes are {given.tolist()} for {batch_of(x.view)}; {kept}")
    if sizes.size:
        op.net.counts.append(int(sizes[0]))
        size = [int(n) for n in sizes[2:]]
        factors: list[float | None] = [None, None]
    else:
        exact = [float(scale) for scale in scales[2:]]
        size = [math.floor(n * scale) for n, scale in zip(before, exact, strict=True)]
        factors = [*exact]
        whole = all(n * scale == m for n, scale, m in zip(before, exact, size, strict=True))
        if axes == "align_corners" and not whole:
            op.fail(f"corners are aligned of images of {size}, which are not as large as scales say")
    if min(size) < 1:
        op.fail(f"makes images of {size}")
    if mode == "bicubic" and not math.isclose(op["cubic_coeff_a"], -0.75):
        op.fail(f"attribute cubic_coeff_a is {op['cubic_coeff_a']}, here only -0.75")
    if (mode, axes) == ("bicubic", "pytorch_half_pixel") and 1 in size:
        op.fail("cubic images of one pixel by pytorch_half_pixel lie at 0 or -0.5, where programs differ")
    return op.resized(x, size, mode, axes, factors, rounding or "floor")


TENSORS: dict[str, _Reader] = {
    **{
        form.kind: _each(op.name, *form.arguments)
        for op in OPS.values()
        if isinstance(form := op.onnx, OnnxForm) and form.read and op.elementwise
    },
    "Swish": _each("silu"),
    "Gelu": lambda op: op.each("gelu", op.tensor_of(0), op.choice("approximate", "none", "tanh")),
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Transpose": _transpose,
    "Concat": _concat,
    "Slice": _slice,
    "Split": _split,
    "Gather": _gather,
    "Expand": _expand,
    "Tile": _tile,
    "Pad": _pad,
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
    "Add": _combined("add"),
    "Sum": _combined("add"),
    "Sub": _subtract,
    "Mul": lambda op: op.multiplied(op.operand(0), op.operand(1)),
    "Div": lambda op: op.divided(op.operand(0), op.operand(1)),
    "Pow": _power,
    "Min": _combined("minimum"),
    "Max": _combined("maximum"),
    "Neg": lambda op: op.each("scale", op.tensor_of(0), -1.0),
    "Reciprocal": lambda op: op.combined("divide", Known(np.ones(())), op.tensor_of(0)),
    "Sqrt": _power_of(0.5),
    "Mish": lambda op: op.mish(op.tensor_of(0)),
    "HardSigmoid": _hard_sigmoid,
    "Clip": _clip,
    "Where": _where,
    "PRelu": _prelu,
    "ReduceMean": _by("reduce_mean"),
    "ReduceSum": _by("reduce_sum"),
    "ReduceMax": _by("reduce_max"),
    "ReduceMin": _reduced(Operator.least),
    "ReduceL2": _reduced(Operator.norm, itself=False),  # of no axes it is the absolute value
    "Softmax": _softmax("softmax"),
    "LogSoftmax": _softmax("log_softmax"),
    "MatMul": _matmul,
    "Gemm": _gemm,
    "LayerNormalization": _layer_norm,
    "BatchNormalization": _batch_norm,
    "Attention": _attention,
    "Einsum": _einsum,
    "Resize": _resize,
}
"""For each operator a reader that takes a value of any rank, where one of images does not take it."""
