"""What a forward pass hands to its backward pass: the same tuples as in cnnlib.naive."""

from __future__ import annotations

import numpy as np

from cnnlib import _core
from cnnlib._params.arrays import as_array

_STATISTICS = ("mean", "inv_std")
_DOUBLE = np.dtype(np.float64)


def unpack(function, cache, *names):
    """The parts of a cache, which must be a tuple with one for each of `names`."""
    if isinstance(cache, (tuple, list)) and len(cache) == len(names):
        return cache
    expected = f"{function}: cache must be the forward pass's tuple ({', '.join(names)})"
    if isinstance(cache, (tuple, list)):
        raise ValueError(f"{expected}, got {len(cache)} parts")
    raise TypeError(f"{expected}, got {type(cache).__name__}")


def statistics(function, mean, inv_std):
    """The mean and the inverse deviation in a norm's cache as the kernels take them."""
    if _core.ready_dtype(_STATISTICS, (mean, inv_std)) is _DOUBLE:  # most calls
        return mean, inv_std
    return tuple(
        _statistic(function, f"{name} in cache", value) for name, value in zip(_STATISTICS, (mean, inv_std))
    )


def _statistic(function, name, value):
    array = as_array(function, name, value)
    if array.dtype.kind != "f":
        raise TypeError(f"{function}: {name} must be of a floating dtype, got {array.dtype}")
    return np.require(array, _DOUBLE, ("C", "A"))
