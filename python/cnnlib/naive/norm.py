"""Plain-loop normalisation layers.

All do the same to a set of values v: ``x_hat = (v - mean(v)) / sqrt(var(v) + eps)``, then
``out = gamma * x_hat + beta``. They differ in which values make up a set: a feature over the batch
(batchnorm), a channel over batch and pixels (spatial_batchnorm), a sample (layernorm), a pixel
(spatial_layernorm), or a group of an image's channels (spatial_groupnorm). A cache holds the arrays, and a
mean and an ``inv_std = 1 / sqrt(var + eps)`` in float64 for each set. ``eps`` is 1e-5 unless the parameter
dict has another. gamma and beta have an entry for each feature or channel (C,); (1, C, 1, 1) is as good in
the layer, group and instance norms of images.
"""

from __future__ import annotations

import numpy as np

from cnnlib._typing import Array, Cache
from cnnlib.naive.windows import _float_dtype, _in_float, _refuse_empty
from cnnlib.typing import BatchNormParam, NormParam

__all__ = ["batchnorm_backward_naive", "batchnorm_forward_naive", "layernorm_backward_naive"]
__all__ += ["layernorm_forward_naive", "spatial_batchnorm_backward_naive", "spatial_batchnorm_forward_naive"]
__all__ += ["spatial_groupnorm_backward_naive", "spatial_groupnorm_forward_naive"]
__all__ += ["spatial_instancenorm_backward_naive", "spatial_instancenorm_forward_naive"]
__all__ += ["spatial_layernorm_backward_naive", "spatial_layernorm_forward_naive"]


def _statistics(values, eps):
    """Mean, (biased) variance and 1 / sqrt(var + eps) of a set of values of any shape."""
    mean = np.mean(values, dtype=np.float64)
    var = np.mean((values - mean) ** 2)
    return mean, var, 1 / np.sqrt(var + eps)


def _normalise_backward(dx_hat, x_hat, inv_std):
    """Gradient of the values: dx_hat less its mean and less its part along x_hat, divided by the deviation.

    Mean and variance depend on every value of the set, so two of the three paths from a value to x_hat
    lead through them; the two subtracted terms are these.
    """
    return inv_std * (dx_hat - np.mean(dx_hat) - x_hat * np.mean(dx_hat * x_hat))


def batchnorm_forward_naive(
    x: Array, gamma: Array, beta: Array, bn_param: BatchNormParam
) -> tuple[Array, Cache]:
    """Normalise each feature over the batch (Ioffe and Szegedy 2015, arXiv:1502.03167).

    Parameters
    ----------
    x : ndarray (N, D)
    gamma, beta : ndarray (D,)
    bn_param : dict
        ``mode``: 'train' normalises with the batch's own mean and biased variance, and moves the running
        ones: ``running = momentum * running + (1 - momentum) * batch``; 'test' normalises with the running
        ones. ``eps`` (1e-5), ``momentum`` (0.9: the weight of the old running value; PyTorch means the
        complement), ``running_mean`` and ``running_var`` (D,) (zeros where missing; written back).

    Returns
    -------
    out : ndarray (N, D)
    cache : tuple
        ``((x, gamma, beta), mean, inv_std, from_batch)``
    """
    _refuse_empty("batchnorm_forward_naive", "x", x)
    N, D = x.shape
    dtype = _float_dtype(x, gamma, beta)
    train = bn_param["mode"] == "train"
    from_batch = train and N > 0
    eps = bn_param.get("eps", 1e-5)
    momentum = bn_param.get("momentum", 0.9)
    running_mean = np.zeros(D, dtype) + bn_param.get("running_mean", 0)
    running_var = np.zeros(D, dtype) + bn_param.get("running_var", 0)

    mean, inv_std = np.zeros(D), np.zeros(D)
    for d in range(D):
        if from_batch:
            mean[d], var, inv_std[d] = _statistics(x[:, d], eps)
            running_mean[d] = momentum * running_mean[d] + (1 - momentum) * mean[d]
            running_var[d] = momentum * running_var[d] + (1 - momentum) * var
        else:
            mean[d], inv_std[d] = running_mean[d], 1 / np.sqrt(np.float64(running_var[d]) + eps)
    if train:
        bn_param["running_mean"], bn_param["running_var"] = running_mean, running_var
    cache = (x, gamma, beta), mean, inv_std, from_batch
    return batchnorm_output(cache), cache


