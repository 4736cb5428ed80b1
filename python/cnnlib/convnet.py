"""ConvNet and the specs that have a name; they live in :mod:`cnnlib.models`."""

from cnnlib.models.convnet import ConvNet
from cnnlib.models.spec.reading import NAMED_SPECS

__all__ = ["NAMED_SPECS", "ConvNet"]
