"""Networks and layers prepared for use: weights packed once, not at each call."""

from cnnlib.inference.predictor import Predictor
from cnnlib.inference.preparation import load, prepare
from cnnlib.layers.conv import PreparedConv, prepare_conv

__all__ = ["Predictor", "PreparedConv", "load", "prepare", "prepare_conv"]
