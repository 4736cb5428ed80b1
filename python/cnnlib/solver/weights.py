"""Weights of samples and of classes: how much each counts in the loss that is trained with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cnnlib._params import number, type_name
from cnnlib.models.losses import Loss, WeightedLosses, build_loss

BALANCED = "balanced"
_LABELS_AT_ONCE = 2**24  # that are counted together


class Weighted:
    """Targets and a weight for each of them, indexed together."""

    def __init__(self, y: Any, weights: np.ndarray) -> None:
        self.y, self.weights = y, weights

    def __len__(self) -> int:
        return len(self.weights)

    def __getitem__(self, rows: Any) -> Weighted:
        return Weighted(self.y[rows], self.weights[rows])


class SampleWeighted(Loss):
    """The weighted mean of the samples' losses, ``sum(w * loss) / sum(w)``; targets are :class:`Weighted`.

    The loss is called once for each value among the weights, with the samples that have it. Weights of
    classes multiply those of samples. The loss of a batch without weight is 0.
    """

    def __init__(self, loss: Loss) -> None:
        super().__init__(loss.function, None, title=loss.title)
        self.loss = loss

    def __call__(self, scores: Any, y: Any) -> tuple[float, Any]:
        dscores, value = np.zeros_like(scores), 0.0
        parts = self._parts(y)
        total = sum(weight for _, _, weight in parts)
        for rows, targets, weight in parts:
            if weight == 0:
                continue
            part, gradient = self.loss(scores[rows], targets)
            value += part * weight / total
            dscores[rows] = gradient * gradient.dtype.type(weight / total)
        return value, dscores

    @property
    def counts_alike(self) -> bool:
        return False

    def weight(self, y: Any) -> float:
        return float(sum(weight for _, _, weight in self._parts(y)))

    def _parts(self, y: Any) -> list[tuple[np.ndarray, Any, float]]:
        """Return the samples of each value among the weights: rows, targets, their weight together."""
        parts = []
        for weight in np.unique(y.weights):
            rows = np.flatnonzero(y.weights == weight)
            targets = y.y[rows]
            parts.append((rows, targets, float(weight) * self.loss.weight(targets)))
        return parts


def sample_weighted(loss: Loss | WeightedLosses | None) -> Loss:
    """Weigh the samples of a loss; ValueError where that cannot be done."""
    if loss is None:
        raise ValueError("Solver: weights of samples need a loss=, as the model's own does not know them")
    if isinstance(loss, WeightedLosses):
        raise ValueError("Solver: weights of samples are for networks of one output")
    if loss.name == "dice":
        raise ValueError("Solver: dice is one number for a whole batch, in which no sample has a weight")
    return SampleWeighted(loss)


def checked_class_weight(name: str, value: Any) -> Any:
    """Return 'balanced', or weights of at least 0 by label or in the order of the labels.

    A checkpoint has labels as text, which the keys of its dicts are.
    """
    if isinstance(value, str):
        if value != BALANCED:
            raise ValueError(f"Solver: {name} must be 'balanced', a dict or a list, got {value!r}")
        return value
    if isinstance(value, Mapping):
        if not value:
            raise ValueError(f"Solver: {name} must have the weight of a class at least, got an empty dict")
        weights = {}
        for key, weight in value.items():
            label = int(key) if isinstance(key, str) and key.isdecimal() else key
            if isinstance(label, bool) or not isinstance(label, (int, np.integer)) or label < 0:
                raise TypeError(f"Solver: {name} must have labels as keys, got {key!r}")
            weights[int(label)] = float(number("Solver", f"{name}[{label}]", weight, 0))
        return weights
    if isinstance(value, (list, tuple, np.ndarray)):
        return [
            float(number("Solver", f"{name}[{k}]", w, 0)) for k, w in enumerate(np.asarray(value).tolist())
        ]
    raise TypeError(f"Solver: {name} must be 'balanced', a dict or a list, got {type_name(value)}")


def described_class_weight(value: Any) -> Any:
    """Return what a checkpoint holds of a class_weight: its dicts have text as keys."""
    return {str(label): weight for label, weight in value.items()} if isinstance(value, dict) else value


def class_weighted(model: Any, loss: Any, class_weight: Any, y: Any, all_labels: bool) -> Loss:
    """Return the softmax loss with these weights of classes.

    'balanced' gives class k ``N / (K * count of k)``, as scikit-learn does, where N counts the labels y and K
    the classes among them. It needs all labels of the training, which y has if `all_labels`. A dict gives 1
    to labels that it does not name.
    """
    is_softmax = isinstance(loss, Loss) and loss.name == "softmax"
    if not is_softmax or loss.settings.get("weights") is not None:
        raise ValueError("Solver: class_weight is for the loss 'softmax' without weights of its own")
    shape = getattr(model, "output_shape", None)
    if isinstance(class_weight, str):
        if not all_labels:
            raise ValueError(
                "Solver: class_weight='balanced' counts the labels of arrays; of batches give the weights"
            )
        counts = _counts(y, loss.settings.get("ignore"))
        present = counts > 0
        balanced = np.zeros(len(counts))
        balanced[present] = counts.sum() / (present.sum() * counts[present])
        weights = balanced.tolist()
    elif isinstance(class_weight, dict):
        weights = [class_weight.get(label, 1.0) for label in range(max(class_weight) + 1)]
    else:
        weights = class_weight
    if shape is not None:
        if len(weights) > shape[0] or (isinstance(class_weight, list) and len(weights) != shape[0]):
            raise ValueError(f"Solver: class_weight is of {len(weights)} classes, the network has {shape[0]}")
        weights = weights + [1.0] * (shape[0] - len(weights))
    return build_loss("loss", {"name": "softmax", **loss.settings, "weights": weights})


def _counts(y: Any, ignore: int | None) -> np.ndarray:
    """Count how often each label occurs."""
    size = max(1, _LABELS_AT_ONCE // max(int(np.prod(y.shape[1:])), 1))
    counts = np.zeros(0, np.int64)
    for start in range(0, len(y), size):
        some = np.asarray(y[start : start + size]).ravel()
        some = some if ignore is None else some[some != ignore]
        if some.size and some.min() < 0:
            raise ValueError(f"Solver: y_train holds the label {some.min()}; labels begin at 0")
        found = np.bincount(some)
        if len(found) > len(counts):
            found[: len(counts)] += counts
            counts = found
        else:
            counts[: len(found)] += found
    return counts
