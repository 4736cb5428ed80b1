"""Plain-loop convolution and pooling along any number of axes; sequences and volumes are cases of it."""

from __future__ import annotations

import numpy as np

from cnnlib.naive.dtypes import _float_dtype
from cnnlib.naive.windows import _geometry, _output_size, _refuse_empty, _taps, _taps_inside


class _Windows:
    """Where the windows of `taps` stand along the axes of images of these sizes."""

    def __init__(self, function, param, sizes, taps, default_stride):
        self.sizes = sizes
        self.stride, self.dilation, self.pads, self.span = _geometry(param, sizes, taps, default_stride)
        self.outputs = tuple(
            _output_size(function, *axis, param.get("ceil_mode", False))
            for axis in zip(sizes, self.pads, self.span, self.stride, strict=True)
        )

    def __iter__(self):
        """Yield each output's index."""
        return iter(np.ndindex(self.outputs))

    def padded(self, index):
        """The slices of an output's taps in the padded image."""
        axes = zip(index, self.stride, self.span, self.dilation, strict=True)
        return tuple(_taps(i * stride, span, step) for i, stride, span, step in axes)

    def inside(self, index):
        """The slices of those taps that lie inside the image."""
        axes = zip(index, self.stride, self.pads, self.span, self.dilation, self.sizes, strict=True)
        return tuple(_taps_inside(i * s - pad[0], span, step, n) for i, s, pad, span, step, n in axes)

    def averaged(self, index, count_include_pad):
        """How many values a mean divides by: with the padding or without, never the overhang."""
        count = 1
        for i, s, (before, after), span, n in zip(
            index, self.stride, self.pads, self.span, self.sizes, strict=True
        ):
            start = i * s - before
            if count_include_pad:
                count *= min(start + span, n + after) - start
            else:
                count *= max(min(start + span, n) - max(start, 0), 1)
        return count


def _conv_windows(function, x, w, conv_param):
    _refuse_empty(function, "x", x)
    if 0 in w.shape:
        raise ValueError(f"{function}: w has an empty dimension: its shape is {w.shape}")
    return _Windows(function, conv_param, x.shape[2:], w.shape[2:], 1)


def _with_padding(x, windows):
    return np.pad(x, ((0, 0), (0, 0), *windows.pads))


def conv_forward_any(function, x, w, b, conv_param):
    """out[n, f, i] = sum of w[f] * the window of x[n] at i, of the filter's group of channels, + b[f]."""
    windows = _conv_windows(function, x, w, conv_param)
    F, C_group = w.shape[:2]
    F_group = F // conv_param.get("groups", 1)
    padded = _with_padding(x, windows)
    out = np.zeros((len(x), F, *windows.outputs), dtype=_float_dtype(x, w, b))
    for n in range(len(x)):
        for f in range(F):
            first = f // F_group * C_group
            channels = slice(first, first + C_group)
            for index in windows:
                out[(n, f, *index)] = np.sum(padded[(n, channels, *windows.padded(index))] * w[f])
            if b is not None:
                out[n, f] += b[f]
    return out


def conv_backward_any(function, dout, x, w, b, conv_param):
    """dw[f] gathers the windows of x, and dx the filter, each times dout; db sums dout."""
    windows = _conv_windows(function, x, w, conv_param)
    F, C_group = w.shape[:2]
    F_group = F // conv_param.get("groups", 1)
    dtype = _float_dtype(x, w, b)
    padded = _with_padding(x, windows)
    dpadded, dw = np.zeros(padded.shape, dtype=dtype), np.zeros(w.shape, dtype=dtype)
    for n in range(len(x)):
        for f in range(F):
            first = f // F_group * C_group
            channels = slice(first, first + C_group)
            for index in windows:
                window = (n, channels, *windows.padded(index))
                dw[f] += dout[(n, f, *index)] * padded[window]
                dpadded[window] += dout[(n, f, *index)] * w[f]
    sides = zip(windows.pads, x.shape[2:], strict=True)
    inside = tuple(slice(before, before + n) for (before, _), n in sides)
    dx = dpadded[(slice(None), slice(None), *inside)].copy()
    axes = (0, *range(2, x.ndim))
    return dx, dw, None if b is None else np.sum(dout, axis=axes, dtype=dtype)


def _pool_windows(function, x, taps, pool_param):
    _refuse_empty(function, "x", x)
    return _Windows(function, pool_param, x.shape[2:], taps, taps)


def max_pool_forward_any(function, x, taps, pool_param):
    windows = _pool_windows(function, x, taps, pool_param)
    out = np.zeros((*x.shape[:2], *windows.outputs), dtype=_float_dtype(x))
    for n, c in np.ndindex(x.shape[:2]):
        for index in windows:
            window = x[(n, c, *windows.inside(index))]
            out[(n, c, *index)] = np.max(window) if window.size else -np.inf
    return out


def max_pool_backward_any(function, dout, x, taps, pool_param):
    """All of a window's gradient to its first maximum in row-major order, or its first NaN."""
    windows = _pool_windows(function, x, taps, pool_param)
    dx = np.zeros(x.shape, dtype=_float_dtype(x))
    for n, c in np.ndindex(x.shape[:2]):
        for index in windows:
            place = (n, c, *windows.inside(index))
            window = x[place]
            if window.size:
                best = np.unravel_index(np.argmax(window), window.shape)
                dx[place][best] += dout[(n, c, *index)]
    return dx


def avg_pool_forward_any(function, x, taps, pool_param):
    windows = _pool_windows(function, x, taps, pool_param)
    count_include_pad = pool_param.get("count_include_pad", True)
    out = np.zeros((*x.shape[:2], *windows.outputs), dtype=_float_dtype(x))
    for n, c in np.ndindex(x.shape[:2]):
        for index in windows:
            total = np.sum(x[(n, c, *windows.inside(index))])
            out[(n, c, *index)] = total / windows.averaged(index, count_include_pad)
    return out


def avg_pool_backward_any(function, dout, x, taps, pool_param):
    """An equal share of a window's gradient to each value that it averages."""
    windows = _pool_windows(function, x, taps, pool_param)
    count_include_pad = pool_param.get("count_include_pad", True)
    dx = np.zeros(x.shape, dtype=_float_dtype(x))
    for n, c in np.ndindex(x.shape[:2]):
        for index in windows:
            share = dout[(n, c, *index)] / windows.averaged(index, count_include_pad)
            dx[(n, c, *windows.inside(index))] += share
    return dx
