"""What every model is told and does: graphs of layers give scores, a loss and gradients."""

from __future__ import annotations

import copy
import functools
import inspect
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, TypeAlias, cast, overload

import numpy as np

from cnnlib import _core
from cnnlib._params import choice
from cnnlib._params.arrays import as_array, reals
from cnnlib._params.elsewhere import missing
from cnnlib._params.random import new_mask_seed
from cnnlib._system.memory_use import MemoryUse
from cnnlib._typing import Array, ArrayLike, Gradients, Outputs, Params
from cnnlib.data.targets import Targets
from cnnlib.detection.head import DetectionHead
from cnnlib.graph.compile import why_interpreted, why_not_ready, why_not_scored
from cnnlib.graph.description import batch_norms
from cnnlib.graph.graph import Graph
from cnnlib.graph.ops.norm import STATISTICS
from cnnlib.graph.run import Run
from cnnlib.graph.shapes import shapes
from cnnlib.layers import mse_loss, softmax_loss
from cnnlib.models.losses import PartOfLoss, build_loss, checked_pair, like_scores, name_of_loss
from cnnlib.models.predictions import Predicts
from cnnlib.models.program import Program
from cnnlib.models.spec.builder import Builder
from cnnlib.models.step_times import StepTimes
from cnnlib.typing import BatchNormParam

_P = ParamSpec("_P")
_BYTE = np.dtype(np.uint8)
Criterion: TypeAlias = Callable[[Any, Any], tuple[float, Any]]
LossLike: TypeAlias = Criterion | str | Mapping[str, Any]

_LOG = logging.getLogger("cnnlib")


# What models of other libraries have.
_TRAINS = "cnnlib.solver.Solver(net, data).train() trains it"
_MEASURES = "cnnlib.solver.Solver(net, data).check_accuracy(X, y) measures it"
_ON_THE_CPU = "all is computed on the CPU: leave it out"
_ARRAYS = "its arrays are in net.params, by their names"
_ELSEWHERE = {
    **dict.fromkeys(("fit", "train", "compile"), _TRAINS),
    **dict.fromkeys(("score", "evaluate"), _MEASURES),
    **dict.fromkeys(("parameters", "weights", "get_weights", "state_dict"), _ARRAYS),
    **dict.fromkeys(("to", "cpu", "cuda"), _ON_THE_CPU),
    "forward": "net(X) gives its scores",
    "backward": "net.loss(X, y) gives the loss and the gradients",
    "eval": "without labels it is in test mode: leave it out",
    "layers": "net.graph() has its layers",
}


class Model(Predicts):
    """Attributes of the library's models that :mod:`cnnlib.saved_model` keeps in files.

    Attributes
    ----------
    arguments : dict
        What the model was built with, defaults included.
    preprocess : cnnlib.data.Normalization or None
        What images go through before :meth:`loss`, where that is known (of a loaded model). `loss` does not
        apply it.
    classes : tuple of str or None
        The names of the classes, where they are known.
    criterion : callable or None
        The loss that the network was made for, ``criterion(scores, y) -> (value, gradient of the scores)``.
        None: that which :meth:`loss` is told, else the cross-entropy of labels.
    head : str
        What the network ends in: 'classes', 'values' (numbers), or 'pixels'.
    outputs : tuple of str
        The names of several outputs; empty for a network of one.
    detection : cnnlib.detection.DetectionHead or None
        What the outputs of a network that finds objects mean, where that is known.
    loss_name : str, dict or None
        The loss by which the network was last trained, by its name ('softmax'); of several outputs a dict.
        None before that, and for a function of the user's own.
    """

    arguments: dict[str, Any]
    dtype: np.dtype[Any]
    preprocess: Callable[[np.ndarray], np.ndarray] | None = None
    classes: tuple[str, ...] | None = None
    detection: DetectionHead | None = None
    criterion: Criterion | None = None
    label_smoothing: float = 0.0
    rng: Any = None
    params: Params
    _told_of_bytes = False  # see `warn_of_bytes`
    _whitening: str | None = None  # of a ConvNet, the name of the filters that wait for images

    if not TYPE_CHECKING:  # which would let any attribute pass
        __getattr__ = missing(_ELSEWHERE)

    def _values(self, X: Any) -> Array:
        """X as an array of the model's dtype."""
        where = type(self).__name__
        warn_of_bytes(self, where, X)
        return np.asarray(reals(where, "X", X), dtype=self.dtype)

    def check_samples(self, where: str, name: str, shape: tuple[int, ...]) -> None:
        """Refuse an array `name` of samples of this `shape`, if the model cannot take them.

        Raises
        ------
        ValueError
            It begins with `where`, and says what shape is expected.
        """

    def is_initialized(self) -> bool:
        """Whether all filters are set: those with ``'init': 'whiten'`` are NaN before `initialize`."""
        return self._whitening is None or not np.isnan(self.params[self._whitening]).any()


