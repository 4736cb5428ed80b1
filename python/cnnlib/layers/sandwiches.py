"""Layers that often follow each other, in one call; forward fuses ReLU into the layer before it."""

from __future__ import annotations

from cnnlib._arrays import prepare, result
from cnnlib.layers.conv import _conv, _conv_backward
from cnnlib.layers.conv_norm import _conv_bn_relu, _conv_bn_relu_backward
from cnnlib.layers.dense import _affine, _affine_backward, _relu_backward
from cnnlib.layers.norm import _batchnorm, _batchnorm_backward
from cnnlib.layers.pool import _max_pool, _max_pool_backward

_LAYER = ("x", "w", "b")
_NORMED = ("x", "w", "b", "gamma", "beta")


def _forward(function, names, chain, *arguments):
    """Run a chain of layers on arrays (those in `names`) of one dtype; only its end is rounded to 16 bits."""
    arrays, dtype = prepare(function, names, *arguments[: len(names)])
    out, cache = chain(function, *arrays, *arguments[len(names) :])
    return result(out, dtype), (cache, dtype)


def _backward(function, chain, dout, cache, needs):
    cache, dtype = cache
    return tuple(result(grad, dtype) for grad in chain(function, dout, cache, needs))


def _affine_relu(function, x, w, b):
    out = _affine(function, x, w, b, relu=True)
    return out, ((x, w, b), out)


def _affine_relu_backward(function, dout, cache, needs):
    affine_cache, out = cache
    return _affine_backward(function, _relu_backward(function, dout, out), affine_cache, needs)


def _affine_bn_relu(function, x, w, b, gamma, beta, bn_param):
    a = _affine(function, x, w, b)
    out, bn_cache = _batchnorm(function, 2, a, gamma, beta, bn_param, relu=True)
    return out, ((x, w, b), bn_cache)


def _affine_bn_relu_backward(function, dout, cache, needs):
    affine_cache, bn_cache = cache
    da, dgamma, dbeta = _batchnorm_backward(function, 2, dout, bn_cache, relu=True)
    return (*_affine_backward(function, da, affine_cache, needs), dgamma, dbeta)


def _conv_relu(function, x, w, b, conv_param):
    out = _conv(function, x, w, b, conv_param, relu=True)
    return out, ((x, w, b, conv_param), out)


def _conv_relu_backward(function, dout, cache, needs):
    conv_cache, out = cache
    return _conv_backward(function, _relu_backward(function, dout, out), conv_cache, needs)


def _conv_relu_pool(function, x, w, b, conv_param, pool_param):
    a, conv_cache = _conv_relu(function, x, w, b, conv_param)
    out, pool_cache = _max_pool(function, a, pool_param)
    return out, (conv_cache, pool_cache)


def _conv_relu_pool_backward(function, dout, cache, needs):
    conv_cache, pool_cache = cache
    return _conv_relu_backward(function, _max_pool_backward(function, dout, pool_cache), conv_cache, needs)


def _conv_bn_relu_pool(function, x, w, b, gamma, beta, conv_param, bn_param, pool_param):
    a, conv_cache = _conv_bn_relu(function, x, w, b, gamma, beta, conv_param, bn_param)
    out, pool_cache = _max_pool(function, a, pool_param)
    return out, (conv_cache, pool_cache)


def _conv_bn_relu_pool_backward(function, dout, cache, needs):
    conv_cache, pool_cache = cache
    return _conv_bn_relu_backward(function, _max_pool_backward(function, dout, pool_cache), conv_cache, needs)


def affine_relu_forward(x, w, b):
    """
    `affine_forward`, then `relu_forward`.

    Parameters
    ----------
    x : array, (N, d1, ..., dk)
    w : array, (D, M)
    b : array, (M,), or None

    Returns
    -------
    out : array, (N, M)
    cache : opaque
        For `affine_relu_backward`.

    Raises
    ------
    ValueError, TypeError
        As in `affine_forward`.
    """
    return _forward("affine_relu_forward", _LAYER, _affine_relu, x, w, b)


def affine_relu_backward(dout, cache, *, needs=None):
    """
    Gradients of `affine_relu_forward`.

    Parameters
    ----------
    dout : array, (N, M)
    cache : opaque
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
    return _backward("affine_relu_backward", _affine_relu_backward, dout, cache, needs)


def affine_bn_relu_forward(x, w, b, gamma, beta, bn_param):
    """
    `affine_forward`, `batchnorm_forward`, then `relu_forward`.

    Parameters
    ----------
    x : array, (N, d1, ..., dk)
    w : array, (D, M)
    b : array, (M,), or None
    gamma, beta : array, (M,)
    bn_param : dict
        As in `batchnorm_forward`.

    Returns
    -------
    out : array, (N, M)
    cache : opaque
        For `affine_bn_relu_backward`.

    Raises
    ------
    KeyError, ValueError, TypeError
        As in the layers.
    """
    return _forward("affine_bn_relu_forward", _NORMED, _affine_bn_relu, x, w, b, gamma, beta, bn_param)


def affine_bn_relu_backward(dout, cache, *, needs=None):
    """
    Gradients of `affine_bn_relu_forward`.

    Parameters
    ----------
    dout : array, (N, M)
    cache : opaque
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
    return _backward("affine_bn_relu_backward", _affine_bn_relu_backward, dout, cache, needs)


