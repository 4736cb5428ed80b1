"""What features say of a data set: images that are nearly the same, doubtful labels, what lies where."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnnlib._typing import Array
from cnnlib.layers.activations import _softmax
from cnnlib.pretrained.head import Fit, fit_head

# Of the usual distance between two images: less, and they count as nearly the same. By a network trained on
# half of CIFAR-10, 95 of 100 photos are nearer than 0.06 to their copies at JPEG's quality 85, and none of
# 300 is nearer than 0.24 to another.
_SAME = 0.15
_FOLDS = 5
_SHARES = (0.25, 0.5, 1.0)


def nearest(X: Array, among: Array, count: int) -> tuple[np.ndarray, Array]:
    """Of each row of X the `count` nearest rows of `among`, and how far they are: indices and distances.

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
    return np.asarray(_softmax(scores))


def by_count(
    data: dict[str, Any], part: str, classes: int, fit: Fit, hidden: int | None
) -> list[tuple[float, float]]:
    """How accurate heads are on `part` that learned from a quarter, a half and all of each class's images.

    Returns
    -------
    list of (images of a class on average, accuracy)
    """
    y = data["y_train"]
    random = np.random.default_rng(0)
    order = [random.permutation(np.flatnonzero(y == k)) for k in range(classes)]
    found = []
    for share in _SHARES:
        rows = np.sort(np.concatenate([own[: max(1, round(share * len(own)))] for own in order]))
        own = {**data, "X_train": data["X_train"][rows], "y_train": y[rows]}
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
