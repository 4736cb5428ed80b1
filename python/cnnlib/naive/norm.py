"""Plain-loop normalisation layers.

All four do the same to a set of values v: ``x_hat = (v - mean(v)) / sqrt(var(v) + eps)``, then
``out = gamma * x_hat + beta``. They differ in which values make up a set: a feature over the batch
(batchnorm), a channel over batch and pixels (spatial_batchnorm), a sample (layernorm), or a group of an
image's channels (spatial_groupnorm).
"""

import numpy as np

from cnnlib.naive.dtypes import _float_dtype


def _normalise(values, eps):
    """Return x_hat, 1 / sqrt(var + eps), mean and (biased) variance of a set of values of any shape."""
    mean = np.mean(values)
    var = np.mean((values - mean) ** 2)
    inv_std = 1 / np.sqrt(var + eps)
    return (values - mean) * inv_std, inv_std, mean, var


def _normalise_backward(dx_hat, x_hat, inv_std):
    """Gradient of the values: dx_hat less its mean and less its part along x_hat, divided by the deviation.

    Mean and variance depend on every value of the set, so two of the three paths from a value to x_hat
    lead through them; the two subtracted terms are these.
    """
    return inv_std * (dx_hat - np.mean(dx_hat) - x_hat * np.mean(dx_hat * x_hat))


