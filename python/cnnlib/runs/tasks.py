"""The tasks of runs: what their models are trained towards and judged by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnlib.data.target_folder import IGNORED
from cnnlib.inference.scoring import BatchScorer
from cnnlib.solver.metrics import build_metrics

TASKS = ("classes", "values", "pixels")
_LABELS: list[Any] = [{"name": name, "ignore": IGNORED} for name in ("iou", "accuracy")]
_KINDS: dict[str, tuple[dict[str, Any], list[Any]]] = {  # loss and metrics; by what the end is judged
    "classes": ({}, ["accuracy"]),
    "values": ({"loss": "mse", "metrics": ["r2", "rmse"]}, ["r2", "rmse", "mae"]),
    "images": ({"loss": "mse", "metrics": ["psnr"]}, ["psnr", "rmse"]),
    "labels": ({"loss": {"name": "softmax", "ignore": IGNORED}, "metrics": _LABELS}, _LABELS),
}


def _kind(task, y):
    """Return the kind of targets y: classes or values; for pixels labels or images."""
    if task != "pixels":
        return task
    return "images" if y.dtype.kind == "f" else "labels"


def solver_arguments(task: str, y: Any, augment: Any) -> dict[str, Any]:
    """Loss and metrics for targets y, and the setting `augment`: what crops pad masks with has no label."""
    kind = _kind(task, y)
    if kind == "labels" and augment:
        augment = [{"target_fill": IGNORED, **one} if one["name"] == "crop" else one for one in augment]
    return {**_KINDS[kind][0], "augment": augment}


def refuse_one_class(classes: Sequence[str]) -> None:
    """ValueError where there is nothing to tell apart."""
    if len(classes) == 1:
        raise ValueError(f"there is one class alone, {classes[0]!r}: a network tells two or more apart")


def have_labels(task: str, y: Any) -> bool | None:
    """Return True if pixels have labels, False if they have colours; None for other tasks."""
    return _kind(task, y) == "labels" if task == "pixels" else None


def values_of(task: str, scores: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """The metrics of scores against targets."""
    metrics = build_metrics("metrics", _KINDS[_kind(task, y)][1])
    return {metric.name: metric.value(metric.look(scores, y)) for metric in metrics}


@dataclass(frozen=True)
class Scale:
    """Mean and standard deviation of each number of the targets, by which the training standardizes them."""

    mean: list[float]
    std: list[float]


def target_scale(task: str, y: np.ndarray) -> Scale | None:
    """Find the scale of training targets that are numbers; None for other tasks."""
    if task != "values":
        return None
    std = y.std(axis=0, dtype=np.float64)
    return Scale(y.mean(axis=0, dtype=np.float64).tolist(), np.where(std > 0, std, 1).tolist())


def standardized(data: Mapping[str, Any], scale: Scale | None) -> dict[str, Any]:
    """Return the data with standardized numbers."""
    if scale is None:
        return dict(data)
    mean, std = np.array(scale.mean, np.float32), np.array(scale.std, np.float32)
    return {key: (part - mean) / std if key.startswith("y_") else part for key, part in data.items()}


def put_back(model: Any, scale: Scale | None) -> None:
    """Let the last layer of a trained network give the numbers themselves."""
    if scale is None:
        return
    last = max(int(name[1:]) for name in model.params if name.startswith("W"))
    W, b, std = model.params[f"W{last}"], model.params[f"b{last}"], np.asarray(scale.std)
    model.params[f"W{last}"] = (W * std).astype(W.dtype)
    model.params[f"b{last}"] = (b * std + scale.mean).astype(b.dtype)


def scores_of(run: Any, solver: Any, X: Any) -> np.ndarray:
    """Compute outputs of the model that a Solver holds, in their own units."""
    scores = BatchScorer(solver.model, solver.options.preprocess, run.tta).all(X)
    scale = run.config.scale
    return scores if scale is None else scores * np.float32(scale.std) + np.float32(scale.mean)
