"""A head on features: how it is fitted, blocks before it are tuned, and what features say of photos."""

from __future__ import annotations

import glob
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnlib._typing import Array, Params
from cnnlib.data.normalization import _chunks, moments
from cnnlib.graph.graph import Graph
from cnnlib.graph.shapes import shapes
from cnnlib.layers import softmax
from cnnlib.models import GraphNet
from cnnlib.solver import Solver
from cnnlib.typing import OptimConfig

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
    mean, variance = moments(X)
    # Those without contrast have 1.
    std = np.where(variance > 1e-12 * (mean**2 + 1e-12), np.sqrt(variance), 1.0)
    # Once: it takes as long as the steps of a head.
    standardised = {name: _standardised(data[name], mean, std) for name in ("X_train", "X_val")}
    grid = [{"learning_rate": rate, "reg": reg} for rate in _RATES for reg in _REGS]
    fits = []
    for chosen in [settings] if settings else grid:
        model = GraphNet(Graph(), {}, X.shape[1]).with_head(num_classes, hidden, seed=0)
        model.reg = chosen["reg"]
        fit, _ = _fit(
            model,
            {**data, **standardised},
            chosen,
            batch_size=_batch_size(len(X)),
            num_epochs=epochs or _EPOCHS,
            keep="last" if epochs else "best",
            early_stopping=None if epochs else _PATIENCE,
        )
        fits.append(fit)
    best = min(fits, key=lambda fit: fit.val_loss)
    _take_in(best.model.params, mean, std)
    best.model.reg = 0.0
    return best


def _standardised(X: Any, mean: Array, std: Array) -> Array:
    out = np.empty(X.shape, np.float32)
    at = 0
    for chunk in _chunks(X) if len(X) else ():
        out[at : at + len(chunk)] = (chunk - mean) / std
        at += len(chunk)
    return out


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
    norms = [name for node in rest.graph() if node.op.statistics for name in node.params]
    rest.freeze(*(glob.escape(str(name)) for name in norms))
    return rest


def fine_tuned(model: GraphNet, start: str, data: dict[str, Any]) -> tuple[Fit, float]:
    """Train the layers behind `start`, of whose values `data` are, with a small rate that validation chooses.

    The model gets the new parameters, if the validation loss has become less. Returns their Fit, and the loss
    before.
    """
    fits, before = [], np.inf
    for rate in _TUNING_RATES:
        fit, before = _fit(
            rest_behind(model, start),
            data,
            {"learning_rate": rate},
            batch_size=min(_batch_size(len(data["X_train"])), 64),
            num_epochs=_TUNING_EPOCHS,
            early_stopping=_TUNING_PATIENCE,
        )
        fits.append(fit)
    best = min(fits, key=lambda fit: fit.val_loss)
    if best.val_loss < before:
        model.params.update(best.model.params)
    return best, before


def _fit(
    model: GraphNet, data: dict[str, Any], settings: dict[str, float], **options: Any
) -> tuple[Fit, float]:
    """Train the model by Adam, judged by the validation loss; what came out, and that loss before."""
    rate: OptimConfig = {"learning_rate": settings["learning_rate"]}
    usual: dict[str, Any] = {"monitor": "val_loss", "num_train_samples": 100, "verbose": False, "seed": 0}
    solver = Solver(model, data, update_rule="adam", optim_config=rate, **usual, **options)
    solver.train()
    k, losses = solver.best_epoch, solver.val_loss_history
    return Fit(model, settings, losses[k], solver.val_acc_history[k], k), losses[0]


def _take_in(params: Params, mean: Array, std: Array) -> None:
    """Let the first layer take features as they are: (x - mean) / std W = x (W / std) - (mean / std) W."""
    weights, biases = list(params)[:2]
    W = params[weights].astype(np.float64) / std[:, None]
    params[biases] = (params[biases] - mean @ W).astype(params[biases].dtype)
    params[weights] = W.astype(params[weights].dtype)


