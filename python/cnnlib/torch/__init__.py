"""cnnlib's kernels inside PyTorch: functions with gradients, modules, and networks carried over.

Tensors, which must be on the CPU, stay where they are: the kernels read their memory, and results are tensors
on the kernels'. Threads are PyTorch's, see :mod:`cnnlib.torch.tensors`.
"""

import importlib.util

if importlib.util.find_spec("torch") is None:
    raise ImportError("cnnlib.torch needs PyTorch: pip install cnnlib[torch]")

from cnnlib.torch.batch_norm import batch_norm
from cnnlib.torch.convolution import conv2d
from cnnlib.torch.loading import copy_weights, from_module
from cnnlib.torch.modules import BatchNorm2d, Conv2d, MaxPool2d, convert
from cnnlib.torch.pooling import max_pool2d

__all__ = ["BatchNorm2d", "Conv2d", "MaxPool2d", "batch_norm", "conv2d", "convert", "copy_weights"]
__all__ += ["from_module", "max_pool2d"]
