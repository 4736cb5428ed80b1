"""What computes gradients and scores for the Solver: here in one process, minibatches as a whole.

:class:`cnnlib.solver.data_parallel.DataParallel` is the other form, for several ranks or micro-batches.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnnlib.inference.scoring import BatchScorer
from cnnlib.models.losses import Loss, WeightedLosses
from cnnlib.solver.evaluation import look_at, values_of
from cnnlib.solver.interrupts import Interrupts, drawing_from
from cnnlib.solver.metrics import Metric


class Worker:
    """Computes by itself.

    Parameters
    ----------
    model : object
    loss : Loss or None
        What the model is to be trained with; None: its own.
    stream : RandomState or None
        What the model draws from; None: its own affair.
    interrupts : Interrupts
        Its `allowed` blocks surround what the model computes.

    Attributes
    ----------
    main : bool
        Whether this process shows progress and writes files.
    """

    main = True

    def __init__(
        self, model: Any, loss: Loss | WeightedLosses | None, stream: Any, interrupts: Interrupts
    ) -> None:
        self.model, self.stream, self.interrupts = model, stream, interrupts
        self._loss: dict[str, Any] = {} if loss is None else {"loss": loss}

    # The start --------------------------------------------------------------------------------------------

    def refuse_different(self, facts: Mapping[str, Any]) -> None:
        """Refuse ranks of which these facts differ."""

    def refuse_other_parameters(self, epoch: int) -> None:
        """Refuse to go on when the ranks' parameters have come to differ."""

    def batch_norms(self) -> contextlib.AbstractContextManager[Any]:
        """A context in which the model's batch norms take the statistics that the run is to have."""
        return contextlib.nullcontext()

    # An iteration -----------------------------------------------------------------------------------------

    def share(self, batch: Any) -> Any:
        """The part of a minibatch's indices that this process is to read."""
        return batch

    def generator(self, seed: Sequence[int], total: int) -> np.random.Generator:
        """The augmentation's random numbers for its share of a minibatch of `total` samples."""
        return np.random.default_rng(seed)

    def gradients(self, X: Any, y: Any, total: int, iteration: int) -> tuple[float, Mapping[str, Any]]:
        """Loss and gradients of a minibatch of `total` samples, of which X and y are this process's share.

        The gradients are valid until the next call.
        """
        with self._drawing(), self.interrupts.allowed():
            return self.model.loss(X, y, **self._loss)

    # The end of an epoch ----------------------------------------------------------------------------------

    def measure(
        self, metrics: Sequence[Metric], X: Any, y: Any, batches: Any, preprocess: Any, iteration: int
    ) -> dict[str, float]:
        """The metrics, by their names, of `batches` of X and y."""
        scores = self.scorer(preprocess)
        return values_of(metrics, (look_at(scores, metrics, X[batch], y[batch]) for batch in batches))

    def scorer(self, preprocess: Any, tta: str | None = None) -> BatchScorer:
        """Scores of the model as it is now; no other rank takes part."""
        return BatchScorer(self.model, preprocess, tta, self._scoring)

    def _drawing(self) -> contextlib.AbstractContextManager[Any]:
        """Let the model draw from the Solver's own stream, where that has one."""
        return contextlib.nullcontext() if self.stream is None else drawing_from(self.stream, self.model)

    @contextlib.contextmanager
    def _scoring(self):
        with self._drawing(), self.interrupts.allowed():
            yield
