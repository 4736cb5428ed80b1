"""Batch, layer and group normalisation."""

from __future__ import annotations

import numpy as np

from cnnlib import _core
from cnnlib._arrays import prepare, prepare_backward, prepare_out, result
from cnnlib._params import check_keys, choice, flag, integer, number
from cnnlib._typing import Array, ArrayLike, Cache, Param, State
from cnnlib.layers.caches import statistics, unpack

_BATCH_KEYS = ("mode", "eps", "momentum", "running_mean", "running_var")
_NAMES = ("x", "gamma", "beta")
_BATCH_CACHE = ("(x, gamma, beta)", "mean", "inv_std", "from_batch")
_ROW_CACHE = ("(x, gamma, beta)", "mean", "inv_std", "G")
_ROW_KEYS = ("eps", "mode")  # 'mode' is accepted, and has no meaning here


def _running(function, name, bn_param, shape, dtype):
    value = bn_param.get(name)
    if value is None:
        return np.zeros(shape, dtype)
    value = np.asarray(value)
    if value.shape != shape:
        raise ValueError(f"{function}: {name} must have shape {shape}, got {value.shape}")
    if value.dtype.kind not in "fiu":
        raise TypeError(f"{function}: {name} must be real numbers, got dtype {value.dtype}")
    return np.ascontiguousarray(value, dtype)


def _batch_options(function, bn_param):
    """mode, eps and momentum."""
    check_keys(function, "bn_param", bn_param, _BATCH_KEYS, required=("mode",))
    mode = choice(function, "mode", bn_param["mode"], ("train", "test"))
    eps = number(function, "eps", bn_param.get("eps", 1e-5), 0)
    return mode, eps, number(function, "momentum", bn_param.get("momentum", 0.9), 0, 1)


def _running_statistics(function, bn_param, shape, dtype):
    return [_running(function, name, bn_param, shape, dtype) for name in ("running_mean", "running_var")]


def _moved(function, running, statistics, momentum):
    """The running mean and variance after a batch that had these statistics."""
    return [
        _core.moved_statistic(function, old, new, momentum)
        for old, new in zip(running, statistics, strict=True)
    ]


def _refuse_empty(function, x):
    """N = 0 has empty results; samples without values have no statistics."""
    if 0 in x.shape[1:]:
        raise ValueError(f"{function}: x has an empty dimension: its shape is {x.shape}")


def _check_rank(function, x, ndim):
    """Before the running statistics are made to measure; the kernels' border checks all shapes again."""
    if x.ndim != ndim:
        axes = "2 dimensions (N, D)" if ndim == 2 else "4 dimensions (N, C, H, W)"
        raise ValueError(f"{function}: x must have {axes}, got shape {x.shape}")


def _batchnorm(function, ndim, x, gamma, beta, bn_param, relu=False, out=None, in_place=False):
    arrays = (x, gamma, beta)
    (x, gamma, beta), dtype = prepare(function, _NAMES, *arrays)
    _check_rank(function, x, ndim)
    _refuse_empty(function, x)
    mode, eps, momentum = _batch_options(function, bn_param)
    out = x if in_place else prepare_out(function, out, dtype, x, gamma, beta)
    running = _running_statistics(function, bn_param, x.shape[1:2], x.dtype)
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
    unpack(function, arrays, *_NAMES)
    return arrays, *statistics(function, mean, inv_std), flag(function, "from_batch in cache", from_batch)


def _batchnorm_backward(function, ndim, dout, cache, relu=False):
    arrays, mean, inv_std, from_batch = _unpack_batchnorm(function, cache)
    (dout, x, gamma, beta), dtype = prepare_backward(function, dout, _NAMES, *arrays)
    _refuse_empty(function, x)
    grads = _core.batchnorm_backward(
        function, dout, x, ndim, mean, inv_std, gamma, beta if relu else None, from_batch
    )
    return tuple(result(grad, dtype) for grad in grads)


