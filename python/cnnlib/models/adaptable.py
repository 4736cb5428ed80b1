"""What turns a trained network into the start of another: a cut, a new head, parameters that stay."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnlib._params.random import random_stream
from cnnlib._typing import Params
from cnnlib.graph.graph import Graph, Node
from cnnlib.graph.shapes import shapes
from cnnlib.models.graph_model import GraphModel

if TYPE_CHECKING:
    from cnnlib.models.graph_net import GraphNet

_HEAD_SCALE = 0.01  # small, so that an untrained head's loss is that of guessing, log(num_classes)


class Adaptable(GraphModel):
    """The methods of :class:`cnnlib.models.GraphNet` for networks that others trained."""

    frozen: tuple[str, ...]
    input_dim: tuple[int, ...]
    preprocess: Any

    def cut(self, node: str | Sequence[str] | None = None) -> GraphNet:
        """The network up to a node, as a network of its own with copies of its parameters.

        Parameters
        ----------
        node : str, sequence of str, or None
            As :meth:`cnnlib.graph.Graph.cut` finds it; None for what the last affine layer reads.

        Returns
        -------
        GraphNet
            Its output is what the node makes. `preprocess` is this network's.

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
        return self._with_graph(self._graph.cut(node), {})

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
            The new parameters are ``W_head1 b_head1`` and so on.

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
        graph = self._graph
        graph.refuse_several(where)
        shape = shapes(graph, self.params, self.input_dim, where)[graph.output]
        if len(shape) == 3:
            graph = Graph(list(graph.nodes), graph.input, graph.output, graph.fixed_by)
            graph.append(Node("global_avg_pool", (graph.output,), f"{graph.output} (means)"))
        fan_in = shape[0]
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
                near = difflib.get_close_matches(pattern, self.params, 1, 0.5)
                known = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(self.params)}"
                raise ValueError(f"{where}: no parameter is called {pattern!r}; {known}")
            found.update(names)
        self.frozen = tuple(name for name in self.params if name in found)
        self._build(self._graph, self.frozen)
        if "frozen" in self.arguments:
            self.arguments["frozen"] = self.frozen

    def _with_graph(self, graph: Graph, new: Params, input_dim: tuple[int, ...] | None = None) -> GraphNet:
        """A network of this one's nodes and parameters, copied, and of new ones."""
        from cnnlib.models.graph_net import GraphNet

        nodes = [
            Node(n.layer, n.inputs, n.output, n.params, tuple(map(_copied, n.args)), n.label) for n in graph
        ]
        names = dict.fromkeys(name for node in nodes for name in node.params if name is not None)
        params = {name: new[name] if name in new else self.params[name].copy() for name in names}
        net = GraphNet(
            Graph(nodes, graph.input, graph.output, graph.fixed_by, graph.outputs),
            params,
            self.input_dim if input_dim is None else input_dim,
            frozen=[name for name in self.frozen if name in params],
            dtype=self.dtype,
            seed=self.seed,
        )
        net.preprocess = self.preprocess
        return net


def _copied(arg: Any) -> Any:
    if not isinstance(arg, dict):
        return arg
    return {key: value.copy() if isinstance(value, np.ndarray) else value for key, value in arg.items()}