def refuse_uninitialized(where: str, model: Any) -> None:
    """Raise a ValueError that begins with `where` if weights of the model are not set yet."""
    if isinstance(model, Model) and not model.is_initialized():
        raise ValueError(f"{where}: stage 1 waits for images to whiten: call initialize(X) first")


def checked_classes(where: str, classes: Iterable[Any], model: Any) -> tuple[str, ...]:
    """The names of a model's classes, a tuple; refuses others, and of one output too few or too many."""
    names = tuple(classes)
    if not all(isinstance(name, str) for name in names):
        raise TypeError(f"{where} of classes must hold names, got {classes!r}")
    if not model.outputs and len(names) != model.output_shape[0]:
        raise ValueError(
            f"{where} of classes has {len(names)} names, the model has {model.output_shape[0]} classes"
        )
    return names


def input_dim_of(model: Any) -> tuple[int, ...]:
    """The shape of a sample; models of the course keep it among their arguments."""
    given = model.input_dim if hasattr(model, "input_dim") else model.arguments["input_dim"]
    return tuple(int(size) for size in np.atleast_1d(given))


def warn_of_bytes(owner: Any, where: str, X: Any) -> None:
    """Warn, once for each owner, where images come as bytes and count as values of 0 to 255.

    Where warnings are errors it raises at each call.
    """
    if owner._told_of_bytes or getattr(X, "dtype", None) != _BYTE or np.ndim(X) != 4:
        return
    level, frame = 1, sys._getframe(0)
    while frame.f_back is not None and frame.f_globals["__name__"].partition(".")[0] == "cnnlib":
        level, frame = level + 1, frame.f_back
    warnings.warn(
        f"{where}: uint8 images count as values of 0 to 255, since no preprocess is applied here; "
        "normalise them (cnnlib.data.Normalization), or give floats where that is meant",
        stacklevel=level,
    )
    owner._told_of_bytes = True


