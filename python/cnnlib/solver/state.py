"""The state of a training: all that a checkpoint holds beside the options, in memory and as plain values."""

from __future__ import annotations

import copy
import numbers
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from cnnlib._params import type_name
from cnnlib._params.random import random_state, set_random_state
from cnnlib.models.state import check_state_fits, restore, snapshot
from cnnlib.solver.histories import Histories, measured, new_histories

Snapshot: TypeAlias = dict[str, Any]  # parameters and batch-norm statistics, see cnnlib.models.state

_PARTS = (
    *("params", "bn_params", "epoch", "best_epoch", "num_train", "histories", "best", "average"),
    *("augment_seed", "optim_configs", "random_state", "model_random_state"),
    *("pending", "seconds", "patience_from"),
)


@dataclass
class TrainingState:
    """How far a training has come; the newest parameters are the model's.

    Attributes
    ----------
    histories : Histories
    optim_configs : dict
        The update rule's config and state for each parameter that is trained.
    random : RandomState or module
        The Solver's stream; ``np.random`` itself where there is no seed.
    average : Snapshot or None
        The averaged or slow weights, if there are any.
    epoch, best_epoch : int
        Epochs completed; the best one.
    best, last : Snapshot or None
        The model of the best epoch. The newest one, while the model itself holds the best parameters.
    patience_from : int
        The epoch from which early stopping counts.
    augment_seed : int or None
        Drawn when a training with augmentation starts.
    pending : list or None
        Indices of the minibatches that are left of an epoch that is under way, the next one at the end.
    seconds : float
        Time spent on that epoch so far.
    np_random_state : dict or None
        The state of ``np.random`` to put back when a run without a seed goes on.
    """

    histories: Histories
    optim_configs: dict[str, dict[str, Any]]
    random: Any
    average: Snapshot | None = None
    epoch: int = 0
    best_epoch: int = 0
    best: Snapshot | None = None
    last: Snapshot | None = None
    patience_from: int = 0
    augment_seed: int | None = None
    pending: list[Any] | None = None
    seconds: float = 0.0
    np_random_state: Any = None

    @property
    def iteration(self) -> int:
        """Iterations completed."""
        return len(self.histories["loss"])

    @property
    def begun(self) -> bool:
        """True if the untrained model has been measured."""
        return bool(self.histories["val_loss"])

    def at_best(self, name: str) -> float | None:
        """Return the value of a history at the best epoch; None if there is none."""
        history = self.histories.get(name)
        return history[self.best_epoch] if history else None

    def content(self, model: Any, num_train: int) -> dict[str, Any]:
        """Copy the state, the model's parameters included, into plain values that a checkpoint can hold."""
        content = {
            **(snapshot(model) if self.last is None else self.last),
            "epoch": self.epoch,
            "best_epoch": self.best_epoch,
            "num_train": num_train,
            "histories": {name: np.array(values, np.float64) for name, values in self.histories.items()},
            "best": self.best,
            "average": self.average,
            "augment_seed": self.augment_seed,
            "optim_configs": self.optim_configs,
            "random_state": self.np_random_state or random_state(self.random),
            "model_random_state": random_state(getattr(model, "rng", None)),
            "pending": self.pending,
            "seconds": self.seconds,
            "patience_from": self.patience_from,
        }
        return copy.deepcopy(content)

    def take(self, content: Mapping[str, Any], model: Any) -> None:
        """Become the state that :meth:`content` has copied, which has been checked, with the model's part.

        The lists of the histories stay the same objects.
        """
        content = copy.deepcopy(dict(content))
        restore(model, content)
        for name, history in self.histories.items():
            history[:] = content["histories"][name].tolist()
        self.optim_configs = content["optim_configs"]
        self.average = content["average"]
        self.epoch, self.best_epoch = content["epoch"], content["best_epoch"]
        self.best, self.last = content["best"], None
        self.patience_from = content["patience_from"]
        self.augment_seed = content["augment_seed"]
        self.pending, self.seconds = content["pending"], content["seconds"]
        if self.random is np.random:
            self.np_random_state = content["random_state"]
        else:
            set_random_state(self.random, content["random_state"])
        if content["model_random_state"] is not None:
            set_random_state(getattr(model, "rng", None), content["model_random_state"])


