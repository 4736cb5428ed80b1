"""From a spec to its stages and their graph: shapes, parameters and costs."""

import contextlib
import contextvars
import functools
import math

import numpy as np

from cnnlib._params import choice, flag, number, pair, positive_int, probability
from cnnlib._system.text import shape_text
from cnnlib.graph.graph import Graph, Node
from cnnlib.graph.shapes import shape_behind
from cnnlib.models.spec.reading import BRANCHING, KINDS, parse
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


def set_dirac(w, where):
    """Let the first C of the filters w (F, C, KH, KW) pass on a channel each (arXiv:1706.00388)."""
    F, C, KH, KW = w.shape
    if KH % 2 == 0 or KW % 2 == 0:
        raise ValueError(f"{where}: a dirac filter needs a middle, and {KH}x{KW} has none")
    rows = np.arange(min(F, C))
    w[rows] = 0
    w[rows, rows, KH // 2, KW // 2] = 1


def whitening_filters(X, w, eps):
    """Filters like w (2k, C, KH, KW) that make uncorrelated outputs of variance 1 from the images X.

    They are the k eigenvectors of largest eigenvalue of the covariance matrix of X's patches, each divided by
    the root of its eigenvalue (plus `eps`), and the same with the opposite sign.
    """
    F, C, KH, KW = w.shape
    patches = np.lib.stride_tricks.sliding_window_view(X, (KH, KW), axis=(2, 3))
    D = C * KH * KW
    total, square, count = np.zeros(D), np.zeros((D, D)), 0
    for some in np.array_split(patches, max(1, len(X) // 100)):  # bounds the memory of the copies
        rows = some.transpose(0, 2, 3, 1, 4, 5).reshape(-1, D).astype(np.float64)
        total += rows.sum(axis=0)
        square += rows.T @ rows
        count += len(rows)
    mean = total / count
    values, vectors = np.linalg.eigh(square / count - np.outer(mean, mean))
    chosen = np.argsort(values)[::-1][: F // 2]
    vectors = vectors[:, chosen].T
    largest = np.abs(vectors).argmax(axis=1)
    vectors *= np.sign(vectors[np.arange(len(vectors)), largest])[:, None]  # LAPACKs differ in the sign
    filters = vectors / np.sqrt(np.maximum(values[chosen], 0) + eps)[:, None]
    return np.concatenate([filters, -filters]).reshape(w.shape).astype(w.dtype)


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
        self.weights = self.norms = self._values = 0
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
                before_norm = name is None and i + 1 < len(parsed) and parsed[i + 1][0] == "batchnorm"
                options.setdefault("bias", not before_norm)  # the norm would subtract it again
            try:
                if source is not None:
                    self._go_to(where, source)
                if KINDS[kind].images:
                    self._image(where)
                if kind in BRANCHING:
                    stage = getattr(self, kind)(where, f"{place} {i + 1}, ", value, options)
                elif hasattr(self, kind):
                    stage = getattr(self, kind)(where, value, options)
                else:  # a layer of that name, without arguments
                    stage = self._stage(kind, kind)
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

    def residual(self, where, place, body, options):
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

    def concat(self, where, place, branches, options):
        """The branches' channels one behind the other."""
        values, parts = self._branches(where, place, branches)
        return self._joined("concat", "concat", tuple(values), parts)

    def add(self, where, place, branches, options, layer="add"):
        """The branches' sum; those behind the first may have a value for each of its channels."""
        (total, *others), parts = self._branches(where, place, branches)
        for value in others:
            stage = self._joined(layer, layer, (total, value), parts)
            total = self.graph.output
        return stage

    multiply = functools.partialmethod(add, layer="multiply")

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

    # A method for each kind of stage ------------------------------------------------------------------

    def conv(self, where, F, options, layer_name="conv"):
        F, C, KH, KW, bias, options = self._filters(where, F, options)
        init = choice(where, "init", options.pop("init", "normal"), ("normal", "dirac", "whiten"))
        frozen = options.pop("frozen", False)
        frozen = frozen if frozen == "filters" else flag(where, "frozen", frozen)
        conv_param = {"stride": 1, "pad": "same", **options}
        C_group = C // positive_int(where, "groups", conv_param.get("groups", 1))
        gain = 1 / 3 if init == "dirac" else 2  # then the drawn filters are about as long as the others
        names = self._weights((F, C_group, KH, KW), C_group * KH * KW, F, bias, gain)
        if init == "dirac":
            set_dirac(self.params[names[0]], where)
        elif init == "whiten":
            self._whiten(where, names[0], C_group)
        if frozen:
            self.frozen.update(name for name in names[: 1 if frozen == "filters" else 2] if name)
        return self._stage("conv", f"{layer_name} {F} {KH}x{KW}{_strided(conv_param)}", names, conv_param)

    def depthwise(self, where, size, options):
        C, _, _ = self._image(where)
        options = dict(options)
        multiplier = positive_int(where, "multiplier", options.pop("multiplier", 1))
        return self.conv(where, C * multiplier, {"size": size, "groups": C, **options}, "depthwise")

    def conv_transpose(self, where, F, options):
        F, C, KH, KW, bias, options = self._filters(where, F, options)
        conv_param = {"stride": 1, "pad": 0, **options}
        SH, SW = pair(where, "stride", conv_param["stride"])
        F_group = F // positive_int(where, "groups", conv_param.get("groups", 1))
        taps = C * F_group / F * KH * KW / max(SH * SW, 1)  # that meet in an output pixel, on the average
        names = self._weights((C, F_group, KH, KW), taps, F, bias)
        label = f"conv_transpose {F} {KH}x{KW}{_strided(conv_param)}"
        return self._stage("conv_transpose", label, names, conv_param)

    def affine(self, where, M, options):
        M = positive_int(where, "units", M)
        D = math.prod(self.shape)
        names = self._weights((D, M), D, M, flag(where, "bias", options["bias"]))
        return self._stage("affine", f"affine {M}", names)

    def batchnorm(self, where, value, options):
        options = dict(options)
        scaled = flag(where, "scale", options.pop("scale", True))
        for name, high in (("momentum", 1), ("eps", math.inf)):
            if name in options:
                number(where, name, options[name], 0, high)
        layer = "spatial_batchnorm" if len(self.shape) == 3 else "batchnorm"
        names = self._norm()
        if not scaled:
            self.frozen.add(names[0])
        return self._stage(layer, "batchnorm", names, options)

    def groupnorm(self, where, G, options):
        G = positive_int(where, "groups", G)
        return self._stage("spatial_groupnorm", f"groupnorm {G}", self._norm(), G, dict(options))

    def instancenorm(self, where, value, options):
        return self._stage("spatial_instancenorm", "instancenorm", self._norm(), dict(options))

    def layernorm(self, where, value, options):
        layer = "spatial_layernorm" if len(self.shape) == 3 else "layernorm"
        return self._stage(layer, "layernorm", self._norm(), dict(options))

    def leaky_relu(self, where, alpha, options, layer="leaky_relu", default=0.01):
        alpha = default if alpha is None else number(where, "slope", alpha)
        return self._stage(layer, f"{layer} {alpha:g}", (), alpha)

    elu = functools.partialmethod(leaky_relu, layer="elu", default=1.0)

    def gelu(self, where, approximate, options):
        approximate = "none" if approximate is None else approximate
        choice(where, "approximate", approximate, ("none", "tanh"))
        label = "gelu" if approximate == "none" else f"gelu {approximate}"
        return self._stage("gelu", label, (), approximate)

    def scale(self, where, factor, options):
        factor = number(where, "factor", factor)
        return self._stage("scale", f"scale {factor:g}", (), factor)

    def max_pool(self, where, size, options, layer="max_pool"):
        size = pair(where, "size", size)
        pool_param = {"size": size, **options}
        stride = f" stride {shape_text(options['stride'])}" if "stride" in options else ""
        return self._stage(layer, f"{layer} {shape_text(size)}{stride}", (), pool_param)

    avg_pool = functools.partialmethod(max_pool, layer="avg_pool")

    def global_max_pool(self, where, value, options):
        return self._stage("adaptive_max_pool", "global_max_pool", (), 1)

    def adaptive_avg_pool(self, where, size, options, layer="adaptive_avg_pool"):
        size = pair(where, "size", size)
        return self._stage(layer, f"{layer} {shape_text(size)}", (), size)

    adaptive_max_pool = functools.partialmethod(adaptive_avg_pool, layer="adaptive_max_pool")

    def upsample(self, where, scale, options):
        scale = pair(where, "scale", scale)
        args = (scale, options.get("mode", "nearest"), options.get("align_corners", False))
        return self._stage("upsample", f"upsample {shape_text(scale)} {args[1]}", (), *args)

    def dropout(self, where, p, options):
        p = probability(where, "dropout", p)
        return self._stage("dropout", f"dropout {p:g}", (), {"p": p})

    # Their parts --------------------------------------------------------------------------------------

    def _image(self, where):
        if len(self.shape) != 3:
            raise ValueError(f"{where}: needs images (C, H, W), but here a sample has shape {self.shape}")
        return self.shape

    def _filters(self, where, F, options):
        """F, C, KH, KW and the bias of a convolution, and its other options."""
        F, options = positive_int(where, "filters", F), dict(options)
        KH, KW = (positive_int(where, "size", n) for n in pair(where, "size", options.pop("size", 3)))
        C, _, _ = self._image(where)
        return F, C, KH, KW, flag(where, "bias", options.pop("bias")), options

    def _weights(self, shape, fan_in, num_biases, bias, gain=2):
        self.weights += 1
        names = f"W{self.weights}", f"b{self.weights}" if bias else None
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

    def _whiten(self, where, name, C):
        """Note the filters `name` as those that :meth:`cnnlib.models.ConvNet.initialize` has to set."""
        if self.weights > 1 or self.shape != self._shapes[self.graph.input] or C != self.shape[0]:
            raise ValueError(f"{where}: only a first convolution, without groups, can whiten the images")
        F, *patch = self.params[name].shape
        if F % 2 or F > 2 * math.prod(patch):
            raise ValueError(
                f"{where}: to whiten patches of {shape_text(patch)} takes an even number of filters, "
                f"{2 * math.prod(patch)} at most, got {F}"
            )
        self.params[name][:] = np.nan
        self.whitening = name

    def _norm(self):
        self.norms += 1
        names = f"gamma{self.norms}", f"beta{self.norms}"
        self._count(2 * self.shape[0])
        self.params[names[0]] = np.ones(self.shape[0], self.dtype)
        self.params[names[1]] = np.zeros(self.shape[0], self.dtype)
        return names

    def _stage(self, layer, label, names=(), *args):
        """Put a layer into the graph."""
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


def _strided(conv_param):
    stride = conv_param["stride"]
    return "" if stride == 1 else f" stride {shape_text(stride)}"
