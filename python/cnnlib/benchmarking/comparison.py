"""The comparison of a network in cnnlib with the engines that are installed: scores first, then turns."""

from __future__ import annotations

import contextlib
import copy
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

import cnnlib
from cnnlib import optim
from cnnlib._params import choice, number, positive_int, type_name
from cnnlib._params.arrays import as_array
from cnnlib._params.functions import is_of_torch
from cnnlib._system.packages import installed_version, required
from cnnlib.benchmarking import engines
from cnnlib.benchmarking.growth import OWN, grown_bytes
from cnnlib.benchmarking.installation import installed_bytes
from cnnlib.benchmarking.tables import chart, markdown
from cnnlib.benchmarking.timing import Times, difference, take_turns
from cnnlib.models import GraphNet
from cnnlib.models.graph_model import input_dim_of
from cnnlib.solver.update import Updater

PRECISIONS = ("float32", "float64", "bfloat16", "int8")
# Largest difference of scores from the model's own, relative to the largest score. Engines differ in the
# order of their sums and in their Winograd tiles; values of bfloat16 are rounded to 8 bits; eight bits
# differ by the ranges of the calibration.
TOLERANCES = {"float32": 2e-4, "float64": 1e-10, "bfloat16": 0.05, "int8": 0.5}
_LOSS_TOLERANCE = 1e-4  # of the losses of the first steps, relative (bench/step.py)
_CHECKED_STEPS = 3
_RATE, _MOMENTUM = 1e-3, 0.9  # of a timed training step, on both sides


@dataclass(frozen=True)
class Row:
    """The results of one engine.

    Attributes
    ----------
    engine, precision : str
    times : Times or None
        Seconds of a call. None: it was not timed, and `reason` says why.
    error : float or None
        Largest difference of its scores from the model's, relative to the largest score; of a training step
        that of the first losses.
    memory : int or None
        Bytes that making it and three calls add, at their peak.
    size : int or None
        Bytes of the package on the disk.
    version : str or None
    reason : str

    Examples
    --------
    >>> Row("onnxruntime", "float32", reason="no operator for it").name
    'ONNX Runtime float32'
    """

    engine: str
    precision: str
    times: Times | None = None
    error: float | None = None
    memory: int | None = None
    size: int | None = None
    version: str | None = None
    reason: str = ""

    @property
    def name(self) -> str:
        """The engine and its precision, in words."""
        return f"{engines.ENGINES.get(self.engine, self.engine)} {self.precision}"


@dataclass(frozen=True)
class Comparison:
    """The rows of a comparison; its ``str`` has a chart for the terminal and a table to paste.

    Attributes
    ----------
    network : str
    batch, threads : int
    what : 'scores' or 'step'
        A call for the scores of a batch, or a step of training.
    rows : list of Row
    missing : list of str
        Engines that are not installed.

    Examples
    --------
    >>> found = Comparison("a net", 8, 2, "scores", [Row("ncnn", "float32", reason="no layer for it")])
    >>> str(found).splitlines()[:3]
    ['a net: scores of 8 samples, 2 threads', '', 'ncnn float32  not timed: no layer for it']
    """

    network: str
    batch: int
    threads: int
    what: str
    rows: list[Row] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{chart(self)}\n\n{self.markdown()}"

    def markdown(self) -> str:
        """Return the rows as a table in Markdown."""
        return markdown(self)


