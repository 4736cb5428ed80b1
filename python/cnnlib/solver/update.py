"""From gradients to new parameters: the update rule, averages of the weights, why a step failed."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from cnnlib import _core
from cnnlib._params import hint, number, type_name
from cnnlib.models.state import average_into, restore, snapshot
from cnnlib.solver.options import rule_name


class Updater:
    """The update rule and all that bears on the learning rate.

    The arguments are the Solver's of the same names, checked (see :mod:`cnnlib.solver.options`). The
    rule's config and state for each parameter are made by :meth:`first_configs` and changed by each step.
    """

    def __init__(
        self,
        params,
        *,
        update_rule,
        optim_config,
        lr_decay=1.0,
        schedule=None,
        weight_decay=None,
        clip_norm=None,
        rate_factors=None,
    ):
        self.rule, self.rule_name = update_rule, rule_name(update_rule)
        self.lr_decay, self.schedule = lr_decay, schedule
        self.weight_decay, self.clip_norm = weight_decay, clip_norm
        self.rate_factors = rate_factors or {}
        _check_names(self.rate_factors, params)
        self.base_rate = _base_rate(self.rule, self.rule_name, optim_config)
        used = {"lr_decay": lr_decay != 1, "schedule": schedule, "rate_factors": rate_factors}
        used["weight_decay"] = weight_decay is not None
        for name, is_used in used.items():
            if is_used and self.base_rate is None:
                raise ValueError(f"Solver: {name} needs a learning_rate in optim_config")
        self._optim_config = optim_config

    def first_configs(self, params, frozen=()):
        """Make the config of each parameter that is not frozen, with which a training begins."""
        configs = {name: copy.deepcopy(self._optim_config) for name in params if name not in frozen}
        for name, config in configs.items():
            if self._factor(name) != 1:
                config["learning_rate"] = self.base_rate * self._factor(name)
        if self.weight_decay is not None and self.rule_name == "adamw":  # the rule decays all that it updates
            for name, config in configs.items():
                config["weight_decay"] = self.weight_decay if _decays(params[name]) else 0.0
        return configs

    def step(self, params, grads, configs, epoch, num_epochs):
        """Update `params` and `configs`; `epoch` is how far the training has come.

        FloatingPointError if gradients that should be clipped are not finite; nothing has changed then.
        """
        scale = 1.0 if self.clip_norm is None else _clipping(grads, self.clip_norm)
        rate = None
        if self.schedule is not None:
            rate = self.base_rate * number("Solver", "schedule's factor", self.schedule(epoch, num_epochs))
        for name, dw in grads.items():
            w, config = params[name], configs[name]
            if rate is not None:
                config["learning_rate"] = rate * self._factor(name)
            if self.weight_decay is not None and self.rule_name != "adamw" and _decays(w):
                shrink = config.get("learning_rate", self.base_rate) * self.weight_decay
                w -= w.dtype.type(shrink) * w
            if self.rule_name is not None:
                new, configs[name] = self.rule(w, dw, config, scale=scale)
            else:
                made = self.rule(w, dw if scale == 1 else dw * scale, config)
                if not (isinstance(made, tuple) and len(made) == 2):
                    raise TypeError(
                        f"Solver: update_rule must return (next_w, config), got {type_name(made)}"
                    )
                new, configs[name] = made
            params[name] = np.asanyarray(new)  # arithmetic on arrays of no dimension gives scalars

    def step_at(self, rate, params, grads, configs):
        """Update with this learning rate, whatever the configs say."""
        for name, config in configs.items():
            config["learning_rate"] = rate * self._factor(name)
        self.step(params, grads, configs, 0, 1)

    def end_epoch(self, configs):
        """Let the learning rate decay; return the one that the epoch's last step had (NaN if unknown)."""
        rates = (
            float(config.get("learning_rate", math.nan)) / self._factor(name)
            for name, config in configs.items()
            if self._factor(name)
        )
        rate = next(rates, math.nan)
        if self.lr_decay != 1:
            for config in configs.values():
                config["learning_rate"] = config.get("learning_rate", self.base_rate) * self.lr_decay
        return rate

    def _factor(self, name):
        return self.rate_factors.get(name, self.rate_factors.get(_kind(name), 1.0))


def checked_gradients(params, grads, frozen=()):
    """The gradient of each parameter that is not frozen, in their order, each of its parameter's shape."""
    checked = {}
    for name, w in params.items():
        if name in frozen:
            continue
        dw = grads.get(name)
        if dw is None or np.shape(dw) != w.shape:
            came = "is missing" if dw is None else f"has shape {np.shape(dw)}"
            raise ValueError(f"Solver: the model's gradient of {name} {came}, expected shape {w.shape}")
        checked[name] = dw
    return checked


