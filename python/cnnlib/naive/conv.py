"""Plain-loop convolution and transposed convolution."""

from __future__ import annotations

import numpy as np

from cnnlib._typing import Array, Cache, Wanted
from cnnlib.naive.windows import _conv_windows, _float_dtype, _geometry, _pair, _refuse_empty, _taps
from cnnlib.typing import ConvParam, ConvTransposeParam

__all__ = ["conv_backward_naive", "conv_forward_naive", "conv_transpose_backward_naive"]
__all__ += ["conv_transpose_forward_naive"]


def conv_forward_naive(
    x: Array, w: Array, b: Array | None = None, conv_param: ConvParam | None = None
) -> tuple[Array, Cache]:
    """Slide the filters over the padded images (cross-correlation, as all neural networks mean it).

    ``out[n, f, i, j] = b[f] + sum over c, p, q of
    padded[n, c, i * stride + p * dilation, j * stride + q * dilation] * w[f, c, p, q]``

    Parameters
    ----------
    x : ndarray (N, C, H, W)
    w : ndarray (F, C // groups, KH, KW)
    b : ndarray (F,) or None
    conv_param : dict or None
        ``stride`` (1), ``pad`` (0), ``dilation`` (1), ``groups`` (1). With groups, filter ``f`` sees only
        the channels of its own group: the first ``F / groups`` filters see the first ``C / groups``
        channels, and so on. ``algorithm`` has no meaning here.

    Returns
    -------
    out : ndarray (N, F, OH, OW)
        ``OH = 1 + (H + top + bottom - dilation * (KH - 1) - 1) // stride``, OW alike.
    cache : tuple
        ``(x, w, b, conv_param)``
    """
    return _forward("conv_forward_naive", x, w, b, conv_param)


