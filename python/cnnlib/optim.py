"""
First-order update rules: `rule(w, dw, config=None, *, scale=1.0) -> (next_w, config)`.

`w` are weights, `dw` is their gradient, of the same shape, and `scale` a factor on it. `config` holds
hyper-parameters and state, is updated in place and returned; pass it to the next call. `w` is updated in
place where its memory allows (float32 or float64, contiguous, writable, none of `dw`'s), so go on with the
returned `next_w`; `dw` is never written. All arithmetic is in w's dtype (that of 16-bit floats, and their
state, in float32), in one pass over memory. Shapes that differ, values out of range or of the wrong type, and
unknown keys raise ValueError or TypeError.
"""

from __future__ import annotations

import functools
import math
import numbers
from collections.abc import MutableMapping

import numpy as np

from cnnlib import _core
from cnnlib._params import at_least, check_keys, number, probability
from cnnlib._params.arrays import in_dtype, prepare, reals, result
from cnnlib._typing import Array, ArrayLike
from cnnlib.typing import OptimConfig

__all__ = ["adam", "adamw", "rmsprop", "sgd", "sgd_momentum", "sgd_nesterov_momentum"]

_MOST = {"momentum": 1, "decay_rate": 1}  # of the others: no bound


def _weights(rule, w, dw):
    """w ready to be written to, dw in its dtype, and the dtype of next_w."""
    if _core.ready_dtype(("w", "dw"), (w, dw)) and w.shape == dw.shape and w.flags.writeable:  # most calls
        return _apart(w, dw), dw, w.dtype
    (ready,), dtype = prepare(rule, ("w",), w)
    dw = in_dtype(rule, "dw", dw, ready.dtype)
    if ready.shape != dw.shape:
        raise ValueError(f"{rule}: dw must have w's shape {ready.shape}, got {dw.shape}")
    # Of an array whose dtype is another object than NumPy's own `ready` is a view.
    return _apart(_writable(w if type(w) is np.ndarray else ready, ready.dtype), dw), dw, dtype


def _apart(array, *others):
    """The array, or a copy where to write to it would write to one of the others, in the same memory."""
    return array.copy() if any(np.may_share_memory(array, other) for other in others) else array


def _writable(array, dtype):
    """The array itself where it can be written to in place, else a copy."""
    if type(array) is np.ndarray and array.dtype == dtype and array.flags.carray:
        return array
    return np.require(array, dtype, ("C", "A", "W"))


def _updated(rule, step, w, dw, config, scale, states=(), counts=False, **defaults):
    """Fill in the config, check it and take a step of the core, which has the config's numbers in this order.

    The arrays of its state have the names `states`; a rule that `counts` its steps keeps their number as `t`.
    """
    config = {} if config is None else config
    check_keys(rule, "config", config, (*defaults, *states, *["t"] * counts))
    if not isinstance(config, (dict, MutableMapping)):
        raise TypeError(f"{rule}: config is written to, a {type(config).__name__} is read-only")
    for key, value in defaults.items():
        config.setdefault(key, value)
    next_w, gradient, dtype = _weights(rule, w, dw)
    settings = [_setting(rule, key, config[key]) for key in defaults]
    arrays = [next_w, gradient]
    for key in states:
        arrays.append(_state(rule, config, key, *arrays))
    factor, number_of = _factor(rule, scale), {}
    if counts:
        steps = 0 if config.get("t") is None else at_least(0, rule, "t", config["t"])
        config["t"] = number_of["t"] = steps + 1
    step(next_w, gradient, factor, *arrays[2:], *settings, **number_of)
    return result(next_w, dtype), config


def _setting(rule, key, value):
    if key in ("beta1", "beta2"):
        return probability(rule, key, value)
    return number(rule, key, value, 0, _MOST.get(key, math.inf))


def _state(rule, config, key, w, *others):
    """The state array under `key`, writable, like w and in no other array's memory; zeros at first."""
    value = config.get(key)
    if value is None:
        value = np.zeros(w.shape, w.dtype)
    value = reals(rule, key, value)
    if value.shape != w.shape:
        raise ValueError(f"{rule}: {key} must have w's shape {w.shape}, got {value.shape}")
    config[key] = value = _apart(_writable(value, w.dtype), w, *others)
    return value


