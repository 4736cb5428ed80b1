"""The histories of a training, and their names.

A metric NAME has two histories: ``train_NAME`` on training samples and ``val_NAME`` on validation samples.
Progress lines, logs, the columns of tables and the Solver's `monitor` have these names.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from cnnlib._params import hint

OF_EPOCHS = ("learning_rate", "epoch_seconds")  # histories with an entry an epoch
_TRAIN = "train_"
_VAL = "val_"
TAKEN = ("loss", *OF_EPOCHS)  # names that no metric can have


class Histories(dict[str, list[float]]):
    """The histories of a training by name: ``loss`` has an entry an iteration, the others one an epoch.

    A metric's own name stands for its history on validation samples.

    Raises
    ------
    KeyError
        For a name that is none of them, with the nearest one.

    Examples
    --------
    >>> histories = Histories({"loss": [2.3, 2.1], "train_rmse": [0.3], "val_rmse": [0.4]})
    >>> histories
    Histories(loss: 2, train_rmse: 1, val_rmse: 1)
    >>> histories["rmse"]
    [0.4]
    """

    def __missing__(self, name: str) -> list[float]:
        known = known_name(name, self)
        if known is None:
            raise KeyError(f"histories: there is no {name!r}; {hint(name, self)}")
        return self[known]

    def __repr__(self) -> str:
        return f"Histories({', '.join(f'{name}: {len(values)}' for name, values in self.items())})"


def train_name(metric: str) -> str:
    """Name a metric's history on training samples."""
    return _TRAIN + metric


def val_name(metric: str) -> str:
    """Name a metric's history on validation samples."""
    return _VAL + metric


def known_name(name: str, known: Collection[str]) -> str | None:
    """Return the name in `known` that `name` stands for: itself, or of a metric that on validation samples.

    None if there is none.

    Examples
    --------
    >>> known_name("accuracy", ["train_accuracy", "val_accuracy"])
    'val_accuracy'
    """
    names = (name, val_name(name)) if can_name_metric(name) else (name,)
    return next((one for one in names if one in known), None)


def can_name_metric(name: str) -> bool:
    """Return whether a metric may have this name, so that no two histories have the same."""
    return name not in TAKEN and not name.startswith((_TRAIN, _VAL))


def new_histories(metrics: Iterable[str]) -> Histories:
    """Make the empty histories of a training that measures these metrics."""
    metrics = list(metrics)
    of_metrics = [*map(train_name, metrics), *map(val_name, metrics)]
    return Histories({name: [] for name in ("loss", *of_metrics, "val_loss", *OF_EPOCHS)})


def metrics_of(histories: Collection[str]) -> list[str]:
    """Return the names of the metrics, which have a history on training samples too."""
    return [name.removeprefix(_TRAIN) for name in histories if name.startswith(_TRAIN)]


def measured(histories: Collection[str]) -> list[str]:
    """Return those histories that have an entry before the first epoch and one after each."""
    return [name for name in histories if name not in TAKEN]
