"""Metrics by name, or functions of the user's own; none but those needs more memory than a batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnlib._params import above_0, integer
from cnnlib._params.functions import check_call
from cnnlib._params.registry import OWN, Registry
from cnnlib.data.normalization import ROUNDING
from cnnlib.models.losses import like_scores
from cnnlib.solver.histories import can_name_metric


class Metric:
    """A metric, which looks at each batch; `more_is_better` is None where it is not known."""

    name: str
    more_is_better: bool | None = True

    def look(self, scores: Any, y: Any) -> Any:
        """Reduce a batch to what :meth:`merge` joins: by default numbers or an array, which it adds."""
        raise NotImplementedError

    def merge(self, first: Any, second: Any) -> Any:
        """Join what two consecutive runs of batches kept."""
        return first + second

    def value(self, kept: Any) -> float:
        """The metric."""
        raise NotImplementedError


class _Mean(Metric):
    """Keeps how many were counted, and a sum."""

    def value(self, kept: Any) -> float:
        total, amount = kept.tolist()
        return amount / total if total else math.nan


@dataclass(frozen=True)
class OfLabels(Metric):
    """A metric of labels, of which one, `ignore`, may not count."""

    ignore: int | None = None

    def __post_init__(self) -> None:
        if self.ignore is not None:
            integer(self.name, "ignore", self.ignore, 2**63)


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


def _known_labels(where: str, scores: Any, y: Any, ignore: int | None) -> tuple[Any, Any]:
    """Like `_labels`; refuses labels that no class has."""
    rows, labels = _labels(where, scores, y, ignore)
    C = rows.shape[1]
    if labels.size and not 0 <= labels.min() <= labels.max() < C:
        raise ValueError(f"{where}: labels must be in 0..{C - 1}, got {labels.min()}..{labels.max()}")
    return rows, labels.astype(np.intp, casting="same_kind")  # older NumPys' bincount takes no uint64


def likeliest(rows: Any) -> Any:
    """The class of each row's highest score; of a row with NaN C, which is none."""
    guesses = np.argmax(rows, axis=1)  # where NaN is the highest
    return np.where(np.isnan(rows[np.arange(len(rows)), guesses]), rows.shape[1], guesses)


def _is_binary(scores: Any, y: Any) -> bool:
    """Return whether the targets are 0 or 1 for each score, and scores above 0 mean 1."""
    return scores.shape == np.shape(like_scores(scores, y))


@dataclass(frozen=True)
class Accuracy(OfLabels, _Mean):
    """Share of the labels (or pixels' labels) with the highest score; where the targets are of the scores'
    shape, share of the scores whose sign says whether the target is above 1/2.

    Examples
    --------
    >>> accuracy = Accuracy()
    >>> accuracy.value(accuracy.look(np.array([[1.0, 2.0], [3.0, 0.0]]), np.array([1, 1])))
    0.5
    """

    name = "accuracy"

    def look(self, scores: Any, y: Any) -> Any:
        if _is_binary(scores, y):
            y = like_scores(scores, y)
            right = ((scores > 0) == (np.asarray(y) > 0.5)) & ~np.isnan(scores)
            return np.array([y.size, np.count_nonzero(right)])
        if scores.ndim == 2 and self.ignore is None and np.shape(y) == scores.shape[:1]:  # at no cost
            return np.array([len(y), np.count_nonzero(likeliest(scores) == y)])
        rows, labels = _labels("accuracy", scores, y, self.ignore)
        return np.array([labels.size, np.count_nonzero(likeliest(rows) == labels)])


@dataclass(frozen=True)
class TopFive(OfLabels, _Mean):
    """Share of the labels that fewer than five classes have a higher score than.

    Examples
    --------
    >>> top5 = TopFive()
    >>> top5.value(top5.look(np.arange(14.0).reshape(2, 7), np.array([2, 1])))
    0.5
    """

    name = "top5"

    def look(self, scores: Any, y: Any) -> Any:
        rows, labels = _known_labels(self.name, scores, y, self.ignore)
        own = rows[np.arange(len(labels)), labels][:, None]
        higher = np.count_nonzero(~(rows <= own), axis=1)  # NaN is higher than all, and no label's own
        return np.array([len(labels), np.count_nonzero(higher < 5)])


