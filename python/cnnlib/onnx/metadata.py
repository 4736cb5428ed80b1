"""The onnx package, and what belongs to a network but is no operator, in the model's metadata.

How its images are normalised, and its classes' names, stand there as JSON; what it ends in, and why images
must have the size that it was made for, as text. What the outputs of a detection network mean stands there as
Ultralytics writes it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

from cnnlib._params import choice
from cnnlib._params.registry import OWN
from cnnlib._system.packages import required
from cnnlib.data.normalization import NORMALIZATIONS, PREPROCESSING
from cnnlib.detection.head import checked_head
from cnnlib.inference.predictor import Predictor
from cnnlib.models.graph_model import Model, checked_classes, input_dim_of
from cnnlib.models.losses import checked_loss_name
from cnnlib.models.spec.reading import HEADS
from cnnlib.onnx.ultralytics import classes_of, head_of, metadata_of, size_of


def require_onnx(where: str) -> Any:
    """The module `onnx`; ImportError that names the extra, if it is not installed."""
    names = where, "the onnx package", "onnx"
    required("onnx.numpy_helper", *names)  # with which helper comes, too
    return required("onnx", *names)


_PREPROCESS, _CLASSES, FIXED_BY = "cnnlib.preprocess", "cnnlib.classes", "cnnlib.fixed_by"
_HEAD, _LOSS = "cnnlib.head", "cnnlib.loss"


def described(model: Any, fixed_by: str) -> dict[str, str]:
    """The metadata of a model; a function of the user's own cannot be written."""
    function, classes = getattr(model, "preprocess", None), getattr(model, "classes", None)
    content = {}
    described = PREPROCESSING.describe(function)
    if described not in (None, OWN):
        content[_PREPROCESS] = json.dumps(described)
    if classes is not None:
        content[_CLASSES] = json.dumps(checked_classes("cnnlib.onnx.save: the list", classes, model))
    if isinstance(model, (Model, Predictor)) and model.head != "classes":
        content[_HEAD] = choice("cnnlib.onnx.save", "head", model.head, HEADS)
    if isinstance(model, (Model, Predictor)) and model.loss_name is not None:
        content[_LOSS] = json.dumps(checked_loss_name("cnnlib.onnx.save", model.loss_name, model.outputs))
    head = checked_head("cnnlib.onnx.save", getattr(model, "detection", None))
    if head is not None:
        content |= metadata_of(head, input_dim_of(model)[1:])
    if fixed_by:
        content[FIXED_BY] = fixed_by
    return content


def restore(title: str, model: Any, content: dict[str, str]) -> None:
    """Give a model its `preprocess`, `classes`, `head`, `loss_name` and `detection` back.

    A network of Ultralytics takes pixels as numbers from 0 to 1. ValueError, which begins with `title`, if
    they are damaged.
    """
    with _refusing_damage(title):
        detection, named = head_of(content), classes_of(content)
        if detection is not None or named is not None:
            model.preprocess = NORMALIZATIONS["unit"]
        if named is not None:
            model.classes = checked_classes("its list", named, model)
        if _PREPROCESS in content:
            settings = json.loads(content[_PREPROCESS])
            if not isinstance(settings, dict):
                raise ValueError(f"expected an object, got {settings!r}")
            model.preprocess = PREPROCESSING.build(settings)
        if _CLASSES in content:
            classes = json.loads(content[_CLASSES])
            if not isinstance(classes, list):
                raise ValueError(f"expected names, got {classes!r}")
            model.classes = checked_classes("its list", classes, model)
        model.detection = detection
        usual = "classes" if detection is None else "values"
        model.head = choice("metadata", "head", content.get(_HEAD, usual), HEADS)
        if _LOSS in content:
            model.loss_name = checked_loss_name("metadata", json.loads(content[_LOSS]), model.outputs)


def image_size(title: str, content: dict[str, str]) -> tuple[int, int] | None:
    """Height and width of a network's images, where its metadata say them; errors are those of `restore`."""
    with _refusing_damage(title):
        return size_of(content)


@contextlib.contextmanager
def _refusing_damage(title: str) -> Iterator[None]:
    """Turn what damaged metadata raise in the block into a ValueError that begins with `title`."""
    try:
        yield
    except (KeyError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"{title}: its metadata are damaged: {error}") from error
