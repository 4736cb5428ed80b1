"""The onnx package, and what belongs to a network but is no operator, in the model's metadata.

How its images are normalised, and its classes' names, stand there as JSON; why images must have the size
that it was made for, as text.
"""

from __future__ import annotations

import importlib
import json
from typing import Any

from cnnlib._params.registry import OWN
from cnnlib.data.normalization import PREPROCESSING
from cnnlib.inference.predictor import Predictor


def require_onnx(where: str) -> Any:
    """The module `onnx`.

    Raises
    ------
    ImportError
        If it is not installed; the message names the extra.
    """
    try:
        importlib.import_module("onnx.numpy_helper")  # numpy_helper and helper come with it
        return importlib.import_module("onnx")
    except ImportError as error:
        raise ImportError(f"{where} needs the onnx package: pip install 'cnnlib[onnx]'") from error


_PREPROCESS, _CLASSES, FIXED_BY = "cnnlib.preprocess", "cnnlib.classes", "cnnlib.fixed_by"


def described(model: Any, fixed_by: str) -> dict[str, str]:
    """The metadata of a model; a function of the user's own cannot be written."""
    function, classes = getattr(model, "preprocess", None), getattr(model, "classes", None)
    content = {}
    described = PREPROCESSING.describe(function)
    if described not in (None, OWN):
        content[_PREPROCESS] = json.dumps(described)
    if classes is not None:
        content[_CLASSES] = json.dumps(list(classes))
    if fixed_by:
        content[FIXED_BY] = fixed_by
    return content


def restore(title: str, model: Any, content: dict[str, str]) -> None:
    """Give a model its `preprocess` and `classes` back.

    Raises
    ------
    ValueError
        If they are damaged; the message begins with `title`.
    """
    try:
        if _PREPROCESS in content:
            settings = json.loads(content[_PREPROCESS])
            if not isinstance(settings, dict):
                raise ValueError(f"expected an object, got {settings!r}")
            model.preprocess = PREPROCESSING.build(settings)
        if _CLASSES in content:
            classes = json.loads(content[_CLASSES])
            if not (isinstance(classes, list) and all(isinstance(name, str) for name in classes)):
                raise ValueError(f"expected names, got {classes!r}")
            count = model.output_shape[0] if isinstance(model, Predictor) else model.num_classes
            if len(classes) != count:
                raise ValueError(f"{len(classes)} names for {count} classes")
            model.classes = tuple(classes)
    except (KeyError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"{title}: its metadata are damaged: {error}") from error
