"""Data sets: the embedded handwritten digits, CIFAR-10 as published, and folders of images.

Every data set comes as a dict ``X_train, y_train, X_val, y_val, X_test, y_test``: what
:class:`cnnlib.solver.Solver` takes, and the test split beside it. :class:`Normalization` is for the Solver's
``preprocess``: it normalises each minibatch of images that are kept as they are.
"""

from cnnlib.data.cifar10 import CIFAR10_CLASSES, default_data_dir, get_CIFAR10_data, load_CIFAR10
from cnnlib.data.digits import load_digits
from cnnlib.data.download import download_CIFAR10
from cnnlib.data.image_folder import load_image_folder
from cnnlib.data.normalization import Normalization

__all__ = [
    "CIFAR10_CLASSES",
    "Normalization",
    "default_data_dir",
    "download_CIFAR10",
    "get_CIFAR10_data",
    "load_CIFAR10",
    "load_digits",
    "load_image_folder",
]
