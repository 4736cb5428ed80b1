"""The file of a model's ``save``: all that is needed to use it, and to train it on.

The file is one of :mod:`cnnlib.checkpoint`, so ``np.load`` reads the parameters without pickle.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from cnnlib._params import choice, probability, type_name
from cnnlib.checkpoint import load_checkpoint, save_checkpoint
from cnnlib.course import TwoLayerNet, keep_ratio
from cnnlib.data.normalization import PREPROCESSING
from cnnlib.detection.head import DetectionHead, checked_head
from cnnlib.graph.description import describe, described_graph
from cnnlib.models import ConvNet, FullyConnectedNet, GraphNet, ThreeLayerConvNet
from cnnlib.models.graph_model import checked_classes, refuse_uninitialized
from cnnlib.models.losses import checked_loss_name
from cnnlib.models.spec.builder import parameters_at_most
from cnnlib.models.spec.reading import HEADS
from cnnlib.models.state import check_state_fits, restore, snapshot

_Saved: TypeAlias = GraphNet | FullyConnectedNet | ThreeLayerConvNet
_CLASSES: dict[str, type[_Saved]] = {
    **{
        kind.__name__: kind for kind in (ConvNet, FullyConnectedNet, GraphNet, ThreeLayerConvNet, TwoLayerNet)
    },
    "keep_ratio.FullyConnectedNet": keep_ratio.FullyConnectedNet,
}
_NAMES = {kind: name for name, kind in _CLASSES.items()}
_SPARE = 2**20  # so few values more than a file has are built, and refused for their shapes
_PARTS = ("model", "bn_params", "label_smoothing", "preprocess", "classes", "loss_name")


def write_model(
    model: Any,
    path: str | os.PathLike,
    preprocess: Callable[[np.ndarray], np.ndarray] | Mapping[str, Any] | None = None,
    classes: Sequence[str] | None = None,
) -> None:
    """Write a model to a file; see :meth:`cnnlib.models.GraphNet.save`, which calls this."""
    where = f"{type(model).__name__}.save"
    name = _NAMES.get(type(model))
    if name is None:
        raise TypeError(
            f"{where}: the class must be one of cnnlib.models ({', '.join(_CLASSES)}), got "
            f"{type_name(model)} of your own; cnnlib.checkpoint.save_checkpoint stores arrays of any"
        )
    refuse_uninitialized(where, model)
    function = model.preprocess if preprocess is None else PREPROCESSING.build(preprocess)
    described = PREPROCESSING.stored(where, function)
    arguments = {**model.arguments, "dtype": model.dtype.name, "reg": model.reg}
    if classes is None:
        classes = model.classes
    if classes is not None:
        classes = checked_classes(f"{where}: the list", classes, model)
    state = snapshot(model)
    described_model = {"class": name, "arguments": arguments}
    if isinstance(model, ConvNet):
        described_model["frozen"] = list(model.frozen)
    elif name == "GraphNet":
        described_model["graph"] = describe(model.graph())
        described_model["head"] = choice(where, "head", model.head, HEADS)
    head = checked_head(where, getattr(model, "detection", None))
    if head is not None:
        described_model["detection"] = head.described()
    check_state_fits(f"{where}: the model", _built(described_model, state["params"]), state)
    params = state.pop("params")
    content = {
        "model": described_model,
        **state,
        "label_smoothing": probability(where, "label_smoothing", model.label_smoothing),
        "preprocess": described,
        "classes": classes,
        "loss_name": checked_loss_name(where, model.loss_name, model.outputs),
    }
    save_checkpoint(params, path, content)


def read_model(path: str | os.PathLike) -> GraphNet | FullyConnectedNet | ThreeLayerConvNet:
    """Read what :func:`write_model` wrote; ValueError, which names the file, for a damaged or another one."""
    path = os.fspath(path)
    params, content = _content(path)
    try:
        described = content["model"]
        model = _built(described, params)
        if "detection" in described:
            model.detection = DetectionHead.of("its model", described["detection"])
        preprocess = content["preprocess"]
        model.preprocess = None if preprocess is None else PREPROCESSING.build(preprocess)
        if content["classes"] is not None:
            model.classes = checked_classes("its list", content["classes"], model)
        smoothing = content["label_smoothing"]
        if not isinstance(smoothing, float) or not 0 <= smoothing < 1:
            raise ValueError(f"its label_smoothing is {smoothing!r}")
        model.label_smoothing = smoothing
        model.loss_name = checked_loss_name("its model", content["loss_name"], model.outputs)
    except (AttributeError, IndexError, KeyError, MemoryError, OverflowError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    state = {"params": params, "bn_params": content["bn_params"]}
    check_state_fits(path, model, state)
    restore(model, state)
    return model


def read_state(path: str | os.PathLike) -> dict[str, Any]:
    """Read the parameters and statistics alone, as a snapshot of the model."""
    params, content = _content(os.fspath(path))
    return {"params": params, "bn_params": content["bn_params"]}


def _content(path):
    params, content = load_checkpoint(path)
    if not is_model(content):
        kind = "a Solver's checkpoint, which load_weights reads" if "run" in content else "no saved model"
        raise ValueError(f"{path} is {kind}: a model's save(path) did not write it")
    return params, content


def is_saved_model(path: str | os.PathLike) -> bool:
    """Whether :func:`write_model` wrote the file; False if it is damaged."""
    try:
        return is_model(load_checkpoint(path)[1])
    except ValueError:
        return False


def _built(described, params):
    """The model of a description, with the parameters of its class's own; of a graph, with these."""
    arguments = {**described["arguments"], "dtype": np.dtype(described["arguments"]["dtype"])}
    if described["class"] != "GraphNet":
        seed = arguments.get("seed")
        # The weights are replaced, and must not come from np.random, whose stream is the user's.
        with (
            parameters_at_most(_SPARE + sum(value.size for value in params.values())),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore", UserWarning)  # who made the network has seen them
            model: Any = _CLASSES[described["class"]](**{**arguments, "seed": 0 if seed is None else seed})
        model.seed = model.arguments["seed"] = seed
        if described.get("frozen"):
            model.freeze(*described["frozen"])
        return model
    model = GraphNet(described_graph(described["graph"]), params, **arguments)
    model.head = choice("its model", "head", described["head"], HEADS)
    return model


def is_model(content):
    return isinstance(content, dict) and all(part in content for part in _PARTS)
