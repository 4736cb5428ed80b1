"""A Solver's checkpoints: its settings and its state in a file, and the way back."""

from __future__ import annotations

import contextlib
import copy
import numbers
import os
import re

import numpy as np

from cnnlib._params import path_text, type_name
from cnnlib._params.random import set_random_state
from cnnlib._typing import Trainable
from cnnlib.checkpoint import load_checkpoint, save_checkpoint
from cnnlib.models.state import check_model, check_state_fits, restore
from cnnlib.solver.options import OPTIONS, is_own

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
_SNAPSHOTS = ("best", "average")
_OTHERS = (
    *("num_train", "augment_seed", "optim_configs", "random_state", "model_random_state"),
    *("pending", "seconds", "patience_from"),
)


def parts_of(histories):
    """The histories of a run as parts of its state."""
    arrays = {name: np.array(values, dtype=np.float64) for name, values in histories.items()}
    parts = {part: arrays.pop(name, np.empty(0)) for part, name in HISTORIES.items()}
    return {**parts, "metrics": arrays} if arrays else parts


def histories_of(state, names):
    """The inverse: lists by name."""
    arrays = {name: state[part] for part, name in HISTORIES.items()} | state.get("metrics", {})
    return {name: arrays[name].tolist() for name in names}


def check_state(where, state, model, goes_on=True):
    """Validate a state against a model; the ValueError's message begins with `where`.

    If the training `goes_on` from it, the model must train the same parameters, and have a stream if it had.
    """
    if not isinstance(state, dict):
        raise ValueError(f"{where}: the state must be a dict, got {type_name(state)}")
    wanted = ("params", "bn_params", *COUNTERS, *HISTORIES, *_SNAPSHOTS, *_OTHERS)
    missing = [name for name in wanted if name not in state]
    if missing:
        raise ValueError(f"{where}: the state lacks {', '.join(missing)}")
    check_state_fits(where, model, {name: state[name] for name in ("params", "bn_params")})
    for name in _SNAPSHOTS:
        if state[name] is not None:
            check_state_fits(where, model, state[name])
    seed, pending, configs = state["augment_seed"], state["pending"], state["optim_configs"]
    counts = ("epoch", "best_epoch", "num_train", "patience_from")
    rules = {
        **{name: (_is_count(state[name]), "an integer of at least 0") for name in counts},
        "augment_seed": (seed is None or _is_count(seed), "an integer of at least 0"),
        **{name: (_is_real(state[name]), "a number") for name in ("best_val_acc", "seconds")},
        "pending": (pending is None or _are_batches(pending), "a list of the indices of minibatches"),
        "metrics": (isinstance(state.get("metrics", {}), dict), "a dict of histories"),
        "optim_configs": (_are_dicts(configs, model.params), "a dict with a dict for each parameter"),
    }
    for name, (fits, expected) in rules.items():
        if not fits:
            raise ValueError(f"{where}: {name} must be {expected}, got {state[name]!r:.200}")
    if state["best_epoch"] > state["epoch"]:
        raise ValueError(f"{where}: best_epoch is {state['best_epoch']} after {state['epoch']} epochs")
    _check_histories(where, state)
    if goes_on:
        trained = [name for name in model.params if name not in getattr(model, "frozen", ())]
        if set(configs) != set(trained):
            raise ValueError(
                f"{where}: the run trained {', '.join(configs) or 'nothing'}, the model trains "
                f"{', '.join(trained) or 'nothing'}: freeze the same parameters"
            )
        _check_streams(where, state, model)


def _is_count(value):
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and int(value) >= 0


def _is_real(value):
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _are_batches(values):
    arrays = isinstance(values, list) and all(isinstance(rows, np.ndarray) for rows in values)
    return arrays and all(rows.ndim == 1 and rows.dtype.kind in "iu" for rows in values)


def _are_dicts(values, names):
    dicts = isinstance(values, dict) and all(isinstance(value, dict) for value in values.values())
    return dicts and set(values) <= set(names)


def _check_histories(where, state):
    others = state.get("metrics", {})
    histories = {name: state[name] for name in HISTORIES} | others
    for name, history in histories.items():
        if not (isinstance(history, np.ndarray) and history.ndim == 1 and history.dtype == np.float64):
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


