"""Data sets: the embedded handwritten digits, and CIFAR-10 as published.

Every data set comes as a dict ``X_train, y_train, X_val, y_val, X_test, y_test``: what
:class:`cnnlib.solver.Solver` takes, and the test split beside it.
"""

from cnnlib.data.cifar10 import CIFAR10_CLASSES, default_data_dir, get_CIFAR10_data, load_CIFAR10
from cnnlib.data.digits import load_digits
from cnnlib.data.download import download_CIFAR10

__all__ = [
    "CIFAR10_CLASSES",
    "default_data_dir",
    "download_CIFAR10",
    "get_CIFAR10_data",
    "load_CIFAR10",
    "load_digits",
]
