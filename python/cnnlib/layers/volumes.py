"""
Convolution of sequences (N, C, L) and volumes (N, C, D, H, W) by the kernels for images.

A sequence is an image of one row. A volume's output plane is an image's convolution of the KD input planes
under its window, stacked as channels.
"""

from __future__ import annotations

import math

import numpy as np

from cnnlib import _core
from cnnlib._params.arrays import prepare, result
from cnnlib._typing import Array, ArrayLike, Cache, Needs, Wanted
from cnnlib.layers.axes import check_shape, conv_axes, plane_param, row_axis
from cnnlib.layers.conv import _unpacked
from cnnlib.typing import ConvParam

__all__ = ["conv1d_backward", "conv1d_forward", "conv3d_backward", "conv3d_forward"]

_STACK_BYTES = 8 << 20  # of stacked planes at a time: they stay in most processors' last level


def conv1d_forward(
    x: ArrayLike, w: ArrayLike, b: ArrayLike | None = None, conv_param: ConvParam | None = None
) -> tuple[Array, Cache]:
    """
    Convolve (cross-correlate) sequences with filters.

    Parameters
    ----------
    x : array, (N, C, L)
        Sequences.
    w : array, (F, C / groups, K)
        Filters.
    b : array, (F,), or None
        Biases.
    conv_param : dict or None
        `stride` (1), `pad` (0), `dilation` (1): an int or (horizontal,); `pad` may also be
        ((before, after),), 'same' or 'valid'. `groups` (1) divides C and F. `algorithm` ('auto') as in
        `conv_forward`.

    Returns
    -------
    out : array, (N, F, OL)
        OL = 1 + (L + before + after - dilation * (K - 1) - 1) // stride.
    cache : tuple
        (x, w, b, conv_param), for `conv1d_backward`.

    Raises
    ------
    ValueError
        A window larger than the padded sequence.

    Examples
    --------
    The difference of neighbours:

    >>> x, w = np.array([[[1.0, 4.0, 9.0, 16.0]]]), np.array([[[-1.0, 1.0]]])
    >>> out, cache = conv1d_forward(x, w)
    >>> out
    array([[[3., 5., 7.]]])
    >>> dx, dw, _ = conv1d_backward(np.ones_like(out), cache)
    >>> dx, dw
    (array([[[-1.,  0.,  0.,  1.]]]), array([[[14., 29.]]]))
    """
    function = "conv1d_forward"
    conv_param = {} if conv_param is None else conv_param
    (x_, w_, b_), dtype = prepare(function, ("x", "w", "b"), x, w, b)
    (axis,), groups = conv_axes(function, conv_param, x_, w_, b_, 1)
    param = plane_param(row_axis(), axis, groups, conv_param)
    y = _core.conv_forward(function, x_[:, :, None], w_[:, :, None], b_, param, False, None)
    return result(y[:, :, 0], dtype), (x, w, b, conv_param)


def conv1d_backward(dout: ArrayLike, cache: Cache, *, needs: Needs = None) -> tuple[Wanted, Wanted, Wanted]:
    """
    Gradients of `conv1d_forward`.

    Parameters
    ----------
    dout : array, (N, F, OL)
    cache : tuple
        (x, w, b, conv_param).
    needs : tuple of 'dx', 'dw', 'db', optional
        The gradients wanted, all by default; the others come back as None and cost nothing.

    Returns
    -------
    dx, dw, db : arrays of the shapes of x, w and b
        `db` is None where b was.

    Raises
    ------
    ValueError, TypeError
        As in `conv1d_forward`, or `dout` of another shape than the output.
    """
    function = "conv1d_backward"
    (dy, x, w, b), conv_param, need, dtype = _unpacked(function, dout, cache, needs)
    (axis,), groups = conv_axes(function, conv_param, x, w, b, 1)
    check_shape(function, "dout", dy, (x.shape[0], w.shape[0], axis.outputs))
    param = plane_param(row_axis(), axis, groups, conv_param)
    rows = dy[:, :, None], x[:, :, None], w[:, :, None]
    grads = _core.conv_backward(function, *rows, param, need)
    dx, dw = (None if grad is None else grad[:, :, 0] for grad in grads[:2])
    return result(dx, dtype), result(dw, dtype), result(grads[2], dtype)


