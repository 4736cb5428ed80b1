"""Convolutions with what often follows them, in one call; forward fuses ReLU into the layer before it."""

from __future__ import annotations

from cnnlib import _core
from cnnlib._params import wanted
from cnnlib._params.arrays import prepare_sandwich_backward, result, unpack
from cnnlib._typing import Array, ArrayLike, Cache, Needs, Wanted
from cnnlib.layers.conv import _CACHE, _GRADIENTS, PreparedConv, _conv, _conv_backward
from cnnlib.layers.dense import _relu_backward, _relu_backward_by_mask, _relu_mask
from cnnlib.layers.dense_sandwiches import _LAYER, _NORMED, _forward
from cnnlib.layers.norm import batch
from cnnlib.layers.pool import _max_pool, _max_pool_backward
from cnnlib.typing import BatchNormParam, ConvParam, MaxPoolParam

__all__ = ["conv_bn_relu_backward", "conv_bn_relu_forward", "conv_bn_relu_pool_backward"]
__all__ += ["conv_bn_relu_pool_forward", "conv_relu_backward", "conv_relu_forward", "conv_relu_pool_backward"]
__all__ += ["conv_relu_pool_forward"]


def _conv_bn_relu(function, given, x, w, b, gamma, beta, conv_param, bn_param):
    """`given` are the five arrays as the caller has them, the others those that `prepare` made of them."""
    mode, eps, momentum = batch.batch_options(function, bn_param)
    conv_cache = *given[:3], conv_param
    if mode == "test" or x.shape[:1] == (0,):
        a = _conv(function, x, w, b, conv_param)
        out, (_, *statistics) = batch._batchnorm(function, 4, a, gamma, beta, bn_param, relu=True)
        return out, (conv_cache, ((a, *given[3:]), *statistics))
    running = batch.running_statistics(function, bn_param, w.shape[:1], x.dtype)
    a = _conv(function, x, w, b, conv_param)
    out, mean, var, inv_std = _core.batchnorm_train(function, a, 4, gamma, beta, eps, True)
    bn_param["running_mean"], bn_param["running_var"] = batch._moved(function, running, (mean, var), momentum)
    return out, (conv_cache, ((a, *given[3:]), mean, inv_std, True))


def _conv_bn_relu_backward(function, dout, cache, needs):
    conv_cache, bn_cache = unpack(function, cache, "conv's cache", "batch norm's cache")
    x, w, b, conv_param = unpack(function, conv_cache, *_CACHE)
    (a, gamma, beta), mean, inv_std, from_batch = batch._unpack_batchnorm(function, bn_cache)
    need_dx, need_dw, need_db = wanted(function, needs, _GRADIENTS)
    arrays, dtype = prepare_sandwich_backward(function, dout, a, _NORMED, x, w, b, gamma, beta)
    dout, a, x, w, b, gamma, beta = arrays
    norm = mean, inv_std, gamma, beta, from_batch
    needs = need_dx, need_dw, need_db and b is not None
    grads = _core.conv_bn_relu_backward(function, dout, x, w, a, *norm, conv_param, needs)
    return tuple(result(grad, dtype) for grad in grads)


def _conv_relu(function, given, x, w, b, conv_param):
    out = _conv(function, x, w, b, conv_param, relu=True)
    return out, ((*given, conv_param), _relu_mask(function, out))


def _conv_relu_pool(function, given, x, w, b, conv_param, pool_param):
    a = _conv(function, x, w, b, conv_param, relu=True)
    out, pool_cache = _max_pool(function, a, pool_param)
    return out, ((*given, conv_param), pool_cache)


def _conv_bn_relu_pool(function, given, x, w, b, gamma, beta, conv_param, bn_param, pool_param):
    mode, *_ = batch.batch_options(function, bn_param)
    moved = {**bn_param}  # which counts only where the pool takes its input
    a, conv_cache = _conv_bn_relu(function, given, x, w, b, gamma, beta, conv_param, moved)
    out, pool_cache = _max_pool(function, a, pool_param)
    if mode == "train":
        bn_param.update(moved)
    return out, (conv_cache, pool_cache)


