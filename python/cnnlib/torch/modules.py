"""PyTorch's modules with cnnlib's kernels: the same parameters, buffers, names and options."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from cnnlib.torch.batch_norm import batch_norm
from cnnlib.torch.convolution import conv2d, sides
from cnnlib.torch.pooling import max_pool2d


class Conv2d(nn.Conv2d):
    """``torch.nn.Conv2d`` computed by :func:`cnnlib.torch.conv2d`; every `padding_mode` included.

    Examples
    --------
    >>> layer = Conv2d(3, 16, 3, padding=1)
    >>> layer(torch.zeros(2, 3, 8, 8)).shape
    torch.Size([2, 16, 8, 8])
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Convolve `input`, (N, C, H, W) or (C, H, W)."""
        padding = self.padding
        if self.padding_mode != "zeros":
            top, bottom, left, right = sides(padding, self.kernel_size, self.stride, self.dilation)
            input = nn.functional.pad(input, [left, right, top, bottom], mode=self.padding_mode)
            padding = 0
        return conv2d(input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)


class MaxPool2d(nn.MaxPool2d):
    """``torch.nn.MaxPool2d`` computed by :func:`cnnlib.torch.max_pool2d`, without `return_indices`.

    Examples
    --------
    >>> MaxPool2d(2)(torch.zeros(2, 3, 8, 8)).shape
    torch.Size([2, 3, 4, 4])
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.return_indices:
            raise ValueError("MaxPool2d: return_indices is not supported; torch.nn.MaxPool2d has it")

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Take the maxima of `input`, (N, C, H, W) or (C, H, W)."""
        return max_pool2d(input, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)


class BatchNorm2d(nn.BatchNorm2d):
    """``torch.nn.BatchNorm2d`` computed by :func:`cnnlib.torch.batch_norm`.

    `momentum=None` (the running statistics are the mean over all batches), `track_running_stats=False` and
    `affine=False` are as there.

    Examples
    --------
    >>> norm = BatchNorm2d(3).eval()
    >>> norm(torch.ones(2, 3, 8, 8)).shape, list(norm.state_dict())
    (torch.Size([2, 3, 8, 8]), ['weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked'])
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Normalise `input`, (N, C, H, W)."""
        self._check_input_dim(input)
        tracking = self.training and self.track_running_stats and self.num_batches_tracked is not None
        momentum = 0.0 if self.momentum is None else self.momentum
        if tracking:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:
                momentum = 1.0 / float(self.num_batches_tracked)
        by_batch = self.training or (self.running_mean is None and self.running_var is None)
        moved = not self.training or self.track_running_stats
        mean, var = (self.running_mean, self.running_var) if moved else (None, None)
        return batch_norm(input, mean, var, self.weight, self.bias, by_batch, momentum, self.eps)


OWN = {nn.Conv2d: Conv2d, nn.MaxPool2d: MaxPool2d, nn.BatchNorm2d: BatchNorm2d}


def convert(module: nn.Module, inplace: bool = False) -> nn.Module:
    """
    Let cnnlib compute a network's convolutions, max pools and batch norms.

    Every ``Conv2d``, ``MaxPool2d`` and ``BatchNorm2d`` of ``torch.nn`` becomes the module of that name here,
    with its parameters, buffers, hooks and mode; ``state_dict`` does not change. All else stays as it is:
    other layers, subclasses (parametrized, lazy and quantized layers among them), and max pools with
    `return_indices`.

    Parameters
    ----------
    module : torch.nn.Module
        A network, or one such layer.
    inplace : bool
        Whether to change `module` itself: its parameters stay the same objects, which an optimizer may hold.
        By default a copy is changed.

    Returns
    -------
    torch.nn.Module
        The converted network.

    Raises
    ------
    TypeError
        If `module` is no ``torch.nn.Module``.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.MaxPool2d(2))
    >>> [type(layer).__module__.split(".")[0] for layer in convert(net)]
    ['cnnlib', 'torch', 'cnnlib']
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"convert: module must be a torch.nn.Module, got {type(module).__name__}")
    if not inplace:
        module = copy.deepcopy(module)
    for layer in module.modules():
        own = OWN.get(type(layer))
        if own is not None and not getattr(layer, "return_indices", False):
            # Unlike a new module it is the same object for whoever holds it, hooks included.
            layer.__class__ = own
    return module
