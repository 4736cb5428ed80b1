"""Layers on bfloat16, which define what networks prepared with precision='bfloat16' compute.

A bfloat16 is the upper half of a float32: 8 bits of exponent and 8 significant bits. Here arrays of float32
hold such numbers. A layer reads numbers of bfloat16, adds products up in float32, and rounds each result
once, :func:`rounded`. One instruction of AVX512_BF16 multiplies two pairs of numbers and adds both products
to a sum, :func:`dot`; it sees numbers below the normal ones as 0. The order of a sum is part of the
definition, so that results have the same bits on any number of threads and in any batch. AMX adds in another
order.

See the Intel Architecture Instruction Set Extensions Programming Reference for VDPBF16PS and VCVTNEPS2BF16,
and Lavin and Gray 2015, arXiv:1509.09308, for :func:`winograd`.
"""

from __future__ import annotations

import numpy as np

from cnnlib._typing import Array
from cnnlib.naive.windows import _conv_windows, _pool_windows
from cnnlib.typing import AvgPoolParam, ConvParam, MaxPoolParam

_SMALLEST = np.finfo(np.float32).smallest_normal
_UPPER_HALF = np.uint32(0xFFFF0000)
_QUIET = np.uint32(0x00400000)  # of a NaN: it stays NaN when its lower half goes


def rounded(x: Array) -> Array:
    """Round to bfloat16, to nearest, ties to even; float32 below its normal numbers becomes 0 of its sign.

    Parameters
    ----------
    x : ndarray
        Seen as float32.

    Returns
    -------
    ndarray of float32, of x's shape
        NaN stays NaN; beyond the largest bfloat16 stands infinity.

    Examples
    --------
    >>> rounded(np.array([1, 1 + 2**-8, 1 + 3 * 2**-8, 1e-39, 3.4e38])).tolist()
    [1.0, 1.0, 1.015625, 0.0, inf]
    """
    x = _flushed(np.asarray(x, np.float32))
    bits = np.ascontiguousarray(x).view(np.uint32)
    nearest = bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))
    return (np.where(np.isnan(x), bits | _QUIET, nearest) & _UPPER_HALF).view(np.float32).reshape(x.shape)


def _flushed(x: Array) -> Array:
    """Float32 with 0 of the same sign for numbers below the normal ones."""
    return np.where(np.abs(x) < _SMALLEST, np.copysign(np.float32(0), x), x)


def multiply_add(a: Array, b: Array, sums: Array) -> Array:
    """``a * b + sums`` of float32, rounded once, where a and b are bfloat16, or the sums 0.

    Such a product has 16 significant bits: where its sum with a float32 has more than the 53 of float64, one
    of both is too small for the second rounding, to float32, to see it.

    Parameters
    ----------
    a, b, sums : ndarray of float32, which broadcast

    Returns
    -------
    ndarray of float32

    Examples
    --------
    >>> a, b = np.float32(2.0**100), np.float32(2.0**28)  # their product alone is too large
    >>> float(multiply_add(a, b, np.float32(-(2.0**127)))) == 2.0**127
    True
    """
    return (a.astype(np.float64) * b + sums).astype(np.float32)


def dot(sums: Array, x: Array, w: Array) -> Array:
    """Add the products of two pairs of bfloat16 to float32 sums, first that of the second numbers.

    ``sums + x[..., 1] * w[..., 1]``, rounded, then ``+ x[..., 0] * w[..., 0]``, rounded. Operands and
    results below the normal numbers count as 0.

    Parameters
    ----------
    sums : ndarray of float32
    x, w : ndarray of float32 (..., 2), which broadcast

    Returns
    -------
    ndarray of float32

    Examples
    --------
    >>> w = np.array([1, 1], np.float32)
    >>> float(dot(np.float32(-1), np.array([2**-30, 1], np.float32), w)) == 2**-30
    True
    >>> float(dot(np.float32(-1), np.array([1, 2**-30], np.float32), w))
    0.0
    """
    sums, x, w = map(_flushed, (np.asarray(sums), x, w))
    sums = _flushed(multiply_add(x[..., 1], w[..., 1], sums))
    return _flushed(multiply_add(x[..., 0], w[..., 0], sums))


