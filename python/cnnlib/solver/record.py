"""What a training has come to: histories, the best epoch with its parameters, whether it goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cnnlib.solver.early_stopping import EarlyStopping
from cnnlib.solver.metrics import Metric
from cnnlib.solver.monitor import build_monitor


class Record:
    """The histories of a run, by their names.

    Parameters
    ----------
    metrics : sequence of Metric
    monitor : str, dict or None
        The Solver's option.
    early_stopping : EarlyStopping or None

    Attributes
    ----------
    histories : dict of str -> list of float
        ``loss`` (an entry an iteration); ``learning_rate`` and ``epoch_seconds`` (an entry an epoch);
        ``train_<metric>``, ``<metric>``, ``val_loss`` (an entry before the first epoch and one after each).
    epoch, best_epoch : int
    best : dict or None
        A snapshot of the best epoch, see :mod:`cnnlib.models.state`.
    patience_from : int
        The epoch from which `early_stopping` counts.
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
        """What a history says of the best epoch; None if nothing."""
        history = self.histories.get(name)
        return history[self.best_epoch] if history else None

    def is_better(self, values: Mapping[str, float]) -> bool:
        """Whether a model with these values is better than the best: of equals, the earlier one."""
        if self.best is None:
            return True
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