@dataclass(frozen=True)
class _Overlap(OfLabels):
    """Counts (3, C) of each class: hits, false alarms, misses; of targets 0 and 1 for each score, those of
    each channel. Classes that are neither there nor guessed do not count; NaN if none does.
    """

    def look(self, scores: Any, y: Any) -> Any:
        if _is_binary(scores, y):
            y = like_scores(scores, y)
            axes = tuple(axis for axis in range(scores.ndim) if axis != 1)
            guess, there = scores > 0, np.asarray(y) > 0.5
            parts = (guess & there, guess & ~there, ~guess & there)
            return np.array([np.atleast_1d(np.count_nonzero(part, axis=axes)) for part in parts])
        rows, labels = _known_labels(self.name, scores, y, self.ignore)
        C, guesses = rows.shape[1], likeliest(rows)
        hits = np.bincount(labels[guesses == labels], minlength=C)
        guessed, wanted = np.bincount(guesses, minlength=C)[:C], np.bincount(labels, minlength=C)
        return np.array([hits, guessed - hits, wanted - hits])

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


def _errors(where: str, scores: Any, y: Any) -> Any:
    """Scores minus targets, (N, values of a sample), in float64."""
    y = like_scores(scores, y)
    if scores.shape != np.shape(y):
        raise ValueError(f"{where}: targets must be of the scores' shape {scores.shape}, got {np.shape(y)}")
    return np.subtract(scores, y, dtype=np.float64).reshape(len(scores), -1)


@dataclass(frozen=True)
class RMSE(_Mean):
    """Root of the mean squared error over all values.

    Examples
    --------
    >>> rmse = RMSE()
    >>> rmse.value(rmse.look(np.array([[5.0], [5.0]]), np.array([[2.0], [8.0]])))
    3.0
    """

    name, more_is_better = "rmse", False

    def look(self, scores: Any, y: Any) -> Any:
        errors = _errors(self.name, scores, y)
        return np.array([errors.size, np.vdot(errors, errors)])

    def value(self, kept: Any) -> float:
        return math.sqrt(super().value(kept))


@dataclass(frozen=True)
class MAE(_Mean):
    """Mean absolute error over all values.

    Examples
    --------
    >>> mae = MAE()
    >>> mae.value(mae.look(np.array([[3.0], [0.0]]), np.array([[0.0], [0.0]])))
    1.5
    """

    name, more_is_better = "mae", False

    def look(self, scores: Any, y: Any) -> Any:
        errors = _errors(self.name, scores, y)
        return np.array([errors.size, np.abs(errors).sum()])


@dataclass(frozen=True)
class R2(Metric):
    """Coefficient of determination, 1 - sum((y - scores)**2) / sum((y - mean(y))**2), the mean over a
    sample's values. Where all y are equal it is 1 without an error, else 0.

    Examples
    --------
    >>> r2 = R2()
    >>> r2.value(r2.look(np.array([[1.0], [2.0], [2.0]]), np.array([[1.0], [2.0], [3.0]])))
    0.5
    """

    name = "r2"

    def look(self, scores: Any, y: Any) -> Any:
        errors = _errors(self.name, scores, y)
        values = np.asarray(y, np.float64).reshape(errors.shape)
        mean = values.mean(axis=0)
        deviations = values - mean
        return len(errors), mean, (deviations**2).sum(axis=0), (errors**2).sum(axis=0)

    def merge(self, first: Any, second: Any) -> Any:
        """Sums of squared deviations join as in Chan, Golub and LeVeque (1979)."""
        n, mean, deviations, errors = first
        m, other, more_deviations, more_errors = second
        step = other - mean
        joint = deviations + more_deviations + step**2 * (n * m / (n + m))
        return n + m, mean + step * (m / (n + m)), joint, errors + more_errors

    def value(self, kept: Any) -> float:
        n, mean, deviations, errors = kept
        constant = deviations <= n * (ROUNDING * mean) ** 2
        shares = errors / np.where(constant, 1.0, deviations)
        return float(np.mean(1 - np.where(constant, errors > 0, shares)))


