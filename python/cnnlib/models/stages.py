"""From a ConvNet's spec to its stages: parameters, shapes and costs, and how a stage runs.

A stage is one line of the spec. A call is what runs: a stage, or several that the library has a sandwich
layer for, or a residual block of calls.
"""

import difflib
import math
from dataclasses import dataclass, field

import numpy as np

from cnnlib import _core, layers
from cnnlib._params import check_keys, choice, flag, number, pair, positive_int, probability

_SANDWICHES = {
    ("conv", "spatial_batchnorm", "relu", "max_pool"): "conv_bn_relu_pool",
    ("conv", "spatial_batchnorm", "relu"): "conv_bn_relu",
    ("conv", "relu", "max_pool"): "conv_relu_pool",
    ("conv", "relu"): "conv_relu",
    ("affine", "batchnorm", "relu"): "affine_bn_relu",
    ("affine", "relu"): "affine_relu",
}
_POOL_OPTIONS = ("stride", "pad", "ceil_mode")
_OPTIONS = {
    "conv": ("size", "stride", "pad", "dilation", "groups", "bias", "init", "frozen"),
    "depthwise": ("multiplier", "stride", "pad", "dilation", "bias"),
    "affine": ("bias",),
    "batchnorm": ("momentum", "eps", "scale"),
    "groupnorm": ("eps",),
    "relu": (),
    "leaky_relu": (),
    "scale": (),
    "max_pool": (*_POOL_OPTIONS, "dilation"),
    "avg_pool": (*_POOL_OPTIONS, "count_include_pad"),
    "global_avg_pool": (),
    "global_max_pool": (),
    "dropout": (),
    "residual": ("shortcut",),
}
_WITHOUT_VALUE = ("batchnorm", "relu", "leaky_relu", "global_avg_pool", "global_max_pool")


@dataclass
class Stage:
    """One line of the spec.

    `layer` names the layer in cnnlib.layers; `names` its parameters in the order of its arguments (None for
    a bias that it does not have) and `args` what follows them. `shape` is that of one sample's output.
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

    def walk(self, spec, place="stage"):
        """The stages of a spec, with their calls: `(stages, calls)`."""
        if isinstance(spec, (str, dict)) or not hasattr(spec, "__iter__"):
            raise TypeError(f"ConvNet: {place}s must be a list, got {spec!r}")
        parsed = [_parse(f"{place} {i}", entry) for i, entry in enumerate(spec, start=1)]
        stages, residuals = [], {}
        for i, (kind, value, options) in enumerate(parsed):
            where = f"ConvNet: {place} {i + 1} ({kind})"
            if kind in ("conv", "depthwise", "affine"):
                before_norm = i + 1 < len(parsed) and parsed[i + 1][0] == "batchnorm"
                options.setdefault("bias", not before_norm)  # the norm would subtract it again
            try:
                if kind == "residual":
                    stage, residuals[i] = self.residual(where, f"{place} {i + 1}, ", value, options)
                else:
                    stage = getattr(self, kind)(where, value, options)
            except (TypeError, ValueError) as error:
                if str(error).startswith("ConvNet: "):
                    raise
                raise type(error)(f"{where}: {error}") from error
            self.shape = stage.shape
            stages.append(stage)
        return stages, _fuse(stages, residuals, self.frozen)

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
        before = self.shape
        stages, body_calls = self.walk(body, f"{place}body stage")
        after, self.shape = self.shape, before
        shortcut = options.get("shortcut")
        if shortcut is None:
            shortcut = [] if after == before else _projection(where, before, after)
        shortcut_stages, shortcut_calls = self.walk(shortcut, f"{place}shortcut stage")
        if self.shape != after:
            raise ValueError(f"{where}: the body gives {_text(after)}, the shortcut {_text(self.shape)}")
        stage = Stage("residual", "residual", after, parts=[("", stages), ("shortcut: ", shortcut_stages)])
        return stage, ResidualCall(body_calls, shortcut_calls)

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
        out, _ = Call(layer, names, args).forward(self.params, x)
        return out.shape[1:]

    def _stage(self, layer, label, shape, names=(), args=(), multiply_adds=0):
        num_params = sum(self.params[name].size for name in names if name)
        return Stage(layer, label, tuple(shape), names, args, num_params, multiply_adds)


class Call:
    """A layer or sandwich of cnnlib.layers with the names of its parameters and its other arguments."""

    def __init__(self, layer, names, args, frozen=frozenset()):
        self.layer, self.names, self.args, self.frozen = layer, names, args, frozen
        self.skip_dx = False  # nothing before this call is trained

    @property
    def trained(self):
        """Whether it has parameters that are trained."""
        return any(name and name not in self.frozen for name in self.names)

    def forward(self, params, x):
        values = (params[name] if name else None for name in self.names)
        return getattr(layers, f"{self.layer}_forward")(x, *values, *self.args)

    def backward(self, dout, cache, grads):
        """Write the gradients of the parameters that are trained to `grads`; return that of x."""
        backward = getattr(layers, f"{self.layer}_backward")
        if not self.names:
            return backward(dout, cache)
        if self.layer.startswith(("conv", "affine")):
            weights = zip(("dw", "db"), self.names, strict=False)
            needs = [need for need, name in weights if name and name not in self.frozen]
            dx, *values = backward(dout, cache, needs=needs if self.skip_dx else ["dx", *needs])
        else:
            dx, *values = backward(dout, cache)
        for name, value in zip(self.names, values, strict=True):
            if name and name not in self.frozen:
                grads[name] = value
        return dx


class ScaleCall(Call):
    """factor * x, the one stage that is no layer of the library."""

    def forward(self, params, x):
        return x * x.dtype.type(self.args[0]), None

    def backward(self, dout, cache, grads):
        return dout * dout.dtype.type(self.args[0])


class ResidualCall:
    """body(x) + shortcut(x), and the relu stage behind it if there is one."""

    def __init__(self, body, shortcut):
        self.body, self.shortcut = body, shortcut
        self.relu = False
        self.skip_dx = False  # of no use here: the sum is trained in two places

    @property
    def trained(self):
        return any(call.trained for call in (*self.body, *self.shortcut))

    def forward(self, params, x):
        out, body_caches = forward_all(self.body, params, x)
        short, shortcut_caches = forward_all(self.shortcut, params, x)
        add = _core.add_relu if self.relu else _core.add
        out = add("ConvNet", out, np.ascontiguousarray(short))
        return out, (body_caches, shortcut_caches, out if self.relu else None)

    def backward(self, dout, cache, grads):
        body_caches, shortcut_caches, out = cache
        if self.relu:
            dout = layers.relu_backward(dout, out)
        # In this order nobody needs dout any more when the sum is written, which a body may have handed on.
        short = backward_all(self.shortcut, dout, shortcut_caches, grads)
        dx = backward_all(self.body, dout, body_caches, grads)
        _core.add_to("ConvNet", dx, np.ascontiguousarray(short))
        return dx


def forward_all(calls, params, x):
    """Run calls one after the other; return the last one's output and the list of their caches."""
    caches = []
    for call in calls:
        x, cache = call.forward(params, x)
        caches.append(cache)
    return x, caches