def benchmark(
    model: Any,
    X: Any,
    y: Any = None,
    *,
    precision: str | Sequence[str] = "float32",
    threads: int | None = None,
    peers: Sequence[str] | None = None,
    train: bool = False,
    seconds: float = 2.0,
    memory: bool = True,
) -> Comparison:
    """Time a network beside the engines that are installed: PyTorch, ONNX Runtime, OpenVINO and ncnn.

    Each engine gets the same weights, the same batch and as many threads. Its scores are compared with the
    model's own before it is timed; an engine whose scores differ is named and not timed. Engines take turns,
    with pauses between them. The others compute in the model's dtype, float32 or float64.

    Parameters
    ----------
    model : model of cnnlib.models, or torch.nn.Module
    X : array, a batch of the samples that the network takes
        The batch; also the calibration of eight bits.
    y : array (N,) of int, optional
        Labels, for a step of training; random ones by default.
    precision : str or sequence of str
        Of cnnlib's prepared network: 'float32', 'float64', 'int8'.
    threads : int, optional
        By default those of :func:`cnnlib.get_num_threads`.
    peers : sequence of str, optional
        Of 'torch', 'onnxruntime', 'openvino', 'ncnn'; by default all. Those that are not installed are named.
    train : bool
        Time a step of training with momentum instead, in cnnlib and PyTorch: forward, backward and update.
        The losses of the first steps are compared before, without dropout; regularisation and label
        smoothing are left out.
    seconds : float
        Time of the calls of each row.
    memory : bool
        Measure memory, in a process for each row.

    Returns
    -------
    Comparison

    Raises
    ------
    TypeError
        For what is neither a model nor a module.
    ValueError
        For an unknown precision or peer, a batch that does not fit the model, and a network of several
        outputs. With `train` for a network of other than classes.
    ChildProcessError
        If the process that measures memory fails.

    Examples
    --------
    >>> from cnnlib.models import FullyConnectedNet
    >>> net, X = FullyConnectedNet([8], 16, 4, seed=0), np.ones((2, 16), np.float32)
    >>> found = benchmark(net, X, peers=(), seconds=0.01, memory=False)
    >>> found.rows[0].name, found.rows[0].times.minimum > 0, found.rows[0].error < 1e-4
    ('cnnlib float32', True, True)
    """
    precisions = (precision,) if isinstance(precision, str) else tuple(precision)
    for each in precisions:
        choice("benchmark", "precision", each, PRECISIONS)
    wanted = tuple(engines.ENGINES) if peers is None else tuple(peers)
    for each in wanted:
        choice("benchmark", "peers", each, tuple(engines.ENGINES))
    seconds = number("benchmark", "seconds", seconds, 0)
    X = as_array("benchmark", "X", X)
    module = model if is_of_torch(model) else None
    if module is not None:
        from_module = required(
            "cnnlib.torch", "benchmark of a torch.nn.Module", "PyTorch", "torch"
        ).from_module
        model = from_module(module, X.shape[1:])
    if not callable(getattr(model, "graph", None)):
        raise TypeError(f"benchmark: model must be one of cnnlib.models or a module, got {type_name(model)}")
    if model.outputs:
        raise ValueError(
            f"benchmark: model must have one output, whose scores are compared; this one has "
            f"{', '.join(model.outputs)}"
        )
    X = np.ascontiguousarray(X, model.dtype)
    installed = [name for name in wanted if name in engines.installed()]
    missing = [engines.ENGINES[name] for name in wanted if name not in installed]
    with _threads(threads, "torch" in installed) as count:
        if train:
            rows = _training(model, module, X, y, count, "torch" in installed, seconds)
            return Comparison(repr(model), len(X), count, "step", rows, missing)
        rows = _scoring(model, module, X, precisions, installed, count, seconds, memory)
        return Comparison(repr(model), len(X), count, "scores", rows, missing)


@contextlib.contextmanager
def _threads(threads: int | None, with_torch: bool) -> Iterator[int]:
    """Let kernels use so many threads within the block; behind it theirs and PyTorch's are as before."""
    with contextlib.ExitStack() as behind:
        if with_torch:  # whose number is put back last: both may set that of one OpenMP runtime
            import torch

            behind.callback(torch.set_num_threads, torch.get_num_threads())
        if threads is not None:
            behind.callback(cnnlib.set_num_threads, cnnlib.get_num_threads())
            cnnlib.set_num_threads(positive_int("benchmark", "threads", threads))
        yield cnnlib.get_num_threads()


