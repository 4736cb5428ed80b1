"""Networks and layers prepared for use: weights packed once, not at each call."""

from cnnlib.inference.prepared_conv import PreparedConv, prepare_conv

__all__ = ["PreparedConv", "prepare_conv"]
