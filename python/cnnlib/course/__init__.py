"""What only notebooks of the CNN course CS231n need, under the names that they import.

Everything else of the course's modules is in :mod:`cnnlib.layers`, :mod:`cnnlib.models` and so on; the README
has the table. :mod:`cnnlib.course.keep_ratio` is for the years whose dropout parameter says what is kept.
"""

from cnnlib.course import keep_ratio
from cnnlib.course.blobs import eval_numerical_gradient_blobs, eval_numerical_gradient_net, visualize_grid
from cnnlib.layers import affine_bn_relu_backward as affine_batchnorm_relu_backward
from cnnlib.layers import affine_bn_relu_forward as affine_batchnorm_relu_forward

__all__ = ["affine_batchnorm_relu_backward", "affine_batchnorm_relu_forward", "eval_numerical_gradient_blobs"]
__all__ += ["eval_numerical_gradient_net", "keep_ratio", "visualize_grid"]
