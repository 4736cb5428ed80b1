"""Affine layers with what often follows them, in one call; forward fuses ReLU into the layer before it."""

from __future__ import annotations

from cnnlib._params.arrays import prepare, prepare_sandwich_backward, result, unpack
from cnnlib._typing import Array, ArrayLike, Cache, Needs, Wanted
from cnnlib.layers.dense import _affine, _affine_backward, _relu_backward_by_mask, _relu_mask
from cnnlib.layers.norm.batch import _batchnorm, _batchnorm_backward, _unpack_batchnorm
from cnnlib.typing import BatchNormParam

__all__ = ["affine_bn_relu_backward", "affine_bn_relu_forward", "affine_relu_backward", "affine_relu_forward"]

_LAYER = ("x", "w", "b")
_NORMED = ("x", "w", "b", "gamma", "beta")


def _forward(function, names, chain, *arguments):
    """Run a chain of layers on arrays (those in `names`) of one dtype; only its end is rounded to 16 bits.

    The chain gets the arrays as given, for its cache, and as prepared.
    """
    given = arguments[: len(names)]
    arrays, dtype = prepare(function, names, *given)
    out, cache = chain(function, given, *arrays, *arguments[len(names) :])
    return result(out, dtype), cache


def _affine_relu(function, given, x, w, b):
    out = _affine(function, x, w, b, relu=True)
    return out, (given, _relu_mask(function, out))


def _affine_bn_relu(function, given, x, w, b, gamma, beta, bn_param):
    a = _affine(function, x, w, b)
    out, (_, *statistics) = _batchnorm(function, 2, a, gamma, beta, bn_param, relu=True)
    return out, (given[:3], ((a, *given[3:]), *statistics))


def affine_relu_forward(x: ArrayLike, w: ArrayLike, b: ArrayLike | None = None) -> tuple[Array, Cache]:
    """
    Apply `affine_forward`, then `relu_forward`.

    Parameters
    ----------
    x : array, (N, d1, ..., dk)
        Samples of D = d1 * ... * dk values.
    w : array, (D, M)
        Weights.
    b : array, (M,), or None
        Biases.

    Returns
    -------
    out : array, (N, M)
    cache : tuple
        (affine's cache, relu's mask), for `affine_relu_backward`.

    Raises
    ------
    ValueError, TypeError
        As in `affine_forward`.

    Examples
    --------
    >>> out, cache = affine_relu_forward(np.array([[1.0, 2.0]]), np.array([[1.0, -1.0], [1.0, -1.0]]), None)
    >>> out
    array([[3., 0.]])
    >>> dx, dw, db = affine_relu_backward(np.ones((1, 2)), cache)
    >>> dx, dw
    (array([[1., 1.]]), array([[1., 0.],
           [2., 0.]]))
    """
    return _forward("affine_relu_forward", _LAYER, _affine_relu, x, w, b)


def affine_relu_backward(
    dout: ArrayLike, cache: Cache, *, needs: Needs = None
) -> tuple[Wanted, Wanted, Wanted]:
    """
    Gradients of `affine_relu_forward`.

    Parameters
    ----------
    dout : array, (N, M)
    cache : tuple
        (affine's cache, relu's mask).
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
    function = "affine_relu_backward"
    affine_cache, mask = unpack(function, cache, "affine's cache", "relu's mask")
    return _affine_backward(function, _relu_backward_by_mask(function, dout, mask), affine_cache, needs)


def affine_bn_relu_forward(
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike | None,
    gamma: ArrayLike,
    beta: ArrayLike,
    bn_param: BatchNormParam,
) -> tuple[Array, Cache]:
    """
    Apply `affine_forward`, `batchnorm_forward`, then `relu_forward`.

    Parameters
    ----------
    x : array, (N, d1, ..., dk)
        Samples of D = d1 * ... * dk values.
    w : array, (D, M)
        Weights.
    b : array, (M,), or None
        Biases.
    gamma, beta : array, (M,)
        Scale and shift of the norm.
    bn_param : dict
        `mode`, required; `eps`, `momentum`, `running_mean`, `running_var`, as in `batchnorm_forward`.

    Returns
    -------
    out : array, (N, M)
    cache : tuple
        (affine's cache, batchnorm's cache), for `affine_bn_relu_backward`.

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
    The affine layer gives 2 and 6, which become -1 and 1:

    >>> x, w, gamma, beta = np.array([[1.0], [3.0]]), np.array([[2.0]]), np.ones(1), np.zeros(1)
    >>> out, cache = affine_bn_relu_forward(x, w, None, gamma, beta, {"mode": "train", "eps": 0})
    >>> out
    array([[0.],
           [1.]])
    >>> dx, dw, db, dgamma, dbeta = affine_bn_relu_backward(np.ones((2, 1)), cache)
    >>> dgamma, dbeta
    (array([1.]), array([1.]))
    """
    return _forward("affine_bn_relu_forward", _NORMED, _affine_bn_relu, x, w, b, gamma, beta, bn_param)


def affine_bn_relu_backward(
    dout: ArrayLike, cache: Cache, *, needs: Needs = None
) -> tuple[Wanted, Wanted, Wanted, Array, Array]:
    """
    Gradients of `affine_bn_relu_forward`.

    Parameters
    ----------
    dout : array, (N, M)
    cache : tuple
        (affine's cache, batchnorm's cache).
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
    function = "affine_bn_relu_backward"
    affine_cache, bn_cache = unpack(function, cache, "affine's cache", "batch norm's cache")
    x, w, b = unpack(function, affine_cache, *_LAYER)
    (a, gamma, beta), *statistics = _unpack_batchnorm(function, bn_cache)
    arrays, dtype = prepare_sandwich_backward(function, dout, a, _NORMED, x, w, b, gamma, beta)
    dout, a, x, w, b, gamma, beta = arrays
    bn_cache = (a, gamma, beta), *statistics
    da, dgamma, dbeta = _batchnorm_backward(function, 2, dout, bn_cache, relu=True)
    grads = *_affine_backward(function, da, (x, w, b), needs), dgamma, dbeta
    return tuple(result(grad, dtype) for grad in grads)
