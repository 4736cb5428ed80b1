"""A trained model in a file, with all that is needed to use it.

The file is one of :mod:`cnnlib.checkpoint`, so ``np.load`` reads the parameters without pickle.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from cnnlib._params import choice, probability, type_name
from cnnlib.checkpoint import load_checkpoint, save_checkpoint
from cnnlib.course import TwoLayerNet, keep_ratio
from cnnlib.data.normalization import PREPROCESSING, Normalization
from cnnlib.graph.description import describe, described_graph
from cnnlib.models import ConvNet, FullyConnectedNet, GraphNet, ThreeLayerConvNet
from cnnlib.models.graph_model import checked_classes, refuse_uninitialized
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
_PARTS = ("model", "bn_params", "label_smoothing", "preprocess", "classes")


def save_model(
    model: GraphNet | FullyConnectedNet | ThreeLayerConvNet,
    path: str | os.PathLike,
    *,
    preprocess: Normalization | Mapping[str, Any] | None = None,
    classes: Sequence[str] | None = None,
) -> None:
    """Write a model to a file: architecture, parameters, batch-norm statistics, and what belongs to it.

    Parameters
    ----------
    model : ConvNet, GraphNet, FullyConnectedNet or ThreeLayerConvNet
    path : str or path
        Any name; the file is in NumPy's ``.npz`` format. It is written whole or not at all.
    preprocess : Normalization or None
        What images go through before the model; None for the model's own `preprocess`, if it has one.
    classes : sequence of str or None
        A name for each class; None for the model's own `classes`, if it has them.

    Raises
    ------
    TypeError
        If the model is of another class, or `preprocess` is a function of the user's own.
    ValueError
        If the parameters no longer fit the architecture, the classes are not as many as the model's, or
        filters of a ConvNet wait for `initialize`.
    OSError
        If the file cannot be written; nothing is left behind then.

    Examples
    --------
    >>> import tempfile
    >>> model = FullyConnectedNet([20], input_dim=(1, 8, 8), seed=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "digits.npz")
    ...     save_model(model, path, preprocess=Normalization(0, 255), classes="0123456789")
    ...     loaded = load_model(path)
    >>> loaded.loss(loaded.preprocess(np.zeros((5, 1, 8, 8), np.uint8))).shape
    (5, 10)
    """
    name = _NAMES.get(type(model))
    if name is None:
        raise TypeError(
            f"save_model: model must be one of cnnlib.models ({', '.join(_CLASSES)}), "
            f"got {type_name(model)}; cnnlib.checkpoint.save_checkpoint stores the arrays of any other"
        )
    refuse_uninitialized("save_model", model)
    function = model.preprocess if preprocess is None else PREPROCESSING.build(preprocess)
    described = PREPROCESSING.stored("save_model", function)
    arguments = {**model.arguments, "dtype": model.dtype.name, "reg": model.reg}
    if classes is None:
        classes = model.classes
    if classes is not None:
        classes = checked_classes("save_model", classes, model)
    state = snapshot(model)
    described_model = {"class": name, "arguments": arguments}
    if isinstance(model, ConvNet):
        described_model["frozen"] = list(model.frozen)
    elif name == "GraphNet":
        described_model["graph"] = describe(model.graph())
        described_model["head"] = choice("save_model", "head", model.head, HEADS)
    check_state_fits("save_model: the model", _built(described_model, state["params"]), state)
    params = state.pop("params")
    content = {
        "model": described_model,
        **state,
        "label_smoothing": probability("save_model", "label_smoothing", model.label_smoothing),
        "preprocess": described,
        "classes": classes,
    }
    save_checkpoint(params, path, content)


def load_model(path: str | os.PathLike) -> GraphNet | FullyConnectedNet | ThreeLayerConvNet:
    """Read a model that :func:`save_model` wrote, with its parameters and batch-norm statistics.

    Its `preprocess` (a Normalization, or None) is what images go through before ``loss``, and `classes` (a
    tuple of str, or None) names the classes.

    Raises
    ------
    ValueError
        If the file is damaged, cut short, altered, or not a saved model; the message names it.
    OSError
        If it cannot be read.

    Examples
    --------
    >>> save_model(FullyConnectedNet([20], 64, seed=0), "net.npz")
    >>> load_model("net.npz").params["W1"].shape
    (64, 20)
    """
    path = os.fspath(path)
    params, content = load_checkpoint(path)
    if not is_model(content):
        kind = "a Solver's checkpoint, which load_weights reads" if "run" in content else "no saved model"
        raise ValueError(f"{path} is {kind}, and was not written by save_model")
    try:
        described = content["model"]
        model = _built(described, params)
        preprocess = content["preprocess"]
        model.preprocess = None if preprocess is None else PREPROCESSING.build(preprocess)
        if content["classes"] is not None:
            model.classes = checked_classes("its list", content["classes"], model)
        smoothing = content["label_smoothing"]
        if not isinstance(smoothing, float) or not 0 <= smoothing < 1:
            raise ValueError(f"its label_smoothing is {smoothing!r}")
        model.label_smoothing = smoothing
    except (AttributeError, IndexError, KeyError, MemoryError, OverflowError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    state = {"params": params, "bn_params": content["bn_params"]}
    check_state_fits(path, model, state)
    restore(model, state)
    return model


def is_saved_model(path: str | os.PathLike) -> bool:
    """Return whether :func:`save_model` wrote the file; False if it is damaged.

    Examples
    --------
    >>> save_model(FullyConnectedNet([20], 64, seed=0), "net.npz")
    >>> is_saved_model("net.npz")
    True
    """
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
        with parameters_at_most(_SPARE + sum(value.size for value in params.values())):
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
