"""Plain-loop NumPy versions of every layer: the formulas, to read and to test the compiled ones against.

Each ``<name>_naive`` has the signature, the result and the cache of its compiled twin in
:mod:`cnnlib.layers`, so one can stand in for the other, and a cache of the one feeds the backward of
the other (those of norms and sandwiches excepted). These versions are slow on purpose and trust their
input: use the compiled ones for work, and for error messages.

This file holds the convolutions and the sandwiches. Pooling is in ``_naive_pool.py``, normalisation in
``_naive_norm.py``, affine, activations, dropout and losses in ``_naive_dense.py``; all are importable from
here. ``_naive_windows.py`` works out where the windows stand.

Letters: ``N`` images, ``C`` channels, ``H, W`` height and width, ``F`` filters, ``KH, KW`` the window's
size, ``OH, OW`` the output's. ``dout`` is the gradient of the loss with respect to ``out``, and likewise
``dx``, ``dw``, ``db``.
"""

import numpy as np

from cnnlib._naive_dense import (
    _float_dtype,
    affine_backward_naive,
    affine_forward_naive,
    dropout_backward_naive,
    dropout_forward_naive,
    leaky_relu_backward_naive,
    leaky_relu_forward_naive,
    relu_backward_naive,
    relu_forward_naive,
    softmax_loss_naive,
    svm_loss_naive,
)
from cnnlib._naive_norm import (
    batchnorm_backward_naive,
    batchnorm_forward_naive,
    layernorm_backward_naive,
    layernorm_forward_naive,
    spatial_batchnorm_backward_naive,
    spatial_batchnorm_forward_naive,
    spatial_groupnorm_backward_naive,
    spatial_groupnorm_forward_naive,
)
from cnnlib._naive_pool import (
    avg_pool_backward_naive,
    avg_pool_forward_naive,
    global_avg_pool_backward_naive,
    global_avg_pool_forward_naive,
    max_pool_backward_naive,
    max_pool_forward_naive,
)
from cnnlib._naive_windows import _geometry, _output_size, _pair, _taps

__all__ = [
    "affine_backward_naive",
    "affine_bn_relu_backward_naive",
    "affine_bn_relu_forward_naive",
    "affine_forward_naive",
    "affine_relu_backward_naive",
    "affine_relu_forward_naive",
    "avg_pool_backward_naive",
    "avg_pool_forward_naive",
    "batchnorm_backward_naive",
    "batchnorm_forward_naive",
    "conv_backward_naive",
    "conv_bn_relu_backward_naive",
    "conv_bn_relu_forward_naive",
    "conv_bn_relu_pool_backward_naive",
    "conv_bn_relu_pool_forward_naive",
    "conv_forward_naive",
    "conv_relu_backward_naive",
    "conv_relu_forward_naive",
    "conv_relu_pool_backward_naive",
    "conv_relu_pool_forward_naive",
    "conv_transpose_backward_naive",
    "conv_transpose_forward_naive",
    "dropout_backward_naive",
    "dropout_forward_naive",
    "global_avg_pool_backward_naive",
    "global_avg_pool_forward_naive",
    "layernorm_backward_naive",
    "layernorm_forward_naive",
    "leaky_relu_backward_naive",
    "leaky_relu_forward_naive",
    "max_pool_backward_naive",
    "max_pool_forward_naive",
    "relu_backward_naive",
    "relu_forward_naive",
    "softmax_loss_naive",
    "spatial_batchnorm_backward_naive",
    "spatial_batchnorm_forward_naive",
    "spatial_groupnorm_backward_naive",
    "spatial_groupnorm_forward_naive",
    "svm_loss_naive",
]


# Convolution ------------------------------------------------------------------------------------------


def conv_forward_naive(x, w, b, conv_param):
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
    F, C_group, KH, KW = w.shape
    stride, dilation, pads, extent = _geometry(conv_param, (H, W), (KH, KW))
    F_group = F // conv_param.get("groups", 1)
    OH = _output_size(H, pads[0], extent[0], stride[0])
    OW = _output_size(W, pads[1], extent[1], stride[1])

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


def conv_backward_naive(dout, cache):
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
    F, C_group, KH, KW = w.shape
    _, _, OH, OW = dout.shape
    stride, dilation, pads, extent = _geometry(conv_param, (H, W), (KH, KW))
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
                    if b is not None:
                        db[f] += dout[n, f, i, j]
    (top, _), (left, _) = pads
    dx = dpadded[:, :, top : top + H, left : left + W].copy()
    return dx, dw, db


def conv_transpose_forward_naive(x, w, b, conv_param):
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
    _, F_group, KH, KW = w.shape
    stride, dilation, pads, extent = _geometry(conv_param, (H, W), (KH, KW))
    output_pad = _pair(conv_param.get("output_pad", 0))
    groups = conv_param.get("groups", 1)
    C_group, F = C // groups, F_group * groups

    canvas_height = (H - 1) * stride[0] + extent[0] + output_pad[0]
    canvas_width = (W - 1) * stride[1] + extent[1] + output_pad[1]
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
    (top, bottom), (left, right) = pads
    out = canvas[:, :, top : canvas_height - bottom, left : canvas_width - right].copy()
    if b is not None:
        out += b.reshape(1, F, 1, 1)
    return out, (x, w, b, conv_param)


