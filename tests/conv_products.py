"""Convolution as products of matrices: the loops' results, to rounding, where the loops would take seconds.

tests/kernels/test_naive.py compares it with the loops.
"""

import numpy as np
from cnnlib import naive
from cnnlib.naive.windows import _conv_windows

LOOPS = 2000  # outputs: below, the loops are as fast


def conv_results(x, w, b, param, dout_of):
    """dout, and out, dx, dw, db for it; `dout_of(shape)` makes it."""
    windows = _conv_windows("conv", param, x, w)
    shape = (len(x), len(w), *windows.outputs)
    dout = dout_of(shape)
    if np.prod(shape) < LOOPS:
        out, cache = naive.conv_forward_naive(x, w, b, param)
        return dout, (out, *naive.conv_backward_naive(dout, cache))
    return dout, by_products(x, w, b, dout, windows, param.get("groups", 1))


def by_products(x, w, b, dout, windows, groups):
    """Each window of a group's channels is a row; so the sums over it are a product with the filters."""
    (F, C_group, KH, KW), (OH, OW) = w.shape, windows.outputs
    F_group, (sh, sw), (dh, dw_) = F // groups, windows.stride, windows.dilation
    padded = np.pad(x, ((0, 0), (0, 0), *windows.pads))
    taps = np.lib.stride_tricks.sliding_window_view(padded, windows.span, (2, 3))[
        :, :, : (OH - 1) * sh + 1 : sh, : (OW - 1) * sw + 1 : sw, ::dh, ::dw_
    ]
    out, dw, dpadded = np.empty(dout.shape), np.empty(w.shape), np.zeros(padded.shape)
    for group in range(groups):
        channels = slice(group * C_group, (group + 1) * C_group)
        filters = slice(group * F_group, (group + 1) * F_group)
        rows = taps[:, channels].transpose(0, 2, 3, 1, 4, 5).reshape(-1, C_group * KH * KW)
        matrix, douts = w[filters].reshape(F_group, -1), dout[:, filters].transpose(0, 2, 3, 1)
        out[:, filters] = (rows @ matrix.T).reshape(douts.shape).transpose(0, 3, 1, 2)
        dw[filters] = (douts.reshape(-1, F_group).T @ rows).reshape(F_group, C_group, KH, KW)
        drows = (douts.reshape(-1, F_group) @ matrix).reshape(len(x), OH, OW, C_group, KH, KW)
        for i, j in np.ndindex(KH, KW):
            dpadded[:, channels, i * dh : i * dh + OH * sh : sh, j * dw_ : j * dw_ + OW * sw : sw] += drows[
                ..., i, j
            ].transpose(0, 3, 1, 2)
    (top, _), (left, _) = windows.pads
    dx = dpadded[:, :, top : top + x.shape[2], left : left + x.shape[3]]
    if b is None:
        return out, dx, dw, None
    return out + b[:, None, None], dx, dw, dout.sum(axis=(0, 2, 3))
