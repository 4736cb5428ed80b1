"""Layer norm over the channels of each pixel."""

from __future__ import annotations

import numpy as np

from cnnlib import _core
from cnnlib._params import check_keys, integer, number
from cnnlib._params.arrays import prepare, prepare_backward, prepare_out, result
from cnnlib._typing import Array, ArrayLike, Cache
from cnnlib.layers.caches import statistics, unpack
from cnnlib.layers.norm.arrays import NAMES, check_rank, refuse_empty
from cnnlib.layers.norm.rows import CACHE, KEYS, check_counts, flat
from cnnlib.typing import NormParam

__all__ = ["spatial_layernorm_backward", "spatial_layernorm_forward"]


def spatial_layernorm_forward(
    x: ArrayLike, gamma: ArrayLike, beta: ArrayLike, ln_param: NormParam, *, out: Array | None = None
) -> tuple[Array, Cache]:
    """
    Normalise each pixel over its channels, as in ConvNeXt [1]_.

    Parameters
    ----------
    x : array, (N, C, H, W)
        Images.
    gamma, beta : array, (C,) or (1, C, 1, 1)
        Scale and shift of each channel.
    ln_param : dict
        `eps` (1e-5). `mode` is accepted and ignored.
    out : array, (N, C, H, W), optional
        C-contiguous buffer of the result's dtype to write the result to.

    Returns
    -------
    out : array, (N, C, H, W)
    cache : tuple
        ((x, gamma, beta), mean, inv_std, 1), for `spatial_layernorm_backward`.

    Raises
    ------
    ValueError
        Shapes that do not fit, values out of range, unknown keys.
    TypeError
        Arrays or parameters of an unsupported type.

    References
    ----------
    .. [1] Z. Liu, H. Mao, C. Wu, C. Feichtenhofer, T. Darrell, S. Xie, "A ConvNet for the 2020s", 2022,
       arXiv:2201.03545.

    Examples
    --------
    >>> x = np.array([1.0, 2.0, 3.0, 5.0]).reshape(1, 2, 1, 2)
    >>> out, cache = spatial_layernorm_forward(x, np.ones(2), np.zeros(2), {"eps": 0})
    >>> out.reshape(2, 2)
    array([[-1., -1.],
           [ 1.,  1.]])
    >>> dx, dgamma, dbeta = spatial_layernorm_backward(np.ones_like(x), cache)
    >>> dgamma, dbeta
    (array([-2.,  2.]), array([2., 2.]))
    """
    return _forward("spatial_layernorm_forward", x, gamma, beta, ln_param, out)


def _forward(function, x, gamma, beta, ln_param, out):
    arrays = (x, gamma, beta)
    (x, gamma, beta), dtype = prepare(function, NAMES, *arrays)
    check_rank(function, x, 4)
    refuse_empty(function, x)
    check_keys(function, "ln_param", ln_param, KEYS)
    eps = number(function, "eps", ln_param.get("eps", 1e-5), 0)
    out = prepare_out(function, out, dtype, x, gamma, beta)
    # One pixel's channels are one row, for the kernel of rows.
    rows, mean, inv_std = _core.rownorm_forward(
        function, _pixels(x), 2, flat(gamma, x), flat(beta, x), 1, eps, None
    )
    return result(_images(rows, x.shape, out, function), dtype), (arrays, mean, inv_std, 1)


def spatial_layernorm_backward(dout: ArrayLike, cache: Cache) -> tuple[Array, Array, Array]:
    """
    Gradients of `spatial_layernorm_forward`.

    Parameters
    ----------
    dout : array, (N, C, H, W)
        Gradient of the loss with respect to the output.
    cache : tuple
        ((x, gamma, beta), mean, inv_std, 1), the statistics (N * H * W,) in float64.

    Returns
    -------
    dx : array, (N, C, H, W)
    dgamma, dbeta : arrays of the shape of gamma and beta

    Raises
    ------
    ValueError, TypeError
        `dout` of another shape than the output, or of an unsupported type.
    """
    return _backward("spatial_layernorm_backward", dout, cache)


def _backward(function, dout, cache):
    arrays, mean, inv_std, groups = unpack(function, cache, *CACHE)
    unpack(function, arrays, *NAMES)
    mean, inv_std = statistics(function, mean, inv_std)
    if integer(function, "G in cache", groups) != 1:
        raise ValueError(f"{function}: G in cache must be 1, got {groups}")
    (dout, x, gamma, beta), dtype = prepare_backward(function, dout, NAMES, *arrays)
    check_rank(function, x, 4)
    refuse_empty(function, x)
    if dout.shape != x.shape:
        raise ValueError(f"{function}: dout must have shape {x.shape}, got {dout.shape}")
    check_counts(function, mean, inv_std, x.size // x.shape[1])
    rows, dgamma, dbeta = _core.rownorm_backward(
        function, _pixels(dout), _pixels(x), 2, mean, inv_std, flat(gamma, x), 1
    )
    if flat(beta, x).shape != dbeta.shape:  # the kernel does not look at it
        raise ValueError(f"{function}: beta in cache must have shape {dbeta.shape}, got {beta.shape}")
    dx = _images(rows, x.shape, None, function)
    shaped = dgamma.reshape(gamma.shape), dbeta.reshape(beta.shape)
    return tuple(result(grad, dtype) for grad in (dx, *shaped))


def _pixels(x):
    """Images as rows (N * H * W, C), in a new array."""
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)).reshape(-1, x.shape[1])


def _images(rows, shape, out, function):
    """The inverse of `_pixels`, in `out` if that is given."""
    N, C, H, W = shape
    if out is None:
        out = np.empty(shape, rows.dtype)
    elif out.shape != shape:
        raise ValueError(f"{function}: out must have shape {shape}, got {out.shape}")
    out[...] = rows.reshape(N, H, W, C).transpose(0, 3, 1, 2)
    return out