def batchnorm_output(cache):
    """``gamma * x_hat + beta``, which the cache of :func:`batchnorm_forward_naive` does not hold."""
    (x, gamma, beta), mean, inv_std, _ = cache
    return (gamma * ((x - mean) * inv_std) + beta).astype(_float_dtype(x, gamma, beta))


def batchnorm_backward_naive(dout: Array, cache: Cache) -> tuple[Array, Array, Array]:
    """Gradients dx, dgamma, dbeta of :func:`batchnorm_forward_naive`, in either mode.

    ``dbeta = sum of dout``, ``dgamma = sum of dout * x_hat`` over the batch. After a 'test' forward mean and
    deviation are constants and ``dx = gamma * dout * inv_std``.
    """
    (x, gamma, beta), mean, inv_std, from_batch = cache
    N, D = x.shape
    dtype = _float_dtype(x, gamma, beta)
    gamma, dout = _in_float(gamma), dout.astype(dtype)
    dx = np.zeros((N, D), dtype=dtype)
    dgamma = np.zeros(D, dtype=dtype)
    dbeta = np.zeros(D, dtype=dtype)
    for d in range(D):
        x_hat = (x[:, d] - mean[d]) * inv_std[d]
        dbeta[d] = np.sum(dout[:, d])
        dgamma[d] = np.sum(dout[:, d] * x_hat)
        dx_hat = dout[:, d] * gamma[d]
        dx[:, d] = _normalise_backward(dx_hat, x_hat, inv_std[d]) if from_batch else dx_hat * inv_std[d]
    return dx, dgamma, dbeta


def _samples(x):
    """Images (N, C, H, W) as samples (N * H * W, C): every pixel of every image is one."""
    N, C, H, W = x.shape
    return x.transpose(0, 2, 3, 1).reshape(N * H * W, C)


def _images(samples, shape):
    N, C, H, W = shape
    return samples.reshape(N, H, W, C).transpose(0, 3, 1, 2).copy()


def spatial_batchnorm_forward_naive(
    x: Array, gamma: Array, beta: Array, bn_param: BatchNormParam
) -> tuple[Array, Cache]:
    """Normalise each channel of images (N, C, H, W): every pixel of every image is a sample of its channel.

    ``bn_param`` and the cache are those of :func:`batchnorm_forward_naive`, the statistics (C,).
    """
    _refuse_empty("spatial_batchnorm_forward_naive", "x", x)
    out, (_, *statistics) = batchnorm_forward_naive(_samples(x), gamma, beta, bn_param)
    return _images(out, x.shape), ((x, gamma, beta), *statistics)


def spatial_batchnorm_output(cache):
    """The output that belongs to a cache of :func:`spatial_batchnorm_forward_naive`."""
    (x, gamma, beta), *statistics = cache
    return _images(batchnorm_output(((_samples(x), gamma, beta), *statistics)), x.shape)


def spatial_batchnorm_backward_naive(dout: Array, cache: Cache) -> tuple[Array, Array, Array]:
    """Gradients dx (N, C, H, W), dgamma and dbeta (C,) of :func:`spatial_batchnorm_forward_naive`."""
    (x, gamma, beta), *statistics = cache
    cache = (_samples(x), gamma, beta), *statistics
    dx, dgamma, dbeta = batchnorm_backward_naive(_samples(dout), cache)
    return _images(dx, x.shape), dgamma, dbeta


def layernorm_forward_naive(x: Array, gamma: Array, beta: Array, ln_param: NormParam) -> tuple[Array, Cache]:
    """Normalise each sample (N, D) over its features (Ba, Kiros and Hinton 2016, arXiv:1607.06450).

    Samples do not mix, so training and test are the same. The cache is
    ``((x, gamma, beta), mean, inv_std, 1)``: one group of values in a sample.
    """
    _refuse_empty("layernorm_forward_naive", "x", x)
    out, (_, *statistics) = spatial_groupnorm_forward_naive(_pixels(x), gamma, beta, 1, ln_param)
    return out[:, :, 0, 0], ((x, gamma, beta), *statistics)


def _pixels(x):
    """Samples (N, D) as images (N, D, 1, 1): their channels are one group."""
    return x[:, :, None, None]


def layernorm_backward_naive(dout: Array, cache: Cache) -> tuple[Array, Array, Array]:
    """Gradients dx (N, D), dgamma and dbeta (D,) of :func:`layernorm_forward_naive`."""
    (x, gamma, beta), *statistics = cache
    cache = (_pixels(x), gamma, beta), *statistics
    dx, dgamma, dbeta = spatial_groupnorm_backward_naive(_pixels(dout), cache)
    return dx[:, :, 0, 0], dgamma, dbeta


