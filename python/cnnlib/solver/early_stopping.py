"""When a training has stopped to get better."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from cnnlib._params import check_keys, number, positive_int
from cnnlib.solver.monitor import Monitor


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
        """The epoch, 1 or later, of the last improvement by more than `min_delta`; 0 before the first."""
        best, best_epoch = -math.inf, 0
        for epoch, value in enumerate(map(monitor.rank, history)):
            if epoch > 0 and value > best + (self.min_delta if best_epoch else 0.0):
                best, best_epoch = value, epoch
        return best_epoch

    def message(self, improved_in: int, monitor: Monitor) -> str:
        """What is said when the training ends early."""
        by = f" by more than {self.min_delta:g}" if self.min_delta else ""
        return f"stopped early: {monitor.title} has not improved{by} since epoch {improved_in}"


def build_early_stopping(value: Any, name: str = "early_stopping") -> EarlyStopping | None:
    """What the Solver's option means: None or False, a number of epochs, or a dict of the settings."""
    if value is None or value is False:
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
    """The inverse, in plain values."""
    if value is None:
        return None
    return {name: setting for name, setting in vars(value).items() if setting is not None}