def conv_transpose_backward_naive(dout, cache):
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
    _, F_group, KH, KW = w.shape
    stride, dilation, pads, extent = _geometry(conv_param, (H, W), (KH, KW))
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


# Sandwiches: layers that often come together ----------------------------------------------------------


def affine_relu_forward_naive(x, w, b):
    """relu(affine(x)); shapes as in :func:`affine_forward_naive`."""
    scores, affine_cache = affine_forward_naive(x, w, b)
    out, relu_cache = relu_forward_naive(scores)
    return out, (affine_cache, relu_cache)


def affine_relu_backward_naive(dout, cache):
    """Gradients dx, dw, db of :func:`affine_relu_forward_naive`."""
    affine_cache, relu_cache = cache
    return affine_backward_naive(relu_backward_naive(dout, relu_cache), affine_cache)


def affine_bn_relu_forward_naive(x, w, b, gamma, beta, bn_param):
    """relu(batchnorm(affine(x))); gamma and beta (M,) for w (D, M)."""
    scores, affine_cache = affine_forward_naive(x, w, b)
    normed, bn_cache = batchnorm_forward_naive(scores, gamma, beta, bn_param)
    out, relu_cache = relu_forward_naive(normed)
    return out, (affine_cache, bn_cache, relu_cache)


def affine_bn_relu_backward_naive(dout, cache):
    """Gradients dx, dw, db, dgamma, dbeta of :func:`affine_bn_relu_forward_naive`."""
    affine_cache, bn_cache, relu_cache = cache
    dnormed = relu_backward_naive(dout, relu_cache)
    dscores, dgamma, dbeta = batchnorm_backward_naive(dnormed, bn_cache)
    dx, dw, db = affine_backward_naive(dscores, affine_cache)
    return dx, dw, db, dgamma, dbeta


def conv_relu_forward_naive(x, w, b, conv_param):
    """relu(conv(x)); shapes as in :func:`conv_forward_naive`."""
    maps, conv_cache = conv_forward_naive(x, w, b, conv_param)
    out, relu_cache = relu_forward_naive(maps)
    return out, (conv_cache, relu_cache)


def conv_relu_backward_naive(dout, cache):
    """Gradients dx, dw, db of :func:`conv_relu_forward_naive`."""
    conv_cache, relu_cache = cache
    return conv_backward_naive(relu_backward_naive(dout, relu_cache), conv_cache)


def conv_bn_relu_forward_naive(x, w, b, gamma, beta, conv_param, bn_param):
    """relu(spatial_batchnorm(conv(x))); gamma and beta (F,) for w (F, C // groups, KH, KW)."""
    maps, conv_cache = conv_forward_naive(x, w, b, conv_param)
    normed, bn_cache = spatial_batchnorm_forward_naive(maps, gamma, beta, bn_param)
    out, relu_cache = relu_forward_naive(normed)
    return out, (conv_cache, bn_cache, relu_cache)


def conv_bn_relu_backward_naive(dout, cache):
    """Gradients dx, dw, db, dgamma, dbeta of :func:`conv_bn_relu_forward_naive`."""
    conv_cache, bn_cache, relu_cache = cache
    dnormed = relu_backward_naive(dout, relu_cache)
    dmaps, dgamma, dbeta = spatial_batchnorm_backward_naive(dnormed, bn_cache)
    dx, dw, db = conv_backward_naive(dmaps, conv_cache)
    return dx, dw, db, dgamma, dbeta


def conv_relu_pool_forward_naive(x, w, b, conv_param, pool_param):
    """max_pool(relu(conv(x))); shapes as in the three layers."""
    maps, conv_relu_cache = conv_relu_forward_naive(x, w, b, conv_param)
    out, pool_cache = max_pool_forward_naive(maps, pool_param)
    return out, (conv_relu_cache, pool_cache)


def conv_relu_pool_backward_naive(dout, cache):
    """Gradients dx, dw, db of :func:`conv_relu_pool_forward_naive`."""
    conv_relu_cache, pool_cache = cache
    return conv_relu_backward_naive(max_pool_backward_naive(dout, pool_cache), conv_relu_cache)


def conv_bn_relu_pool_forward_naive(x, w, b, gamma, beta, conv_param, bn_param, pool_param):
    """max_pool(relu(spatial_batchnorm(conv(x)))); shapes as in the four layers."""
    maps, conv_bn_relu_cache = conv_bn_relu_forward_naive(x, w, b, gamma, beta, conv_param, bn_param)
    out, pool_cache = max_pool_forward_naive(maps, pool_param)
    return out, (conv_bn_relu_cache, pool_cache)


def conv_bn_relu_pool_backward_naive(dout, cache):
    """Gradients dx, dw, db, dgamma, dbeta of :func:`conv_bn_relu_pool_forward_naive`."""
    conv_bn_relu_cache, pool_cache = cache
    return conv_bn_relu_backward_naive(max_pool_backward_naive(dout, pool_cache), conv_bn_relu_cache)
