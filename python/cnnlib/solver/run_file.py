"""What a Solver's checkpoint holds of the run, beside the parameters."""

import os
import re

import numpy as np

from cnnlib._registry import OWN
from cnnlib.checkpoint import load_checkpoint, save_checkpoint
from cnnlib.schedules import SCHEDULES
from cnnlib.solver.model_state import (
    check_model,
    check_state_fits,
    random_state,
    restore,
    set_random_state,
    snapshot,
)

__all__ = ["checkpoint_prefix", "load_weights", "read_run", "save_run", "set_run"]

_COUNTERS = ("epoch", "best_val_acc", "best_epoch")
_HISTORIES = (
    "loss_history",
    "train_acc_history",
    "val_acc_history",
    "learning_rate_history",
    "epoch_seconds",
)
_SETTINGS = (
    "optim_config",
    "lr_decay",
    "rate_factors",
    "weight_decay",
    "clip_norm",
    "label_smoothing",
    "ema_decay",
    "lookahead",
    "prefetch",
    "batch_size",
    "num_epochs",
    "num_train_samples",
    "num_val_samples",
    "keep",
    "print_every",
    "checkpoint_name",
    "sampling",
)


_DESCRIBED = ("update_rule", "schedule", "augment", "verbose", "seed")
_RUN = ("num_train", "average", "augment_seed", "optim_configs", "random_state", "model_random_state")


def save_run(solver):
    """Write the checkpoint of the epoch that `solver` has completed."""
    settings = {name: getattr(solver, name) for name in _SETTINGS}
    settings |= {
        "update_rule": solver._updater.rule_name or OWN,
        "schedule": None if solver.schedule is None else SCHEDULES.describe(solver.schedule),
        "augment": solver._augment_description,
        "verbose": bool(solver.verbose),
        "seed": None if solver.seed is None else int(solver.seed),
    }
    run = {name: getattr(solver, name) for name in _COUNTERS}
    run |= {name: np.array(getattr(solver, name), dtype=np.float64) for name in _HISTORIES}
    run |= {
        "num_train": len(solver.X_train),
        "bn_params": snapshot(solver.model)["bn_params"],
        "best": solver._best,
        "average": solver._average,
        "augment_seed": solver._augment_seed,
        "optim_configs": solver.optim_configs,
        "random_state": random_state(solver._random),
        "model_random_state": random_state(getattr(solver.model, "rng", None)),
    }
    path = f"{solver.checkpoint_name}_epoch_{solver.epoch}.npz"
    save_checkpoint(path, solver.model.params, {"settings": settings, "run": run})


def set_run(solver, run):
    """The inverse of the above, for all but the settings and the model's arrays."""
    for name in _COUNTERS:
        setattr(solver, name, run[name])
    for name in _HISTORIES:
        setattr(solver, name, run[name].tolist())
    solver._best, solver._average = run["best"], run["average"]
    solver._augment_seed = run["augment_seed"]
    solver._updater.configs = run["optim_configs"]
    if solver.seed is None:
        solver._resumed_random_state = run["random_state"]
    else:
        set_random_state(solver._random, run["random_state"])
    if run["model_random_state"] is not None:
        set_random_state(getattr(solver.model, "rng", None), run["model_random_state"])


def read_run(path, model):
    """Settings, state and current snapshot in the checkpoint `path`, checked against the model."""
    params, state = load_checkpoint(path)
    try:
        settings, run = state["settings"], state["run"]
        current = {"params": params, "bn_params": run["bn_params"]}
        missing = {*_COUNTERS, *_HISTORIES, *_RUN} - set(run) | {*_SETTINGS, *_DESCRIBED} - set(settings)
        if missing:
            raise KeyError(*missing)
        best = run["best"]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is no checkpoint of a Solver: {error!r}") from error
    for saved in (current, best):
        check_state_fits(path, model, saved)
    return settings, run, current


def load_weights(path, model, which="best"):
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
    """
    if which not in ("best", "last"):
        raise ValueError(f"load_weights: which must be 'best' or 'last', got {which!r}")
    check_model("load_weights", model)
    _, run, current = read_run(os.fspath(path), model)
    restore(model, run["best"] if which == "best" else current)


def checkpoint_prefix(path):
    """`folder/name` of `folder/name_epoch_K.npz`; None for a file that was given another name."""
    match = re.fullmatch(r"(.+)_epoch_\d+\.npz", path, re.DOTALL)
    return match and match[1]
