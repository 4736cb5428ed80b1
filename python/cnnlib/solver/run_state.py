"""A Solver's state as plain values and arrays: the names of its parts, and the checks of one to be loaded."""

from __future__ import annotations

import copy
import math
import numbers

import numpy as np

from cnnlib._params import type_name
from cnnlib.models.state import check_state_fits
from cnnlib.solver.random_streams import set_random_state

COUNTERS = ("epoch", "best_val_acc", "best_epoch")
HISTORIES = {  # as a state calls them; those of other metrics than the accuracy are in its dict `metrics`
    "loss_history": "loss",
    "train_acc_history": "train_accuracy",
    "val_acc_history": "accuracy",
    "val_loss_history": "val_loss",
    "learning_rate_history": "learning_rate",
    "epoch_seconds": "epoch_seconds",
}
_CHECKED = ("train_acc_history", "val_acc_history", "val_loss_history")
_LATER = ("val_loss_history",)  # not in the checkpoints of the first versions
_OTHERS = (
    "params",
    "bn_params",
    "num_train",
    "best",
    "average",
    "augment_seed",
    "optim_configs",
    "random_state",
    "model_random_state",
)


def parts_of(histories):
    """The histories of a run as parts of its state."""
    arrays = {name: np.array(values, dtype=np.float64) for name, values in histories.items()}
    parts = {part: arrays.pop(name, np.empty(0)) for part, name in HISTORIES.items()}
    return {**parts, "metrics": arrays} if arrays else parts


def histories_of(state, names):
    """The inverse: lists by name; of those that an older state lacks, NaN for each epoch."""
    arrays = {name: state[part] for part, name in HISTORIES.items() if part in state}
    arrays |= state.get("metrics", {})
    epochs = max((len(arrays[name]) for name in arrays if name not in ("loss", "epoch_seconds")), default=0)
    return {name: arrays.get(name, np.full(epochs, math.nan)).tolist() for name in names}


def check_state(where, state, model):
    """Refuse a state that no Solver of such a model had; ValueError, whose message begins with `where`."""
    if not isinstance(state, dict):
        raise ValueError(f"{where}: the state must be a dict, got {type_name(state)}")
    missing = [name for name in (*COUNTERS, *HISTORIES, *_OTHERS) if name not in (*state, *_LATER)]
    if missing:
        raise ValueError(f"{where}: the state lacks {', '.join(missing)}")
    check_state_fits(where, model, {name: state[name] for name in ("params", "bn_params")})
    for name in ("best", "average"):
        if state[name] is not None:
            check_state_fits(where, model, state[name])
    _check_numbers(where, state)
    _check_histories(where, state)
    _check_configs(where, state["optim_configs"], model)
    _check_streams(where, state, model)


def _check_numbers(where, state):
    for name in ("epoch", "best_epoch", "num_train", "augment_seed", "patience_from"):
        value = state.get(name, 0)  # the last is not in the first versions' checkpoints
        if value is None and name == "augment_seed":
            continue
        if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 0:
            raise ValueError(f"{where}: {name} must be an integer of at least 0, got {value!r}")
    if state["best_epoch"] > state["epoch"]:
        raise ValueError(f"{where}: best_epoch is {state['best_epoch']} after {state['epoch']} epochs")
    for name in ("best_val_acc", "seconds"):
        value = state.get(name, 0.0)
        if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
            raise ValueError(f"{where}: {name} must be a number, got {value!r}")
    pending = state.get("pending")
    if pending is not None and not (isinstance(pending, list) and all(map(_is_batch, pending))):
        raise ValueError(f"{where}: pending must be a list of the indices of minibatches")


def _is_batch(rows):
    return isinstance(rows, np.ndarray) and rows.ndim == 1 and rows.dtype.kind in "iu"


def _check_histories(where, state):
    others = state.get("metrics", {})
    if not isinstance(others, dict):
        raise ValueError(f"{where}: metrics must be a dict of histories, got {type_name(others)}")
    histories = {name: state[name] for name in HISTORIES if name in state} | others
    for name, history in histories.items():
        if not _is_list(history):
            raise ValueError(f"{where}: {name} must be a one-dimensional array of float64")
    epoch = state["epoch"]
    begun = any(len(histories[name]) for name in histories if name in _CHECKED or name in others)
    for name, history in histories.items():
        want = epoch
        if name in _CHECKED or name in others:  # one more, from before the first epoch
            want = epoch + 1 if begun and not _is_unused(name, history) else 0
        if name != "loss_history" and len(history) != want:
            raise ValueError(f"{where}: {name} has {len(history)} entries after {epoch} epochs")
    if state["best"] is None and begun:
        raise ValueError(f"{where}: there are accuracies, but no best parameters")


def _is_unused(name, history):
    """Whether it is the history of accuracies in a run that does not measure them."""
    return name in ("train_acc_history", "val_acc_history") and not len(history)


def _is_list(history):
    return isinstance(history, np.ndarray) and history.ndim == 1 and history.dtype == np.float64


def _check_configs(where, configs, model):
    trained = [name for name in model.params if name not in getattr(model, "frozen", ())]
    if not isinstance(configs, dict) or set(configs) != set(trained):
        raise ValueError(f"{where}: optim_configs must be a dict with {', '.join(trained)}")
    for name, config in configs.items():
        if not isinstance(config, dict):
            raise ValueError(f"{where}: optim_configs[{name!r}] must be a dict, got {config!r}")


def _check_streams(where, state, model):
    streams = {"random_state": np.random.RandomState()}
    if state["model_random_state"] is not None:
        if getattr(model, "rng", None) is None:
            raise ValueError(f"{where}: there is a model_random_state, but the model has no stream `rng`")
        streams["model_random_state"] = copy.deepcopy(model.rng)
    for name, stream in streams.items():
        try:
            set_random_state(stream, state[name])
        except (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError) as error:
            raise ValueError(f"{where}: {name} is no state of such a stream: {error}") from error
