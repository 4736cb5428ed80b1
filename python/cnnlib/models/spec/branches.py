"""Where a ConvNet's stages branch and meet again."""

from __future__ import annotations

from cnnlib.graph.graph import Graph, Node
from cnnlib.models.spec.reading import KINDS
from cnnlib.models.stage import Stage, shape_text


class Branches:
    """The part of a Builder that keeps named values and walks branches.

    Attributes
    ----------
    graph : Graph
        Of the stages walked so far.
    shape : tuple
        Of one sample, behind them.
    named : dict
        The graph's value and the shape of a sample for each name in the spec; 'input' are the images.
    """

    def __init__(self, input_dim):
        self.shape = input_dim
        self.graph = Graph()
        self.named = {"input": (self.graph.input, input_dim)}

    def walk(self, spec, place="stage"):
        raise NotImplementedError

    def go_to(self, where, name):
        """Let the next stage read the value of that name."""
        if not isinstance(name, str):
            raise TypeError(f"{where}: a value is read by its name, got {name!r}")
        if name not in self.named:
            raise ValueError(
                f"{where}: no stage before has the name {name!r}; named: {', '.join(self.named)}"
            )
        self.graph.output, self.shape = self.named[name]

    def keep(self, where, name):
        """Give the value behind the stages so far a name."""
        if not isinstance(name, str):
            raise TypeError(f"{where}: name must be a string, got {name!r}")
        if name in self.named or name in KINDS:
            taken = "a kind of stage" if name in KINDS else "taken"
            raise ValueError(f"{where}: the name {name!r} is {taken}")
        self.named[name] = self.graph.output, self.shape

    def residual(self, where, place, body, options):
        """body(x) + shortcut(x); without a shortcut given, x itself or a 1x1 conv where shapes differ."""
        start = self.graph.output, self.shape
        stages = self.walk(body, f"{place}body stage")
        body_value, after = self.graph.output, self.shape
        self.graph.output, before = start
        self.shape = before
        shortcut = options.get("shortcut")
        if shortcut is None:
            shortcut = [] if after == before else _projection(where, before, after)
        shortcut_stages = self.walk(shortcut, f"{place}shortcut stage")
        if self.shape != after:
            raise ValueError(
                f"{where}: the body gives {shape_text(after)}, the shortcut {shape_text(self.shape)}"
            )
        self.append("add", "residual", (body_value, self.graph.output))
        return Stage("residual", after, parts=[("", stages), ("shortcut: ", shortcut_stages)])

    def concat(self, where, place, branches, options):
        """The branches' channels one behind the other."""
        values, shapes, parts = self._branches(where, place, branches)
        if len({shape[1:] for shape in shapes}) > 1:
            raise ValueError(f"{where}: the branches differ in size: {', '.join(map(shape_text, shapes))}")
        self.append("concat", "concat", tuple(values))
        shape = sum(shape[0] for shape in shapes), *shapes[0][1:]
        return Stage("concat", shape, parts=parts)

    def add(self, where, place, branches, options, layer="add"):
        """The branches' sum; those behind the first may have a value for each of its channels."""
        values, shapes, parts = self._branches(where, place, branches)
        first, *others = shapes
        for shape in others:
            if shape not in (first, first[:1], (*first[:1], 1, 1)):
                raise ValueError(
                    f"{where}: the branches must have one shape, or those behind the first a value for each "
                    f"of its channels: got {', '.join(map(shape_text, shapes))}"
                )
        total, *others = values
        for value in others:
            total = self.append(layer, layer, (total, value))
        return Stage(layer, first, parts=parts)

    def multiply(self, where, place, branches, options):
        """The branches' product."""
        return self.add(where, place, branches, options, "multiply")

    def append(self, layer, label, inputs, names=(), args=()):
        """Put a node into the graph, as its output."""
        output = f"{layer}{len(self.graph.nodes) + 1}"
        return self.graph.append(Node(layer, inputs, output, tuple(names), tuple(args), label))

    def _branches(self, where, place, branches):
        """The values and shapes that branches end with, and their stages; each begins where they part."""
        if not isinstance(branches, (list, tuple)):
            raise TypeError(f"{where}: needs a list of branches, got {branches!r}")
        if len(branches) < 2:
            raise ValueError(f"{where}: needs two branches or more, got {len(branches)}")
        start = self.graph.output, self.shape
        values, shapes, parts = [], [], []
        for number, branch in enumerate(branches, start=1):
            self.graph.output, self.shape = start
            if isinstance(branch, str):
                self.go_to(where, branch)
                stages = [Stage(branch, self.shape)]
            else:
                stages = self.walk(branch, f"{place}branch {number} stage")
                stages = stages or [Stage("as it is", self.shape)]
            values.append(self.graph.output)
            shapes.append(self.shape)
            parts.append((f"{number}: ", stages))
        return values, shapes, parts


def _projection(where, before, after):
    """A shortcut that changes the shape: a strided 1x1 convolution, normalised (He et al. 2015, option B)."""
    if len(before) != 3 or len(after) != 3:
        raise ValueError(
            f"{where}: from {shape_text(before)} to {shape_text(after)} a shortcut has to be given"
        )
    stride = tuple(-(-b // a) for b, a in zip(before[1:], after[1:], strict=True))
    stride = stride[0] if stride[0] == stride[1] else stride
    return [{"conv": after[0], "size": 1, "stride": stride}, "batchnorm"]
