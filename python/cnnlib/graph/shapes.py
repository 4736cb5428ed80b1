"""The shape of every value of a graph, by arithmetic alone; what samples have to be."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any, TypeAlias

import numpy as np

from cnnlib import layers
from cnnlib._params import check_keys, choice, integer, number, pair, positive_int
from cnnlib._params.arrays import layer_arrays
from cnnlib._typing import Array
from cnnlib.graph.graph import Graph, Node, parameters_of
from cnnlib.layers.axes import check_shape, conv_axes, conv_transpose_axes, pool_axes
from cnnlib.layers.norm.batch import batch_options, running_statistics
from cnnlib.layers.norm.rows import KEYS
from cnnlib.layers.resizing import _upsampling

Shape: TypeAlias = tuple[int, ...]  # of one sample
_MOST = 2**55  # numbers: more than that is no size, and sums of their bytes might overflow
_KINDS = {1: "(N, D)", 3: "images (N, C, H, W)"}


def checked_dim(where: str, input_dim: Any) -> Shape:
    """The shape of a sample, a size or several, as a tuple of sizes of at least 1."""
    sizes = np.atleast_1d(np.asarray(input_dim, dtype=object))
    return tuple(positive_int(where, "input_dim", size) for size in sizes)


def shapes(
    graph: Graph,
    arrays: Mapping[str, Array],
    input_dim: Shape,
    where: str = "shapes",
    further: Mapping[str, Callable[..., Shape]] | None = None,
) -> dict[str, Shape]:
    """
    Work out the shape of one sample of each value of a graph.

    Parameters
    ----------
    graph : Graph
        As its `check` passes it.
    arrays : mapping
        The arrays that its nodes name.
    input_dim : tuple of int
        The shape of a sample: (C, H, W) of images, (D,) of rows.
    where : str
        What messages begin with.
    further : mapping or None
        What :func:`shape_behind` is for other layers than those of `cnnlib.layers`, by their names.

    Returns
    -------
    dict of str to tuple of int

    Raises
    ------
    ValueError, TypeError, KeyError
        For arrays, options or sizes that do not fit a layer; the message names its node.

    Examples
    --------
    >>> import numpy as np
    >>> graph = Graph()
    >>> graph.chain("conv", ("W1", None), ({"stride": 2, "pad": "same"},)), graph.chain("global_avg_pool")
    ('conv1', 'global_avg_pool2')
    >>> shapes(graph, {"W1": np.ones((8, 3, 3, 3))}, (3, 9, 12))
    {'input': (3, 9, 12), 'conv1': (8, 5, 6), 'global_avg_pool2': (8,)}
    """
    found = {graph.input: tuple(input_dim)}
    for node in graph:
        try:
            for name in node.params:
                if name is not None and name not in arrays:
                    raise KeyError(f"params has no {name!r}")
            params = [None if name is None else arrays[name] for name in node.params]
            rule = (further or {}).get(node.layer, shape_behind)
            found[node.output] = rule(node, [found[name] for name in node.inputs], params)
            if math.prod(found[node.output]) > _MOST:
                raise ValueError(f"makes {batch_of(found[node.output])}, which no memory holds")
        except (KeyError, TypeError, ValueError) as error:
            raise type(error)(f"{where}: {node.title}: {error.args[0]}") from error
    return found


def shape_behind(node: Node, inputs: Sequence[Shape], params: Sequence[Array | None]) -> Shape:
    """The shape of one sample of what a layer makes of samples of these shapes, with these parameters.

    ValueError, TypeError or KeyError for arrays and options that the layer refuses.
    """
    function = node.layer if node.layer in _JOINED else f"{node.layer}_forward"
    if params:
        params, *_ = layer_arrays(function, parameters_of(node.layer), params)
    return _RULES[node.layer](function, *inputs, *params, *node.arguments().values())


def batch_of(shape: Shape) -> str:
    """The shape of N samples, for messages."""
    return f"(N, {', '.join(map(str, shape))})"


def _check_rank(function, x, *ranks):
    if len(x) not in ranks or 0 in x:
        kinds = " or ".join(_KINDS[rank] for rank in ranks)
        raise ValueError(f"{function}: x must be {kinds}, got {batch_of(x)}")


def samples_like(x: Shape) -> Any:
    """What stands for an array of samples where only its shape is asked for."""
    return SimpleNamespace(shape=(0, *x), ndim=1 + len(x))


def _same(function, x):
    return x


def _by_number(function, x, value):
    number(function, "its number", value)
    return x


def _gelu(function, x, approximate):
    choice(function, "approximate", approximate, ("none", "tanh"))
    return x


def _dropout(function, x, dropout_param):
    check_keys(function, "dropout_param", dropout_param, ("p", "mode", "seed"), required=("p", "mode"))
    number(function, "p", dropout_param["p"], 0, 1)
    choice(function, "mode", dropout_param["mode"], ("train", "test"))
    return x


def _add(function, x, y):
    if y != x and (len(x) != 3 or y not in (x[:1], (x[0], 1, 1))):
        raise ValueError(
            f"{function}: the inputs must have one shape, or the second one a value for each channel of the "
            f"first: got {batch_of(x)} and {batch_of(y)}"
        )
    return x


def _concat(function, *xs):
    if any(x[1:] != xs[0][1:] for x in xs):
        listed = ", ".join(map(batch_of, xs))
        raise ValueError(f"{function}: the inputs differ in more than their channels: {listed}")
    return (sum(x[0] for x in xs), *xs[0][1:])


def _flatten(function, x):
    return (math.prod(x),)


def _conv(count, function, x, w, b, conv_param):
    axes, _ = conv_axes(function, conv_param, samples_like(x), w, b, count)
    _check_algorithm(function, x, w, conv_param)
    return (w.shape[0], *(axis.outputs for axis in axes))


def _check_algorithm(function, x, w, conv_param):
    """Let the layer refuse a method that is unknown, or does not fit: of no images it computes nothing."""
    if "algorithm" in conv_param:
        getattr(layers, function)(np.empty((0, *x), w.dtype), w, None, conv_param)


def _conv_transpose(function, x, w, b, conv_param):
    _check_rank(function, x, 3)
    axes, _, groups = conv_transpose_axes(function, conv_param, samples_like(x), w)
    F = w.shape[1] * groups
    check_shape(function, "b", b, (F,))
    _check_algorithm(function, x, w, conv_param)
    return (F, *(axis.outputs for axis in axes))


def _affine(function, x, w, b):
    if w.ndim != 2 or w.shape[0] != math.prod(x):
        raise ValueError(f"{function}: x is {batch_of(x)}, so w must be ({math.prod(x)}, M), got {w.shape}")
    check_shape(function, "b", b, w.shape[1:])
    return w.shape[1:]


def _batchnorm(rank, function, x, gamma, beta, bn_param):
    _check_rank(function, x, rank)
    batch_options(function, bn_param)
    for name, array in (("gamma", gamma), ("beta", beta)):
        check_shape(function, name, array, x[:1])
    running_statistics(function, bn_param, x[:1], np.float64)
    return x


def _norm(rank, name, function, x, gamma, beta, *args):
    """A norm by each sample's own statistics; `groups` of channels where it takes their number."""
    _check_rank(function, x, rank)
    *groups, param = args
    check_keys(function, name, param, KEYS)
    number(function, "eps", param.get("eps", 1e-5), 0)
    if groups and (integer(function, "G", groups[0]) < 1 or x[0] % groups[0]):
        raise ValueError(f"{function}: G must divide the number of channels, {x[0]}, got {groups[0]}")
    for role, array in (("gamma", gamma), ("beta", beta)):
        if rank != 3 or array.shape != (1, x[0], 1, 1):
            check_shape(function, role, array, x[:1])
    return x


