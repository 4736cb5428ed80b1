"""Plain-loop convolution and pooling of sequences (N, C, L) and volumes (N, C, D, H, W)."""

from __future__ import annotations

from cnnlib._typing import Array, Cache, Wanted
from cnnlib.naive import conv, pool
from cnnlib.typing import AvgPool1dParam, AvgPool3dParam, ConvParam, MaxPool1dParam, MaxPool3dParam

__all__ = ["avg_pool1d_backward_naive", "avg_pool1d_forward_naive", "conv1d_backward_naive"]
__all__ += ["conv1d_forward_naive", "max_pool1d_backward_naive", "max_pool1d_forward_naive"]
__all__ += ["avg_pool3d_backward_naive", "avg_pool3d_forward_naive", "conv3d_backward_naive"]
__all__ += ["conv3d_forward_naive", "max_pool3d_backward_naive", "max_pool3d_forward_naive"]


def conv1d_forward_naive(x: Array, w: Array, b: Array | None, conv_param: ConvParam) -> tuple[Array, Cache]:
    """Convolve sequences: each output is the sum of a window of x times a filter, and a bias.

    Parameters
    ----------
    x : ndarray (N, C, L)
    w : ndarray (F, C / groups, K)
    b : ndarray (F,) or None
    conv_param : dict
        ``stride`` (1), ``pad`` (0), ``dilation`` (1), ``groups`` (1)

    Returns
    -------
    out : ndarray (N, F, OL)
        ``OL = 1 + (L + before + after - dilation * (K - 1) - 1) // stride``.
    cache : tuple
        ``(x, w, b, conv_param)``
    """
    return conv._forward("conv1d_forward_naive", x, w, b, conv_param)


def conv1d_backward_naive(dout: Array, cache: Cache) -> tuple[Array, Array, Wanted]:
    """Gradients of :func:`conv1d_forward_naive`: dx, dw and db, which is None without a bias."""
    return conv._backward("conv1d_backward_naive", dout, *cache)


def max_pool1d_forward_naive(x: Array, pool_param: MaxPool1dParam) -> tuple[Array, Cache]:
    """The largest value of each window; a NaN wins its window.

    Parameters
    ----------
    x : ndarray (N, C, L)
    pool_param : dict
        ``pool_width``, ``stride`` (the pool's size), ``pad`` (0), ``dilation`` (1),
        ``ceil_mode`` (False)

    Returns
    -------
    out : ndarray (N, C, OL)
        ``OL = 1 + (L + pads - dilation * (pool_width - 1) - 1) // stride``;
        with ``ceil_mode`` rounded up, as :func:`cnnlib.naive.max_pool_forward_naive` says.
    cache : tuple
        ``(x, pool_param)``
    """
    return pool._max_forward("max_pool1d_forward_naive", x, pool_param)


def max_pool1d_backward_naive(dout: Array, cache: Cache) -> Array:
    """Gradient of :func:`max_pool1d_forward_naive`: all to the first maximum (or NaN)."""
    return pool._max_backward("max_pool1d_backward_naive", dout, *cache)


def avg_pool1d_forward_naive(x: Array, pool_param: AvgPool1dParam) -> tuple[Array, Cache]:
    """The mean of each window.

    Parameters
    ----------
    x : ndarray (N, C, L)
    pool_param : dict
        ``pool_width``, ``stride`` (the pool's size), ``pad`` (0), ``count_include_pad`` (True),
        ``ceil_mode`` (False)

    Returns
    -------
    out : ndarray (N, C, OL)
        ``OL = 1 + (L + pads - pool_width) // stride``;
        with ``ceil_mode`` rounded up, as :func:`cnnlib.naive.max_pool_forward_naive` says.
    cache : tuple
        ``(x, pool_param)``
    """
    return pool._avg_forward("avg_pool1d_forward_naive", x, pool_param)


def avg_pool1d_backward_naive(dout: Array, cache: Cache) -> Array:
    """Gradient of :func:`avg_pool1d_forward_naive`: equal shares to the values averaged."""
    return pool._avg_backward("avg_pool1d_backward_naive", dout, *cache)


def conv3d_forward_naive(x: Array, w: Array, b: Array | None, conv_param: ConvParam) -> tuple[Array, Cache]:
    """Convolve volumes: each output is the sum of a window of x times a filter, and a bias.

    Parameters
    ----------
    x : ndarray (N, C, D, H, W)
    w : ndarray (F, C / groups, KD, KH, KW)
    b : ndarray (F,) or None
    conv_param : dict
        ``stride`` (1), ``pad`` (0), ``dilation`` (1), ``groups`` (1)

    Returns
    -------
    out : ndarray (N, F, OD, OH, OW)
        ``OD = 1 + (D + before + after - dilation * (KD - 1) - 1) // stride``, OH and OW alike.
    cache : tuple
        ``(x, w, b, conv_param)``
    """
    return conv._forward("conv3d_forward_naive", x, w, b, conv_param)


def conv3d_backward_naive(dout: Array, cache: Cache) -> tuple[Array, Array, Wanted]:
    """Gradients of :func:`conv3d_forward_naive`: dx, dw and db, which is None without a bias."""
    return conv._backward("conv3d_backward_naive", dout, *cache)


def max_pool3d_forward_naive(x: Array, pool_param: MaxPool3dParam) -> tuple[Array, Cache]:
    """The largest value of each window; a NaN wins its window.

    Parameters
    ----------
    x : ndarray (N, C, D, H, W)
    pool_param : dict
        ``pool_depth``, ``pool_height``, ``pool_width``, ``stride`` (the pool's size),
        ``pad`` (0), ``dilation`` (1), ``ceil_mode`` (False)

    Returns
    -------
    out : ndarray (N, C, OD, OH, OW)
        ``OD = 1 + (D + pads - dilation * (pool_depth - 1) - 1) // stride``, OH and OW alike;
        with ``ceil_mode`` rounded up, as :func:`cnnlib.naive.max_pool_forward_naive` says.
    cache : tuple
        ``(x, pool_param)``
    """
    return pool._max_forward("max_pool3d_forward_naive", x, pool_param)


def max_pool3d_backward_naive(dout: Array, cache: Cache) -> Array:
    """Gradient of :func:`max_pool3d_forward_naive`: all to the first maximum (or NaN)."""
    return pool._max_backward("max_pool3d_backward_naive", dout, *cache)


def avg_pool3d_forward_naive(x: Array, pool_param: AvgPool3dParam) -> tuple[Array, Cache]:
    """The mean of each window.

    Parameters
    ----------
    x : ndarray (N, C, D, H, W)
    pool_param : dict
        ``pool_depth``, ``pool_height``, ``pool_width``, ``stride`` (the pool's size),
        ``pad`` (0), ``count_include_pad`` (True), ``ceil_mode`` (False)

    Returns
    -------
    out : ndarray (N, C, OD, OH, OW)
        ``OD = 1 + (D + pads - pool_depth) // stride``, OH and OW alike;
        with ``ceil_mode`` rounded up, as :func:`cnnlib.naive.max_pool_forward_naive` says.
    cache : tuple
        ``(x, pool_param)``
    """
    return pool._avg_forward("avg_pool3d_forward_naive", x, pool_param)


def avg_pool3d_backward_naive(dout: Array, cache: Cache) -> Array:
    """Gradient of :func:`avg_pool3d_forward_naive`: equal shares to the values averaged."""
    return pool._avg_backward("avg_pool3d_backward_naive", dout, *cache)