def spatial_layernorm_forward_naive(
    x: Array, gamma: Array, beta: Array, ln_param: NormParam
) -> tuple[Array, Cache]:
    """Normalise each pixel of images (N, C, H, W) over its channels (Liu et al. 2022, arXiv:2201.03545).

    The cache is ``((x, gamma, beta), mean, inv_std, 1)``: one group of values in a pixel.
    """
    _refuse_empty("spatial_layernorm_forward_naive", "x", x)
    out, (_, *statistics) = layernorm_forward_naive(_samples(x), gamma.ravel(), beta.ravel(), ln_param)
    return _images(out, x.shape), ((x, gamma, beta), *statistics)


def spatial_layernorm_backward_naive(dout: Array, cache: Cache) -> tuple[Array, Array, Array]:
    """Gradients dx, dgamma, dbeta of :func:`spatial_layernorm_forward_naive`."""
    (x, gamma, beta), *statistics = cache
    cache = (_samples(x), gamma.ravel(), beta.ravel()), *statistics
    dx, dgamma, dbeta = layernorm_backward_naive(_samples(dout), cache)
    return _images(dx, x.shape), dgamma.reshape(gamma.shape), dbeta.reshape(beta.shape)


def spatial_groupnorm_forward_naive(
    x: Array, gamma: Array, beta: Array, G: int, gn_param: NormParam
) -> tuple[Array, Cache]:
    """Normalise each group of channels of images (N, C, H, W) (Wu and He 2018, arXiv:1803.08494).

    C is a multiple of G, the number of groups; the first C / G channels make the first one. The cache is
    ``((x, gamma, beta), mean, inv_std, G)``, the statistics (N * G,).
    """
    _refuse_empty("spatial_groupnorm_forward_naive", "x", x)
    N, C, _, _ = x.shape
    eps = gn_param.get("eps", 1e-5)
    mean, inv_std = np.zeros(N * G), np.zeros(N * G)
    x_hat = np.zeros(x.shape)
    for row, values in enumerate(_groups(x, G)):
        mean[row], _, inv_std[row] = _statistics(values, eps)
        _groups(x_hat, G)[row] = (values - mean[row]) * inv_std[row]
    out = gamma.reshape(1, C, 1, 1) * x_hat + beta.reshape(1, C, 1, 1)
    return out.astype(_float_dtype(x, gamma, beta)), ((x, gamma, beta), mean, inv_std, G)


def _groups(x, G):
    """Images (N, C, H, W) as groups of channels (N * G, C / G, H, W)."""
    N, C, H, W = x.shape
    return x.reshape(N * G, C // G, H, W)


def spatial_groupnorm_backward_naive(dout: Array, cache: Cache) -> tuple[Array, Array, Array]:
    """Gradients dx, dgamma, dbeta of :func:`spatial_groupnorm_forward_naive`."""
    (x, gamma, beta), mean, inv_std, G = cache
    dtype = _float_dtype(x, gamma, beta)
    dout = dout.astype(dtype)
    dx_hat = _groups(dout * _in_float(gamma).reshape(1, -1, 1, 1), G)
    x_hat, dx = np.zeros(x.shape), np.zeros(x.shape)
    for row, values in enumerate(_groups(x, G)):
        normed = (values - mean[row]) * inv_std[row]
        _groups(x_hat, G)[row] = normed
        _groups(dx, G)[row] = _normalise_backward(dx_hat[row], normed, inv_std[row])
    dgamma = np.sum(dout * x_hat, axis=(0, 2, 3)).reshape(gamma.shape)
    dbeta = np.sum(dout, axis=(0, 2, 3)).reshape(beta.shape)
    return dx.astype(dtype), dgamma.astype(dtype), dbeta.astype(dtype)


def spatial_instancenorm_forward_naive(
    x: Array, gamma: Array, beta: Array, in_param: NormParam
) -> tuple[Array, Cache]:
    """Normalise each channel of each image (Ulyanov et al. 2016, arXiv:1607.08022): groups of one channel."""
    _refuse_empty("spatial_instancenorm_forward_naive", "x", x)
    return spatial_groupnorm_forward_naive(x, gamma, beta, x.shape[1], in_param)


def spatial_instancenorm_backward_naive(dout: Array, cache: Cache) -> tuple[Array, Array, Array]:
    """Gradients of :func:`spatial_instancenorm_forward_naive`, as those of groups of one channel."""
    return spatial_groupnorm_backward_naive(dout, cache)
