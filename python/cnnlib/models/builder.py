"""From a spec to its stages and their graph: shapes, parameters and costs."""

import math
from dataclasses import dataclass, field

import numpy as np

from cnnlib._params import choice, flag, number, pair, positive_int, probability
from cnnlib.models.graph import Graph, Node
from cnnlib.models.initialization import set_dirac
from cnnlib.models.program import Step
from cnnlib.models.spec import parse


@dataclass
class Stage:
    """One line of the spec.

    `layer`, `names` and `args` are those of its node in the graph (for 'residual' of none). `shape` is that
    of one sample's output.
    """

    layer: str
    label: str
    shape: tuple
    names: tuple = ()
    args: tuple = ()
    num_params: int = 0
    multiply_adds: int = 0
    parts: list = field(default_factory=list)  # of a residual block: the stages of body and shortcut


class Builder:
    """Walks a spec, collecting stages, parameters and the dicts that change from call to call.

    Attributes
    ----------
    shape : tuple
        Of one sample, behind the stages walked so far.
    params : dict
        Initial parameters, in `dtype`: weights normally distributed with the standard deviation
        ``sqrt(2 / fan_in)`` that keeps the variance through relu layers (He et al. 2015,
        arXiv:1502.01852), or `weight_scale` if that is given; biases 0, norms' scales 1. Filters that
        are to whiten images are NaN.
    frozen : set of str
        The parameters that training leaves alone.
    whitening : str or None
        The name of the filters that are to whiten the images.
    bn_params, dropout_params : list of dict
    graph : Graph
        Of the stages walked so far.
    """

    def __init__(self, input_dim, random, weight_scale, dtype):
        self.shape = tuple(input_dim)
        self.random = random
        self.weight_scale = weight_scale
        self.dtype = dtype
        self.input_dim = tuple(input_dim)
        self.params = {}
        self.frozen = set()
        self.whitening = None
        self.bn_params = []
        self.dropout_params = []
        self.weights = self.norms = 0
        self.graph = Graph()

    def walk(self, spec, place="stage"):
        """The stages of a spec."""
        if isinstance(spec, (str, dict)) or not hasattr(spec, "__iter__"):
            raise TypeError(f"ConvNet: {place}s must be a list, got {spec!r}")
        parsed = [parse(f"{place} {i}", entry) for i, entry in enumerate(spec, start=1)]
        stages = []
        for i, (kind, value, options) in enumerate(parsed):
            where = f"ConvNet: {place} {i + 1} ({kind})"
            if kind in ("conv", "depthwise", "affine"):
                before_norm = i + 1 < len(parsed) and parsed[i + 1][0] == "batchnorm"
                options.setdefault("bias", not before_norm)  # the norm would subtract it again
            try:
                if kind == "residual":
                    stage = self.residual(where, f"{place} {i + 1}, ", value, options)
                else:
                    stage = getattr(self, kind)(where, value, options)
            except (TypeError, ValueError) as error:
                if str(error).startswith("ConvNet: "):
                    raise
                raise type(error)(f"{where}: {error}") from error
            self.shape = stage.shape
            stages.append(stage)
        return stages

    # A method for each kind of stage ------------------------------------------------------------------

    def conv(self, where, F, options, layer_name="conv"):
        F = positive_int(where, "filters", F)
        options = dict(options)
        KH, KW = pair(where, "size", options.pop("size", 3))
        KH, KW = positive_int(where, "size", KH), positive_int(where, "size", KW)
        C, _, _ = self._image(where)
        bias = flag(where, "bias", options.pop("bias"))
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
        shape = self._shape_behind("conv", names, (conv_param,))
        label = f"{layer_name} {F} {KH}x{KW}"
        if conv_param["stride"] != 1:
            label += f" stride {_text(conv_param['stride'])}"
        cost = math.prod(shape) * C_group * KH * KW
        return self._stage("conv", label, shape, names, (conv_param,), cost)

    def depthwise(self, where, size, options):
        C, _, _ = self._image(where)
        options = dict(options)
        multiplier = positive_int(where, "multiplier", options.pop("multiplier", 1))
        return self.conv(where, C * multiplier, {"size": size, "groups": C, **options}, "depthwise")

    def affine(self, where, M, options):
        M = positive_int(where, "units", M)
        D = math.prod(self.shape)
        names = self._weights((D, M), D, M, flag(where, "bias", options["bias"]))
        return self._stage("affine", f"affine {M}", (M,), names, (), D * M)

    def batchnorm(self, where, value, options):
        options = dict(options)
        scaled = flag(where, "scale", options.pop("scale", True))
        bn_param = {"mode": "train", **options}
        for name, high in (("momentum", 1), ("eps", math.inf)):
            if name in bn_param:
                number(where, name, bn_param[name], 0, high)
        self.bn_params.append(bn_param)
        layer = "spatial_batchnorm" if len(self.shape) == 3 else "batchnorm"
        names = self._norm()
        if not scaled:
            self.frozen.add(names[0])
        return self._stage(layer, "batchnorm", self.shape, names, (bn_param,))

    def groupnorm(self, where, G, options):
        self._image(where)
        names = self._norm()
        args = (positive_int(where, "groups", G), dict(options))
        self._shape_behind("spatial_groupnorm", names, args)
        return self._stage("spatial_groupnorm", f"groupnorm {G}", self.shape, names, args)

    def relu(self, where, value, options):
        return self._stage("relu", "relu", self.shape)

    def leaky_relu(self, where, alpha, options):
        alpha = 0.01 if alpha is None else number(where, "slope", alpha)
        return self._stage("leaky_relu", f"leaky_relu {alpha:g}", self.shape, (), (alpha,))

    def scale(self, where, factor, options):
        factor = number(where, "factor", factor)
        return self._stage("scale", f"scale {factor:g}", self.shape, (), (factor,))

    def max_pool(self, where, size, options, layer="max_pool"):
        self._image(where)
        height, width = pair(where, "size", size)
        pool_param = {"pool_height": height, "pool_width": width, **options}
        shape = self._shape_behind(layer, (), (pool_param,))
        label = f"{layer} {height}x{width}"
        if "stride" in options:
            label += f" stride {_text(options['stride'])}"
        return self._stage(layer, label, shape, (), (pool_param,))

    def avg_pool(self, where, size, options):
        return self.max_pool(where, size, options, "avg_pool")

    def global_avg_pool(self, where, value, options):
        C, _, _ = self._image(where)
        return self._stage("global_avg_pool", "global_avg_pool", (C,))

    def global_max_pool(self, where, value, options):
        C, H, W = self._image(where)
        pool_param = {"pool_height": H, "pool_width": W}
        return self._stage("max_pool", "global_max_pool", (C, 1, 1), (), (pool_param,))

    def dropout(self, where, p, options):
        dropout_param = {"p": probability(where, "dropout", p), "mode": "train"}
        self.dropout_params.append(dropout_param)
        return self._stage("dropout", f"dropout {p:g}", self.shape, (), (dropout_param,))

    def residual(self, where, place, body, options):
        """body(x) + shortcut(x); without a shortcut given, x itself or a 1x1 conv where shapes differ."""
        before, value = self.shape, self.graph.output
        stages = self.walk(body, f"{place}body stage")
        after, self.shape = self.shape, before
        body_value, self.graph.output = self.graph.output, value
        shortcut = options.get("shortcut")
        if shortcut is None:
            shortcut = [] if after == before else _projection(where, before, after)
        shortcut_stages = self.walk(shortcut, f"{place}shortcut stage")
        if self.shape != after:
            raise ValueError(f"{where}: the body gives {_text(after)}, the shortcut {_text(self.shape)}")
        self._append("add", "residual", (body_value, self.graph.output))
        return Stage("residual", "residual", after, parts=[("", stages), ("shortcut: ", shortcut_stages)])

    # Their parts --------------------------------------------------------------------------------------

    def _image(self, where):
        if len(self.shape) != 3:
            raise ValueError(f"{where}: needs images (C, H, W), but here a sample has shape {self.shape}")
        return self.shape

    def _weights(self, shape, fan_in, num_biases, bias, gain=2):
        self.weights += 1
        names = f"W{self.weights}", f"b{self.weights}" if bias else None
        scale = math.sqrt(gain / max(fan_in, 1)) if self.weight_scale is None else self.weight_scale
        self.params[names[0]] = (scale * self.random.randn(*shape)).astype(self.dtype)
        if bias:
            self.params[names[1]] = np.zeros(num_biases, self.dtype)
        return names

    def _whiten(self, where, name, C):
        """Note the filters `name` as those that :meth:`cnnlib.convnet.ConvNet.initialize` has to set."""
        if self.weights > 1 or self.shape != self.input_dim or C != self.shape[0]:
            raise ValueError(f"{where}: only a first convolution, without groups, can whiten the images")
        F, *patch = self.params[name].shape
        if F % 2 or F > 2 * math.prod(patch):
            raise ValueError(
                f"{where}: to whiten patches of {_text(patch)} takes an even number of filters, "
                f"{2 * math.prod(patch)} at most, got {F}"
            )
        self.params[name][:] = np.nan
        self.whitening = name

    def _norm(self):
        self.norms += 1
        names = f"gamma{self.norms}", f"beta{self.norms}"
        self.params[names[0]] = np.ones(self.shape[0], self.dtype)
        self.params[names[1]] = np.zeros(self.shape[0], self.dtype)
        return names

    def _shape_behind(self, layer, names, args):
        """Let the layer itself say what it makes of images of this size, by giving it none of them."""
        x = np.empty((0, *self.shape), self.dtype)
        out, _ = Step(Node(layer, ("input",), "output", names, args)).forward(self.params, x)
        return out.shape[1:]

    def _stage(self, layer, label, shape, names=(), args=(), multiply_adds=0):
        self._append(layer, label, (self.graph.output,), names, args)
        num_params = sum(self.params[name].size for name in names if name)
        return Stage(layer, label, tuple(shape), names, args, num_params, multiply_adds)

    def _append(self, layer, label, inputs, names=(), args=()):
        output = f"{layer}{len(self.graph.nodes) + 1}"
        self.graph.append(Node(layer, inputs, output, tuple(names), tuple(args), label))


def _projection(where, before, after):
    """A shortcut that changes the shape: a strided 1x1 convolution, normalised (He et al. 2015, option B)."""
    if len(before) != 3 or len(after) != 3:
        raise ValueError(f"{where}: from {_text(before)} to {_text(after)} a shortcut has to be given")
    stride = tuple(-(-b // a) for b, a in zip(before[1:], after[1:], strict=True))
    stride = stride[0] if stride[0] == stride[1] else stride
    return [{"conv": after[0], "size": 1, "stride": stride}, "batchnorm"]


def _text(value):
    return "x".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)
