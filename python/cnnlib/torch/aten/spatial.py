"""Pools, padding, resizing and reshaping."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from cnnlib.torch.aten.call import Call, result, two
from cnnlib.torch.aten.value import CHANNELS_LAST, PADDED, PLAIN, SPREAD, Value

__all__ = ["OPERATORS"]


def _pool_param(call):
    kernel = two(call["kernel_size"])
    return {
        "pool_height": kernel[0],
        "pool_width": kernel[1],
        "stride": two(call["stride"]) if call["stride"] else kernel,
        "pad": two(call["padding"]),
        "ceil_mode": bool(call["ceil_mode"]),
    }


def _max_pool(call: Call) -> None:
    param = _pool_param(call) | {"dilation": two(call["dilation"])}
    call.emit("max_pool", (call.rows_or_images("self", 4),), (), (param,))


def _avg_pool(call: Call) -> None:
    if call["divisor_override"] is not None:
        call.refuse(f"divisor_override={call['divisor_override']} has no counterpart")
    param = _pool_param(call) | {"count_include_pad": bool(call["count_include_pad"])}
    call.emit("avg_pool", (call.rows_or_images("self", 4),), (), (param,))


def _adaptive_max_pool(call: Call) -> None:
    name = call.rows_or_images("self", 4)
    call.emit("adaptive_max_pool", (name,), (), (two(call["output_size"]),))


def _adaptive_avg_pool(call: Call) -> None:
    _average(call, two(call["output_size"]))


def _mean(call: Call) -> None:
    if len(call.shape("self")) != 4 or sorted(dim % 4 for dim in call["dim"] or ()) != [2, 3]:
        call.refuse(f"a mean is taken over H and W of images alone, got dim={call['dim']}")
    call.seen_in_shape("keepdim")
    _average(call, (1, 1))


def _average(call, size):
    name = call.rows_or_images("self", 4)
    if size == (1, 1) and (len(call.out_shape) == 2 or _only_flattened(call.node)):
        rows, of_rows = call.out_shape[:2], len(call.out_shape) == 2
        call.emit_as(Value("", rows, PLAIN if of_rows else SPREAD), "global_avg_pool", (name,))
    else:
        call.emit("adaptive_avg_pool", (name,), (), (size,))


def _only_flattened(node):
    """Whether all that reads (N, C, 1, 1) makes (N, C) of it first."""
    flat = tuple(result(node).shape[:2])
    return all(u.op == "call_function" and tuple(result(u).shape) == flat for u in node.users)


def _pad(call: Call) -> None:
    """Zeros around an image: kept until the convolution that reads it takes them as its own."""
    if call["mode"] != "constant" or call["value"] or len(call["pad"]) not in (2, 4):
        call.refuse(f"padding of mode {call['mode']!r} and value {call['value']} has no counterpart")
    left, right, top, bottom = (*call["pad"], 0, 0)[:4]
    value = call.ranked(call.value("self", PADDED), 4)
    (above, below), (before, behind) = value.pad
    pad = (above + top, below + bottom), (before + left, behind + right)
    if min(call["pad"]) < 0:
        call.refuse(f"padding of less than nothing, which crops, has no counterpart: {call['pad']}")
    call.pass_on(replace(value, kind=PADDED, pad=pad) if any(map(any, pad)) else value)


def _upsample(mode: str) -> Callable[[Call], None]:
    def read(call: Call) -> None:
        name = call.rows_or_images("input", 4)
        before, after = call.shape("input")[2:], call.out_shape[2:]
        scales = tuple(a // b for a, b in zip(after, before))
        call.seen_in_shape("output_size")
        given = call["scale_factors"] or scales
        if any(a % b for a, b in zip(after, before)) or tuple(given) != scales:
            call.refuse(f"upsampling is by whole factors alone, got {before} to {after}")
        # Without corners aligned PyTorch's nearest pixels are ours, too.
        align = mode == "bilinear" and bool(call["align_corners"])
        call.emit("upsample", (name,), (), (scales, mode, align))

    return read


def _reshape(call: Call) -> None:
    """What keeps the shape, flattens to (N, D), or gives (N, C) axes of length 1 for a product or sum."""
    call.seen_in_shape()
    value, after = call.any_value(0), call.out_shape
    if call.shape(0) == after:
        return call.pass_on(value)
    value = call.value(0, SPREAD)
    N, *rest = value.shape
    if after == value.shape:
        return call.pass_on(Value(value.name, value.shape))
    if len(rest) == 1 and after in ((N, *rest, 1), (N, *rest, 1, 1)):
        return call.pass_on(Value(value.name, value.shape, SPREAD))
    D = math.prod(rest)
    if value.kind == PLAIN and after in ((N, D), (N, D, 1)):
        made = Value("", (N, D), PLAIN if after == (N, D) else SPREAD)
        return call.emit_as(made, "flatten", (value.name,))
    call.refuse(f"reshaping {('N', *call.shape(0)[1:])} to {after} has no counterpart")


def _permute(call: Call) -> None:
    """Channels put last for the layers that take them so, and back."""
    value, rank = call.any_value(0), len(call.shape(0))
    dims = [dim % rank for dim in call["dims"]]
    if dims == sorted(dims):
        return call.pass_on(value)
    value = call.value(0, CHANNELS_LAST)
    if dims == ([0, 3, 1, 2] if value.kind == CHANNELS_LAST else [0, 2, 3, 1]):
        return call.pass_on(value.turned())
    call.refuse(f"the order {tuple(call['dims'])} of axes has no counterpart")


def _expand(call: Call) -> None:
    """A value for each channel, spread over images: products and sums do that themselves."""
    call.seen_in_shape()
    value, before, after = call.any_value(0), call.shape(0), call.out_shape
    if before == after:
        return call.pass_on(value)
    value = call.value(0, SPREAD)
    if len(after) != 4 or before != (*after[:2], 1, 1):
        call.refuse(f"spreading {before} to {after} has no counterpart")
    return call.pass_on(Value(value.name, value.shape, SPREAD))


def _first_result(call: Call) -> None:
    """Of an operator with several results the first is the value."""
    source, index = call.node.args
    if not call.node.users:
        return
    if index != 0:
        call.refuse(f"only the first result of {source.name} has a counterpart")
    call.pass_on(call.reader.values[source])


_RESHAPES: tuple[Any, ...] = ("flatten", "view", "reshape", "squeeze", "unsqueeze")

OPERATORS: dict[str, Callable[[Call], None]] = {
    "max_pool2d": _max_pool,
    "max_pool2d_with_indices": _max_pool,
    "avg_pool2d": _avg_pool,
    "adaptive_avg_pool2d": _adaptive_avg_pool,
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
