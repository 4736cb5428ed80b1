"""Accuracy and loss of a model in test mode."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from cnnlib.data.shards import ShardedArray
from cnnlib.layers import softmax_loss

__all__ = ["accuracy_and_loss", "batches_of", "check_batch_size", "evaluate", "look_at", "sample_images"]

_BATCH_VALUES = 2**20  # of images that are looked at together
_SAMPLE_VALUES = 2**24


def evaluate(
    scores_of: Callable,
    X: np.ndarray | ShardedArray,
    y: np.ndarray,
    rows: np.ndarray | None,
    batch_size: int,
) -> tuple[float, float]:
    """Share of the samples `rows` (None: all) with the highest score at their label, and their mean loss.

    The loss is the softmax's cross-entropy of the scores alone, whatever the model adds in training.
    """
    batches = batches_of(X, rows, batch_size)
    return accuracy_and_loss(look_at(scores_of, X[batch], y[batch]) for batch in batches)


def batches_of(X: np.ndarray | ShardedArray, rows: np.ndarray | None, batch_size: int) -> list[Any]:
    """The samples `rows` (None: all) batch by batch: slices, or arrays of indices."""
    total = len(X) if rows is None else len(rows)
    slices = [slice(start, start + batch_size) for start in range(0, total, batch_size)]
    return slices if rows is None else [rows[part] for part in slices]


def look_at(scores_of: Callable, images: np.ndarray, labels: np.ndarray) -> tuple[int, int, float]:
    """Of a batch: the samples, those with the highest score at their label, and the sum of their losses."""
    scores = scores_of(images)
    correct = np.count_nonzero(np.argmax(scores, axis=1) == labels)
    return len(labels), int(correct), len(labels) * softmax_loss(scores, labels)[0]


def accuracy_and_loss(results: Iterable[tuple[int, int, float]]) -> tuple[float, float]:
    """Accuracy and mean loss from what :func:`look_at` found in each batch, added up in this order."""
    total, correct, loss = 0, 0, 0.0
    for samples, right, sum_of_losses in results:
        total += samples
        correct += right
        loss += sum_of_losses
    return correct / total, loss / total


def check_batch_size(X: np.ndarray | ShardedArray, training: int) -> int:
    """Images of X in a batch of an accuracy check: 100, or fewer if they are large and the training's few."""
    return min(100, max(training, _BATCH_VALUES // max(X[0].size, 1)))


def sample_images(X: np.ndarray | ShardedArray, preprocess: Callable | None) -> np.ndarray:
    """Training images for a model's ``initialize``: all, or as many as may be preprocessed at once."""
    return X[:] if preprocess is None else preprocess(X[: max(1, _SAMPLE_VALUES // X[0].size)])
