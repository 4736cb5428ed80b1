"""The monitor, by which epochs are compared, and early stopping, which ends a training that it sees stall."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from cnnlib._params import check_keys, choice, is_flag, number, positive_int
from cnnlib.solver.histories import known_name, val_name
from cnnlib.solver.metrics import Metric, OfOutput

_DIRECTIONS = ("max", "min")


@dataclass(frozen=True)
class Monitor:
    """A history of the validation by which epochs are compared, and if more of it is better."""

    name: str
    more_is_better: bool

    def rank(self, value: float) -> float:
        """Return the number by which epochs are compared, the higher the better; NaN is worst."""
        if math.isnan(value):
            return -math.inf
        return value if self.more_is_better else -value

    def prefers(
        self, values: Mapping[str, float], histories: Mapping[str, Sequence[float]], best_epoch: int
    ) -> bool:
        """Return whether a model with these values is better than that of the best epoch so far.

        Equal ones are not, unless the best is the untrained model. A model whose loss alone is NaN never is,
        as that of a network that has diverged.
        """
        if math.isnan(values["val_loss"]) and not math.isnan(histories["val_loss"][best_epoch]):
            return False
        value, best = self.rank(values[self.name]), self.rank(histories[self.name][best_epoch])
        return value > best or (best_epoch == 0 and value == best)


def checked_monitor(name: str, value: Any) -> str | dict[str, str]:
    """Check the Solver's option, which is kept as a name, or as a dict of ``name`` and ``direction``."""
    if isinstance(value, str):
        return value
    if not isinstance(value, Mapping):
        raise TypeError(f"Solver: {name} must be a name, or a dict of name and direction, got {value!r}")
    check_keys("Solver", name, value, ("name", "direction"), ("name", "direction"))
    choice("Solver", f"{name} direction", value["direction"], _DIRECTIONS)
    return dict(value)


def build_monitor(
    value: str | Mapping[str, str] | None, early_stopping: EarlyStopping | None, metrics: Sequence[Metric]
) -> Monitor:
    """Choose what epochs are compared by: `value`, else early stopping's, else the first of the metrics; of a
    network with several outputs the validation loss.

    ValueError for a name that is none of the metrics, two names that differ, a metric of the user's own whose
    direction is not said.
    """
    where, given = "monitor", value
    of_rule = None if early_stopping is None else early_stopping.monitor
    if value is None and of_rule is not None:
        where, given = "early_stopping monitor", of_rule
    if given is None:
        given = val_name(metrics[0].name) if metrics and not isinstance(metrics[0], OfOutput) else "val_loss"
    known = {val_name(metric.name): metric.more_is_better for metric in metrics} | {"val_loss": False}
    asked = given if isinstance(given, str) else given["name"]
    name = known_name(asked, known)
    if name is None:
        raise ValueError(f"Solver: {where} must be one of {', '.join(map(repr, known))}, got {asked!r}")
    if of_rule is not None and known_name(of_rule, known) != name:
        raise ValueError(
            f"Solver: monitor is {asked!r}, but early_stopping monitors {of_rule!r}; say it once"
        )
    more = known[name] if isinstance(given, str) else given["direction"] == "max"
    if more is None:
        raise ValueError(
            f"Solver: whether more of {asked!r} is better is not known: say "
            f"monitor={{'name': {asked!r}, 'direction': 'max'}}, or 'min'"
        )
    return Monitor(name, more)


@dataclass(frozen=True)
class EarlyStopping:
    """After `patience` epochs in a row without an improvement by more than `min_delta` the training ends.

    `monitor` is what is to improve; None: what the Solver monitors. It is all read from the history, so a
    resumed run stops where the uninterrupted one does.
    """

    patience: int
    monitor: str | None = None
    min_delta: float = 0.0

    def __post_init__(self) -> None:
        positive_int("Solver", "early_stopping patience", self.patience)
        number("Solver", "early_stopping min_delta", self.min_delta, 0)
        if not (self.monitor is None or isinstance(self.monitor, str)):
            raise TypeError(f"Solver: early_stopping monitor must be a name, got {self.monitor!r}")

    def improved_in(self, history: Sequence[float], monitor: Monitor) -> int:
        """Return the epoch, from 1, of the last improvement by more than `min_delta`; 0 before the first."""
        best, best_epoch = -math.inf, 0
        for epoch, value in enumerate(map(monitor.rank, history)):
            if epoch > 0 and value > best + (self.min_delta if best_epoch else 0.0):
                best, best_epoch = value, epoch
        return best_epoch

    def message(self, improved_in: int, monitor: Monitor) -> str:
        """Say that the training ends early."""
        by = f" by more than {self.min_delta:g}" if self.min_delta else ""
        return f"stopped early: {monitor.name} has not improved{by} since epoch {improved_in}"


def build_early_stopping(value: Any, name: str = "early_stopping") -> EarlyStopping | None:
    """Build what the Solver's option means: None or False, a number of epochs, or a dict of the settings."""
    if value is None or (is_flag(value) and not value):
        return None
    if isinstance(value, EarlyStopping):
        return value
    if not isinstance(value, Mapping):
        return EarlyStopping(positive_int("Solver", name, value))
    check_keys("Solver", name, value, [field.name for field in fields(EarlyStopping)])
    if "patience" not in value:
        raise ValueError(f"Solver: {name} lacks 'patience'")
    return EarlyStopping(**value)


def describe_early_stopping(value: EarlyStopping | None) -> dict[str, Any] | None:
    """Describe it in plain values, the inverse of :func:`build_early_stopping`."""
    if value is None:
        return None
    return {name: setting for name, setting in vars(value).items() if setting is not None}
