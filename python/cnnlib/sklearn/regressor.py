"""A ConvNet as one of scikit-learn's regressors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import RegressorMixin

from cnnlib._params import flag
from cnnlib.data.normalization import ROUNDING
from cnnlib.models.losses import OF_NUMBERS, build_loss
from cnnlib.sklearn.estimator import Estimator
from cnnlib.typing import Augment, Schedule


class ConvNetRegressor(RegressorMixin, Estimator):
    """A :class:`cnnlib.models.ConvNet` that predicts numbers, trained by a Solver, for scikit-learn.

    Parameters
    ----------
    spec : list or str
        The stages of the network, without the affine layer to the numbers.
    image_shape, update_rule, learning_rate, batch_size, max_epochs, random_state, verbose, \
n_iter_no_change, reg, weight_decay, schedule, augment, dtype
        As :class:`cnnlib.sklearn.ConvNetClassifier`'s.
    early_stopping : bool, int, dict or None
        As of :class:`ConvNetClassifier`: set a share of the samples aside; end when R² on them is no better,
        and keep the best epoch's parameters.
    validation_fraction : float
        That share, in [0, 1]; at least two samples are set aside.
    loss : str or dict
        The Solver's: 'mse', 'l1', 'huber', or a dict with 'name' and 'delta'.
    standardize : bool
        Subtract mean and divide by standard deviation: of each channel over the training samples, and of each
        number in y, which the last layer puts back in the end.

    Attributes
    ----------
    n_features_in_, feature_names_in_, image_shape_, model_, n_iter_, loss_curve_
        As :class:`cnnlib.sklearn.ConvNetClassifier`'s; the losses are those of the standardized numbers.
    n_outputs_ : int
        Numbers in a sample's y.
    validation_scores_, best_validation_score_
        With `early_stopping` R² of the validation samples, after each epoch and the highest.

    Raises
    ------
    ValueError, TypeError
        When fitted with settings out of range, a spec that cannot be built, or images of another shape.

    Examples
    --------
    How much ink a digit has:

    >>> from sklearn.datasets import load_digits
    >>> X = load_digits().data / 16
    >>> y = X.sum(axis=1)
    >>> net = ConvNetRegressor([{"conv": 8}, "relu"], (1, 8, 8), max_epochs=5, random_state=0)
    >>> net.fit(X[:1200], y[:1200]).score(X[1200:], y[1200:]) > 0.9
    True
    """

    _head, _metric = "values", "r2"
    _targets: ClassVar[dict[str, Any]] = {"multi_output": True, "y_numeric": True}

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
        loss: str | Mapping[str, Any] = "mse",
        n_iter_no_change: int = 10,
        reg: float = 0.0,
        weight_decay: float | None = None,
        schedule: Schedule | None = None,
        augment: Augment | None = None,
        standardize: bool = True,
        dtype: str = "float32",
    ) -> None:
        # Only kept here: scikit-learn's clone and set_params expect the arguments as they came.
        self._keep(locals())

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: ArrayLike, y: ArrayLike) -> ConvNetRegressor:
        """Train a new network on X (N, D) or (N, C, H, W) and numbers y (N,) or (N, M).

        Returns the regressor itself.
        """
        images, targets = self._checked(X, y, first=True)
        self._is_flat = targets.ndim == 1
        values = np.asarray(targets.reshape(len(targets), -1), np.float64)
        self.n_outputs_ = values.shape[1]
        mean, scale = np.zeros(self.n_outputs_), np.ones(self.n_outputs_)
        if flag(self._where, "standardize", self.standardize):
            self._check_loss()
            with np.errstate(over="ignore"):
                mean, scale = values.mean(axis=0), values.std(axis=0)
            if not np.isfinite(scale).all():
                raise ValueError(f"{self._where}: y holds numbers whose squares are none; scale them down")
            scale[scale <= ROUNDING * np.abs(mean)] = 1
        self._start(images, self.n_outputs_)
        self._fit(images, ((values - mean) / scale).astype(self.dtype), 2)
        self._mean, self._scale = mean, scale
        self._put_back(mean, scale)
        return self

    def predict(self, X: ArrayLike) -> NDArray[np.float64]:
        """The numbers of each sample of X (N, D) or (N, C, H, W), in the shape that y had, float64."""
        # In float64: a float32 cannot hold numbers that differ by less than 1e-7 of their mean.
        values = self._scores(X).astype(np.float64) * self._scale + self._mean
        return values[:, 0] if self._is_flat else values

    def _check_loss(self):
        """Refuse a loss of labels or probabilities, which standardized numbers are none of."""
        loss = build_loss("loss", self.loss, self._where)
        if loss.name not in (None, *OF_NUMBERS):
            raise ValueError(
                f"{self._where}: loss must be one of {', '.join(OF_NUMBERS)} where y is standardized, got "
                f"{self.loss!r}"
            )

    def _put_back(self, mean, scale):
        """Let the last layer of `model_` give y's own numbers; the predictor gives the standardized ones."""
        params = self.model_.params
        last = max(int(name[1:]) for name in params if name.startswith("W"))
        params[f"W{last}"] *= scale.astype(self.dtype)
        params[f"b{last}"][:] = params[f"b{last}"] * scale + mean