@dataclass(frozen=True)
class PSNR(_Mean):
    """Peak signal-to-noise ratio in dB, 10 log10(range**2 / mean squared error), the mean over the images.

    `range` is the difference between the largest and the smallest value that images can have.

    Examples
    --------
    >>> psnr = PSNR()
    >>> round(psnr.value(psnr.look(np.full((1, 1, 2, 2), 0.1), np.zeros((1, 1, 2, 2)))), 6)
    20.0
    """

    range: float = 1.0
    name = "psnr"

    def __post_init__(self) -> None:
        above_0("psnr", "range", self.range)

    def look(self, scores: Any, y: Any) -> Any:
        squares = (_errors(self.name, scores, y) ** 2).mean(axis=1)
        with np.errstate(divide="ignore"):
            return np.array([len(squares), (10 * np.log10(self.range**2 / squares)).sum()])


class OwnMetric(Metric):
    """A function ``metric(scores, y) -> number`` of the user's own, which is given all scores at once."""

    more_is_better = None

    def __init__(self, function: Callable[..., Any]) -> None:
        check_call("Solver: metrics", function, "metric(scores, y) -> number", 2)
        self.function = function
        self.name = getattr(function, "__name__", type(function).__name__)

    def look(self, scores: Any, y: Any) -> Any:
        return [(scores, y)]

    def value(self, kept: Any) -> float:
        scores, targets = (np.concatenate(parts) for parts in zip(*kept, strict=True))
        value = self.function(scores, targets)
        if np.ndim(value) != 0:
            shape = np.shape(value)
            raise TypeError(f"Solver: metric {self.name} must return a number, got an array of shape {shape}")
        return float(value)


class _Wrapped(Metric):
    """Another metric, of something else."""

    def __init__(self, metric: Metric, name: str) -> None:
        self.metric, self.name, self.more_is_better = metric, name, metric.more_is_better

    def merge(self, first: Any, second: Any) -> Any:
        return self.metric.merge(first, second)

    def value(self, kept: Any) -> float:
        return self.metric.value(kept)


class OfLikeliest(_Wrapped):
    """A metric of labels where targets (N, C, ...) are probabilities: the label is the likeliest class."""

    def __init__(self, metric: Metric) -> None:
        super().__init__(metric, metric.name)

    def look(self, scores: Any, y: Any) -> Any:
        if np.shape(y) != scores.shape:
            wanted = f"the scores' shape {scores.shape}"
            raise ValueError(f"{self.name}: probabilities must be of {wanted}, got {np.shape(y)}")
        return self.metric.look(scores, np.argmax(y, axis=1))


class OfOutput(_Wrapped):
    """A metric of one of several outputs, called ``output/metric``."""

    def __init__(self, output: str, metric: Metric) -> None:
        super().__init__(metric, f"{output}/{metric.name}")
        self.output = output

    def look(self, scores: Any, y: Any) -> Any:
        try:
            return self.metric.look(scores[self.output], y[self.output])
        except ValueError as error:
            raise ValueError(f"Solver: output {self.output!r}: {error}") from error


METRICS = Registry("metric", {kind.name: kind for kind in (Accuracy, TopFive, RMSE, MAE, R2, PSNR, IoU, F1)})


def build_metrics(name: str, value: Any) -> tuple[Metric, ...]:
    """Build what the Solver's option means: a name, a dict with 'name', a callable, or a list of these; for
    several outputs a dict of these by the outputs' names.
    """
    if isinstance(value, Mapping) and "name" not in value:
        return tuple(
            OfOutput(output, metric)
            for output, own in value.items()
            for metric in build_metrics(f"{name}[{output!r}]", own)
        )
    items = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    built = []
    for item in items:
        metric = item if isinstance(item, Metric) else METRICS.build(item)
        built.append(metric if isinstance(metric, Metric) else OwnMetric(metric))
    names = [metric.name for metric in built]
    for one in names:
        if names.count(one) > 1 or not can_name_metric(one):
            raise ValueError(f"Solver: {name}: {one!r} is taken; give the function another __name__")
    return tuple(built)


def describe_metrics(metrics: Sequence[Metric] | None) -> Any:
    """The inverse, in plain values; `OWN` for a function of the user's own."""
    if metrics is None:
        return None
    named: dict[str, list[Metric]] = {}
    for metric in metrics:
        if isinstance(metric, OfOutput):
            named.setdefault(metric.output, []).append(metric.metric)
    if named:
        described = {output: describe_metrics(own) for output, own in named.items()}
        return OWN if any(OWN in own for own in described.values()) else described
    return [OWN if isinstance(metric, OwnMetric) else METRICS.describe(metric) for metric in metrics]
