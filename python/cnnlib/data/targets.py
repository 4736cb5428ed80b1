"""Targets of several outputs as one, and what messages call arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cnnlib.data.rows import as_rows


class Targets:
    """Arrays (N, ...) by the names of outputs; indexed by such a name, or along all arrays' first axis.

    Parameters
    ----------
    arrays : mapping

    Attributes
    ----------
    arrays : dict

    Examples
    --------
    >>> targets = Targets({"label": np.array([3, 1]), "size": np.array([[0.5], [0.2]])})
    >>> targets["size"].shape, targets[:1]["label"], len(targets)
    ((2, 1), array([3]), 2)
    """

    def __init__(self, arrays: Mapping[str, Any]) -> None:
        self.arrays = dict(arrays)

    @classmethod
    def of(cls, where: str, y: Any, names: Sequence[str]) -> Targets:
        """Targets of all outputs `names`, from a dict by name, or a tuple or list in their order.

        ValueError or TypeError for anything else; the message begins with `where`.
        """
        if isinstance(y, Targets):
            y = y.arrays
        if isinstance(y, (tuple, list)) and len(y) == len(names):
            y = dict(zip(names, y, strict=True))
        if not isinstance(y, Mapping):
            raise TypeError(
                f"{where}: targets must be a dict with one for each output ({', '.join(names)}), or a tuple "
                f"in this order, got {type(y).__name__}"
            )
        if set(y) != set(names):
            raise ValueError(f"{where}: targets must be of {', '.join(names)}, got {', '.join(map(str, y))}")
        return cls({name: as_rows(where, name, y[name]) for name in names})

    @property
    def shape(self) -> dict[str, tuple[int, ...]]:
        """The shape of each array."""
        return {name: array.shape for name, array in self.arrays.items()}

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            return self.arrays[key]
        return Targets({name: array[key] for name, array in self.arrays.items()})


def named_arrays(name: str, data: Any) -> Iterable[tuple[str, Any]]:
    """Pairs of what messages call an array, and the array; of targets one for each output."""
    if isinstance(data, Targets):
        return [(f"{name}[{output!r}]", array) for output, array in data.arrays.items()]
    return [(name, data)]
