"""How PyTorch's tensor of a value differs from the graph's."""

from __future__ import annotations

from cnnlib.graph.importing import Feature

# What PyTorch's tensor is:
PLAIN = "plain"  # the value itself
CHANNELS_LAST = "channels last"  # (N, H, W, C) of a value (N, C, H, W)
SPREAD = "spread"  # (N, C, 1), (N, C, 1, 1) or (N, C, H, W) of a value (N, C) or (N, C, 1, 1)
PADDED = "padded"  # the value with zeros around its images

# Why a layer does not take it.
REFUSED = {
    CHANNELS_LAST: "{} of images with channels last has no counterpart",
    SPREAD: "{} of a value for each channel that stands for images has no counterpart",
    PADDED: "padding before it is no part of this layer; it is of a convolution alone",
}
# Why no other is the output of a network.
RETURNED = {
    CHANNELS_LAST: "has channels last, which has no counterpart",
    SPREAD: "is a value for each channel, spread over images, which has no counterpart",
    PADDED: "is padded; padding is part of a convolution alone",
}


def kind(value: Feature) -> str:
    """One of the four."""
    if value.pad is not None:
        return PADDED
    if value.channels_last:
        return CHANNELS_LAST
    return PLAIN if value.view == value.shape else SPREAD
