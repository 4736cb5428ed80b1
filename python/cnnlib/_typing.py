"""The types in the signatures of layers and models."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Array", "ArrayLike", "Cache", "Gradients", "Needs", "Outputs", "Params", "Trainable", "Wanted"]

Array: TypeAlias = NDArray[np.floating[Any]]
Cache: TypeAlias = tuple[Any, ...]
Needs: TypeAlias = Collection[str] | None
Params: TypeAlias = dict[str, Array]  # a model's
Gradients: TypeAlias = dict[str, Array]
Outputs: TypeAlias = Array | Any  # of a network: an array, or a dict of arrays where it has several
# None where `needs` leaves a gradient out or there is no bias; callers know which without an assertion.
Wanted: TypeAlias = Array | Any


class Trainable(Protocol):
    """What is trained and saved: see :mod:`cnnlib.models`."""

    @property
    def params(self) -> Mapping[str, NDArray[Any]]:
        """Arrays by name, changed in training."""

    def loss(self, X: Any, y: Any = None, /) -> Any:
        """Scores of X, or with labels y the loss and the gradients of `params`."""
