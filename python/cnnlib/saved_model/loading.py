"""Whatever a path holds: models, predictors, weights."""

from __future__ import annotations

import os
from typing import Any

from numpy.typing import NDArray

from cnnlib._system.text import shape_text
from cnnlib.checkpoint import load_checkpoint
from cnnlib.saved_model.kinds import READ, found_in, kind_of
from cnnlib.saved_model.model_file import is_model, read_model


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


def load(path: str | os.PathLike[str]) -> Any:
    """Read whatever `path` holds; what comes back says in its ``repr`` what it is.

    ================================================================  ==================================
    path                                                              result
    ================================================================  ==================================
    a file of a model's ``save(path)``                                the model
    a file of ``Predictor.save`` or of ``export("....cnnlib")``       a :class:`cnnlib.inference.Predictor`
    an ONNX file, of ``export("....onnx")`` or another program's      a :class:`cnnlib.models.GraphNet`; of
                                                                      a quantised one a Predictor
    the folder of a ``cnnlib train`` run, or a checkpoint in one      the run's model of its best epoch
    a Solver's checkpoint elsewhere, or a file of                     :class:`Arrays`, the (best)
    ``export("....npz")`` or of :func:`save_checkpoint`               parameters
    a safetensors file                                                :class:`Arrays`
    ================================================================  ==================================

    The kind follows from the content, not from the name.

    Raises
    ------
    ValueError
        If the file is damaged or of none of these kinds; the message names it, says what it is, and what is
        read. Of weights that PyTorch pickled it says how to convert them, since a pickle runs code.
    FileNotFoundError
        If there is no such file, or a folder is no run.
    OSError
        If it cannot be read.
    ImportError
        For an ONNX file without the onnx package.

    Examples
    --------
    >>> from cnnlib.models import FullyConnectedNet
    >>> net = FullyConnectedNet([20], input_dim=64, seed=0)
    >>> net.save("net.npz")
    >>> load("net.npz")
    FullyConnectedNet(64 -> 20 -> 10, float32, 1,510 parameters)
    >>> net.export("weights.npz")
    >>> load("weights.npz")
    Arrays of a checkpoint: W1 64x20 float32, b1 20 float32, W2 20x10 float32, b2 10 float32
    """
    path = os.fsdecode(path)  # which refuses a number, that of a file that is open
    kind = kind_of(path)
    if kind == "run":
        return _model_of_run(path)
    if kind == "npz":
        return _of_npz(path)
    if kind == "predictor":
        from cnnlib import inference

        return inference.load(path)
    if kind == "safetensors":
        from cnnlib import safetensors

        return Arrays(safetensors.load(path), "a safetensors file")
    if kind == "onnx":
        from cnnlib import onnx  # which needs a package of its own

        return onnx.load(path)
    error: type[Exception] = FileNotFoundError if kind in ("missing", "folder") else ValueError
    raise error(f"load: {path} {found_in(path, kind)}; cnnlib.load reads {READ}")


def _of_npz(path):
    params, content = load_checkpoint(path)
    if is_model(content):
        return read_model(path)
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
