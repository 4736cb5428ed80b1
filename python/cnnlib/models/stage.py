"""A row of a network's summary: a line of a ConvNet's spec, or a node."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Stage:
    """One row.

    Where branches meet, `parts` has the branches' stages, each with what their rows begin with. `shape` is
    that of one sample's output, `multiply_adds` are for one sample.
    """

    label: str
    shape: tuple[int, ...]
    num_params: int = 0
    multiply_adds: int = 0
    parts: list[tuple[str, list[Stage]]] = field(default_factory=list)


def shape_text(shape: object) -> str:
    """A shape, or a number for both axes, as in '16x8x8'."""
    return "x".join(map(str, shape)) if isinstance(shape, (tuple, list)) else str(shape)
