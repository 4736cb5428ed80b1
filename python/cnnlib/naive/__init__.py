"""Plain-loop NumPy versions of every layer: the formulas, to read and to test the compiled ones against.

Each ``<name>_naive`` has the signature, the result and the cache of its compiled twin in
:mod:`cnnlib.layers`, so one can stand in for the other, and a cache of the one feeds the backward of
the other. These versions are slow on purpose and mostly trust their input: use the compiled ones for work,
and for error messages.

The files are named as those of :mod:`cnnlib.layers`; ``windows.py`` works out where the windows of
convolution and pooling stand.

Letters: ``N`` images, ``C`` channels, ``H, W`` height and width, ``F`` filters, ``KH, KW`` the window's
size, ``OH, OW`` the output's. ``dout`` is the gradient of the loss with respect to ``out``, and likewise
``dx``, ``dw``, ``db``.
"""

from cnnlib.naive.conv import (
    conv_backward_naive,
    conv_forward_naive,
    conv_transpose_backward_naive,
    conv_transpose_forward_naive,
)
from cnnlib.naive.dense import (
    affine_backward_naive,
    affine_forward_naive,
    dropout_backward_naive,
    dropout_forward_naive,
    leaky_relu_backward_naive,
    leaky_relu_forward_naive,
    relu_backward_naive,
    relu_forward_naive,
)
from cnnlib.naive.losses import (
    softmax_loss_naive,
    svm_loss_naive,
)
from cnnlib.naive.norm import (
    batchnorm_backward_naive,
    batchnorm_forward_naive,
    layernorm_backward_naive,
    layernorm_forward_naive,
    spatial_batchnorm_backward_naive,
    spatial_batchnorm_forward_naive,
    spatial_groupnorm_backward_naive,
    spatial_groupnorm_forward_naive,
    spatial_layernorm_backward_naive,
    spatial_layernorm_forward_naive,
)
from cnnlib.naive.pool import (
    avg_pool_backward_naive,
    avg_pool_forward_naive,
    global_avg_pool_backward_naive,
    global_avg_pool_forward_naive,
    max_pool_backward_naive,
    max_pool_forward_naive,
)
from cnnlib.naive.sandwiches import (
    affine_bn_relu_backward_naive,
    affine_bn_relu_forward_naive,
    affine_relu_backward_naive,
    affine_relu_forward_naive,
    conv_bn_relu_backward_naive,
    conv_bn_relu_forward_naive,
    conv_bn_relu_pool_backward_naive,
    conv_bn_relu_pool_forward_naive,
    conv_relu_backward_naive,
    conv_relu_forward_naive,
    conv_relu_pool_backward_naive,
    conv_relu_pool_forward_naive,
)

__all__ = [
    "affine_backward_naive",
    "affine_bn_relu_backward_naive",
    "affine_bn_relu_forward_naive",
    "affine_forward_naive",
    "affine_relu_backward_naive",
    "affine_relu_forward_naive",
    "avg_pool_backward_naive",
    "avg_pool_forward_naive",
    "batchnorm_backward_naive",
    "batchnorm_forward_naive",
    "conv_backward_naive",
    "conv_bn_relu_backward_naive",
    "conv_bn_relu_forward_naive",
    "conv_bn_relu_pool_backward_naive",
    "conv_bn_relu_pool_forward_naive",
    "conv_forward_naive",
    "conv_relu_backward_naive",
    "conv_relu_forward_naive",
    "conv_relu_pool_backward_naive",
    "conv_relu_pool_forward_naive",
    "conv_transpose_backward_naive",
    "conv_transpose_forward_naive",
    "dropout_backward_naive",
    "dropout_forward_naive",
    "global_avg_pool_backward_naive",
    "global_avg_pool_forward_naive",
    "layernorm_backward_naive",
    "layernorm_forward_naive",
    "leaky_relu_backward_naive",
    "leaky_relu_forward_naive",
    "max_pool_backward_naive",
    "max_pool_forward_naive",
    "relu_backward_naive",
    "relu_forward_naive",
    "softmax_loss_naive",
    "spatial_batchnorm_backward_naive",
    "spatial_batchnorm_forward_naive",
    "spatial_groupnorm_backward_naive",
    "spatial_groupnorm_forward_naive",
    "spatial_layernorm_backward_naive",
    "spatial_layernorm_forward_naive",
    "svm_loss_naive",
]
