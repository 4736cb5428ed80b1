"""Checks of a Solver's data."""

import numpy as np

from cnnlib._params import type_name
from cnnlib._params.arrays import as_array
from cnnlib.data.shards import ShardedArray, Targets, named_arrays

_KEYS = ("X_train", "y_train", "X_val", "y_val")


def checked_data(data, labels=True, outputs=()):
    """X_train, y_train, X_val, y_val of the dict `data`, none of them copied.

    `labels`: the targets must be labels of classes, one for each sample. `outputs`: the names of several that
    have targets each. TypeError if `data` is no dict, or labels are not integers; ValueError if a key is
    missing, a split is empty, or images and labels differ in number.
    """
    if not hasattr(data, "keys"):
        raise TypeError(f"Solver: data must be a dict with {', '.join(_KEYS)}, got {type_name(data)}")
    missing = [key for key in _KEYS if key not in data]
    if missing:
        raise ValueError(
            f"Solver: data lacks {', '.join(missing)}; it has {', '.join(map(str, data.keys()))}"
        )
    found = []
    for X_name, y_name in (("X_train", "y_train"), ("X_val", "y_val")):
        X, y = data[X_name], data[y_name]
        if outputs:
            y = Targets.of(f"Solver: {y_name}", y, outputs)
            for name, array in named_arrays(y_name, y):
                X, _ = checked_split("Solver", X, array, X_name, name, labels=False)
        else:
            X, y = checked_split("Solver", X, y, X_name, y_name, labels)
        found += [X, y]
    return found


def checked_split(where, X, y, X_name="X", y_name="y", labels=True):
    """X and y as arrays with a target for each sample; arrays, memory maps and shards stay what they are."""
    kept = (np.ndarray, ShardedArray)
    X, y = (
        part if isinstance(part, kept) and not np.ma.isMaskedArray(part) else as_array(where, name, part)
        for name, part in ((X_name, X), (y_name, y))
    )
    if X.ndim == 0 or len(X) == 0:
        raise ValueError(f"{where}: {X_name} is empty (shape {X.shape})")
    if y.ndim == 0 or len(y) != len(X) or (labels and y.ndim != 1):
        want = f"({len(X)},)" if labels else f"({len(X)}, ...)"
        raise ValueError(
            f"{where}: {y_name} must have shape {want} as {X_name} has {len(X)} samples, got {y.shape}"
        )
    if y.dtype.kind not in ("iu" if labels else "biuf"):
        what = "integer labels (other targets need loss= or metrics=)" if labels else "numbers"
        raise TypeError(f"{where}: {y_name} must hold {what}, got dtype {y.dtype}")
    return X, y
