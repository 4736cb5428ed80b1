"""A key of conv_param.

mypy: Argument 4 to "conv_transpose_forward" has incompatible type "dict[str, int]"
"""

import cnnlib
import numpy as np

x = np.zeros((2, 3, 8, 8))
cnnlib.conv_transpose_forward(x, x, None, {"strid": 2})
