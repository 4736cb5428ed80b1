"""RMSProp and Adam with their state under the course's names; to be imported behind :mod:`cnnlib.optim`."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import Any

from cnnlib import optim
from cnnlib._params import check_keys
from cnnlib._typing import Array, ArrayLike

__all__ = ["adam", "rmsprop"]

_RMSPROP = {"cache": "a"}  # the course's names of a state, and cnnlib's
_ADAM = {"m": "v", "v": "a"}


def rmsprop(
    w: ArrayLike, dw: ArrayLike, config: MutableMapping[str, Any] | None = None
) -> tuple[Array, MutableMapping[str, Any]]:
    """
    Take the step of :func:`cnnlib.optim.rmsprop`; the config holds the mean of squares as `cache`.

    Parameters
    ----------
    w, dw : arrays of one shape
        Weights and their gradient.
    config : dict, optional
        `learning_rate` (1e-2), `decay_rate` (0.99), `epsilon` (1e-8); state `cache`.

    Returns
    -------
    next_w : array
    config : dict

    Raises
    ------
    ValueError, TypeError
        As in :func:`cnnlib.optim.rmsprop`.

    Examples
    --------
    >>> w, config = rmsprop(np.array([1.0]), np.array([0.5]), {"learning_rate": 0.01})
    >>> sorted(config)
    ['cache', 'decay_rate', 'epsilon', 'learning_rate']
    """
    known = ("learning_rate", "decay_rate", "epsilon", "cache")
    return _stepped("rmsprop", optim.rmsprop, _RMSPROP, known, w, dw, config)


def adam(
    w: ArrayLike, dw: ArrayLike, config: MutableMapping[str, Any] | None = None
) -> tuple[Array, MutableMapping[str, Any]]:
    """
    Take the step of :func:`cnnlib.optim.adam`; the config holds the first moment as `m`, the second as `v`.

    Parameters
    ----------
    w, dw : arrays of one shape
        Weights and their gradient.
    config : dict, optional
        `learning_rate` (1e-3), `beta1` (0.9), `beta2` (0.999), `epsilon` (1e-8); state `m`, `v`, `t`.

    Returns
    -------
    next_w : array
    config : dict

    Raises
    ------
    ValueError, TypeError
        As in :func:`cnnlib.optim.adam`.

    Examples
    --------
    >>> w, config = adam(np.array([1.0]), np.array([0.5]), {"learning_rate": 0.1})
    >>> sorted(config)
    ['beta1', 'beta2', 'epsilon', 'learning_rate', 'm', 't', 'v']
    """
    known = ("learning_rate", "beta1", "beta2", "epsilon", "m", "v", "t")
    return _stepped("adam", optim.adam, _ADAM, known, w, dw, config)


def _stepped(
    name: str,
    rule: Callable[..., tuple[Array, Any]],
    names: dict[str, str],
    known: tuple[str, ...],
    w: ArrayLike,
    dw: ArrayLike,
    config: MutableMapping[str, Any] | None,
) -> tuple[Array, MutableMapping[str, Any]]:
    """The step of a rule of cnnlib whose config has other `names`; after an error the config is as before."""
    config = {} if config is None else config
    check_keys(name, "config", config, known)
    next_w, state = rule(w, dw, {names.get(key, key): value for key, value in config.items()})
    course = {ours: theirs for theirs, ours in names.items()}
    config.update({course.get(key, key): value for key, value in state.items()})
    return next_w, config
