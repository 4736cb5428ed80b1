"""What only notebooks of the CNN course CS231n need, under the names that they import.

Everything else of the course's modules is in :mod:`cnnlib.layers`, :mod:`cnnlib.models` and so on; the README
has the table. :mod:`cnnlib.course.keep_ratio` is for the years whose dropout parameter says what is kept,
:mod:`cnnlib.course.optim` has the update rules whose state the course names otherwise.
"""

from cnnlib.course import keep_ratio
from cnnlib.course import optim as optim  # not for `import *`, which would hide cnnlib.optim
from cnnlib.course.blobs import eval_numerical_gradient_blobs, eval_numerical_gradient_net, visualize_grid
from cnnlib.course.networks import TwoLayerNet
from cnnlib.layers import affine_bn_relu_backward as affine_batchnorm_relu_backward
from cnnlib.layers import affine_bn_relu_forward as affine_batchnorm_relu_forward
from cnnlib.layers import batchnorm_backward as batchnorm_backward_alt

__all__ = ["TwoLayerNet", "affine_batchnorm_relu_backward", "affine_batchnorm_relu_forward"]
__all__ += ["batchnorm_backward_alt", "eval_numerical_gradient_blobs", "eval_numerical_gradient_net"]
__all__ += ["keep_ratio", "visualize_grid"]
