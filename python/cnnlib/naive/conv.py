"""Plain-loop convolution and transposed convolution."""

from __future__ import annotations

import numpy as np

from cnnlib._typing import Array, Cache, Wanted
from cnnlib.naive.dtypes import _float_dtype
from cnnlib.naive.windows import _conv_geometry, _output_size, _pair, _taps
from cnnlib.typing import ConvParam, ConvTransposeParam

__all__ = ["conv_backward_naive", "conv_forward_naive", "conv_transpose_backward_naive"]
__all__ += ["conv_transpose_forward_naive"]


def conv_forward_naive(x: Array, w: Array, b: Array | None, conv_param: ConvParam) -> tuple[Array, Cache]:
    """Slide the filters over the padded images (cross-correlation, as all neural networks mean it).

    ``out[n, f, i, j] = b[f] + sum over c, p, q of
    padded[n, c, i * stride + p * dilation, j * stride + q * dilation] * w[f, c, p, q]``

    Parameters
    ----------
    x : ndarray (N, C, H, W)
    w : ndarray (F, C // groups, KH, KW)
    b : ndarray (F,) or None
    conv_param : dict
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
    N, _, H, W = x.shape
    F, C_group, _, _ = w.shape
    stride, dilation, pads, extent = _conv_geometry("conv_forward_naive", conv_param, x, w)
    F_group = F // conv_param.get("groups", 1)
    OH = _output_size("conv_forward_naive", H, pads[0], extent[0], stride[0])
    OW = _output_size("conv_forward_naive", W, pads[1], extent[1], stride[1])

    padded = np.pad(x, ((0, 0), (0, 0), *pads))
    out = np.zeros((N, F, OH, OW), dtype=_float_dtype(x, w, b))
    for n in range(N):
        for f in range(F):
            first = (f // F_group) * C_group
            channels = slice(first, first + C_group)
            for i in range(OH):
                rows = _taps(i * stride[0], extent[0], dilation[0])
                for j in range(OW):
                    cols = _taps(j * stride[1], extent[1], dilation[1])
                    out[n, f, i, j] = np.sum(padded[n, channels, rows, cols] * w[f])
                    if b is not None:
                        out[n, f, i, j] += b[f]
    return out, (x, w, b, conv_param)


def conv_backward_naive(dout: Array, cache: Cache) -> tuple[Array, Array, Wanted]:
    """Gradients of :func:`conv_forward_naive`.

    Each output was a window times a filter, so each ``dout[n, f, i, j]`` sends ``dout * w[f]`` back to
    its window and ``dout * window`` to its filter; all that arrives at a place adds up.

    Parameters
    ----------
    dout : ndarray (N, F, OH, OW)
    cache : tuple
        ``(x, w, b, conv_param)``

    Returns
    -------
    dx, dw, db : ndarray
        In the shapes of x, w and b; ``db`` is None without a bias.
    """
    x, w, b, conv_param = cache
    N, _, H, W = x.shape
    F, C_group, _, _ = w.shape
    _, _, OH, OW = dout.shape
    stride, dilation, pads, extent = _conv_geometry("conv_backward_naive", conv_param, x, w)
    F_group = F // conv_param.get("groups", 1)

    dtype = _float_dtype(x, w, b)
    padded = np.pad(x, ((0, 0), (0, 0), *pads))
    dpadded = np.zeros(padded.shape, dtype=dtype)
    dw = np.zeros(w.shape, dtype=dtype)
    db = None if b is None else np.zeros(b.shape, dtype=dtype)
    for n in range(N):
        for f in range(F):
            first = (f // F_group) * C_group
            channels = slice(first, first + C_group)
            for i in range(OH):
                rows = _taps(i * stride[0], extent[0], dilation[0])
                for j in range(OW):
                    cols = _taps(j * stride[1], extent[1], dilation[1])
                    dpadded[n, channels, rows, cols] += dout[n, f, i, j] * w[f]
                    dw[f] += dout[n, f, i, j] * padded[n, channels, rows, cols]
                    if db is not None:
                        db[f] += dout[n, f, i, j]
    (top, _), (left, _) = pads
    dx = dpadded[:, :, top : top + H, left : left + W].copy()
    return dx, dw, db


def conv_transpose_forward_naive(
    x: Array, w: Array, b: Array | None, conv_param: ConvTransposeParam
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
    conv_param : dict
        ``stride`` (1), ``pad`` (0; not 'same'), ``dilation`` (1), ``groups`` (1), ``output_pad`` (0): extra
        rows below and columns to the right.

    Returns
    -------
    out : ndarray (N, F, OH, OW)
        ``OH = (H - 1) * stride - top - bottom + dilation * (KH - 1) + 1 + output_pad``, OW alike.
    cache : tuple
        ``(x, w, b, conv_param)``
    """
    N, C, H, W = x.shape
    _, F_group, _, _ = w.shape
    stride, dilation, pads, extent = _conv_geometry("conv_transpose_forward_naive", conv_param, x, w)
    output_pad = _pair(conv_param.get("output_pad", 0))
    groups = conv_param.get("groups", 1)
    C_group, F = C // groups, F_group * groups

    canvas_height = (H - 1) * stride[0] + extent[0] + output_pad[0]
    canvas_width = (W - 1) * stride[1] + extent[1] + output_pad[1]
    (top, bottom), (left, right) = pads
    if canvas_height <= top + bottom or canvas_width <= left + right:
        raise ValueError(f"conv_transpose_forward_naive: pad {pads} leaves nothing of the output")
    canvas = np.zeros((N, F, canvas_height, canvas_width), dtype=_float_dtype(x, w, b))
    for n in range(N):
        for c in range(C):
            first = (c // C_group) * F_group
            filters = slice(first, first + F_group)
            for i in range(H):
                rows = _taps(i * stride[0], extent[0], dilation[0])
                for j in range(W):
                    cols = _taps(j * stride[1], extent[1], dilation[1])
                    canvas[n, filters, rows, cols] += x[n, c, i, j] * w[c]
    out = canvas[:, :, top : canvas_height - bottom, left : canvas_width - right].copy()
    if b is not None:
        out += b.reshape(1, F, 1, 1)
    return out, (x, w, b, conv_param)


def conv_transpose_backward_naive(dout: Array, cache: Cache) -> tuple[Array, Array, Wanted]:
    """Gradients of :func:`conv_transpose_forward_naive`.

    Pixel ``x[n, c, i, j]`` painted a window of the output with ``w[c]``; so its gradient is that window of
    dout times ``w[c]``, and that of ``w[c]`` the window of dout times the pixel.

    Parameters
    ----------
    dout : ndarray (N, F, OH, OW)
    cache : tuple
        ``(x, w, b, conv_param)``

    Returns
    -------
    dx, dw, db : ndarray
        In the shapes of x, w and b; ``db`` is None without a bias.
    """
    x, w, b, conv_param = cache
    N, C, H, W = x.shape
    _, F_group, _, _ = w.shape
    stride, dilation, pads, extent = _conv_geometry("conv_transpose_backward_naive", conv_param, x, w)
    C_group = C // conv_param.get("groups", 1)

    dtype = _float_dtype(x, w, b)
    dcanvas = np.pad(dout, ((0, 0), (0, 0), *pads))
    dx = np.zeros(x.shape, dtype=dtype)
    dw = np.zeros(w.shape, dtype=dtype)
    for n in range(N):
        for c in range(C):
            first = (c // C_group) * F_group
            filters = slice(first, first + F_group)
            for i in range(H):
                rows = _taps(i * stride[0], extent[0], dilation[0])
                for j in range(W):
                    cols = _taps(j * stride[1], extent[1], dilation[1])
                    dwindow = dcanvas[n, filters, rows, cols]
                    dx[n, c, i, j] = np.sum(dwindow * w[c])
                    dw[c] += dwindow * x[n, c, i, j]
    db = None if b is None else np.sum(dout, axis=(0, 2, 3), dtype=dtype)
    return dx, dw, db
