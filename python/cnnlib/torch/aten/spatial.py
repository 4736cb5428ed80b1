"""Pools, padding, resizing and reshaping."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from cnnlib.torch.aten.call import Call, two

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
    call.emit("max_pool", (call.value_in_shape("self", 4),), (), (param,))


def _avg_pool(call: Call) -> None:
    if call["divisor_override"] is not None:
        call.refuse(f"divisor_override={call['divisor_override']} has no counterpart")
    param = _pool_param(call) | {"count_include_pad": bool(call["count_include_pad"])}
    call.emit("avg_pool", (call.value_in_shape("self", 4),), (), (param,))


def _adaptive_avg_pool(call: Call) -> None:
    _adaptive_pool(call, "avg", two(call["output_size"]))


def _adaptive_max_pool(call: Call) -> None:
    _adaptive_pool(call, "max", two(call["output_size"]))


def _mean(call: Call) -> None:
    if len(call.shape("self")) != 4 or sorted(dim % 4 for dim in call["dim"] or ()) != [2, 3]:
        call.refuse(f"a mean is taken over H and W of images alone, got dim={call['dim']}")
    _adaptive_pool(call, "avg", (1, 1))


def _adaptive_pool(call, kind, size):
    image = call.value_in_shape("self", 4)
    if kind == "avg" and size == (1, 1) and (len(call.out_shape) == 2 or _only_flattened(call.node)):
        call.emit("global_avg_pool", (image,), shape=call.out_shape[:2])
        return
    windows = [divmod(n, m) for n, m in zip(call.shape("self")[2:], size)]
    if any(rest for _, rest in windows):
        call.emit(f"adaptive_{kind}_pool", (image,), (), (size,))
    elif windows == [(1, 0), (1, 0)]:  # every window is one pixel
        call.pass_on(image)
    else:  # all windows are equal and meet
        (height, _), (width, _) = windows
        call.emit(f"{kind}_pool", (image,), (), ({"pool_height": height, "pool_width": width},))


def _only_flattened(node):
    """Whether all that reads (N, C, 1, 1) makes (N, C) of it first."""
    flat = tuple(node.meta["val"].shape[:2])
    return all(u.op == "call_function" and tuple(u.meta["val"].shape) == flat for u in node.users)


def _pad(call: Call) -> None:
    """Zeros around an image: kept until the convolution that reads it takes them as its own."""
    if call["mode"] != "constant" or call["value"] or len(call["pad"]) not in (2, 4):
        call.refuse(f"padding of mode {call['mode']!r} and value {call['value']} has no counterpart")
    left, right, top, bottom = (*call["pad"], 0, 0)[:4]
    image, pads, name = call.value_in_shape("self", 4), call.reader.pads, call.node.name
    inner, ((above, below), (before, after)) = pads.get(image, (image, ((0, 0), (0, 0))))
    sides = (above + top, below + bottom), (before + left, after + right)
    if min(min(side) for side in sides) < 0:
        call.refuse(f"padding of less than nothing, which crops, has no counterpart: {call['pad']}")
    pads[name] = inner, sides
    call.reader.shapes[name] = call.out_shape
    call.pass_on(name)


def _upsample(mode: str) -> Callable[[Call], None]:
    def read(call: Call) -> None:
        before, after = call.shape("input")[2:], call.out_shape[2:]
        scales = tuple(a // b for a, b in zip(after, before))
        given = call["scale_factors"] or scales
        if any(a % b for a, b in zip(after, before)) or tuple(given) != scales:
            call.refuse(f"upsampling is by whole factors alone, got {before} to {after}")
        # Without corners aligned PyTorch's nearest pixels are ours, too.
        align = mode == "bilinear" and bool(call["align_corners"])
        call.emit("upsample", (call.value_in_shape("input", 4),), (), (scales, mode, align))

    return read


def _reshape(call: Call) -> None:
    """What keeps the shape, flattens to (N, D), or makes (N, C, 1, 1) of (N, C) for a product or sum."""
    name, after = call.value(0), call.out_shape
    ours = call.reader.shapes[name]
    if call.shape(0) == after or ours == after or (len(ours) == 2 and after == (*ours, 1, 1)):
        call.pass_on(name)
    elif after == (ours[0], math.prod(ours[1:])):
        call.emit("flatten", (name,))
    else:
        call.refuse(f"reshaping {('N', *call.shape(0)[1:])} to {after} has no counterpart")


def _permute(call: Call) -> None:
    """Channels put last for the layers that take them so, and back."""
    name, last = call.value(0, channels_last=True), call.has_channels_last(0)
    dims = [dim % len(call.shape(0)) for dim in call["dims"]]
    if dims == sorted(dims):
        call.pass_on(name, channels_last=last)
    elif dims == ([0, 3, 1, 2] if last else [0, 2, 3, 1]) and len(call.reader.shapes[name]) == 4:
        call.pass_on(name, channels_last=not last)
    else:
        call.refuse(f"the order {tuple(call['dims'])} of axes has no counterpart")


def _expand(call: Call) -> None:
    """A value for each channel, spread over images: products and sums do that themselves."""
    before, after = call.shape(0), call.out_shape
    if before != after and not (len(after) == 4 and before == (*after[:2], 1, 1)):
        call.refuse(f"spreading {before} to {after} has no counterpart")
    call.pass_on(call.value(0))


def _first_result(call: Call) -> None:
    """Of an operator with several results the first is the value."""
    source, index = call.node.args
    if not call.node.users:
        return
    if index != 0:
        call.refuse(f"only the first result of {source.name} has a counterpart")
    call.pass_on(call.value(0))


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
