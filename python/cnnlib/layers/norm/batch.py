"""Batch normalisation, of features and of images."""

from __future__ import annotations

from collections.abc import MutableMapping

import numpy as np

from cnnlib import _core
from cnnlib._params import check_keys, choice, flag, number
from cnnlib._params.arrays import prepare, prepare_backward, prepare_out, reals, result, statistics, unpack
from cnnlib._typing import Array, ArrayLike, Cache
from cnnlib.layers.norm.rows import NAMES, check_rank
from cnnlib.typing import BatchNormParam

__all__ = ["batchnorm_backward", "batchnorm_forward", "spatial_batchnorm_backward"]
__all__ += ["spatial_batchnorm_forward"]

_BATCH_KEYS = ("mode", "eps", "momentum", "running_mean", "running_var")
_BATCH_CACHE = ("(x, gamma, beta)", "mean", "inv_std", "from_batch")


def _refuse_empty(function, x):
    """Refuse samples without values, which have no statistics; N = 0 has empty results."""
    if 0 in x.shape[1:]:
        raise ValueError(f"{function}: x has an empty dimension: its shape is {x.shape}")


def _running(function, name, bn_param, shape, dtype):
    value = bn_param.get(name)
    if value is None:
        return np.zeros(shape, dtype)
    value = reals(function, name, value)
    if value.shape != shape:
        raise ValueError(f"{function}: {name} must have shape {shape}, got {value.shape}")
    return np.ascontiguousarray(value, dtype)


def batch_options(function, bn_param):
    """mode, eps and momentum."""
    check_keys(function, "bn_param", bn_param, _BATCH_KEYS, required=("mode",))
    mode = choice(function, "mode", bn_param["mode"], ("train", "test"))
    if mode == "train" and not isinstance(bn_param, (dict, MutableMapping)):
        raise TypeError(
            f"{function}: mode 'train' writes to bn_param, a {type(bn_param).__name__} is read-only"
        )
    eps = number(function, "eps", bn_param.get("eps", 1e-5), 0)
    return mode, eps, number(function, "momentum", bn_param.get("momentum", 0.9), 0, 1)


def running_statistics(function, bn_param, shape, dtype):
    return [_running(function, name, bn_param, shape, dtype) for name in ("running_mean", "running_var")]


def _moved(function, running, statistics, momentum):
    """The running mean and variance after a batch that had these statistics."""
    return [
        _core.moved_statistic(function, old, new, momentum)
        for old, new in zip(running, statistics, strict=True)
    ]


def _batchnorm(function, ndim, x, gamma, beta, bn_param, relu=False, out=None, in_place=False):
    arrays = (x, gamma, beta)
    (x, gamma, beta), dtype = prepare(function, NAMES, *arrays)
    check_rank(function, x, ndim)
    _refuse_empty(function, x)
    mode, eps, momentum = batch_options(function, bn_param)
    out = x if in_place else prepare_out(function, out, dtype, x, gamma, beta)
    running = running_statistics(function, bn_param, x.shape[1:2], x.dtype)
    from_batch = mode == "train" and x.size > 0
    if from_batch:
        out, mean, var, inv_std = _core.batchnorm_train(function, x, ndim, gamma, beta, eps, relu, out)
    else:
        mean, var = (statistic.astype(np.float64) for statistic in running)
        with np.errstate(divide="ignore", invalid="ignore"):
            inv_std = 1 / np.sqrt(var + eps)
        out = _core.batchnorm_normalize(function, x, ndim, mean, inv_std, gamma, beta, relu, out)
    if from_batch:
        running = _moved(function, running, (mean, var), momentum)
    if mode == "train":
        bn_param["running_mean"], bn_param["running_var"] = running
    return result(out, dtype), (arrays, mean, inv_std, from_batch)


def _unpack_batchnorm(function, cache):
    """(x, gamma, beta), mean, inv_std and from_batch: whether the two came from x, or were running ones."""
    arrays, mean, inv_std, from_batch = unpack(function, cache, *_BATCH_CACHE)
    unpack(function, arrays, *NAMES)
    return arrays, *statistics(function, mean, inv_std), flag(function, "from_batch in cache", from_batch)


def _batchnorm_backward(function, ndim, dout, cache, relu=False):
    arrays, mean, inv_std, from_batch = _unpack_batchnorm(function, cache)
    (dout, x, gamma, beta), dtype = prepare_backward(function, dout, NAMES, *arrays)
    _refuse_empty(function, x)
    grads = _core.batchnorm_backward(
        function, dout, x, ndim, mean, inv_std, gamma, beta if relu else None, from_batch
    )
    return tuple(result(grad, dtype) for grad in grads)


