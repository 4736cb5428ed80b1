"""Random configurations of the layers that PyTorch has too, and what both sides make of them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field

import cnnlib
import numpy as np
import torch
from helpers import as_tuple, cast, random_arrays
from torch.nn import functional


@dataclass
class Case:
    """One configuration; `ours(dtype)` and `theirs(dtype)` give the same results, by name.

    `spoil(dtype)` leaves NaN in the scratch memory that our side recycles, so that reading what was never
    written shows.
    An error counts relative to the largest value wanted, or to `floors[name]` where that is larger: a sum
    that happens to cancel is no measure of its own error.
    """

    text: str
    ours: Callable[[np.dtype], dict]
    theirs: Callable[[torch.dtype], dict]
    floors: dict = field(default_factory=dict)
    spoil: Callable[[np.dtype], object] = lambda dtype: None

    def scale(self, name, want):
        """What errors of a result count against."""
        return max(largest(want[name]), self.floors.get(name, 0.0)) or 1.0


def largest(values):
    values = np.abs(values)
    return float(np.max(values, where=np.isfinite(values), initial=0.0))


def upstream(shape):
    """The gradient that arrives at an output of this shape."""
    return random_arrays(np.random.default_rng(len(shape)), shape)[0]


def describe(arrays, params):
    """All that is not drawn from a normal distribution: shapes and parameters."""
    words = [f"{name}{list(a.shape)}" for name, a in arrays.items() if a is not None]
    for param in params:
        if isinstance(param, dict):
            param = {k: list(v.shape) if isinstance(v, np.ndarray) else v for k, v in param.items()}
        words.append(str(param))
    return " ".join(words)


def layer_case(layer, arrays, function, rest=lambda dtype: (), floors=1.0):
    """A layer on named float64 arrays; `rest(dtype)` makes the arguments that follow, for our side.

    `function` maps tensors to the output, or to it and named results beside it (running statistics).
    `floors` is one number for all results, or goes by name.
    """
    forward, backward = getattr(cnnlib, f"{layer}_forward"), getattr(cnnlib, f"{layer}_backward")
    gradients = [f"d{name}" for name in arrays]

    def spoil(dtype):
        ours(dtype, {name: a if a is None else np.full(a.shape, np.nan) for name, a in arrays.items()})

    def ours(dtype, arrays=arrays):
        params = rest(dtype)
        out, cache = forward(*cast(arrays.values(), dtype), *params)
        grads = as_tuple(backward(upstream(out.shape).astype(dtype), cache))
        dicts = [p for p in params if isinstance(p, dict)]
        running = {k: p[k] for p in dicts for k in ("running_mean", "running_var") if k in p}
        return {"out": out, **dict(zip(gradients, grads, strict=True)), **running}

    def theirs(dtype):
        tensors = [
            None if a is None else torch.tensor(a, dtype=dtype, requires_grad=True) for a in arrays.values()
        ]
        result = function(*tensors)
        out, beside = result if isinstance(result, tuple) else (result, {})
        out.backward(torch.tensor(upstream(tuple(out.shape)), dtype=dtype))
        results = {"out": out.detach(), **{g: t if t is None else t.grad for g, t in zip(gradients, tensors)}}
        return {name: t if t is None else t.numpy() for name, t in (results | beside).items()}

    if not isinstance(floors, dict):
        floors = dict.fromkeys(["out", *gradients], floors)
    return Case(describe(arrays, rest(np.float64)), ours, theirs, floors, spoil)


# Geometry ---------------------------------------------------------------------------------------------


def pair(rng, low, high):
    """(vertical, horizontal), equal half of the time."""
    vertical, horizontal = (int(v) for v in rng.integers(low, high + 1, 2))
    return (vertical, vertical if rng.random() < 0.5 else horizontal)


def spelled(rng, values):
    """A pair as users write it: two equal values often as one."""
    return values[0] if values[0] == values[1] and rng.random() < 0.7 else values


def channels(rng):
    """Mostly few, at times more than a register or a block of them."""
    return int(rng.integers(1, rng.choice([4, 4, 18, 70]) + 1))


def same_sides(size, window, stride):
    totals = [max(0, (-(-n // s) - 1) * s + k - n) for n, k, s in zip(size, window, stride)]
    return tuple((total // 2, total - total // 2) for total in totals)


def draw_pads(rng, window, stride, most, extra=9):
    """`pad` in one of its spellings, the ((top, bottom), (left, right)) that it means, and an image's size.

    No side gets more than `most` (vertical, horizontal); the padded image holds at least one window.
    """
    form = rng.choice(["symmetric", "symmetric", "sides", "same", "valid"])
    if form == "same":
        size = pair(rng, 1, extra)
        return "same", same_sides(size, window, stride), size
    top, left = (int(rng.integers(0, m + 1)) for m in most)
    bottom, right = (int(rng.integers(0, m + 1)) for m in most) if form == "sides" else (top, left)
    sides = ((top, bottom), (left, right)) if form != "valid" else ((0, 0), (0, 0))
    given = {"sides": sides, "valid": "valid"}.get(form, spelled(rng, (top, left)))
    size = tuple(max(1, k - sum(s)) + int(rng.integers(0, extra)) for k, s in zip(window, sides))
    return given, sides, size


def symmetric(sides):
    return all(before == after for before, after in sides)


def pad_tensor(x, sides, value=0.0):
    return functional.pad(x, (*sides[1], *sides[0]), value=value)


# Convolutions -----------------------------------------------------------------------------------------


def conv2d(x, w, b, stride, sides, dilation, groups, same=False):
    """`same` leaves the padding to PyTorch, which knows it at stride 1."""
    if same:
        return functional.conv2d(x, w, b, stride, "same", dilation, groups)
    if symmetric(sides):
        return functional.conv2d(x, w, b, stride, (sides[0][0], sides[1][0]), dilation, groups)
    return functional.conv2d(pad_tensor(x, sides), w, b, stride, 0, dilation, groups)


def conv_case(rng, C, F, kernel, stride, dilation, groups, most, algorithm):
    window = tuple(d * (k - 1) + 1 for d, k in zip(dilation, kernel))
    given, sides, size = draw_pads(rng, window, stride, most)
    N, bias = int(rng.integers(1, 4)), rng.random() < 0.8
    x, w, b = random_arrays(rng, (N, C, *size), (F, C // groups, *kernel), (F,))
    param = {"stride": spelled(rng, stride), "pad": given, "dilation": spelled(rng, dilation)}
    param |= {"groups": groups, "algorithm": algorithm}
    return layer_case(
        "conv",
        {"x": x, "w": w, "b": b if bias else None},
        lambda x, w, b: conv2d(
            x, w, b, stride, sides, dilation, groups, same=given == "same" and stride == (1, 1)
        ),
        lambda dtype: (dict(param),),
    )


def draw_conv(rng):
    groups = int(rng.choice([1, 1, 1, 2, 3]))
    C, F = groups * channels(rng), groups * channels(rng)
    kernel, stride = pair(rng, 1, rng.choice([3, 5, 7])), pair(rng, 1, 3)
    dilation = pair(rng, 1, rng.choice([1, 1, 3]))
    return conv_case(rng, C, F, kernel, stride, dilation, groups, (3, 3), str(rng.choice(["auto", "direct"])))


def draw_conv_depthwise(rng):
    C, multiplier = channels(rng), int(rng.choice([1, 1, 2, 3]))
    kernel, stride, dilation = pair(rng, 1, 5), pair(rng, 1, 3), pair(rng, 1, rng.choice([1, 1, 3]))
    return conv_case(rng, C, C * multiplier, kernel, stride, dilation, C, (3, 3), "auto")


def draw_conv_winograd(rng):
    kernels = [(3, 3), (5, 5), (1, 3), (3, 1), (1, 5), (5, 1), (1, 7), (7, 1)]
    KH, KW = kernels[rng.integers(len(kernels))]
    strides = [(1, 1), (2, 2)] if KH == KW == 3 else [(1, 1)]
    stride, pads = strides[rng.integers(len(strides))], (KH - 1, KW - 1)
    return conv_case(rng, channels(rng), channels(rng), (KH, KW), stride, (1, 1), 1, pads, "winograd")


def draw_conv_transpose(rng):
    groups = int(rng.choice([1, 1, 2, 3]))
    C, F = groups * channels(rng), groups * channels(rng)
    kernel, stride, dilation = pair(rng, 1, 4), pair(rng, 1, 3), pair(rng, 1, rng.choice([1, 1, 3]))
    output_pad = tuple(int(rng.integers(0, max(s, d))) for s, d in zip(stride, dilation))
    window = tuple(d * (k - 1) + 1 for d, k in zip(dilation, kernel))
    given, sides, _ = draw_pads(rng, window, stride, (3, 3))
    if given == "same":  # not defined here
        given, sides = 0, ((0, 0), (0, 0))
    # The smallest image that leaves an output: (size - 1) * stride + room >= 1.
    room = [k + extra - sum(s) for k, extra, s in zip(window, output_pad, sides)]
    size = tuple(max(1, 1 - (r - 1) // s) + int(rng.integers(0, 6)) for r, s in zip(room, stride))
    x, w, b = random_arrays(rng, (int(rng.integers(1, 4)), C, *size), (C, F // groups, *kernel), (F,))
    param = {"stride": spelled(rng, stride), "pad": given, "dilation": spelled(rng, dilation)}
    param |= {"groups": groups, "output_pad": spelled(rng, output_pad)}

    def function(x, w, b):
        whole = symmetric(sides)
        cut = (sides[0][0], sides[1][0]) if whole else 0
        out = functional.conv_transpose2d(x, w, b, stride, cut, output_pad, groups, dilation)
        return out if whole else pad_tensor(out, [(-before, -after) for before, after in sides])

    bias = b if rng.random() < 0.8 else None
    return layer_case("conv_transpose", {"x": x, "w": w, "b": bias}, function, lambda dtype: (dict(param),))


# Pooling ----------------------------------------------------------------------------------------------


def pool_case(rng, layer, dilation, function, options):
    """`function(x, kernel, stride, sides, native, ceil_mode)`; `native` where PyTorch takes such padding."""
    kernel = pair(rng, 1, 4) if rng.random() < 0.95 else pair(rng, 15, 17)
    stride = kernel if rng.random() < 0.3 else pair(rng, 1, 4)
    window = tuple(d * (k - 1) + 1 for d, k in zip(dilation, kernel))
    most = [k // 2 for k in kernel] if rng.random() < 0.6 else [k - 1 for k in window]
    given, sides, size = draw_pads(rng, window, stride, most, extra=int(rng.choice([9, 9, 30])))
    native = symmetric(sides) and all(s[0] <= k // 2 for s, k in zip(sides, kernel))
    # By PyTorch's rule for a last window it matters which pixels are padding, so it must know.
    ceil_mode = native and rng.random() < 0.5
    (x,) = random_arrays(rng, (int(rng.integers(1, 4)), int(rng.integers(1, 6)), *size))
    if rng.random() < 0.5:
        x = np.round(x)  # many ties
    param = {"pool_height": kernel[0], "pool_width": kernel[1], "pad": given, **options}
    param["ceil_mode"] = ceil_mode
    if stride != kernel or rng.random() < 0.5:
        param["stride"] = spelled(rng, stride)
    return layer_case(
        layer,
        {"x": x},
        lambda x: function(x, kernel, stride, sides, native, ceil_mode),
        lambda dtype: (dict(param),),
        floors=1.0 if layer == "max_pool" else 1.0 / (kernel[0] * kernel[1]),
    )


def draw_max_pool(rng):
    dilation = pair(rng, 1, rng.choice([1, 1, 3]))

    def function(x, kernel, stride, sides, native, ceil_mode):
        if native:
            pad = (sides[0][0], sides[1][0])
            return functional.max_pool2d(x, kernel, stride, pad, dilation, ceil_mode)
        return functional.max_pool2d(pad_tensor(x, sides, -torch.inf), kernel, stride, 0, dilation)

    return pool_case(rng, "max_pool", dilation, function, {"dilation": spelled(rng, dilation)})


def draw_avg_pool(rng):
    count_include_pad = bool(rng.integers(2))

    def function(x, kernel, stride, sides, native, ceil_mode):
        if native:
            pad = (sides[0][0], sides[1][0])
            return functional.avg_pool2d(x, kernel, stride, pad, ceil_mode, count_include_pad)
        means = functional.avg_pool2d(pad_tensor(x, sides), kernel, stride)
        inside = functional.avg_pool2d(pad_tensor(torch.ones_like(x), sides), kernel, stride)
        return means if count_include_pad else means / inside

    return pool_case(rng, "avg_pool", (1, 1), function, {"count_include_pad": count_include_pad})


def draw_adaptive(layer, function):
    """Sizes smaller than the image's, equal and larger."""

    def draw(rng):
        size = pair(rng, 1, 8)
        shape = (int(rng.integers(1, 4)), int(rng.integers(1, 6)), *pair(rng, 1, rng.choice([4, 12, 40])))
        (x,) = random_arrays(rng, shape)
        if rng.random() < 0.5:
            x = np.round(x)  # many ties
        given = spelled(rng, size)
        return layer_case(layer, {"x": x}, lambda x: function(x, size), lambda dtype: (given,))

    return draw