def conv_relu_forward(
    x: ArrayLike,
    w: ArrayLike | PreparedConv,
    b: ArrayLike | None = None,
    conv_param: ConvParam | None = None,
) -> tuple[Array, Cache]:
    """
    Apply `conv_forward`, then `relu_forward`.

    Parameters
    ----------
    x : array, (N, C, H, W)
        Images.
    w : array, (F, C / groups, KH, KW), or PreparedConv
        Filters.
    b : array, (F,), or None
        Biases.
    conv_param : dict or None
        `stride`, `pad`, `dilation`, `groups`, `algorithm`, as in `conv_forward`.

    Returns
    -------
    out : array, (N, F, OH, OW)
    cache : tuple
        (conv's cache, relu's mask), for `conv_relu_backward`.

    Raises
    ------
    ValueError, TypeError
        As in `conv_forward`.

    Examples
    --------
    Two filters, one the negative of the other:

    >>> x, ones = np.ones((1, 1, 3, 3)), np.ones((1, 1, 3, 3))
    >>> out, cache = conv_relu_forward(x, np.concatenate([ones, -ones]), None, {"stride": 1, "pad": 0})
    >>> out.ravel()
    array([9., 0.])
    >>> [grad.shape for grad in conv_relu_backward(out, cache)[:2]]
    [(1, 1, 3, 3), (2, 1, 3, 3)]
    """
    function = "conv_relu_forward"
    if isinstance(w, PreparedConv):
        out, conv_cache = w.forward(function, x, b, conv_param, relu=True)
        return out, (conv_cache, _relu_mask(function, out))
    return _forward(function, _LAYER, _conv_relu, x, w, b, {} if conv_param is None else conv_param)


def conv_relu_backward(
    dout: ArrayLike, cache: Cache, *, needs: Needs = None
) -> tuple[Wanted, Wanted, Wanted]:
    """
    Gradients of `conv_relu_forward`.

    Parameters
    ----------
    dout : array, (N, F, OH, OW)
    cache : tuple
        (conv's cache, relu's mask).
    needs : tuple of 'dx', 'dw', 'db', optional
        The gradients wanted, all by default; the others come back as None.

    Returns
    -------
    dx, dw, db : arrays of the shapes of x, w and b

    Raises
    ------
    ValueError, TypeError
        `dout` of another shape than the output, or of an unsupported type.
    """
    function = "conv_relu_backward"
    conv_cache, mask = unpack(function, cache, "conv's cache", "relu's mask")
    return _conv_backward(function, _relu_backward_by_mask(function, dout, mask), conv_cache, needs)


def conv_bn_relu_forward(
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike | None,
    gamma: ArrayLike,
    beta: ArrayLike,
    conv_param: ConvParam | None,
    bn_param: BatchNormParam,
) -> tuple[Array, Cache]:
    """
    Apply `conv_forward`, `spatial_batchnorm_forward`, then `relu_forward`.

    Parameters
    ----------
    x : array, (N, C, H, W)
        Images.
    w : array, (F, C / groups, KH, KW)
        Filters.
    b : array, (F,), or None
        Biases.
    gamma, beta : array, (F,)
        Scale and shift of the norm.
    conv_param : dict or None
        `stride`, `pad`, `dilation`, `groups`, `algorithm`, as in `conv_forward`.
    bn_param : dict
        `mode`, required; `eps`, `momentum`, `running_mean`, `running_var`, as in `spatial_batchnorm_forward`.

    Returns
    -------
    out : array, (N, F, OH, OW)
    cache : tuple
        (conv's cache, spatial_batchnorm's cache), for `conv_bn_relu_backward`.

    Raises
    ------
    KeyError
        A required key is missing.
    ValueError
        Shapes that do not fit, values out of range, unknown keys.
    TypeError
        Arrays or parameters of an unsupported type.

    Examples
    --------
    The 1x1 convolution gives 2 and 6, which become -1 and 1:

    >>> x, w, gamma, beta = np.array([[[[1.0, 3.0]]]]), np.array([[[[2.0]]]]), np.ones(1), np.zeros(1)
    >>> bn_param = {"mode": "train", "eps": 0}
    >>> out, cache = conv_bn_relu_forward(x, w, None, gamma, beta, {"stride": 1}, bn_param)
    >>> out
    array([[[[0., 1.]]]])
    >>> dx, dw, db, dgamma, dbeta = conv_bn_relu_backward(np.ones_like(out), cache)
    >>> dgamma, dbeta
    (array([1.]), array([1.]))
    """
    function, arrays = "conv_bn_relu_forward", (x, w, b, gamma, beta)
    conv_param = {} if conv_param is None else conv_param
    return _forward(function, _NORMED, _conv_bn_relu, *arrays, conv_param, bn_param)


