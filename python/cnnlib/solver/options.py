"""The Solver's options, a row each: how a value is checked, what a checkpoint holds of it, how the command
line gives it.

An option has two forms: what the user wrote, and the checked value in `Options`. A new one gets a row here,
its place and default in the Solver's signature, and its words in the Solver's docstring; checks, checkpoints,
resumption, the settings of a run and ``cnnlib train --help`` follow from the row.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

from cnnlib import optim
from cnnlib._params import (
    above_0,
    at_least,
    check_keys,
    choice,
    hint,
    number,
    path_text,
    positive_int,
    probability,
)
from cnnlib._params.functions import check_call
from cnnlib._params.random import random_stream
from cnnlib._params.registry import OWN
from cnnlib._params.synonyms import advised
from cnnlib.augment import build_augmentation, describe_augmentation
from cnnlib.data.normalization import PREPROCESSING
from cnnlib.distributed.communicator import MPIComm, SerialComm, as_communicator
from cnnlib.models.losses import Loss, WeightedLosses, build_loss, describe_loss
from cnnlib.schedules import SCHEDULES, Cosine
from cnnlib.solver.metrics import Metric, build_metrics, describe_metrics
from cnnlib.solver.monitor import (
    EarlyStopping,
    build_early_stopping,
    checked_monitor,
    describe_early_stopping,
)
from cnnlib.solver.weights import BALANCED, checked_class_weight, described_class_weight

T = TypeVar("T")


def _as_it_is(value: Any) -> Any:
    return value


@dataclass(frozen=True)
class Option:
    """All that is known of a field of :class:`Options`.

    Parameters
    ----------
    check : callable
        ``check(name, value)`` returns the value that `Options` keeps; it takes such a value, too.
    kind, help
        The form of the text of the option of ``cnnlib train`` that has the same name (a key of the command's
        table of forms, or the choices there are), and its help. None: there is no such option.
    saved : callable or None
        ``saved(value)`` is what a checkpoint holds of it: plain values, or `OWN` for a function of the user's
        own. None: nothing.
    """

    check: Callable[[str, Any], Any]
    kind: str | tuple[str, ...] | None = None
    help: str | None = None
    saved: Callable[[Any], Any] | None = _as_it_is


def _row(
    check: Callable[[str, Any], Any],
    kind: str | tuple[str, ...] | None = None,
    help: str | None = None,
    saved: Callable[[Any], Any] | None = _as_it_is,
) -> dict[str, Option]:
    """Make the metadata of a field of :class:`Options`."""
    return {"option": Option(check, kind, help, saved)}


_OF_RULES = {  # keys of optim_config
    **{name: name for name in ("learning_rate", "momentum", "decay_rate", "beta1", "beta2", "epsilon")},
    "lr": "learning_rate",
}
# What other libraries say to what trains, and how it is said here.
_CLASS_WEIGHTS = "class_weight='balanced', or a dict or list of weights"
_SAMPLE_WEIGHTS = "data holds the weights of samples, as weights_train"
_VALIDATION = "data holds the validation samples, as X_val and y_val, or validation_fraction=0.1 takes some"
_STEPS = "batches_per_epoch= says how many batches make an epoch of a source without len()"
_OF_THE_MODEL = "it is an argument of the model: ConvNet(..., {name}=...)"
_ELSEWHERE = {
    "class_weights": _CLASS_WEIGHTS,
    **dict.fromkeys(("sample_weight", "sample_weights"), _SAMPLE_WEIGHTS),
    **dict.fromkeys(("validation_split", "val_split", "val_fraction"), _VALIDATION),
    "steps_per_epoch": _STEPS,
    **dict.fromkeys(("reg", "dtype", "num_classes", "input_dim", "weight_scale"), _OF_THE_MODEL),
    "validation_data": _VALIDATION,
    "dropout": "it is the model's: {{'dropout': 0.5}} is a stage of a ConvNet",
    "l2": "weight_decay= is decoupled; the loss's own term is the model's reg=",
    "device": "all is computed on the CPU: leave it out",
    "shuffle": "sampling='epoch', the default, shuffles",
}
_RULES: dict[str, Callable[..., Any]] = {name: getattr(optim, name) for name in optim.__all__}


def refuse_unknown(given: Mapping[str, Any]) -> None:
    """TypeError for keyword arguments that the Solver does not have, with what may be meant."""
    for name, value in given.items():
        if name in _OF_RULES:
            advice = f"it is a setting of the update rule: optim_config={{{_OF_RULES[name]!r}: {value!r}}}"
        else:
            text = advised(name, _ELSEWHERE)
            advice = hint(name, OPTIONS) if text is None else text.format(name=name)
        raise TypeError(f"Solver: unknown argument {name}; {advice}")


def is_own(saved: Any) -> bool:
    """Return whether a checkpoint has only a placeholder for the value, a function of the user's own."""
    return any(type(item) is str and item == OWN for item in (saved if isinstance(saved, list) else [saved]))


