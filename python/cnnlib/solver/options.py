"""The Solver's options, a row each: how a value is checked, what a checkpoint holds of it, how the command
line gives it.

A new option is named in the Solver's signature, explained in its docstring, and gets a row here; checks,
checkpoints, resumption, the settings of a run and ``cnnlib train --help`` follow.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cnnlib import optim
from cnnlib._params import check_keys, choice, integer, number, positive_int, probability
from cnnlib._random import random_stream
from cnnlib._registry import OWN
from cnnlib.augment import build_augmentation, describe_augmentation
from cnnlib.data.normalization import PREPROCESSING
from cnnlib.distributed.communicator import as_communicator
from cnnlib.schedules import SCHEDULES
from cnnlib.solver.early_stopping import build_early_stopping, describe_early_stopping

__all__ = ["OPTIONS", "Flag", "Option", "check_options", "is_own", "refuse_unknown", "rule_name"]

_OF_RULES = {  # keys of optim_config
    **{name: name for name in ("learning_rate", "momentum", "decay_rate", "beta1", "beta2", "epsilon")},
    "lr": "learning_rate",
}
_RULES = {name: getattr(optim, name) for name in optim.__all__}


@dataclass(frozen=True)
class Flag:
    """An option of ``cnnlib train``.

    `kind` is the form of its text, a key of :data:`cnnlib.cli.options.arguments.FORMS`, or the choices there
    are.
    """

    name: str
    kind: str | tuple[str, ...]
    help: str | None = None


@dataclass(frozen=True)
class Option:
    """`check(name, value)` returns the value that the Solver keeps, `saved(value)` what a checkpoint holds of
    it: plain values, or `OWN` for a function of the user's own. (None: nothing.)
    """

    name: str
    check: Callable[[str, Any], Any]
    saved: Callable[[Any], Any] | None = lambda value: value
    flags: tuple[Flag, ...] = ()


def check_options(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The value of every option, checked, from a mapping that has all of them (and may have more)."""
    settings = {name: option.check(name, arguments[name]) for name, option in OPTIONS.items()}
    if settings["lookahead"] is not None and settings["ema_decay"] is not None:
        raise ValueError("Solver: ema_decay and lookahead exclude each other")
    if settings["schedule"] is not None and settings["lr_decay"] != 1:
        raise ValueError("Solver: lr_decay and schedule exclude each other")
    return settings


def refuse_unknown(given: Mapping[str, Any]) -> None:
    """TypeError for keyword arguments that the Solver does not have, with what may be meant."""
    for name, value in given.items():
        if name in _OF_RULES:
            hint = f"it is a setting of the update rule: optim_config={{{_OF_RULES[name]!r}: {value!r}}}"
        else:
            near = difflib.get_close_matches(name, OPTIONS, 1, 0.5)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(OPTIONS)}"
        raise TypeError(f"Solver: unknown argument {name}; {hint}")


def is_own(saved: Any) -> bool:
    """Whether a checkpoint's value stands for a function of the user's own."""
    return any(
        isinstance(item, str) and item == OWN for item in (saved if isinstance(saved, list) else [saved])
    )


def rule_name(rule: Callable) -> str | None:
    """The name of one of cnnlib.optim's rules; None for another function."""
    return next((name for name, known in _RULES.items() if known is rule), None)


# Checks ---------------------------------------------------------------------------------------------------


def _or_none(check):
    return lambda name, value: None if value is None else check(name, value)


def _at_least_0(name, value):
    return number("Solver", name, value, 0)


def _share(name, value):
    return probability("Solver", name, value)


def _count(name, value):
    return positive_int("Solver", name, value)


def _count_or_0(name, value):
    value = integer("Solver", name, value)
    if value < 0:
        raise ValueError(f"Solver: {name} must be at least 0, got {value}")
    return value


def _one_of(*allowed):
    return lambda name, value: choice("Solver", name, value, allowed)


def _update_rule(name, value):
    if isinstance(value, str):
        if value not in _RULES:
            near = difflib.get_close_matches(value, _RULES, n=1, cutoff=0)[0]
            raise ValueError(f"Solver: unknown update_rule {value!r}; did you mean {near!r}?")
        return _RULES[value]
    if not callable(value):
        raise TypeError(f"Solver: update_rule must be a name in cnnlib.optim or callable, got {value!r}")
    return value


def _config(name, value):
    if value is not None and not isinstance(value, Mapping):
        raise TypeError(f"Solver: {name} must be a dict, got {value!r}")
    return dict(value or {})


def _rate_factors(name, value):
    """The names are the model's affair, see cnnlib.solver.update."""
    if not isinstance(value, Mapping):
        raise TypeError(f"Solver: {name} must be a dict, got {value!r}")
    return {key: number("Solver", f"{name}[{key!r}]", factor, 0) for key, factor in value.items()} or None


