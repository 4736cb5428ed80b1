"""A network of cnnlib as a PyTorch module, layer by layer; needs PyTorch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from cnnlib._params import pair
from cnnlib.graph.graph import Node
from cnnlib.graph.ops.sizes import Shape, samples_like
from cnnlib.graph.shapes import shapes
from cnnlib.layers.axes import Axis, conv_axes, conv_transpose_axes, pool_axes
from cnnlib.models.graph_model import input_dim_of

_WHERE = "TorchNet"


class TorchNet(nn.Module):
    """The graph of a network, with copies of its weights.

    A ReLU works in place where nothing else reads its input. ValueError names a layer that has no counterpart
    here.
    """

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.graph = net.graph()
        self.layers = nn.ModuleDict()
        readers = self.graph.readers()
        sizes = shapes(self.graph, net.params, input_dim_of(net))
        for node in self.graph:
            if node.layer not in _LAYERS and node.layer not in _FUNCTIONS:
                raise ValueError(f"no PyTorch layer for {node.layer}")
            params = [None if n is None else torch.from_numpy(net.params[n].copy()) for n in node.params]
            if node.layer == "relu":
                alone = len(readers[node.inputs[0]]) == 1 and node.inputs[0] != self.graph.input
                self.layers[node.output] = nn.ReLU(inplace=alone)
            elif node.layer in _LAYERS:
                self.layers[node.output] = _LAYERS[node.layer](node, sizes[node.inputs[0]], *params)

    def forward(self, x: Any) -> Any:
        values = {self.graph.input: x}
        for node in self.graph:
            xs = [values[name] for name in node.inputs]
            if node.output in self.layers:
                values[node.output] = self.layers[node.output](*xs)
            else:
                values[node.output] = _FUNCTIONS[node.layer](*xs, *node.args)
        return values[self.graph.output]


def _filled(layer: Any, **tensors: Any) -> Any:
    """Give a layer its weights; None is a weight that it does not have."""
    for name, tensor in tensors.items():
        if tensor is not None:
            getattr(layer, name).data = tensor
    return layer


def _padded(axes: Sequence[Axis], fill: float, make: Callable[[tuple[int, ...]], Any]) -> Any:
    """Make a layer of the padding of these axes; where its sides differ, a layer before it pads."""
    before, after = tuple(axis.before for axis in axes), tuple(axis.after for axis in axes)
    if before == after:
        return make(before)
    sides = [side for axis in reversed(axes) for side in (axis.before, axis.after)]  # the last axis first
    pad = {1: nn.ConstantPad1d, 2: nn.ConstantPad2d, 3: nn.ConstantPad3d}[len(axes)]
    return nn.Sequential(pad(tuple(sides), fill), make((0,) * len(axes)))


def _windows(axes: Sequence[Axis]) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Return sizes, strides and dilations of the windows along each axis."""
    sizes, strides, dilations = zip(*((axis.taps, axis.stride, axis.dilation) for axis in axes), strict=True)
    return sizes, strides, dilations


def _conv(node: Node, x: Shape, w: Any, b: Any) -> Any:
    axes, groups = conv_axes(_WHERE, node.args[0], samples_like(x), w.numpy(), None, w.ndim - 2)
    kind: Any = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[len(axes)]
    size, stride, dilation = _windows(axes)

    def make(pad: tuple[int, ...]) -> Any:
        layer = kind(x[0], len(w), size, stride, pad, dilation, groups, b is not None)
        return _filled(layer, weight=w, bias=b)

    return _padded(axes, 0.0, make)


def _conv_transpose(node: Node, x: Shape, w: Any, b: Any) -> Any:
    axes, extras, groups = conv_transpose_axes(_WHERE, node.args[0], samples_like(x), w.numpy())
    if any(axis.before != axis.after for axis in axes):
        raise ValueError("no PyTorch layer for conv_transpose with uneven padding")
    size, stride, dilation = _windows(axes)
    pad = tuple(axis.before for axis in axes)
    F = w.shape[1] * groups
    layer = nn.ConvTranspose2d(
        x[0],
        F,
        size,
        stride,
        pad,
        tuple(extras),
        groups,
        b is not None,
        dilation,
    )
    return _filled(layer, weight=w, bias=b)


def _max_pool(node: Node, x: Shape) -> Any:
    axes, _, ceil_mode = pool_axes(_WHERE, node.args[0], samples_like(x), len(x) - 1, "max")
    kind: Any = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}[len(axes)]
    size, stride, dilation = _windows(axes)
    if any(max(axis.before, axis.after) > axis.taps // 2 for axis in axes):  # what PyTorch refuses
        raise ValueError("no PyTorch layer for max_pool with padding beyond half its window")
    return _padded(axes, -math.inf, lambda pad: kind(size, stride, pad, dilation, ceil_mode=ceil_mode))


def _avg_pool(node: Node, x: Shape) -> Any:
    axes, counted, ceil_mode = pool_axes(_WHERE, node.args[0], samples_like(x), len(x) - 1, "avg")
    kind: Any = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}[len(axes)]
    size, stride, _ = _windows(axes)
    if any(axis.before != axis.after for axis in axes) and (ceil_mode or not counted):
        raise ValueError("no PyTorch layer for avg_pool with uneven padding that does not count")
    return _padded(axes, 0.0, lambda pad: kind(size, stride, pad, ceil_mode, counted))


