"""Metrics and loss of a model in test mode."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from cnnlib.data.shards import ShardedArray
from cnnlib.models.losses import Loss, WeightedLosses
from cnnlib.solver.metrics import Metric

_BATCH_VALUES = 2**20  # of images that are looked at together
_SAMPLE_VALUES = 2**24


class ValidationLoss(Metric):
    """The mean loss, whatever the model adds in training; NaN where it is not known."""

    name, more_is_better = "val_loss", False

    def __init__(self, loss: Loss | WeightedLosses | None) -> None:
        self.loss = loss

    def look(self, scores: Any, y: Any) -> Any:
        return 0.0 if self.loss is None else self.loss.sums(scores, y)

    def value(self, kept: Any) -> float:
        return math.nan if self.loss is None else self.loss.mean(kept)


def batches_of(X: np.ndarray | ShardedArray, rows: np.ndarray | None, batch_size: int) -> list[Any]:
    """The samples `rows` (None: all) batch by batch: slices, or arrays of indices."""
    total = len(X) if rows is None else len(rows)
    slices = [slice(start, start + batch_size) for start in range(0, total, batch_size)]
    return slices if rows is None else [rows[part] for part in slices]


def look_at(scores_of: Callable[..., Any], metrics: Sequence[Metric], images: Any, y: Any) -> list[Any]:
    """What each metric keeps of a batch."""
    scores = scores_of(images)
    return [metric.look(scores, y) for metric in metrics]


def values_of(metrics: Sequence[Metric], results: Iterable[list[Any]]) -> dict[str, float]:
    """The metrics, by their names, from what :func:`look_at` found in each batch, in this order."""
    columns = zip(*results, strict=True)
    return {
        metric.name: metric.value(functools.reduce(metric.merge, column))
        for metric, column in zip(metrics, columns, strict=True)
    }


def check_batch_size(X: np.ndarray | ShardedArray, training: int) -> int:
    """Images of X in a batch of an accuracy check: 100, or fewer if they are large and the training's few."""
    return min(100, max(training, _BATCH_VALUES // max(X[0].size, 1)))


def sample_images(X: np.ndarray | ShardedArray, preprocess: Callable[..., Any] | None) -> np.ndarray:
    """Training images for a model's ``initialize``: all, or as many as may be preprocessed at once."""
    return X[:] if preprocess is None else preprocess(X[: max(1, _SAMPLE_VALUES // X[0].size)])
