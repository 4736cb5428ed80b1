"""Accuracy and loss of a model in test mode."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cnnlib.layers import softmax_loss

__all__ = ["check_batch_size", "evaluate", "sample_images"]

_BATCH_VALUES = 2**20  # of images that are looked at together
_SAMPLE_VALUES = 2**24


def evaluate(
    scores_of: Callable, X: np.ndarray, y: np.ndarray, rows: np.ndarray | None, batch_size: int
) -> tuple[float, float]:
    """Share of the samples `rows` (None: all) with the highest score at their label, and their mean loss.

    The loss is the softmax's cross-entropy of the scores alone, whatever the model adds in training.
    """
    total = len(X) if rows is None else len(rows)
    correct, loss = 0, 0.0
    for start in range(0, total, batch_size):
        batch = slice(start, start + batch_size) if rows is None else rows[start : start + batch_size]
        scores, labels = scores_of(X[batch]), y[batch]
        correct += int(np.count_nonzero(np.argmax(scores, axis=1) == labels))
        loss += len(labels) * softmax_loss(scores, labels)[0]
    return correct / total, loss / total


def check_batch_size(X: np.ndarray, training: int) -> int:
    """Images of X in a batch of an accuracy check: 100, or fewer if they are large and the training's few."""
    return min(100, max(training, _BATCH_VALUES // max(X[0].size, 1)))


def sample_images(X: np.ndarray, preprocess: Callable | None) -> np.ndarray:
    """Training images for a model's ``initialize``: all, or as many as may be preprocessed at once."""
    return X if preprocess is None else preprocess(X[: max(1, _SAMPLE_VALUES // X[0].size)])
