"""Convolutions, pools, resizing and padding."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from cnnlib._params import same_sides
from cnnlib.graph.importing import Feature, Sides
from cnnlib.graph.ops.sizes import batch_of
from cnnlib.onnx.reading.files import Constant
from cnnlib.onnx.reading.operator import Operator

_POLICIES = ("stretch", "not_larger", "not_smaller")
# Before version 11 there is the first of these alone.
_COORDINATES = ("asymmetric", "half_pixel", "pytorch_half_pixel", "align_corners")
_ROUNDINGS = ("floor", "round_prefer_floor", "round_prefer_ceil", "ceil")
_AUTO_PADS = ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")


def _conv(op: Operator) -> Feature:
    w = op.weights(0)
    x = op.grid(padded_with=0.0)
    if w.ndim != len(x.view) + 1:
        op.fail(f"w has the shape {w.shape}, the input {batch_of(x.view)}")
    op.expect("kernel_shape", list(w.shape[2:]))
    param = {**_windows(op, x, w.shape[2:]), "groups": op["group"]}
    return op.emit(_layer("conv", x), x.bare(), params=_weights(op, w), args=(param,))


def _pooled_conv(op: Operator) -> Feature:
    """A 1x1 convolution of what a global pool made (N, C): an affine layer."""
    x, w = op.feature(), op.weights(0)
    if w.shape[2:] != (1, 1) or op["group"] != 1:
        op.fail(f"behind a global pool only 1x1 filters without groups have a counterpart, got w {w.shape}")
    op.expect("kernel_shape", [1, 1])
    op.ignore("strides", "dilations")
    op.choice("auto_pad", *_AUTO_PADS)
    op.expect("pads", [0] * 4)
    return op.product(x, w[:, :, 0, 0].T, _bias(op), op.names[1:]).seen_as((len(w), 1, 1))


def conv(op: Operator) -> Feature:
    x = op.inputs[0] if op.inputs else None
    if isinstance(x, Feature) and len(x.shape) == 1 and x.view == (*x.shape, 1, 1):
        return _pooled_conv(op)
    return _conv(op)


def conv_transpose(op: Operator) -> Feature:
    x, w = op.images(), op.floats(1, "w")
    if w.ndim != 4:
        op.fail(f"w has the shape {w.shape}, expected (C, F / groups, KH, KW)")
    op.expect("kernel_shape", list(w.shape[2:]))
    stride, dilation = op.numbers("strides", 2, 1), op.numbers("dilations", 2, 1)
    output_pad = op.numbers("output_padding", 2, 0)
    auto = op.choice("auto_pad", *_AUTO_PADS)
    pad, size = _sides((0,) * 4 if auto == "VALID" else op.numbers("pads", 4, 0)), op["output_shape"]
    if size is None and auto.startswith("SAME"):
        size = [n * s for n, s in zip(x.shape[1:], stride, strict=True)]
        spans = [d * (k - 1) + 1 for d, k in zip(dilation, w.shape[2:], strict=True)]
        if any(s > span for s, span in zip(stride, spans, strict=True)):
            op.fail(f"auto_pad {auto} with strides {stride} over windows of {spans} has no one meaning")
    if size is not None:
        axes = zip(x.shape[1:], stride, dilation, w.shape[2:], output_pad, strict=True)
        whole = [(n - 1) * s + d * (k - 1) + 1 + extra for n, s, d, k, extra in axes]
        cut = [n - wanted for n, wanted in zip(whole, size[-2:], strict=True)]
        # What is wanted beyond the whole comes at the end.
        output_pad = (output_pad[0] + max(0, -cut[0]), output_pad[1] + max(0, -cut[1]))
        pad = _split(cut, lower=auto != "SAME_UPPER")
    param = {"stride": stride, "dilation": dilation, "pad": pad, "output_pad": output_pad}
    return op.emit("conv_transpose", x, params=_weights(op, w), args=({**param, "groups": op["group"]},))


def max_pool(op: Operator) -> Feature:
    x = _pooled(op, -np.inf)
    op.ignore("storage_order")  # of the second output
    return op.emit(_layer("max_pool", x), x.bare(), args=(_pool_param(op, x),))


def avg_pool(op: Operator) -> Feature:
    x = _pooled(op, 0.0)
    counted = bool(op["count_include_pad"])
    param = _pool_param(op, x)
    if x.pad is not None and not counted and param["pad"] != x.pad:
        op.fail("padding that counts and padding that does not have no counterpart here together")
    if any(step != 1 for step in param.pop("dilation")):
        op.fail("attribute dilations: average pooling has none here")
    param["count_include_pad"] = counted or x.pad is not None
    return op.emit(_layer("avg_pool", x), x.bare(), args=(param,))


def pad(op: Operator) -> Feature:
    """Padding is left to the layer behind it."""
    x = op.images()
    amounts = op.integers(1, "pads")
    if amounts is None:
        op.fail("pads is missing")
    axes = op.integers(3, "axes") if op.has(3) else None
    value = op.scalar(2, "value", 0.0)
    sides = [(0, 0)] * 4
    for axis, side in zip(axes or range(4), _sides(tuple(amounts)), strict=True):
        sides[axis] = side
    if any(map(any, sides[:2])) or min(map(min, sides)) < 0:
        op.fail(f"pads are {amounts}; here only height and width are padded, never cut")
    return op.padded(x, tuple(sides[2:]), value)


def resize(op: Operator) -> Feature:
    """Resize (versions 10 to 19) and Upsample: enlarging by a whole factor."""
    x = op.images()
    scale = _factors(op, x)
    mode = op.choice("mode", "nearest", "linear", "bilinear")
    axes = op.choice("coordinate_transformation_mode", *_COORDINATES)
    rounding = op.choice("nearest_mode", *_ROUNDINGS)
    op.ignore("cubic_coeff_a", "extrapolation_value")  # of ways that are refused
    if scale == (1, 1):
        return x
    if mode == "nearest":
        # At half pixels, too, output pixel i copies input pixel i // scale.
        plain = axes == "asymmetric" and rounding == "floor"
        if not plain and not (axes.endswith("half_pixel") and rounding.startswith("round")):
            op.fail(f"nearest pixels by {axes} and {rounding} have no counterpart here")
        return op.emit("upsample", x, args=(scale, "nearest", False))
    if axes == "asymmetric":
        op.fail("bilinear resizing with asymmetric coordinates has no counterpart here")
    return op.emit("upsample", x, args=(scale, "bilinear", axes == "align_corners"))


def _factors(op: Operator, x: Feature) -> tuple[int, int]:
    """The factors of height and width, as whole numbers."""
    rank = len(x.view) + 1
    axes = [op.axis(axis, rank) for axis in op["axes"] or range(rank)]
    policy = op.choice("keep_aspect_ratio_policy", *_POLICIES)
    if op.kind == "Upsample" or op.opset < 11:
        listed = op.floats(1, "scales") if op.has(1) else np.array(op["scales"] or ())
        sizes = np.empty(0)
    else:
        listed = op.floats(2, "scales") if op.has(2) else np.empty(0)
        sizes = op.constant(3, "sizes") if op.has(3) and not listed.size else np.empty(0)
    given = sizes if sizes.size else listed
    if given.shape != (len(axes),) or len(set(axes)) != len(axes):
        op.fail(f"scales or sizes are {given.tolist()}, for {len(axes)} axes")
    known = dict(zip(axes, given.tolist(), strict=True))
    factors = _of_sizes(op, x, known, policy) if sizes.size else known
    if any(factors.get(axis, 1) != 1 for axis in (0, 1)):
        op.fail(f"factors {factors}; here height and width grow, not the number of images and channels")
    wanted = [float(factors.get(axis, 1)) for axis in (2, 3)]
    if any(not math.isfinite(factor) or factor < 1 or factor != int(factor) for factor in wanted):
        op.fail(f"factors {wanted}; here images grow by whole ones")
    return int(wanted[0]), int(wanted[1])


def _of_sizes(op: Operator, x: Feature, known: Mapping[int, int], policy: str) -> dict[int, float]:
    """The factor of each axis that has a size."""
    factors = {axis: size / x.view[axis - 1] for axis, size in known.items() if axis > 0}
    if 0 in known:  # any number may be that which the file was made with
        op.net.counts.append(known[0])
        factors[0] = 1.0
    if policy == "stretch":
        return factors
    factor = (min if policy == "not_larger" else max)(factors.values())
    return dict.fromkeys(factors, factor)


def _bias(op):
    return op.floats(2, "b", ndim=1) if op.has(2) else None


def _weights(op: Operator, w: Constant) -> tuple[str | None, ...]:
    b = _bias(op)
    return (*op.parameters(w=w), None) if b is None else op.parameters(w=w, b=b)


def _pooled(op: Operator, padded_with: float) -> Feature:
    """The input of a pool; padding before it stays apart where the pool may take it in.

    A pool has less padding than its window, and ceil_mode takes what follows the image for the pool's own.
    """
    x = op.inputs[0] if op.inputs else None
    if isinstance(x, Feature) and x.pad is not None:
        own, kernel = op["pads"] or [0] * 2 * len(x.pad), op["kernel_shape"] or []
        sides = [n for side in (0, 1) for n in [pair[side] for pair in x.pad]]
        wide = any(a + b >= k for a, b, k in zip(sides, own, [*kernel, *kernel], strict=False))
        if wide or (op["ceil_mode"] and any(behind for _, behind in x.pad)):
            padded_with = math.nan
    return op.grid(padded_with=padded_with)


def _layer(name: str, x: Feature) -> str:
    """A layer of images, or its counterpart for sequences (N, C, L) or volumes (N, C, D, H, W)."""
    return name + {1: "1d", 2: "", 3: "3d"}[len(x.view) - 1]


def _pool_param(op: Operator, x: Feature) -> dict[str, Any]:
    count = len(x.view) - 1
    kernel = op.numbers("kernel_shape", count, 1)
    return {"size": kernel, **_windows(op, x, kernel), "ceil_mode": bool(op["ceil_mode"])}


def _windows(op: Operator, x: Feature, kernel: tuple[int, ...]) -> dict[str, Any]:
    """stride, dilation and pad, common to convolutions and pools; the padding of x is added."""
    count = len(x.view) - 1
    stride, dilation = op.numbers("strides", count, 1), op.numbers("dilations", count, 1)
    if min(*stride, *dilation, 1) < 1:
        op.fail(f"strides are {stride}, dilations {dilation}")
    auto = op.choice("auto_pad", *_AUTO_PADS)
    pads = _sides(op.numbers("pads", 2 * count, 0))
    window = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    if auto == "SAME_UPPER" and x.pad is None:
        return {"stride": stride, "dilation": dilation, "pad": "same"}
    if auto.startswith("SAME"):
        sides = [same_sides(*axis) for axis in zip(x.view[1:], window, stride, strict=True)]
        pads = tuple(side[::-1] if auto == "SAME_LOWER" else side for side in sides)
    elif auto == "VALID":
        pads = ((0, 0),) * count
    if x.pad is not None:
        pads = tuple((a[0] + b[0], a[1] + b[1]) for a, b in zip(pads, x.pad, strict=True))
    return {"stride": stride, "dilation": dilation, "pad": pads}


def _sides(values: tuple[int, ...]) -> Sides:
    """Pads in ONNX's order, all begins before all ends."""
    half = len(values) // 2
    return tuple(zip(values[:half], values[half:], strict=True))


def _split(totals: list[int], lower: bool) -> Sides:
    """Halves of the padding on each axis; the odd pixel goes to the end, or to the beginning if `lower`."""
    halves = [(max(0, total) // 2, max(0, total) - max(0, total) // 2) for total in totals]
    return tuple((end, begin) if lower else (begin, end) for begin, end in halves)


OPERATORS: dict[str, Callable[[Operator], Feature]] = {
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "MaxPool": max_pool,
    "AveragePool": avg_pool,
    "GlobalAveragePool": lambda op: op.averaged(op.images(), keep=True, images=op.net.pools_keep_images),
    "GlobalMaxPool": lambda op: op.emit("adaptive_max_pool", op.images(), args=(1,)),
    "Pad": pad,
    "Resize": resize,
    "Upsample": resize,
}
