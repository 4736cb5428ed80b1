"""A network prepared for inference: what it computes, and its file."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from cnnlib import _core
from cnnlib._params import choice
from cnnlib._params.arrays import as_array, checked_reals
from cnnlib._system.memory_use import MemoryUse
from cnnlib._system.text import shape_text, size_text
from cnnlib._typing import Array, ArrayLike, Outputs, Params
from cnnlib.data.normalization import PREPROCESSING, Normalization, of_bytes, preprocessed
from cnnlib.detection.head import DetectionHead, checked_head
from cnnlib.graph.bfloat16 import multiplied
from cnnlib.graph.compile import CompiledGraph
from cnnlib.graph.fusion import operations
from cnnlib.graph.graph import Graph, Node
from cnnlib.graph.ops.norm import STATISTICS
from cnnlib.graph.shapes import check_samples, refuse_other_images
from cnnlib.inference.file import write_file
from cnnlib.inference.quantization.table import Quantization
from cnnlib.models.graph_model import checked_classes, warn_of_bytes
from cnnlib.models.losses import LossName, checked_loss_name
from cnnlib.models.predictions import Predicts
from cnnlib.models.spec.reading import HEADS
from cnnlib.models.summary import aligned

_BYTE = np.dtype(np.uint8)
_WITHOUT_BFLOAT16 = (
    "this processor has no instructions for bfloat16: float32 computes, with weights rounded to bfloat16"
)
_MOST_SIZES = 8  # sizes of images whose weights stay packed


class Predictor(Predicts):
    """
    A network ready for use; :func:`cnnlib.prepare` and :func:`cnnlib.inference.load` make it.

    Batch norms are part of the weights, biases, sums and ReLUs of the layers whose output they change;
    weights are packed, and values laid out in an arena, when samples of a shape are met first, and kept
    for 8 shapes. Many samples go through the network a few at a time on each thread; of one, the threads
    share each layer. May be called from many threads at once, pickled, and used after a fork.

    Attributes
    ----------
    input_dim : tuple of int
        The shape of a sample. Images may have another height and width where the network allows it.
    dtype : np.dtype
        Of scores, and of weights and computation unless `precision` says otherwise: float32 or float64.
    preprocess : Normalization, function or None
        What uint8 images go through first.
    classes : tuple of str or None
        The names of the classes, where they are known.
    head : str
        What the network ends in: 'classes', 'values' (numbers), or 'pixels'.
    outputs : tuple of str
        The names of several outputs; empty for a network of one.
    detection : cnnlib.detection.DetectionHead or None
        What the outputs of a network that finds objects mean, where that is known.
    loss_name : str, dict or None
        The loss by which the model was trained, by its name; of several outputs a dict.

    Examples
    --------
    >>> from cnnlib.inference import prepare
    >>> from cnnlib.models import FullyConnectedNet
    >>> predictor = prepare(FullyConnectedNet([3], 4, 2, seed=0))
    >>> X = np.zeros((5, 4))
    >>> predictor(X).shape, predictor.predict(X), predictor.predict_proba(X)[0]
    ((5, 2), array([0, 0, 0, 0, 0]), array([0.5, 0.5], dtype=float32))
    """

    _told_of_bytes = False  # see `warn_of_bytes`

    def __init__(
        self,
        graph: Graph,
        params: Params,
        input_dim: tuple[int, ...],
        dtype: np.dtype[Any],
        preprocess: Callable[[np.ndarray], np.ndarray] | None = None,
        classes: tuple[str, ...] | None = None,
        check: Callable[[], None] | None = None,
        quantization: Quantization | None = None,
        head: str = "classes",
        loss_name: LossName = None,
        detection: DetectionHead | None = None,
        bfloat16: bool = False,
    ) -> None:
        self._bfloat16 = bfloat16
        self.input_dim, self.dtype = input_dim, dtype
        self._quantization = quantization
        self.preprocess, self.classes, self.head = preprocess, classes, head
        self.loss_name, self.detection = loss_name, detection
        self._graph, self._params, self.outputs = graph, params, tuple(graph.outputs)
        self._check_weights = check or (lambda: None)  # to call before weights are read that lie in a file
        self._why_fixed = graph.why_fixed()
        readers = graph.readers()
        first = readers[graph.input]
        first = [
            other
            for node in first
            for other in (readers[node.output] if node.layer == "quantize" else [node])
        ]
        self._flattens = bool(first) and all(node.op.makes_rows for node in first)
        self._compiled: dict[tuple[Any, ...], CompiledGraph] = {}

    def __call__(self, X: ArrayLike, /) -> Outputs:
        """
        Compute the scores of samples.

        Parameters
        ----------
        X : array, (N, *input_dim), or images (N, C, H, W) of another size where the network allows it
            uint8 images go through `preprocess` first, by a Normalization of floats in [0, 1] too; anything
            else is converted to `dtype` and taken as it is, as in the model's `loss`. Without `preprocess`
            uint8 images count as values of 0 to 255, which a UserWarning says once.

        Returns
        -------
        array, (N, classes)
            In the predictor's dtype; of a network with several outputs a dict of arrays by their names.
            Those of a sample are the same bits whatever the batch around it and the number of threads. From
            the model's own scores in test mode they differ by rounding: in float32 by up to 1e-5 of the
            largest of them, in float64 by 1e-13, times the square root of the number of layers.

        Raises
        ------
        ValueError
            For samples of a shape that the network does not take.
        TypeError
            For what is no array of numbers.
        """
        samples: np.ndarray = as_array("Predictor", "X", X)
        if self.preprocess is not None and samples.dtype == _BYTE:
            known = of_bytes(self.preprocess)
            if isinstance(known, Normalization) and len(self.input_dim) == 3:
                return self._of_bytes(samples, known)
            samples = preprocessed(known, samples)
        x = self._values("Predictor", samples)
        network = self._network(x.shape[1:])
        if samples.dtype == _BYTE:
            warn_of_bytes(self, "Predictor", samples)
        return network(x)

    def summary(self) -> str:
        """Return a table of the operations, and their memory for samples of `input_dim`."""
        network = self._network(self.input_dim)
        rows = [("operation", "output", "parameters")]
        for node in operations(self._graph):
            arrays = [self._params[name] for name in node.params if name is not None]
            count = sum(array.size for array in (*arrays, *_statistics(node)))
            rows.append((node.label, shape_text(network.shapes[node.output]), f"{count:,}"))
        lines = aligned(rows, "<<>")
        arena, packed = size_text(network.arena_bytes), size_text(network.packed_bytes)
        lines.append(f"arena: {arena} a sample; packed weights: {packed}")
        if self._bfloat16:
            extension = _core.active_bfloat16()
            lines.append(f"bfloat16: {extension}" if extension else _WITHOUT_BFLOAT16)
        return "\n".join(lines)

    def memory(self) -> MemoryUse:
        """Say what the network holds in memory between calls, and what the process keeps for all."""
        compiled = dict(self._compiled)  # other threads change it
        statistics = [array for node in self._graph for array in _statistics(node)]
        return MemoryUse.of(
            [*self._params.values(), *statistics],
            [shape for shape, *_ in compiled],
            packed=sum(network.packed_bytes for network in compiled.values()),
            working=max((network.arena_bytes for network in compiled.values()), default=0),
        )

    def profile(self, X: ArrayLike, repeats: int = 10) -> list[tuple[str, float, float]]:
        """
        Time each step while all samples X go through the network together.

        Returns
        -------
        list of (step, seconds, operations)
            The least time of the repeats, and floating-point operations of the direct method, two a
            multiply-add.
        """
        x = self._values("Predictor.profile", as_array("Predictor.profile", "X", X))
        return self._network(x.shape[1:]).profile(x, repeats)

    @property
    def precision(self) -> str:
        """'int8', 'bfloat16', or the name of `dtype`."""
        if self._quantization is not None:
            return "int8"
        return "bfloat16" if self._bfloat16 else self.dtype.name

    @property
    def output_shape(self) -> tuple[int, ...]:
        """The shape of what it gives for one sample of `input_dim`."""
        return self._network(self.input_dim).output_shape

    @property
    def gives_probabilities(self) -> bool:
        """Whether a softmax ends the network, as networks from other programs may have one."""
        return self._graph.gives_probabilities()

    def quantization(self) -> Quantization:
        """
        Return a table of the layers of an eight-bit network: precision, ranges, signal to noise, time.

        Returns
        -------
        sequence of rows
            Each with `layer`, `precision`, `seen`, `covered`, `snr` and `share`, of the time that one sample
            takes here; its `str` is a table, and `plot()` draws it.

        Raises
        ------
        ValueError
            For a network that was not prepared with ``precision='int8'``.
        """
        if self._quantization is None:
            raise ValueError(
                f"Predictor.quantization: this network computes in {self.dtype}; "
                "prepare(..., precision='int8', calibration=images) makes one of eight bits"
            )
        steps = self.profile(np.zeros((1, *self.input_dim), np.float32), 3)
        return self._quantization.timed([(label.split(" [")[0], seconds) for label, seconds, _ in steps])

    def save(self, path: str | os.PathLike[str]) -> None:
        """
        Write the predictor to one file that :func:`cnnlib.inference.load` maps into memory.

        Raises
        ------
        TypeError, ValueError
            If `preprocess` is a function of the user's own, or `classes` are no names, too few or too many.
        OSError
            If the file cannot be written; nothing is left behind then.
        """
        if self.classes is not None:
            checked_classes("Predictor.save: the list", self.classes, self)
        about: dict[str, Any] = {
            "input_dim": self.input_dim,
            "dtype": self.dtype.name,
            "preprocess": PREPROCESSING.stored("Predictor.save", self.preprocess),
            "classes": self.classes,
            "head": choice("Predictor.save", "head", self.head, HEADS),
            "loss_name": checked_loss_name("Predictor.save", self.loss_name, self.outputs),
            "bfloat16": self._bfloat16,
            "quantization": None if self._quantization is None else [vars(row) for row in self._quantization],
        }
        head = checked_head("Predictor.save", self.detection)
        if head is not None:
            about["detection"] = head.described()
        self._check_weights()
        narrow = multiplied(self._graph) if self._bfloat16 else ()
        write_file(path, about, self._graph, self._params, narrow)

    def export(self, path: str | os.PathLike[str]) -> None:
        """
        Write the network as it is prepared, or its arrays, for other programs, as the suffix of `path` says.

        Those are the suffixes of :meth:`cnnlib.models.ConvNet.export`. Batch norms are part of the weights.

        Raises
        ------
        ValueError
            For another suffix, or what the format cannot hold.
        OSError
            If the file cannot be written; nothing is left behind then.
        ImportError
            For ONNX without the onnx package, the extra `onnx`.
        """
        from cnnlib.saved_model.exporting import export  # which knows the formats

        export(self, path)

    def graph_and_params(self, eight_bits: bool = False) -> tuple[Graph, Params]:
        """The network as a graph of layers with its parameters.

        Parameters
        ----------
        eight_bits : bool
            Whether the layers may be operations on bytes.

        Raises
        ------
        ValueError
            For an eight-bit network, unless those may be.
        """
        if self._quantization is not None and not eight_bits:
            raise ValueError(
                "Predictor.graph_and_params: an eight-bit network has no graph of float layers; save the "
                "model that it was prepared from"
            )
        self._check_weights()
        return self._graph, self._params

    def __reduce__(self) -> tuple[Any, ...]:
        # Memory-mapped weights become arrays.
        self._check_weights()
        params = {name: np.array(array) for name, array in self._params.items()}
        described = self.input_dim, self.dtype, self.preprocess, self.classes, None, self._quantization
        ends = self.head, self.loss_name, self.detection, self._bfloat16
        return Predictor, (self._graph, params, *described, *ends)

    def __repr__(self) -> str:
        shape = shape_text(self.input_dim)
        statistics = [array for node in self._graph for array in _statistics(node)]
        count = sum(array.size for array in (*self._params.values(), *statistics))
        steps = len(operations(self._graph))
        return f"<Predictor {shape}, {steps} operations, {self.precision}, {count:,} parameters>"

    def _values(self, where: str, X: np.ndarray) -> Array:
        """X as the core takes it: in the predictor's dtype, C-contiguous and aligned."""
        x = self._shaped(checked_reals(where, "X", X))
        if x.dtype == self.dtype and x.flags.c_contiguous and x.flags.aligned:
            return x  # np.require would take 1 us to see it
        return np.require(x, self.dtype, ("C", "A"))

    def _shaped(self, X: np.ndarray) -> np.ndarray:
        """X; its samples in the shape of `input_dim` where the network flattens them anyway."""
        if X.shape[1:] == self.input_dim:  # most calls
            return X
        if self._flattens and X.ndim > 1 and math.prod(X.shape[1:]) == math.prod(self.input_dim):
            refuse_other_images("Predictor", X.shape, self.input_dim)
            return X.reshape(len(X), *self.input_dim)
        check_samples("Predictor", X.shape, self.input_dim, self._why_fixed)
        return X

    def _of_bytes(self, X: np.ndarray, normalization: Normalization) -> Outputs:
        """Images that are normalised a few at a time, on their way into the network."""
        X = self._shaped(X)
        C = X.shape[1] if X.ndim == 4 else 0
        if len(normalization.mean) not in (1, C):
            raise ValueError(
                f"Predictor: X must be images (N, {len(normalization.mean)}, H, W) as preprocess has so many "
                f"means, got shape {X.shape}"
            )
        mean, std = (np.full(C, numbers, self.dtype) for numbers in (normalization.mean, normalization.std))
        return self._network(X.shape[1:]).of_bytes(np.ascontiguousarray(X), mean, std)

    def _calibration(self, samples: np.ndarray) -> Array:
        """Samples as the network takes them, as in a call."""
        if self.preprocess is not None and samples.dtype == np.uint8:
            samples = preprocessed(of_bytes(self.preprocess), samples)
        x = self._values("prepare", samples)
        warn_of_bytes(self, "prepare", samples)
        return x

    def _network(self, shape: tuple[int, ...]) -> CompiledGraph:
        """The network compiled for samples of a shape. Two threads may both compile it; one result stays."""
        extension = None
        if self._quantization is not None:
            extension = _core.active_products()
        elif self._bfloat16:
            extension = _core.active_bfloat16()
        key = (shape, _core.active_isa(), extension)
        self._check_weights()
        network = self._compiled.get(key)
        if network is None:
            bfloat16 = self._bfloat16 and extension is not None
            network = CompiledGraph(self._graph, self._params, shape, self.dtype, bfloat16=bfloat16)
            for old in list(self._compiled)[::-1][_MOST_SIZES - 1 :]:  # other threads change it, too
                self._compiled.pop(old, None)
            self._compiled[key] = network
        return network


def _statistics(node: Node) -> list[Array]:
    """The arrays of a batch norm that are no parameters."""
    options = node.args[0] if node.op.statistics else {}
    return [options[name] for name in STATISTICS if name in options]
