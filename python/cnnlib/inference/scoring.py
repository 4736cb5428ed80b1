"""Scores of a model in test mode, by its predictor where it has one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cnnlib._typing import Array
from cnnlib.inference.ops import PREPARED_LAYERS
from cnnlib.inference.predictor import Predictor, prepare
from cnnlib.models.common import warn_of_bytes

__all__ = ["scorer"]


def scorer(model: Any) -> Callable[..., Array]:
    """
    A function that gives the scores of samples by the model's parameters as they are now.

    It is the predictor of the library's own models, or the model itself where it is one; `loss` of any other,
    or where the user has put another `loss` into the model, and of a graph with layers that have no place in
    a prepared network.
    """
    if isinstance(model, Predictor):
        return model
    own = type(model).__module__.partition(".")[0] == "cnnlib" and hasattr(model, "graph")
    if own and "loss" not in vars(model) and all(node.layer in PREPARED_LAYERS for node in model.graph()):
        predictor = prepare(model)
        predictor.preprocess = None  # `loss` takes images as they are
        predictor._told_of_bytes = True

        def scores(X: Any) -> Array:
            warn_of_bytes(model, type(model).__name__, X)  # not at each of its predictors
            return predictor(X)

        return scores
    return model.loss