class _Stacks:
    """The input planes under each output plane's window, some output planes of all images at a time."""

    def __init__(self, function, x, w, depth, groups):
        N, C, D, H, W = x.shape
        self.function = function
        self.depth, self.taps = depth, depth.taps
        self.by_group = (N, groups, C // groups, D, H, W)
        self.channels = (groups, self.taps, C // groups, H, W)
        self.planes = N * depth.outputs
        stack = C * self.taps * H * W * x.itemsize
        self.at_once = max(1, _STACK_BYTES // stack)

    def ranges(self):
        """Output planes as (first, last + 1), counted through the batch; (0, 0) where there are none.

        They are those of whole images, or a part of one image's, whatever its place in the batch.
        """
        images = self.depth.outputs * max(1, self.at_once // self.depth.outputs)
        for begin in range(0, max(1, self.planes), images):
            end = min(begin + images, self.planes)
            for first in range(begin, max(1, end), self.at_once):
                yield first, min(first + self.at_once, end)

    def images(self, first, last):
        """Yield (n, planes of the image, their places in the range)."""
        OD = self.depth.outputs
        for n in range(first // OD, -(-last // OD)):
            begin, end = max(first - n * OD, 0), min(last - n * OD, OD)
            yield n, slice(begin, end), slice(n * OD + begin - first, n * OD + end - first)

    def _pieces(self, first, last):
        """Yield (n, tap, places in the range, input planes) of what lies inside the volume."""
        axis = self.depth
        for n, planes, places in self.images(first, last):
            for tap in range(self.taps):
                offset = tap * axis.dilation - axis.before
                begin = max(planes.start, -(-max(-offset, 0) // axis.stride))
                end = min(planes.stop, (axis.size - 1 - offset) // axis.stride + 1)
                if begin < end:
                    shift = places.start - planes.start
                    start = begin * axis.stride + offset
                    depths = slice(start, (end - 1) * axis.stride + offset + 1, axis.stride)
                    yield n, tap, slice(begin + shift, end + shift), depths

    def gather(self, x, first, last):
        """Stacks (planes, C * KD, H, W), the taps of a group side by side."""
        stacks = _core.new_array(self.function, (last - first, *self.channels), x.dtype)
        if self.depth.before or self.depth.after:
            stacks[...] = 0
        volumes = x.reshape(self.by_group)
        for n, tap, places, depths in self._pieces(first, last):
            stacks[places, :, tap] = np.moveaxis(volumes[n, :, :, depths], 2, 0)
        return stacks.reshape(last - first, math.prod(self.channels[:3]), *self.by_group[4:])

    def scatter(self, dstacks, dx, first, last):
        """Add the gradients of stacks to those of their planes."""
        dstacks = dstacks.reshape(last - first, *self.channels)
        volumes = dx.reshape(self.by_group)
        for n, tap, places, depths in self._pieces(first, last):
            volumes[n, :, :, depths] += np.moveaxis(dstacks[places, :, tap], 0, 2)


def _stacked_filters(w):
    """Filters (F, C / groups, KD, KH, KW) as those of stacks, (F, KD * C / groups, KH, KW)."""
    F, C, KD, KH, KW = w.shape
    return np.ascontiguousarray(w.swapaxes(1, 2)).reshape(F, KD * C, KH, KW)


def conv3d_forward(
    x: ArrayLike, w: ArrayLike, b: ArrayLike | None = None, conv_param: ConvParam | None = None
) -> tuple[Array, Cache]:
    """
    Convolve (cross-correlate) volumes with filters.

    Parameters
    ----------
    x : array, (N, C, D, H, W)
        Volumes.
    w : array, (F, C / groups, KD, KH, KW)
        Filters.
    b : array, (F,), or None
        Biases.
    conv_param : dict or None
        `stride` (1), `pad` (0), `dilation` (1): an int or (depth, vertical, horizontal); for a number in
        `pad` there may be (before, after), or all of it is 'same' or 'valid'. `groups` (1) divides C and
        F. `algorithm` ('auto') as in `conv_forward`, of the planes.

    Returns
    -------
    out : array, (N, F, OD, OH, OW)
        OD = 1 + (D + before + after - dilation * (KD - 1) - 1) // stride, OH and OW alike.
    cache : tuple
        (x, w, b, conv_param), for `conv3d_backward`.

    Raises
    ------
    ValueError
        A window larger than the padded volume.

    Examples
    --------
    The sum of each window of 2x2x2 values:

    >>> x, w = np.ones((1, 1, 3, 4, 4)), np.ones((5, 1, 2, 2, 2))
    >>> out, cache = conv3d_forward(x, w, np.zeros(5))
    >>> out.shape, out[0, 0, 0, 0]
    ((1, 5, 2, 3, 3), array([8., 8., 8.]))
    >>> [grad.shape for grad in conv3d_backward(out, cache)]
    [(1, 1, 3, 4, 4), (5, 1, 2, 2, 2), (5,)]
    """
    function = "conv3d_forward"
    conv_param = {} if conv_param is None else conv_param
    (x_, w_, b_), dtype = prepare(function, ("x", "w", "b"), x, w, b)
    (depth, vertical, horizontal), groups = conv_axes(function, conv_param, x_, w_, b_, 3)
    param = plane_param(vertical, horizontal, groups, conv_param)
    stacks, filters = _Stacks(function, x_, w_, depth, groups), _stacked_filters(w_)
    shape = (x_.shape[0], w_.shape[0], *(axis.outputs for axis in (depth, vertical, horizontal)))
    out = _core.new_array(function, shape, x_.dtype)
    for first, last in stacks.ranges():
        planes = stacks.gather(x_, first, last)
        y = _core.conv_forward(function, planes, filters, b_, param, False, None)
        for n, depths, places in stacks.images(first, last):
            out[n, :, depths] = y[places].swapaxes(0, 1)
    return result(out, dtype), (x, w, b, conv_param)


def conv3d_backward(dout: ArrayLike, cache: Cache, *, needs: Needs = None) -> tuple[Wanted, Wanted, Wanted]:
    """
    Gradients of `conv3d_forward`.

    Parameters
    ----------
    dout : array, (N, F, OD, OH, OW)
    cache : tuple
        (x, w, b, conv_param).
    needs : tuple of 'dx', 'dw', 'db', optional
        The gradients wanted, all by default; the others come back as None and cost nothing.

    Returns
    -------
    dx, dw, db : arrays of the shapes of x, w and b
        `db` is None where b was.

    Raises
    ------
    ValueError, TypeError
        As in `conv3d_forward`, or `dout` of another shape than the output.
    """
    function = "conv3d_backward"
    (dy, x, w, b), conv_param, need, dtype = _unpacked(function, dout, cache, needs)
    axes, groups = conv_axes(function, conv_param, x, w, b, 3)
    check_shape(function, "dout", dy, (x.shape[0], w.shape[0], *(axis.outputs for axis in axes)))
    grads = _conv3d_gradients(function, dy, x, w, axes, groups, conv_param, need)
    return tuple(result(grad, dtype) for grad in grads)


def _conv3d_gradients(function, dout, x, w, axes, groups, conv_param, need):
    depth, vertical, horizontal = axes
    param = plane_param(vertical, horizontal, groups, conv_param)
    stacks, filters = _Stacks(function, x, w, depth, groups), _stacked_filters(w)
    dx = _core.new_array(function, x.shape, x.dtype) if need[0] else None
    if dx is not None:
        dx.fill(0)
    dw = np.zeros(filters.shape, x.dtype) if need[1] else None
    db = np.zeros(len(w), x.dtype) if need[2] else None
    for first, last in stacks.ranges():
        dy = _core.new_array(function, (last - first, w.shape[0], *dout.shape[3:]), x.dtype)
        for n, depths, places in stacks.images(first, last):
            dy[places] = dout[n, :, depths].swapaxes(0, 1)
        planes = stacks.gather(x, first, last)
        dstacks, *sums = _core.conv_backward(function, dy, planes, filters, param, need)
        if dx is not None:
            stacks.scatter(dstacks, dx, first, last)
        for total, part in zip((dw, db), sums):
            if total is not None:
                total += part
    if dw is not None:
        F, C, KD, KH, KW = w.shape
        dw = np.ascontiguousarray(dw.reshape(F, KD, C, KH, KW).swapaxes(1, 2))
    return dx, dw, db