def _batch_size(count: int) -> int:
    return min(max(count // _BATCHES, _SMALLEST), _LARGEST)


# Of the usual distance between two images: less, and they count as nearly the same. By a network trained on
# half of CIFAR-10, 95 of 100 photos are nearer than 0.06 to their copies at JPEG's quality 85, and none of
# 300 is nearer than 0.24 to another.
_SAME = 0.15
_FOLDS = 5
_SHARES = (0.25, 0.5, 1.0)


def nearest(X: Array, among: Array, count: int) -> tuple[np.ndarray, Array]:
    """Find the `count` nearest rows of `among` to each row of X: their indices and distances.

    Distances are Euclidean, divided by the median of all.

    Examples
    --------
    >>> places, distances = nearest(np.array([[0.0], [9.0]]), np.array([[1.0], [8.0], [20.0]]), 1)
    >>> places.ravel(), distances.round(2).ravel()
    (array([0, 1]), array([0.12, 0.12]))
    """
    X, among = np.asarray(X, np.float64), np.asarray(among, np.float64)
    centre = among.mean(axis=0)
    X, among = X - centre, among - centre
    squares = (X**2).sum(1)[:, None] - 2 * X @ among.T + (among**2).sum(1)
    distances = np.sqrt(np.maximum(squares, 0))
    places = np.argsort(distances, axis=1, kind="stable")[:, :count]
    usual = float(np.median(distances)) or 1.0
    return places, np.take_along_axis(distances, places, 1) / usual


def near_duplicates(X: Array, among: Array) -> list[tuple[int, int, float]]:
    """Rows of X that nearly equal a row of `among`: both numbers and the distance, the nearest first.

    Such images in training and test alike make accuracies lie. "Nearly" is 0.15 of the median distance.

    Examples
    --------
    >>> rows = np.random.default_rng(0).standard_normal((6, 4))
    >>> [pair[:2] for pair in near_duplicates(rows[:3] + 1e-3, rows[2:])]
    [(2, 0)]
    """
    places, distances = nearest(X, among, 1)
    found = [
        (k, int(place), float(distance))
        for k, (place, distance) in enumerate(zip(places[:, 0], distances[:, 0], strict=True))
        if distance < _SAME
    ]
    return sorted(found, key=lambda pair: pair[2])


def doubtful_labels(X: Array, y: np.ndarray, classes: int, fit: Fit, hidden: int | None) -> np.ndarray:
    """Probabilities (N, classes) of each sample by a head that has not learned from it, in five folds.

    Those whose label is improbable are where to look for wrong labels first (Northcutt et al. 2021,
    arXiv:1911.00068). The settings are those that `fit` found.
    """
    order = np.random.default_rng(0).permutation(len(y))
    scores = np.zeros((len(y), classes))
    for fold in np.array_split(order, min(_FOLDS, len(y))):
        others = np.setdiff1d(order, fold)
        data = {"X_train": X[others], "y_train": y[others], "X_val": X[fold], "y_val": y[fold]}
        head = fit_head(data, classes, hidden, fit.settings, max(fit.epochs, 1)).model
        scores[fold] = head.loss(X[fold])
    return softmax(scores)


def by_count(
    data: dict[str, Any], part: str, classes: int, fit: Fit, hidden: int | None, views: int = 1
) -> list[tuple[float, float]]:
    """How accurate heads are on `part` that learned from a quarter, a half and all of each class's images.

    Of each image the training features have so many `views`, one view of all behind the other. Returns pairs
    of images of a class on average, and accuracy.
    """
    count = len(data["y_train"]) // views
    y = data["y_train"][:count]
    random = np.random.default_rng(0)
    order = [random.permutation(np.flatnonzero(y == k)) for k in range(classes)]
    found = []
    for share in _SHARES:
        rows = np.sort(np.concatenate([own[: max(1, round(share * len(own)))] for own in order]))
        seen = np.concatenate([rows + count * view for view in range(views)])
        own = {**data, "X_train": data["X_train"][seen], "y_train": data["y_train"][seen]}
        epochs = max(1, round(fit.epochs / share))  # as many steps
        head = fit_head(own, classes, hidden, fit.settings, epochs).model
        right = head.loss(np.asarray(data[f"X_{part}"])).argmax(axis=1) == data[f"y_{part}"]
        found.append((len(rows) / classes, float(right.mean())))
    return found


def plane(X: Array, method: str) -> Array:
    """Rows as points (N, 2) in [0, 1]: by principal components ('PCA') or 't-SNE' (scikit-learn).

    Examples
    --------
    >>> plane(np.array([[0.0, 0, 1], [1, 0, 0], [2, 0, 5]]), "PCA").shape
    (3, 2)
    """
    X = np.asarray(X, np.float64)
    if method == "PCA":
        centred = X - X.mean(axis=0)
        _, vectors = np.linalg.eigh(centred.T @ centred)
        points = centred @ vectors[:, ::-1][:, :2]
    else:
        from sklearn.manifold import TSNE

        points = TSNE(init="pca", perplexity=min(30, (len(X) - 1) / 3), random_state=0).fit_transform(X)
    low, high = points.min(axis=0), points.max(axis=0)
    return (points - low) / np.where(high > low, high - low, 1)