def rule_name(rule: Callable[..., Any]) -> str | None:
    """The name of one of cnnlib.optim's rules; None for another function."""
    return next((name for name, known in _RULES.items() if known is rule), None)


# Checks ---------------------------------------------------------------------------------------------------


def _or_none(check: Callable[[str, Any], T]) -> Callable[[str, Any], T | None]:
    """Let a check pass None."""
    return lambda name, value: None if value is None else check(name, value)


def _by_value(build: Callable[[Any], T]) -> Callable[[str, Any], T]:
    """A check by a builder that takes the value alone."""
    return lambda name, value: build(value)


_at_least_0 = functools.partial(number, "Solver", low=0)
_above_0 = functools.partial(above_0, "Solver")
_share = functools.partial(probability, "Solver")  # in [0, 1)
_count, _count_or_0 = (functools.partial(at_least, least, "Solver") for least in (1, 0))


def _part(name: str, value: Any) -> float:
    """A number between 0 and 1, both excluded."""
    return _share(name, _above_0(name, value))


def _one_of(*allowed: str) -> Callable[[str, Any], str]:
    return lambda name, value: choice("Solver", name, value, allowed)


def _config(name: str, value: Any) -> dict[str, Any]:
    """A dict, or None for an empty one."""
    if value is not None and not isinstance(value, Mapping):
        raise TypeError(f"Solver: {name} must be a dict, got {value!r}")
    return dict(value or {})


def _update_rule(name: str, value: Any) -> Callable[..., Any]:
    if isinstance(value, str):
        if value not in _RULES:
            raise ValueError(f"Solver: unknown update_rule {value!r}; {hint(value, _RULES)}")
        return _RULES[value]
    if not callable(value) or isinstance(value, type):
        raise TypeError(f"Solver: update_rule must be a name in cnnlib.optim or callable, got {value!r}")
    if rule_name(value) is None:
        check_call(f"Solver: {name}", value, "rule(w, dw, config) -> (next_w, config)", 3)
    return value


def _schedule(name: str, value: Any) -> Callable[..., float]:
    schedule = SCHEDULES.build(value)
    check_call(f"Solver: {name}", schedule, "schedule(epoch, num_epochs) -> factor", 2)
    return schedule


def _preprocess(name: str, value: Any) -> Callable[..., Any]:
    preprocess = PREPROCESSING.build(value)
    check_call(f"Solver: {name}", preprocess, "preprocess(images) -> images", 1)
    return preprocess


def _rate_factors(name: str, value: Any) -> dict[str, float] | None:
    """Check the factors; cnnlib.solver.update checks the names against the model's parameters."""
    factors = _config(name, value).items()
    return {key: number("Solver", f"{name}[{key!r}]", factor, 0) for key, factor in factors} or None


