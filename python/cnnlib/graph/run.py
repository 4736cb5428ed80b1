"""One call of a network: what its layers read beside their inputs and options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cnnlib._typing import Array


@dataclass
class Run:
    """What belongs to one call of a network, and to no node.

    Attributes
    ----------
    params : mapping
        The arrays that nodes name.
    train : bool
        Dropout drops, and batch norms use the batch's statistics, which move the running ones.
    norms : dict of str to dict
        The parameter dict of each batch norm, without its mode, by :attr:`Node.statistics_of`. A step puts
        a new dict in a moved one's place.
    seeds : dict of str to (int or None)
        Of the masks of dropout layers, by their outputs; None for the global stream.
    """

    params: Mapping[str, Array]
    train: bool = False
    norms: dict[str, dict[str, Any]] = field(default_factory=dict)
    seeds: dict[str, int | None] = field(default_factory=dict)

    def bn_param(self, key: str, train: bool) -> dict[str, Any]:
        """A dict for a layer's function, with the mode."""
        return {**self.norms[key], "mode": "train" if train else "test"}

    def dropout_param(self, output: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """A dict for a dropout layer's function, with the mode and the seed."""
        param = {**options, "mode": "train" if self.train else "test"}
        seed = self.seeds.get(output)
        return param if seed is None else {**param, "seed": seed}

    def move(self, key: str, mean: Array, var: Array) -> None:
        """Note new running statistics."""
        self.norms[key] = {**self.norms[key], "running_mean": mean, "running_var": var}
