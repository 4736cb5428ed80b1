"""Predictors of models, in floats, bfloat16 or eight bits, and of their files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from cnnlib import _core
from cnnlib._params import choice, real_dtype, type_name
from cnnlib.data.normalization import PREPROCESSING
from cnnlib.graph.bfloat16 import multiplied
from cnnlib.graph.ops.bfloat16 import rounded
from cnnlib.inference.file import read_file
from cnnlib.inference.fold import fold
from cnnlib.inference.predictor import Predictor
from cnnlib.inference.quantization.calibration import batches_of
from cnnlib.inference.quantization.preparing import quantized
from cnnlib.inference.quantization.table import Quantization
from cnnlib.inference.quantization.weights import METHODS
from cnnlib.models.graph_model import Model, input_dim_of, refuse_uninitialized


def prepare(
    model: Any,
    *,
    dtype: DTypeLike | None = None,
    algorithm: str = "auto",
    precision: str | None = None,
    calibration: Any = None,
    float32: Sequence[str] = (),
    ranges: str = "mse",
) -> Predictor:
    """
    Prepare a model for inference, as it is now. The predictor is a copy: training the model on, or changing
    its arrays and parameter dicts, does not change it.

    With ``precision='bfloat16'`` weights and values are bfloat16, rounded to nearest even; sums, biases,
    norms and scores are float32. A processor without instructions for bfloat16 computes in float32 with the
    same weights, which `Predictor.summary` says. Bits depend on the instructions, not on threads or batches.

    With ``precision='int8'`` weights and values are bytes and sums exact integers: scores are the same bits
    on every instruction set, number of threads and batch, where all layers are of eight bits.
    :mod:`cnnlib.naive.quantized` defines them.

    Parameters
    ----------
    model : model of cnnlib.models, or what cnnlib.onnx.load returns
    dtype : np.float32, np.float64 or None
        None: the model's.
    algorithm : str
        Of the convolutions that do not name their own, as in `conv_param`.
    precision : 'int8', 'bfloat16', 'float32', 'float64' or None
        The last two are another way to give `dtype`.
    calibration : array (N, C, H, W) or (N, D), iterable of such batches, or path of a folder of images
        For int8, a few hundred samples like those to come, uint8 or as the network takes them: they show
        which range each value needs. Without a `preprocess` uint8 images count as values of 0 to 255, which a
        UserWarning says.
    float32 : sequence of str
        Layers that stay in float32, by the labels that `Predictor.quantization` shows. Those that lose too
        much stay so by themselves.
    ranges : 'mse', 'percentile' or 'minmax'
        What a range covers: what makes the least mean squared error, all but a ten-thousandth of the values,
        or all that calibration showed.

    Returns
    -------
    Predictor

    Raises
    ------
    TypeError
        For what has no graph of layers, and for another dtype.
    ValueError
        For calibration that is empty, of another shape, not finite or of one value; options of int8 for
        another precision, or a `dtype` that contradicts it. For int8 of a network with several outputs.
        For a layer that is not known here, an unknown algorithm, and a ConvNet whose filters wait for
        `initialize`.
    ValueError, TypeError, KeyError
        For weights, running statistics and options that the model's `loss` refuses, in the same words.

    Examples
    --------
    >>> from cnnlib.models import ConvNet
    >>> net = ConvNet("resnet8", (3, 32, 32), 10, seed=0)
    >>> predictor = prepare(net)
    >>> predictor
    <Predictor 3x32x32, 14 operations, float32, 77,370 parameters>
    >>> predictor(np.zeros((5, 3, 32, 32))).shape
    (5, 10)
    """
    if isinstance(model, Predictor):  # an eight-bit network of cnnlib.onnx.load
        others = precision not in (None, model.precision) or dtype not in (None, model.dtype)
        if others or calibration is not None or len(float32) or (algorithm, ranges) != ("auto", "mse"):
            raise ValueError(f"prepare: the model is a predictor of {model.precision} already")
        return model
    if isinstance(model, type) or not callable(getattr(model, "graph", None)):
        raise TypeError(
            f"prepare: model must be one of cnnlib.models, or from cnnlib.onnx, got {type_name(model)}"
        )
    refuse_uninitialized("prepare", model)
    if precision is not None:
        choice("prepare", "precision", precision, ("int8", "bfloat16", "float32", "float64"))
        computed = precision if precision == "float64" else "float32"
        if dtype is not None and real_dtype("prepare", dtype, TypeError) != computed:
            raise ValueError(f"prepare: precision {precision!r} contradicts dtype {np.dtype(dtype)}")
        dtype = np.dtype(computed)
    if precision != "int8" and (calibration is not None or len(float32) or ranges != "mse"):
        raise ValueError("prepare: calibration, float32 and ranges are for precision='int8'")
    own = real_dtype("prepare", model.dtype if dtype is None else dtype, TypeError)
    choice("prepare", "algorithm", algorithm, _core.conv_methods)
    input_dim = input_dim_of(model)
    graph, params = fold(model.graph(), model.params, input_dim, own, algorithm)
    if precision == "bfloat16":
        params |= {name: rounded(params[name]) for name in multiplied(graph)}
    classes = getattr(model, "classes", None)
    predictor = Predictor(
        graph,
        params,
        input_dim,
        own,
        getattr(model, "preprocess", None),
        None if classes is None else tuple(classes),
        head=model.head if isinstance(model, Model) else "classes",
        loss_name=model.loss_name if isinstance(model, Model) else None,
        detection=model.detection if isinstance(model, Model) else None,
        bfloat16=precision == "bfloat16",
    )
    if precision == "int8":
        predictor = _of_eight_bits(predictor, calibration, float32, ranges)
    predictor._network(predictor.input_dim)  # errors show now, and the first call is as fast as the others
    return predictor


def _of_eight_bits(predictor: Predictor, calibration: Any, kept: Sequence[str], ranges: str) -> Predictor:
    """The predictor in eight bits, by what it makes of calibration samples."""
    if calibration is None:
        raise ValueError("prepare: precision='int8' needs calibration, some hundred samples of those to come")
    choice("prepare", "ranges", ranges, METHODS)
    graph, params = predictor.graph_and_params()
    graph.refuse_several("prepare: precision='int8'")
    images = map(predictor._calibration, batches_of(calibration, predictor))
    names = (kept,) if isinstance(kept, str) else tuple(kept)
    graph, params, table = quantized(graph, params, predictor.input_dim, images, names, ranges)
    described = predictor.input_dim, predictor.dtype, predictor.preprocess, predictor.classes
    ends = predictor.head, predictor.loss_name, predictor.detection
    return Predictor(graph, params, *described, None, table, *ends)


def load(path: str | os.PathLike[str]) -> Predictor:
    """
    Read a predictor that `Predictor.save` wrote.

    The weights are mapped into memory, and their checksums compared, when samples come first. To save another
    predictor under the file's name is safe. What writes into the file itself, as `cp` does, is noticed at the
    next call, which compares the checksums again; but a file that is cut short during a call ends the process
    with SIGBUS.

    Raises
    ------
    ValueError
        For a file that is no predictor, is incomplete, or was altered; the message names it. Of weights, the
        predictor says so when it is called.
    OSError
        If it cannot be read.

    Examples
    --------
    >>> from cnnlib.models import FullyConnectedNet
    >>> prepare(FullyConnectedNet([3], 4, 2, seed=0)).save("net.cnnlib")
    >>> load("net.cnnlib")
    <Predictor 4, 2 operations, float32, 23 parameters>
    """
    about, graph, params, check = read_file(path)
    described, rows = about["preprocess"], about["quantization"]
    return Predictor(
        graph,
        params,
        tuple(about["input_dim"]),
        np.dtype(about["dtype"]),
        None if described is None else PREPROCESSING.build(described),
        None if about["classes"] is None else tuple(about["classes"]),
        check,
        None if rows is None else Quantization(rows),
        about["head"],
        about["loss_name"],
        about["detection"],
        about["bfloat16"],
    )
