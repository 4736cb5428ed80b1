"""Windows along any number of axes: what the parameter dictionaries of convolutions and pools mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnlib._params import (
    POOL_SIZES,
    at_least,
    check_keys,
    flag,
    integer,
    is_sequence,
    pool_window,
    positive_int,
    same_sides,
)
from cnnlib.typing import ConvParam

AXES = {1: ("L",), 2: ("H", "W"), 3: ("D", "H", "W")}
_NUMBERS = {
    1: "an integer or (horizontal,)",
    2: "an integer or (vertical, horizontal)",
    3: "an integer or (depth, vertical, horizontal)",
}
_CONV_KEYS = ("stride", "pad", "dilation", "groups", "algorithm")
_MAX_KEYS = ("stride", "pad", "dilation", "ceil_mode")
_AVG_KEYS = ("stride", "pad", "ceil_mode", "count_include_pad")


@dataclass(frozen=True)
class Axis:
    """Tap k of output o stands at o * stride - before + k * dilation; there are so many outputs."""

    size: int
    taps: int
    stride: int
    dilation: int
    before: int
    after: int
    outputs: int

    @property
    def span(self) -> int:
        """Pixels from the first tap of a window to the last, inclusive."""
        return self.dilation * (self.taps - 1) + 1

    @property
    def reach(self) -> int:
        """Where the last window ends behind the last pixel; below 0 where it leaves some over."""
        return (self.outputs - 1) * self.stride + self.span - self.before - self.size


def _numbers(function, key, value, count, least):
    """A number for each axis."""
    if not is_sequence(value):
        return [at_least(least, function, key, value)] * count
    if len(value) != count:
        raise ValueError(f"{function}: {key} must be {_NUMBERS[count]}, got {value!r}")
    return [at_least(least, function, key, v) for v in value]


def window_spans(function: str, taps: Sequence[int], dilation: Any) -> list[int]:
    """Return the pixels from a window's first tap to its last, inclusive, along each axis.

    `dilation` is that of the call `function`, which refuses it if it is none.
    """
    return _spans(_numbers(function, "dilation", dilation, len(taps), 1), taps)


def _spans(dilations, taps):
    return [d * (k - 1) + 1 for d, k in zip(dilations, taps)]


def _sides(function, value):
    """Padding of one axis: an int, or (before, after)."""
    if is_sequence(value):
        if len(value) != 2:
            raise ValueError(
                f"{function}: pad of an axis must be an integer or (before, after), got {value!r}"
            )
        return [at_least(0, function, "pad", v) for v in value]
    return [at_least(0, function, "pad", value)] * 2


def _pads(function, value, sizes, spans, strides):
    """(before, after) for each axis; 'same' gives ceil(size / stride) outputs, the odd pixel goes behind."""
    count = len(sizes)
    if isinstance(value, str):
        if value == "valid":
            return [(0, 0)] * count
        if value != "same":
            raise ValueError(f"{function}: pad must be numbers, 'same' or 'valid', got {value!r}")
        return [same_sides(*axis) for axis in zip(sizes, spans, strides)]
    if not is_sequence(value):
        return [_sides(function, integer(function, "pad", value))] * count
    if len(value) != count:
        text = f"{_NUMBERS[count]}, with (before, after) for a number, 'same' or 'valid'"
        raise ValueError(f"{function}: pad must be {text}, got {value!r}")
    return [_sides(function, v) for v in value]


def _outputs(function, window, name, size, span, stride, sides, ceil_mode):
    room = size + sum(sides) - span
    if room < 0:
        sizes = f"{span} > {size + sum(sides)}"
        raise ValueError(f"{function}: {window} is larger than the padded input along {name}: {sizes}")
    outputs = room // stride + 1
    # A last window that hangs over has to start inside the image or its leading padding.
    return outputs + (ceil_mode and room % stride != 0 and outputs * stride < size + sides[0])


def _axes(function, window, param, sizes, taps, ceil_mode=False):
    count = len(sizes)
    strides = _numbers(function, "stride", param.get("stride", 1), count, 1)
    dilations = _numbers(function, "dilation", param.get("dilation", 1), count, 1)
    spans = _spans(dilations, taps)
    pads = _pads(function, param.get("pad", 0), sizes, spans, strides)
    axes = []
    for name, n, k, span, s, d, sides in zip(AXES[count], sizes, taps, spans, strides, dilations, pads):
        outputs = _outputs(function, window, name, n, span, s, sides, ceil_mode)
        axes.append(Axis(n, k, s, d, sides[0], sides[1], outputs))
    return axes


def check_rank(function, name, array, leading, count):
    """An array of the `leading` axes and so many of images, none empty but the batch."""
    axes = ", ".join((*leading, *(f"K{a}" if name == "w" else a for a in AXES[count])))
    if array.ndim != len(leading) + count:
        raise ValueError(f"{function}: {name} must be ({axes}), got shape {array.shape}")
    if 0 in array.shape[1 if name == "x" else 0 :]:
        raise ValueError(f"{function}: {name} has an empty dimension: its shape is {array.shape}")


def check_shape(function, name, array, shape):
    if array is not None and np.shape(array) != tuple(shape):
        raise ValueError(f"{function}: {name} must have shape {tuple(shape)}, got {np.shape(array)}")


def conv_axes(function, conv_param, x, w, b, count):
    """The axes of a convolution of x (N, C, ...) with w (F, C / groups, ...), and groups."""
    check_keys(function, "conv_param", conv_param, _CONV_KEYS)
    check_rank(function, "x", x, ("N", "C"), count)
    check_rank(function, "w", w, ("F", "C / groups"), count)
    groups = positive_int(function, "groups", conv_param.get("groups", 1))
    C, F = x.shape[1], w.shape[0]
    if C % groups or F % groups or w.shape[1] * groups != C:
        shapes = f"x is {x.shape}, w is {w.shape}, groups is {groups}"
        raise ValueError(f"{function}: x and w disagree on the channels: {shapes}")
    check_shape(function, "b", b, (F,))
    return _axes(function, "the window of w", conv_param, x.shape[2:], w.shape[2:]), groups


def conv_transpose_axes(function, conv_param, x, w):
    """The axes of a transposed convolution of x (N, C, H, W) with w (C, F / groups, KH, KW), output_pad and
    groups.
    """
    check_keys(function, "conv_param", conv_param, (*_CONV_KEYS, "output_pad"))
    check_rank(function, "w", w, ("C", "F / groups"), 2)
    groups = positive_int(function, "groups", conv_param.get("groups", 1))
    if len(w) != x.shape[1] or len(w) % groups:
        shapes = f"x is {x.shape}, w is {w.shape}, groups is {groups}"
        raise ValueError(f"{function}: x and w disagree on the channels: {shapes}")
    strides, dilations, extras = (
        _numbers(function, key, conv_param.get(key, usual), 2, usual)
        for key, usual in (("stride", 1), ("dilation", 1), ("output_pad", 0))
    )
    pad = conv_param.get("pad", 0)
    if isinstance(pad, str) and pad == "same":
        raise ValueError(f"{function}: pad must be numbers or 'valid' ('same' is not defined here)")
    sizes, spans = x.shape[2:], _spans(dilations, w.shape[2:])
    sides = _pads(function, pad, sizes, spans, strides)
    if any(extra >= max(s, d) for extra, s, d in zip(extras, strides, dilations)):
        raise ValueError(f"{function}: output_pad must be smaller than stride or dilation, got {extras}")
    axes = zip(sizes, strides, sides, spans, extras)
    made = [(n - 1) * s - sum(cut) + span + extra for n, s, cut, span, extra in axes]
    if min(made) < 1:
        raise ValueError(f"{function}: pad leaves no output: its sizes would be {tuple(made)}")
    parts = zip(sizes, w.shape[2:], strides, dilations, sides, made)
    return [Axis(n, k, s, d, a, b, m) for n, k, s, d, (a, b), m in parts], extras, groups


def pool_axes(function, pool_param, x, count, kind):
    """The axes of a pool of x (N, C, ...), count_include_pad (of a mean) and ceil_mode."""
    options = _MAX_KEYS if kind == "max" else _AVG_KEYS
    check_keys(function, "pool_param", pool_param, ("size", *POOL_SIZES[-count:], *options))
    check_rank(function, "x", x, ("N", "C"), count)
    taps = pool_window(function, pool_param, count)
    for name, size in zip(POOL_SIZES[-count:], taps):
        at_least(1, function, name, size)
    ceil_mode = flag(function, "ceil_mode", pool_param.get("ceil_mode", False))
    stride = pool_param.get("stride")
    param = {**pool_param, "stride": taps if stride is None else stride}
    axes = _axes(function, "the window", param, x.shape[2:], taps, ceil_mode)
    for axis in axes:
        if max(axis.before, axis.after) >= axis.span:
            pads = axis.before, axis.after
            raise ValueError(f"{function}: pad must be smaller than the window ({axis.span}), got {pads}")
    return axes, flag(function, "count_include_pad", pool_param.get("count_include_pad", True)), ceil_mode


def row_axis() -> Axis:
    """The axis of length 1 that makes an image of a sequence, or of a volume's columns."""
    return Axis(1, 1, 1, 1, 0, 0, 1)


def plane_param(vertical: Axis, horizontal: Axis, groups: int, conv_param: ConvParam) -> dict[str, Any]:
    """The conv_param of an image's convolution along these axes."""
    axes = vertical, horizontal
    param = {
        "stride": tuple(axis.stride for axis in axes),
        "dilation": tuple(axis.dilation for axis in axes),
        "pad": tuple((axis.before, axis.after) for axis in axes),
        "groups": groups,
    }
    return param | {key: conv_param[key] for key in ("algorithm",) if key in conv_param}


def pool_geometry(
    vertical: Axis, horizontal: Axis
) -> tuple[int, int, int, int, int, int, int, int, int, int]:
    """An image's pool along these axes, as the kernels take it."""
    v, h = vertical, horizontal
    pads = v.before, v.after, h.before, h.after
    return (v.taps, h.taps, v.stride, h.stride, *pads, v.dilation, h.dilation)
