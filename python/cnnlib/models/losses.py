"""What a network is trained with: losses of cnnlib.layers by name, functions of the user's own, or several
of these for as many outputs.
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeAlias, cast

import numpy as np

from cnnlib import layers
from cnnlib._params import check_keys, hint, number
from cnnlib._params.arrays import gradient_like
from cnnlib._params.functions import check_call, is_of_torch
from cnnlib._params.registry import OWN
from cnnlib.data.targets import Targets

_ENDING = "_loss"
LOSSES: dict[str, Callable[..., Any]] = {
    name.removesuffix(_ENDING): getattr(layers, name)
    for name in dir(layers)
    if name.endswith(_ENDING) or name == "cross_entropy"
}


OF_CLASSES, OF_NUMBERS = ("softmax", "svm", "cross_entropy"), ("mse", "l1", "huber")
OF_LOGITS = ("bce", "dice")  # of targets in [0, 1], at which their functions do not look
_LIKE_SCORES = (*OF_NUMBERS, *OF_LOGITS)  # whose targets are of the scores' shape
LossName: TypeAlias = "str | dict[str, str | None] | None"


class Loss:
    """A loss ``(scores, y) -> (value, dscores)`` of a batch, which checks what a user's function returns.

    `name` is that of one in `LOSSES`, None of a function of the user's own; `settings` are the function's
    keyword arguments, and `title` is what messages call it.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        name: str | None = None,
        settings: Mapping[str, Any] | None = None,
        title: str = "Solver: loss",
    ) -> None:
        self.function, self.name, self.settings = function, name, dict(settings or {})
        self.title = title

    def __call__(self, scores: Any, y: Any) -> tuple[float, Any]:
        if isinstance(scores, Mapping):
            raise ValueError(
                f"{self.title}: the network has several outputs ({', '.join(scores)}); give each a loss by "
                f"its name: {{{next(iter(scores))!r}: ..., ...}}"
            )
        if self.name in OF_LOGITS:
            targets = np.asarray(y)
            if targets.dtype.kind in "iuf" and ((targets < 0) | (targets > 1)).any():  # NaN shows in the loss
                found = f"{targets.min()} to {targets.max()}"
                raise ValueError(f"{self.title}: targets of {self.name} lie in [0, 1], got {found}")
        if self.name is not None:
            y = like_scores(scores, y) if self.name in _LIKE_SCORES else y
            return self.function(scores, y, **self.settings)
        shape, dtype = scores.shape, scores.dtype
        value, dscores = checked_pair(self.title, self.function(scores, y))
        if np.ndim(value) != 0:
            raise TypeError(f"{self.title}: the value must be a number, got an array of {np.shape(value)}")
        return float(value), gradient_like(self.title, "the gradient of the scores", dscores, shape, dtype)

    def sums(self, scores: Any, y: Any) -> np.ndarray:
        """Reduce a batch to what :meth:`mean` takes; those of several batches are added."""
        value, _ = self(scores, y)  # which says what is wrong with y and the weights
        weight = self.weight(y)
        return np.array([weight, weight * value])

    def mean(self, sums: np.ndarray) -> float:
        """The mean loss of all samples; NaN if none counts."""
        total, loss = sums.tolist()
        return loss / total if total else math.nan

    @property
    def counts_alike(self) -> bool:
        """Whether each sample counts as much as any other."""
        return self.name != "softmax" or self.settings.get("ignore") is self.settings.get("weights") is None

    def weight(self, y: Any) -> float:
        """By what a batch's mean counts among others: its samples, or of labels the weights of those that
        count.
        """
        if self.counts_alike:
            return len(y)
        ignore, weights = self.settings.get("ignore"), self.settings.get("weights")
        y = np.asarray(y)
        y = y if ignore is None else y[y != ignore]
        # The loss refuses labels of no class.
        return float(y.size if weights is None else np.take(np.float64(weights), y, mode="clip").sum())


