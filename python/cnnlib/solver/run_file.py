"""A Solver's checkpoints: its settings and its state in a file, and the way back."""

from __future__ import annotations

import contextlib
import os
import re

from cnnlib._typing import Trainable
from cnnlib.checkpoint import load_checkpoint, save_checkpoint
from cnnlib.models.state import check_model, restore
from cnnlib.solver.options import OPTIONS, is_own
from cnnlib.solver.run_state import check_state


def save_run(checkpoint_name, epoch, settings, run):
    """Write the checkpoint of an epoch that is complete; one from within that epoch goes.

    `settings` are the Solver's options as they are saved, `run` is its :meth:`~cnnlib.solver.Solver.state`.
    """
    _write(f"{checkpoint_name}_epoch_{epoch}.npz", settings, run)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(interrupted_path(checkpoint_name))


def save_interrupted(checkpoint_name, settings, run):
    """Write a checkpoint from within an epoch."""
    _write(interrupted_path(checkpoint_name), settings, run)


def interrupted_path(checkpoint_name):
    """The checkpoint that an interrupted training leaves: the newest, wherever there is one."""
    return f"{checkpoint_name}_interrupted.npz"


def _write(path, settings, run):
    content = {"settings": settings, "run": {name: part for name, part in run.items() if name != "params"}}
    save_checkpoint(run["params"], path, content)


def read_run(path, model):
    """Settings and state (see :meth:`Solver.state`) in the checkpoint `path`, checked against the model."""
    params, content = load_checkpoint(path)
    for part in ("settings", "run"):
        if not isinstance(content, dict) or not isinstance(content.get(part), dict):
            raise ValueError(f"{path} is no checkpoint of a Solver: it has no {part}")
    settings, state = content["settings"], {"params": params, **content["run"]}
    for name, value in settings.items():
        if name not in OPTIONS:
            raise ValueError(
                f"{path} is damaged, or newer than this cnnlib: the Solver has no option {name!r}"
            )
        if not is_own(value):
            try:
                OPTIONS[name].check(name, value)
            except (TypeError, ValueError) as error:
                raise ValueError(f"{path} is damaged: {error}") from error
    check_state(path, state, model)
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
    >>> from cnnlib.models import TwoLayerNet
    >>> from cnnlib.solver import Solver
    >>> model = TwoLayerNet(64, 20, 10, seed=0)
    >>> Solver(model, load_digits(), num_epochs=1, checkpoint_name="run/net", verbose=False, seed=0).train()
    >>> other = TwoLayerNet(64, 20, 10, seed=1)
    >>> load_weights("run/net_epoch_1.npz", other)
    >>> np.array_equal(other.params["W1"], model.params["W1"])
    True
    """
    if which not in ("best", "last"):
        raise ValueError(f"load_weights: which must be 'best' or 'last', got {which!r}")
    check_model("load_weights", model)
    _, state = read_run(os.fspath(path), model)
    restore(model, state["best"] if which == "best" else state)


def checkpoint_prefix(path):
    """`folder/name` of `folder/name_epoch_K.npz` and `folder/name_interrupted.npz`; None for other names."""
    match = re.fullmatch(r"(.+)_(?:epoch_\d+|interrupted)\.npz", path, re.DOTALL)
    return match and match[1]