def _pool(count, kind, function, x, pool_param):
    axes, *_ = pool_axes(function, pool_param, samples_like(x), count, kind)
    return (x[0], *(axis.outputs for axis in axes))


def _global_pool(function, x):
    _check_rank(function, x, 3)
    return x[:1]


def _adaptive_pool(function, x, size):
    _check_rank(function, x, 3)
    return (x[0], *_positive(function, "size", size))


def _upsample(function, x, scale, mode, align_corners):
    _check_rank(function, x, 3)
    (vertical, horizontal), *_ = _upsampling(function, scale, mode, align_corners)
    _positive(function, "scale", scale)
    return x[0], x[1] * vertical, x[2] * horizontal


def _positive(function, name, value):
    numbers = pair(function, name, value)
    if min(numbers) < 1:
        raise ValueError(f"{function}: {name} must be at least 1, got {value!r}")
    return numbers


_JOINED = ("add", "multiply", "concat")
ELEMENTWISE = ("relu", "relu6", "sigmoid", "tanh", "silu", "hard_sigmoid", "hard_swish", "softmax")
_RULES: dict[str, Callable[..., Shape]] = {
    **dict.fromkeys(ELEMENTWISE, _same),
    **dict.fromkeys(("leaky_relu", "elu", "scale"), _by_number),
    "gelu": _gelu,
    "dropout": _dropout,
    **dict.fromkeys(("add", "multiply"), _add),
    "concat": _concat,
    "flatten": _flatten,
    "conv": partial(_conv, 2),
    "conv1d": partial(_conv, 1),
    "conv3d": partial(_conv, 3),
    "conv_transpose": _conv_transpose,
    "affine": _affine,
    "batchnorm": partial(_batchnorm, 1),
    "spatial_batchnorm": partial(_batchnorm, 3),
    "layernorm": partial(_norm, 1, "ln_param"),
    "spatial_layernorm": partial(_norm, 3, "ln_param"),
    "spatial_groupnorm": partial(_norm, 3, "gn_param"),
    "spatial_instancenorm": partial(_norm, 3, "in_param"),
    **{
        f"{kind}_pool{suffix}": partial(_pool, count, kind)
        for kind in ("max", "avg")
        for suffix, count in (("", 2), ("1d", 1), ("3d", 3))
    },
    "global_avg_pool": _global_pool,
    **dict.fromkeys(("adaptive_avg_pool", "adaptive_max_pool"), _adaptive_pool),
    "upsample": _upsample,
}


