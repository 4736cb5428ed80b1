"""By which number epochs are compared: a metric of the validation samples, or their loss."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cnnlib._params import check_keys, choice
from cnnlib.solver.metrics import Metric, OfOutput

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

    Raises
    ------
    ValueError
        For a name that is none of the metrics, two names that differ, a metric of the user's own whose
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