draw_adaptive_avg_pool = draw_adaptive("adaptive_avg_pool", functional.adaptive_avg_pool2d)
draw_adaptive_max_pool = draw_adaptive("adaptive_max_pool", functional.adaptive_max_pool2d)


def draw_upsample(rng):
    scale, mode = pair(rng, 1, 4), str(rng.choice(["nearest", "bilinear"]))
    align_corners = bool(rng.integers(2)) if mode == "bilinear" else False
    (x,) = random_arrays(rng, (int(rng.integers(1, 4)), int(rng.integers(1, 6)), *pair(rng, 1, 20)))
    corners = align_corners if mode == "bilinear" else None
    factors = tuple(map(float, scale))
    return layer_case(
        "upsample",
        {"x": x},
        lambda x: functional.interpolate(x, scale_factor=factors, mode=mode, align_corners=corners),
        lambda dtype: (spelled(np.random.default_rng(0), scale), mode, align_corners),
    )


# Sequences and volumes -------------------------------------------------------------------------------


def triple(rng, count, low, high):
    """A number for each axis, equal half of the time."""
    numbers = tuple(int(v) for v in rng.integers(low, high + 1, count))
    return (numbers[0],) * count if rng.random() < 0.5 else numbers


def draw_windows(rng, count, taps, most_pad, padded=True):
    """stride, dilation, pad and the sizes of an image that holds a window, with its padding or without."""
    stride, dilation = triple(rng, count, 1, 3), triple(rng, count, 1, int(rng.choice([1, 1, 2])))
    pad = tuple(int(rng.integers(0, most + 1)) for most in most_pad)
    spans = [d * (k - 1) + 1 for d, k in zip(dilation, taps)]
    size = tuple(max(1, span - 2 * p * padded) + int(rng.integers(0, 7)) for span, p in zip(spans, pad))
    return stride, dilation, pad, size


