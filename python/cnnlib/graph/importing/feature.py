"""A value of a network that is being read: as its source sees it, and as the graph holds it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TypeAlias

Sides: TypeAlias = tuple[tuple[int, int], ...]  # of each axis: ((top, bottom), (left, right)) of images


@dataclass(frozen=True)
class Feature:
    """A value that depends on the images.

    What only gives another shape to the same numbers in the same order (Flatten, Reshape, Squeeze, ...), or
    spreads a number for each channel over images, makes no node: it changes `view`.

    Attributes
    ----------
    name : str
        The graph's value.
    shape, view : tuple of int
        Of one sample: of the graph's value, and of the source's.
    channels_last : bool
        The source's value is the graph's with the channels moved to the end.
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

    @property
    def one_pixel(self) -> bool:
        """Whether the source sees images of one row and one column, or (N, D)."""
        return math.prod(self.view) == self.view[0]

    def seen_as(self, view: tuple[int, ...]) -> Feature:
        """The same numbers in the same order, in another shape."""
        return replace(self, view=view, channels_last=False)

    def seen_like(self, other: Feature) -> Feature:
        """The graph's value as the source sees another one."""
        return replace(self, view=other.view, channels_last=other.channels_last)

    def moved(self, view: tuple[int, ...], channels_last: bool) -> Feature:
        """With the channels at another place; of one pixel they are at both."""
        return replace(self, view=view, channels_last=channels_last and math.prod(view[:-1]) != 1)

    def padded(self, sides: Sides, value: float) -> Feature:
        """With constant pixels around the images of its view."""
        C, H, W = self.view
        return replace(self, view=(C, H + sum(sides[0]), W + sum(sides[1])), pad=sides, pad_value=value)

    def bare(self) -> Feature:
        """The graph's value, without the pixels around it."""
        return replace(self, view=self.shape, pad=None)