def conv_relu_forward(x, w, b, conv_param):
    """
    `conv_forward`, then `relu_forward`.

    Parameters
    ----------
    x : array, (N, C, H, W)
    w : array, (F, C / groups, KH, KW)
    b : array, (F,), or None
    conv_param : dict
        As in `conv_forward`.

    Returns
    -------
    out : array, (N, F, OH, OW)
    cache : opaque
        For `conv_relu_backward`.

    Raises
    ------
    ValueError, TypeError
        As in `conv_forward`.
    """
    return _forward("conv_relu_forward", _LAYER, _conv_relu, x, w, b, conv_param)


def conv_relu_backward(dout, cache, *, needs=None):
    """
    Gradients of `conv_relu_forward`.

    Parameters
    ----------
    dout : array, (N, F, OH, OW)
    cache : opaque
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
    return _backward("conv_relu_backward", _conv_relu_backward, dout, cache, needs)


def conv_bn_relu_forward(x, w, b, gamma, beta, conv_param, bn_param):
    """
    `conv_forward`, `spatial_batchnorm_forward`, then `relu_forward`.

    Parameters
    ----------
    x : array, (N, C, H, W)
    w : array, (F, C / groups, KH, KW)
    b : array, (F,), or None
    gamma, beta : array, (F,)
    conv_param, bn_param : dict
        As in the layers.

    Returns
    -------
    out : array, (N, F, OH, OW)
    cache : opaque
        For `conv_bn_relu_backward`.

    Raises
    ------
    KeyError, ValueError, TypeError
        As in the layers.
    """
    return _forward(
        "conv_bn_relu_forward", _NORMED, _conv_bn_relu, x, w, b, gamma, beta, conv_param, bn_param
    )


def conv_bn_relu_backward(dout, cache, *, needs=None):
    """
    Gradients of `conv_bn_relu_forward`.

    Parameters
    ----------
    dout : array, (N, F, OH, OW)
    cache : opaque
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
    return _backward("conv_bn_relu_backward", _conv_bn_relu_backward, dout, cache, needs)


def conv_relu_pool_forward(x, w, b, conv_param, pool_param):
    """
    `conv_relu_forward`, then `max_pool_forward`.

    Parameters
    ----------
    x : array, (N, C, H, W)
    w : array, (F, C / groups, KH, KW)
    b : array, (F,), or None
    conv_param, pool_param : dict
        As in the layers.

    Returns
    -------
    out : array, (N, F, PH, PW)
        The pool's output.
    cache : opaque
        For `conv_relu_pool_backward`.

    Raises
    ------
    KeyError, ValueError, TypeError
        As in the layers.
    """
    return _forward("conv_relu_pool_forward", _LAYER, _conv_relu_pool, x, w, b, conv_param, pool_param)


def conv_relu_pool_backward(dout, cache, *, needs=None):
    """
    Gradients of `conv_relu_pool_forward`.

    Parameters
    ----------
    dout : array of the shape of the output
    cache : opaque
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
    return _backward("conv_relu_pool_backward", _conv_relu_pool_backward, dout, cache, needs)


def conv_bn_relu_pool_forward(x, w, b, gamma, beta, conv_param, bn_param, pool_param):
    """
    `conv_bn_relu_forward`, then `max_pool_forward`.

    Parameters
    ----------
    x : array, (N, C, H, W)
    w : array, (F, C / groups, KH, KW)
    b : array, (F,), or None
    gamma, beta : array, (F,)
    conv_param, bn_param, pool_param : dict
        As in the layers.

    Returns
    -------
    out : array
        The pool's output.
    cache : opaque
        For `conv_bn_relu_pool_backward`.

    Raises
    ------
    KeyError, ValueError, TypeError
        As in the layers.
    """
    return _forward(
        "conv_bn_relu_pool_forward",
        _NORMED,
        _conv_bn_relu_pool,
        x,
        w,
        b,
        gamma,
        beta,
        conv_param,
        bn_param,
        pool_param,
    )


def conv_bn_relu_pool_backward(dout, cache, *, needs=None):
    """
    Gradients of `conv_bn_relu_pool_forward`.

    Parameters
    ----------
    dout : array of the shape of the output
    cache : opaque
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
    return _backward("conv_bn_relu_pool_backward", _conv_bn_relu_pool_backward, dout, cache, needs)
