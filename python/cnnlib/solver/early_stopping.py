"""Which epoch of a training is the best one, and when the training has stopped to get better."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cnnlib._params import check_keys, choice, number, positive_int

__all__ = ["EarlyStopping", "build_early_stopping", "describe_early_stopping", "monitored"]

_MONITORS = ("val_acc", "val_loss")


@dataclass(frozen=True)
class EarlyStopping:
    """After `patience` epochs in a row without an improvement by more than `min_delta` the training ends.

    `monitor` is 'val_acc' or 'val_loss'. It is all read from the histories, so a resumed run stops where the
    uninterrupted one does.
    """

    patience: int
    monitor: str = "val_acc"
    min_delta: float = 0.0

    def __post_init__(self) -> None:
        positive_int("Solver", "early_stopping patience", self.patience)
        choice("Solver", "early_stopping monitor", self.monitor, _MONITORS)
        number("Solver", "early_stopping min_delta", self.min_delta, 0)

    def improved_in(self, val_acc_history: Sequence[float], val_loss_history: Sequence[float]) -> int:
        """The epoch, 1 or later, of the last improvement by more than `min_delta`; 0 before the first."""
        best, best_epoch = -math.inf, 0
        for epoch, (acc, loss) in enumerate(zip(val_acc_history, val_loss_history, strict=True)):
            value = monitored(self, acc, loss)
            if epoch > 0 and value > best + (self.min_delta if best_epoch else 0.0):
                best, best_epoch = value, epoch
        return best_epoch

    def message(self, improved_in: int) -> str:
        """What is said when the training ends early."""
        by = f" by more than {self.min_delta:g}" if self.min_delta else ""
        return f"stopped early: {self.monitor} has not improved{by} since epoch {improved_in}"


def monitored(rule: EarlyStopping | None, val_acc: float, val_loss: float) -> float:
    """The number by which epochs are compared, the higher the better; without a rule the accuracy."""
    if rule is None or rule.monitor == "val_acc":
        return val_acc
    return -math.inf if math.isnan(val_loss) else -val_loss


def build_early_stopping(value: Any) -> EarlyStopping | None:
    """What the Solver's option means: None or False, a number of epochs, or a dict of the settings."""
    if value is None or value is False:
        return None
    if isinstance(value, EarlyStopping):
        return value
    if not isinstance(value, Mapping):
        return EarlyStopping(positive_int("Solver", "early_stopping", value))
    check_keys("Solver", "early_stopping", value, ("patience", "monitor", "min_delta"))
    if "patience" not in value:
        raise ValueError("Solver: early_stopping lacks 'patience'")
    return EarlyStopping(**value)


def describe_early_stopping(value: EarlyStopping | None) -> dict[str, Any] | None:
    """The inverse, in plain values."""
    return None if value is None else asdict(value)
