"""Convolutional-network layers for NumPy: forward and backward, compiled, on the CPU."""

import importlib

from cnnlib import _core, layers
from cnnlib._config import (
    get_conv_algorithm,
    get_num_threads,
    release_buffers,
    set_conv_algorithm,
    set_num_threads,
    show_config,
)
from cnnlib.layers import *  # noqa: F403

__version__ = _core.__version__

# Imported when first asked for: the layers alone start faster.
_SUBMODULES = (
    "augment",
    "checkpoint",
    "convnet",
    "course",
    "data",
    "fast_layers",
    "gradient_check",
    "models",
    "naive",
    "optim",
    "plots",
    "schedules",
    "solver",
)

__all__ = [
    *layers.__all__,
    *_SUBMODULES,
    "explain",  # noqa: F405  (by __getattr__)
    "get_conv_algorithm",
    "get_num_threads",
    "layers",
    "release_buffers",
    "set_conv_algorithm",
    "set_num_threads",
    "show_config",
]


def __getattr__(name):
    if name in _SUBMODULES:
        return importlib.import_module(f"cnnlib.{name}")
    if name == "explain":
        return importlib.import_module("cnnlib._explain").explain
    raise AttributeError(f"module 'cnnlib' has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *__all__})
