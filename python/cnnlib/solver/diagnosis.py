"""Why a loss or a gradient is not finite."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cnnlib.data.shards import ShardedArray


def fault_of_images(X: np.ndarray, X_train: np.ndarray | ShardedArray, rows: np.ndarray) -> str | None:
    """Why the images X that the model saw, made from X_train[rows], are not finite; None if they are."""
    if _finite(X):
        return None
    for row in rows:
        if not _finite(X_train[row]):
            return f"X_train[{row}] holds NaN or infinity: the data are at fault, not the learning rate"
    return "the images of X_train are finite, but preprocess or augment made NaN or infinity of them"


def fault_of_params(params: Mapping[str, np.ndarray]) -> str | None:
    """Which parameter is not finite; None if all are."""
    for name, value in params.items():
        if not _finite(value):
            return f"the parameter {name} holds NaN or infinity; a lower learning rate may help"
    return None


def _finite(values):
    values = np.asarray(values)
    return values.dtype.kind not in "fc" or bool(np.isfinite(values).all())
