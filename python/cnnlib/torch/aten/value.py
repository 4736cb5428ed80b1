"""A value of the network that is made, and how PyTorch's tensor of it differs."""

from __future__ import annotations

from dataclasses import dataclass, replace

__all__ = ["CHANNELS_LAST", "PADDED", "PLAIN", "RETURNED", "SPREAD", "Sides", "Value"]

Sides = tuple[tuple[int, int], tuple[int, int]]  # (above, below), (before, behind)

# What PyTorch's tensor is:
PLAIN = "plain"  # the value itself
CHANNELS_LAST = "channels last"  # (N, H, W, C) of a value (N, C, H, W)
SPREAD = "spread"  # (N, C, 1), (N, C, 1, 1) or (N, C, H, W) of a value (N, C) or (N, C, 1, 1)
PADDED = "padded"  # the value with zeros around its images, as far as `pad` says

# Why no other is the output of a network.
RETURNED = {
    CHANNELS_LAST: "has channels last, which has no counterpart",
    SPREAD: "is a value for each channel, spread over images, which has no counterpart",
    PADDED: "is padded; padding is part of a convolution alone",
}


@dataclass(frozen=True)
class Value:
    """A value of the graph that a recorded node stands for.

    Attributes
    ----------
    name : str
        In the graph.
    shape : tuple of int
        There, of the recorded batch.
    kind : str
        How PyTorch's tensor differs: `PLAIN`, `CHANNELS_LAST`, `SPREAD` or `PADDED`.
    pad : ((int, int), (int, int))
        Zeros above, below, before and behind the images.
    """

    name: str
    shape: tuple[int, ...]
    kind: str = PLAIN
    pad: Sides = ((0, 0), (0, 0))

    def turned(self) -> Value:
        """The value with channels last, or first again."""
        return replace(self, kind=PLAIN if self.kind == CHANNELS_LAST else CHANNELS_LAST)

    def is_of(self, tensor: tuple[int, ...]) -> bool:
        """Whether PyTorch's tensor of it can have this shape."""
        if self.kind == PLAIN:
            return tensor == self.shape
        N, C, *size = self.shape
        if self.kind == SPREAD:
            return tensor[:2] == (N, C) and (len(tensor) == 4 or tensor[2:] == (1,)) and size in ([], [1, 1])
        if len(tensor) != 4:
            return False
        if self.kind == CHANNELS_LAST:
            return tensor == (N, *size, C)
        return tensor == (N, C, *(n + sum(side) for n, side in zip(size, self.pad)))
