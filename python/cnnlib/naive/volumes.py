"""Plain-loop convolution and pooling of sequences (N, C, L) and volumes (N, C, D, H, W).

Each function does along one axis, or three, what its namesake for images does along two: formulas, output
sizes, options and caches are the same. A pool's window is ``size``, or else ``pool_width``, or
``pool_depth``, ``pool_height`` and ``pool_width``.
"""

from __future__ import annotations

from cnnlib._typing import Array, Cache, Wanted
from cnnlib.naive import conv, pool
from cnnlib.typing import AvgPool1dParam, AvgPool3dParam, ConvParam, MaxPool1dParam, MaxPool3dParam

__all__ = ["avg_pool1d_backward_naive", "avg_pool1d_forward_naive", "conv1d_backward_naive"]
__all__ += ["conv1d_forward_naive", "max_pool1d_backward_naive", "max_pool1d_forward_naive"]
__all__ += ["avg_pool3d_backward_naive", "avg_pool3d_forward_naive", "conv3d_backward_naive"]
__all__ += ["conv3d_forward_naive", "max_pool3d_backward_naive", "max_pool3d_forward_naive"]


def conv1d_forward_naive(
    x: Array, w: Array, b: Array | None = None, conv_param: ConvParam | None = None
) -> tuple[Array, Cache]:
    """Convolve x (N, C, L) with w (F, C / groups, K), as :func:`conv_forward_naive` images."""
    return conv._forward("conv1d_forward_naive", x, w, b, conv_param)


def conv1d_backward_naive(dout: Array, cache: Cache) -> tuple[Array, Array, Wanted]:
    """Gradients of :func:`conv1d_forward_naive`: dx, dw and db, which is None without a bias."""
    return conv._backward("conv1d_backward_naive", dout, *cache)


def max_pool1d_forward_naive(x: Array, pool_param: MaxPool1dParam) -> tuple[Array, Cache]:
    """The largest value of each window of x (N, C, L), as :func:`max_pool_forward_naive` of images."""
    return pool._max_forward("max_pool1d_forward_naive", x, pool_param)


def max_pool1d_backward_naive(dout: Array, cache: Cache) -> Array:
    """Gradient of :func:`max_pool1d_forward_naive`: all to the first maximum (or NaN)."""
    return pool._max_backward("max_pool1d_backward_naive", dout, *cache)


def avg_pool1d_forward_naive(x: Array, pool_param: AvgPool1dParam) -> tuple[Array, Cache]:
    """The mean of each window of x (N, C, L), as :func:`avg_pool_forward_naive` of images."""
    return pool._avg_forward("avg_pool1d_forward_naive", x, pool_param)


def avg_pool1d_backward_naive(dout: Array, cache: Cache) -> Array:
    """Gradient of :func:`avg_pool1d_forward_naive`: equal shares to the values averaged."""
    return pool._avg_backward("avg_pool1d_backward_naive", dout, *cache)


def conv3d_forward_naive(
    x: Array, w: Array, b: Array | None = None, conv_param: ConvParam | None = None
) -> tuple[Array, Cache]:
    """Convolve x (N, C, D, H, W) with w (F, C / groups, KD, KH, KW), as :func:`conv_forward_naive` images."""
    return conv._forward("conv3d_forward_naive", x, w, b, conv_param)


def conv3d_backward_naive(dout: Array, cache: Cache) -> tuple[Array, Array, Wanted]:
    """Gradients of :func:`conv3d_forward_naive`: dx, dw and db, which is None without a bias."""
    return conv._backward("conv3d_backward_naive", dout, *cache)


def max_pool3d_forward_naive(x: Array, pool_param: MaxPool3dParam) -> tuple[Array, Cache]:
    """The largest value of each window of x (N, C, D, H, W), as :func:`max_pool_forward_naive` of images."""
    return pool._max_forward("max_pool3d_forward_naive", x, pool_param)


def max_pool3d_backward_naive(dout: Array, cache: Cache) -> Array:
    """Gradient of :func:`max_pool3d_forward_naive`: all to the first maximum (or NaN)."""
    return pool._max_backward("max_pool3d_backward_naive", dout, *cache)


def avg_pool3d_forward_naive(x: Array, pool_param: AvgPool3dParam) -> tuple[Array, Cache]:
    """The mean of each window of x (N, C, D, H, W), as :func:`avg_pool_forward_naive` of images."""
    return pool._avg_forward("avg_pool3d_forward_naive", x, pool_param)


def avg_pool3d_backward_naive(dout: Array, cache: Cache) -> Array:
    """Gradient of :func:`avg_pool3d_forward_naive`: equal shares to the values averaged."""
    return pool._avg_backward("avg_pool3d_backward_naive", dout, *cache)
