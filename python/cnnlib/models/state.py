"""What a Solver asks of a model, and copies of its state; see the protocol in cnnlib.models."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np

from cnnlib._params import hint, type_name
from cnnlib._params.functions import is_of_torch
from cnnlib._params.random import random_state, set_random_states
from cnnlib.checkpoint import check_name
from cnnlib.models.graph_model import GraphModel, Model

_STATISTICS = ("running_mean", "running_var")


def check_model(where: str, model: Any) -> None:
    """Refuse an object that is no model."""
    params: Any = getattr(model, "params", None)
    if not callable(getattr(model, "loss", None)) or not hasattr(params, "items"):
        advice = _advice(model)
        raise TypeError(
            f"{where}: a model needs a dict `params` and a method `loss`, got {type_name(model)}{advice}"
        )
    for name, value in params.items():
        check_name(name)
        if not isinstance(value, np.ndarray):
            raise TypeError(f"{where}: model.params[{name!r}] must be an ndarray, got {type_name(value)}")


def _advice(other: Any) -> str:
    """How an object could be meant that is no model."""
    if hasattr(other, "keys"):
        return "; the model comes first, then the data"
    if is_of_torch(other):
        return "; cnnlib.torch.from_module(module, input_dim) makes a model of a module"
    if isinstance(other, type):
        return f"; {other.__name__} is a class, {other.__name__}(...) makes a model"
    return ""


def checked_frozen(where: str, frozen: Collection[str], params: Collection[str]) -> tuple[str, ...]:
    """Names of parameters in their order; refuses others."""
    for name in frozen:
        if name not in params:
            raise ValueError(f"{where}: frozen names {name!r}, which is no parameter")
    return tuple(name for name in params if name in frozen)


def check_sample_shapes(model: Any, **splits: Any) -> None:
    """Refuse arrays, by their names, whose samples one of the library's models cannot take."""
    if isinstance(model, Model):
        for name, X in splits.items():
            model.check_samples("Solver", name, tuple(X.shape))


def snapshot(model: Any) -> dict[str, Any]:
    """A copy of the parameters, and of the arrays in the batch-norm dicts."""
    return {
        "params": {name: value.copy() for name, value in model.params.items()},
        "bn_params": statistics(model),
    }


def statistics(model: Any) -> dict[Any, dict[str, np.ndarray]]:
    """Copies of the arrays in the batch-norm dicts, under the keys of these."""
    return {key: _arrays(bn_param) for key, bn_param in _bn_items(model)}


def restore(model: Any, state: Any) -> None:
    """Give the model copies of a snapshot's arrays."""
    for name, value in state["params"].items():
        model.params[name] = value.copy()
    restore_statistics(model, state["bn_params"])


def restore_statistics(model: Any, saved: Any) -> None:
    """Give the batch-norm dicts copies of the arrays that :func:`statistics` returned."""
    for key, bn_param in _bn_items(model):
        for name in _arrays(bn_param):  # statistics that did not exist yet at that time
            if name not in saved[key]:
                del bn_param[name]
        bn_param.update({name: value.copy() for name, value in saved[key].items()})


@contextlib.contextmanager
def undone_on_error(model: Any, streams: Sequence[Any]) -> Iterator[None]:
    """Restore the running statistics and the random streams after an exception in the block."""
    running, states = statistics(model), list(map(random_state, streams))
    try:
        yield
    except BaseException:
        restore_statistics(model, running)
        set_random_states(streams, states)
        raise


def average_into(state: dict[str, Any], model: Any, share: float) -> None:
    """Move a snapshot's arrays towards the model's: ``value += share * (model's value - value)``."""
    for name, value in model.params.items():
        _move(state["params"], name, value, share)
    for key, bn_param in _bn_items(model):
        for name, value in bn_param.items():
            if isinstance(value, np.ndarray):
                _move(state["bn_params"][key], name, value, share)


