"""Convolutional-network layers for NumPy: forward and backward, compiled, on the CPU."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from cnnlib import (
        augment,
        checkpoint,
        convnet,
        course,
        data,
        fast_layers,
        gradient_check,
        inference,
        models,
        naive,
        optim,
        plots,
        schedules,
        solver,
    )
    from cnnlib._explain import explain
    from cnnlib.inference import prepare, prepare_conv
    from cnnlib.saved_model import load_model, save_model

__version__: str = _core.__version__

# Imported when first asked for: the layers alone start faster.
_SUBMODULES = (
    "augment",
    "checkpoint",
    "convnet",
    "course",
    "data",
    "distributed",
    "fast_layers",
    "gradient_check",
    "inference",
    "models",
    "naive",
    "onnx",
    "optim",
    "plots",
    "safetensors",
    "schedules",
    "solver",
)
_EXTRAS = ("sklearn", "torch")  # likewise; they raise ImportError without their extra
_LATER = {
    "explain": "_explain",
    "load_model": "saved_model",
    "prepare": "inference",
    "prepare_conv": "inference",
    "save_model": "saved_model",
}

__all__ = [
    "augment",
    "checkpoint",
    "convnet",
    "course",
    "data",
    "explain",
    "fast_layers",
    "get_conv_algorithm",
    "get_num_threads",
    "gradient_check",
    "inference",
    "layers",
    "load_model",
    "models",
    "naive",
    "optim",
    "plots",
    "prepare",
    "prepare_conv",
    "release_buffers",
    "save_model",
    "schedules",
    "set_conv_algorithm",
    "set_num_threads",
    "show_config",
    "solver",
]
__all__ += layers.__all__


def __getattr__(name: str) -> Any:
    if name in (*_SUBMODULES, *_EXTRAS):
        return importlib.import_module(f"cnnlib.{name}")
    if name in _LATER:
        return getattr(importlib.import_module(f"cnnlib.{_LATER[name]}"), name)
    raise AttributeError(f"module 'cnnlib' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
