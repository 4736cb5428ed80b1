"""Layers that often come together, one after the other."""

from __future__ import annotations

from cnnlib._typing import Array, Cache, Wanted
from cnnlib.naive import conv, dense, norm, pool
from cnnlib.typing import BatchNormParam, ConvParam, MaxPoolParam

__all__ = ["affine_bn_relu_backward_naive", "affine_bn_relu_forward_naive", "affine_relu_backward_naive"]
__all__ += ["affine_relu_forward_naive", "conv_bn_relu_backward_naive", "conv_bn_relu_forward_naive"]
__all__ += ["conv_bn_relu_pool_backward_naive", "conv_bn_relu_pool_forward_naive", "conv_relu_backward_naive"]
__all__ += ["conv_relu_forward_naive", "conv_relu_pool_backward_naive", "conv_relu_pool_forward_naive"]


def affine_relu_forward_naive(x: Array, w: Array, b: Array | None = None) -> tuple[Array, Cache]:
    """relu(affine(x)); shapes as in :func:`affine_forward_naive`."""
    scores, affine_cache = dense.affine_forward_naive(x, w, b)
    out, _ = dense.relu_forward_naive(scores)
    return out, (affine_cache, dense._relu_mask(out))


def affine_relu_backward_naive(dout: Array, cache: Cache) -> tuple[Array, Array, Wanted]:
    """Gradients dx, dw, db of :func:`affine_relu_forward_naive`."""
    affine_cache, mask = cache
    return dense.affine_backward_naive(dense._relu_backward_by_mask(dout, mask), affine_cache)


def affine_bn_relu_forward_naive(
    x: Array, w: Array, b: Array | None, gamma: Array, beta: Array, bn_param: BatchNormParam
) -> tuple[Array, Cache]:
    """relu(batchnorm(affine(x))); gamma and beta (M,) for w (D, M)."""
    scores, affine_cache = dense.affine_forward_naive(x, w, b)
    normed, bn_cache = norm.batchnorm_forward_naive(scores, gamma, beta, bn_param)
    out, _ = dense.relu_forward_naive(normed)
    return out, (affine_cache, bn_cache)


def affine_bn_relu_backward_naive(dout: Array, cache: Cache) -> tuple[Array, Array, Wanted, Array, Array]:
    """Gradients dx, dw, db, dgamma, dbeta of :func:`affine_bn_relu_forward_naive`."""
    affine_cache, bn_cache = cache
    dnormed = dense.relu_backward_naive(dout, norm.batchnorm_output(bn_cache))
    dscores, dgamma, dbeta = norm.batchnorm_backward_naive(dnormed, bn_cache)
    dx, dw, db = dense.affine_backward_naive(dscores, affine_cache)
    return dx, dw, db, dgamma, dbeta


def conv_relu_forward_naive(
    x: Array, w: Array, b: Array | None = None, conv_param: ConvParam | None = None
) -> tuple[Array, Cache]:
    """relu(conv(x)); shapes as in :func:`conv_forward_naive`."""
    maps, conv_cache = conv.conv_forward_naive(x, w, b, conv_param)
    out, _ = dense.relu_forward_naive(maps)
    return out, (conv_cache, dense._relu_mask(out))


def conv_relu_backward_naive(dout: Array, cache: Cache) -> tuple[Array, Array, Wanted]:
    """Gradients dx, dw, db of :func:`conv_relu_forward_naive`."""
    conv_cache, mask = cache
    return conv.conv_backward_naive(dense._relu_backward_by_mask(dout, mask), conv_cache)


def conv_bn_relu_forward_naive(
    x: Array,
    w: Array,
    b: Array | None,
    gamma: Array,
    beta: Array,
    conv_param: ConvParam | None,
    bn_param: BatchNormParam,
) -> tuple[Array, Cache]:
    """relu(spatial_batchnorm(conv(x))); gamma and beta (F,) for w (F, C // groups, KH, KW)."""
    maps, conv_cache = conv.conv_forward_naive(x, w, b, conv_param)
    normed, bn_cache = norm.spatial_batchnorm_forward_naive(maps, gamma, beta, bn_param)
    out, _ = dense.relu_forward_naive(normed)
    return out, (conv_cache, bn_cache)


def conv_bn_relu_backward_naive(dout: Array, cache: Cache) -> tuple[Array, Array, Wanted, Array, Array]:
    """Gradients dx, dw, db, dgamma, dbeta of :func:`conv_bn_relu_forward_naive`."""
    conv_cache, bn_cache = cache
    dnormed = dense.relu_backward_naive(dout, norm.spatial_batchnorm_output(bn_cache))
    dmaps, dgamma, dbeta = norm.spatial_batchnorm_backward_naive(dnormed, bn_cache)
    dx, dw, db = conv.conv_backward_naive(dmaps, conv_cache)
    return dx, dw, db, dgamma, dbeta


def conv_relu_pool_forward_naive(
    x: Array, w: Array, b: Array | None, conv_param: ConvParam | None, pool_param: MaxPoolParam
) -> tuple[Array, Cache]:
    """max_pool(relu(conv(x))); shapes as in the three layers."""
    maps, conv_cache = conv.conv_forward_naive(x, w, b, conv_param)
    rectified, _ = dense.relu_forward_naive(maps)
    out, pool_cache = pool.max_pool_forward_naive(rectified, pool_param)
    return out, (conv_cache, pool_cache)


def conv_relu_pool_backward_naive(dout: Array, cache: Cache) -> tuple[Array, Array, Wanted]:
    """Gradients dx, dw, db of :func:`conv_relu_pool_forward_naive`."""
    conv_cache, pool_cache = cache
    rectified, _ = pool_cache
    drectified = pool.max_pool_backward_naive(dout, pool_cache)
    return conv.conv_backward_naive(dense.relu_backward_naive(drectified, rectified), conv_cache)


def conv_bn_relu_pool_forward_naive(
    x: Array,
    w: Array,
    b: Array | None,
    gamma: Array,
    beta: Array,
    conv_param: ConvParam | None,
    bn_param: BatchNormParam,
    pool_param: MaxPoolParam,
) -> tuple[Array, Cache]:
    """max_pool(relu(spatial_batchnorm(conv(x)))); shapes as in the four layers."""
    maps, conv_bn_relu_cache = conv_bn_relu_forward_naive(x, w, b, gamma, beta, conv_param, bn_param)
    out, pool_cache = pool.max_pool_forward_naive(maps, pool_param)
    return out, (conv_bn_relu_cache, pool_cache)


def conv_bn_relu_pool_backward_naive(dout: Array, cache: Cache) -> tuple[Array, Array, Wanted, Array, Array]:
    """Gradients dx, dw, db, dgamma, dbeta of :func:`conv_bn_relu_pool_forward_naive`."""
    conv_bn_relu_cache, pool_cache = cache
    return conv_bn_relu_backward_naive(pool.max_pool_backward_naive(dout, pool_cache), conv_bn_relu_cache)