def check_state_fits(where: str, model: Any, state: Any) -> None:
    """Refuse a snapshot that is not one of this model; the message begins with `where`."""
    if not isinstance(state, dict) or not all(
        isinstance(state.get(part), dict) for part in ("params", "bn_params")
    ):
        raise ValueError(f"{where}: parameters and bn_params must be dicts")
    for part in state:
        if part not in ("params", "bn_params"):
            raise ValueError(f"{where}: a snapshot has no part {part!r}, but params and bn_params")
    for what, saved, own in (
        ("parameters", state["params"], model.params),
        ("bn_params", state["bn_params"], dict(_bn_items(model))),
    ):
        if saved.keys() != own.keys():
            raise ValueError(
                f"{where} was written for another model: it has the {what} {', '.join(saved) or 'none'}, "
                f"the model has {', '.join(own) or 'none'}"
            )
    for name, value in model.params.items():
        saved = state["params"][name]
        if not isinstance(saved, np.ndarray):
            raise ValueError(f"{where}: {name} must be an array, got {type_name(saved)}")
        if saved.shape != value.shape or saved.dtype != value.dtype:
            raise ValueError(
                f"{where} was written for another model: its {name} is {saved.shape} {saved.dtype}, "
                f"the model's is {value.shape} {value.dtype}"
            )
    for key, bn_param in _bn_items(model):
        _check_statistics(f"{where}: bn_params {key}", model, bn_param, state["bn_params"][key])


def _check_statistics(where: str, model: Any, bn_param: Any, saved: Any) -> None:
    """Refuse arrays that are not those of a model's batch norm; the message begins with `where`."""
    if not isinstance(saved, dict) or not all(isinstance(value, np.ndarray) for value in saved.values()):
        raise ValueError(f"{where} must be a dict of arrays")
    held = {name: value for name, value in bn_param.items() if isinstance(value, np.ndarray)}
    known = dict.fromkeys((*_STATISTICS, *held))
    for name, value in saved.items():
        if name not in known:
            raise ValueError(f"{where}: unknown key {name!r}; {hint(name, known)}")
        own = held.get(name)
        if own is not None and value.shape != own.shape:
            raise ValueError(f"{where}: {name} must have shape {own.shape}, got {value.shape}")
        if value.dtype.kind != "f" and (own is None or value.dtype != own.dtype):
            raise ValueError(f"{where}: {name} must be real numbers, got dtype {value.dtype}")
    if isinstance(model, Model):  # its batch norms have both, or, before they are trained, none
        for name in _STATISTICS:
            if name not in saved and not saved.keys().isdisjoint(_STATISTICS):
                raise ValueError(f"{where} lacks {name}")


def set_label_smoothing(model: Any, label_smoothing: float | None, loss: Any) -> None:
    """Set the model's label smoothing unless it is None; ValueError if the model or its loss takes none."""
    if label_smoothing is None:
        return
    if not hasattr(model, "label_smoothing") or getattr(model, "criterion", None) is not None:
        raise ValueError(
            f"Solver: label_smoothing is up to the model, and this {type(model).__name__} does not know it"
        )
    if label_smoothing and loss is not None and loss.name != "softmax":
        raise ValueError(f"Solver: label_smoothing is of labels; the targets are numbers, for {loss.name}")
    model.label_smoothing = label_smoothing


def set_precision(model: Any, precision: str | None) -> str | None:
    """Set the model's precision unless it is None; return the one it has, None of a user's own model.

    ValueError if the model has none, or not this one.
    """
    if not isinstance(model, GraphModel):
        if precision is None:
            return None
        raise ValueError(
            f"Solver: precision={precision!r} is for the library's models, and this {type(model).__name__} "
            "is none: it computes as its own loss does"
        )
    if precision is not None and precision != model.precision:
        model.precision = precision
    return model.precision


def _bn_items(model):
    """Pairs of a key, as a str, and a batch-norm dict."""
    bn_params = getattr(model, "bn_params", None) or {}
    items = bn_params.items() if hasattr(bn_params, "items") else enumerate(bn_params)
    return [(str(key), bn_param) for key, bn_param in items]


def _move(arrays, name, value, share):
    if name in arrays:
        arrays[name] += arrays[name].dtype.type(share) * (value - arrays[name])
    else:  # statistics that the snapshot did not have yet
        arrays[name] = value.copy()


def _arrays(bn_param):
    return {name: value.copy() for name, value in bn_param.items() if isinstance(value, np.ndarray)}