def _base_rate(rule, name, config):
    """The learning rate that a run starts with; None for a user's own rule that is given none.

    A rule of cnnlib.optim takes a step with the settings, and refuses those that it could not use.
    """
    if name is None:
        return config.get("learning_rate")
    settings = {key: value for key, value in config.items() if np.ndim(value) == 0}  # no state that is given
    _, settings = rule(np.zeros(1), np.zeros(1), settings)
    return settings["learning_rate"]


def _kind(name):
    """Return the kind of a parameter: ``beta`` for ``beta12``."""
    return name.rstrip("0123456789")


def _check_names(rate_factors, params):
    known = sorted({*params, *map(_kind, params)})
    for name in rate_factors:
        if name not in known:
            reason = f"the model has no parameter {name!r}; {hint(name, known)}"
            raise ValueError(f"Solver: rate_factors: {reason}")


def _decays(w):
    """Weight decay spares biases and norms' scales and shifts, which have one dimension."""
    return w.ndim > 1


def _clipping(grads, clip_norm):
    """The factor, 1 at most, that brings the gradients' joint Euclidean norm down to `clip_norm`.

    (Pascanu et al. 2012, arXiv:1211.5063.)
    """
    norm = math.sqrt(sum(map(_sum_of_squares, grads.values())))
    if not math.isfinite(norm):
        raise FloatingPointError("the gradient is not finite")
    return 1.0 if norm <= clip_norm else clip_norm / norm


def _sum_of_squares(dw):
    """The squared norm of a gradient, summed in float64."""
    dw = np.asarray(dw)
    dtype = dw.dtype if dw.dtype in (np.float32, np.float64) and dw.dtype.isnative else np.float64
    return _core.sum_of_squares(np.require(dw, dtype, ("C", "A")))


# Averages of the weights, batch-norm statistics included; `average` is a snapshot, see cnnlib.models.state.


class MovingAverage:
    """After iteration t ``average = d * average + (1 - d) * new``; ``d = min(decay, (1 + t) / (10 + t))``."""

    def __init__(self, decay):
        self.decay = decay

    def after_iteration(self, average, model, t, total):
        """Take account of the model's parameters after iteration `t` (1, 2, ...) of `total`."""
        average_into(average, model, 1 - min(self.decay, (1 + t) / (10 + t)))


class Lookahead:
    """Every `steps` iterations: ``average = d * average + (1 - d) * new``, and the model goes on from there.

    ``d = decay**steps * (t / total)**power`` grows with the iterations t.
    """

    def __init__(self, steps, decay, power):
        self.steps, self.decay, self.power = steps, decay, power

    def after_iteration(self, average, model, t, total):
        """Every `steps` iterations move the slow weights, and the model onto them."""
        if t % self.steps == 0:
            d = self.decay**self.steps * min(t / total, 1.0) ** self.power
            average_into(average, model, 1 - d)
            restore(model, average)


def averaging(ema_decay, lookahead):
    """Build the average for `ema_decay` or `lookahead`; None for neither."""
    if lookahead is not None:
        return Lookahead(**lookahead)
    return None if ema_decay is None else MovingAverage(ema_decay)


@contextlib.contextmanager
def holding(average, model):
    """Let the model hold the average, if there is one."""
    if average is None:
        yield
        return
    newest = snapshot(model)
    restore(model, average)
    try:
        yield
    finally:
        restore(model, newest)


def fault_of_data(X: np.ndarray, arrays: Sequence[tuple[str, Any]], rows: Iterable[int]) -> str | None:
    """Say why the images X that the model saw, or their targets, are not finite; None if they are.

    They were made of these rows of `arrays`, the images first.
    """
    finite = _finite(X)
    fault = fault_of_rows(arrays[1:] if finite else arrays, rows)
    if fault is None and not finite:
        return (
            f"the images of {arrays[0][0]} are finite, but preprocess or augment made NaN or infinity of them"
        )
    return fault


def fault_of_rows(arrays: Sequence[tuple[str, Any]], rows: Iterable[int]) -> str | None:
    """Name the first of these rows of `arrays` that is not finite; None if all are."""
    for name, array in arrays:
        for row in rows:
            if not _finite(array[row]):
                return f"{name}[{row}] holds NaN or infinity: the data are at fault, not the learning rate"
    return None


def fault_of_params(params: Mapping[str, np.ndarray]) -> str | None:
    """Name the first parameter that is not finite; None if all are."""
    for name, value in params.items():
        if not _finite(value):
            return f"the parameter {name} holds NaN or infinity; a lower learning rate may help"
    return None


def _finite(values):
    values = np.asarray(values)
    return values.dtype.kind not in "fc" or bool(np.isfinite(values).all())
