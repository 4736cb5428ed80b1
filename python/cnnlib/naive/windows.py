"""Where the windows of convolution and pooling stand, and dtypes; shared by the plain-loop versions."""

import functools

import numpy as np

from cnnlib._params import pool_window


def _float_dtype(*arrays):
    """The dtype of a layer's results: that of its arrays together, and float64 for integers and bools."""
    dtype = np.result_type(*(array for array in arrays if array is not None))
    return np.dtype(np.float64) if dtype.kind in "iub" else dtype


def _in_float(x):
    """The array in its own `_float_dtype`: sums, differences and products of integers would wrap around."""
    x = np.asarray(x)
    return x.astype(_float_dtype(x))


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
    if isinstance(pad, str) and pad == "valid":
        return ((0, 0),) * len(sizes)
    if isinstance(pad, str):
        totals = [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip(sizes, spans, strides, strict=True)]
        return tuple((total // 2, total - total // 2) for total in totals)
    sides = pad if np.iterable(pad) else (pad,) * len(sizes)
    return tuple(map(_pair, sides))


def _geometry(param, sizes, taps, default_stride=1):
    """Read stride, dilation and pads; return them with the spans of a window, each with an entry an axis."""
    stride = _numbers(param.get("stride", default_stride), len(sizes))
    dilation = _numbers(param.get("dilation", 1), len(sizes))
    spans = tuple(d * (k - 1) + 1 for d, k in zip(dilation, taps, strict=True))
    return stride, dilation, _pads(param.get("pad", 0), sizes, spans, stride), spans


def _refuse_empty(function, name, x):
    """Refuse samples and filters without values; N = 0 is an empty batch."""
    if 0 in x.shape[1:]:
        raise ValueError(f"{function}: {name} has an empty dimension: its shape is {x.shape}")


def _check_rank(function, x):
    """Refuse a sample without its batch, which would count as a batch of samples of one axis less."""
    axes = "N, C, L" if "1d" in function else "N, C, D, H, W" if "3d" in function else "N, C, H, W"
    if x.ndim != 1 + axes.count(","):
        raise ValueError(f"{function}: x must be ({axes}), got shape {x.shape}")


def _output_size(function, length, pads, span, step, ceil_mode=False):
    """1 + (length + pads - span) // step, or with ceil_mode the division rounded up.

    A window that ceil_mode adds has to start inside the image or its leading padding.
    """
    room = length + sum(pads) - span
    if room < 0:
        raise ValueError(
            f"{function}: the window is larger than the padded input: {span} > {length + sum(pads)}"
        )
    windows = 1 + room // step
    return windows + (ceil_mode and room % step > 0 and windows * step < length + pads[0])


def _taps(place, stride, spans, dilation):
    """The slices of an output's taps, one an axis: (rows, columns) of the output (i, j) of images."""
    axes = zip(place, stride, spans, dilation, strict=True)
    return tuple(slice(i * s, i * s + span, d) for i, s, span, d in axes)


class _Windows:
    """Where the windows of `taps` stand in x (N, C, ...): along the axes of sequences, images or volumes.

    `outputs` are the sizes of the result, say (OH, OW), and a place is an index of it, say (i, j).
    """

    def __init__(self, function, param, x, taps, default_stride=1):
        _refuse_empty(function, "x", x)
        self.sizes = x.shape[2:]
        self.stride, self.dilation, self.pads, self.span = _geometry(param, self.sizes, taps, default_stride)
        self.outputs = tuple(
            _output_size(function, *axis, param.get("ceil_mode", False))
            for axis in zip(self.sizes, self.pads, self.span, self.stride, strict=True)
        )

    @functools.cached_property
    def in_padding(self):
        """Each place with the slices of its window in the padded image."""
        places = np.ndindex(self.outputs)
        return [(place, _taps(place, self.stride, self.span, self.dilation)) for place in places]

    @functools.cached_property
    def inside(self):
        """Each place with the slices of what lies of its window inside the image."""
        return [(place, self._inside(place)) for place in np.ndindex(self.outputs)]

    def _inside(self, place):
        slices = []
        axes = zip(place, self.stride, self.pads, self.span, self.dilation, self.sizes, strict=True)
        for i, stride, (before, _), span, dilation, length in axes:
            start = i * stride - before
            first = start if start >= 0 else start % dilation
            slices.append(slice(first, min(max(start + span, 0), length), dilation))
        return tuple(slices)

    def divisor(self, place, count_include_pad):
        """How many values a mean divides by: with the padding or without, never the overhang."""
        count = 1
        axes = zip(place, self.stride, self.pads, self.span, self.sizes, strict=True)
        for i, stride, (before, after), span, length in axes:
            start = i * stride - before
            if count_include_pad:
                count *= min(start + span, length + after) - start
            else:
                count *= max(min(start + span, length) - max(start, 0), 1)
        return count


def _conv_windows(function, conv_param, x, w):
    _check_rank(function, x)
    if 0 in w.shape:
        raise ValueError(f"{function}: w has an empty dimension: its shape is {w.shape}")
    return _Windows(function, conv_param, x, w.shape[2:])


def _pool_windows(function, pool_param, x):
    _check_rank(function, x)
    pool = pool_window(function, pool_param, x.ndim - 2)
    return _Windows(function, pool_param, x, pool, default_stride=pool)
