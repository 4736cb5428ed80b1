"""A Solver's checkpoints: its settings and its state in a file, and the way back."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping
from typing import Any

from cnnlib._params import path_text
from cnnlib._typing import Trainable
from cnnlib.checkpoint import load_checkpoint, save_checkpoint
from cnnlib.models.state import check_model, restore
from cnnlib.solver.histories import known_name, measured
from cnnlib.solver.options import OPTIONS, is_own
from cnnlib.solver.state import check_content


def save_run(
    checkpoint_name: str, settings: Mapping[str, Any], run: Mapping[str, Any], interrupted: bool = False
) -> None:
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


def interrupted_path(checkpoint_name: str) -> str:
    """Name the checkpoint that an interrupted training leaves: the newest, wherever there is one."""
    return f"{checkpoint_name}_interrupted.npz"


def read_run(path: str, model: Any, goes_on: bool = True) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read settings and state (see :meth:`Solver.state`) from a checkpoint, checked against the model."""
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
    check_content(path, state, model, goes_on)
    if state["best"] is None:
        raise ValueError(f"{path} is no checkpoint of a Solver: it has no best parameters")
    _check_monitors(path, settings, state)
    averages = any(settings.get(name) is not None for name in ("ema_decay", "lookahead"))
    if averages != (state["average"] is not None):
        raise ValueError(f"{path} is damaged: its options and its averages do not fit together")
    return settings, state


def _check_monitors(path: str, settings: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Refuse a run that compares its epochs by something that it has not measured."""
    rule, monitor = settings.get("early_stopping"), settings.get("monitor")
    names = [monitor["name"] if isinstance(monitor, dict) else monitor]
    names += [rule.get("monitor")] if isinstance(rule, dict) else []
    for name in names:
        if name is not None and known_name(name, measured(state["histories"])) is None:
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
    >>> solver = Solver(model, load_digits(), num_epochs=1, checkpoint_name="run/net", verbose=False, seed=0)
    >>> histories = solver.train()
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


def checkpoint_prefix(path: str) -> str | None:
    """Return `folder/name` of `folder/name_epoch_K.npz` and `folder/name_interrupted.npz`; else None."""
    match = re.fullmatch(r"(.+)_(?:epoch_\d+|interrupted)\.npz", path, re.DOTALL)
    return None if match is None else match[1]
