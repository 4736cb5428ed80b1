"""The compiled layers under the names that CNN courses give their fast versions."""

from cnnlib.layers import conv_backward as conv_backward_fast
from cnnlib.layers import conv_forward as conv_forward_fast
from cnnlib.layers import max_pool_backward as max_pool_backward_fast
from cnnlib.layers import max_pool_forward as max_pool_forward_fast

__all__ = ["conv_backward_fast", "conv_forward_fast", "max_pool_backward_fast", "max_pool_forward_fast"]