def batchnorm_forward_naive(x, gamma, beta, bn_param):
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
    """
    N, D = x.shape
    dtype = _float_dtype(x, gamma, beta)
    train = bn_param["mode"] == "train"
    eps = bn_param.get("eps", 1e-5)
    momentum = bn_param.get("momentum", 0.9)
    running_mean = np.array(bn_param.get("running_mean", np.zeros(D, dtype=dtype)))
    running_var = np.array(bn_param.get("running_var", np.zeros(D, dtype=dtype)))

    x_hat = np.zeros((N, D), dtype=dtype)
    inv_std = np.zeros(D, dtype=dtype)
    for d in range(D):
        if train and N > 0:
            x_hat[:, d], inv_std[d], mean, var = _normalise(x[:, d], eps)
            running_mean[d] = momentum * running_mean[d] + (1 - momentum) * mean
            running_var[d] = momentum * running_var[d] + (1 - momentum) * var
        else:
            inv_std[d] = 1 / np.sqrt(running_var[d] + eps)
            x_hat[:, d] = (x[:, d] - running_mean[d]) * inv_std[d]
    if train:
        bn_param["running_mean"], bn_param["running_var"] = running_mean, running_var
    out = (gamma * x_hat + beta).astype(dtype)
    return out, (x_hat, inv_std, gamma, train)


def batchnorm_backward_naive(dout, cache):
    """Gradients of :func:`batchnorm_forward_naive`, in either mode.

    ``dbeta = sum of dout``, ``dgamma = sum of dout * x_hat`` over the batch. After a 'test' forward mean and
    deviation are constants and ``dx = gamma * dout * inv_std``.

    Parameters
    ----------
    dout : ndarray (N, D)
    cache : tuple

    Returns
    -------
    dx : ndarray (N, D)
    dgamma, dbeta : ndarray (D,)
    """
    x_hat, inv_std, gamma, train = cache
    N, D = x_hat.shape
    dx = np.zeros_like(x_hat)
    dgamma = np.zeros(D, dtype=x_hat.dtype)
    dbeta = np.zeros(D, dtype=x_hat.dtype)
    if N == 0:
        return dx, dgamma, dbeta
    for d in range(D):
        dbeta[d] = np.sum(dout[:, d])
        dgamma[d] = np.sum(dout[:, d] * x_hat[:, d])
        dx_hat = dout[:, d] * gamma[d]
        dx[:, d] = _normalise_backward(dx_hat, x_hat[:, d], inv_std[d]) if train else dx_hat * inv_std[d]
    return dx, dgamma, dbeta


def spatial_batchnorm_forward_naive(x, gamma, beta, bn_param):
    """Batch normalisation of each channel: every pixel of every image is a sample of its channel.

    Parameters
    ----------
    x : ndarray (N, C, H, W)
    gamma, beta : ndarray (C,)
    bn_param : dict
        As in :func:`batchnorm_forward_naive`, running statistics (C,).

    Returns
    -------
    out : ndarray (N, C, H, W)
    cache : tuple
    """
    N, C, H, W = x.shape
    samples = x.transpose(0, 2, 3, 1).reshape(N * H * W, C)
    out, cache = batchnorm_forward_naive(samples, gamma, beta, bn_param)
    return out.reshape(N, H, W, C).transpose(0, 3, 1, 2).copy(), cache


def spatial_batchnorm_backward_naive(dout, cache):
    """Gradients dx (N, C, H, W), dgamma and dbeta (C,) of :func:`spatial_batchnorm_forward_naive`."""
    N, C, H, W = dout.shape
    samples = dout.transpose(0, 2, 3, 1).reshape(N * H * W, C)
    dx, dgamma, dbeta = batchnorm_backward_naive(samples, cache)
    return dx.reshape(N, H, W, C).transpose(0, 3, 1, 2).copy(), dgamma, dbeta


def layernorm_forward_naive(x, gamma, beta, ln_param):
    """Normalise each sample over its features (Ba, Kiros and Hinton 2016, arXiv:1607.06450).

    Parameters
    ----------
    x : ndarray (N, D)
    gamma, beta : ndarray (D,)
    ln_param : dict
        ``eps`` (1e-5). Samples do not mix, so training and test are the same.

    Returns
    -------
    out : ndarray (N, D)
    cache : tuple
    """
    N, D = x.shape
    dtype = _float_dtype(x, gamma, beta)
    eps = ln_param.get("eps", 1e-5)
    x_hat = np.zeros((N, D), dtype=dtype)
    inv_std = np.zeros(N, dtype=dtype)
    for n in range(N):
        x_hat[n], inv_std[n], _, _ = _normalise(x[n], eps)
    out = (gamma * x_hat + beta).astype(dtype)
    return out, (x_hat, inv_std, gamma)


def layernorm_backward_naive(dout, cache):
    """Gradients of :func:`layernorm_forward_naive`.

    Parameters
    ----------
    dout : ndarray (N, D)
    cache : tuple

    Returns
    -------
    dx : ndarray (N, D)
    dgamma, dbeta : ndarray (D,)
    """
    x_hat, inv_std, gamma = cache
    N, D = x_hat.shape
    dx = np.zeros_like(x_hat)
    dgamma = np.zeros(D, dtype=x_hat.dtype)
    dbeta = np.zeros(D, dtype=x_hat.dtype)
    for n in range(N):
        dbeta += dout[n]
        dgamma += dout[n] * x_hat[n]
        dx[n] = _normalise_backward(dout[n] * gamma, x_hat[n], inv_std[n])
    return dx, dgamma, dbeta


def spatial_groupnorm_forward_naive(x, gamma, beta, G, gn_param):
    """Normalise each group of channels of each image (Wu and He 2018, arXiv:1803.08494).

    Parameters
    ----------
    x : ndarray (N, C, H, W)
    gamma, beta : ndarray (C,) or (1, C, 1, 1)
    G : int
        Number of groups; C is a multiple of it. The first C / G channels make the first group.
    gn_param : dict
        ``eps`` (1e-5)

    Returns
    -------
    out : ndarray (N, C, H, W)
    cache : tuple
    """
    N, C, H, W = x.shape
    dtype = _float_dtype(x, gamma, beta)
    eps = gn_param.get("eps", 1e-5)
    size = C // G
    x_hat = np.zeros((N, C, H, W), dtype=dtype)
    inv_std = np.zeros((N, G), dtype=dtype)
    for n in range(N):
        for g in range(G):
            channels = slice(g * size, (g + 1) * size)
            x_hat[n, channels], inv_std[n, g], _, _ = _normalise(x[n, channels], eps)
    out = (gamma.reshape(1, C, 1, 1) * x_hat + beta.reshape(1, C, 1, 1)).astype(dtype)
    return out, (x_hat, inv_std, gamma, beta.shape, G)


def spatial_groupnorm_backward_naive(dout, cache):
    """Gradients of :func:`spatial_groupnorm_forward_naive`.

    Parameters
    ----------
    dout : ndarray (N, C, H, W)
    cache : tuple

    Returns
    -------
    dx : ndarray (N, C, H, W)
    dgamma, dbeta : ndarray
        In the shapes of gamma and beta.
    """
    x_hat, inv_std, gamma, beta_shape, G = cache
    N, C, _, _ = x_hat.shape
    size = C // G
    dx_hat = dout * gamma.reshape(1, C, 1, 1)
    dx = np.zeros_like(x_hat)
    for n in range(N):
        for g in range(G):
            channels = slice(g * size, (g + 1) * size)
            dx[n, channels] = _normalise_backward(dx_hat[n, channels], x_hat[n, channels], inv_std[n, g])
    dgamma = np.sum(dout * x_hat, axis=(0, 2, 3)).astype(x_hat.dtype).reshape(gamma.shape)
    dbeta = np.sum(dout, axis=(0, 2, 3)).astype(x_hat.dtype).reshape(beta_shape)
    return dx, dgamma, dbeta
