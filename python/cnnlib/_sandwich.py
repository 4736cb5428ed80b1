"""Layers that often follow each other, in one call; forward fuses ReLU into the layer before it."""

from __future__ import annotations

from cnnlib._conv import _conv, conv_backward
from cnnlib._dense import _affine, affine_backward, relu_backward
from cnnlib._norm import _batchnorm, _batchnorm_backward
from cnnlib._pool import max_pool_backward, max_pool_forward


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
    out = _affine("affine_relu_forward", x, w, b, relu=True)
    return out, ((x, w, b), out)


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
    affine_cache, out = cache
    return affine_backward(relu_backward(dout, out), affine_cache, needs=needs)


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
    a = _affine("affine_bn_relu_forward", x, w, b)
    out, bn_cache = _batchnorm("affine_bn_relu_forward", 2, a, gamma, beta, bn_param, relu=True)
    return out, ((x, w, b), bn_cache, out)


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
    affine_cache, bn_cache, out = cache
    da, dgamma, dbeta = _batchnorm_backward("affine_bn_relu_backward", 2, relu_backward(dout, out), bn_cache)
    return (*affine_backward(da, affine_cache, needs=needs), dgamma, dbeta)


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
    out = _conv("conv_relu_forward", x, w, b, conv_param, relu=True)
    return out, ((x, w, b, conv_param), out)


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
    conv_cache, out = cache
    return conv_backward(relu_backward(dout, out), conv_cache, needs=needs)


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
    a = _conv("conv_bn_relu_forward", x, w, b, conv_param)
    out, bn_cache = _batchnorm("conv_bn_relu_forward", 4, a, gamma, beta, bn_param, relu=True)
    return out, ((x, w, b, conv_param), bn_cache, out)


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
    conv_cache, bn_cache, out = cache
    da, dgamma, dbeta = _batchnorm_backward("conv_bn_relu_backward", 4, relu_backward(dout, out), bn_cache)
    return (*conv_backward(da, conv_cache, needs=needs), dgamma, dbeta)


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
    a, conv_cache = conv_relu_forward(x, w, b, conv_param)
    out, pool_cache = max_pool_forward(a, pool_param)
    return out, (conv_cache, pool_cache)


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
    conv_cache, pool_cache = cache
    return conv_relu_backward(max_pool_backward(dout, pool_cache), conv_cache, needs=needs)


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
    a, conv_cache = conv_bn_relu_forward(x, w, b, gamma, beta, conv_param, bn_param)
    out, pool_cache = max_pool_forward(a, pool_param)
    return out, (conv_cache, pool_cache)


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
    conv_cache, pool_cache = cache
    return conv_bn_relu_backward(max_pool_backward(dout, pool_cache), conv_cache, needs=needs)