def check_samples(
    where: str, came: tuple[int, ...], input_dim: tuple[int, ...], why_fixed: str, name: str = "X"
) -> None:
    """Refuse an array of shape `came` unless it holds samples that a network takes.

    Those are samples of shape `input_dim`, or images of another height and width where nothing fixes these;
    the ValueError has the reason in `why_fixed` if height or width alone are wrong.
    """
    shape = came[1:]
    if shape == input_dim:
        return
    alike = len(input_dim) == len(shape) == 3 and shape[0] == input_dim[0]
    if alike and not why_fixed:
        return
    images = len(input_dim) == 3 and not why_fixed
    wanted = ", ".join(map(str, (input_dim[0], "H", "W") if images else input_dim))
    reason = f"; the size is fixed by {why_fixed}" if alike else _advice(came, input_dim, not images, name)
    raise ValueError(f"{where}: {name} must have shape (N, {wanted}), got {came}{reason}")


def refuse_other_images(
    where: str, came: tuple[int, ...], input_dim: tuple[int, ...], name: str = "X"
) -> None:
    """Refuse images of another shape, with the channels last say, for a network that flattens images.

    Rows of as many numbers are none.
    """
    if len(came) == 4 and len(input_dim) == 3:
        check_samples(where, came, input_dim, "a flat layer", name)


def _advice(came, input_dim, fixed, name):
    """How an array of shape `came` could be meant."""
    shape = came[1:]
    if len(input_dim) != 3:
        return ""
    if came == input_dim:
        return f"; a batch of this one image is {name}[None]"
    if len(shape) == 3 and shape[2] == input_dim[0] and (not fixed or shape[:2] == input_dim[1:]):
        return f"; its channels come last, {name}.transpose(0, 3, 1, 2) puts them first"
    if input_dim[0] == 1 and len(shape) == 2 and (not fixed or shape == input_dim[1:]):
        return f"; the axis of its channel is missing, {name}[:, None] adds it"
    return ""