def _factor(rule, scale):
    """A real number; NaN and infinity are to show in the weights."""
    if type(scale) is not float and (not isinstance(scale, numbers.Real) or isinstance(scale, bool)):
        raise TypeError(f"{rule}: scale must be a number, got {scale!r}")
    return float(scale)


def sgd(
    w: ArrayLike, dw: ArrayLike, config: OptimConfig | None = None, *, scale: float = 1.0
) -> tuple[Array, OptimConfig]:
    """
    Gradient descent: w -= learning_rate * dw.

    Parameters
    ----------
    w, dw : arrays of one shape
        Weights and their gradient.
    config : dict, optional
        `learning_rate` (1e-2).
    scale : float, optional
        Factor on `dw`.

    Returns
    -------
    next_w : array
    config : dict

    Raises
    ------
    ValueError, TypeError
        Shapes that differ, values out of range or of the wrong type, unknown keys.

    Examples
    --------
    >>> sgd(np.array([1.0, -1.0]), np.array([0.5, 0.5]), {"learning_rate": 0.1})
    (array([ 0.95, -1.05]), {'learning_rate': 0.1})
    """
    return _updated("sgd", _core.sgd_step, w, dw, config, scale, learning_rate=1e-2)


def _momentum(rule, w, dw, config, scale, nesterov):
    step = functools.partial(_core.momentum_step, nesterov=nesterov)
    return _updated(rule, step, w, dw, config, scale, ("velocity",), learning_rate=1e-2, momentum=0.9)


def sgd_momentum(
    w: ArrayLike, dw: ArrayLike, config: OptimConfig | None = None, *, scale: float = 1.0
) -> tuple[Array, OptimConfig]:
    """
    Momentum: velocity = momentum * velocity - learning_rate * dw; w += velocity.

    Parameters
    ----------
    w, dw : arrays of one shape
        Weights and their gradient.
    config : dict, optional
        `learning_rate` (1e-2), `momentum` (0.9, in [0, 1]); state `velocity`.
    scale : float, optional
        Factor on `dw`.

    Returns
    -------
    next_w : array
    config : dict

    Raises
    ------
    ValueError, TypeError
        Shapes that differ, values out of range or of the wrong type, unknown keys.

    Examples
    --------
    The second step of the same gradient is 1.9 times as long:

    >>> w, dw = np.array([1.0]), np.array([0.5])
    >>> w, config = sgd_momentum(w, dw, {"learning_rate": 0.1})
    >>> sgd_momentum(w, dw, config)[0].round(3)
    array([0.855])
    """
    return _momentum("sgd_momentum", w, dw, config, scale, nesterov=False)


def sgd_nesterov_momentum(
    w: ArrayLike, dw: ArrayLike, config: OptimConfig | None = None, *, scale: float = 1.0
) -> tuple[Array, OptimConfig]:
    """
    Nesterov momentum [1]_: v = momentum * velocity - learning_rate * dw; w += v + momentum * (v - velocity).

    Parameters
    ----------
    w, dw : arrays of one shape
        Weights and their gradient.
    config : dict, optional
        `learning_rate` (1e-2), `momentum` (0.9, in [0, 1]); state `velocity`.
    scale : float, optional
        Factor on `dw`.

    Returns
    -------
    next_w : array
    config : dict

    Raises
    ------
    ValueError, TypeError
        Shapes that differ, values out of range or of the wrong type, unknown keys.

    References
    ----------
    .. [1] I. Sutskever et al., "On the importance of initialization and momentum in deep learning", 2013,
       in the form that keeps the weights at the look-ahead point.

    Examples
    --------
    >>> w, config = sgd_nesterov_momentum(np.array([1.0]), np.array([0.5]), {"learning_rate": 0.1})
    >>> w.round(3), config["velocity"]
    (array([0.905]), array([-0.05]))
    """
    return _momentum("sgd_nesterov_momentum", w, dw, config, scale, nesterov=True)