def check_content(where: str, content: Any, model: Any, goes_on: bool = True) -> None:
    """Refuse plain values that are no :meth:`TrainingState.content` of this model.

    The ValueError's message begins with `where`. If the training `goes_on` from there, the model must train
    the same parameters, and have a stream if it had one.
    """
    if not isinstance(content, dict):
        raise ValueError(f"{where}: the state must be a dict, got {type_name(content)}")
    missing = [name for name in _PARTS if name not in content]
    if missing:
        raise ValueError(f"{where}: the state lacks {', '.join(missing)}")
    check_state_fits(where, model, {name: content[name] for name in ("params", "bn_params")})
    for name in ("best", "average"):
        if content[name] is not None:
            check_state_fits(where, model, content[name])
    seed, pending, configs = content["augment_seed"], content["pending"], content["optim_configs"]
    counts = ("epoch", "best_epoch", "num_train", "patience_from")
    rules = {
        **{name: (_is_count(content[name]), "an integer of at least 0") for name in counts},
        "augment_seed": (seed is None or _is_count(seed), "an integer of at least 0"),
        "seconds": (_is_real(content["seconds"]), "a number"),
        "pending": (pending is None or _are_batches(pending), "a list of the indices of minibatches"),
        "optim_configs": (_are_dicts(configs, model.params), "a dict with a dict for each parameter"),
    }
    for name, (fits, expected) in rules.items():
        if not fits:
            raise ValueError(f"{where}: {name} must be {expected}, got {content[name]!r:.200}")
    if content["best_epoch"] > content["epoch"]:
        raise ValueError(f"{where}: best_epoch is {content['best_epoch']} after {content['epoch']} epochs")
    _check_histories(where, content)
    if goes_on:
        trained = [name for name in model.params if name not in getattr(model, "frozen", ())]
        if set(configs) != set(trained):
            raise ValueError(
                f"{where}: the run trained {', '.join(configs) or 'nothing'}, the model trains "
                f"{', '.join(trained) or 'nothing'}: freeze the same parameters"
            )
        _check_streams(where, content, model)


def _is_count(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and int(value) >= 0


def _is_real(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _are_batches(values: Any) -> bool:
    arrays = isinstance(values, list) and all(isinstance(rows, np.ndarray) for rows in values)
    return arrays and all(rows.ndim == 1 and rows.dtype.kind in "iu" for rows in values)


def _are_dicts(values: Any, names: Collection[str]) -> bool:
    dicts = isinstance(values, dict) and all(isinstance(value, dict) for value in values.values())
    return dicts and set(values) <= set(names)


def _check_histories(where: str, content: Mapping[str, Any]) -> None:
    histories, epoch = content["histories"], content["epoch"]
    if not isinstance(histories, dict):
        raise ValueError(f"{where}: histories must be a dict, got {type_name(histories)}")
    missing = [name for name in new_histories(()) if name not in histories]
    if missing:
        raise ValueError(f"{where}: histories lacks {', '.join(missing)}")
    for name, history in histories.items():
        if not (isinstance(history, np.ndarray) and history.ndim == 1 and history.dtype == np.float64):
            raise ValueError(f"{where}: histories {name} must be a one-dimensional array of float64")
    of_models = measured(histories)
    begun = any(len(histories[name]) for name in of_models)
    for name, history in histories.items():
        want = epoch
        if name in of_models:  # one more, from before the first epoch
            want = epoch + 1 if begun else 0
        if name != "loss" and len(history) != want:
            raise ValueError(f"{where}: histories {name} has {len(history)} entries after {epoch} epochs")
    if content["best"] is None and begun:
        raise ValueError(f"{where}: the model has been measured, but there are no best parameters")


def _check_streams(where: str, content: Mapping[str, Any], model: Any) -> None:
    streams: dict[str, Any] = {"random_state": np.random.RandomState()}
    if content["model_random_state"] is not None:
        if getattr(model, "rng", None) is None:
            raise ValueError(f"{where}: there is a model_random_state, but the model has no stream `rng`")
        streams["model_random_state"] = copy.deepcopy(model.rng)
    for name, stream in streams.items():
        try:
            set_random_state(stream, content[name])
        except (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError) as error:
            raise ValueError(f"{where}: {name} is no state of such a stream: {error}") from error