def draw_conv_of(count):
    function = {1: functional.conv1d, 3: functional.conv3d}[count]

    def draw(rng):
        groups, most = int(rng.choice([1, 1, 2])), 18 if count == 1 else 5
        C, F = (groups * int(rng.integers(1, most)) for _ in range(2))
        taps = triple(rng, count, 1, 4 if count == 1 else 3)
        stride, dilation, pad, size = draw_windows(rng, count, taps, [2] * count)
        shapes = (int(rng.integers(1, 4)), C, *size), (F, C // groups, *taps), (F,)
        x, w, b = random_arrays(rng, *shapes)
        param = {"stride": stride, "pad": pad, "dilation": dilation, "groups": groups}
        return layer_case(
            f"conv{count}d",
            {"x": x, "w": w, "b": b if rng.random() < 0.8 else None},
            lambda x, w, b: function(x, w, b, stride, pad, dilation, groups),
            lambda dtype: (dict(param),),
        )

    return draw


def draw_pool_of(kind, count):
    function = getattr(functional, f"{kind}_pool{count}d")
    names = ("pool_depth", "pool_height", "pool_width")[-count:]

    def draw(rng):
        taps = triple(rng, count, 1, 4)
        # Of a window of nothing but padding PyTorch writes the gradient to where no image is.
        stride, dilation, pad, size = draw_windows(rng, count, taps, [k // 2 for k in taps], padded=False)
        ceil_mode, count_include_pad = bool(rng.integers(2)), bool(rng.integers(2))
        (x,) = random_arrays(rng, (int(rng.integers(1, 3)), int(rng.integers(1, 4)), *size))
        x = np.round(x) if rng.random() < 0.5 else x  # many ties
        param = {**dict(zip(names, taps)), "stride": stride, "pad": pad, "ceil_mode": ceil_mode}
        if kind == "max":
            param["dilation"], options = dilation, (dilation, ceil_mode)
        else:
            param["count_include_pad"], options = count_include_pad, (ceil_mode, count_include_pad)
        return layer_case(
            f"{kind}_pool{count}d",
            {"x": x},
            lambda x: function(x, taps, stride, pad, *options),
            lambda dtype: (dict(param),),
            floors=1.0 if kind == "max" else 1.0 / np.prod(taps),
        )

    return draw


NUMBERED = {f"conv{count}d": draw_conv_of(count) for count in (1, 3)}
NUMBERED |= {f"{kind}_pool{n}d": draw_pool_of(kind, n) for kind in ("max", "avg") for n in (1, 3)}


def draw_global_avg_pool(rng):
    H, W = pair(rng, 1, 30)
    (x,) = random_arrays(rng, (int(rng.integers(1, 5)), channels(rng), H, W))
    mean = functional.adaptive_avg_pool2d
    return layer_case("global_avg_pool", {"x": x}, lambda x: mean(x, 1).flatten(1), floors=1 / (H * W))


# Normalisation ----------------------------------------------------------------------------------------


def draw_batch_param(rng, C):
    """bn_param of float64 arrays; in 'train' mode at times without running statistics."""
    param = {"mode": str(rng.choice(["train", "test"])), "eps": float(rng.choice([1e-5, 1e-3, 0.1]))}
    param["momentum"] = float(rng.choice([0.0, 0.5, 0.9, 0.99, 1.0]))
    if param["mode"] == "test" or rng.random() < 0.7:
        mean, deviation = random_arrays(rng, (C,), (C,))
        param |= {"running_mean": mean, "running_var": np.float32(deviation**2 + 0.1).astype(float)}
    return param


def batch_rest(param):
    """The layer's own copy of bn_param, with running statistics of the test's dtype."""
    return lambda dtype: ({k: v.astype(dtype) if isinstance(v, np.ndarray) else v for k, v in param.items()},)


def batch_norm(x, gamma, beta, param):
    """PyTorch's momentum is the weight of the new value, and its running variance the unbiased one."""
    zeros = np.zeros(x.shape[1])
    mean, var = (torch.tensor(param.get(k, zeros), dtype=x.dtype) for k in ("running_mean", "running_var"))
    train, momentum = param["mode"] == "train", param["momentum"]
    old = momentum * var
    out = functional.batch_norm(x, mean, var, gamma, beta, train, 1 - momentum, param["eps"])
    n = x.numel() // x.shape[1]
    return out, {"running_mean": mean, "running_var": old + (var - old) * (n - 1) / n if train else var}


def norm_arrays(rng, shape, C):
    """x with a mean and a deviation of its own, gamma and beta."""
    x, gamma, beta = random_arrays(rng, shape, (C,), (C,))
    x = np.float32(x * rng.choice([0.1, 1.0, 10.0]) + rng.choice([0.0, 0.0, 100.0])).astype(float)
    return {"x": x, "gamma": gamma, "beta": beta}


def norm_floors(arrays, axes, eps, x=None):
    """dx is what is left of dout * gamma / deviation when two means have been taken off it."""
    x = arrays["x"] if x is None else x
    steepest = largest(arrays["gamma"]) / np.sqrt(x.var(axis=axes).min() + eps)
    dout = largest(upstream(arrays["x"].shape))
    return {"out": 1.0, "dx": float(steepest * dout), "dgamma": 1.0, "dbeta": 1.0, "running_mean": 1.0}


def batch_case(rng, layer, shape):
    arrays, param = norm_arrays(rng, shape, shape[1]), draw_batch_param(rng, shape[1])
    return layer_case(
        layer,
        arrays,
        lambda x, gamma, beta: batch_norm(x, gamma, beta, param),
        batch_rest(param),
        norm_floors(arrays, (0, *range(2, len(shape))), param["eps"]),
    )


def draw_batchnorm(rng):
    return batch_case(rng, "batchnorm", (int(rng.integers(2, rng.choice([5, 80]))), channels(rng)))


def draw_spatial_batchnorm(rng):
    N, (H, W) = int(rng.integers(1, 5)), pair(rng, 1, 12)
    return batch_case(rng, "spatial_batchnorm", (max(N, 2) if H * W == 1 else N, channels(rng), H, W))


def draw_layernorm(rng):
    N, D = int(rng.integers(1, 6)), int(rng.integers(1, rng.choice([5, 150])))
    eps = float(rng.choice([1e-5, 0.1]))
    arrays = norm_arrays(rng, (N, D), D)
    return layer_case(
        "layernorm",
        arrays,
        lambda x, gamma, beta: functional.layer_norm(x, (D,), gamma, beta, eps),
        lambda dtype: ({"eps": eps},),
        norm_floors(arrays, 1, eps),
    )


def draw_spatial_groupnorm(rng):
    G, each, N = int(rng.integers(1, 6)), int(rng.integers(1, 9)), int(rng.integers(1, 4))
    C, (H, W), eps = G * each, pair(rng, 1, 9), float(rng.choice([1e-5, 0.1]))
    H += each * H * W == 1  # PyTorch refuses groups of one value
    arrays = norm_arrays(rng, (N, C, H, W), C)
    floors = norm_floors(arrays, 2, eps, arrays["x"].reshape(N, G, -1))
    if rng.random() < 0.5:
        arrays |= {name: arrays[name].reshape(1, C, 1, 1) for name in ("gamma", "beta")}
    return layer_case(
        "spatial_groupnorm",
        arrays,
        lambda x, gamma, beta: functional.group_norm(x, G, gamma.flatten(), beta.flatten(), eps),
        lambda dtype: (G, {"eps": eps}),
        floors,
    )


def draw_spatial_instancenorm(rng):
    N, C, (H, W) = int(rng.integers(1, 4)), channels(rng), pair(rng, 2, 9)
    eps = float(rng.choice([1e-5, 0.1]))
    arrays = norm_arrays(rng, (N, C, H, W), C)
    return layer_case(
        "spatial_instancenorm",
        arrays,
        lambda x, gamma, beta: functional.instance_norm(x, weight=gamma, bias=beta, eps=eps),
        lambda dtype: ({"eps": eps},),
        norm_floors(arrays, (2, 3), eps),
    )


def draw_spatial_layernorm(rng):
    N, C, (H, W) = int(rng.integers(1, 4)), int(rng.integers(2, 40)), pair(rng, 1, 9)
    eps = float(rng.choice([1e-5, 0.1]))
    arrays = norm_arrays(rng, (N, C, H, W), C)

    def pixels(x, gamma, beta):
        return functional.layer_norm(x.permute(0, 2, 3, 1), (C,), gamma, beta, eps).permute(0, 3, 1, 2)

    floors = norm_floors(arrays, 1, eps)
    return layer_case("spatial_layernorm", arrays, pixels, lambda dtype: ({"eps": eps},), floors)


# Affine layers and activations ------------------------------------------------------------------------


def linear(x, w, b):
    return functional.linear(x.flatten(1), w.t(), b)


def draw_affine_arrays(rng, least=1, bias=True):
    """x of at least `least` samples, w and b."""
    shape = [int(n) for n in rng.integers(1, 7, rng.integers(1, 4))]
    if rng.random() < 0.3:
        shape[0] *= 30
    D, M = int(np.prod(shape)), int(rng.integers(1, rng.choice([6, 150])))
    N = int(rng.integers(least, rng.choice([4, 40])))
    x, w, b = random_arrays(rng, (N, *shape), (D, M), (M,))
    return {"x": x, "w": w, "b": b if bias else None}


def draw_affine(rng):
    return layer_case("affine", draw_affine_arrays(rng, bias=rng.random() < 0.8), linear)


def draw_any(rng):
    """An array of one to four dimensions, in which zeros are common half of the time."""
    (x,) = random_arrays(rng, tuple(int(n) for n in rng.integers(1, 12, rng.integers(1, 5))))
    return {"x": np.round(x) if rng.random() < 0.5 else x}


def draw_relu(rng):
    return layer_case("relu", draw_any(rng), functional.relu)


def draw_activation(layer, function):
    """Of layers without parameters, whose values are of the order of 1 near 0."""
    return lambda rng: layer_case(layer, spread(rng, draw_any(rng)), function)


def spread(rng, arrays):
    """The arrays at a scale where an activation bends, or where it is straight."""
    factor = rng.choice([1.0, 5.0, 40.0])
    return {name: np.float32(array * factor).astype(float) for name, array in arrays.items()}


ACTIVATIONS = {
    "relu6": functional.relu6,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "silu": functional.silu,
    "hard_sigmoid": functional.hardsigmoid,
    "hard_swish": functional.hardswish,
}


def draw_gelu(rng):
    kind = str(rng.choice(["none", "tanh"]))
    function = functools.partial(functional.gelu, approximate=kind)
    return layer_case("gelu", spread(rng, draw_any(rng)), function, lambda dtype: (kind,))


def draw_elu(rng):
    alpha = float(rng.choice([1.0, 0.3, 2.5]))
    arrays = spread(rng, draw_any(rng))
    return layer_case("elu", arrays, lambda x: functional.elu(x, alpha), lambda dtype: (alpha,))


def draw_softmax(rng):
    shape = (int(rng.integers(1, 5)), int(rng.integers(1, rng.choice([5, 40, 300]))))
    if rng.random() < 0.6:
        shape += pair(rng, 1, 9)
    (x,) = random_arrays(rng, shape)
    return layer_case("softmax", spread(rng, {"x": x}), lambda x: functional.softmax(x, 1))


def draw_leaky_relu(rng):
    alpha = float(rng.choice([0.0, 0.01, 0.3, 1.0, 1.5, -0.5]))
    return layer_case(
        "leaky_relu", draw_any(rng), lambda x: functional.leaky_relu(x, alpha), lambda dtype: (alpha,)
    )
