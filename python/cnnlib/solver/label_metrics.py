"""Metrics of scores against labels, of samples or of pixels, and against targets 0 and 1."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnlib.solver.metric import Metric


def _labels(where: str, scores: Any, y: Any, ignore: int | None) -> tuple[Any, Any]:
    """Scores (M, C) and labels (M,) of all samples, or pixels, whose label is not `ignore`."""
    if scores.ndim != np.ndim(y) + 1 or (len(scores), *scores.shape[2:]) != np.shape(y):
        raise ValueError(f"{where}: scores {scores.shape} want labels (N, ...), got targets {np.shape(y)}")
    rows = np.moveaxis(scores, 1, -1).reshape(-1, scores.shape[1])
    labels = np.asarray(y).reshape(-1)
    if ignore is None:
        return rows, labels
    counts = labels != ignore
    return rows[counts], labels[counts]


def _is_binary(scores: Any, y: Any) -> bool:
    """Whether the targets are 0 or 1 for each score, and scores above 0 mean 1."""
    return scores.shape == np.shape(y)


@dataclass(frozen=True)
class Accuracy(Metric):
    """Share of the labels (or pixels' labels) with the highest score; where the targets are of the scores'
    shape, share of the scores whose sign says whether the target is above 1/2.

    Examples
    --------
    >>> accuracy = Accuracy()
    >>> accuracy.value(accuracy.look(np.array([[1.0, 2.0], [3.0, 0.0]]), np.array([1, 1])))
    0.5
    """

    ignore: int | None = None
    name = "accuracy"

    def look(self, scores: Any, y: Any) -> Any:
        if _is_binary(scores, y):
            return np.array([y.size, np.count_nonzero((scores > 0) == (np.asarray(y) > 0.5))])
        if scores.ndim == 2 and self.ignore is None and np.shape(y) == scores.shape[:1]:  # at no cost
            return np.array([len(y), np.count_nonzero(np.argmax(scores, axis=1) == y)])
        rows, labels = _labels("accuracy", scores, y, self.ignore)
        return np.array([labels.size, np.count_nonzero(np.argmax(rows, axis=1) == labels)])

    def value(self, kept: Any) -> float:
        total, right = kept.tolist()
        return right / total if total else math.nan


@dataclass(frozen=True)
class TopFive(Metric):
    """Share of the labels that fewer than five classes have a higher score than.

    Examples
    --------
    >>> top5 = TopFive()
    >>> top5.value(top5.look(np.arange(14.0).reshape(2, 7), np.array([2, 1])))
    0.5
    """

    ignore: int | None = None
    name = "top5"

    def look(self, scores: Any, y: Any) -> Any:
        rows, labels = _labels(self.name, scores, y, self.ignore)
        own = rows[np.arange(len(labels)), labels][:, None]
        higher = np.count_nonzero(~(rows <= own), axis=1)  # NaN is higher than all, and no label's own
        return np.array([len(labels), np.count_nonzero(higher < 5)])

    def value(self, kept: Any) -> float:
        total, right = kept.tolist()
        return right / total if total else math.nan


@dataclass(frozen=True)
class _Overlap(Metric):
    """Counts (3, C) of each class: hits, false alarms, misses; of targets 0 and 1 for each score, those of
    each channel. Classes that are neither there nor guessed do not count; NaN if none does.
    """

    ignore: int | None = None

    def look(self, scores: Any, y: Any) -> Any:
        if _is_binary(scores, y):
            axes = tuple(axis for axis in range(scores.ndim) if axis != 1)
            guess, there = scores > 0, np.asarray(y) > 0.5
            parts = (guess & there, guess & ~there, ~guess & there)
            return np.array([np.atleast_1d(np.count_nonzero(part, axis=axes)) for part in parts])
        rows, labels = _labels(self.name, scores, y, self.ignore)
        C, guesses = rows.shape[1], np.argmax(rows, axis=1)
        hits = np.bincount(labels[guesses == labels], minlength=C)
        return np.array(
            [hits, np.bincount(guesses, minlength=C) - hits, np.bincount(labels, minlength=C) - hits]
        )

    def value(self, kept: Any) -> float:
        hits, false, missed = kept
        found = hits + false + missed > 0
        return float(np.mean(self.share(hits, false, missed)[found])) if found.any() else math.nan

    def share(self, hits: Any, false: Any, missed: Any) -> Any:
        """The metric of each class."""
        raise NotImplementedError


@dataclass(frozen=True)
class IoU(_Overlap):
    """Mean over the classes of hits / (hits + false alarms + misses), the Jaccard index.

    Examples
    --------
    >>> iou = IoU()
    >>> iou.value(iou.look(np.array([[[[2.0, 1.0, -1.0]]]]), np.array([[[[1, 0, 0]]]])))
    0.5
    """

    name = "iou"

    def share(self, hits: Any, false: Any, missed: Any) -> Any:
        return hits / np.maximum(hits + false + missed, 1)


@dataclass(frozen=True)
class F1(_Overlap):
    """Mean over the classes of 2 hits / (2 hits + false alarms + misses), of masks the Dice coefficient.

    Examples
    --------
    >>> f1 = F1()
    >>> round(f1.value(f1.look(np.array([[[[2.0, 1.0, -1.0]]]]), np.array([[[[1, 0, 0]]]]))), 4)
    0.6667
    """

    name = "f1"

    def share(self, hits: Any, false: Any, missed: Any) -> Any:
        return 2 * hits / np.maximum(2 * hits + false + missed, 1)
