"""Convolutional-network layers for NumPy: forward and backward, compiled, on the CPU.

Call a layer. Each `NAME_forward` returns `(out, cache)`, and `NAME_backward(dout, cache)` the gradients;
`help(cnnlib.layers)` lists them, and `cnnlib.naive` has each as a loop to read:

>>> import numpy as np
>>> import cnnlib
>>> x, w = np.ones((8, 1, 8, 8)), np.ones((4, 1, 3, 3))  # N, C, H, W and F, C, KH, KW
>>> out, cache = cnnlib.conv_forward(x, w, None, {"stride": 1, "pad": 1})
>>> dx, dw, db = cnnlib.conv_backward(np.ones_like(out), cache)
>>> out.shape, dx.shape, dw.shape
((8, 4, 8, 8), (8, 1, 8, 8), (4, 1, 3, 3))

Train a network of several stages (`help(cnnlib.models)`, `help(cnnlib.solver.Solver)`):

>>> data = cnnlib.data.load_digits()
>>> net = cnnlib.models.ConvNet([{"conv": 8}, "batchnorm", "relu", {"max_pool": 2}], (1, 8, 8), 10, seed=0)
>>> rate = {"learning_rate": 0.01}
>>> solver = cnnlib.solver.Solver(
...     net, data, update_rule="adam", optim_config=rate, num_epochs=3, seed=0, verbose=False
... )
>>> histories = solver.train()
>>> solver.best_val_acc > 0.9
True

Use it: a model gives scores, labels and probabilities, `save` and `export` write it to files, `load` reads a
file of any kind, and `prepare` packs a network for inference:

>>> net(data["X_test"][:3]).shape, net.predict(data["X_test"][:3]).shape
((3, 10), (3,))
>>> net.save("digits.npz")
>>> cnnlib.load("digits.npz").predict_proba(data["X_test"][:3]).shape
(3, 10)
>>> predictor = cnnlib.prepare(net)
>>> predictor.predict(data["X_test"][:3]).shape
(3,)

The command line does the same: `cnnlib train`, `cnnlib predict`.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

from cnnlib import _core, layers
from cnnlib._system.config import (
    get_conv_algorithm,
    get_num_threads,
    release_buffers,
    set_conv_algorithm,
    set_num_threads,
    show_config,
)
from cnnlib.layers import *

if TYPE_CHECKING:
    from cnnlib import (
        augment,
        checkpoint,
        course,
        data,
        detection,
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
    from cnnlib.benchmarking import benchmark
    from cnnlib.detection import detect
    from cnnlib.inference import prepare, prepare_conv
    from cnnlib.layers.explanation import explain
    from cnnlib.pretrained import features
    from cnnlib.saved_model import load

__version__: str = _core.__version__

_LATER = {
    "benchmark": "benchmarking",
    "detect": "detection",
    "explain": "layers.explanation",
    "features": "pretrained",
    "load": "saved_model",
    **dict.fromkeys(("prepare", "prepare_conv"), "inference"),
}

# Modules whose names are looked for here, too.
_PLACES = (
    "models",
    "solver",
    "data",
    "optim",
    "augment",
    "schedules",
    "inference",
    "plots",
    "detection",
    "gradient_check",
)

__all__ = ["augment", "benchmark", "checkpoint", "course", "data", "detect", "detection", "explain"]
__all__ += ["fast_layers", "features", "get_conv_algorithm", "get_num_threads", "gradient_check"]
__all__ += ["inference", "layers", "load", "models", "naive", "optim", "plots", "prepare", "prepare_conv"]
__all__ += ["release_buffers"]
__all__ += ["schedules", "set_conv_algorithm", "set_num_threads"]
__all__ += ["show_config", "solver"]
if not TYPE_CHECKING:  # as in cnnlib.layers
    __all__ += layers.__all__


def __getattr__(name: str) -> Any:
    """Modules and `_LATER`, imported when they are first asked for: the layers alone start faster."""
    if name in _LATER:
        return getattr(importlib.import_module(f"cnnlib.{_LATER[name]}"), name)
    if name.isidentifier() and name[0] != "_" and importlib.util.find_spec(f"cnnlib.{name}") is not None:
        return importlib.import_module(f"cnnlib.{name}")
    raise AttributeError(f"module 'cnnlib' has no attribute {name!r}{_where(name)}")


# Names that other libraries have at this place.
_A_NETWORK = "a network is cnnlib.models.ConvNet([{'conv': 16}, 'relu', ...], input_dim, num_classes)"
_ELSEWHERE = {
    **dict.fromkeys(("fit", "train"), "cnnlib.solver.Solver(net, data).train() trains a network"),
    **dict.fromkeys(("Sequential", "Model", "Module", "nn", "Conv2d", "Dense", "Linear"), _A_NETWORK),
    **dict.fromkeys(("from_module", "from_torch"), "from cnnlib.torch import from_module"),
    **dict.fromkeys(("save", "export"), "net.save(path) and net.export(path) write a network"),
    **dict.fromkeys(("predict", "evaluate"), "net.predict(X), or Solver(net, data).check_accuracy(X, y)"),
    "quantize": "cnnlib.prepare(net, precision='int8', calibration=images) makes eight bits",
}


def _where(name: str) -> str:
    """Say which module has a name that this one does not have; empty if none has it."""
    for other, text in _ELSEWHERE.items():
        if name.lower() == other.lower():
            return f"; {text}"
    for place in () if name.startswith("_") else _PLACES:
        if name in importlib.import_module(f"cnnlib.{place}").__all__:
            return f"; from cnnlib.{place} import {name}"
    return ""


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
