"""Metrics by name, or functions of the user's own; none but those needs more memory than a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cnnlib._params.registry import OWN, Registry
from cnnlib.solver.label_metrics import F1, Accuracy, IoU, TopFive
from cnnlib.solver.metric import Metric
from cnnlib.solver.number_metrics import MAE, PSNR, R2, RMSE

__all__ = ["F1", "MAE", "METRICS", "PSNR", "R2", "RMSE", "Accuracy", "IoU", "Metric", "OfOutput", "OwnMetric"]
__all__ += ["TopFive", "build_metrics", "describe_metrics"]


class OwnMetric(Metric):
    """A function ``metric(scores, y) -> number`` of the user's own, which is given all scores at once."""

    more_is_better = None

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.name = getattr(function, "__name__", type(function).__name__)

    def look(self, scores: Any, y: Any) -> Any:
        return [(scores, y)]

    def value(self, kept: Any) -> float:
        scores, targets = (np.concatenate(parts) for parts in zip(*kept, strict=True))
        return float(self.function(scores, targets))


class OfOutput(Metric):
    """A metric of one of several outputs, called ``output/metric``."""

    def __init__(self, output: str, metric: Metric) -> None:
        self.output, self.metric = output, metric
        self.name, self.more_is_better = f"{output}/{metric.name}", metric.more_is_better

    def look(self, scores: Any, y: Any) -> Any:
        try:
            return self.metric.look(scores[self.output], y[self.output])
        except ValueError as error:
            raise ValueError(f"Solver: output {self.output!r}: {error}") from error

    def merge(self, first: Any, second: Any) -> Any:
        return self.metric.merge(first, second)

    def value(self, kept: Any) -> float:
        return self.metric.value(kept)


METRICS = Registry(
    "metric",
    {
        "accuracy": Accuracy,
        "top5": TopFive,
        "rmse": RMSE,
        "mae": MAE,
        "r2": R2,
        "psnr": PSNR,
        "iou": IoU,
        "f1": F1,
    },
)
_TAKEN = ("loss", "val_loss", "learning_rate", "epoch_seconds", "val_acc")


def build_metrics(name: str, value: Any) -> tuple[Metric, ...]:
    """What the Solver's option means: a name, a dict with 'name', a callable, or a list of these; for several
    outputs a dict of these by the outputs' names.
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
        if names.count(one) > 1 or one in _TAKEN or one.startswith("train_"):
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