def conv_bn_relu_backward(
    dout: ArrayLike, cache: Cache, *, needs: Needs = None
) -> tuple[Wanted, Wanted, Wanted, Array, Array]:
    """
    Gradients of `conv_bn_relu_forward`.

    Parameters
    ----------
    dout : array, (N, F, OH, OW)
    cache : tuple
        (conv's cache, spatial_batchnorm's cache).
    needs : tuple of 'dx', 'dw', 'db', optional
        Which of these are wanted, all by default; the others come back as None.

    Returns
    -------
    dx, dw, db, dgamma, dbeta : arrays of the shapes of x, w, b, gamma and beta

    Raises
    ------
    ValueError, TypeError
        `dout` of another shape than the output, or of an unsupported type.
    """
    return _conv_bn_relu_backward("conv_bn_relu_backward", dout, cache, needs)


def conv_relu_pool_forward(
    x: ArrayLike,
    w: ArrayLike | PreparedConv,
    b: ArrayLike | None,
    conv_param: ConvParam | None,
    pool_param: MaxPoolParam,
) -> tuple[Array, Cache]:
    """
    Apply `conv_relu_forward`, then `max_pool_forward`.

    Parameters
    ----------
    x : array, (N, C, H, W)
        Images.
    w : array, (F, C / groups, KH, KW), or PreparedConv
        Filters.
    b : array, (F,), or None
        Biases.
    conv_param : dict or None
        `stride`, `pad`, `dilation`, `groups`, `algorithm`, as in `conv_forward`.
    pool_param : dict
        `size`, or `pool_height` and `pool_width`; `stride`, `pad`, `dilation`, `ceil_mode`, as in
        `max_pool_forward`.

    Returns
    -------
    out : array, (N, F, PH, PW)
        The pool's output.
    cache : tuple
        (conv's cache, max_pool's cache), for `conv_relu_pool_backward`.

    Raises
    ------
    KeyError
        A required key is missing.
    ValueError
        Shapes that do not fit, values out of range, unknown keys.
    TypeError
        Arrays or parameters of an unsupported type.

    Examples
    --------
    >>> x, w, b = np.ones((2, 3, 8, 8)), np.ones((4, 3, 3, 3)), np.zeros(4)
    >>> out, cache = conv_relu_pool_forward(x, w, b, {"stride": 1, "pad": 1}, {"size": 2})
    >>> out.shape
    (2, 4, 4, 4)
    >>> [grad.shape for grad in conv_relu_pool_backward(out, cache)]
    [(2, 3, 8, 8), (4, 3, 3, 3), (4,)]
    """
    function = "conv_relu_pool_forward"
    if isinstance(w, PreparedConv):
        a, conv_cache = w.forward(function, x, b, conv_param, relu=True)
        out, pool_cache = _max_pool(function, a, pool_param)
        return out, (conv_cache, pool_cache)
    conv_param = {} if conv_param is None else conv_param
    return _forward(function, _LAYER, _conv_relu_pool, x, w, b, conv_param, pool_param)


