"""Scores of a model in test mode, batch by batch."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from cnnlib._typing import Array
from cnnlib.augment import averaged_scores
from cnnlib.data.normalization import preprocessed
from cnnlib.inference.predictor import Predictor

_BATCH, _BATCH_VALUES = 500, 2**21  # of images whose scores are computed together


def scorer(model: Any) -> Callable[..., Array]:
    """
    A function that gives the scores of samples by the model's parameters as they are now.

    It is the model itself where it is a predictor, or such a function already, and the `loss` of any other.
    """
    if isinstance(model, Predictor) or not hasattr(model, "loss"):
        return model
    if type(model).__module__.partition(".")[0] == "cnnlib":
        scores: Callable[..., Array] = model.loss
        return scores
    return lambda X: model.loss(X.copy() if isinstance(X, np.ndarray) else X)  # it may change it in place


class BatchScorer:
    """Scores of any number of images, a batch at a time; each goes through `preprocess` first.

    The parameters of the model count as they are now; it may be a Predictor, or what :func:`scorer` made of
    one. `tta` is as in :func:`cnnlib.augment.averaged_scores`; ``around()`` makes a context in which the
    model computes.
    """

    def __init__(
        self,
        model: Any,
        preprocess: Callable[..., Any] | None = None,
        tta: str | None = None,
        around: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext,
    ) -> None:
        self._scores = scorer(model)
        self.preprocess, self.tta, self._around = preprocess, tta, around

    def __call__(self, X: Any) -> Array:
        """Scores of one batch."""
        if self.preprocess is not None:
            X = preprocessed(self.preprocess, X)
        with self._around():
            return averaged_scores(self._scores, X, self.tta)

    def batches(self, X: Any) -> Iterator[Array]:
        """Scores of X, of which a batch holds no more than fits into memory beside it."""
        size = min(_BATCH, max(1, _BATCH_VALUES // max(X[0].size, 1))) if len(X) else 1
        for start in range(0, len(X), size):
            yield self(X[start : start + size])

    def all(self, X: Any) -> Array:
        """Scores (N, ...) of all samples of X."""
        return np.concatenate(list(self.batches(X)))
