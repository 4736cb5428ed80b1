"""Whatever a path holds: models, predictors, weights."""

from __future__ import annotations

import importlib
import os
import struct
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from cnnlib._system.text import shape_text
from cnnlib.checkpoint import load_checkpoint
from cnnlib.saved_model.model_file import is_model, load_model

_ZIP, _ONNX = b"PK\x03\x04", b"\x08"  # an ONNX file begins with its version
_MODULES = {"predictor": "cnnlib.inference", "onnx": "cnnlib.onnx", "safetensors": "cnnlib.safetensors"}
_KNOWN = (
    "a run's folder, files of save_model, Predictor.save, save_checkpoint and a Solver, safetensors and ONNX"
)


class Arrays(dict[str, NDArray[Any]]):
    """Arrays by name, and in `kind` what file they come from.

    Examples
    --------
    >>> Arrays({"W1": np.zeros((3, 2)), "b1": np.zeros(2)}, "a safetensors file")
    Arrays of a safetensors file: W1 3x2 float64, b1 2 float64
    """

    def __init__(self, arrays: dict[str, NDArray[Any]], kind: str) -> None:
        super().__init__(arrays)
        self.kind = kind

    def __repr__(self) -> str:
        parts = (f"{name} {shape_text(a.shape) or 1} {a.dtype.name}" for name, a in self.items())
        return f"Arrays of {self.kind}: {', '.join(parts) or 'none'}"


def kind_of(path: str | os.PathLike[str]) -> str:
    """What a path holds by its first bytes: 'run', 'predictor', 'npz', 'safetensors', 'onnx' or 'unknown'."""
    path = os.fspath(path)  # a number would be a file that is open, and be closed
    if os.path.isdir(path):
        return "run"
    from cnnlib.inference.file import is_predictor

    if is_predictor(path):
        return "predictor"
    with open(path, "rb") as file:
        first = file.read(9)
    if first.startswith(_ZIP):
        return "npz"
    if len(first) == 9 and first[8:] == b"{" and struct.unpack("<Q", first[:8])[0] < os.path.getsize(path):
        return "safetensors"
    return "onnx" if first.startswith(_ONNX) or Path(path).suffix.lower() == ".onnx" else "unknown"


def load(path: str | os.PathLike[str]) -> Any:
    """Read whatever `path` holds; what comes back says in its ``repr`` what it is.

    ================================================================  ==================================
    path                                                              result
    ================================================================  ==================================
    a file of :func:`save_model`                                      the model
    a file of ``Predictor.save``                                      a :class:`cnnlib.inference.Predictor`
    a file of :func:`cnnlib.onnx.save`, or another program's ONNX     a :class:`cnnlib.models.GraphNet`; of
                                                                      a quantised one a Predictor
    the folder of a ``cnnlib train`` run, or a checkpoint in one      the run's model of its best epoch
    a Solver's checkpoint elsewhere, of :func:`save_checkpoint` or    :class:`Arrays`, the (best)
    ``FullyConnectedNet.save``                                        parameters
    a safetensors file                                                :class:`Arrays`
    ================================================================  ==================================

    The kind follows from the content, not from the name.

    Raises
    ------
    ValueError
        If the file is damaged or of none of these kinds; the message names it.
    OSError
        If it cannot be read.
    ImportError
        For an ONNX file without the onnx package.

    Examples
    --------
    >>> from cnnlib.models import FullyConnectedNet
    >>> from cnnlib.saved_model import save_model
    >>> net = FullyConnectedNet([20], input_dim=64, seed=0)
    >>> save_model(net, "net.npz")
    >>> load("net.npz")
    FullyConnectedNet(64 -> 20 -> 10, float32, 1,510 parameters)
    >>> net.save("weights.npz")
    >>> load("weights.npz")
    Arrays of a checkpoint: W1 64x20 float32, b1 20 float32, W2 20x10 float32, b2 10 float32
    """
    kind = kind_of(path)
    if kind == "run":
        return _model_of_run(path)
    if kind in _MODULES:
        read = importlib.import_module(_MODULES[kind]).load(path)
        return Arrays(read, "a safetensors file") if kind == "safetensors" else read
    if kind == "npz":
        return _of_npz(path)
    raise ValueError(f"load: {os.fspath(path)} is none of what cnnlib reads: {_KNOWN}")


def _of_npz(path):
    params, content = load_checkpoint(path)
    if is_model(content):
        return load_model(path)
    if not (isinstance(content, dict) and isinstance(content.get("run"), dict)):
        return Arrays(params, "a checkpoint")
    from cnnlib.runs.config import lies_in_run

    if lies_in_run(path):
        return _model_of_run(path)
    best = content["run"].get("best")
    if not isinstance(best, dict) or not isinstance(best.get("params"), dict):
        raise ValueError(f"{os.fspath(path)} is damaged: it has no best parameters")
    return Arrays(best["params"], f"a Solver's checkpoint, epoch {content['run'].get('best_epoch')}")


def _model_of_run(path):
    from cnnlib.runs import Run

    run = Run.open(path)
    model = run.load_model(path, "best")
    model.preprocess, model.classes = run.normalization, run.classes
    return model