def batchnorm_forward(
    x: ArrayLike, gamma: ArrayLike, beta: ArrayLike, bn_param: State, *, out: Array | None = None
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
    """
    return _batchnorm("batchnorm_forward", 2, x, gamma, beta, bn_param, out=out)


def batchnorm_backward(dout: ArrayLike, cache: Cache) -> tuple[Array, Array, Array]:
    """
    Gradients of `batchnorm_forward`, after either mode.

    Parameters
    ----------
    dout : array, (N, D)
        Gradient of the loss with respect to the output.
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


def batchnorm_backward_alt(dout: ArrayLike, cache: Cache) -> tuple[Array, Array, Array]:
    """
    `batchnorm_backward` under the name that courses give its short form.

    Worked out on paper, the gradient comes to
    dx = gamma * inv_std * (dout - mean(dout) - xhat * mean(dout * xhat)), with xhat = (x - mean) * inv_std;
    that is what `batchnorm_backward` computes.

    Parameters
    ----------
    dout : array, (N, D)
        Gradient of the loss with respect to the output.
    cache : tuple
        That of `batchnorm_forward`.

    Returns
    -------
    dx : array, (N, D)
    dgamma, dbeta : array, (D,)

    Raises
    ------
    ValueError, TypeError
        As in `batchnorm_backward`.
    """
    return _batchnorm_backward("batchnorm_backward_alt", 2, dout, cache)


def spatial_batchnorm_forward(
    x: ArrayLike, gamma: ArrayLike, beta: ArrayLike, bn_param: State, *, out: Array | None = None
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
    """
    return _batchnorm("spatial_batchnorm_forward", 4, x, gamma, beta, bn_param, out=out)


def spatial_batchnorm_backward(dout: ArrayLike, cache: Cache) -> tuple[Array, Array, Array]:
    """
    Gradients of `spatial_batchnorm_forward`, after either mode.

    Parameters
    ----------
    dout : array, (N, C, H, W)
        Gradient of the loss with respect to the output.
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


def _rownorm(function, ndim, x, gamma, beta, groups, name, param, out):
    """Without a number of groups each channel is one."""
    arrays = (x, gamma, beta)
    (x, gamma, beta), dtype = prepare(function, _NAMES, *arrays)
    _refuse_empty(function, x)
    check_keys(function, name, param, _ROW_KEYS)
    eps = number(function, "eps", param.get("eps", 1e-5), 0)
    out = prepare_out(function, out, dtype, x, gamma, beta)
    if groups is None:
        _check_rank(function, x, ndim)
        groups = x.shape[1]
    gamma, beta = _flat(gamma, x), _flat(beta, x)
    out, mean, inv_std = _core.rownorm_forward(function, x, ndim, gamma, beta, groups, eps, out)
    return result(out, dtype), (arrays, mean, inv_std, groups)


def _flat(parameter, x):
    """gamma or beta (1, C, 1, 1) as (C,); any other shape is left to the check against x."""
    return parameter.reshape(-1) if x.ndim == 4 and parameter.shape == (1, x.shape[1], 1, 1) else parameter


def _rownorm_backward(function, ndim, dout, cache):
    arrays, mean, inv_std, groups = unpack(function, cache, *_ROW_CACHE)
    unpack(function, arrays, *_NAMES)
    mean, inv_std = statistics(function, mean, inv_std)
    groups = integer(function, "G in cache", groups)
    (dout, x, gamma, beta), dtype = prepare_backward(function, dout, _NAMES, *arrays)
    _refuse_empty(function, x)
    if x.ndim == ndim:
        _check_counts(function, mean, inv_std, len(x) * groups)
    dx, dgamma, dbeta = _core.rownorm_backward(
        function, dout, x, ndim, mean, inv_std, _flat(gamma, x), groups
    )
    if _flat(beta, x).shape != dbeta.shape:  # the kernel does not look at it
        raise ValueError(f"{function}: beta in cache must have shape {dbeta.shape}, got {beta.shape}")
    shaped = dgamma.reshape(gamma.shape), dbeta.reshape(beta.shape)
    return tuple(result(grad, dtype) for grad in (dx, *shaped))


def _check_counts(function, mean, inv_std, count):
    """The statistics in a cache are as many as the sets of values that were normalised."""
    for name, value in (("mean", mean), ("inv_std", inv_std)):
        if value.shape != (count,):
            raise ValueError(f"{function}: {name} in cache must have shape ({count},), got {value.shape}")


def layernorm_forward(
    x: ArrayLike, gamma: ArrayLike, beta: ArrayLike, ln_param: Param, *, out: Array | None = None
) -> tuple[Array, Cache]:
    """
    Normalise each sample over its features [1]_.

    Parameters
    ----------
    x : array, (N, D)
        Features.
    gamma, beta : array, (D,)
        Scale and shift.
    ln_param : dict
        `eps` (1e-5). `mode` is accepted and ignored.
    out : array, (N, D), optional
        C-contiguous buffer of the result's dtype to write the result to.

    Returns
    -------
    out : array, (N, D)
        gamma * (x - mean) / sqrt(var + eps) + beta, with each row's mean and biased variance.
    cache : tuple
        ((x, gamma, beta), mean, inv_std, 1), for `layernorm_backward`.

    Raises
    ------
    ValueError
        Shapes that do not fit, values out of range, unknown keys.
    TypeError
        Arrays or parameters of an unsupported type.

    References
    ----------
    .. [1] J. L. Ba, J. R. Kiros, G. E. Hinton, "Layer Normalization", 2016.
    """
    return _rownorm("layernorm_forward", 2, x, gamma, beta, 1, "ln_param", ln_param, out)


def layernorm_backward(dout: ArrayLike, cache: Cache) -> tuple[Array, Array, Array]:
    """
    Gradients of `layernorm_forward`.

    Parameters
    ----------
    dout : array, (N, D)
        Gradient of the loss with respect to the output.
    cache : tuple
        ((x, gamma, beta), mean, inv_std, 1), the statistics (N,) in float64.

    Returns
    -------
    dx : array, (N, D)
    dgamma, dbeta : array, (D,)

    Raises
    ------
    ValueError, TypeError
        `dout` of another shape than the output, or of an unsupported type.
    """
    return _rownorm_backward("layernorm_backward", 2, dout, cache)


def spatial_groupnorm_forward(
    x: ArrayLike, gamma: ArrayLike, beta: ArrayLike, G: int, gn_param: Param, *, out: Array | None = None
) -> tuple[Array, Cache]:
    """
    Normalise each image over groups of its channels [1]_.

    Parameters
    ----------
    x : array, (N, C, H, W)
        Images.
    gamma, beta : array, (C,) or (1, C, 1, 1)
        Scale and shift of each channel.
    G : int
        Number of groups; divides C.
    gn_param : dict
        `eps` (1e-5). `mode` is accepted and ignored.
    out : array, (N, C, H, W), optional
        C-contiguous buffer of the result's dtype to write the result to.

    Returns
    -------
    out : array, (N, C, H, W)
    cache : tuple
        ((x, gamma, beta), mean, inv_std, G), for `spatial_groupnorm_backward`.

    Raises
    ------
    ValueError
        Shapes that do not fit, G that does not divide C, values out of range, unknown keys.
    TypeError
        Arrays or parameters of an unsupported type.

    References
    ----------
    .. [1] Y. Wu, K. He, "Group Normalization", 2018.
    """
    G = integer("spatial_groupnorm_forward", "G", G)
    return _rownorm("spatial_groupnorm_forward", 4, x, gamma, beta, G, "gn_param", gn_param, out)


def spatial_groupnorm_backward(dout: ArrayLike, cache: Cache) -> tuple[Array, Array, Array]:
    """
    Gradients of `spatial_groupnorm_forward`.

    Parameters
    ----------
    dout : array, (N, C, H, W)
        Gradient of the loss with respect to the output.
    cache : tuple
        ((x, gamma, beta), mean, inv_std, G), the statistics (N * G,) in float64.

    Returns
    -------
    dx : array, (N, C, H, W)
    dgamma, dbeta : arrays of the shape of gamma

    Raises
    ------
    ValueError, TypeError
        `dout` of another shape than the output, or of an unsupported type.
    """
    return _rownorm_backward("spatial_groupnorm_backward", 4, dout, cache)


def spatial_instancenorm_forward(
    x: ArrayLike, gamma: ArrayLike, beta: ArrayLike, in_param: Param, *, out: Array | None = None
) -> tuple[Array, Cache]:
    """
    Normalise each channel of each image by itself [1]_.

    Parameters
    ----------
    x : array, (N, C, H, W)
        Images.
    gamma, beta : array, (C,) or (1, C, 1, 1)
        Scale and shift of each channel.
    in_param : dict
        `eps` (1e-5). `mode` is accepted and ignored.
    out : array, (N, C, H, W), optional
        C-contiguous buffer of the result's dtype to write the result to.

    Returns
    -------
    out : array, (N, C, H, W)
    cache : tuple
        ((x, gamma, beta), mean, inv_std, C), for `spatial_instancenorm_backward`.

    Raises
    ------
    ValueError
        Shapes that do not fit, values out of range, unknown keys.
    TypeError
        Arrays or parameters of an unsupported type.

    References
    ----------
    .. [1] D. Ulyanov, A. Vedaldi, V. Lempitsky, "Instance Normalization: The Missing Ingredient for Fast
       Stylization", 2016.
    """
    return _rownorm("spatial_instancenorm_forward", 4, x, gamma, beta, None, "in_param", in_param, out)


def spatial_instancenorm_backward(dout: ArrayLike, cache: Cache) -> tuple[Array, Array, Array]:
    """
    Gradients of `spatial_instancenorm_forward`.

    Parameters
    ----------
    dout : array, (N, C, H, W)
        Gradient of the loss with respect to the output.
    cache : tuple
        ((x, gamma, beta), mean, inv_std, C), the statistics (N * C,) in float64.

    Returns
    -------
    dx : array, (N, C, H, W)
    dgamma, dbeta : arrays of the shape of gamma

    Raises
    ------
    ValueError, TypeError
        `dout` of another shape than the output, or of an unsupported type.
    """
    return _rownorm_backward("spatial_instancenorm_backward", 4, dout, cache)
