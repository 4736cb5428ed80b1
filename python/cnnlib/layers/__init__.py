"""
Convolutional-network layers on NumPy arrays, compiled.

Each `*_forward` returns `(out, cache)`, each `*_backward(dout, cache)` the gradients in the order of the
forward's arrays. Images are (N, C, H, W); float32 and float64 stay what they are, mixed inputs promote as
`np.result_type` has it, integers and booleans become float64, and float16 and bfloat16 are computed in
float32. Any strides, byte order and read-only memory are accepted; inputs are never written to. The
loop versions of all of them, to read, are in `cnnlib.naive`.
"""

from cnnlib.layers.activations import *
from cnnlib.layers.conv import *
from cnnlib.layers.dense import *
from cnnlib.layers.dense_sandwiches import *
from cnnlib.layers.losses import *
from cnnlib.layers.norm.batch import *
from cnnlib.layers.norm.rows import *
from cnnlib.layers.pool import *
from cnnlib.layers.resizing import *
from cnnlib.layers.sandwiches import *
from cnnlib.layers.volume_pools import *
from cnnlib.layers.volumes import *

# Written out: type checkers take nothing else.
__all__ = ["adaptive_avg_pool_backward", "adaptive_avg_pool_forward", "adaptive_max_pool_backward"]
__all__ += ["adaptive_max_pool_forward", "affine_backward", "affine_bn_relu_backward"]
__all__ += ["affine_bn_relu_forward", "affine_forward", "affine_relu_backward", "affine_relu_forward"]
__all__ += ["avg_pool1d_backward", "avg_pool1d_forward", "avg_pool3d_backward", "avg_pool3d_forward"]
__all__ += ["avg_pool_backward", "avg_pool_forward", "batchnorm_backward", "batchnorm_backward_alt"]
__all__ += ["batchnorm_forward", "bce_loss", "conv1d_backward", "conv1d_forward", "conv3d_backward"]
__all__ += ["conv3d_forward", "conv_backward", "conv_bn_relu_backward", "conv_bn_relu_forward"]
__all__ += ["conv_bn_relu_pool_backward", "conv_bn_relu_pool_forward", "conv_forward", "conv_relu_backward"]
__all__ += ["conv_relu_forward", "conv_relu_pool_backward", "conv_relu_pool_forward"]
__all__ += ["conv_transpose_backward", "conv_transpose_forward", "cross_entropy", "dice_loss"]
__all__ += ["dropout_backward", "dropout_forward", "elu_backward", "elu_forward", "gelu_backward"]
__all__ += ["gelu_forward", "global_avg_pool_backward", "global_avg_pool_forward", "hard_sigmoid_backward"]
__all__ += ["hard_sigmoid_forward", "hard_swish_backward", "hard_swish_forward", "huber_loss", "l1_loss"]
__all__ += ["layernorm_backward", "layernorm_forward", "leaky_relu_backward", "leaky_relu_forward"]
__all__ += ["max_pool1d_backward", "max_pool1d_forward", "max_pool3d_backward", "max_pool3d_forward"]
__all__ += ["max_pool_backward", "max_pool_forward", "mse_loss", "relu6_backward", "relu6_forward"]
__all__ += ["relu_backward", "relu_forward", "sigmoid_backward", "sigmoid_forward", "silu_backward"]
__all__ += ["silu_forward", "softmax_backward", "softmax_forward", "softmax_loss"]
__all__ += ["spatial_batchnorm_backward", "spatial_batchnorm_forward", "spatial_groupnorm_backward"]
__all__ += ["spatial_groupnorm_forward", "spatial_instancenorm_backward", "spatial_instancenorm_forward"]
__all__ += ["spatial_layernorm_backward", "spatial_layernorm_forward", "svm_loss", "tanh_backward"]
__all__ += ["tanh_forward", "upsample_backward", "upsample_forward"]
