"""Plain-loop NumPy versions of every layer: the formulas, to read and to test the compiled ones against.

Each ``<name>_naive`` has the signature, the result and the cache of its compiled twin in
:mod:`cnnlib.layers`, so one can stand in for the other, and a cache of the one feeds the backward of
the other. These versions are slow on purpose, take NumPy arrays alone (no lists, no tensors), and mostly
trust their input: use the compiled ones for work, and for error messages.

The files are named as those of :mod:`cnnlib.layers`; ``windows.py`` works out where the windows of
convolution and pooling stand. ``quantized.py`` defines eight-bit networks.

Letters: ``N`` images, ``C`` channels, ``H, W`` height and width, ``F`` filters, ``KH, KW`` the window's
size, ``OH, OW`` the output's. ``dout`` is the gradient of the loss with respect to ``out``, and likewise
``dx``, ``dw``, ``db``.
"""

from cnnlib.naive import quantized as quantized
from cnnlib.naive.activations import *
from cnnlib.naive.conv import *
from cnnlib.naive.dense import *
from cnnlib.naive.losses import *
from cnnlib.naive.norm import *
from cnnlib.naive.pool import *
from cnnlib.naive.resizing import *
from cnnlib.naive.sandwiches import *
from cnnlib.naive.volumes import *

# Written out: type checkers take nothing else.
__all__ = ["adaptive_avg_pool_backward_naive", "adaptive_avg_pool_forward_naive"]
__all__ += ["adaptive_max_pool_backward_naive", "adaptive_max_pool_forward_naive", "affine_backward_naive"]
__all__ += ["affine_bn_relu_backward_naive", "affine_bn_relu_forward_naive", "affine_forward_naive"]
__all__ += ["affine_relu_backward_naive", "affine_relu_forward_naive", "avg_pool1d_backward_naive"]
__all__ += ["avg_pool1d_forward_naive", "avg_pool3d_backward_naive", "avg_pool3d_forward_naive"]
__all__ += ["avg_pool_backward_naive", "avg_pool_forward_naive", "batchnorm_backward_naive"]
__all__ += ["batchnorm_forward_naive", "bce_loss_naive", "conv1d_backward_naive", "conv1d_forward_naive"]
__all__ += ["conv3d_backward_naive", "conv3d_forward_naive", "conv_backward_naive"]
__all__ += ["conv_bn_relu_backward_naive", "conv_bn_relu_forward_naive", "conv_bn_relu_pool_backward_naive"]
__all__ += ["conv_bn_relu_pool_forward_naive", "conv_forward_naive", "conv_relu_backward_naive"]
__all__ += ["conv_relu_forward_naive", "conv_relu_pool_backward_naive", "conv_relu_pool_forward_naive"]
__all__ += ["conv_transpose_backward_naive", "conv_transpose_forward_naive", "cross_entropy_naive"]
__all__ += ["dice_loss_naive", "dropout_backward_naive", "dropout_forward_naive", "elu_backward_naive"]
__all__ += ["elu_forward_naive", "gelu_backward_naive", "gelu_forward_naive"]
__all__ += ["global_avg_pool_backward_naive", "global_avg_pool_forward_naive", "hard_sigmoid_backward_naive"]
__all__ += ["hard_sigmoid_forward_naive", "hard_swish_backward_naive", "hard_swish_forward_naive"]
__all__ += ["huber_loss_naive", "l1_loss_naive", "layernorm_backward_naive", "layernorm_forward_naive"]
__all__ += ["leaky_relu_backward_naive", "leaky_relu_forward_naive", "max_pool1d_backward_naive"]
__all__ += ["max_pool1d_forward_naive", "max_pool3d_backward_naive", "max_pool3d_forward_naive"]
__all__ += ["max_pool_backward_naive", "max_pool_forward_naive", "mse_loss_naive", "relu6_backward_naive"]
__all__ += ["relu6_forward_naive", "relu_backward_naive", "relu_forward_naive", "sigmoid_backward_naive"]
__all__ += ["sigmoid_forward_naive", "silu_backward_naive", "silu_forward_naive", "softmax_backward_naive"]
__all__ += ["softmax_forward_naive", "softmax_loss_naive", "spatial_batchnorm_backward_naive"]
__all__ += ["spatial_batchnorm_forward_naive", "spatial_groupnorm_backward_naive"]
__all__ += ["spatial_groupnorm_forward_naive", "spatial_instancenorm_backward_naive"]
__all__ += ["spatial_instancenorm_forward_naive", "spatial_layernorm_backward_naive"]
__all__ += ["spatial_layernorm_forward_naive", "svm_loss_naive", "tanh_backward_naive", "tanh_forward_naive"]
__all__ += ["upsample_backward_naive", "upsample_forward_naive"]
