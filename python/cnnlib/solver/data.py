"""Checks of a Solver's data."""

import numpy as np

from cnnlib.data.rows import as_rows

_LOOKED_AT = 1000  # targets, from which messages tell what they may be: large files are not read whole


def check_samples(where, name, X):
    """ValueError for an array without samples."""
    if X.ndim == 0 or len(X) == 0:
        raise ValueError(f"{where}: {name} is empty (shape {X.shape})")


def checked_split(where, X, y, X_name="X", y_name="y", labels=True):
    """X and y, a target for each sample, as arrays; what is read by rows stays where it is.

    `labels`: the targets must be labels of classes, one for each sample. TypeError if they are not integers,
    or other targets no numbers; ValueError if there are no samples, or not as many targets.
    """
    X, y = as_rows(where, X_name, X), as_rows(where, y_name, y)
    check_samples(where, X_name, X)
    if y.ndim == 0 or len(y) != len(X) or (labels and y.ndim != 1):
        want = f"({len(X)},)" if labels else f"({len(X)}, ...)"
        advice = _as_labels(y_name, y) if labels and y.ndim == 2 and len(y) == len(X) else ""
        raise ValueError(
            f"{where}: {y_name} must have shape {want} as {X_name} has {len(X)} samples, "
            f"got {y.shape}{advice}"
        )
    if y.dtype.kind not in ("iu" if labels else "biuf"):
        what = "integer labels (other targets need loss= or metrics=)" if labels else "numbers"
        advice = _as_integers(y_name, y) if labels else ""
        raise TypeError(f"{where}: {y_name} must hold {what}, got dtype {y.dtype}{advice}")
    return X, y


def refuse_odd_masks(y_name, y, shape):
    """Refuse masks of a network whose outputs have this `shape` (C, H, W), unless they are labels (N, H, W).

    ValueError or TypeError with the expression that makes labels of them.
    """
    channel = y.ndim == 4 and y.shape[1] == 1 != shape[0]
    channel_last = y.ndim == 4 and not channel and y.shape[3] == 1 not in (shape[0], shape[2])
    if not channel and not channel_last and (y.ndim != 3 or y.dtype.kind in "iu"):
        return
    some = np.asarray(y[:_LOOKED_AT])
    wanted = f"{y_name}[:, 0]" if channel else f"{y_name}[..., 0]" if channel_last else y_name
    if y.dtype.kind not in "iu":
        wanted += ".astype(int)"
    if shape[0] <= 255 and np.isin(some, (0, 255)).all() and some.any():
        wanted += " // 255"
    raise (ValueError if channel or channel_last else TypeError)(
        f"Solver: {y_name} must hold the label of each pixel, integers (N, H, W), got {y.dtype} of shape "
        f"{y.shape}: {wanted}"
    )


def refuse_labels(y_name, y):
    """ValueError for class labels where the loss is 'cross_entropy', which takes probabilities."""
    if y.ndim == 1 and y.dtype.kind in "iu":
        raise ValueError(
            f"Solver: loss 'cross_entropy' takes probabilities (N, C), but {y_name} holds labels: their loss "
            "is 'softmax'"
        )


def _as_labels(y_name, y):
    """How targets (N, C) become labels, for a message."""
    some = np.asarray(y[:_LOOKED_AT])
    if y.shape[1] == 1:
        return f": {y_name}[:, 0]"
    if y.dtype.kind in "biuf" and np.isin(some, (0, 1)).all() and (some.sum(axis=1) == 1).all():
        return f"; the labels of one-hot rows are {y_name}.argmax(axis=1)"
    return "; probabilities have the loss 'cross_entropy', numbers 'mse'"


def _as_integers(y_name, y):
    """How other values become integer labels, for a message."""
    if y.dtype.kind in "USOT":
        return (
            f": classes, {y_name} = np.unique({y_name}, return_inverse=True) makes labels, "
            "np.searchsorted(classes, y_val) those of y_val"
        )
    some = np.asarray(y[:_LOOKED_AT])
    if y.dtype.kind == "b" or (y.dtype.kind == "f" and (some == np.floor(some)).all()):
        return f": {y_name}.astype(int)"
    return "; numbers have the loss 'mse'"
