"""How long the parts of a training step take: what a model fills in where somebody asks."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class LayerTime:
    """Seconds of one operation of a network, forward and backward, and the shape of what it read."""

    name: str
    shape: tuple[int, ...]
    forward: float = 0.0
    backward: float = 0.0


@dataclass
class StepTimes:
    """Seconds of the operations in the order of the forward pass, and of the loss behind them."""

    layers: list[LayerTime] = field(default_factory=list)
    loss: float = 0.0