def like_scores(scores: Any, y: Any) -> Any:
    """Give targets without the axis of one output, which scores (N, 1, ...) have, that axis; leave others.

    Examples
    --------
    >>> like_scores(np.zeros((5, 1)), np.arange(5.0)).shape
    (5, 1)
    """
    shape = np.shape(scores)
    if len(shape) > 1 and shape[1] == 1 and np.shape(y) == (shape[0], *shape[2:]):
        return np.asarray(y)[:, None]
    return y


def checked_pair(title: str, result: Any) -> tuple[Any, Any]:
    """Refuse what is no value of a loss with a gradient; the message begins with `title`."""
    if not (isinstance(result, tuple) and len(result) == 2):
        raise TypeError(f"{title} must return a pair (value, gradient of the scores), got {result!r}")
    return result


class PartOfLoss:
    """A loss of a part of a batch, multiplied by a factor, or by one for each of several outputs' losses.

    A model's own loss is to give way to it.
    """

    def __init__(self, loss: Loss | WeightedLosses, factors: Any) -> None:
        self.loss, self.factors = loss, factors

    def __call__(self, scores: Any, y: Any) -> tuple[float, Any]:
        if isinstance(self.loss, Loss):
            (factor,) = self.factors
            value, dscores = self.loss(scores, y)
            return value * factor, dscores * dscores.dtype.type(factor)
        weights = [w * f for w, f in zip(self.loss.weights.values(), self.factors, strict=True)]
        scaled = copy.copy(self.loss)
        scaled.weights = dict(zip(self.loss.losses, weights, strict=True))
        return scaled(scores, y)


class WeightedLosses:
    """The loss of a network with several outputs: the sum of ``weight * loss`` over them.

    Parameters
    ----------
    losses : dict of str to (str, dict or callable)
        For each output, by its name: a loss of :mod:`cnnlib.layers` by its name without ending (``'mse'``),
        with settings (``{'name': 'huber', 'delta': 0.5}``), or a function ``loss(scores, y) -> (value,
        gradient of the scores)``.
    weights : dict of str to float, or None
        At least 0; 1 for outputs that are left out.

    Raises
    ------
    ValueError, TypeError
        For unknown losses and settings, and weights of other outputs, or out of range.

    Examples
    --------
    >>> criterion = WeightedLosses({"label": "softmax", "size": "mse"}, {"size": 0.5})
    >>> outputs = {"label": np.zeros((1, 2)), "size": np.array([[3.0]])}
    >>> loss, gradients = criterion(outputs, {"label": np.array([1]), "size": np.array([[1.0]])})
    >>> bool(np.isclose(loss, np.log(2) + 0.5 * (3 - 1) ** 2)), gradients["size"]
    (True, array([[2.]]))
    """

    def __init__(
        self, losses: Mapping[str, Any], weights: Mapping[str, float] | None = None, *, where: str = "Solver"
    ) -> None:
        if not isinstance(losses, Mapping) or not losses:
            raise TypeError(f"{where}: losses must be a dict with a loss for each output, got {losses!r}")
        self.where = where
        self.losses = {name: _build_one(f"losses[{name!r}]", loss, where) for name, loss in losses.items()}
        check_keys(where, "loss_weights", weights or {}, list(losses))
        given = {name: number(where, f"loss_weights[{name!r}]", w, 0) for name, w in (weights or {}).items()}
        self.weights = {name: given.get(name, 1.0) for name in losses}

    def __call__(self, outputs: Mapping[str, Any], y: Any) -> tuple[float, dict[str, Any]]:
        """The loss of a batch, and its gradient by each output; y as in :meth:`GraphNet.loss`."""
        targets, total, gradients = Targets.of(self.where, y, list(self.losses)), 0.0, {}
        for name, loss in self.losses.items():
            x, weight = outputs[name], self.weights[name]
            try:
                value, dx = loss(x, targets[name])
            except (TypeError, ValueError) as error:
                raise type(error)(f"{self.where}: output {name!r}: {error}") from error
            total += weight * value
            gradients[name] = np.asarray(dx if weight == 1 else dx * dx.dtype.type(weight), x.dtype)
        return total, gradients

    def sums(self, outputs: Mapping[str, Any], y: Any) -> np.ndarray:
        return np.array([loss.sums(outputs[name], y[name]) for name, loss in self.losses.items()])

    def mean(self, sums: np.ndarray) -> float:
        means = map(Loss.mean, self.losses.values(), sums)
        return sum(weight * mean for weight, mean in zip(self.weights.values(), means, strict=True))


