"""What learns on top of features: a head with settings that validation finds, the last blocks below it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnlib._typing import Array, Params
from cnnlib.graph.graph import BATCH_NORMS, Graph
from cnnlib.graph.shapes import shapes
from cnnlib.models import GraphNet
from cnnlib.solver import Solver

_RATES, _REGS, _TUNING_RATES = (1e-3, 1e-2), (1e-3, 1e-2, 1e-1), (1e-4, 1e-3)
_EPOCHS, _PATIENCE, _TUNING_EPOCHS, _TUNING_PATIENCE = 60, 5, 15, 3
_BATCHES = 20  # of an epoch, about, within these sizes
_SMALLEST, _LARGEST = 16, 256


@dataclass(frozen=True)
class Fit:
    """A trained model, the settings that validation chose, and how it did there."""

    model: GraphNet
    settings: dict[str, float]
    val_loss: float
    val_accuracy: float
    epochs: int


def fit_head(
    data: dict[str, Any],
    num_classes: int,
    hidden: int | None = None,
    settings: dict[str, float] | None = None,
    epochs: int | None = None,
) -> Fit:
    """Train a head on features (N, D): of several rates and strengths of L2 the best, by validation loss.

    Features are standardised, which the head's first layer then does itself.

    Parameters
    ----------
    data : dict
        ``X_train y_train X_val y_val``.
    num_classes, hidden : int
        As in :meth:`cnnlib.models.GraphNet.with_head`.
    settings : dict or None
        ``learning_rate`` and ``reg``, where they are known.
    epochs : int or None
        So many; None: until the validation loss does not improve any more.

    Examples
    --------
    >>> X = np.random.default_rng(0).standard_normal((60, 5))
    >>> y = (X[:, 0] > 0).astype(int)
    >>> fit = fit_head({"X_train": X, "y_train": y, "X_val": X, "y_val": y}, 2)
    >>> fit.model, fit.val_accuracy > 0.9
    (GraphNet(5 -> 2, 1 node, float32, 12 parameters), True)
    """
    X = data["X_train"]
    mean, std = _moments(X)
    grid = (
        [settings]
        if settings
        else [
            dict(zip(("learning_rate", "reg"), pair, strict=True))
            for pair in itertools.product(_RATES, _REGS)
        ]
    )
    fits = []
    for chosen in grid:
        model = GraphNet(Graph(), {}, X.shape[1]).with_head(num_classes, hidden, seed=0)
        model.reg = chosen["reg"]
        solver = Solver(
            model,
            data,
            preprocess=lambda X: ((X - mean) / std).astype(np.float32),
            update_rule="adam",
            optim_config={"learning_rate": chosen["learning_rate"]},
            batch_size=_batch_size(len(X)),
            num_epochs=epochs or _EPOCHS,
            keep="last" if epochs else "best",
            early_stopping=None if epochs else _PATIENCE,
            monitor="val_loss",
            num_train_samples=100,
            verbose=False,
            seed=0,
        )
        solver.train()
        fits.append(_fit(solver, chosen))
    best = min(fits, key=lambda fit: fit.val_loss)
    _take_in(best.model.params, mean, std)
    best.model.reg = 0.0
    return best


def with_fitted_head(trunk: GraphNet, head: GraphNet, hidden: int | None) -> GraphNet:
    """The trunk with a head that was trained on its features."""
    assert head.num_classes is not None
    model = trunk.with_head(head.num_classes, hidden, seed=0)
    new = [name for name in model.params if name not in trunk.params]
    for name, value in zip(new, head.params.values(), strict=True):
        model.params[name] = value.astype(model.dtype)
    return model


def rest_behind(model: GraphNet, start: str) -> GraphNet:
    """The layers behind a value that everything behind it begins with; batch norms rest."""
    nodes = model.graph().nodes
    place = next((k for k, node in enumerate(nodes, start=1) if node.output == start), 0)
    graph = Graph(nodes[place:], start, model.graph().output)
    shape = shapes(model.graph(), model.params, model.input_dim)[start]
    rest = model._with_graph(graph, {}, shape)
    norms = [name for node in rest.graph() if node.layer in BATCH_NORMS for name in node.params]
    rest.freeze(*map(str, norms))
    return rest


def fine_tuned(model: GraphNet, start: str, data: dict[str, Any]) -> tuple[Fit, float]:
    """Train the layers behind `start`, of whose values `data` are, with a small rate that validation chooses.

    The model gets the new parameters, if the validation loss has become less.

    Returns
    -------
    fit : Fit
        Of those layers.
    before : float
        The validation loss before.
    """
    fits, before = [], np.inf
    for rate in _TUNING_RATES:
        rest = rest_behind(model, start)
        solver = Solver(
            rest,
            data,
            update_rule="adam",
            optim_config={"learning_rate": rate},
            batch_size=min(_batch_size(len(data["X_train"])), 64),
            num_epochs=_TUNING_EPOCHS,
            early_stopping=_TUNING_PATIENCE,
            monitor="val_loss",
            num_train_samples=100,
            verbose=False,
            seed=0,
        )
        solver.train()
        before = solver.val_loss_history[0]
        fits.append(_fit(solver, {"learning_rate": rate}))
    best = min(fits, key=lambda fit: fit.val_loss)
    if best.val_loss < before:
        model.params.update(best.model.params)
    return best, before


def _fit(solver: Solver, settings: dict[str, float]) -> Fit:
    k = solver.best_epoch
    accuracy = solver.val_acc_history[k]
    return Fit(solver.model, settings, solver.val_loss_history[k], accuracy, k)


def _moments(X: Any) -> tuple[Array, Array]:
    """Mean and standard deviation of each feature, read in parts; those without contrast have 1."""
    parts = [(start, start + 1000) for start in range(0, len(X), 1000)]
    mean = np.sum([np.sum(X[a:b], axis=0, dtype=np.float64) for a, b in parts], axis=0) / len(X)
    var = np.sum([np.sum(np.square(X[a:b] - mean), axis=0) for a, b in parts], axis=0) / len(X)
    return mean, np.where(var > 1e-12 * (mean**2 + 1e-12), np.sqrt(var), 1.0)


def _take_in(params: Params, mean: Array, std: Array) -> None:
    """Let the first layer take features as they are: (x - mean) / std W = x (W / std) - (mean / std) W."""
    weights, biases = list(params)[:2]
    W = params[weights].astype(np.float64) / std[:, None]
    params[biases] = (params[biases] - mean @ W).astype(params[biases].dtype)
    params[weights] = W.astype(params[weights].dtype)


def _batch_size(count: int) -> int:
    return min(max(count // _BATCHES, _SMALLEST), _LARGEST)
