"""What a model is trained towards: which loss and which metrics fit the model and its targets."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np

from cnnlib.solver.losses import Loss, build_loss
from cnnlib.solver.metrics import F1, RMSE, Accuracy, Metric

__all__ = ["are_labels", "chosen_loss", "chosen_metrics", "takes_loss"]


def are_labels(y: Any) -> bool:
    """Whether targets are class labels, of samples or of pixels, rather than numbers."""
    return np.dtype(y.dtype).kind in "iu"


def takes_loss(model: Any) -> bool:
    """Whether the model can be told a loss, as ``model.loss(X, y, loss=...)``; else it has its own."""
    try:
        return "loss" in inspect.signature(model.loss).parameters
    except (TypeError, ValueError):  # a callable that does not tell
        return False


def chosen_loss(model: Any, loss: Loss | None, y: Any) -> Loss | None:
    """The loss of validation samples: the model's `criterion`, else the Solver's, else that of labels, or of
    numbers.

    None where a model of the user's own has a loss that nobody else knows.
    """
    criterion = getattr(model, "criterion", None)
    if criterion is not None:
        return build_loss("criterion", criterion)
    if loss is not None:
        return loss
    with_head = getattr(model, "head", "classes") != "classes"  # one of ours
    if are_labels(y):
        return build_loss("loss", "softmax") if y.ndim == 1 or with_head else None
    return build_loss("loss", "mse") if with_head else None


def chosen_metrics(metrics: Sequence[Metric] | None, loss: Loss | None, y: Any) -> Sequence[Metric]:
    """The Solver's metrics, or what fits: accuracy of labels, F1 of targets 0 and 1, else RMSE."""
    if metrics is not None:
        return metrics
    name, settings = (None, {}) if loss is None else (loss.name, loss.settings)
    if name in ("bce", "dice"):
        return (F1(),)
    return (Accuracy(settings.get("ignore")),) if are_labels(y) else (RMSE(),)