def _scoring(
    model: Any,
    module: Any,
    X: np.ndarray,
    precisions: Sequence[str],
    peers: Sequence[str],
    threads: int,
    seconds: float,
    memory: bool,
) -> list[Row]:
    """Compare and time the scores of a batch."""
    want, dtype = np.asarray(model(X)), X.dtype.name
    calls: dict[str, Callable[[], Any]] = {}
    rows: list[Row] = []
    pairs = [*((OWN, precision) for precision in precisions), *((engine, dtype) for engine in peers)]
    with tempfile.TemporaryDirectory() as folder:
        saved, path = os.path.join(folder, "net.npz"), os.path.join(folder, "net.onnx")
        model.save(saved)
        no_file = _why_no_file(model, path) if set(engines.OF_ONNX) & set(peers) else ""
        for engine, precision in pairs:
            row = _row(engine, precision)
            reason = no_file if engine in engines.OF_ONNX else ""
            if engine in engines.OF_FLOAT32 and precision != "float32":
                reason = f"it computes in float32, the network in {precision}"
            if reason:
                rows.append(replace(row, reason=reason))
                continue
            try:
                call = _call(engine, precision, model, module, path, X, threads)
            except ValueError as fault:  # a layer that the engine lacks, or the precision
                rows.append(replace(row, reason=str(fault)))
                continue
            got = np.asarray(call()).reshape(want.shape).astype(want.dtype)
            error = difference((got,), (want,))
            row = replace(row, error=error)
            if not error <= _tolerance(precision, dtype):
                rows.append(replace(row, reason=f"its scores differ by {error:.1e} of the largest"))
                continue
            grown = grown_bytes(engine, precision, saved, path, X) if memory else None
            calls[row.name] = call
            rows.append(replace(row, memory=grown))
        times = take_turns(calls, seconds * len(calls))
    return [replace(row, times=times.get(row.name)) for row in rows]


def _why_no_file(model: Any, path: str) -> str:
    """Write the network's ONNX file; return why there is none, or an empty text."""
    if installed_version("onnx") is None:
        return "the package onnx, which writes the engine's file, is not installed"
    try:
        model.export(path)
    except ValueError as fault:  # a layer without an operator
        return str(fault)
    return ""


def _row(engine: str, precision: str) -> Row:
    """Return a row with what is known before any call."""
    version = cnnlib.__version__ if engine == OWN else installed_version(engine)
    return Row(engine, precision, size=installed_bytes(engine), version=version)


def _tolerance(precision: str, dtype: str) -> float:
    """Return the largest difference from scores of `dtype`, which are no more exact than that."""
    return TOLERANCES["float32" if precision == "float64" and dtype == "float32" else precision]


def _call(
    engine: str, precision: str, model: Any, module: Any, path: str, X: np.ndarray, threads: int
) -> Callable[[], Any]:
    """Make the network in an engine; ValueError where that lacks a layer or the precision."""
    if engine == "torch":
        return engines.torch_call(model, path, X, threads, module=module)
    if engine in engines.OF_ONNX:
        try:
            call = engines.CALLS[engine](model, path, X, threads)
            call()
        except Exception as fault:  # of the engine's own types, where it cannot read the file or run it
            raise ValueError(f"{type(fault).__name__}: {' '.join(str(fault).split())}") from fault
        return call
    if engine != OWN:
        return engines.CALLS[engine](model, path, X, threads)
    with warnings.catch_warnings():
        # The batch alone calibrates. Its ranges may not hold for other images, which are not timed here.
        warnings.simplefilter("ignore", UserWarning)
        predictor = cnnlib.prepare(model, precision=precision, calibration=X if precision == "int8" else None)
    x = X.astype(predictor.dtype, copy=False)
    return lambda: predictor(x)


