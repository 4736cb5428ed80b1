"""Models in files of other programs: the suffix chooses the format."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlib import safetensors
from cnnlib._params import path_text
from cnnlib.checkpoint import save_checkpoint
from cnnlib.graph.description import batch_norms
from cnnlib.graph.ops.norm import STATISTICS
from cnnlib.inference import Predictor, prepare
from cnnlib.models.graph_model import GraphModel, refuse_uninitialized


def export(model: GraphModel | Predictor, path: str | os.PathLike[str]) -> None:
    """Write a model or a Predictor in the format that the suffix of `path` names."""
    where = f"{type(model).__name__}.export"
    name = path_text(where, "path", path)
    suffix = checked_suffix(where, name)
    refuse_uninitialized(where, model)
    _WRITERS[suffix][1](model, name)


def checked_suffix(where: str, name: str) -> str:
    """The suffix of a file's name; ValueError, which begins with `where`, if no format has it."""
    suffix = Path(name).suffix.lower()
    if suffix not in _WRITERS:
        known = ", ".join(f"{known} ({what})" for known, (what, _) in _WRITERS.items())
        raise ValueError(f"{where}: the suffix of {name} names no format; known are {known}")
    return suffix


def arrays_of(model: GraphModel | Predictor) -> dict[str, NDArray[Any]]:
    """The parameters, and the running statistics of the k-th batch norm as running_mean<k> running_var<k>.

    ValueError where a parameter has the name of one of these.
    """
    if isinstance(model, Predictor):
        graph, params = model.graph_and_params(eight_bits=True)
    else:
        graph, params = model.graph(), model.params
    arrays: dict[str, NDArray[Any]] = dict(params)
    for place, node in enumerate(batch_norms(graph).values(), start=1):
        for key in STATISTICS:
            value = node.args[0].get(key)
            if value is None:
                continue
            name = f"{key}{place}"
            if name in arrays:
                raise ValueError(f"export: the parameter {name!r} has the name of a running statistic")
            arrays[name] = np.asarray(value)
    return arrays


def _to_onnx(model: GraphModel | Predictor, path: str) -> None:
    from cnnlib import onnx  # a package of its own, which may be missing

    onnx.save(model, path)


def _to_safetensors(model: GraphModel | Predictor, path: str) -> None:
    safetensors.save(arrays_of(model), path)


def _to_npz(model: GraphModel | Predictor, path: str) -> None:
    save_checkpoint(arrays_of(model), path)


def _to_predictor(model: GraphModel | Predictor, path: str) -> None:
    prepare(model).save(path)


_WRITERS: dict[str, tuple[str, Callable[[GraphModel | Predictor, str], None]]] = {
    ".onnx": ("the network, for ONNX Runtime and other programs", _to_onnx),
    ".safetensors": ("its arrays", _to_safetensors),
    ".npz": ("its arrays, for NumPy", _to_npz),
    ".cnnlib": ("a Predictor", _to_predictor),
}
