"""GraphNet: a model that runs and trains any graph of layers."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from cnnlib._params import check_keys, hint, number, positive_int, real_dtype
from cnnlib._params.arrays import reals
from cnnlib._params.random import random_stream
from cnnlib._params.registry import OWN
from cnnlib._system.text import shape_text
from cnnlib._typing import ArrayLike, Params
from cnnlib.graph.graph import Graph
from cnnlib.graph.ops.sizes import batch_of
from cnnlib.graph.shapes import check_samples, checked_dim, shapes
from cnnlib.models.graph_model import GraphModel, described
from cnnlib.models.losses import WeightedLosses, describe_loss, name_of_loss
from cnnlib.models.state import checked_frozen
from cnnlib.models.summary import Stage, node_stages, table

_HEAD_SCALE = 0.01  # small, so that an untrained head's loss is that of guessing, log(num_classes)


class GraphNet(GraphModel):
    """A network given as a graph of layers, with its parameters.

    Parameters
    ----------
    graph : Graph
        Its input are samples (N, \\*input_dim), its output their class scores (N, num_classes), or anything
        else if the network is not trained with labels. With `outputs` it has several.
    params : dict
        The arrays that the graph's nodes name. They are not copied where they are writable, C-contiguous
        and of the network's dtype; training changes them then.
    input_dim : int or sequence of int
        Shape of a sample: (C, H, W) of images, or (D,). :meth:`loss` takes images of any other H and W too
        where the graph allows it: where its `fixed_by` is empty, and nothing but a global or adaptive pool
        makes rows of numbers of them.
    num_classes : int or None
        None: as many as the graph gives scores.
    frozen : collection of str
        The names of parameters that are not trained; see :meth:`freeze`.
    losses : dict, sequence, or None
        For a graph with `outputs`, what each is trained with, by its name or in their order: see
        :class:`WeightedLosses`. None: the Solver says it. (:meth:`save` keeps losses that have a name.)
    loss_weights : dict or None
        By what an output's loss counts in the sum of all; 1 for those left out.
    reg : float
        Strength of L2 regularisation: ``reg / 2 * sum(W**2)``, summed over the parameters whose name begins
        with ``W``, is added to the loss.
    dtype : np.float32 or np.float64
        Of the parameters and of all computation.
    seed : int or None
        Governs the dropout masks as in :class:`cnnlib.models.FullyConnectedNet`.

    Attributes
    ----------
    params : dict
    frozen : tuple of str
    bn_params : list of dict
        Of the batch norms, in the order of the graph; holds the running statistics, which begin as the nodes
        say, else as mean 0 and variance 1.
    label_smoothing : float
        Share of each label's probability that is spread evenly over all classes (Szegedy et al. 2015,
        arXiv:1512.00567); 0 at first.
    num_classes : int or None
        None if the output is not of the shape (N, num_classes), and of several outputs.
    outputs : tuple of str
        The names of several outputs.
    criterion : callable or None
        A :class:`WeightedLosses` of `losses`.
    num_params, multiply_adds : int
        Of the whole network; multiply-adds of convolutions and affine layers for one sample, forward.

    Raises
    ------
    ValueError, TypeError, KeyError
        For a graph that cannot run on such samples: an unknown layer, a value that is missing or made twice,
        shapes that do not fit; the message names the node. For parameters that the graph names and `params`
        lacks, or the other way round. For settings out of range.

    Examples
    --------
    >>> from cnnlib.models import Graph
    >>> graph = Graph()
    >>> graph.affine("W1")
    'affine1'
    >>> net = GraphNet(graph, {"W1": np.eye(3, 2)}, 3)
    >>> net
    GraphNet(3 -> 2, 1 node, float32, 6 parameters)
    >>> net([[5, 7, 9]])
    array([[5., 7.]], dtype=float32)

    Labels and a number from one layer of features:

    >>> graph = Graph(outputs=("label", "size"))
    >>> shared = graph.affine("W1", "b1")
    >>> for name in graph.outputs:
    ...     value = graph.affine(f"W_{name}", f"b_{name}", x=shared, name=name)
    >>> shapes = {"W1": (4, 6), "b1": 6, "W_label": (6, 3), "b_label": 3, "W_size": (6, 1), "b_size": 1}
    >>> params = {name: np.full(shape, 0.1) for name, shape in shapes.items()}
    >>> losses = {"label": "softmax", "size": "huber"}
    >>> net = GraphNet(graph, params, 4, losses=losses, loss_weights={"size": 0.5})
    >>> {name: values.shape for name, values in net.loss(np.ones((2, 4))).items()}
    {'label': (2, 3), 'size': (2, 1)}
    >>> loss, grads = net.loss(np.ones((2, 4)), {"label": [0, 2], "size": [[1.0], [2.0]]})
    >>> sorted(grads) == sorted(net.params)
    True
    """

    preprocess: Any

    def __init__(
        self,
        graph: Graph,
        params: Mapping[str, ArrayLike],
        input_dim: int | Sequence[int],
        *,
        num_classes: int | None = None,
        frozen: Collection[str] = (),
        losses: Mapping[str, Any] | Sequence[Any] | None = None,
        loss_weights: Mapping[str, float] | None = None,
        reg: float = 0.0,
        dtype: DTypeLike = np.float32,
        seed: int | None = None,
    ) -> None:
        where = type(self).__name__
        self.input_dim = checked_dim(where, input_dim)
        self.reg = number(where, "reg", reg, 0)
        self.dtype = real_dtype(where, dtype)
        random_stream(seed, where)  # refuses what is no seed
        self.seed = seed
        self._build(graph, frozen)
        self._why_fixed = graph.why_fixed()
        self.params: Params = _arrays(where, graph, params, self.dtype)
        self.frozen = checked_frozen(where, frozen, self.params)
        self.num_classes = self._checked_classes(where, num_classes)
        self._begin_statistics()
        kept = ("input_dim", "num_classes", "frozen", "reg", "dtype", "seed")
        self.arguments = {name: getattr(self, name) for name in kept}
        self.outputs = tuple(graph.outputs)
        if losses is not None or loss_weights is not None:
            self.criterion = criterion = _criterion(where, self.outputs, losses, loss_weights)
            self.loss_name = name_of_loss(criterion)
            saved = describe_loss(criterion)
            if saved != OWN:
                self.arguments |= {"losses": saved["losses"], "loss_weights": saved["weights"]}

    def __repr__(self) -> str:
        count = len(self._graph.nodes)
        return described(
            self,
            f"{shape_text(self.input_dim)} -> {', '.join(self.outputs) or self.num_classes or '...'}",
            "1 node" if count == 1 else f"{count} nodes",
        )

    @property
    def num_params(self) -> int:
        return sum(value.size for value in self.params.values())

    @property
    def multiply_adds(self) -> int:
        return sum(stage.multiply_adds for stage in self._nodes())

    def summary(self) -> str:
        """A table (str): for each node the output's shape, parameters, and multiply-adds for one sample."""
        return table(self._nodes(), self.input_dim, self.num_params, self.multiply_adds)

    def _nodes(self) -> list[Stage]:
        return node_stages(self._graph, self.params, self.input_dim)

    def check_samples(self, where: str, name: str, shape: tuple[int, ...]) -> None:
        check_samples(where, shape, self.input_dim, self._why_fixed, name)

    def cut(self, node: str | Sequence[str] | None = None) -> GraphNet:
        """The network up to a node, as a network of its own with copies of its parameters.

        Parameters
        ----------
        node : str, sequence of str, or None
            As :meth:`cnnlib.graph.Graph.cut` finds it; None for what the last affine layer reads.

        Returns
        -------
        GraphNet
            Its output is what the node makes. `preprocess` is this network's; `reg` is 0.

        Raises
        ------
        ValueError
            If there is no such node, or none is named and the network has no affine layer.

        Examples
        --------
        >>> from cnnlib.models import ConvNet
        >>> net = ConvNet("resnet8", (3, 32, 32), 10, seed=0)
        >>> net.cut()
        GraphNet(3x32x32 -> 64, 29 nodes, float32, 77,392 parameters)
        >>> net.cut("relu3").loss(np.zeros((1, 3, 32, 32))).shape
        (1, 16, 32, 32)
        """
        return self._with_graph(self.graph().cut(node), {})

    def with_head(self, num_classes: int, hidden: int | None = None, *, seed: int | None = None) -> GraphNet:
        """The network with new affine layers behind it, as a network of its own with copies of what it has.

        Behind images (N, C, H, W) the layers see the mean of each channel.

        Parameters
        ----------
        num_classes : int
            How many scores come out.
        hidden : int or None
            The size of a hidden layer, with a ReLU, between; None for none.
        seed : int or None
            Governs the new weights, normally distributed with standard deviation ``sqrt(2 / fan_in)`` (He et
            al. 2015, arXiv:1502.01852) and 0.01 in the last layer. None: ``np.random``.

        Returns
        -------
        GraphNet
            The new parameters are ``W_head1 b_head1`` and so on; `reg` is 0.

        Raises
        ------
        ValueError, TypeError
            For sizes that are no integers above 0, and for a network of several outputs.

        Examples
        --------
        A network that learns four new classes by its last layer alone:

        >>> from cnnlib.models import ConvNet
        >>> model = ConvNet("resnet8", (3, 32, 32), 10, seed=0).cut().with_head(4, seed=0)
        >>> model.freeze("W[0-9]*", "gamma*", "beta*")
        >>> loss, grads = model.loss(np.zeros((2, 3, 32, 32)), [0, 3])
        >>> list(grads)
        ['W_head1', 'b_head1']
        """
        where = f"{type(self).__name__}.with_head"
        graph = self.graph()
        graph.refuse_several(where)
        shape = shapes(graph, self.params, self.input_dim, where)[graph.output]
        if len(shape) == 3:
            graph = Graph(list(graph.nodes), graph.input, graph.output, graph.fixed_by)
            graph.global_avg_pool(name=f"{graph.output} (means)")
        fan_in = shape[0] if len(shape) == 3 else math.prod(shape)
        headed = graph.with_head(num_classes, hidden)
        random = random_stream(seed, where)
        new: Params = {}
        for node in headed.nodes[len(graph.nodes) :]:
            if node.layer == "affine":
                last = node.output == headed.output
                size = num_classes if last or hidden is None else hidden
                scale = _HEAD_SCALE if last else np.sqrt(2 / fan_in)
                weights, biases = map(str, node.params)
                new[weights] = (scale * random.randn(fan_in, size)).astype(self.dtype)
                new[biases] = np.zeros(size, self.dtype)
                fan_in = size
        return self._with_graph(headed, new)

    def freeze(self, *patterns: str) -> None:
        """Train these parameters no more: :meth:`loss` gives no gradient of them, and computes none below the
        first layer that still learns.

        A batch norm whose scale and shift both are frozen uses its running statistics in training too, and
        leaves them as they are. Freeze before a Solver is made.

        Parameters
        ----------
        \\*patterns : str
            Names of parameters, or patterns of them as in a shell: ``"layer1*"``.

        Raises
        ------
        ValueError
            For a pattern that no parameter's name fits.

        Examples
        --------
        >>> from cnnlib.models import ConvNet
        >>> net = ConvNet([{"conv": 8}, "batchnorm", "relu", {"affine": 20}, "relu"], (1, 8, 8), 10, seed=0)
        >>> net.freeze("W1", "gamma*", "beta*")
        >>> net.frozen
        ('W1', 'gamma1', 'beta1')
        """
        where = f"{type(self).__name__}.freeze"
        found = set(self.frozen)
        for pattern in patterns:
            if not isinstance(pattern, str):
                raise TypeError(f"{where}: a pattern must be a str, got {pattern!r}")
            names = [name for name in self.params if name == pattern or fnmatch.fnmatchcase(name, pattern)]
            if not names:
                known = hint(pattern, self.params, f"there are {', '.join(self.params)}")
                raise ValueError(f"{where}: no parameter is called {pattern!r}; {known}")
            found.update(names)
        self.frozen = tuple(name for name in self.params if name in found)
        self._build(self._graph, self.frozen)
        if "frozen" in self.arguments:
            self.arguments["frozen"] = self.frozen

    def _with_graph(self, graph: Graph, new: Params, input_dim: tuple[int, ...] | None = None) -> GraphNet:
        """A network of this one's nodes and parameters, copied, and of new ones."""
        names = dict.fromkeys(name for node in graph for name in node.params if name is not None)
        params = {name: new[name] if name in new else self.params[name].copy() for name in names}
        net = GraphNet(
            graph,
            params,
            self.input_dim if input_dim is None else input_dim,
            frozen=[name for name in self.frozen if name in params],
            dtype=self.dtype,
            seed=self.seed,
        )
        net.preprocess = self.preprocess
        return net

    def _checked_classes(self, where: str, num_classes: int | None) -> int | None:
        """How many scores come out, if layers and shapes fit."""
        found_shapes = shapes(self._graph, self.params, self.input_dim, where)
        if self._graph.outputs:
            if num_classes is not None:
                raise ValueError(f"{where}: num_classes is for a graph of one output")
            return None
        out = found_shapes[self._graph.output]
        found = out[0] if len(out) == 1 else None
        if num_classes is not None and positive_int(where, "num_classes", num_classes) != found:
            raise ValueError(
                f"{where}: the output must have shape (N, {num_classes}), but the graph gives {batch_of(out)}"
            )
        return found


