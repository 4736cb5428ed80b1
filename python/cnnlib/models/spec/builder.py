"""From a spec to its stages and their graph: shapes, parameters and costs.

The stage of a layer is built by its op, with the methods of :class:`Builder`.
"""

import contextlib
import contextvars
import math

import numpy as np

from cnnlib._system.text import shape_text
from cnnlib.graph.graph import Graph, Node
from cnnlib.graph.ops import op_of
from cnnlib.graph.shapes import shape_behind
from cnnlib.models.spec.filters import set_dirac
from cnnlib.models.spec.reading import BRANCHING, KINDS, RESIDUAL, parse
from cnnlib.models.summary import Stage, stage_of

_most = contextvars.ContextVar("_most", default=math.inf)  # values of parameters that a model may have


@contextlib.contextmanager
def parameters_at_most(count):
    """Within the block a model of more values of parameters is refused before it takes their memory."""
    token = _most.set(count)
    try:
        yield
    finally:
        _most.reset(token)


def _projection(where, before, after):
    """A shortcut that changes the shape: a strided 1x1 convolution, normalised (He et al. 2015, option B)."""
    if len(before) != 3 or len(after) != 3:
        raise ValueError(
            f"{where}: from {shape_text(before)} to {shape_text(after)} a shortcut has to be given"
        )
    stride = tuple(-(-b // a) for b, a in zip(before[1:], after[1:], strict=True))
    stride = stride[0] if stride[0] == stride[1] else stride
    return [{"conv": after[0], "size": 1, "stride": stride}, "batchnorm"]


class Builder:
    """Walks a spec, collecting its graph, parameters, and the dicts that change from call to call.

    Initial weights are normally distributed with the standard deviation ``sqrt(2 / fan_in)`` that keeps the
    variance through relu layers (He et al. 2015, arXiv:1502.01852), or `weight_scale` if that is given;
    biases are 0, norms' scales 1. Training leaves alone what is `frozen`. `whitening` names the filters that
    are to whiten the images, NaN until then; None: there are none.
    """

    def __init__(self, input_dim, random, weight_scale, dtype):
        self.random, self.weight_scale, self.dtype = random, weight_scale, dtype
        self.graph, self.params = Graph(), {}
        self.frozen, self.whitening = set(), None
        self._weights = self._norms = self._values = 0
        self._shapes = {self.graph.input: tuple(input_dim)}  # of one sample of each of the graph's values
        self._named = {"input": self.graph.input}  # values by their names in the spec

    @property
    def shape(self):
        """The shape of one sample behind the stages so far."""
        return self._shapes[self.graph.output]

    def walk(self, spec, place="stage"):
        """The stages of a spec."""
        if isinstance(spec, (str, dict)) or not hasattr(spec, "__iter__"):
            raise TypeError(f"ConvNet: {place}s must be a list, got {spec!r}")
        parsed = [parse(f"{place} {i}", entry) for i, entry in enumerate(spec, start=1)]
        stages = []
        for i, (kind, value, options) in enumerate(parsed):
            where = f"ConvNet: {place} {i + 1} ({kind})"
            name, source = options.pop("name", None), options.pop("from", None)
            if KINDS[kind].bias:
                read_by_next_alone = name is None and i + 1 < len(parsed)
                subtracted = read_by_next_alone and KINDS[parsed[i + 1][0]].subtracts_bias
                options.setdefault("bias", not subtracted)
            try:
                if source is not None:
                    self._go_to(where, source)
                if KINDS[kind].images:
                    self.image(where)
                if kind == RESIDUAL:
                    stage = self._residual(where, f"{place} {i + 1}, ", value, options)
                elif kind in BRANCHING:
                    stage = self._join(where, f"{place} {i + 1}, ", kind, value)
                elif (build := KINDS[kind].build) is not None:
                    stage = build(self, where, value, options)
                else:  # a layer of that name, without arguments
                    stage = self.layer(kind, kind)
                if name is not None:
                    self._keep(where, name)
            except (TypeError, ValueError) as error:
                if str(error).startswith("ConvNet: "):
                    raise
                raise type(error)(f"{where}: {error}") from error
            stages.append(stage)
        return stages

    def _go_to(self, where, name):
        """Let the next stage read the value of that name."""
        if not isinstance(name, str):
            raise TypeError(f"{where}: a value is read by its name, got {name!r}")
        if name not in self._named:
            known = ", ".join(self._named)
            raise ValueError(f"{where}: no stage before has the name {name!r}; named: {known}")
        self.graph.output = self._named[name]

    def _keep(self, where, name):
        """Give the value behind the stages so far a name."""
        if not isinstance(name, str):
            raise TypeError(f"{where}: name must be a string, got {name!r}")
        if name in self._named or name in KINDS:
            taken = "a kind of stage" if name in KINDS else "taken"
            raise ValueError(f"{where}: the name {name!r} is {taken}")
        self._named[name] = self.graph.output

    # Where branches meet ------------------------------------------------------------------------------

    def _residual(self, where, place, body, options):
        """body(x) + shortcut(x); without a shortcut given, x itself or a 1x1 conv where shapes differ."""
        start, before = self.graph.output, self.shape
        stages = self.walk(body, f"{place}body stage")
        value, after = self.graph.output, self.shape
        self.graph.output, shortcut = start, options.get("shortcut")
        if shortcut is None:
            shortcut = [] if after == before else _projection(where, before, after)
        shortcut_stages = self.walk(shortcut, f"{place}shortcut stage")
        if self.shape != after:
            raise ValueError(
                f"{where}: the body gives {shape_text(after)}, the shortcut {shape_text(self.shape)}"
            )
        parts = [("", stages), ("shortcut: ", shortcut_stages)]
        return self._joined("add", "residual", (value, self.graph.output), parts)

    def _join(self, where, place, layer, branches):
        """Join branches by a layer of several inputs, or of two inputs one branch after the other."""
        values, parts = self._branches(where, place, branches)
        if op_of(layer).inputs is None:
            return self._joined(layer, layer, tuple(values), parts)
        total, *others = values
        for value in others:
            stage = self._joined(layer, layer, (total, value), parts)
            total = self.graph.output
        return stage

    def _branches(self, where, place, branches):
        """The values that branches end with, and their stages; each begins where they part."""
        if not isinstance(branches, (list, tuple)):
            raise TypeError(f"{where}: needs a list of branches, got {branches!r}")
        if len(branches) < 2:
            raise ValueError(f"{where}: needs two branches or more, got {len(branches)}")
        start, values, parts = self.graph.output, [], []
        for k, branch in enumerate(branches, start=1):
            self.graph.output = start
            if isinstance(branch, str):
                self._go_to(where, branch)
                stages = [Stage(branch, self.shape)]
            else:
                stages = self.walk(branch, f"{place}branch {k} stage")
                stages = stages or [Stage("as it is", self.shape)]
            values.append(self.graph.output)
            parts.append((f"{k}: ", stages))
        return values, parts

    # What the stages of ops are built with ------------------------------------------------------------

    def image(self, where):
        """The shape (C, H, W) of a sample; ValueError where it is none of an image."""
        if len(self.shape) != 3:
            raise ValueError(f"{where}: needs images (C, H, W), but here a sample has shape {self.shape}")
        return self.shape

    def weights(self, shape, fan_in, num_biases, bias, gain=2):
        """Draw the next weights, of variance ``gain / fan_in``; returns their name and that of the biases."""
        self._weights += 1
        names = f"W{self._weights}", f"b{self._weights}" if bias else None
        scale = math.sqrt(gain / max(fan_in, 1)) if self.weight_scale is None else self.weight_scale
        self._count(math.prod(shape) + (num_biases if bias else 0))
        self.params[names[0]] = (scale * self.random.randn(*shape)).astype(self.dtype)
        if bias:
            self.params[names[1]] = np.zeros(num_biases, self.dtype)
        return names

    def _count(self, values):
        self._values += values
        if self._values > _most.get():
            raise ValueError(f"its parameters are more than {_most.get()} values")

    def initialize(self, where, name, how):
        """Set filters that were drawn: as they are ('normal'), to pass channels on ('dirac'), to 'whiten'."""
        if how == "dirac":
            set_dirac(self.params[name], where)
        elif how == "whiten":
            self._whiten(where, name)

    def _whiten(self, where, name):
        """Note the filters `name` as those that :meth:`cnnlib.models.ConvNet.initialize` has to set."""
        C = self.params[name].shape[1]
        if self._weights > 1 or self.shape != self._shapes[self.graph.input] or C != self.shape[0]:
            raise ValueError(f"{where}: only a first convolution, without groups, can whiten the images")
        F, *patch = self.params[name].shape
        if F % 2 or F > 2 * math.prod(patch):
            raise ValueError(
                f"{where}: to whiten patches of {shape_text(patch)} takes an even number of filters, "
                f"{2 * math.prod(patch)} at most, got {F}"
            )
        self.params[name][:] = np.nan
        self.whitening = name

    def norm(self):
        """Make the next scales 1 and shifts 0, one for each channel; returns their names."""
        self._norms += 1
        names = f"gamma{self._norms}", f"beta{self._norms}"
        self._count(2 * self.shape[0])
        self.params[names[0]] = np.ones(self.shape[0], self.dtype)
        self.params[names[1]] = np.zeros(self.shape[0], self.dtype)
        return names

    def layer(self, layer, label, names=(), *args):
        """Put a layer with these arrays and arguments into the graph; returns the stage of the summary."""
        before = self.shape
        node = self._append(layer, (self.graph.output,), names, args, label)
        return stage_of(node, self.params, before, self.shape)

    def _joined(self, layer, label, inputs, parts):
        """Put what joins branches into the graph."""
        self._append(layer, inputs, (), (), label)
        return Stage(label, self.shape, parts=parts)

    def _append(self, layer, inputs, names, args, label):
        node = Node(layer, inputs, f"{layer}{len(self.graph.nodes) + 1}", names, args, label)
        arrays = [None if name is None else self.params[name] for name in names]
        shape = tuple(shape_behind(node, [self._shapes[name] for name in inputs], arrays))
        self._shapes[self.graph.append(node)] = shape
        return node