def keeps_arguments(init: Callable[_P, None]) -> Callable[_P, None]:
    """Let ``__init__`` leave its arguments in ``self.arguments``."""
    signature = inspect.signature(init)

    @functools.wraps(init)
    def wrapper(*args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{type(args[0]).__name__}: {error}") from None
        bound.apply_defaults()
        for name, value in bound.arguments.items():
            if isinstance(value, Iterator):  # can be gone through once only
                bound.arguments[name] = list(value)
        model, *_ = bound.arguments.values()
        arguments = {name: copy.deepcopy(value) for name, value in list(bound.arguments.items())[1:]}
        init(*bound.args, **bound.kwargs)
        model.arguments = arguments

    return wrapper


def add_l2(params: Params, grads: Gradients, reg: float) -> float:
    """Add ``reg * W`` to the gradient of each ``W*`` in `grads`; return ``reg / 2 * sum(W**2)`` over them.

    ValueError if there is no parameter of such a name.
    """
    if reg == 0:
        return 0.0
    if not any(name.startswith("W") for name in params):
        raise ValueError(
            f"reg is {reg}, but no parameter's name begins with W: {', '.join(params) or 'there are none'}; "
            "the Solver's weight_decay is for all of two dimensions and more"
        )
    total = 0.0
    for name, w in params.items():
        if name.startswith("W") and name in grads:
            dw = grads[name]
            if _core.ready_dtype(("dw", "w"), (dw, w)) is None or not dw.flags.writeable:
                dw = grads[name] = np.array(dw, order="C")
            w = np.require(w, dw.dtype, ("C", "A"))
            _core.sgd_step(dw, w, 1, -reg)  # dw + reg * w
            total += _core.sum_of_squares(w)
    return 0.5 * reg * total


def smoothed_softmax_loss(scores: Array, y: Any, label_smoothing: float) -> tuple[float, Array]:
    """Softmax loss for targets ``1 - label_smoothing`` at the label plus ``label_smoothing / C`` everywhere.

    -log p[c] is the same for all c but for the score x[c], so against the plain loss only ``label_smoothing *
    (x[y] - mean(x))`` comes in (Szegedy et al. 2015, arXiv:1512.00567, section 7).
    """
    loss, dscores = softmax_loss(scores, y)
    if label_smoothing and scores.size:
        labels = np.expand_dims(y, 1)
        rest = np.take_along_axis(scores, labels, 1) - scores.mean(axis=1, keepdims=True)
        loss += label_smoothing * float(np.mean(rest, dtype=np.float64))
        right = np.take_along_axis(dscores, labels, 1) + scores.dtype.type(label_smoothing / labels.size)
        np.put_along_axis(dscores, labels, right, 1)
        dscores -= label_smoothing / scores.size
    return loss, dscores


def loss_of_scores(model: Any, scores: Outputs, y: Any, loss: LossLike | None) -> tuple[float, Outputs]:
    """The value of a model's loss and the gradient of its scores: by its criterion, else by `loss`, else the
    cross-entropy of labels; where the head is not of classes, the mean squared error of other targets.

    The model's `loss_name` says then which it was.
    """
    criterion = loss if isinstance(loss, PartOfLoss) else model.criterion or loss
    if criterion is not None and not callable(criterion):
        criterion = build_loss("loss", criterion, type(model).__name__)
    if criterion is None:
        if model.outputs:
            raise ValueError(
                f"{type(model).__name__}: the outputs {', '.join(model.outputs)} have no losses; build the "
                "network with losses={...}, or say loss={...} to the Solver"
            )
        if getattr(model, "head", "classes") != "classes":
            targets = as_array(type(model).__name__, "y", y)
            if model.head == "values" or targets.dtype.kind not in "iu" or targets.shape == scores.shape:
                model.loss_name = "mse"
                real = targets.dtype.kind in "fiub"  # else it is refused as it is
                targets = targets.astype(scores.dtype, copy=False) if real else targets
                return mse_loss(scores, like_scores(scores, targets))
        model.loss_name = "softmax"
        return smoothed_softmax_loss(scores, y, model.label_smoothing)
    model.loss_name = name_of_loss(criterion)
    if model.outputs and isinstance(y, tuple):  # in the order of the outputs, whatever that of the losses
        y = Targets.of(type(model).__name__, y, list(model.outputs))
    return checked_pair(f"{type(model).__name__}: loss", criterion(scores, y))


def described(model: Any, *parts: str | None) -> str:
    """The text of a model's repr: its class, the parts that are not None, what all models have."""
    count = sum(value.size for value in model.params.values())
    reg = f"reg {model.reg:g}" if model.reg else None
    shown = (*parts, reg, model.dtype.name, f"{count:,} parameters")
    return f"{type(model).__name__}({', '.join(part for part in shown if part is not None)})"


def _begun(bn_param: Mapping[str, Any], C: int, dtype: np.dtype[Any]) -> BatchNormParam:
    """A model's own dict of a batch norm of C channels; running mean 0 and variance 1 where it has none."""
    begun: dict[str, Any] = dict(bn_param)
    for name, value in (("running_mean", 0), ("running_var", 1)):
        given = begun.get(name)
        begun[name] = np.full(C, value, dtype) if given is None else np.array(given)
    return cast(BatchNormParam, begun)


class GraphModel(Model):
    """The base of the library's models.

    Attributes
    ----------
    params : dict
        The arrays that the graph's nodes name.
    bn_params : list of dict
        Of its batch norms, in the order of the graph: `eps`, `momentum` and running statistics, which are the
        model's own. Each call says by itself in which mode they are.
    """

    bn_params: list[BatchNormParam]
    reg: float
    seed: int | None
    _bfloat16 = False  # see `precision`
    _first_mask = 0  # of the numbers by which dropout layers draw different masks

    def _build(self, graph: Graph, frozen: Collection[str] = ()) -> None:
        """Set the graph, whose steps train what is not frozen."""
        graph.check(type(self).__name__)
        self._graph, self._frozen = graph, frozenset(frozen)
        self.__dict__.pop("_program", None)
        self._dropouts = [node.output for node in graph if node.layer == "dropout"]
        self._norms = tuple(batch_norms(graph))

    def _take(self, builder: Builder) -> None:
        """Set graph and arrays that a spec's builder made."""
        self.params = builder.params
        self._build(builder.graph)
        self._begin_statistics()

    def _begin_statistics(self) -> None:
        """Make the dicts of the batch norms."""
        self.bn_params = [
            _begun(node.args[0], self.params[str(node.params[0])].size, self.dtype)
            for node in batch_norms(self._graph).values()
        ]

    def _run(self, train: bool) -> Run:
        """What belongs to one call: no other call changes it."""
        # A copy of a dict is made at once, so that no thread sees half of a step.
        norms: dict[str, Any] = {
            key: dict(bn_param) for key, bn_param in zip(self._norms, self.bn_params, strict=True)
        }
        return Run(self.params, train, norms)

    @functools.cached_property
    def _program(self) -> Program:
        """The steps, made when they first run: a model that is read only to be prepared has none."""
        return Program(type(self).__name__, self._graph, self._frozen, bfloat16=self._bfloat16)

    @property
    def precision(self) -> str:
        """What training steps compute in: the name of `dtype`, or 'bfloat16', to which it may be set.

        Then values, their gradients and the weights that they are multiplied by are bfloat16, rounded to
        nearest even; `params`, their gradients, sums, norms' statistics and losses stay float32. So do layers
        that have no form in bfloat16, fully connected ones among them. A processor without instructions for
        bfloat16 computes in float32, which the logger 'cnnlib' says.
        """
        return "bfloat16" if self._bfloat16 else self.dtype.name

    @precision.setter
    def precision(self, name: str) -> None:
        where = type(self).__name__
        if name == "bfloat16" and self.dtype != np.float32:
            raise ValueError(f"{where}: precision 'bfloat16' is for models of float32, not {self.dtype}")
        allowed = ("bfloat16", "float32") if self.dtype == np.float32 else (self.dtype.name,)
        name = choice(where, "precision", name, allowed)
        if name == "bfloat16" and _core.active_bfloat16() is None:
            _LOG.warning("%s: this processor has no instructions for bfloat16: float32 computes", where)
        self._bfloat16 = name == "bfloat16"
        self.__dict__.pop("_program", None)

    def memory(self) -> MemoryUse:
        """Say what the network holds in memory between calls, and what the process keeps for all."""
        norms = self._run(train=False).norms.values()
        statistics = [norm[name] for norm in norms for name in STATISTICS if name in norm]
        sizes = self._program.sizes() if "_program" in vars(self) else ()
        return MemoryUse.of([*self.params.values(), *statistics], sizes)

    def _draws(self) -> bool:
        """Whether :meth:`loss` takes random numbers from a stream; of a user's own loss it is not known."""
        own = getattr(self.loss, "__func__", None) is GraphModel.loss and self.criterion is None
        return not own or (bool(self._dropouts) and self.seed is None)

    def graph(self) -> Graph:
        """The network's layers, with the batch norms as they are now; its parameters are in `params`."""
        return self._graph.with_norms(self._run(train=False).norms)

    @property
    def executor(self) -> str:
        """What trains it: 'compiled', one call of the core each way, or 'layers', one by one, and why.

        Examples
        --------
        >>> from cnnlib.models import FullyConnectedNet
        >>> FullyConnectedNet([3], 4, 2, seed=0).executor
        'compiled'
        """
        where = f"{type(self).__name__}.executor"
        found = shapes(self._graph, self.params, input_dim_of(self), where)
        why = why_interpreted(self._graph, found, self._frozen)
        why = why or why_not_ready(self._graph, self.params, self.dtype)
        return f"layers: {why}" if why else "compiled"

    @property
    def scores_executor(self) -> str:
        """What runs it in test mode, for ``loss(X)``: 'compiled', one call of the core, or 'layers' and why.

        The core gives the scores of more networks than it trains: of products of values, of layers that share
        parameters, of frozen norms.

        Examples
        --------
        >>> from cnnlib.models import FullyConnectedNet
        >>> FullyConnectedNet([3], 4, 2, seed=0).scores_executor
        'compiled'
        """
        why = why_not_scored(self._graph) or why_not_ready(self._graph, self.params, self.dtype)
        return f"layers: {why}" if why else "compiled"

    @property
    def output_shape(self) -> tuple[int, ...]:
        """The shape of what it gives for one sample of its `input_dim`.

        Raises
        ------
        ValueError
            For a network of several outputs.
        """
        where = f"{type(self).__name__}.output_shape"
        self._graph.refuse_several(where)
        return shapes(self._graph, self.params, input_dim_of(self), where)[self._graph.output]

    @property
    def gives_probabilities(self) -> bool:
        """Whether a softmax ends the network, as networks from other programs may have one."""
        return self._graph.gives_probabilities()

    def __call__(self, X: ArrayLike, /) -> Outputs:
        """
        Compute the scores of samples, in test mode: what ``loss(X)`` gives.

        Parameters
        ----------
        X : array (N, *input_dim)

        Returns
        -------
        array (N, num_classes), or (N, num_classes, H, W) of pixels
            Of several outputs a dict of arrays by name.

        Raises
        ------
        ValueError, TypeError
            As :meth:`loss`.

        Examples
        --------
        >>> from cnnlib.models import FullyConnectedNet
        >>> FullyConnectedNet([3], 4, 2, seed=0)(np.zeros((5, 4))).shape
        (5, 2)
        """
        return self.loss(X)

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        preprocess: Callable[[np.ndarray], np.ndarray] | Mapping[str, Any] | None = None,
        classes: Sequence[str] | None = None,
    ) -> None:
        """
        Write the model to a file that :func:`cnnlib.load` reads: all that using it, or training it on, takes.

        Those are its architecture, parameters, running statistics, `preprocess` and `classes`. NumPy's
        ``np.load`` reads the parameters too, without pickle.

        Parameters
        ----------
        path : str or path
            Any name. The file is written whole or not at all.
        preprocess : cnnlib.data.Normalization or None
            What images go through before the model; None for the model's own `preprocess`, if it has one.
        classes : sequence of str or None
            A name for each class; None for the model's own `classes`, if it has them.

        Raises
        ------
        TypeError
            If the model is of a class of the user's own, or `preprocess` a function of the user's own.
        ValueError
            If the parameters no longer fit the architecture, the classes are not as many as the model's, or
            filters of a ConvNet wait for `initialize`.
        OSError
            If the file cannot be written; nothing is left behind then.

        Examples
        --------
        >>> import cnnlib
        >>> from cnnlib.models import FullyConnectedNet
        >>> net = FullyConnectedNet([20], input_dim=(1, 8, 8), seed=0)
        >>> net.save("net.npz", preprocess=cnnlib.data.Normalization(0, 255), classes="0123456789")
        >>> loaded = cnnlib.load("net.npz")
        >>> loaded(loaded.preprocess(np.zeros((5, 1, 8, 8), np.uint8))).shape
        (5, 10)
        """
        from cnnlib.saved_model.model_file import write_model  # which knows the classes of models

        write_model(self, path, preprocess, classes)

    def export(self, path: str | os.PathLike[str]) -> None:
        """
        Write the network, or its arrays, for other programs; the suffix of `path` chooses the format.

        ================  =================================================================================
        suffix            content
        ================  =================================================================================
        ``.onnx``         the network: see :func:`cnnlib.onnx.save`
        ``.safetensors``  parameters by name, and of the k-th batch norm ``running_mean<k>
                          running_var<k>``
        ``.npz``          the same for ``np.load``
        ``.cnnlib``       a :class:`cnnlib.inference.Predictor`, as :func:`cnnlib.prepare` makes it
        ================  =================================================================================

        :func:`cnnlib.load` reads them all. Only :meth:`save` keeps a model that can be trained on.

        Raises
        ------
        ValueError
            For another suffix, or what the format cannot hold.
        OSError
            If the file cannot be written; nothing is left behind then.
        ImportError
            For ONNX without the onnx package, the extra `onnx`.

        Examples
        --------
        >>> import cnnlib
        >>> from cnnlib.models import FullyConnectedNet
        >>> FullyConnectedNet([3], 4, 2, seed=0).export("net.cnnlib")
        >>> cnnlib.load("net.cnnlib")
        <Predictor 4, 2 operations, float32, 23 parameters>
        """
        from cnnlib.saved_model.exporting import export  # which knows the formats

        export(self, path)

    @overload
    def loss(self, X: ArrayLike, y: None = None, loss: LossLike | None = None) -> Array: ...
    @overload
    def loss(self, X: ArrayLike, y: ArrayLike, loss: LossLike | None = None) -> tuple[float, Gradients]: ...
    def loss(
        self, X: ArrayLike, y: ArrayLike | None = None, loss: LossLike | None = None
    ) -> Array | tuple[float, Gradients]:
        """The output for samples X, or with targets y the loss and the gradients of the parameters.

        Labels (N,), or (N, H, W) of pixels, have the softmax loss and numbers of the scores' shape the mean
        squared error, unless the model's `criterion`, or `loss`, is another: a name, a dict or a function as
        the Solver takes them.

        A network with several outputs takes a target of each: a dict by their names, or a tuple in their
        order.

        Where the core cannot train the network as a whole its layers run one by one, with the same bits; the
        logger ``cnnlib`` says once which network that is, and by the name of a node why. The same holds of
        scores, of which nothing is logged; see :attr:`executor` and :attr:`scores_executor`.

        Returns
        -------
        scores : ndarray (N, num_classes), or (N, num_classes, H, W) of pixels
            If y is None; nothing is dropped then, and batch norm uses its running statistics. No more is
            kept of what layers compute than later ones read; a packed copy of the weights is kept until the
            next step, for the next batch. Several outputs: a dict of arrays by name.
        loss, grads : float, dict
            Otherwise, with the gradients in the order of `params`; batch norm uses, and learns from, the
            batch's own statistics. After an error its running statistics are those of before the call.
        """
        if y is not None:
            return self._loss(X, y, loss)
        refuse_uninitialized(type(self).__name__, self)
        return self._program.scores(self._run(train=False), self._samples(X))

    def timed_loss(
        self, X: ArrayLike, y: ArrayLike, loss: LossLike | None = None
    ) -> tuple[float, Gradients, StepTimes]:
        """Do what ``loss(X, y, loss)`` does, and measure each operation of the executor that trains.

        Returns
        -------
        loss, grads : float, dict
        times : StepTimes
            Its `layers` have `name`, `shape` of the input, and the seconds `forward` and `backward`; `loss`
            is the seconds of the loss and its gradient. An operation may be several nodes, whose labels its
            name has.

        Raises
        ------
        ValueError, TypeError
            As `loss` does.

        Examples
        --------
        >>> from cnnlib.models import FullyConnectedNet
        >>> net = FullyConnectedNet([3], 4, 2, seed=0)
        >>> loss, grads, times = net.timed_loss(np.ones((5, 4)), np.zeros(5, int))
        >>> [(layer.name, layer.shape) for layer in times.layers]
        [('affine 3 + relu', (5, 4)), ('affine 2', (5, 3))]
        """
        times = StepTimes()
        return *self._loss(X, y, loss, times), times

    def _loss(
        self, X: ArrayLike, y: ArrayLike, loss: LossLike | None, times: StepTimes | None = None
    ) -> tuple[float, Gradients]:
        """A step; `times` are filled in where they are given."""
        refuse_uninitialized(type(self).__name__, self)
        X = self._samples(X)
        run = self._run(train=True)
        for layer, output in enumerate(self._dropouts, start=self._first_mask):
            run.seeds[output] = new_mask_seed(self, X, layer)
        scores, caches = self._program.forward(run, X, times)
        started = time.perf_counter()
        value, dscores = loss_of_scores(self, scores, y, loss)
        if times is not None:
            times.loss = time.perf_counter() - started
        grads: Gradients = {}
        self._program.backward(dscores, caches, grads, times)
        # In one order, whatever that of the way back, so that what sums over them has the same bits.
        grads = {name: grads[name] for name in self.params if name in grads}
        value += add_l2(self.params, grads, self.reg)
        self._keep_statistics(run)
        return value, grads

    def _keep_statistics(self, run: Run) -> None:
        """Take over the running statistics that a step has moved; both arrays of a norm at once."""
        for key, bn_param in zip(self._norms, self.bn_params, strict=True):
            moved: Any = run.norms[key]
            bn_param.update(cast(BatchNormParam, {name: moved[name] for name in STATISTICS if name in moved}))

    def _samples(self, X: ArrayLike) -> Array:
        samples = self._values(X)
        self.check_samples(type(self).__name__, "X", samples.shape)
        return samples
