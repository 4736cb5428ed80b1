"""A ConvNet as one of scikit-learn's classifiers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets, unique_labels

from cnnlib.layers import softmax
from cnnlib.sklearn.estimator import Estimator
from cnnlib.typing import Augment, Schedule

_WHERE = "ConvNetClassifier"


def _has_no_end(classifier):
    """Whether training may go on for ever, as :meth:`ConvNetClassifier.partial_fit` does."""
    for name in ("early_stopping", "schedule"):
        if getattr(classifier, name):
            raise AttributeError(
                f"{_WHERE}: partial_fit does not know when training ends: it takes no {name}"
            )
    return True


class ConvNetClassifier(ClassifierMixin, Estimator):
    """A :class:`cnnlib.models.ConvNet` as a classifier of scikit-learn, trained by a Solver.

    Parameters
    ----------
    spec : list or str
        The stages of the network, without the affine layer to the classes, or the name of a ready one: what a
        ConvNet takes.
    image_shape : (int, int, int) or None
        C, H, W of the images in the rows of a flat X (N, D). One of them may be -1: what D leaves for it.
        None: X has shape (N, C, H, W), or its rows are signals, images (1, 1, D) of one row, along which the
        spec's windows, strides and paddings reach then: ``{"conv": 8, "size": 3}`` makes filters (1, 3).
    update_rule : str
        A name in :mod:`cnnlib.optim`.
    learning_rate : float
    batch_size : int
    max_epochs : int
        Passes over the training samples.
    early_stopping : bool, int, dict or None
        Set a share of the samples aside, stratified by class; end after so many epochs without a better
        accuracy on them, and keep the best epoch's parameters; what :class:`cnnlib.solver.Solver` takes, and
        True for `n_iter_no_change` epochs. False or None: `max_epochs` epochs, and the last one's parameters.
    validation_fraction : float
        That share, in [0, 1]; at least as many samples as there are classes are set aside. (Of a class with
        few samples it may be none.)
    random_state : int, RandomState or None
        Governs weights, order of the samples, dropout, augmentation and the validation split. With an int,
        fits repeat to the same bits, whatever the number of threads; None draws from ``np.random``.
    verbose : bool
        Print a line after each epoch.
    n_iter_no_change : int
        Of `early_stopping`.
    reg : float
        Strength of L2 regularisation, as ConvNet's.
    weight_decay, label_smoothing : float or None
    schedule : str, dict, callable or None
        Of the learning rate over the epochs, see :mod:`cnnlib.schedules`.
    augment : str, dict, callable, list of these, or None
        Changes of the training minibatches, see :mod:`cnnlib.augment`.
    standardize : bool
        Subtract each channel's mean over the training samples and divide by its standard deviation.
    dtype : 'float32' or 'float64'
        What the network computes in.

    Attributes
    ----------
    classes_ : ndarray (K,)
        The labels, sorted.
    n_features_in_ : int
        Numbers in a sample, C * H * W.
    feature_names_in_ : ndarray (D,) of str
        Of the columns, where X was a data frame.
    image_shape_ : (int, int, int)
        C, H, W of what the network sees.
    model_ : ConvNet
        The network. What `standardize` does is its `preprocess`, so its ``save(path)`` keeps both.
    n_iter_ : int
        Epochs trained.
    loss_curve_ : list of float
        Each epoch's mean loss over its minibatches.
    validation_scores_ : list of float
        With `early_stopping` the validation accuracy after each epoch.
    best_validation_score_ : float
        The highest of them.

    Raises
    ------
    ValueError, TypeError
        When fitted with settings out of range, a spec that cannot be built, or images of another shape.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> X, y = load_digits(return_X_y=True)
    >>> spec = [{"conv": 16}, "batchnorm", "relu", {"max_pool": 2}]
    >>> net = ConvNetClassifier(spec, image_shape=(1, 8, 8), max_epochs=5, learning_rate=0.01, random_state=0)
    >>> net.fit(X[:1200], y[:1200]).score(X[1200:], y[1200:]) > 0.9
    True
    """

    def __init__(
        self,
        spec: str | Sequence[str | Mapping[str, Any]] = "three-layer",
        image_shape: Sequence[int] | None = None,
        update_rule: str = "adam",
        learning_rate: float = 1e-3,
        batch_size: int = 100,
        max_epochs: int = 20,
        early_stopping: bool | int | Mapping[str, Any] | None = False,
        validation_fraction: float = 0.1,
        random_state: int | np.random.RandomState | None = None,
        verbose: bool = False,
        *,
        n_iter_no_change: int = 10,
        reg: float = 0.0,
        weight_decay: float | None = None,
        label_smoothing: float | None = None,
        schedule: Schedule | None = None,
        augment: Augment | None = None,
        standardize: bool = True,
        dtype: str = "float32",
    ) -> None:
        # Only kept here: scikit-learn's clone and set_params expect the arguments as they came.
        self._keep(locals())

    def fit(self, X: ArrayLike, y: ArrayLike) -> ConvNetClassifier:
        """Train a new network on X (N, D) or (N, C, H, W) and labels y (N,), numbers or strings.

        Returns the classifier itself.
        """
        images, y = self._checked(X, y, first=True)
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        self._start_with_classes(images)
        self._fit(images, labels, len(self.classes_), labels)
        return self

    @available_if(_has_no_end)
    def partial_fit(self, X: ArrayLike, y: ArrayLike, classes: ArrayLike | None = None) -> ConvNetClassifier:
        """Train one epoch on X (N, D) or (N, C, H, W) and y (N,), going on from the epochs before.

        Parameters
        ----------
        X, y : array
        classes : array (K,)
            All labels that will ever come; needed in the first call, unless :meth:`fit` came before. Its X
            also says what `standardize` subtracts and divides by.

        Returns
        -------
        ConvNetClassifier
            The classifier itself.
        """
        first = not self.__sklearn_is_fitted__()
        if first and classes is None:
            raise ValueError(f"{_WHERE}: classes must be passed on the first call to partial_fit")
        images, y = self._checked(X, y, first)
        check_classification_targets(y)
        if first:
            self.classes_ = unique_labels(classes)
        elif classes is not None and not np.array_equal(unique_labels(classes), self.classes_):
            raise ValueError(f"{_WHERE}: classes {classes!r} are not those of the earlier calls")
        unknown = np.setdiff1d(y, self.classes_)
        if len(unknown):
            raise ValueError(f"{_WHERE}: y holds {unknown.tolist()[0]!r}, which is not among the classes")
        if first:
            self._start_with_classes(images)
        self._train({"X_train": images, "y_train": np.searchsorted(self.classes_, y)}, 1)
        return self

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The most probable label of each sample of X (N, D) or (N, C, H, W): an array (N,)."""
        scores = self._scores(X)
        return self.classes_[scores.argmax(axis=1)]

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """The softmax of the network's scores for X (N, D) or (N, C, H, W).

        Returns
        -------
        ndarray (N, K)
            Probabilities in the order of `classes_`, float64.
        """
        return np.asarray(softmax(np.asarray(self._scores(X), np.float64)), np.float64)

    def _start_with_classes(self, images):
        self._start(images, len(self.classes_))
        self.model_.classes = tuple(map(str, self.classes_))