def batchnorm_forward(
    x: ArrayLike, gamma: ArrayLike, beta: ArrayLike, bn_param: BatchNormParam, *, out: Array | None = None
) -> tuple[Array, Cache]:
    """
    Normalise each feature over the batch [1]_.

    In 'train' mode `bn_param` gets the running statistics
    `running = momentum * running + (1 - momentum) * batch`, with the biased variance.

    Parameters
    ----------
    x : array, (N, D)
        Features.
    gamma, beta : array, (D,)
        Scale and shift.
    bn_param : dict
        `mode`: 'train' or 'test', required. `eps` (1e-5). `momentum` (0.9): the weight of the old
        running value, in [0, 1]; PyTorch calls the complement so. `running_mean`, `running_var`: (D,),
        zeros if missing.
    out : array, (N, D), optional
        C-contiguous buffer of the result's dtype to write the result to.

    Returns
    -------
    out : array, (N, D)
        gamma * (x - mean) / sqrt(var + eps) + beta; 'test' takes the running statistics.
    cache : tuple
        ((x, gamma, beta), mean, inv_std, from_batch), for `batchnorm_backward`.

    Raises
    ------
    KeyError
        No `mode`.
    ValueError
        Shapes that do not fit, values out of range, unknown keys.
    TypeError
        Arrays or parameters of an unsupported type.

    References
    ----------
    .. [1] S. Ioffe, C. Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing
       Internal Covariate Shift", 2015.

    Examples
    --------
    >>> bn_param = {"mode": "train"}
    >>> out, cache = batchnorm_forward(np.array([[1.0], [3.0]]), np.ones(1), np.zeros(1), bn_param)
    >>> out.round(3)
    array([[-1.],
           [ 1.]])
    >>> bn_param["running_mean"], bn_param["running_var"]
    (array([0.2]), array([0.1]))
    >>> dx, dgamma, dbeta = batchnorm_backward(np.array([[1.0], [1.0]]), cache)
    >>> dx, dbeta  # a shift of all outputs alike leaves no gradient
    (array([[0.],
           [0.]]), array([2.]))
    """
    return _batchnorm("batchnorm_forward", 2, x, gamma, beta, bn_param, out=out)


def batchnorm_backward(dout: ArrayLike, cache: Cache) -> tuple[Array, Array, Array]:
    """
    Gradients of `batchnorm_forward`, after either mode.

    Parameters
    ----------
    dout : array, (N, D)
    cache : tuple
        ((x, gamma, beta), mean, inv_std, from_batch), the statistics (D,) in float64.

    Returns
    -------
    dx : array, (N, D)
    dgamma, dbeta : array, (D,)

    Raises
    ------
    ValueError, TypeError
        `dout` of another shape than the output, or of an unsupported type.
    """
    return _batchnorm_backward("batchnorm_backward", 2, dout, cache)


def spatial_batchnorm_forward(
    x: ArrayLike, gamma: ArrayLike, beta: ArrayLike, bn_param: BatchNormParam, *, out: Array | None = None
) -> tuple[Array, Cache]:
    """
    Normalise each channel over the batch and the image, as `batchnorm_forward` does a feature.

    Parameters
    ----------
    x : array, (N, C, H, W)
        Images.
    gamma, beta : array, (C,)
        Scale and shift.
    bn_param : dict
        As in `batchnorm_forward`; running statistics (C,).
    out : array, (N, C, H, W), optional
        C-contiguous buffer of the result's dtype to write the result to.

    Returns
    -------
    out : array, (N, C, H, W)
    cache : tuple
        ((x, gamma, beta), mean, inv_std, from_batch), for `spatial_batchnorm_backward`.

    Raises
    ------
    KeyError, ValueError, TypeError
        As in `batchnorm_forward`.

    Examples
    --------
    Channel 0 has mean 2 and variance 1, channel 1 mean 15 and variance 25:

    >>> x = np.array([[1.0, 3.0], [10.0, 20.0]]).reshape(1, 2, 1, 2)
    >>> out, cache = spatial_batchnorm_forward(x, np.ones(2), np.zeros(2), {"mode": "train", "eps": 0})
    >>> out.reshape(2, 2)
    array([[-1.,  1.],
           [-1.,  1.]])
    >>> dx, dgamma, dbeta = spatial_batchnorm_backward(np.ones_like(x), cache)
    >>> dgamma, dbeta
    (array([0., 0.]), array([2., 2.]))
    """
    return _batchnorm("spatial_batchnorm_forward", 4, x, gamma, beta, bn_param, out=out)


def spatial_batchnorm_backward(dout: ArrayLike, cache: Cache) -> tuple[Array, Array, Array]:
    """
    Gradients of `spatial_batchnorm_forward`, after either mode.

    Parameters
    ----------
    dout : array, (N, C, H, W)
    cache : tuple
        ((x, gamma, beta), mean, inv_std, from_batch), the statistics (C,) in float64.

    Returns
    -------
    dx : array, (N, C, H, W)
    dgamma, dbeta : array, (C,)

    Raises
    ------
    ValueError, TypeError
        `dout` of another shape than the output, or of an unsupported type.
    """
    return _batchnorm_backward("spatial_batchnorm_backward", 4, dout, cache)
