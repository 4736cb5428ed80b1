"""Why a loss or a gradient is not finite."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

__all__ = ["why_not_finite"]


def why_not_finite(
    X: np.ndarray, X_train: np.ndarray, rows: np.ndarray, params: Mapping[str, np.ndarray]
) -> str:
    """What to do about it, in a few words.

    X is the minibatch as the model saw it, made from X_train[rows]; `params` are the parameters that it saw.
    """
    if not _finite(X):
        for row in rows:
            if not _finite(X_train[row]):
                return f"X_train[{row}] holds NaN or infinity: the data are at fault, not the learning rate"
        return "the images of X_train are finite, but preprocess or augment made NaN or infinity of them"
    for name, value in params.items():
        if not _finite(value):
            return f"the parameter {name} holds NaN or infinity; a lower learning rate may help"
    return "a lower learning rate may help"


def _finite(values):
    values = np.asarray(values)
    return values.dtype.kind not in "fc" or bool(np.isfinite(values).all())
