"""A network as a graph of layers: what the models hand to training, inference and exchange alike."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cnnlib._params import hint, positive_int
from cnnlib.graph.layer_calls import LayerCalls, callable_layers
from cnnlib.graph.ops import OPS, Op, op_of
from cnnlib.graph.ops.eight_bits import check_byte_node
from cnnlib.graph.options import frozen


@dataclass(frozen=True)
class Node:
    """One layer of a graph: ``output = layer(*inputs, *params, *args)``.

    Attributes
    ----------
    layer : str
        The name of a layer of :mod:`cnnlib.layers` without ``_forward`` ('conv', 'spatial_batchnorm',
        'relu', 'max_pool', ...), or of what joins and reshapes values: 'add' and 'multiply' of two inputs,
        'concat' of several along the channels, 'scale' by a number, 'flatten' to (N, D).
    inputs : tuple of str
        The names of the values it reads. The second one of 'add' and 'multiply' may be (N, C) or
        (N, C, 1, 1), which is spread over the images (N, C, H, W) of the first.
    output : str
        The name of the value it makes; each value is made once.
    params : tuple of (str or None)
        The names of its parameters in the model's `params`, in the order of the layer's arguments; None for
        a bias that it does not have.
    args : tuple
        What follows them in the layer's signature: parameter dicts, numbers; a dict that may be None is an
        empty one. The node copies them, and its copies do not change: dicts refuse it, lists become tuples.
        A `mode` and a `seed` are left out, which each call of a network decides. Running statistics in a
        batch norm's dict are those that a model begins with.
    label : str
        For people: 'conv 16 3x3', or the node's name in the file that it came from.
    statistics : str
        Under which name the model keeps the running statistics of a batch norm: batch norms of one name share
        them. Empty for a name of its own, that of its output.

    Raises
    ------
    TypeError
        If `inputs`, `params` or `args` is neither a tuple nor a list (which becomes one), or holds names that
        are no strings; if `layer`, `output` or `label` is none.

    Examples
    --------
    >>> Node("conv", ("input",), "maps", ("W1", "b1"), ({"stride": 1, "pad": 1},)).title
    "node 'maps' (conv)"
    """

    layer: str
    inputs: tuple[str, ...]
    output: str
    params: tuple[str | None, ...] = ()
    args: tuple[Any, ...] = ()
    label: str = ""
    statistics: str = ""

    def __post_init__(self) -> None:
        for name in ("layer", "output", "label", "statistics"):
            if not isinstance(getattr(self, name), str):
                raise TypeError(f"Node: {name} must be a string, got {getattr(self, name)!r}")
        for name, admitted in (("inputs", str), ("params", (str, type(None))), ("args", object)):
            value = getattr(self, name)
            if not isinstance(value, (tuple, list)) or not all(isinstance(item, admitted) for item in value):
                holds = "" if admitted is object else " of names"
                raise TypeError(f"Node: {name} of {self.title} must be a tuple{holds}, got {value!r}")
            object.__setattr__(self, name, tuple(value))
        op = OPS.get(self.layer)
        without = op.per_call if op is not None else ()
        args = self.args if op is None else op.with_dicts(self.args)
        object.__setattr__(self, "args", tuple(frozen(arg, without) for arg in args))
        if not self.output or "" in self.params:
            raise ValueError(f"Node: the name of a value or parameter of {self.title} is empty")

    @property
    def title(self) -> str:
        """What messages call it."""
        return f"node {self.output!r} ({self.label or self.layer})"

    @property
    def statistics_of(self) -> str:
        """The name of its running statistics; empty for layers without them."""
        return self.statistics or (self.output if self.op.statistics else "")

    @property
    def op(self) -> Op:
        """What is known about its layer; KeyError if there is no such layer."""
        return op_of(self.layer)

    def arguments(self) -> dict[str, Any]:
        """`args` by their names in the layer's signature, and the layer's defaults for those left out.

        Raises
        ------
        ValueError
            If there are too few or too many of them.
        """
        try:
            bound = self.op.signature.bind(*self.args)
        except TypeError as error:
            raise ValueError(f"{self.title}: args of {self.layer}: {error}, got {self.args!r}") from None
        bound.apply_defaults()
        return dict(bound.arguments)


@dataclass
class Graph(LayerCalls):
    """Nodes in an order in which they can run, from the value `input` to the value `output`.

    Each layer is a method that appends a node and returns the name of its value: ``graph.conv("W1", pad=1)``,
    ``graph.add(a, b)``. A layer with one input reads the graph's output, or the value ``x="..."``; its
    arguments are the names of its parameters (no bias where it is left out), its keywords the layer's
    options. ``name="..."`` names the value, and ``label="..."`` is for people. ``help(graph.conv)`` says what
    a layer takes.

    Attributes
    ----------
    nodes : list of Node
    input, output : str
    fixed_by : str
        Why images must have the height and width that the graph was made for, in words that name the node
        and its option: "node 'up': sizes (8, 8)". Empty where all layers follow the size of the images.
    outputs : tuple of str
        The values that leave a network with several outputs; `output` says nothing then. Empty: `output`
        alone leaves it.

    Examples
    --------
    Each layer reads what the one before it made, unless it is told another value:

    >>> graph = Graph()
    >>> graph.conv("W1", "b1", pad=1), graph.relu()
    ('conv1', 'relu2')
    >>> graph.max_pool(size=2), graph.conv("W2", x="relu2", stride=2, name="strided")
    ('max_pool3', 'strided')
    >>> graph.concat("max_pool3", "strided")
    'concat5'
    >>> graph.nodes[3].inputs, graph.output
    (('relu2',), 'concat5')
    """

    nodes: list[Node] = field(default_factory=list)
    input: str = "input"
    output: str = "input"
    fixed_by: str = ""
    outputs: Sequence[str] = ()

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def results(self) -> tuple[str, ...]:
        """Return the names of the values that leave the network."""
        return tuple(self.outputs) or (self.output,)

    def gives_probabilities(self) -> bool:
        """Whether a softmax ends it; what comes behind may put the same numbers in a row."""
        made, makers = self.output, {node.output: node for node in self.nodes}
        while made in makers and (makers[made].op.view or makers[made].op.identity):
            (made,) = makers[made].inputs
        return not self.outputs and made in makers and makers[made].layer == "softmax"

    def refuse_several(self, where: str) -> None:
        """Raise a ValueError that begins with `where` if the outputs have names of their own."""
        if self.outputs:
            raise ValueError(
                f"{where}: needs a network of one output; this one has {', '.join(self.outputs)}"
            )

    def append(self, node: Node) -> str:
        """Append a node as the graph's output; return the name of its value."""
        self.nodes.append(node)
        self.output = node.output
        return node.output

    def cut(self, node: str | Sequence[str] | None = None) -> Graph:
        """The graph that ends with what a node makes; nodes that it does not need are left out.

        Parameters
        ----------
        node : str, sequence of str, or None
            The name of a value, or the label of the one node that has it; several for as many outputs. None:
            what the last affine layer reads, the features from which a classifier computes its scores.

        Raises
        ------
        ValueError
            If there is no such node, or none is named and the graph has no affine layer.

        Examples
        --------
        >>> graph = Graph()
        >>> graph.conv("W1", "b1"), graph.relu(), graph.affine("W2", "b2")
        ('conv1', 'relu2', 'affine3')
        >>> graph.cut().output, graph.cut("conv1").output
        ('relu2', 'conv1')
        """
        several: tuple[str, ...] = ()
        if node is None:
            output = self._last_features()
        elif isinstance(node, str):
            output = self._value_of(node)
        else:
            several = tuple(map(self._value_of, node))
            if not several:
                raise ValueError("Graph.cut: node is empty; say the names of one or several nodes")
            output = several[0]
        needed, nodes = {output, *several}, []
        for each in reversed(self.nodes):
            if each.output in needed:
                nodes.append(each)
                needed.update(each.inputs)
        return Graph(nodes[::-1], self.input, output, self.fixed_by, several)

    def with_head(self, num_classes: int, hidden: int | None = None) -> Graph:
        """The graph with affine layers behind it, whose parameters are ``W_head1 b_head1`` and so on.

        The arrays belong to models: :meth:`cnnlib.models.GraphNet.with_head` makes them too.

        Parameters
        ----------
        num_classes : int
            How many scores come out.
        hidden : int or None
            The size of a hidden layer, with a ReLU, between; None for none.

        Raises
        ------
        ValueError, TypeError
            For sizes that are no integers above 0, and for a graph with several outputs.

        Examples
        --------
        >>> [node.layer for node in Graph().with_head(10, hidden=64)]
        ['affine', 'relu', 'affine']
        """
        self.refuse_several("with_head")
        graph = Graph(list(self.nodes), self.input, self.output, self.fixed_by)
        sizes = [] if hidden is None else [positive_int("with_head", "hidden", hidden)]
        sizes.append(positive_int("with_head", "num_classes", num_classes))
        taken = {name for node in self.nodes for name in (node.output, *node.params)}
        names = (f"head{n}" for n in itertools.count(1))
        heads = (head for head in names if not {head, f"W_{head}", f"b_{head}"} & taken)
        for place, (size, value) in enumerate(zip(sizes, heads)):
            if place > 0:
                graph.relu(name=f"{graph.output} (relu)")
            graph.affine(f"W_{value}", f"b_{value}", name=value, label=f"affine {size}")
        return graph

    def _last_features(self) -> str:
        """What the last affine layer reads."""
        for node in reversed(self.nodes):
            if node.layer == "affine":
                return node.inputs[0]
        raise ValueError(f"Graph.cut: there is no affine layer to cut before; name a node: {self._ends()}")

    def _value_of(self, name: str) -> str:
        if name in (self.input, *(node.output for node in self.nodes)):
            return name
        labelled = [node.output for node in self.nodes if node.label == name]
        if len(labelled) == 1:
            return labelled[0]
        if labelled:
            raise ValueError(f"Graph.cut: {len(labelled)} nodes are called {name!r}: {', '.join(labelled)}")
        advice = hint(name, [node.output for node in self.nodes], f"the last ones are {self._ends()}")
        raise ValueError(f"Graph.cut: there is no node {name!r}; {advice}")

    def _ends(self) -> str:
        return ", ".join(repr(node.output) for node in self.nodes[-5:])

    def with_norms(self, norms: Mapping[str, Mapping[str, Any]]) -> Graph:
        """The graph with these parameter dicts of its batch norms, by :attr:`Node.statistics_of`."""
        nodes = [
            replace(node, args=(norms[node.statistics_of],)) if node.op.statistics else node
            for node in self.nodes
        ]
        return replace(self, nodes=nodes)

    def readers(self) -> dict[str, list[Node]]:
        """Return the nodes that read each value."""
        found: dict[str, list[Node]] = {self.input: [], **{node.output: [] for node in self.nodes}}
        for node in self.nodes:
            for name in node.inputs:
                found[name].append(node)
        return found

    def why_fixed(self) -> str:
        """Why images must have one height and width; empty if they may have any.

        The reason is `fixed_by`, or a node that makes rows of numbers of images, unless a global or adaptive
        pool has given these their size.
        """
        if self.fixed_by:
            return self.fixed_by
        following = self.following()
        for node in self.nodes:
            if node.op.makes_rows and not following.isdisjoint(node.inputs):
                return f"{node.title} makes rows of numbers of whole images"
        return ""

    def following(self) -> set[str]:
        """The values whose shape follows the size of images: those not behind global and adaptive pools."""
        found = {self.input}
        for node in self.nodes:
            if not node.op.own_size and not found.isdisjoint(node.inputs):
                found.add(node.output)
        return found

    def check(self, where: str, eight_bits: bool = False) -> None:
        """Raise for a graph that cannot run; the message begins with `where` and names the node.

        With `eight_bits` it may have operations on bytes.

        Raises
        ------
        ValueError
            For an unknown layer, a wrong number of inputs, parameters or arguments, a value that is read
            before it is made, made twice, or never read.
        TypeError
            If `outputs` is no sequence of names.
        """
        made = {self.input}
        for node in self.nodes:
            if eight_bits and node.layer in OPS and node.op.eight_bits:
                check_byte_node(node)
            else:
                _check_layer(where, node)
            for name in node.inputs:
                if name not in made:
                    raise ValueError(f"{where}: {node.title} reads {name!r}, which no node before it makes")
            if node.output in made:
                raise ValueError(f"{where}: {node.title} makes {node.output!r}, which has been made before")
            made.add(node.output)
        results = self.results()
        if isinstance(self.outputs, str) or not all(isinstance(name, str) for name in results):
            raise TypeError(f"{where}: outputs of the graph must be names, got {self.outputs!r}")
        for place, name in enumerate(results):
            if name not in made:
                raise ValueError(f"{where}: no node makes the output {name!r}")
            if name in results[:place]:
                raise ValueError(f"{where}: outputs of the graph names {name!r} twice")
        readers = self.readers()
        for node in self.nodes:
            if not readers[node.output] and node.output not in results:
                raise ValueError(f"{where}: nothing reads what {node.title} makes")


