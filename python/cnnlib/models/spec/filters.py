"""First weights of convolutions that are not drawn: filters that pass a channel on, or whiten images."""

from __future__ import annotations

import numpy as np

from cnnlib._typing import Array


def set_dirac(w: Array, where: str) -> None:
    """Let the first C of the filters w (F, C, KH, KW) pass on a channel each (arXiv:1706.00388)."""
    F, C, KH, KW = w.shape
    if KH % 2 == 0 or KW % 2 == 0:
        raise ValueError(f"{where}: a dirac filter needs a middle, and {KH}x{KW} has none")
    rows = np.arange(min(F, C))
    w[rows] = 0
    w[rows, rows, KH // 2, KW // 2] = 1


def whitening_filters(X: Array, w: Array, eps: float) -> Array:
    """Filters like w (2k, C, KH, KW) that make uncorrelated outputs of variance 1 from the images X.

    They are the k eigenvectors of largest eigenvalue of the covariance matrix of X's patches, each divided by
    the root of its eigenvalue (plus `eps`), and the same with the opposite sign.
    """
    F, C, KH, KW = w.shape
    patches = np.lib.stride_tricks.sliding_window_view(X, (KH, KW), axis=(2, 3))
    D = C * KH * KW
    total, square, count = np.zeros(D), np.zeros((D, D)), 0
    for some in np.array_split(patches, max(1, len(X) // 100)):  # bounds the memory of the copies
        rows = some.transpose(0, 2, 3, 1, 4, 5).reshape(-1, D).astype(np.float64)
        total += rows.sum(axis=0)
        square += rows.T @ rows
        count += len(rows)
    mean = total / count
    values, vectors = np.linalg.eigh(square / count - np.outer(mean, mean))
    chosen = np.argsort(values)[::-1][: F // 2]
    vectors = vectors[:, chosen].T
    largest = np.abs(vectors).argmax(axis=1)
    vectors *= np.sign(vectors[np.arange(len(vectors)), largest])[:, None]  # LAPACKs differ in the sign
    filters = vectors / np.sqrt(np.maximum(values[chosen], 0) + eps)[:, None]
    return np.concatenate([filters, -filters]).reshape(w.shape).astype(w.dtype)