def _training(
    model: Any, module: Any, X: np.ndarray, y: Any, threads: int, with_torch: bool, seconds: float
) -> list[Row]:
    """Compare the first losses and time steps of training, in cnnlib and, where it is installed, PyTorch."""
    labels = _labels(model, X, y)
    model = copy.deepcopy(model)
    model.reg, model.label_smoothing = 0.0, 0.0  # of which PyTorch's step knows nothing
    rows, calls = [_row(OWN, X.dtype.name)], {}
    calls[rows[0].name] = _own_step(model, X, labels)
    if with_torch:
        row, other = _row("torch", X.dtype.name), None
        try:
            other = _torch_step(model, module, X, labels, threads)
            row = replace(row, error=_losses_error(model, module, X, labels, threads))
        except ValueError as fault:  # a layer that has no counterpart there
            row = replace(row, reason=str(fault))
        if row.error is not None and not row.error <= _LOSS_TOLERANCE:
            row = replace(row, reason=f"its first losses differ by {row.error:.1e}")
        if other is not None and not row.reason:
            calls[row.name] = other
        rows.append(row)
    times = take_turns(calls, seconds * len(calls))
    return [replace(row, times=times.get(row.name)) for row in rows]


def _labels(model: Any, X: np.ndarray, y: Any) -> np.ndarray:
    """Return labels, random ones where none are given; ValueError for a network of other than classes."""
    if len(model.output_shape) != 1 or model.head == "values" or model.criterion is not None:
        raise ValueError(
            f"benchmark: train is for networks of classes with the softmax loss, not {model!r}; "
            "time its scores"
        )
    if y is None:
        return np.random.default_rng(0).integers(model.output_shape[0], size=len(X))
    return np.asarray(y)


def _losses_error(model: Any, module: Any, X: np.ndarray, y: np.ndarray, threads: int) -> float:
    """Return the largest relative difference of the first steps' losses, without dropout on either side."""
    if any(node.layer == "dropout" for node in model.graph()):  # whose masks are random
        model = _without_dropout(model)
    if module is not None:
        module = copy.deepcopy(module)
        for layer in module.modules():
            if "Dropout" in type(layer).__name__:
                layer.p = 0.0
    own, other = _own_step(model, X, y), _torch_step(model, module, X, y, threads)
    losses = [(own(), other()) for _ in range(_CHECKED_STEPS)]
    return max(abs(ours - theirs) / abs(theirs) for ours, theirs in losses)


def _without_dropout(model: Any) -> GraphNet:
    """Return a network of the same layers and weights that drops nothing."""
    graph = model.graph()
    nodes = [replace(node, args=({"p": 0.0},)) if node.layer == "dropout" else node for node in graph.nodes]
    arguments = {"num_classes": model.output_shape[0], "frozen": model.frozen, "dtype": model.dtype}
    return GraphNet(replace(graph, nodes=nodes), model.params, input_dim_of(model), **arguments)


def _own_step(model: Any, X: np.ndarray, y: np.ndarray) -> Callable[[], float]:
    """Make a call that trains a copy of the model by a step, and returns the loss."""
    model = copy.deepcopy(model)
    config = {"learning_rate": _RATE, "momentum": _MOMENTUM}
    updater = Updater(model.params, update_rule=optim.sgd_momentum, optim_config=config)
    configs = updater.first_configs(model.params)

    def step() -> float:
        loss, grads = model.loss(X, y)
        updater.step(model.params, grads, configs, 0, 1)
        return float(loss)

    return step


def _torch_step(model: Any, module: Any, X: np.ndarray, y: np.ndarray, threads: int) -> Callable[[], float]:
    """Make a call that trains a copy of it by a step in PyTorch, and returns the loss."""
    import torch

    from cnnlib.benchmarking.torch_module import TorchNet

    torch.set_num_threads(threads)
    network = (TorchNet(model) if module is None else copy.deepcopy(module)).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=_RATE, momentum=_MOMENTUM, fused=True)
    images, labels = torch.from_numpy(X), torch.from_numpy(y.astype(np.int64))

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step
