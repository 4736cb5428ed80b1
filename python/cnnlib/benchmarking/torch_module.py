"""A network of cnnlib as a PyTorch module, layer by layer; needs PyTorch."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from cnnlib._params import pool_window


class TorchNet(nn.Module):
    """The graph of a network of convolutions, batch norms, pools, sums and affine layers.

    It has copies of the weights. A ReLU works in place where nothing else reads its input. ValueError names a
    layer that has no counterpart here.
    """

    def __init__(self, net):
        super().__init__()
        self.graph = net.graph()
        self.layers = nn.ModuleDict()
        readers = self.graph.readers()
        for node in self.graph:
            if node.layer not in _LAYERS and node.layer not in _FUNCTIONS:
                raise ValueError(f"no PyTorch layer for {node.layer}")
            params = [None if n is None else torch.from_numpy(net.params[n].copy()) for n in node.params]
            alone = len(readers[node.inputs[0]]) == 1 and node.inputs[0] != self.graph.input
            layer = self._layer(node, params, alone)
            if layer is not None:
                self.layers[node.output] = layer

    @staticmethod
    def _layer(node, params, alone):
        if node.layer == "relu":
            return nn.ReLU(inplace=alone)
        if node.layer == "dropout":
            return nn.Dropout(node.args[0]["p"])
        if node.layer == "max_pool":
            param = node.args[0]
            size = pool_window("max_pool", param, 2)
            return nn.MaxPool2d(size, param.get("stride", size), param.get("pad", 0))
        if node.layer == "conv":
            (w, b), (conv_param,) = params, node.args
            F, C, KH, KW = w.shape
            groups, pad = conv_param.get("groups", 1), conv_param["pad"]
            pad = (KH - 1) // 2 if pad == "same" else pad
            layer = nn.Conv2d(C * groups, F, (KH, KW), conv_param["stride"], pad, 1, groups, b is not None)
            layer.weight.data = w
        elif node.layer == "conv_transpose":
            (w, b), (conv_param,) = params, node.args
            C, F, KH, KW = w.shape
            layer = nn.ConvTranspose2d(
                C, F, (KH, KW), conv_param["stride"], conv_param["pad"], bias=b is not None
            )
            layer.weight.data = w
        elif node.layer in ("batchnorm", "spatial_batchnorm"):
            (gamma, b), (bn_param,) = params, node.args
            layer = (nn.BatchNorm1d if node.layer == "batchnorm" else nn.BatchNorm2d)(len(gamma))
            layer.weight.data = gamma
            layer.running_mean = torch.from_numpy(np.array(bn_param["running_mean"]))
            layer.running_var = torch.from_numpy(np.array(bn_param["running_var"]))
        elif node.layer == "affine":
            w, b = params
            layer = nn.Linear(*w.shape, bias=b is not None)
            layer.weight.data = w.T.contiguous()
        else:
            return None
        if b is not None:
            layer.bias.data = b
        return layer

    def forward(self, x):
        values = {self.graph.input: x}
        for node in self.graph:
            xs = [values[name] for name in node.inputs]
            if node.layer == "affine":
                xs = [torch.flatten(xs[0], 1)]
            if node.output in self.layers:
                values[node.output] = self.layers[node.output](*xs)
            else:
                values[node.output] = _FUNCTIONS[node.layer](*xs, *node.args)
        return values[self.graph.output]


def _pool(function):
    def call(x, pool_param):
        size = pool_window("pool", pool_param, 2)
        return function(x, size, pool_param.get("stride", size), pool_param.get("pad", 0))

    return call


_LAYERS = (
    "relu",
    "dropout",
    "max_pool",
    "conv",
    "conv_transpose",
    "batchnorm",
    "spatial_batchnorm",
    "affine",
)
_FUNCTIONS = {
    "relu6": functional.relu6,
    "add": torch.add,
    "concat": lambda *xs: torch.cat(xs, 1),
    "flatten": lambda x: torch.flatten(x, 1),
    "global_avg_pool": lambda x: x.mean((2, 3)),
    "avg_pool": _pool(functional.avg_pool2d),
}