def _criterion(where, outputs, losses, weights):
    """The loss of several outputs, in their order."""
    if not outputs:
        raise ValueError(f"{where}: losses and loss_weights are for a graph whose outputs are named")
    if isinstance(losses, Sequence) and not isinstance(losses, str) and len(losses) == len(outputs):
        losses = dict(zip(outputs, losses, strict=True))
    if not isinstance(losses, Mapping):
        raise TypeError(f"{where}: losses must be one for each of {', '.join(outputs)}, got {losses!r}")
    check_keys(where, "losses", losses, outputs, outputs)
    return WeightedLosses({name: losses[name] for name in outputs}, weights, where=where)


def _arrays(where, graph, params, dtype):
    """`params` as arrays to compute with and to change."""
    named = {name: node for node in graph for name in node.params if name is not None}
    for name, node in named.items():
        if name not in params:
            raise ValueError(f"{where}: {node.title}: params has no {name!r}")
    for name in params:
        if name not in named:
            raise ValueError(f"{where}: no node of the graph names the parameter {name!r}")
    arrays = {
        name: reals(f"{where}: {named[name].title}", f"params[{name!r}]", value)
        for name, value in params.items()
    }
    return {name: np.require(array, dtype, ("C", "A", "W")) for name, array in arrays.items()}
