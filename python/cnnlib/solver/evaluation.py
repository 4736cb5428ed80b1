"""Choose the loss and the metrics that fit the targets, and measure them in test mode."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cnnlib._params import check_keys
from cnnlib.data.normalization import preprocessed
from cnnlib.models.graph_model import Model
from cnnlib.models.losses import OF_CLASSES, OF_LOGITS, OF_NUMBERS, Loss, WeightedLosses, build_loss
from cnnlib.solver.data import refuse_labels, refuse_odd_masks
from cnnlib.solver.metrics import F1, RMSE, Accuracy, Metric, OfLabels, OfLikeliest, OfOutput

_OF_LABELS = ("softmax", "svm")  # losses of whole numbers
_BATCH_VALUES = 2**20  # of images that are looked at together
_SAMPLE_VALUES = 2**24


class ValidationLoss(Metric):
    """The mean loss, whatever the model adds in training; NaN where it is not known."""

    name, more_is_better = "loss", False

    def __init__(self, loss: Loss | WeightedLosses | None) -> None:
        self.loss = loss

    def look(self, scores: Any, y: Any) -> Any:
        return 0.0 if self.loss is None else self.loss.sums(scores, y)

    def value(self, kept: Any) -> float:
        return math.nan if self.loss is None else self.loss.mean(kept)


def look_at(scores_of: Callable[..., Any], metrics: Sequence[Metric], images: Any, y: Any) -> list[Any]:
    """Return what each metric keeps of a batch."""
    scores = scores_of(images)
    return [metric.look(scores, y) for metric in metrics]


def values_of(metrics: Sequence[Metric], results: Iterable[list[Any]]) -> dict[str, float]:
    """The metrics, by their names, from what :func:`look_at` found in each batch, in this order."""
    columns = zip(*results, strict=True)
    return {
        metric.name: metric.value(functools.reduce(metric.merge, column))
        for metric, column in zip(metrics, columns, strict=True)
    }


def check_batch_size(X: Any, training: int) -> int:
    """Images of X in a batch of an accuracy check: 100, or fewer if they are large and the training's few."""
    return min(100, max(training, _BATCH_VALUES // max(X[0].size, 1)))


def sample_images(X: Any, preprocess: Callable[..., Any] | None) -> np.ndarray:
    """Training images for a model's ``initialize``: all, or as many as may be preprocessed, or read from the
    disk, at once.
    """
    if preprocess is None and isinstance(X, np.ndarray):
        return X
    some = X[: max(1, _SAMPLE_VALUES // X[0].size)]
    return some if preprocess is None else preprocessed(preprocess, some)


def outputs_of(model: Any) -> tuple[str, ...]:
    """The names of a network's several outputs; empty for one output."""
    return model.outputs if isinstance(model, Model) else ()


def are_labels(y: Any) -> bool:
    """Return whether targets are class labels, of samples or of pixels, rather than numbers."""
    return np.dtype(y.dtype).kind in "iu"


def takes_loss(model: Any) -> bool:
    """Return whether ``model.loss`` takes a `loss`; else the model has its own."""
    try:
        return "loss" in inspect.signature(model.loss).parameters
    except (TypeError, ValueError):  # a callable that does not tell
        return False


def refuse_own_loss(what: str, model: Any) -> None:
    """ValueError if a model is trained with a loss of its own, to which `what` would mean nothing."""
    if getattr(model, "criterion", None) is not None:
        raise ValueError(f"Solver: {what} must go into the Solver's loss; the model has a criterion")
    if not takes_loss(model):
        raise ValueError(
            f"Solver: {what} must go into the Solver's loss; the model's loss(X, y) takes none, as "
            "loss(X, y, loss=None) would"
        )


def learns_labels(model: Any, loss: Loss | WeightedLosses | None, metrics: Sequence[Metric] | None) -> bool:
    """Return whether targets can be nothing but a label (N,) for each sample."""
    if getattr(model, "criterion", None) is not None or getattr(model, "head", "classes") != "classes":
        return False
    if loss is None:
        return metrics is None
    rows = isinstance(model, Model) and not model.outputs and len(getattr(model, "output_shape", ())) == 1
    return rows and isinstance(loss, Loss) and loss.name in _OF_LABELS


def refuse_odd_targets(
    model: Any, loss: Loss | WeightedLosses | None, was_chosen: bool, **targets: Any
) -> None:
    """Refuse targets, by their names, of another kind than the loss's, with what makes them of that kind.

    `was_chosen`: nobody has named the loss, it follows from the targets.
    """
    if not isinstance(loss, Loss) or not isinstance(model, Model):
        return
    shape: tuple[int, ...] = getattr(model, "output_shape", ())
    masks = len(shape) == 3 and (loss.name in _OF_LABELS or (was_chosen and shape[0] != 1))
    for name, y in targets.items():
        if loss.name == "cross_entropy":
            refuse_labels(name, y)
        elif masks:
            refuse_odd_masks(name, y, shape)


def chosen_loss(model: Any, loss: Loss | WeightedLosses | None, y: Any) -> Loss | WeightedLosses | None:
    """The loss of validation samples: the model's `criterion`, else the Solver's, else that of labels, or of
    numbers.

    None where a model of the user's own has a loss that nobody else knows.
    """
    criterion, outputs = getattr(model, "criterion", None), outputs_of(model)
    chosen = loss if criterion is None else build_loss("criterion", criterion)
    if outputs:
        if not isinstance(chosen, WeightedLosses):
            if criterion is not None:
                raise ValueError(f"Solver: model.criterion must be WeightedLosses of {', '.join(outputs)}")
            names = ", ".join(f"{name!r}: ..." for name in outputs)
            raise ValueError(f"Solver: the network has several outputs, it needs loss={{{names}}}")
        check_keys("Solver", "loss", chosen.losses, outputs, outputs)
    elif isinstance(chosen, WeightedLosses):
        raise ValueError(f"Solver: loss is of outputs {', '.join(chosen.losses)}, the model has but one")
    if chosen is not None:
        return chosen
    head = getattr(model, "head", "classes")
    if not (isinstance(head, str) and head in ("values", "pixels")):
        # Classes, or a model of the user's own, whose `head` may be a layer.
        return build_loss("loss", "softmax") if are_labels(y) and y.ndim == 1 else None
    numbers = head == "values" or not are_labels(y) or y.ndim == 4  # images of bytes
    return build_loss("loss", "mse" if numbers else "softmax")


def learns_numbers(model: Any, loss: Loss | WeightedLosses | None, y: Any) -> bool:
    """Return whether numbers are what a model's head gives, and what it learns."""
    if not isinstance(model, Model) or model.head == "classes":
        return False
    chosen = chosen_loss(model, loss, y)
    return isinstance(chosen, Loss) and chosen.name in OF_NUMBERS


def chosen_metrics(
    metrics: Sequence[Metric] | None, loss: Loss | WeightedLosses | None, y: Any
) -> Sequence[Metric]:
    """The Solver's metrics, or what fits: F1 of targets 0 and 1, RMSE of numbers, accuracy of labels, also of
    the likeliest ones.
    """
    losses = loss.losses if isinstance(loss, WeightedLosses) else {}
    if metrics is not None:
        _check_outputs(metrics, list(losses))
        return [_fitting(metric, loss) for metric in metrics]
    if isinstance(loss, WeightedLosses):
        return [
            OfOutput(name, metric)
            for name, each in losses.items()
            for metric in chosen_metrics(None, each, y[name])
        ]
    name = None if loss is None else loss.name
    if name in OF_LOGITS:
        return (F1(),)
    numbers = name in OF_NUMBERS or (name not in OF_CLASSES and not are_labels(y))
    return (RMSE(),) if numbers else (_fitting(Accuracy(), loss),)


def _fitting(metric: Metric, loss: Any) -> Metric:
    """The metric for targets of that loss: where they are probabilities, labels are the likeliest classes; a
    label that the loss ignores does not count, unless the metric ignores another.
    """
    if isinstance(metric, OfOutput):
        return OfOutput(metric.output, _fitting(metric.metric, loss.losses[metric.output]))
    if loss is None or not isinstance(metric, OfLabels):
        return metric
    if metric.ignore is None:
        metric = replace(metric, ignore=loss.settings.get("ignore"))
    return OfLikeliest(metric) if loss.name == "cross_entropy" else metric


def _check_outputs(metrics: Sequence[Metric], outputs: Sequence[str]) -> None:
    """Refuse metrics of outputs that there are not; of several outputs, those that name none."""
    for metric in metrics:
        fits = metric.output in outputs if isinstance(metric, OfOutput) else not outputs
        if not fits:
            wanted = f"metrics={{{', '.join(f'{name!r}: ...' for name in outputs)}}}"
            reason = f"several outputs want {wanted}" if outputs else "the one output has no name"
            raise ValueError(f"Solver: metrics: {metric.name!r} does not fit; {reason}")
