"""`copy_weights`: the weights of a model that came from PyTorch, back into the module."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cnnlib.models.graph_net import GraphNet

_STATISTICS = ("running_mean", "running_var")


def copy_weights(net: GraphNet, module: nn.Module) -> None:
    """
    Write a model's parameters and running statistics into the module that it was loaded from.

    ``module.state_dict()`` then has them under PyTorch's names, for ``torch.save`` or a safetensors file.
    What the module has beyond the model stays: counters of batches, layers that do not lead to its output.

    Parameters
    ----------
    net : GraphNet
        What :func:`load` made of `module`, or of one like it.
    module : torch.nn.Module

    Raises
    ------
    ValueError
        The module lacks one of the model's trained parameters (a parametrized weight, say), or has it in
        another shape; nothing is written then.

    Examples
    --------
    >>> from cnnlib.torch import load
    >>> module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 10))
    >>> net = load(module, input_dim=(3, 8, 8))
    >>> net.params["0.bias"][:] = 7
    >>> copy_weights(net, module)
    >>> module[0].bias.data
    tensor([7., 7., 7., 7.])
    """
    arrays, state = _under_torchs_names(net), module.state_dict()
    for name, array in arrays.items():
        if name in state:
            arrays[name] = _in_shape(name, array, tuple(state[name].shape))
        elif name not in net.frozen:  # else it is the constant scale or shift of a norm that has none
            raise ValueError(f"copy_weights: the module has no {name!r}")
    with torch.no_grad():
        for name in arrays.keys() & state.keys():
            state[name].copy_(torch.from_numpy(np.ascontiguousarray(arrays[name])))


def _in_shape(name, array, shape):
    """A parameter as the module has it: a Linear that is a convolution here lacks the axes of length 1."""
    if [n for n in shape if n > 1] != [n for n in array.shape if n > 1]:
        raise ValueError(
            f"copy_weights: {name!r} has shape {shape} in the module, {array.shape} in the model"
        )
    return array.reshape(shape)


def _under_torchs_names(net: GraphNet) -> dict[str, NDArray[Any]]:
    """Parameters and running statistics by PyTorch's names, in its layout."""
    arrays: dict[str, NDArray[Any]] = dict(net.params)
    for node in net.graph():
        if node.layer == "affine" and node.params[0] is not None:
            arrays[node.params[0]] = net.params[node.params[0]].T
        if node.layer in ("batchnorm", "spatial_batchnorm"):
            layer = str(node.params[0]).rpartition(".")[0]
            arrays |= {f"{layer}.{name}": node.args[0][name] for name in _STATISTICS}
    return arrays