def _lookahead(name, value):
    settings = {"steps": 5, "decay": 0.95, "power": 3}
    check_keys("Solver", name, value, tuple(settings))
    settings.update(value)
    positive_int("Solver", f"{name} steps", settings["steps"])
    number("Solver", f"{name} decay", settings["decay"], 0, 1)
    number("Solver", f"{name} power", settings["power"], 0)
    return settings


def _seed(name, value):
    random_stream(value, "Solver")
    return value if value is None else int(value)


def _callable(name, value):
    if not callable(value):
        raise TypeError(f"Solver: {name} must be callable, got {value!r}")
    return value


# The table ------------------------------------------------------------------------------------------------

_ROWS = (
    Option(
        "update_rule",
        _update_rule,
        saved=lambda rule: rule_name(rule) or OWN,
        flags=(Flag("update_rule", tuple(_RULES)),),
    ),
    Option(
        "optim_config",
        _config,
        flags=(
            Flag("learning_rate", "positive number"),
            Flag("momentum", "number", "of the momentum rules; default: 0.9"),
        ),
    ),
    Option(
        "lr_decay",
        _at_least_0,
        flags=(Flag("lr_decay", "positive number", "factor on the learning rate after each epoch"),),
    ),
    Option(
        "schedule",
        _or_none(lambda name, value: SCHEDULES.build(value)),
        saved=lambda schedule: None if schedule is None else SCHEDULES.describe(schedule),
        flags=(Flag("schedule", "named", f"{', '.join(SCHEDULES.classes)}, say cosine:warmup=2"),),
    ),
    Option(
        "rate_factors",
        _or_none(_rate_factors),
        flags=(
            Flag(
                "rate_factors",
                "factors",
                "factors on the learning rate of some parameters, say beta=64,W1=0.1; or none",
            ),
        ),
    ),
    Option(
        "weight_decay",
        _or_none(_at_least_0),
        flags=(Flag("weight_decay", "number", "decoupled: w -= learning rate * X * w"),),
    ),
    Option(
        "clip_norm",
        _or_none(_at_least_0),
        flags=(Flag("clip_norm", "positive number", "largest norm of all gradients"),),
    ),
    Option(
        "label_smoothing",
        _or_none(_share),
        flags=(Flag("label_smoothing", "number", "share of a label spread evenly"),),
    ),
    Option(
        "ema_decay",
        _or_none(_share),
        flags=(Flag("ema_decay", "number", "average the weights over training"),),
    ),
    Option(
        "lookahead",
        _or_none(_lookahead),
        flags=(
            Flag(
                "lookahead",
                "pairs",
                "slow weights that the others return to, say steps=5:decay=0.95:power=3; or none",
            ),
        ),
    ),
    Option(
        "preprocess",
        _or_none(lambda name, value: PREPROCESSING.build(value)),
        saved=lambda preprocess: None if preprocess is None else PREPROCESSING.describe(preprocess),
    ),
    Option(
        "augment",
        _or_none(lambda name, value: build_augmentation(value)),
        saved=describe_augmentation,
        flags=(
            Flag(
                "augment",
                "list of named",
                "flip, alternating-flip, crop, cutout, say flip,crop:pad=4; none for the images as they are",
            ),
        ),
    ),
    Option("prefetch", _count_or_0),
    Option("batch_size", _count, flags=(Flag("batch_size", "count"),)),
    Option("num_epochs", _count_or_0, flags=(Flag("epochs", "count", "with --resume: the run's new end"),)),
    Option("num_train_samples", _or_none(_count)),
    Option("num_val_samples", _or_none(_count)),
    Option(
        "keep",
        _one_of("best", "last"),
        flags=(Flag("keep", ("best", "last"), "the epoch whose weights count; default: best"),),
    ),
    Option(
        "early_stopping",
        lambda name, value: build_early_stopping(value),
        saved=describe_early_stopping,
        flags=(
            Flag(
                "early_stopping",
                "patience",
                "end after N epochs without a better validation accuracy, or with monitor=val_loss a lower "
                "loss, say 5:monitor=val_loss:min_delta=0.001; or none",
            ),
        ),
    ),
    Option("print_every", _count),
    Option("verbose", lambda name, value: bool(value)),
    Option("checkpoint_name", _or_none(lambda name, value: os.fspath(value))),
    Option("seed", _seed, flags=(Flag("seed", "seed", "makes the run repeatable"),)),
    Option("sampling", _one_of("epoch", "replacement")),
    Option("comm", as_communicator, saved=None),
    Option(
        "micro_batches",
        _or_none(_count),
        flags=(
            Flag(
                "micro_batches",
                "count",
                "cut each minibatch into N parts, whatever the number of ranks: the same bits on all",
            ),
        ),
    ),
    Option(
        "batchnorm_statistics",
        _one_of("local", "global"),
        flags=(
            Flag(
                "batchnorm_statistics",
                ("local", "global"),
                "with --distributed: of each rank's share, or of the whole minibatch; default: local",
            ),
        ),
    ),
    Option("on_epoch", _or_none(_callable), saved=None),
)
OPTIONS = {option.name: option for option in _ROWS}