def conv_relu_pool_backward(
    dout: ArrayLike, cache: Cache, *, needs: Needs = None
) -> tuple[Wanted, Wanted, Wanted]:
    """
    Gradients of `conv_relu_pool_forward`.

    Parameters
    ----------
    dout : array of the shape of the output
    cache : tuple
        (conv's cache, max_pool's cache).
    needs : tuple of 'dx', 'dw', 'db', optional
        The gradients wanted, all by default; the others come back as None.

    Returns
    -------
    dx, dw, db : arrays of the shapes of x, w and b

    Raises
    ------
    ValueError, TypeError
        `dout` of another shape than the output, or of an unsupported type.
    """
    function = "conv_relu_pool_backward"
    conv_cache, pool_cache = unpack(function, cache, "conv's cache", "max_pool's cache")
    a, _ = unpack(function, pool_cache, "x", "pool_param")
    da = _max_pool_backward(function, dout, pool_cache)
    return _conv_backward(function, _relu_backward(function, da, a), conv_cache, needs)


def conv_bn_relu_pool_forward(
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike | None,
    gamma: ArrayLike,
    beta: ArrayLike,
    conv_param: ConvParam | None,
    bn_param: BatchNormParam,
    pool_param: MaxPoolParam,
) -> tuple[Array, Cache]:
    """
    Apply `conv_bn_relu_forward`, then `max_pool_forward`.

    Parameters
    ----------
    x : array, (N, C, H, W)
        Images.
    w : array, (F, C / groups, KH, KW)
        Filters.
    b : array, (F,), or None
        Biases.
    gamma, beta : array, (F,)
        Scale and shift of the norm.
    conv_param : dict or None
        `stride`, `pad`, `dilation`, `groups`, `algorithm`, as in `conv_forward`.
    bn_param : dict
        `mode`, required; `eps`, `momentum`, `running_mean`, `running_var`, as in `spatial_batchnorm_forward`.
    pool_param : dict
        `size`, or `pool_height` and `pool_width`; `stride`, `pad`, `dilation`, `ceil_mode`, as in
        `max_pool_forward`.

    Returns
    -------
    out : array
        The pool's output.
    cache : tuple
        (conv_bn_relu's cache, max_pool's cache), for `conv_bn_relu_pool_backward`.

    Raises
    ------
    KeyError
        A required key is missing.
    ValueError
        Shapes that do not fit, values out of range, unknown keys.
    TypeError
        Arrays or parameters of an unsupported type.

    Examples
    --------
    The 1x1 convolution gives 2 and 6, the norm -1 and 1, and 1 is the maximum:

    >>> x, w, gamma, beta = np.array([[[[1.0, 3.0]]]]), np.array([[[[2.0]]]]), np.ones(1), np.zeros(1)
    >>> bn_param, pool_param = {"mode": "train", "eps": 0}, {"pool_height": 1, "pool_width": 2}
    >>> out, cache = conv_bn_relu_pool_forward(x, w, None, gamma, beta, {"stride": 1}, bn_param, pool_param)
    >>> out
    array([[[[1.]]]])
    >>> dx, dw, db, dgamma, dbeta = conv_bn_relu_pool_backward(np.ones_like(out), cache)
    >>> dgamma, dbeta
    (array([1.]), array([1.]))
    """
    function, arrays = "conv_bn_relu_pool_forward", (x, w, b, gamma, beta)
    conv_param = {} if conv_param is None else conv_param
    return _forward(function, _NORMED, _conv_bn_relu_pool, *arrays, conv_param, bn_param, pool_param)


def conv_bn_relu_pool_backward(
    dout: ArrayLike, cache: Cache, *, needs: Needs = None
) -> tuple[Wanted, Wanted, Wanted, Array, Array]:
    """
    Gradients of `conv_bn_relu_pool_forward`.

    Parameters
    ----------
    dout : array of the shape of the output
    cache : tuple
        (conv_bn_relu's cache, max_pool's cache).
    needs : tuple of 'dx', 'dw', 'db', optional
        Which of these are wanted, all by default; the others come back as None.

    Returns
    -------
    dx, dw, db, dgamma, dbeta : arrays of the shapes of x, w, b, gamma and beta

    Raises
    ------
    ValueError, TypeError
        `dout` of another shape than the output, or of an unsupported type.
    """
    function = "conv_bn_relu_pool_backward"
    conv_cache, pool_cache = unpack(function, cache, "conv_bn_relu's cache", "max_pool's cache")
    return _conv_bn_relu_backward(function, _max_pool_backward(function, dout, pool_cache), conv_cache, needs)