def _check_layer(where: str, node: Node) -> None:
    known = callable_layers()
    if node.layer not in known:
        advice = hint(node.layer, known, "see cnnlib.layers")
        raise ValueError(f"{where}: {node.title}: unknown layer {node.layer!r}; {advice}")
    count, roles = node.op.inputs, node.op.roles
    if len(node.inputs) != count and (count is not None or len(node.inputs) < 2):
        wanted = "two or more" if count is None else count
        raise ValueError(
            f"{where}: {node.title}: {node.layer} reads {wanted} value{'' if count == 1 else 's'}, "
            f"got {len(node.inputs)}"
        )
    lacking = [role for role, name in zip(roles, node.params) if name is None and role != "b"]
    if len(node.params) != len(roles) or lacking:
        raise ValueError(
            f"{where}: {node.title}: params of {node.layer} must name {', '.join(roles) or 'nothing'}"
            f"{' (None for no b)' if 'b' in roles else ''}, got {node.params!r}"
        )
    try:
        node.arguments()
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def fresh(name: str, taken: Container[str], mark: str = "'") -> str:
    """The name, made longer while it is taken."""
    while name in taken:
        name += mark
    return name


def numbered(name: str, taken: Container[str]) -> str:
    """The name if it is free, else ``name.2`` or the first free one behind it."""
    names = (name if n == 1 else f"{name}.{n}" for n in itertools.count(1))
    return next(free for free in names if free not in taken)


def last_reads(nodes: Sequence[Node], results: Iterable[str]) -> list[list[str]]:
    """For each node the values that no later one reads, but for the results."""
    seen, done = set(results), []
    for node in reversed(nodes):
        done.append([name for name in dict.fromkeys(node.inputs) if name not in seen])
        seen.update(node.inputs)
    return done[::-1]


def trained_values(nodes: Iterable[Node], input: str, frozen: Collection[str]) -> dict[str, bool]:
    """For each value whether a parameter is trained before it."""
    trained = {input: False}
    for node in nodes:
        own = any(name and name not in frozen for name in node.params)
        trained[node.output] = own or any(trained[name] for name in node.inputs)
    return trained
