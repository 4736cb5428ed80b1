"""What the operators of a file read and make: constants, and what is computed from the images."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from numpy.typing import NDArray

Sides: TypeAlias = tuple[tuple[int, int], ...]  # of each axis: ((top, bottom), (left, right)) of images


@dataclass(frozen=True)
class Feature:
    """A value that depends on the images, as the file sees it and as the graph holds it.

    What only gives another shape to the same numbers in the same order (Flatten, Reshape, Squeeze, ...) makes
    no node: it changes `view`.

    Attributes
    ----------
    name : str
        The graph's value.
    shape, view : tuple of int
        Of one sample: of the graph's value, and of the file's.
    channels_last : bool
        The file's value is the graph's with the channels moved to the end.
    pad : tuple of (int, int), or None
        Constant pixels around it (top, bottom), (left, right), which the layer behind takes in; they are part
        of `view`.
    pad_value : float
    alone : bool
        Nothing else reads what leads from the graph's value to this one.
    """

    name: str
    shape: tuple[int, ...]
    view: tuple[int, ...]
    channels_last: bool = False
    pad: Sides | None = None
    pad_value: float = 0.0
    alone: bool = True

    @property
    def channel_axis(self) -> int:
        """The axis of `view` that the channels are."""
        return len(self.view) - 1 if self.channels_last else 0

    def seen_as(self, view: tuple[int, ...]) -> Feature:
        """The same numbers in the same order, in another shape."""
        return replace(self, view=view, channels_last=False)

    def moved(self, view: tuple[int, ...], channels_last: bool) -> Feature:
        """With the channels at another place; of one pixel they are at both."""
        return replace(self, view=view, channels_last=channels_last and math.prod(view[:-1]) != 1)


Constant: TypeAlias = NDArray[Any]  # numbers of any type; with Symbols in it an object array
Value: TypeAlias = Feature | Constant
