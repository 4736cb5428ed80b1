"""The Solver's `loss`: one of cnnlib.layers by name, or a function of the user's own."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from cnnlib import layers
from cnnlib._params import check_keys
from cnnlib._params.registry import OWN

__all__ = ["LOSSES", "Loss", "build_loss", "describe_loss"]

_ENDING = "_loss"
LOSSES: dict[str, Callable[..., Any]] = {
    name.removesuffix(_ENDING): getattr(layers, name)
    for name in layers.__all__
    if name.endswith(_ENDING) or name == "cross_entropy"
}


class Loss:
    """A loss ``(scores, y) -> (value, dscores)`` of a batch, which checks what a user's function returns.

    Parameters
    ----------
    function : callable
    name : str or None
        Of one in `LOSSES`; None for a function of the user's own.
    settings : dict
        The function's keyword arguments.
    """

    def __init__(
        self, function: Callable[..., Any], name: str | None = None, settings: Mapping[str, Any] | None = None
    ) -> None:
        self.function, self.name, self.settings = function, name, dict(settings or {})

    def __call__(self, scores: Any, y: Any) -> tuple[float, Any]:
        if self.name is not None:
            return self.function(scores, y, **self.settings)
        result = self.function(scores, y)
        if not (isinstance(result, tuple) and len(result) == 2):
            raise TypeError(
                f"Solver: loss must return a pair (value, gradient of the scores), got {result!r}"
            )
        value, dscores = result
        if np.shape(dscores) != np.shape(scores):
            raise ValueError(
                f"Solver: loss gave a gradient of shape {np.shape(dscores)}, expected {np.shape(scores)}"
            )
        return float(value), np.asarray(dscores, dtype=scores.dtype)

    def weight(self, y: Any) -> float:
        """By what a batch's mean counts among others: its samples, or the weights of labels that count."""
        ignore, weights = self.settings.get("ignore"), self.settings.get("weights")
        if ignore is None and weights is None:
            return len(y)
        y = np.asarray(y)
        y = y if ignore is None else y[y != ignore]
        return float(y.size if weights is None else np.asarray(weights, np.float64)[y].sum())


def build_loss(name: str, value: Any) -> Loss:
    """What the Solver's option means: a name, a dict with 'name' and settings, or a callable."""
    if isinstance(value, Loss):
        return value
    if callable(value):
        known = next((name for name, function in LOSSES.items() if function is value), None)
        return Loss(value, known)
    arguments = {"name": value} if isinstance(value, str) else value
    if not isinstance(arguments, Mapping) or "name" not in arguments:
        raise TypeError(f"Solver: {name} must be a name, a dict with a 'name', or a callable, got {value!r}")
    wanted = str(arguments["name"]).removesuffix(_ENDING)
    if wanted not in LOSSES:
        near = difflib.get_close_matches(wanted, LOSSES, 1, 0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(LOSSES)}"
        raise ValueError(f"Solver: unknown {name} {arguments['name']!r}; {hint}")
    settings = {key: item for key, item in arguments.items() if key != "name"}
    check_keys("Solver", name, settings, list(inspect.signature(LOSSES[wanted]).parameters)[2:])
    return Loss(LOSSES[wanted], wanted, settings)


def describe_loss(loss: Loss | None) -> Any:
    """The inverse, in plain values; `OWN` for a function of the user's own."""
    if loss is None or loss.name is None:
        return None if loss is None else OWN
    if not loss.settings:
        return loss.name
    plain = {key: np.asarray(item).tolist() if np.ndim(item) else item for key, item in loss.settings.items()}
    return {"name": loss.name, **plain}
