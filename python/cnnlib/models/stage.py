"""A line of a ConvNet's spec as it has been built."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Stage:
    """One line of the spec.

    `layer`, `names` and `args` are those of its node in the graph; where branches meet, `layer` is the kind
    of stage and `parts` has the branches' stages, each with what their lines in the summary begin with.
    `shape` is that of one sample's output.
    """

    layer: str
    label: str
    shape: tuple[int, ...]
    names: tuple[str | None, ...] = ()
    args: tuple[Any, ...] = ()
    num_params: int = 0
    multiply_adds: int = 0
    parts: list[tuple[str, list[Stage]]] = field(default_factory=list)


def shape_text(shape: object) -> str:
    """A shape, or a number for both axes, as in '16x8x8'."""
    return "x".join(map(str, shape)) if isinstance(shape, (tuple, list)) else str(shape)
