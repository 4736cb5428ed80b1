"""Networks that others trained, as the start of one's own: the features that they compute of images."""

from cnnlib.pretrained.extraction import features
from cnnlib.pretrained.store import Features
from cnnlib.pretrained.torchvision import load_torchvision

__all__ = ["Features", "features", "load_torchvision"]