def _lookahead(name: str, value: Any) -> dict[str, Any]:
    settings = {"steps": 5, "decay": 0.95, "power": 3}
    check_keys("Solver", name, value, tuple(settings))
    settings.update(value)
    positive_int("Solver", f"{name} steps", settings["steps"])
    number("Solver", f"{name} decay", settings["decay"], 0, 1)
    number("Solver", f"{name} power", settings["power"], 0)
    return settings


def _seed(name: str, value: Any) -> int | None:
    random_stream(value, "Solver")
    return value if value is None else int(value)


def _callback(name: str, value: Any) -> Callable[..., Any]:
    if not callable(value):
        raise TypeError(f"Solver: {name} must be callable, got {value!r}")
    check_call(f"Solver: {name}", value, f"{name}(solver)", 1)
    return value


_PRECISIONS = ("bfloat16", "float32", "float64")

# The table ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Options:
    """The options of a Solver, checked; its docstring says what each means.

    Raises
    ------
    ValueError
        If two of them exclude each other.
    """

    update_rule: Callable[..., Any] = field(
        metadata=_row(_update_rule, tuple(_RULES), saved=lambda rule: rule_name(rule) or OWN)
    )
    optim_config: dict[str, Any] = field(metadata=_row(_config))
    lr_decay: float = field(
        metadata=_row(_at_least_0, "positive number", "factor on the learning rate after each epoch")
    )
    schedule: Callable[..., float] | None = field(
        metadata=_row(
            _or_none(_schedule),
            "named",
            f"{', '.join(SCHEDULES.classes)}, say cosine:warmup=2",
            saved=SCHEDULES.describe,
        )
    )
    rate_factors: dict[str, float] | None = field(
        metadata=_row(
            _or_none(_rate_factors),
            "factors",
            "factors on the learning rate of some parameters, say beta=64,W1=0.1; or none",
        )
    )
    weight_decay: float | None = field(
        metadata=_row(_or_none(_at_least_0), "number", "decoupled: w -= learning rate * X * w")
    )
    clip_norm: float | None = field(
        metadata=_row(_or_none(_above_0), "positive number", "largest norm of all gradients")
    )
    loss: Loss | WeightedLosses | None = field(metadata=_row(_or_none(build_loss), saved=describe_loss))
    class_weight: Any = field(
        metadata=_row(
            _or_none(checked_class_weight),
            (BALANCED, "none"),
            "balanced: rare classes count as much as frequent ones",
            saved=described_class_weight,
        )
    )
    metrics: tuple[Metric, ...] | None = field(metadata=_row(_or_none(build_metrics), saved=describe_metrics))
    monitor: str | dict[str, str] | None = field(metadata=_row(_or_none(checked_monitor)))
    label_smoothing: float | None = field(
        metadata=_row(_or_none(_share), "number", "share of a label spread evenly")
    )
    precision: str | None = field(
        metadata=_row(
            _or_none(_one_of(*_PRECISIONS)),
            _PRECISIONS,
            "what training steps compute in; default: the model's dtype",
        )
    )
    ema_decay: float | None = field(
        metadata=_row(_or_none(_share), "number", "average the weights over training")
    )
    lookahead: dict[str, Any] | None = field(
        metadata=_row(
            _or_none(_lookahead),
            "pairs",
            "slow weights that the others return to, say steps=5:decay=0.95:power=3; or none",
        )
    )
    preprocess: Callable[..., Any] | None = field(
        metadata=_row(_or_none(_preprocess), saved=PREPROCESSING.describe)
    )
    augment: Any = field(
        metadata=_row(
            _or_none(_by_value(build_augmentation)),
            "list of named",
            "flip, alternating-flip, crop, cutout, say flip,crop:pad=4; none for the images as they are",
            saved=describe_augmentation,
        )
    )
    prefetch: int = field(metadata=_row(_count_or_0))
    batch_size: int = field(metadata=_row(_count, "count"))
    num_epochs: int = field(metadata=_row(_count_or_0, "count", "with --resume: the run's new end"))
    batches_per_epoch: int | None = field(metadata=_row(_or_none(_count)))
    validation_fraction: float | None = field(metadata=_row(_or_none(_part)))
    num_train_samples: int | None = field(metadata=_row(_or_none(_count)))
    num_val_samples: int | None = field(metadata=_row(_or_none(_count)))
    keep: str = field(
        metadata=_row(
            _one_of("best", "last"), ("best", "last"), "the epoch whose weights count; default: best"
        )
    )
    early_stopping: EarlyStopping | None = field(
        metadata=_row(
            lambda name, value: build_early_stopping(value, name),
            "patience",
            "end after N epochs without a better val_accuracy, or with monitor=val_loss a lower val_loss, "
            "say 5:monitor=val_loss:min_delta=0.001; or none",
            saved=describe_early_stopping,
        )
    )
    print_every: int = field(metadata=_row(_count))
    verbose: bool = field(metadata=_row(lambda name, value: bool(value)))
    checkpoint_name: str | None = field(metadata=_row(_or_none(functools.partial(path_text, "Solver"))))
    seed: int | None = field(metadata=_row(_seed, "seed", "makes the run repeatable"))
    sampling: str = field(metadata=_row(_one_of("epoch", "replacement")))
    comm: SerialComm | MPIComm = field(metadata=_row(as_communicator, saved=None))
    micro_batches: int | None = field(
        metadata=_row(
            _or_none(_count),
            "count",
            "cut each minibatch into N parts, whatever the number of ranks: the same bits on all",
        )
    )
    batchnorm_statistics: str = field(
        metadata=_row(
            _one_of("local", "global"),
            ("local", "global"),
            "with --distributed: of each rank's share, or of the whole minibatch; default: local",
        )
    )
    on_epoch: Callable[..., Any] | None = field(metadata=_row(_or_none(_callback), saved=None))
    on_batch: Callable[..., Any] | None = field(metadata=_row(_or_none(_callback), saved=None))

    def __post_init__(self) -> None:
        pairs = ("ema_decay", "lookahead"), ("label_smoothing", "loss"), ("label_smoothing", "class_weight")
        for one, other in pairs:
            if getattr(self, one) is not None and getattr(self, other) is not None:
                raise ValueError(f"Solver: {one} and {other} exclude each other")
        if self.micro_batches is not None and self.batchnorm_statistics == "global":
            raise ValueError("Solver: micro_batches and batchnorm_statistics='global' exclude each other")
        if self.precision == "bfloat16" and self.batchnorm_statistics == "global":
            raise ValueError(
                "Solver: precision='bfloat16' and batchnorm_statistics='global' exclude each other: norms of "
                "all ranks compute in float32"
            )
        if self.schedule is not None and self.lr_decay != 1:
            raise ValueError("Solver: lr_decay and schedule exclude each other")
        if isinstance(self.schedule, Cosine) and self.schedule.warmup > self.num_epochs > 0:
            raise ValueError(
                f"Solver: schedule has a warmup of {self.schedule.warmup:g} epochs, num_epochs is "
                f"{self.num_epochs}"
            )

    @classmethod
    def checked(cls, **given: Any) -> Options:
        """Check what the user wrote, a value for every option; ValueError or TypeError says what is wrong."""
        return cls(**{name: option.check(name, given[name]) for name, option in OPTIONS.items()})

    def changed(self, **given: Any) -> Options:
        """These options with others, as the user wrote them, in place of some."""
        return replace(self, **{name: OPTIONS[name].check(name, value) for name, value in given.items()})

    def saved(self) -> dict[str, Any]:
        """Return what a checkpoint holds: plain values, from which `checked` makes the same options."""
        return {
            name: option.saved(getattr(self, name))
            for name, option in OPTIONS.items()
            if option.saved is not None
        }


OPTIONS: dict[str, Option] = {known.name: known.metadata["option"] for known in fields(Options)}
