"""What the estimators have in common: samples in, a ConvNet trained by a Solver, scores out."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.model_selection import train_test_split
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from cnnlib._params import flag, integer, is_flag, number, positive_int
from cnnlib._params.arrays import as_array
from cnnlib.data import Normalization
from cnnlib.inference import prepare
from cnnlib.inference.scoring import BatchScorer
from cnnlib.models import ConvNet
from cnnlib.models.spec.reading import BRANCHING, KINDS, resolve
from cnnlib.solver import Solver
from cnnlib.solver.histories import val_name
from cnnlib.solver.monitor import build_early_stopping

# What an integer of an option of stages becomes across the row.
_ACROSS = {**dict.fromkeys(("size", "stride", "dilation"), 1), **dict.fromkeys(("pad", "output_pad"), 0)}


def resolved_image_shape(
    where: str, image_shape: Sequence[int] | None, n_features: int
) -> tuple[int, int, int]:
    """(C, H, W) of rows with so many numbers; ``(1, 1, n_features)``, a signal, where nothing is known.

    ValueError or TypeError if `image_shape` is not three positive integers, one of which may be -1, or has
    another size.
    """
    if image_shape is None:
        return 1, 1, n_features
    if isinstance(image_shape, str) or not hasattr(image_shape, "__len__") or len(image_shape) != 3:
        raise ValueError(f"{where}: image_shape must be (C, H, W), got {image_shape!r}")
    sizes = [integer(where, "image_shape", size) for size in image_shape]
    if sizes.count(-1) > 1 or any(size < 1 and size != -1 for size in sizes):
        raise ValueError(
            f"{where}: image_shape must hold sizes of at least 1, one of which may be -1 for what remains, "
            f"got {image_shape!r}"
        )
    if -1 in sizes:
        sizes[sizes.index(-1)] = max(n_features // -math.prod(sizes), 1)
    if math.prod(sizes) != n_features:
        raise ValueError(
            f"{where}: images of image_shape {tuple(image_shape)!r} do not have X's {n_features} features"
        )
    C, H, W = sizes
    return C, H, W


def signal_spec(spec: Any) -> Any:
    """A ConvNet's `spec` for images of one row.

    Windows, strides, paddings and sizes that are a number reach along the row; pairs stay as they are.
    """
    spec = resolve(spec)
    if not isinstance(spec, (list, tuple)):
        return spec  # the ConvNet says what is wrong with it
    return [_along_the_row(entry) for entry in spec]


def _along_the_row(entry):
    if not isinstance(entry, Mapping):
        return entry
    changed, across = dict(entry), _ACROSS
    for kind in KINDS.keys() & changed.keys():
        if KINDS[kind].size is not None:
            changed.setdefault("size", KINDS[kind].size)
        if KINDS[kind].by_axis:
            across = {**across, kind: 1}
    for name, value in changed.items():
        if name in across and isinstance(value, numbers.Integral) and not isinstance(value, bool):
            changed[name] = across[name], value
        elif name in ("residual", "shortcut") and value:
            changed[name] = signal_spec(value)
        elif name in BRANCHING and isinstance(value, (list, tuple)):
            # A branch is a spec, or the name of a value, which is no ready network's.
            changed[name] = [branch if isinstance(branch, str) else signal_spec(branch) for branch in value]
    return changed


_SEEDS = 2**31
_OF_THE_NETWORK = ("spec", "image_shape", "standardize", "dtype")  # arguments that make it
_SETTINGS = ("learning_rate", "weight_decay")  # in an optimizer's config, of the estimator's arguments
# Arguments that go on as they are.
_OF_THE_SOLVER = ("update_rule", "schedule", "weight_decay", "label_smoothing", "augment", "batch_size")


class Estimator(BaseEstimator):
    """A ConvNet among scikit-learn's estimators; which task it has is up to the class.

    `_head` is what the network ends in ('classes' or 'values'), `_metric` by what validation samples are
    judged (the higher the better), `_targets` how scikit-learn is to check y.
    """

    _head = "classes"
    _metric = "accuracy"
    label_smoothing: float | None = None
    loss: Any = None
    _targets: ClassVar[dict[str, Any]] = {}

    @property
    def _where(self):
        return type(self).__name__

    def _keep(self, arguments):
        """Keep the arguments of a constructor as they are, which scikit-learn asks for."""
        for name, value in arguments.items():
            if name not in ("self", "__class__"):
                setattr(self, name, value)

    def __sklearn_is_fitted__(self):
        return hasattr(self, "_predictor")

    def _scores(self, X):
        check_is_fitted(self)
        return BatchScorer(self._predictor, self.model_.preprocess).all(self._checked(X))

    def _checked(self, X, y="no_validation", first=False):
        """Images (N, C, H, W) of X, and y where it is given; `first`: this X says what a sample is.

        From then on it counts as not fitted until it has been trained.
        """
        came = None
        if first:
            self.__dict__.pop("_predictor", None)
        for name, value in (("X", X), ("y", y)):
            if np.ma.isMaskedArray(value):  # of which scikit-learn takes what is masked, too
                as_array(self._where, name, value)
        if (X if hasattr(X, "ndim") else np.asarray(X)).ndim > 2:
            X = check_array(X, allow_nd=True, input_name="X")
            if X.ndim != 4:
                raise ValueError(f"{self._where}: X must have shape (N, D) or (N, C, H, W), got {X.shape}")
            came, X = X.shape[1:], X.reshape(len(X), -1)
        checked = validate_data(self, X, y, reset=first, **({} if isinstance(y, str) else self._targets))
        X, y = checked if isinstance(checked, tuple) else (checked, None)
        if first:
            self._is_signal = came is None and self.image_shape is None
            shape = came if self.image_shape is None else self.image_shape
            self.image_shape_ = resolved_image_shape(self._where, shape, X.shape[1])
        if came not in (None, self.image_shape_):
            raise ValueError(f"{self._where}: X must hold images of shape {self.image_shape_}, got {came}")
        images = X.reshape(len(X), *self.image_shape_)
        return images if y is None else (images, y)

    def _start(self, images, outputs):
        """An untrained network with so many outputs, and a random stream."""
        self._made_of = {name: repr(getattr(self, name)) for name in _OF_THE_NETWORK}
        self._random = check_random_state(self.random_state)
        spec = signal_spec(self.spec) if self._is_signal else self.spec
        if self._head != "classes" and isinstance(resolve(spec), (list, tuple)):
            spec = [*resolve(spec), self._head]
        try:
            self.model_ = ConvNet(
                spec, self.image_shape_, outputs, reg=self.reg, dtype=self.dtype, seed=self._seed()
            )
        except ValueError as error:
            raise ValueError(f"{error} (X: n_features={self.n_features_in_})") from error
        if self.model_.head != self._head or self.model_.output_shape != (outputs,):
            reason = "spec has a head, which follows from y: leave it out"
            raise ValueError(f"{self._where}: {reason}, got {self.spec!r}")
        if flag(self._where, "standardize", self.standardize):
            self.model_.preprocess = Normalization.fit(images)
        self.n_iter_, self.loss_curve_ = 0, []
        self.validation_scores_ = self.best_validation_score_ = None
        self._optim_configs, self._rule = {}, self.update_rule

    def _stopping_rule(self):
        """What the Solver's `early_stopping` is to be; None for none."""
        patience = positive_int(self._where, "n_iter_no_change", self.n_iter_no_change)
        rule = self.early_stopping
        return build_early_stopping(patience if is_flag(rule) and rule else rule)

    def _fit(self, images, targets, least, stratify=None):
        """Train the new network; with `early_stopping` on what is left beside so many samples at least."""
        epochs, rule = positive_int(self._where, "max_epochs", self.max_epochs), self._stopping_rule()
        data = {"X_train": images, "y_train": targets}
        if rule is not None:
            data = self._with_validation(images, targets, least, stratify)
        self._train(data, epochs, rule)

    def _train(self, data, epochs, early_stopping=None):
        """Train for so many epochs, with the optimizer's state of those before, if the rule is theirs."""
        for name, made_of in self._made_of.items():
            if repr(getattr(self, name)) != made_of:
                raise ValueError(
                    f"{self._where}: {name} was {made_of} when the network was made, with which partial_fit "
                    "goes on; fit makes a new one"
                )
        if early_stopping is None:
            # The Solver wants validation samples; one costs next to nothing, and nobody reads its accuracy.
            data = {**data, "X_val": data["X_train"][:1], "y_val": data["y_train"][:1]}
        # As they are now, in a later call of partial_fit too.
        self.model_.reg = number(self._where, "reg", self.reg, 0)
        self.model_.label_smoothing = 0.0  # unless the Solver sets it
        solver = Solver(
            self.model_,
            data,
            **{name: getattr(self, name) for name in _OF_THE_SOLVER},
            optim_config={"learning_rate": self.learning_rate},
            loss=self.loss,
            metrics=self._metric,
            preprocess=self.model_.preprocess,
            num_epochs=epochs,
            num_train_samples=1,
            keep="last" if early_stopping is None else "best",
            early_stopping=early_stopping,
            verbose=False,
            on_epoch=self._report if self.verbose else None,
            seed=self._seed(),
        )
        if self._rule == self.update_rule:
            for name, config in self._optim_configs.items():
                state = {key: item for key, item in config.items() if key not in _SETTINGS}
                solver.optim_configs[name].update(state)
        solver.train()
        self._optim_configs, self._rule = solver.optim_configs, self.update_rule
        self._predictor = prepare(self.model_)
        self.n_iter_ += solver.epoch
        self.loss_curve_ += _losses(solver)
        if early_stopping is not None:
            self.validation_scores_ = solver.histories[val_name(self._metric)][1:]
            self.best_validation_score_ = max(self.validation_scores_)

    def _with_validation(self, images, targets, least, stratify=None):
        """Set a share of the samples aside, of at least so many."""
        share = number(self._where, "validation_fraction", self.validation_fraction, 0, 1)
        count = max(math.ceil(share * len(images)), least)
        if count >= len(images):
            raise ValueError(
                f"{self._where}: early_stopping sets {count} samples aside, but X has n_samples={len(images)}"
            )
        parts = train_test_split(
            images, targets, test_size=count, stratify=stratify, random_state=self._random
        )
        return dict(zip(("X_train", "X_val", "y_train", "y_val"), parts, strict=True))

    def _report(self, solver):
        line = f"epoch {self.n_iter_ + solver.epoch}: loss {_losses(solver)[-1]:.4f}"
        if solver.options.early_stopping is not None:
            name = val_name(self._metric)
            line += f", {name} {solver.histories[name][-1]:.4f}"
        print(f"{line}, {solver.epoch_seconds[-1]:.1f} s", flush=True)

    def _seed(self):
        return int(self._random.randint(_SEEDS))


def _losses(solver):
    """The mean loss of each epoch's minibatches."""
    return np.mean(np.reshape(solver.loss_history, (solver.epoch, -1)), axis=1).tolist()
