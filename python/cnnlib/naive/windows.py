"""Where the windows of convolution and pooling stand; shared by the plain-loop versions."""

import numpy as np


def _numbers(value, count):
    """An int is meant for each of `count` axes or sides; otherwise there are as many."""
    return (int(value),) * count if np.ndim(value) == 0 else tuple(value)


def _pair(value):
    """An int is meant for both directions; otherwise (vertical, horizontal)."""
    return _numbers(value, 2)


def _pads(pad, sizes, spans, strides):
    """Spell any form of `pad` out as (before, after) for each axis: ((top, bottom), (left, right)) of images.

    `sizes` are H and W, `spans` the rows and columns that a window spans. 'same' pads as little as makes the
    output ceil(size / stride); of an odd number of rows or columns, the extra one goes below or to the right.
    """
    if pad == "valid":
        return ((0, 0),) * len(sizes)
    if isinstance(pad, str):
        totals = [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip(sizes, spans, strides, strict=True)]
        return tuple((total // 2, total - total // 2) for total in totals)
    sides = pad if isinstance(pad, (tuple, list)) else (pad,) * len(sizes)
    return tuple(map(_pair, sides))


def _geometry(param, sizes, taps, default_stride=1):
    """Read stride, dilation and pads; return them with the spans of a window, each with an entry an axis."""
    stride = _numbers(param.get("stride", default_stride), len(sizes))
    dilation = _numbers(param.get("dilation", 1), len(sizes))
    spans = tuple(d * (k - 1) + 1 for d, k in zip(dilation, taps, strict=True))
    return stride, dilation, _pads(param.get("pad", 0), sizes, spans, stride), spans


def _refuse_empty(function, name, x):
    """N = 0 is an empty batch; images, samples and filters without values make no sense."""
    if 0 in x.shape[1:]:
        raise ValueError(f"{function}: {name} has an empty dimension: its shape is {x.shape}")


def _conv_geometry(function, conv_param, x, w):
    """Stride, dilation, pads and extent."""
    _refuse_empty(function, "x", x)
    if 0 in w.shape:
        raise ValueError(f"{function}: w has an empty dimension: its shape is {w.shape}")
    return _geometry(conv_param, x.shape[2:], w.shape[2:])


def _output_size(function, length, pads, span, step, ceil_mode=False):
    """1 + (length + pads - span) // step, or with ceil_mode the division rounded up.

    A window that ceil_mode adds has to start inside the image or its leading padding.
    """
    room = length + sum(pads) - span
    if room < 0:
        raise ValueError(
            f"{function}: the window is larger than the padded input: {span} > {length + sum(pads)}"
        )
    if not ceil_mode:
        return 1 + room // step
    windows = 1 + -(-room // step)
    if (windows - 1) * step >= length + pads[0]:
        windows -= 1
    return windows


def _taps(start, span, dilation):
    """Slice of the positions of a window that starts at `start`."""
    return slice(start, start + span, dilation)


def _taps_inside(start, span, dilation, length):
    """The same, but only those of the positions that lie inside 0 .. length - 1."""
    first = start if start >= 0 else start % dilation
    return slice(first, min(max(start + span, 0), length), dilation)


def _pool_geometry(function, pool_param, x):
    """Stride (by default the pool's size), dilation, pads, extent, OH and OW."""
    _refuse_empty(function, "x", x)
    H, W = x.shape[2:]
    pool = pool_param["pool_height"], pool_param["pool_width"]
    stride, dilation, pads, extent = _geometry(pool_param, (H, W), pool, default_stride=pool)
    ceil_mode = pool_param.get("ceil_mode", False)
    OH = _output_size(function, H, pads[0], extent[0], stride[0], ceil_mode)
    OW = _output_size(function, W, pads[1], extent[1], stride[1], ceil_mode)
    return stride, dilation, pads, extent, OH, OW
