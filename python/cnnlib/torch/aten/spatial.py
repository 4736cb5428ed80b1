"""Pools, padding, resizing and reshaping."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from cnnlib.graph.importing import Feature
from cnnlib.torch.aten.call import CHANNELS_LAST, PADDED, PLAIN, SPREAD, Call, kind, result, two


def _images(call):
    return call.value("self", ranks=(4,))


def _pool_param(call):
    kernel = two(call["kernel_size"])
    return {
        "pool_height": kernel[0],
        "pool_width": kernel[1],
        "stride": two(call["stride"]) if call["stride"] else kernel,
        "pad": two(call["padding"]),
        "ceil_mode": bool(call["ceil_mode"]),
    }


def _max_pool(call: Call) -> Feature:
    param = _pool_param(call) | {"dilation": two(call["dilation"])}
    return call.emit("max_pool", _images(call), args=(param,))


def _avg_pool(call: Call) -> Feature:
    if call["divisor_override"] is not None:
        call.fail(f"divisor_override={call['divisor_override']} has no counterpart")
    param = _pool_param(call) | {"count_include_pad": bool(call["count_include_pad"])}
    return call.emit("avg_pool", _images(call), args=(param,))


def _adaptive_max_pool(call: Call) -> Feature:
    return call.emit("adaptive_max_pool", _images(call), args=(two(call["output_size"]),))


def _mean(call: Call) -> Feature:
    if len(call.shape("self")) != 4 or sorted(dim % 4 for dim in call["dim"] or ()) != [2, 3]:
        call.fail(f"a mean is taken over H and W of images alone, got dim={call['dim']}")
    call.seen_in_shape("keepdim")
    return _average(call, (1, 1))


def _average(call, size):
    if size != (1, 1):
        return call.emit("adaptive_avg_pool", _images(call), args=(size,))
    keep = len(call.out_shape) == 4
    return call.averaged(_images(call), keep=keep, images=keep and not _only_flattened(call.node))


def _only_flattened(node):
    """Whether all that reads (N, C, 1, 1) makes (N, C) of it first."""
    flat = tuple(result(node).shape[:2])
    return all(u.op == "call_function" and tuple(result(u).shape) == flat for u in node.users)


def _pad(call: Call) -> Feature:
    """Zeros around an image: kept until the convolution that reads it takes them as its own."""
    if call["mode"] != "constant" or call["value"] or len(call["pad"]) not in (2, 4):
        call.fail(f"padding of mode {call['mode']!r} and value {call['value']} has no counterpart")
    left, right, top, bottom = (*call["pad"], 0, 0)[:4]
    value = call.value("self", PADDED, ranks=(4,))
    (above, below), (before, behind) = value.pad or ((0, 0), (0, 0))
    pad = (above + top, below + bottom), (before + left, behind + right)
    if min(call["pad"]) < 0:
        call.fail(f"padding of less than nothing, which crops, has no counterpart: {call['pad']}")
    return value.bare().padded(pad, 0.0) if any(map(any, pad)) else value


def _upsample(mode: str) -> Callable[[Call], Feature]:
    def read(call: Call) -> Feature:
        value = call.value("input", ranks=(4,))
        before, after = call.shape("input")[2:], call.out_shape[2:]
        scales = tuple(a // b for a, b in zip(after, before))
        call.seen_in_shape("output_size")
        given = call["scale_factors"] or scales
        if any(a % b for a, b in zip(after, before)) or tuple(given) != scales:
            call.fail(f"upsampling is by whole factors alone, got {before} to {after}")
        # Without corners aligned PyTorch's nearest pixels are ours, too.
        align = mode == "bilinear" and bool(call["align_corners"])
        return call.emit("upsample", value, args=(scales, mode, align))

    return read


def _reshape(call: Call) -> Feature:
    """What keeps the shape, flattens to (N, D), or gives (N, C) axes of length 1 for a product or sum."""
    call.seen_in_shape()
    value, after = call.any_value(0), call.out_shape[1:]
    if call.shape(0) == call.out_shape:
        return value
    value = call.value(0, SPREAD)
    D = math.prod(value.shape)
    if after == value.shape or (len(value.shape) == 1 and after in ((D, 1), (D, 1, 1))):
        return value.seen_as(after)
    if kind(value) == PLAIN and after in ((D,), (D, 1)):
        return call.plain(value.seen_as((D,))).seen_as(after)
    call.fail(f"reshaping {('N', *call.shape(0)[1:])} to {call.out_shape} has no counterpart")


def _permute(call: Call) -> Feature:
    """Channels put last for the layers that take them so, and back."""
    value, rank = call.any_value(0), len(call.shape(0))
    dims = [dim % rank for dim in call["dims"]]
    if dims == sorted(dims):
        return value
    value = call.value(0, CHANNELS_LAST)
    if dims == ([0, 3, 1, 2] if value.channels_last else [0, 2, 3, 1]):
        return replace(value, view=call.out_shape[1:], channels_last=not value.channels_last)
    call.fail(f"the order {tuple(call['dims'])} of axes has no counterpart")


def _expand(call: Call) -> Feature:
    """A value for each channel, spread over images: products and sums do that themselves."""
    call.seen_in_shape()
    value, before, after = call.any_value(0), call.shape(0), call.out_shape
    if before == after:
        return value
    value = call.value(0, SPREAD)
    if len(after) != 4 or before != (*after[:2], 1, 1):
        call.fail(f"spreading {before} to {after} has no counterpart")
    return value.seen_as(after[1:])


def _first_result(call: Call) -> Feature:
    """Of an operator with several results the first is the value."""
    source, index = call.node.args
    if index != 0:
        call.fail(f"only the first result of {source.name} has a counterpart")
    return call.net.values[source]


_RESHAPES: tuple[Any, ...] = ("flatten", "view", "reshape", "squeeze", "unsqueeze")

OPERATORS: dict[str, Callable[[Call], Feature]] = {
    "max_pool2d": _max_pool,
    "max_pool2d_with_indices": _max_pool,
    "avg_pool2d": _avg_pool,
    "adaptive_avg_pool2d": lambda call: _average(call, two(call["output_size"])),
    "adaptive_max_pool2d": _adaptive_max_pool,
    "mean": _mean,
    "pad": _pad,
    "upsample_nearest2d": _upsample("nearest"),
    "upsample_bilinear2d": _upsample("bilinear"),
    **dict.fromkeys(_RESHAPES, _reshape),
    "permute": _permute,
    "expand": _expand,
    "expand_as": _expand,
    "getitem": _first_result,
}