def finish(
    sums: Array,
    b: Array | None = None,
    other: Array | None = None,
    low: float = -np.inf,
    high: float = np.inf,
    scores: bool = False,
) -> Array:
    """``clip(sums + b + other, low, high)``, rounded: how a layer with weights ends.

    Parameters
    ----------
    sums : ndarray of float32 (N, F, OH, OW)
    b : ndarray of float32 (F,) or None
    other : ndarray of float32 (N, F, OH, OW) or None
        What a residual network adds, numbers of bfloat16.
    low, high : float
        ``low=0`` is a ReLU; NaN stays NaN.
    scores : bool
        Leave the results in float32.

    Returns
    -------
    ndarray of float32, of the shape of the sums

    Examples
    --------
    >>> sums = np.array([-1, 1], np.float32).reshape(1, 1, 1, 2)
    >>> finish(sums, np.array([0.001], np.float32), low=0).ravel()
    array([0., 1.], dtype=float32)
    """
    sums = sums + (np.float32(0) if b is None else b.astype(np.float32).reshape(-1, 1, 1))
    if other is not None:
        sums = sums + other
    sums = np.clip(sums, np.float32(low), np.float32(high))
    return sums if scores else rounded(sums)


def conv_sums(x: Array, w: Array, conv_param: ConvParam | None = None) -> Array:
    """The sums of a convolution: by rows of the window, its columns, and pairs of channels, by :func:`dot`.

    Parameters
    ----------
    x : ndarray (N, C, H, W)
        Rounded first.
    w : ndarray (F, C // groups, KH, KW)
        Rounded first. The channels of a group are padded to pairs by 0.
    conv_param : dict or None
        ``stride``, ``pad``, ``dilation``, ``groups``, as in :func:`cnnlib.naive.conv_forward_naive`.

    Returns
    -------
    ndarray of float32 (N, F, OH, OW)

    Examples
    --------
    >>> x = np.ones((1, 3, 4, 4), np.float32)
    >>> conv_sums(x, np.ones((2, 3, 3, 3), np.float32), {"stride": 1, "pad": 0})[0, :, 0, 0]
    array([27., 27.], dtype=float32)
    """
    taps, (N, OH, OW) = _taps_of("conv_sums", x, w, conv_param)
    F, C = w.shape[:2]
    w, groups = _in_pairs(rounded(w)), (conv_param or {}).get("groups", 1)
    sums = np.zeros((groups, N, F // groups, OH, OW), np.float32)
    for i, j, seen in taps:
        for g, own in enumerate(w.reshape(groups, F // groups, *w.shape[1:])):
            values = _in_pairs(seen[:, g * C : (g + 1) * C])
            for k in range(0, own.shape[1], 2):
                pair = np.moveaxis(values[:, None, k : k + 2], 2, -1)
                sums[g] = dot(sums[g], pair, own[:, None, None, k : k + 2, i, j])
    return np.moveaxis(sums, 0, 1).reshape(N, F, OH, OW)


def depthwise_sums(x: Array, w: Array, conv_param: ConvParam) -> Array:
    """The sums of a depthwise convolution: by rows of the window and its columns, by :func:`multiply_add`.

    Parameters
    ----------
    x : ndarray (N, C, H, W)
        Rounded first.
    w : ndarray (C, 1, KH, KW)
        As they are: a norm's are not rounded.
    conv_param : dict
        ``groups`` is C.

    Returns
    -------
    ndarray of float32 (N, C, OH, OW)

    Examples
    --------
    >>> x, w = np.ones((1, 2, 4, 4), np.float32), np.ones((2, 1, 3, 3), np.float32)
    >>> depthwise_sums(x, w, {"stride": 1, "pad": 0, "groups": 2})[0, :, 0, 0]
    array([9., 9.], dtype=float32)
    """
    taps, (N, OH, OW) = _taps_of("depthwise_sums", x, w, conv_param)
    sums = np.zeros((N, len(w), OH, OW), np.float32)
    for i, j, seen in taps:
        sums = multiply_add(seen, w[:, 0, i, j, None, None].astype(np.float32), sums)
    return sums


def _taps_of(function, x, w, conv_param):
    """Each row and column of the windows with what the outputs see there, and N, OH, OW."""
    windows = _conv_windows(function, conv_param or {}, x, w)
    padded = np.pad(rounded(x), ((0, 0), (0, 0), *windows.pads))
    KH, KW = w.shape[2:]
    taps = []
    for i, j in np.ndindex(KH, KW):
        places = zip((i, j), windows.dilation, windows.stride, windows.outputs, strict=True)
        rows, columns = (slice(at * d, at * d + (n - 1) * s + 1, s) for at, d, s, n in places)
        taps.append((i, j, padded[:, :, rows, columns]))
    return taps, (len(x), *windows.outputs)


def _in_pairs(x):
    """The channels, axis 1, padded to pairs by 0."""
    return np.pad(x, ((0, 0), (0, x.shape[1] % 2), *((0, 0),) * (x.ndim - 2)))


def winograd_sums(x: Array, w: Array, conv_param: ConvParam) -> Array:
    """The sums of a 3x3 convolution at stride 1 by Winograd's F(2x2, 3x3): 2x2 outputs of a tile at a time.

    Tiles ``B' x B`` and filters ``G w G'`` are computed in float32, first along columns, and rounded; their
    16 points are multiplied by :func:`dot`, and ``A' sums A`` is computed in float32 from left to right::

        B' = [1  0 -1  0]   G = [1    0   0 ]   A' = [1  1  1  0]
             [0  1  1  0]       [1/2  1/2 1/2]        [0  1 -1 -1]
             [0 -1  1  0]       [1/2 -1/2 1/2]
             [0  1  0 -1]       [0    0   1 ]

    Parameters
    ----------
    x : ndarray (N, C, H, W)
        Rounded first.
    w : ndarray (F, C, 3, 3)
        Rounded first.
    conv_param : dict
        ``pad``; the rest is 1.

    Returns
    -------
    ndarray of float32 (N, F, OH, OW)

    Examples
    --------
    >>> x, w = np.ones((1, 2, 4, 4), np.float32), np.ones((3, 2, 3, 3), np.float32)
    >>> winograd_sums(x, w, {"pad": 0})[0, 0]
    array([[18., 18.],
           [18., 18.]], dtype=float32)
    """
    windows = _conv_windows("winograd_sums", conv_param, x, w)
    OH, OW = windows.outputs
    odd = ((0, OH % 2), (0, OW % 2))
    padded = np.pad(rounded(x), ((0, 0), (0, 0), *windows.pads))
    padded = np.pad(padded, ((0, 0), (0, 0), *odd))  # which no output takes
    tiles = np.lib.stride_tricks.sliding_window_view(padded, (4, 4), axis=(2, 3))[:, :, ::2, ::2]
    points = _in_pairs(rounded(_transformed(_transformed(tiles, 4), 5)))
    filters = _in_pairs(rounded(_filter_points(_filter_points(rounded(w), 3), 2)))
    N, C, high, wide = points.shape[:4]
    sums = np.zeros((N, len(w), high, wide, 4, 4), np.float32)
    for k in range(0, C, 2):
        pair = np.moveaxis(points[:, None, k : k + 2], 2, -1)
        sums = dot(sums, pair, np.moveaxis(filters[:, k : k + 2], 1, -1)[None, :, None, None])
    outputs = _outputs(_outputs(sums, 4), 5)
    return np.moveaxis(outputs, 4, 3).reshape(N, len(w), 2 * high, 2 * wide)[:, :, :OH, :OW]


def _transformed(x, axis):
    """B' along an axis of four."""
    a, b, e, f = np.moveaxis(x, axis, 0)
    return np.stack([a - e, b + e, e - b, b - f], axis)


def _filter_points(w, axis):
    """G along an axis of three; halves are exact."""
    a, b, e = np.moveaxis(w, axis, 0)
    half = np.float32(0.5)
    ends, middle = half * (a + e), half * b
    return np.stack([a, ends + middle, ends - middle, e], axis)


def _outputs(sums, axis):
    """A' along an axis of four."""
    a, b, e, f = np.moveaxis(sums, axis, 0)
    return np.stack([a + b + e, b - e - f], axis)


def max_pool(x: Array, pool_param: MaxPoolParam) -> Array:
    """The largest number of each window, (N, C, OH, OW): NaN is the largest of all, and -0 is less than 0.

    Parameters
    ----------
    x : ndarray (N, C, H, W)
        Rounded first.
    pool_param : dict
        As in :func:`cnnlib.naive.max_pool_forward_naive`.

    Examples
    --------
    >>> x = np.array([[-0.0, 0.0], [-1, -2]], np.float32).reshape(1, 1, 2, 2)
    >>> max_pool(x, {"pool_height": 2, "pool_width": 2}).item()
    0.0
    """
    x = rounded(x)
    bits = (x.view(np.uint32) >> np.uint32(16)).astype(np.uint16).view(np.int16)
    order = np.where(np.isnan(x), np.int16(0x7FFF), bits ^ (bits >> np.int16(15) & np.int16(0x7FFF)))
    windows = _pool_windows("max_pool", pool_param, x)
    most = np.zeros((*x.shape[:2], *windows.outputs), np.int16)
    for place, window in windows.inside:
        most[(..., *place)] = order[(..., *window)].max(axis=(2, 3))
    most ^= most >> np.int16(15) & np.int16(0x7FFF)
    return (most.view(np.uint16).astype(np.uint32) << np.uint32(16)).view(np.float32)


def avg_pool(x: Array, pool_param: AvgPoolParam) -> Array:
    """The mean of each window: its sum in float32, row by row, divided in float32, rounded.

    Parameters
    ----------
    x : ndarray (N, C, H, W)
        Rounded first.
    pool_param : dict
        As in :func:`cnnlib.naive.avg_pool_forward_naive`.

    Returns
    -------
    ndarray of float32 (N, C, OH, OW)

    Examples
    --------
    >>> x = np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2)
    >>> avg_pool(x, {"pool_height": 2, "pool_width": 2}).item()
    1.5
    """
    x, windows = rounded(x), _pool_windows("avg_pool", pool_param, x)
    counted = pool_param.get("count_include_pad", True)
    out = np.zeros((*x.shape[:2], *windows.outputs), np.float32)
    for place, window in windows.inside:
        values = x[(..., *window)]
        total: Array = np.zeros(x.shape[:2], np.float32)
        for h, w in np.ndindex(*values.shape[2:]):
            total = total + values[..., h, w]
        out[(..., *place)] = total / np.float32(windows.divisor(place, counted))
    return rounded(out)


def add(a: Array, b: Array, relu: bool = False) -> Array:
    """``a + b`` in float32, with the ReLU behind it or without, rounded.

    Parameters
    ----------
    a, b : ndarray, which broadcast
        Rounded first.
    relu : bool

    Returns
    -------
    ndarray of float32

    Examples
    --------
    >>> add(np.float32([1, -3]), np.float32([2, 1]), relu=True)
    array([3., 0.], dtype=float32)
    """
    total = rounded(a) + rounded(b)
    return rounded(np.maximum(total, 0) if relu else total)


def multiply(a: Array, b: Array) -> Array:
    """``a * b`` in float32, rounded.

    Parameters
    ----------
    a, b : ndarray, which broadcast
        Rounded first.

    Returns
    -------
    ndarray of float32

    Examples
    --------
    >>> multiply(np.float32([1.5, -3]), np.float32([2, 1]))
    array([ 3., -3.], dtype=float32)
    """
    return rounded(rounded(a) * rounded(b))
