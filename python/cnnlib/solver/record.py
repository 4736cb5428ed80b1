"""What a training has come to: histories, the best epoch, what is monitored, whether it goes on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from cnnlib._params import check_keys, choice, is_flag, number, positive_int
from cnnlib.solver.metrics import Metric, OfOutput


class Record:
    """The histories of a run, by their names; `monitor` and `early_stopping` are the Solver's.

    ``histories["loss"]`` has an entry an iteration; ``learning_rate`` and ``epoch_seconds`` have one an
    epoch; ``train_<metric>``, ``<metric>`` and ``val_loss`` have one before the first epoch and one after
    each. `best` is a snapshot of the best epoch, see :mod:`cnnlib.models.state`, or None; `early_stopping`
    counts from the epoch `patience_from`.
    """

    def __init__(
        self,
        metrics: Sequence[Metric],
        monitor: str | dict[str, str] | None,
        early_stopping: EarlyStopping | None,
    ) -> None:
        short = {metric.name: metric.name.replace("accuracy", "acc") for metric in metrics}
        self.checked = {f"train_{name}": f"train {label}" for name, label in short.items()}  # call them
        self.checked |= {name: f"val_{label}" for name, label in short.items()} | {"val_loss": "val_loss"}
        self.histories: dict[str, list[float]] = {
            name: [] for name in ("loss", *self.checked, "learning_rate", "epoch_seconds")
        }
        of_rule = None if early_stopping is None else early_stopping.monitor
        self.monitor = build_monitor(monitor, of_rule, metrics)
        self.epoch = self.best_epoch = self.patience_from = 0
        self.best: dict[str, Any] | None = None

    @property
    def begun(self) -> bool:
        """Whether the untrained model has been looked at."""
        return bool(self.histories["val_loss"])

    def at_best(self, name: str) -> float | None:
        """The value of a history at the best epoch; None if there is none."""
        history = self.histories.get(name)
        return history[self.best_epoch] if history else None

    def is_better(self, values: Mapping[str, float]) -> bool:
        """Whether a model with these values is better than the best: of equals, the earlier one; never one
        whose loss alone is NaN, as that of a network that has diverged.
        """
        if self.best is None:
            return True
        if math.isnan(values["val_loss"]) and not math.isnan(self.histories["val_loss"][self.best_epoch]):
            return False
        value = self.monitor.rank(values[self.monitor.name])
        best = self.monitor.rank(self.histories[self.monitor.name][self.best_epoch])
        return value > best or (self.best_epoch == 0 and value == best)

    def add(self, values: Mapping[str, float], best: dict[str, Any] | None) -> None:
        """Take in the values of the epoch that has ended; `best` is its snapshot if it is the best one."""
        for name in self.checked:
            self.histories[name].append(values[name])
        if best is not None:
            self.best_epoch, self.best = self.epoch, best

    def unimproved(self, rule: EarlyStopping | None) -> tuple[bool, int]:
        """Whether the rule ends the training here, and the epoch of the last improvement."""
        if rule is None:
            return False, self.epoch
        improved = rule.improved_in(self.histories[self.monitor.name], self.monitor)
        return self.epoch - max(improved, self.patience_from) >= rule.patience, improved

    def line(self, num_epochs: int) -> str:
        """The newest epoch in words."""
        parts = (f"{label}: {_short(self.histories[name][-1])}" for name, label in self.checked.items())
        return f"(Epoch {self.epoch} / {num_epochs}) " + "; ".join(parts)


def _short(value: float) -> str:
    """Four digits behind the point, or four in all where these would say nothing."""
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e5 else f"{value:.4g}"


_DIRECTIONS = ("max", "min")
_ALIASES = {"val_acc": "accuracy"}  # as the histories of accuracies are called


@dataclass(frozen=True)
class Monitor:
    """A metric's name, or ``val_loss``, and whether more of it is better."""

    name: str
    more_is_better: bool

    def rank(self, value: float) -> float:
        """The number by which epochs are compared, the higher the better; NaN is worst."""
        if math.isnan(value):
            return -math.inf
        return value if self.more_is_better else -value

    @property
    def title(self) -> str:
        """What messages call it."""
        return "val_acc" if self.name == "accuracy" else f"val_{self.name.removeprefix('val_')}"


def checked_monitor(name: str, value: Any) -> str | dict[str, str]:
    """The Solver's option as it is kept: a name, or a dict of ``name`` and ``direction``."""
    if isinstance(value, str):
        return value
    if not isinstance(value, Mapping):
        raise TypeError(f"Solver: {name} must be a name, or a dict of name and direction, got {value!r}")
    check_keys("Solver", name, value, ("name", "direction"), ("name", "direction"))
    choice("Solver", f"{name} direction", value["direction"], _DIRECTIONS)
    return dict(value)


def build_monitor(
    value: str | Mapping[str, str] | None, of_early_stopping: str | None, metrics: Sequence[Metric]
) -> Monitor:
    """What epochs are compared by: `monitor`, else `early_stopping`'s, else the first of the metrics; of a
    network with several outputs the validation loss.

    ValueError for a name that is none of the metrics, two names that differ, a metric of the user's own whose
    direction is not said.
    """
    where, given = "monitor", value
    if value is None and of_early_stopping is not None:
        where, given = "early_stopping monitor", of_early_stopping
    if given is None:
        given = metrics[0].name if metrics and not isinstance(metrics[0], OfOutput) else "val_loss"
    name = given if isinstance(given, str) else given["name"]
    name = _ALIASES.get(name, name)
    known = {metric.name: metric.more_is_better for metric in metrics} | {"val_loss": False}
    if name not in known:
        names = ", ".join(repr("val_acc" if known == "accuracy" else known) for known in known)
        raise ValueError(f"Solver: {where} must be one of {names}, got {name!r}")
    if of_early_stopping is not None and _ALIASES.get(of_early_stopping, of_early_stopping) != name:
        raise ValueError(
            f"Solver: monitor is {name!r}, but early_stopping monitors {of_early_stopping!r}; say it once"
        )
    more = known[name] if isinstance(given, str) else given["direction"] == "max"
    if more is None:
        raise ValueError(
            f"Solver: whether more of {name!r} is better is not known: say "
            f"monitor={{'name': {name!r}, 'direction': 'max'}}, or 'min'"
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
    """The inverse, in plain values."""
    if value is None:
        return None
    return {name: setting for name, setting in vars(value).items() if setting is not None}
