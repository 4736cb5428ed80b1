"""Layer, group and instance normalisation: each set of values that lie together, a row, by itself."""

from __future__ import annotations

from cnnlib import _core
from cnnlib._params import check_keys, integer, number
from cnnlib._params.arrays import prepare, prepare_backward, prepare_out, result, statistics, unpack
from cnnlib._typing import Array, ArrayLike, Cache
from cnnlib.typing import NormParam

__all__ = ["layernorm_backward", "layernorm_forward", "spatial_groupnorm_backward"]
__all__ += ["spatial_groupnorm_forward", "spatial_instancenorm_backward", "spatial_instancenorm_forward"]
__all__ += ["spatial_layernorm_backward", "spatial_layernorm_forward"]

NAMES = ("x", "gamma", "beta")
_CACHE = ("(x, gamma, beta)", "mean", "inv_std", "G")
KEYS = ("eps", "mode")  # 'mode' is accepted, and has no meaning here


def check_rank(function, x, ndim):
    """Check the rank of x before statistics of its size are made; the bindings check all shapes again."""
    if x.ndim != ndim:
        axes = "2 dimensions (N, D)" if ndim == 2 else "4 dimensions (N, C, H, W)"
        raise ValueError(f"{function}: x must have {axes}, got shape {x.shape}")


def _rownorm(function, ndim, x, gamma, beta, groups, name, param, out, by_pixel=False):
    """Rows are samples' groups of channels; of each channel where `groups` is None; or a pixel's channels."""
    arrays = (x, gamma, beta)
    (x, gamma, beta), dtype = prepare(function, NAMES, *arrays)
    if groups is None or by_pixel:
        check_rank(function, x, ndim)
        groups = 1 if by_pixel else x.shape[1]
    check_keys(function, name, param, KEYS)
    eps = number(function, "eps", param.get("eps", 1e-5), 0)
    out = prepare_out(function, out, dtype, x, gamma, beta)
    gamma, beta = _flat(gamma, x), _flat(beta, x)
    out, mean, inv_std = _core.rownorm_forward(function, x, ndim, gamma, beta, groups, eps, out, by_pixel)
    return result(out, dtype), (arrays, mean, inv_std, groups)


def _flat(parameter, x):
    return parameter.reshape(-1) if x.ndim == 4 and parameter.shape == (1, x.shape[1], 1, 1) else parameter


def _rownorm_backward(function, ndim, dout, cache, by_pixel=False):
    arrays, mean, inv_std, groups = unpack(function, cache, *_CACHE)
    unpack(function, arrays, *NAMES)
    mean, inv_std = statistics(function, mean, inv_std)
    groups = integer(function, "G in cache", groups)
    if by_pixel and groups != 1:
        raise ValueError(f"{function}: G in cache must be 1, got {groups}")
    (dout, x, gamma, beta), dtype = prepare_backward(function, dout, NAMES, *arrays)
    if x.ndim == ndim:
        shape = (x.size // max(x.shape[1], 1) if by_pixel else len(x) * groups,)
        for name, value in (("mean", mean), ("inv_std", inv_std)):
            if value.shape != shape:
                raise ValueError(f"{function}: {name} in cache must have shape {shape}, got {value.shape}")
    gamma_ = _flat(gamma, x)
    dx, *grads = _core.rownorm_backward(function, dout, x, ndim, mean, inv_std, gamma_, groups, by_pixel)
    if _flat(beta, x).shape != grads[1].shape:  # the kernel does not look at it
        raise ValueError(f"{function}: beta in cache must have shape {grads[1].shape}, got {beta.shape}")
    shaped = grads[0].reshape(gamma.shape), grads[1].reshape(beta.shape)
    return tuple(result(grad, dtype) for grad in (dx, *shaped))


def layernorm_forward(
    x: ArrayLike, gamma: ArrayLike, beta: ArrayLike, ln_param: NormParam, *, out: Array | None = None
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

    Examples
    --------
    >>> x = np.array([[1.0, 3.0], [10.0, 20.0]])
    >>> out, cache = layernorm_forward(x, np.ones(2), np.zeros(2), {"eps": 0})
    >>> out
    array([[-1.,  1.],
           [-1.,  1.]])
    >>> dx, dgamma, dbeta = layernorm_backward(np.ones((2, 2)), cache)
    >>> dgamma, dbeta
    (array([-2.,  2.]), array([2., 2.]))
    """
    return _rownorm("layernorm_forward", 2, x, gamma, beta, 1, "ln_param", ln_param, out)


def layernorm_backward(dout: ArrayLike, cache: Cache) -> tuple[Array, Array, Array]:
    """
    Gradients of `layernorm_forward`.

    Parameters
    ----------
    dout : array, (N, D)
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
    x: ArrayLike, gamma: ArrayLike, beta: ArrayLike, G: int, gn_param: NormParam, *, out: Array | None = None
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

    Examples
    --------
    Two groups of two channels, of one pixel each:

    >>> x = np.array([1.0, 3.0, 10.0, 20.0]).reshape(1, 4, 1, 1)
    >>> out, cache = spatial_groupnorm_forward(x, np.ones(4), np.zeros(4), 2, {"eps": 0})
    >>> out.ravel()
    array([-1.,  1., -1.,  1.])
    >>> [grad.shape for grad in spatial_groupnorm_backward(np.ones_like(x), cache)]
    [(1, 4, 1, 1), (4,), (4,)]
    """
    G = integer("spatial_groupnorm_forward", "G", G)
    return _rownorm("spatial_groupnorm_forward", 4, x, gamma, beta, G, "gn_param", gn_param, out)


def spatial_groupnorm_backward(dout: ArrayLike, cache: Cache) -> tuple[Array, Array, Array]:
    """
    Gradients of `spatial_groupnorm_forward`.

    Parameters
    ----------
    dout : array, (N, C, H, W)
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
    x: ArrayLike, gamma: ArrayLike, beta: ArrayLike, in_param: NormParam, *, out: Array | None = None
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

    Examples
    --------
    >>> x = np.array([[1.0, 3.0], [10.0, 20.0]]).reshape(1, 2, 1, 2)
    >>> out, cache = spatial_instancenorm_forward(x, np.ones(2), np.zeros(2), {"eps": 0})
    >>> out.reshape(2, 2)
    array([[-1.,  1.],
           [-1.,  1.]])
    >>> [grad.shape for grad in spatial_instancenorm_backward(np.ones_like(x), cache)]
    [(1, 2, 1, 2), (2,), (2,)]
    """
    return _rownorm("spatial_instancenorm_forward", 4, x, gamma, beta, None, "in_param", in_param, out)


def spatial_instancenorm_backward(dout: ArrayLike, cache: Cache) -> tuple[Array, Array, Array]:
    """
    Gradients of `spatial_instancenorm_forward`.

    Parameters
    ----------
    dout : array, (N, C, H, W)
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
    function = "spatial_layernorm_forward"
    return _rownorm(function, 4, x, gamma, beta, 1, "ln_param", ln_param, out, by_pixel=True)


def spatial_layernorm_backward(dout: ArrayLike, cache: Cache) -> tuple[Array, Array, Array]:
    """
    Gradients of `spatial_layernorm_forward`.

    Parameters
    ----------
    dout : array, (N, C, H, W)
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
    return _rownorm_backward("spatial_layernorm_backward", 4, dout, cache, by_pixel=True)