def build_loss(name: str, value: Any, where: str = "Solver") -> Any:
    """What an option means: a name, a dict with 'name' and settings, a callable; of several outputs a dict of
    these by the outputs' names, or one of 'losses' and 'weights'.
    """
    if isinstance(value, WeightedLosses):
        return value
    if isinstance(value, Mapping) and value.keys() == {"losses", "weights"}:
        return WeightedLosses(**value, where=where)
    if isinstance(value, Mapping) and value and "name" not in value:
        return WeightedLosses(value, where=where)
    return _build_one(name, value, where)


def _build_one(name: str, value: Any, where: str) -> Loss:
    if isinstance(value, Loss):
        return value
    title = f"{where}: {name}"
    if callable(value):
        known = next((name for name, function in LOSSES.items() if function is value), None)
        if is_of_torch(value):
            raise TypeError(f"{title} is PyTorch's, expected a name of {', '.join(LOSSES)}; got {value!r}")
        if known is None:
            check_call(title, value, "loss(scores, y) -> (value, gradient of the scores)", 2)
        return Loss(value, known, title=title)
    arguments = {"name": value} if isinstance(value, str) else value
    if not isinstance(arguments, Mapping) or "name" not in arguments:
        raise TypeError(f"{title} must be a name, a dict with a 'name', or a callable, got {value!r}")
    wanted = str(arguments["name"]).removesuffix(_ENDING)
    if wanted not in LOSSES:
        raise ValueError(f"{where}: unknown {name} {arguments['name']!r}; {hint(wanted, LOSSES)}")
    settings = {key: item for key, item in arguments.items() if key != "name"}
    check_keys(where, name, settings, list(inspect.signature(LOSSES[wanted]).parameters)[2:])
    return Loss(LOSSES[wanted], wanted, settings, title)


def name_of_loss(loss: Any) -> LossName:
    """The name of a loss, of several outputs a dict; None for a function of the user's own."""
    if isinstance(loss, PartOfLoss):
        return name_of_loss(loss.loss)
    if isinstance(loss, WeightedLosses):
        return {output: each.name for output, each in loss.losses.items()}
    if isinstance(loss, Loss):
        return loss.name
    return next((name for name, function in LOSSES.items() if function is loss), None)


def checked_loss_name(where: str, value: Any, outputs: Collection[str]) -> LossName:
    """A model's `loss_name`; ValueError, which begins with `where`, if it does not fit these outputs."""
    if isinstance(value, Mapping) and set(value) == set(outputs):
        names = {output: checked_loss_name(where, value[output], ()) for output in outputs}
        if not any(isinstance(name, dict) for name in names.values()):
            return cast(LossName, names)
    elif value is None or (isinstance(value, str) and value in LOSSES and not outputs):
        return value
    wanted = f"a dict of names by {', '.join(outputs)}" if outputs else f"one of {', '.join(LOSSES)}"
    raise ValueError(f"{where}: loss_name must be None or {wanted}, got {value!r}")


def describe_loss(loss: Any) -> Any:
    """The inverse, in plain values; `OWN` for what a function of the user's own is part of."""
    if loss is None:
        return None
    if isinstance(loss, WeightedLosses):
        losses = {name: describe_loss(each) for name, each in loss.losses.items()}
        return OWN if OWN in losses.values() else {"losses": losses, "weights": dict(loss.weights)}
    if loss.name is None:
        return OWN
    if not loss.settings:
        return loss.name
    plain = {key: np.asarray(item).tolist() if np.ndim(item) else item for key, item in loss.settings.items()}
    return {"name": loss.name, **plain}