def save_run(checkpoint_name, settings, run, interrupted=False):
    """Write the checkpoint of an epoch that is complete, and remove one from within it; or `interrupted` one.

    `settings` are the Solver's options as they are saved, `run` is its :meth:`~cnnlib.solver.Solver.state`.
    """
    within = interrupted_path(checkpoint_name)
    path = within if interrupted else f"{checkpoint_name}_epoch_{run['epoch']}.npz"
    content = {"settings": settings, "run": {name: part for name, part in run.items() if name != "params"}}
    save_checkpoint(run["params"], path, content)
    if not interrupted:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(within)


def interrupted_path(checkpoint_name):
    """The checkpoint that an interrupted training leaves: the newest, wherever there is one."""
    return f"{checkpoint_name}_interrupted.npz"


def read_run(path, model, goes_on=True):
    """Settings and state (see :meth:`Solver.state`) in the checkpoint `path`, checked against the model."""
    params, content = load_checkpoint(path)
    for part in ("settings", "run"):
        if not isinstance(content, dict) or not isinstance(content.get(part), dict):
            raise ValueError(f"{path} is no checkpoint of a Solver: it has no {part}")
    settings, state = content["settings"], {"params": params, **content["run"]}
    for name, value in settings.items():
        if name not in OPTIONS:
            raise ValueError(f"{path} is damaged: the Solver has no option {name!r}")
        if not is_own(value):
            try:
                OPTIONS[name].check(name, value)
            except (TypeError, ValueError) as error:
                raise ValueError(f"{path} is damaged: {error}") from error
    missing = [name for name, option in OPTIONS.items() if option.saved is not None and name not in settings]
    if missing:
        raise ValueError(f"{path} is damaged: its settings lack {', '.join(missing)}")
    check_state(path, state, model, goes_on)
    if state["best"] is None:
        raise ValueError(f"{path} is no checkpoint of a Solver: it has no best parameters")
    _check_monitors(path, settings, state)
    averages = any(settings.get(name) is not None for name in ("ema_decay", "lookahead"))
    if averages != (state["average"] is not None):
        raise ValueError(f"{path} is damaged: its options and its averages do not fit together")
    return settings, state


def _check_monitors(path, settings, state):
    """Refuse a run that compares its epochs by something that it has not measured."""
    rule, monitor = settings.get("early_stopping"), settings.get("monitor")
    names = [monitor["name"] if isinstance(monitor, dict) else monitor]
    names += [rule.get("monitor")] if isinstance(rule, dict) else []
    for name in names:
        if name is not None and name not in ("accuracy", "val_acc", "val_loss", *state.get("metrics", {})):
            raise ValueError(f"{path} is damaged: it monitors {name!r}, which it has not measured")


def load_weights(path: str | os.PathLike[str], model: Trainable, which: str = "best") -> None:
    """Give `model` the parameters and batch-norm statistics in a Solver's checkpoint.

    Parameters
    ----------
    path : str or path
    model : object
        With the same parameters (names, shapes, dtypes) as the one that was saved.
    which : 'best' or 'last'
        Those of the best epoch so far, or of the epoch after which the file was written.

    Raises
    ------
    ValueError
        If the file is damaged, foreign or from another model; the message names it.
    OSError
        If it cannot be read.

    Examples
    --------
    >>> from cnnlib.data import load_digits
    >>> from cnnlib.models import FullyConnectedNet
    >>> from cnnlib.solver import Solver
    >>> model = FullyConnectedNet([20], 64, seed=0)
    >>> Solver(model, load_digits(), num_epochs=1, checkpoint_name="run/net", verbose=False, seed=0).train()
    >>> other = FullyConnectedNet([20], 64, seed=1)
    >>> load_weights("run/net_epoch_1.npz", other)
    >>> np.array_equal(other.params["W1"], model.params["W1"])
    True
    """
    if which not in ("best", "last"):
        raise ValueError(f"load_weights: which must be 'best' or 'last', got {which!r}")
    check_model("load_weights", model)
    _, state = read_run(path_text("load_weights", "path", path), model, goes_on=False)
    restore(model, state["best"] if which == "best" else state)


def checkpoint_prefix(path):
    """`folder/name` of `folder/name_epoch_K.npz` and `folder/name_interrupted.npz`; None for other names."""
    match = re.fullmatch(r"(.+)_(?:epoch_\d+|interrupted)\.npz", path, re.DOTALL)
    return match and match[1]