def _forward(function, x, w, b, conv_param):
    """In images, sequences and volumes: `place` is (i, j), (i,) or (h, i, j), `window` as many slices."""
    conv_param = {} if conv_param is None else conv_param
    windows = _conv_windows(function, conv_param, x, w)
    F, C_group = w.shape[:2]
    F_group = F // conv_param.get("groups", 1)

    dtype = _float_dtype(x, w, b)
    padded = np.pad(x.astype(dtype), ((0, 0), (0, 0), *windows.pads))
    out = np.zeros((len(x), F, *windows.outputs), dtype=dtype)
    for n, f in np.ndindex(len(x), F):
        first = (f // F_group) * C_group
        channels = slice(first, first + C_group)
        for place, window in windows.in_padding:
            out[(n, f, *place)] = np.sum(padded[(n, channels, *window)] * w[f])
            if b is not None:
                out[(n, f, *place)] += b[f]
    return out, (x, w, b, conv_param)


def conv_backward_naive(dout: Array, cache: Cache) -> tuple[Array, Array, Wanted]:
    """Gradients dx, dw, db of :func:`conv_forward_naive`; db is None without a bias.

    Each output was a window times a filter, so each ``dout[n, f, i, j]`` sends ``dout * w[f]`` back to
    its window and ``dout * window`` to its filter; all that arrives at a place adds up.
    """
    return _backward("conv_backward_naive", dout, *cache)


def _backward(function, dout, x, w, b, conv_param):
    windows = _conv_windows(function, conv_param, x, w)
    F, C_group = w.shape[:2]
    F_group = F // conv_param.get("groups", 1)

    dtype = _float_dtype(x, w, b)
    padded, w = np.pad(x.astype(dtype), ((0, 0), (0, 0), *windows.pads)), w.astype(dtype)
    dpadded = np.zeros(padded.shape, dtype=dtype)
    dw = np.zeros(w.shape, dtype=dtype)
    db = None if b is None else np.zeros(b.shape, dtype=dtype)
    for n, f in np.ndindex(len(x), F):
        first = (f // F_group) * C_group
        channels = slice(first, first + C_group)
        for place, window in windows.in_padding:
            dpadded[(n, channels, *window)] += dout[(n, f, *place)] * w[f]
            dw[f] += dout[(n, f, *place)] * padded[(n, channels, *window)]
            if db is not None:
                db[f] += dout[(n, f, *place)]
    inside = (slice(before, before + size) for (before, _), size in zip(windows.pads, x.shape[2:]))
    return dpadded[(slice(None), slice(None), *inside)].copy(), dw, db


def conv_transpose_forward_naive(
    x: Array, w: Array, b: Array | None = None, conv_param: ConvTransposeParam | None = None
) -> tuple[Array, Cache]:
    """Convolution run backwards: each input pixel paints a copy of its filters onto the output.

    ``canvas[n, f, i * stride + p * dilation, j * stride + q * dilation] += x[n, c, i, j] * w[c, f, p, q]``,
    and then ``pad`` rows and columns are cut off the canvas. This is what :func:`conv_backward_naive`
    does to get dx, so it undoes the change of size of a convolution of the same parameters.

    Parameters
    ----------
    x : ndarray (N, C, H, W)
    w : ndarray (C, F // groups, KH, KW)
    b : ndarray (F,) or None
    conv_param : dict or None
        ``stride`` (1), ``pad`` (0; not 'same'), ``dilation`` (1), ``groups`` (1), ``output_pad`` (0): extra
        rows below and columns to the right.

    Returns
    -------
    out : ndarray (N, F, OH, OW)
        ``OH = (H - 1) * stride - top - bottom + dilation * (KH - 1) + 1 + output_pad``, OW alike.
    cache : tuple
        ``(x, w, b, conv_param)``
    """
    conv_param = {} if conv_param is None else conv_param
    N, C, H, W = x.shape
    _, F_group, _, _ = w.shape
    stride, dilation, pads, extent = _transposed("conv_transpose_forward_naive", conv_param, x, w)
    output_pad = _pair(conv_param.get("output_pad", 0))
    groups = conv_param.get("groups", 1)
    C_group, F = C // groups, F_group * groups

    canvas_height = (H - 1) * stride[0] + extent[0] + output_pad[0]
    canvas_width = (W - 1) * stride[1] + extent[1] + output_pad[1]
    (top, bottom), (left, right) = pads
    if canvas_height <= top + bottom or canvas_width <= left + right:
        raise ValueError(f"conv_transpose_forward_naive: pad {pads} leaves nothing of the output")
    dtype = _float_dtype(x, w, b)
    canvas, pixels = np.zeros((N, F, canvas_height, canvas_width), dtype=dtype), x.astype(dtype)
    for n, c in np.ndindex(N, C):
        first = (c // C_group) * F_group
        filters = slice(first, first + F_group)
        for i, j in np.ndindex(H, W):
            window = _taps((i, j), stride, extent, dilation)
            canvas[(n, filters, *window)] += pixels[n, c, i, j] * w[c]
    out = canvas[:, :, top : canvas_height - bottom, left : canvas_width - right].copy()
    if b is not None:
        out += b.reshape(1, F, 1, 1)
    return out, (x, w, b, conv_param)


def conv_transpose_backward_naive(dout: Array, cache: Cache) -> tuple[Array, Array, Wanted]:
    """Gradients dx, dw, db of :func:`conv_transpose_forward_naive`; db is None without a bias.

    Pixel ``x[n, c, i, j]`` painted a window of the output with ``w[c]``; so its gradient is that window of
    dout times ``w[c]``, and that of ``w[c]`` the window of dout times the pixel.
    """
    x, w, b, conv_param = cache
    N, C, H, W = x.shape
    _, F_group, _, _ = w.shape
    stride, dilation, pads, extent = _transposed("conv_transpose_backward_naive", conv_param, x, w)
    C_group = C // conv_param.get("groups", 1)

    dtype = _float_dtype(x, w, b)
    x, w = x.astype(dtype), w.astype(dtype)
    dcanvas = np.pad(dout, ((0, 0), (0, 0), *pads))
    dx = np.zeros(x.shape, dtype=dtype)
    dw = np.zeros(w.shape, dtype=dtype)
    for n, c in np.ndindex(N, C):
        first = (c // C_group) * F_group
        filters = slice(first, first + F_group)
        for i, j in np.ndindex(H, W):
            dwindow = dcanvas[(n, filters, *_taps((i, j), stride, extent, dilation))]
            dx[n, c, i, j] = np.sum(dwindow * w[c])
            dw[c] += dwindow * x[n, c, i, j]
    db = None if b is None else np.sum(dout, axis=(0, 2, 3), dtype=dtype)
    return dx, dw, db


def _transposed(function, conv_param, x, w):
    """Stride, dilation, pads and extent: each pixel of x is spread over a window of the result."""
    _refuse_empty(function, "x", x)
    if 0 in w.shape:
        raise ValueError(f"{function}: w has an empty dimension: its shape is {w.shape}")
    return _geometry(conv_param, x.shape[2:], w.shape[2:])