def backward_all(calls, dout, caches, grads):
    """Run them backwards, using up `caches`, so that memory is free again as soon as possible."""
    for call in reversed(calls):
        dout = call.backward(dout, caches.pop(), grads)
    return dout


def skip_untrained(calls):
    """Drop what nobody asks for from a network's backward pass; return how many calls it can do without.

    That is the gradient of the images, and everything before the first call that is trained.
    """
    for i, call in enumerate(calls):
        if call.trained:
            call.skip_dx = True
            return i
    return len(calls)


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


def _fuse(stages, residuals, frozen):
    """The calls for a list of stages: the longest sandwich that fits, else the layer by itself."""
    calls, i = [], 0
    while i < len(stages):
        if i in residuals:
            calls.append(residuals[i])
            i += 1
            if i < len(stages) and stages[i].layer == "relu":
                residuals[i - 1].relu = True
                i += 1
            continue
        for length in (4, 3, 2, 1):
            run = stages[i : i + length]
            name = _SANDWICHES.get(tuple(stage.layer for stage in run))
            if name or length == 1:
                break
        names = sum((stage.names for stage in run), ())
        kind = ScaleCall if run[0].layer == "scale" else Call
        calls.append(kind(name or run[0].layer, names, sum((stage.args for stage in run), ()), frozen))
        i += len(run)
    return calls


def _parse(place, entry):
    """A line of the spec as (kind, value, options)."""
    if isinstance(entry, str):
        kind, value, options = entry, None, {}
        if kind in _OPTIONS and kind not in _WITHOUT_VALUE:
            raise ValueError(f"ConvNet: {place}: {kind} needs a value: {{{kind!r}: ...}}")
    elif isinstance(entry, dict) and entry:
        kinds = [key for key in entry if key in _OPTIONS]
        kind = kinds[0] if len(kinds) == 1 else next(iter(entry))
        value, options = entry[kind], {key: item for key, item in entry.items() if key != kind}
    else:
        raise TypeError(f"ConvNet: {place} must be a name or a dict such as {{'conv': 16}}, got {entry!r}")
    if kind not in _OPTIONS:
        near = difflib.get_close_matches(str(kind), _OPTIONS, 1, 0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(_OPTIONS)}"
        raise ValueError(f"ConvNet: {place}: unknown kind {kind!r}; {hint}")
    check_keys(f"ConvNet: {place}", kind, options, _OPTIONS[kind])
    return kind, value, options


def _projection(where, before, after):
    """A shortcut that changes the shape: a strided 1x1 convolution, normalised (He et al. 2015, option B)."""
    if len(before) != 3 or len(after) != 3:
        raise ValueError(f"{where}: from {_text(before)} to {_text(after)} a shortcut has to be given")
    stride = tuple(-(-b // a) for b, a in zip(before[1:], after[1:], strict=True))
    stride = stride[0] if stride[0] == stride[1] else stride
    return [{"conv": after[0], "size": 1, "stride": stride}, "batchnorm"]


def _text(value):
    return "x".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)