def rmsprop(
    w: ArrayLike, dw: ArrayLike, config: OptimConfig | None = None, *, scale: float = 1.0
) -> tuple[Array, OptimConfig]:
    """
    RMSProp [1]_: steps by the gradient over the root of the mean of its square.

    a = decay_rate * a + (1 - decay_rate) * dw**2; w -= learning_rate * dw / (sqrt(a) + epsilon).

    Parameters
    ----------
    w, dw : arrays of one shape
        Weights and their gradient.
    config : dict, optional
        `learning_rate` (1e-2), `decay_rate` (0.99, in [0, 1]), `epsilon` (1e-8); state `a`.
    scale : float, optional
        Factor on `dw`.

    Returns
    -------
    next_w : array
    config : dict

    Raises
    ------
    ValueError, TypeError
        Shapes that differ, values out of range or of the wrong type, unknown keys.

    References
    ----------
    .. [1] T. Tieleman, G. Hinton, "Lecture 6.5 - rmsprop", 2012.

    Examples
    --------
    The first step is `learning_rate` / sqrt(1 - `decay_rate`), however large the gradient:

    >>> w, config = rmsprop(np.array([1.0, 1.0]), np.array([0.5, 50.0]), {"learning_rate": 0.01})
    >>> w.round(3)
    array([0.9, 0.9])
    """
    decay = {"learning_rate": 1e-2, "decay_rate": 0.99, "epsilon": 1e-8}
    return _updated("rmsprop", _core.rmsprop_step, w, dw, config, scale, ("a",), **decay)


def _adam(rule, step, w, dw, config, scale, **decay):
    usual = {"learning_rate": 1e-3, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, **decay}
    return _updated(rule, step, w, dw, config, scale, ("v", "a"), True, **usual)


def adam(
    w: ArrayLike, dw: ArrayLike, config: OptimConfig | None = None, *, scale: float = 1.0
) -> tuple[Array, OptimConfig]:
    """
    Adam [1]_: steps by the mean of the gradient over the root of the mean of its square.

    t += 1; v = beta1 * v + (1 - beta1) * dw; a = beta2 * a + (1 - beta2) * dw**2;
    w -= learning_rate * v / (1 - beta1**t) / (sqrt(a / (1 - beta2**t)) + epsilon).

    Parameters
    ----------
    w, dw : arrays of one shape
        Weights and their gradient.
    config : dict, optional
        `learning_rate` (1e-3), `beta1` (0.9), `beta2` (0.999), both in [0, 1), `epsilon` (1e-8); state
        `v`, `a`, `t`.
    scale : float, optional
        Factor on `dw`.

    Returns
    -------
    next_w : array
    config : dict

    Raises
    ------
    ValueError, TypeError
        Shapes that differ, values out of range or of the wrong type, unknown keys.

    References
    ----------
    .. [1] D. P. Kingma, J. Ba, "Adam: A Method for Stochastic Optimization", 2014.

    Examples
    --------
    >>> w, config = adam(np.array([1.0, -1.0]), np.array([0.5, 0.5]), {"learning_rate": 0.1})
    >>> w.round(3), sorted(config)
    (array([ 0.9, -1.1]), ['a', 'beta1', 'beta2', 'epsilon', 'learning_rate', 't', 'v'])
    """
    step = functools.partial(_core.adam_step, weight_decay=0.0)
    return _adam("adam", step, w, dw, config, scale)


def adamw(
    w: ArrayLike, dw: ArrayLike, config: OptimConfig | None = None, *, scale: float = 1.0
) -> tuple[Array, OptimConfig]:
    """
    Adam with decoupled weight decay [1]_: also w -= learning_rate * weight_decay * w, from the old w.

    Parameters
    ----------
    w, dw : arrays of one shape
        Weights and their gradient.
    config : dict, optional
        As in `adam`, and `weight_decay` (1e-2).
    scale : float, optional
        Factor on `dw`.

    Returns
    -------
    next_w : array
    config : dict

    Raises
    ------
    ValueError, TypeError
        Shapes that differ, values out of range or of the wrong type, unknown keys.

    References
    ----------
    .. [1] I. Loshchilov, F. Hutter, "Decoupled Weight Decay Regularization", 2017.

    Examples
    --------
    >>> w, config = adamw(np.array([1.0]), np.array([0.5]), {"learning_rate": 0.1, "weight_decay": 0.1})
    >>> w.round(3)
    array([0.89])
    """
    return _adam("adamw", _core.adam_step, w, dw, config, scale, weight_decay=1e-2)