def _batchnorm(node: Node, x: Shape, gamma: Any, beta: Any) -> Any:
    param = node.args[0]
    momentum = 1 - param.get("momentum", 0.9)  # PyTorch's is the share of the batch
    kind: Any = nn.BatchNorm1d if len(x) == 1 else nn.BatchNorm2d
    layer = kind(x[0], eps=param.get("eps", 1e-5), momentum=momentum, dtype=gamma.dtype)
    for name in ("running_mean", "running_var"):
        if param.get(name) is not None:
            setattr(layer, name, torch.from_numpy(np.array(param[name])))
    return _filled(layer, weight=gamma, bias=beta)


def _layernorm(node: Node, x: Shape, gamma: Any, beta: Any) -> Any:
    layer = nn.LayerNorm(x[0], eps=node.args[0].get("eps", 1e-5))
    return _filled(layer, weight=gamma, bias=beta)


def _groupnorm(node: Node, x: Shape, gamma: Any, beta: Any) -> Any:
    groups, param = node.args
    layer = nn.GroupNorm(groups, x[0], eps=param.get("eps", 1e-5))
    return _filled(layer, weight=gamma.reshape(-1), bias=beta.reshape(-1))


def _affine(node: Node, x: Shape, w: Any, b: Any) -> Any:
    layer = _filled(nn.Linear(*w.shape, bias=b is not None), weight=w.T.contiguous(), bias=b)
    return layer if len(x) == 1 else nn.Sequential(nn.Flatten(), layer)


def _pixelnorm(node: Node, x: Shape, gamma: Any, beta: Any) -> Any:
    """Normalise the channels of each pixel; PyTorch does so along the last axis."""
    return nn.Sequential(_Moved(1, -1), _layernorm(node, x, gamma, beta), _Moved(-1, 1))


def _instancenorm(node: Node, x: Shape, gamma: Any, beta: Any) -> Any:
    layer = nn.GroupNorm(x[0], x[0], eps=node.args[0].get("eps", 1e-5))
    return _filled(layer, weight=gamma.reshape(-1), bias=beta.reshape(-1))


class _Moved(nn.Module):
    """An axis moved to another place."""

    def __init__(self, place: int, to: int) -> None:
        super().__init__()
        self.place, self.to_place = place, to

    def forward(self, x: Any) -> Any:
        return x.movedim(self.place, self.to_place)


def _upsample(x: Any, scale: Any, mode: str = "nearest", align_corners: bool = False) -> Any:
    factors = tuple(float(each) for each in pair("upsample", "scale", scale))
    corners = align_corners if mode == "bilinear" else None
    return functional.interpolate(x, scale_factor=factors, mode=mode, align_corners=corners)


def _spread(x: Any, y: Any) -> Any:
    """Give y, which may have a value for each channel of x, as many axes."""
    return y.reshape(*y.shape, *(1,) * (x.ndim - y.ndim))


_LAYERS: dict[str, Any] = {  # by node, shape of a sample and weights
    "relu": None,  # which depends on its neighbours
    "dropout": lambda node, x: nn.Dropout(node.args[0]["p"]),
    **dict.fromkeys(("conv1d", "conv", "conv3d"), _conv),
    "conv_transpose": _conv_transpose,
    **dict.fromkeys(("batchnorm", "spatial_batchnorm"), _batchnorm),
    "layernorm": _layernorm,
    "spatial_layernorm": _pixelnorm,
    "spatial_groupnorm": _groupnorm,
    "spatial_instancenorm": _instancenorm,
    "affine": _affine,
    **dict.fromkeys(("max_pool", "max_pool1d", "max_pool3d"), _max_pool),
    **dict.fromkeys(("avg_pool", "avg_pool1d", "avg_pool3d"), _avg_pool),
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "relu6": functional.relu6,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "silu": functional.silu,
    "hard_sigmoid": functional.hardsigmoid,
    "hard_swish": functional.hardswish,
    "leaky_relu": lambda x, alpha=0.01: functional.leaky_relu(x, alpha),
    "elu": lambda x, alpha=1.0: functional.elu(x, alpha),
    "gelu": lambda x, approximate="none": functional.gelu(x, approximate=approximate),
    "softmax": lambda x: torch.softmax(x, 1),
    "add": lambda x, y: x + _spread(x, y),
    "multiply": lambda x, y: x * _spread(x, y),
    "scale": torch.mul,
    "concat": lambda *xs: torch.cat(xs, 1),
    "flatten": lambda x: torch.flatten(x, 1),
    "global_avg_pool": lambda x: x.mean((2, 3)),
    "adaptive_avg_pool": functional.adaptive_avg_pool2d,
    "upsample": _upsample,
    "adaptive_max_pool": functional.adaptive_max_pool2d,
}
