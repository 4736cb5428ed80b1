"""Operators on tensors of any rank: axes, parts, arithmetic with broadcasting, products, attention."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from cnnlib.graph.importing import Feature
from cnnlib.graph.importing.resizing import PYTORCH_NEAREST
from cnnlib.graph.importing.tensors import Known, Operand
from cnnlib.graph.ops import OPS
from cnnlib.torch.aten.call import Call, two
from cnnlib.torch.aten.elementwise import share_dropped
from cnnlib.torch.aten.layers import conv_param, running_param

_EXACT_FROM = 20  # log(1 + exp(20)) is 20 but for 1e-10 of it; PyTorch's default
_Made = Feature | list[Feature]
_Translator = Callable[[Call], _Made]


# Axes -------------------------------------------------------------------------------------------------


def _shape(call: Call) -> Feature:
    """Reshape to the shape that PyTorch says."""
    call.ignore()
    return call.shaped(call.tensor_of(0), call.out_shape)


def _permute(call: Call) -> Feature:
    return call.ordered(call.tensor_of("self"), call["dims"])


def _transpose(call: Call) -> Feature:
    one, other = ("axis0", "axis1") if "axis0" in call.defaults else ("dim0", "dim1")
    return call.moved(call.tensor_of("self"), call[one], call[other])


def _move(call: Call) -> Feature:
    x = call.tensor_of("self")
    rank = call.rank(x)
    sources, places = (
        [call.axis(a, rank) for a in _listed(call[name])] for name in ("source", "destination")
    )
    rest = iter(axis for axis in range(rank) if axis not in sources)
    placed = dict(zip(places, sources, strict=True))
    return call.ordered(x, [placed[axis] if axis in placed else next(rest) for axis in range(rank)])


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _pixel_shuffle(call: Call) -> Feature:
    """(..., C * r * r, H, W) as (..., C, H * r, W * r)."""
    x, r = call.tensor_of("self"), call["upscale_factor"]
    *front, C, H, W = call.shape("self")
    n = len(front)
    x = call.shaped(x, (*front, C // (r * r), r, r, H, W))
    return call.shaped(call.ordered(x, (*range(n), n, n + 3, n + 1, n + 4, n + 2)), call.out_shape)


def _pixel_unshuffle(call: Call) -> Feature:
    """(..., C, H * r, W * r) as (..., C * r * r, H, W)."""
    x, r = call.tensor_of("self"), call["downscale_factor"]
    *front, C, H, W = call.shape("self")
    n = len(front)
    x = call.shaped(x, (*front, C, H // r, r, W // r, r))
    return call.shaped(call.ordered(x, (*range(n), n, n + 2, n + 4, n + 1, n + 3)), call.out_shape)


def _channel_shuffle(call: Call) -> Feature:
    x, groups = call.tensor_of("self"), call["groups"]
    N, C, *rest = call.shape("self")
    x = call.shaped(x, (N, groups, C // groups, *rest))
    return call.shaped(call.moved(x, 1, 2), call.out_shape)


def _windows(call: Call) -> Feature:
    """The windows of images as columns: F.unfold, by a slice for each tap of the window."""
    x = call.tensor_of("self")
    kernel, dilation = two(call["kernel_size"]), two(call["dilation"])
    pad, stride = two(call["padding"]), two(call["stride"])
    x = call.padded_tensor(x, [(0, 0), (0, 0), (pad[0],) * 2, (pad[1],) * 2])
    H, W = (call.fixed_size(x, axis) for axis in (2, 3))
    ends = [n - d * (k - 1) for n, d, k in zip((H, W), dilation, kernel, strict=True)]
    taps: list[Operand] = []
    for i in range(kernel[0]):
        rows = call.sliced(x, 2, i * dilation[0], i * dilation[0] + ends[0], stride[0])
        for j in range(kernel[1]):
            taps.append(call.sliced(rows, 3, j * dilation[1], j * dilation[1] + ends[1], stride[1]))
    return call.shaped(call.stacked(taps, 2), call.out_shape)


def _unfold_axis(call: Call) -> Feature:
    """Windows along one axis, which become the last one: tensor.unfold."""
    x, size, step = call.tensor_of("self"), call["size"], call["step"]
    axis = call.axis(call["dimension"], call.rank(x))
    length = call.fixed_size(x, axis)
    taps: list[Operand] = [call.sliced(x, axis, i, i + length - size + 1, step) for i in range(size)]
    return call.stacked(taps, call.rank(x))


# Parts ------------------------------------------------------------------------------------------------


def _slice(call: Call) -> Feature:
    return call.sliced(call.tensor_of("self"), call["dim"], call["start"], call["end"], call["step"])


def _narrow(call: Call) -> Feature:
    """`length` from `start` on, which may count from the end."""
    start = call["start"]
    return call.sliced(call.tensor_of("self"), call["dim"], start, start + call["length"] or None)


def _select(call: Call) -> Feature:
    return call.selected(call.tensor_of("self"), call["dim"], call["index"])


def _parts(call: Call) -> list[Feature]:
    """chunk, split and the like: PyTorch says how large the parts are."""
    call.ignore()
    x, axis = call.tensor_of(0), call["dim"]
    return call.split(x, axis, [value.shape[axis] for value in call.node.meta["val"]])


def _unbind(call: Call) -> list[Feature]:
    x = call.tensor_of("self")
    axis = call.axis(call["dim"], call.rank(x))
    return [call.selected(x, axis, i) for i in range(call.fixed_size(x, axis))]


def _index(call: Call) -> Feature:
    """x[:, indices], with constant indices along one axis."""
    x = call.tensor_of("self")
    given = [(axis, one) for axis, one in enumerate(call["indices"]) if one is not None]
    if len(given) != 1 or given[0][1] not in call.net.constants:
        call.fail("is indexed by constants along one axis alone")
    axis, node = given[0]
    return call.gathered(x, call.net.constants[node].numpy(force=True), axis)


def _index_select(call: Call) -> Feature:
    return call.gathered(call.tensor_of("self"), call.known("index").array, call["dim"])


def _cat(call: Call) -> Feature:
    values = [call.operand_of(node) for node in call["tensors"]]
    return call.concat([x for x in values if 0 not in call.sizes_of(x)], call["dim"])


def _stack(call: Call) -> Feature:
    return call.stacked([call.operand_of(node) for node in call["tensors"]], call["dim"])


def _expand(call: Call) -> Feature:
    """To the shape that PyTorch says: whether its sizes are those of images is not recorded."""
    call.ignore()
    x, target = call.tensor_of(0), call.out_shape
    if (1,) * (len(target) - call.rank(x)) + call.shape(0) != target and len(call.net.input.shape) == 3:
        call.fix_size(f"which spreads its input to {target[1:]}")
    return call.spread(x, target)


def _expand_as(call: Call) -> Feature:
    x, other = call.tensor_of(0), call.operand(1)
    return call.spread(x, other.shape) if isinstance(other, Known) else call.spread_as(x, other)


def _repeat(call: Call) -> Feature:
    counts = call["repeats"] if call.operator == "repeat" else call["dims"]
    return call.tiled(call.tensor_of("self"), counts)


def _repeat_interleave(call: Call) -> Feature:
    call.ignore("output_size")
    x, count = call.tensor_of("self"), call["repeats"]
    if not isinstance(count, int) or call["dim"] is None:
        call.fail("repeats each number as often, along an axis")
    axis = call.axis(call["dim"], call.rank(x)) + 1
    again = list(call.shape("self"))
    again.insert(axis, count)
    return call.shaped(call.spread(call.with_axis(x, axis), again), call.out_shape)


def _roll(call: Call) -> Feature:
    if not call["dims"]:
        call.fail("rolls along named axes alone")
    return call.rolled(call.tensor_of("self"), _listed(call["shifts"]), _listed(call["dims"]))


def _pad(call: Call) -> Feature:
    x, given = call.tensor_of("self"), call["pad"]
    mode = call["mode"] if "mode" in call.defaults else "constant"
    value = call["value"] if "value" in call.defaults else 0
    if mode not in ("constant", "reflect", "replicate", "circular"):
        call.fail(f"padding of mode {mode!r} has no counterpart")
    sides = [(0, 0)] * call.rank(x)
    for k, pair in enumerate(zip(given[::2], given[1::2], strict=True)):
        sides[call.rank(x) - 1 - k] = pair
    if mode != "circular":
        return call.padded_tensor(x, sides, mode, float(value or 0))
    if min(map(min, sides)) < 0:
        call.fail(f"cuts and goes around: pad is {given}")
    for axis, (before, after) in enumerate(sides):
        if not before and not after:
            continue
        ends = [call.sliced(x, axis, -before, None)] if before else []
        starts = [call.sliced(x, axis, 0, after)] if after else []
        x = call.concat([*ends, x, *starts], axis)
    return x


# Arithmetic -------------------------------------------------------------------------------------------


def _each(layer: str, *options: str) -> _Translator:
    """A layer that goes element by element, with these arguments of the call."""

    def translate(call: Call) -> Feature:
        args = (call[name] for name in options)
        return call.each(layer, call.tensor_of(0), *(float(a) if isinstance(a, int) else a for a in args))

    return translate


def _two(layer: str) -> _Translator:
    return lambda call: call.combined(layer, call.operand("self"), call.operand("other"))


def _add(call: Call, sign: int = 1) -> Feature:
    x, y = call.operand("self"), call.operand("other")
    return call.combined("add", x, call.times(y, sign * call["alpha"], x))


def _add_product(call: Call) -> Feature:
    """self + value * tensor1 * tensor2."""
    one, two_ = call.operand("tensor1"), call.operand("tensor2")
    if isinstance(one, Known) and isinstance(two_, Known):
        call.fail("adds a product that is constant")
    product = call.scaled(call.combined("multiply", one, two_), float(call["value"]))
    return call.combined("add", call.operand("self"), product)


def _reverse_subtract(call: Call) -> Feature:
    x, y = call.operand("self"), call.operand("other")
    call.expect("alpha", 1)
    return call.combined("add", y, call.times(x, -1, y))


def _divide(call: Call) -> Feature:
    if "rounding_mode" in call.defaults:
        call.expect("rounding_mode", None)
    return call.divided(call.operand("self"), call.operand("other"))


def _power(call: Call) -> Feature:
    x, y = call.operand("self"), call.operand("exponent")
    if isinstance(x, Feature) and isinstance(y, Known) and y.array.size == 1 and y.array.reshape(()) == 2:
        return call.combined("multiply", x, x)
    if isinstance(x, Feature) and isinstance(y, Known) and y.array.size == 1:
        return call.each("power", x, float(y.array.reshape(())))
    call.fail("takes values to the power of numbers alone")


def _reciprocal(call: Call) -> Feature:
    return call.combined("divide", Known(np.ones(())), call.tensor_of("self"))


def _rsqrt(call: Call) -> Feature:
    return call.combined("divide", Known(np.ones(())), call.each("power", call.tensor_of("self"), 0.5))


def _clamp(call: Call, low: str = "min", high: str = "max") -> Feature:
    bounds = []
    for name, absent in ((low, -math.inf), (high, math.inf)):
        given = call[name] if name in call.defaults else None
        bound = None if given is None else call.operand_of(given)
        if bound is not None and (not isinstance(bound, Known) or bound.array.size != 1):
            call.fail("values are clamped to numbers alone")
        bounds.append(absent if bound is None else float(bound.array.reshape(())))
    return call.each("clip", call.tensor_of("self"), *bounds)


def _where(call: Call) -> Feature:
    """x where a constant mask is True, else y."""
    return call.chosen(call.known("condition").array, call.operand("self"), call.operand("other"))


def _masked_fill(call: Call) -> Feature:
    value = call.as_number(call["value"])
    return call.chosen(call.known("mask").array, Known(np.array(value)), call.tensor_of("self"))


def _prelu(call: Call) -> Feature:
    x, slope = call.tensor_of("self"), call.known("weight")
    if slope.array.size > 1:
        shape = [1] * call.rank(x)
        shape[1] = -1
        slope = Known(slope.array.reshape(shape), slope.name)
    return call.bent(x, slope)


def _glu(call: Call) -> Feature:
    x, axis = call.tensor_of("self"), call["dim"]
    half = call.shape("self")[axis] // 2
    a, b = call.split(x, axis, (half, half))
    return call.combined("multiply", a, call.each("sigmoid", b))


def _selu(call: Call) -> Feature:
    """gamma * elu(x, alpha), with the constants of Klambauer et al. 2017 (arXiv:1706.02515)."""
    gamma, alpha = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717
    return call.each("scale", call.each("elu", call.tensor_of("self"), alpha), gamma)


def _celu(call: Call) -> Feature:
    """alpha * elu(x / alpha)."""
    alpha = float(call["alpha"])
    x = call.each("scale", call.tensor_of("self"), 1 / alpha)
    return call.each("scale", call.each("elu", x, 1.0), alpha)


def _elu(call: Call) -> Feature:
    call.expect("input_scale", 1)
    scale, alpha = float(call["scale"]), float(call["alpha"])
    return call.scaled(call.each("elu", call.tensor_of("self"), alpha), scale)


def _log_sigmoid(call: Call) -> Feature:
    x = call.each("scale", call.tensor_of("self"), -1.0)
    return call.each("scale", call.each("softplus", x), -1.0)


def _softplus(call: Call) -> Feature:
    """log(1 + exp(beta * x)) / beta; PyTorch takes x itself where beta * x is above the threshold."""
    beta = float(call["beta"])
    if not beta:
        call.fail("beta is 0, by which PyTorch divides")
    if call["threshold"] < _EXACT_FROM:
        call.fail(f"threshold is {call['threshold']}, here at least {_EXACT_FROM}")
    return call.scaled(call.each("softplus", call.scaled(call.tensor_of("self"), beta)), 1 / beta)


def _dropout(call: Call) -> Feature:
    return call.each("dropout", call.tensor_of(0), {"p": share_dropped(call)})


def _channel_dropout(call: Call) -> Feature:
    """x times a 1 for each channel, from which values are dropped."""
    x, p = call.tensor_of(0), share_dropped(call)
    ones = call.beside(Known(np.ones((1, call.shape(0)[1], *(1,) * (call.rank(x) - 2)))), x)
    return call.combined("multiply", x, call.each("dropout", ones, {"p": p}))


# Sums over axes ---------------------------------------------------------------------------------------


def _axes(call: Call, name: str = "dim") -> list[int]:
    """The axes of a reduction; all but that of the samples are not all axes."""
    given = call[name] if name in call.defaults else None
    if given is None or given == []:
        call.fail("goes over all samples, which stay apart")
    return _listed(given)


def _reduction(layer: str) -> _Translator:
    return lambda call: call.reduced(layer, call.tensor_of("self"), _axes(call), bool(call["keepdim"]))


def _amin(call: Call) -> Feature:
    return call.least(call.tensor_of("self"), _axes(call), bool(call["keepdim"]))


def _max(call: Call) -> Feature:
    if "other" in call.defaults:
        return call.combined("maximum", call.operand("self"), call.operand("other"))
    return call.reduced("reduce_max", call.tensor_of("self"), _axes(call), bool(call["keepdim"]))


def _min(call: Call) -> Feature:
    if "other" in call.defaults:
        return call.combined("minimum", call.operand("self"), call.operand("other"))
    return _amin(call)


def _norm(call: Call) -> Feature:
    kind = call["ord"] if "ord" in call.defaults else call["p"]
    if kind not in (2, 2.0, None):
        call.fail(f"the norm of order {kind} has no counterpart")
    return call.norm(call.tensor_of(0), _axes(call), bool(call["keepdim"]))


def _variance(call: Call) -> Feature:
    x, axes = call.tensor_of("self"), _axes(call)
    if "correction" in call.defaults:
        correction = 1 if call["correction"] is None else call["correction"]
    else:
        correction = int(call["unbiased"])
    keep = bool(call["keepdim"])
    centred = call.combined("add", x, call.each("scale", call.reduced("reduce_mean", x, axes, True), -1.0))
    squares = call.reduced("reduce_mean", call.combined("multiply", centred, centred), axes, keep)
    if not correction:
        return squares
    count = math.prod(call.fixed_size(x, call.axis(axis, call.rank(x))) for axis in axes)
    if count <= correction:
        call.fail(f"the variance of {count} numbers with a correction of {correction} has no counterpart")
    return call.scaled(squares, count / (count - correction))


def _deviation(call: Call) -> Feature:
    return call.each("power", _variance(call), 0.5)


# Norms, products, attention ---------------------------------------------------------------------------


def _softmax(layer: str) -> _Translator:
    return lambda call: call.normalised(layer, call.tensor_of("self"), call["dim"])


def _layer_norm(call: Call) -> Feature:
    count = len(call["normalized_shape"])
    return call.trailing_norm(call.tensor_of("input"), count, call["eps"])


def _rms_norm(call: Call) -> Feature:
    """x / sqrt(mean(x**2) + eps) * weight over the last axes (Zhang and Sennrich 2019, arXiv:1910.07467)."""
    eps = torch.finfo(call.net.recorded_dtype).eps if call["eps"] is None else call["eps"]
    x, count = call.tensor_of("input"), len(call["normalized_shape"])
    axes = list(range(call.rank(x) - count, call.rank(x)))
    squares = call.reduced("reduce_mean", call.combined("multiply", x, x), axes, True)
    root = call.each("power", call.combined("add", squares, Known(np.array(eps))), 0.5)
    made = call.combined("divide", x, root)
    return made if call["weight"] is None else call.combined("multiply", made, call.operand("weight"))


def _group_norm(call: Call) -> Feature:
    """Normalise values that are no images as images of one column."""
    x = call.tensor_of("input")
    N, C, *rest = call.shape("input")
    x = call.shaped(x, (N, C, math.prod(rest), 1))
    args = call["num_groups"], {"eps": call["eps"]}
    made = call.emit("spatial_groupnorm", x, params=call.affine(C), args=args)
    return call.shaped(made.seen_like(x), call.out_shape)


def _batch_norm(call: Call) -> Feature:
    """Normalise rows, sequences and volumes as images."""
    bn_param, name = running_param(call)
    x, (samples, C, *rest) = call.tensor_of("input"), call.shape("input")
    x = call.shaped(x, (call.net.batch, samples // call.net.batch, C, math.prod(rest)))
    x = call.ordered(x, (0, 2, 1, 3))
    made = call.emit("spatial_batchnorm", x, params=call.affine(C), args=(bn_param,), statistics=name)
    return call.shaped(call.ordered(made.seen_like(x), (0, 2, 1, 3)), call.out_shape)


def _with_depth(call: Call, x: Feature) -> Feature:
    """Images whose samples share their axis with windows, as volumes whose layers are the windows."""
    x, shape = call.tensor(x), x.source_shape(call.net.batch)
    if (x.batch_axis, x.before) != (0, 1) or len(shape) != 4:
        call.fail(f"takes images, got {shape}")
    return call.ordered(call.shaped(x, (call.net.batch, x.behind, *shape[1:])), (0, 2, 1, 3, 4))


def _without_depth(call: Call, made: Feature) -> Feature:
    return call.shaped(call.ordered(made, (0, 2, 1, 3, 4)), call.out_shape)


def _conv(call: Call) -> Feature:
    """Convolve images whose samples share their axis with windows: each is a layer of a volume."""
    x = call.tensor(call.tensor_of("input"))
    kernel, stride, dilation = call.shape("weight")[2:], two(call["stride"]), two(call["dilation"])
    param = conv_param(call, kernel, stride, call["padding"], dilation)
    if x.by_samples:  # no windows
        made = call.emit("conv", x, params=call.given("weight", "bias"), args=(param,))
        return call.shaped(made, call.out_shape)
    param |= {"stride": (1, *stride), "pad": ((0, 0), *param["pad"]), "dilation": (1, *dilation)}
    made = call.emit("conv3d", _with_depth(call, x), params=_with_an_axis(call), args=(param,))
    return _without_depth(call, made)


def _conv_of_rows(call: Call) -> Feature:
    """Convolve sequences as images of one row."""
    x = call.tensor_of("input")
    N, C, L = call.shape("input")
    x = call.tensor(call.shaped(x, (N, C, 1, L)))
    if not x.by_samples:
        call.fail("takes sequences, whose samples share an axis")
    pad = call["padding"] if isinstance(call["padding"], str) else (0, call["padding"][0])
    kernel = (1, *call.shape("weight")[2:])
    param = conv_param(call, kernel, (1, call["stride"][0]), pad, (1, call["dilation"][0]))
    return call.shaped(call.emit("conv", x, params=_with_an_axis(call), args=(param,)), call.out_shape)


def _with_an_axis(call: Call) -> tuple[str | None, ...]:
    """The parameters of a convolution, the weights with an axis of 1 before those of the kernel."""
    w, name = call.weights("weight")
    assert w is not None  # PyTorch requires it
    return (call.parameter("weight", w[:, :, None], name), *call.given("bias"))


def _max_pool(call: Call) -> Feature:
    """Pool images whose samples share their axis with windows: each is a layer of a volume."""
    x = _with_depth(call, call.tensor_of("self"))
    kernel = two(call["kernel_size"])
    stride = two(call["stride"]) if call["stride"] else kernel
    param = {
        "size": (1, *kernel),
        "stride": (1, *stride),
        "pad": (0, *two(call["padding"])),
        "dilation": (1, *two(call["dilation"])),
        "ceil_mode": bool(call["ceil_mode"]),
    }
    return _without_depth(call, call.emit("max_pool3d", x, args=(param,)))


def _linear(call: Call) -> Feature:
    x = call.tensor_of("input")
    (w, w_name), (b, b_name) = call.weights("weight"), call.weights("bias")
    assert w is not None  # PyTorch requires it
    return call.linear(x, w.T, b, (w_name, b_name))


def _matmul(call: Call) -> Feature:
    return call.matrix_product(call.operand(0), call.operand(1))


def _add_matmul(call: Call) -> Feature:
    one, other = ("batch1", "batch2") if call.operator == "baddbmm" else ("mat1", "mat2")
    made = call.scaled(call.matrix_product(call.operand(one), call.operand(other)), float(call["alpha"]))
    if call["beta"] == 0:
        return made
    return call.combined("add", call.times(call.operand("self"), call["beta"], made), made)


def _einsum(call: Call) -> Feature:
    call.ignore("path")
    values = [call.operand_of(node) for node in call["tensors"]]
    if len(values) != 2:
        call.fail(f"an einsum of {len(values)} operands has no counterpart")
    return call.contracted(call["equation"], *values)


def _attention(call: Call) -> Feature:
    if call["dropout_p"]:
        call.fail("it drops values in eval mode too")
    call.ignore("enable_gqa")  # PyTorch refuses heads that differ without it
    q, k, v = (call.operand(name) for name in ("query", "key", "value"))
    mask = None if call["attn_mask"] is None else call.operand("attn_mask")
    return call.attended(q, k, v, mask, call["scale"], bool(call["is_causal"]))


def _resize(call: Call, mode: str) -> Feature:
    """To the size that PyTorch says."""
    call.ignore("output_size")
    align = bool(call["align_corners"]) if "align_corners" in call.defaults else False
    factors = call["scale_factors"] if "scale_factors" in call.defaults else None
    if "scales_h" in call.defaults:
        factors = [call["scales_h"], call["scales_w"]]
    scales = [factor or None for factor in factors or (None, None)]
    x = call.tensor(call.tensor_of(0))
    if not x.by_samples or len(x.shape) != 3:
        call.fail(f"resizes images (N, C, H, W), got {call.shape(0)}")
    if mode == "nearest":
        return call.resized(x, call.out_shape[2:], mode, PYTORCH_NEAREST, scales)
    return call.resized(x, call.out_shape[2:], mode, "align_corners" if align else "half_pixel", scales)


TENSORS: dict[str, _Translator] = {
    **dict.fromkeys(
        (
            "flatten",
            "unflatten",
            "view",
            "view_as",
            "reshape",
            "reshape_as",
            "squeeze",
            "unsqueeze",
            "_unsafe_view",
        ),
        _shape,
    ),
    "permute": _permute,
    **dict.fromkeys(("transpose", "swapaxes", "swapdims"), _transpose),
    "mT": lambda call: call.moved(call.tensor_of(0), -1, -2),
    "t": lambda call: call.ordered(call.tensor_of("self"), (1, 0)),
    "numpy_T": lambda call: call.ordered(call.tensor_of("self"), range(len(call.shape("self")))[::-1]),
    "movedim": _move,
    "moveaxis": _move,
    "pixel_shuffle": _pixel_shuffle,
    "pixel_unshuffle": _pixel_unshuffle,
    "channel_shuffle": _channel_shuffle,
    "im2col": _windows,
    "unfold": _unfold_axis,
    "slice": _slice,
    "narrow": _narrow,
    "select": _select,
    **dict.fromkeys(
        ("chunk", "split", "split_with_sizes", "unsafe_chunk", "unsafe_split", "tensor_split"), _parts
    ),
    "unbind": _unbind,
    "index": _index,
    "index_select": _index_select,
    **dict.fromkeys(("cat", "concat", "concatenate"), _cat),
    "stack": _stack,
    **dict.fromkeys(("expand", "broadcast_to"), _expand),
    "expand_as": _expand_as,
    "repeat": _repeat,
    "tile": _repeat,
    "repeat_interleave": _repeat_interleave,
    "roll": _roll,
    "flip": lambda call: call.flipped(call.tensor_of("self"), call["dims"]),
    **dict.fromkeys(("pad", "constant_pad_nd"), _pad),
    **{
        op.aten[0]: _each(op.name, *op.aten_arguments)
        for op in OPS.values()
        if op.aten_arguments is not None and op.elementwise
    },
    "sqrt": lambda call: call.each("power", call.tensor_of("self"), 0.5),
    "mish": lambda call: call.mish(call.tensor_of("self")),
    "dropout": _dropout,
    "feature_dropout": _channel_dropout,
    "add": _add,
    "sub": lambda call: _add(call, -1),
    "addcmul": _add_product,
    "rsub": _reverse_subtract,
    "mul": lambda call: call.multiplied(call.operand("self"), call.operand("other")),
    "div": _divide,
    "pow": _power,
    "square": lambda call: call.combined("multiply", *[call.tensor_of("self")] * 2),
    "neg": lambda call: call.each("scale", call.tensor_of("self"), -1.0),
    "reciprocal": _reciprocal,
    "rsqrt": _rsqrt,
    "minimum": _two("minimum"),
    "maximum": _two("maximum"),
    "clamp": _clamp,
    "clamp_min": _clamp,
    "clamp_max": _clamp,
    "hardtanh": lambda call: _clamp(call, "min_val", "max_val"),
    "where": _where,
    "masked_fill": _masked_fill,
    "prelu": _prelu,
    "_prelu_kernel": _prelu,
    "glu": _glu,
    "selu": _selu,
    "celu": _celu,
    "elu": _elu,
    "log_sigmoid": _log_sigmoid,
    "softplus": _softplus,
    "sum": _reduction("reduce_sum"),
    "mean": _reduction("reduce_mean"),
    "amax": _reduction("reduce_max"),
    "amin": _amin,
    "max": _max,
    "min": _min,
    **dict.fromkeys(("norm", "linalg_vector_norm"), _norm),
    "var": _variance,
    "std": _deviation,
    "softmax": _softmax("softmax"),
    "log_softmax": _softmax("log_softmax"),
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "group_norm": _group_norm,
    "batch_norm": _batch_norm,
    "conv2d": _conv,
    "conv1d": _conv_of_rows,
    "max_pool2d": _max_pool,
    "linear": _linear,
    **dict.fromkeys(("matmul", "bmm", "mm"), _matmul),
    **dict.fromkeys(("addmm", "baddbmm"), _add_matmul),
    "einsum": _einsum,
    "scaled_dot_product_attention": _attention,
    "upsample_nearest2d": lambda call: _resize(call, "nearest"),
    "upsample_bilinear2d": lambda call: _resize(call, "bilinear"),
    "upsample_bicubic2d": lambda call: _resize(call, "bicubic"),
}
