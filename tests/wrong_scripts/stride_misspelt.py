"""A key of conv_param.

mypy: Extra key "strid" for TypedDict "ConvTransposeParam"
"""

import cnnlib
import numpy as np

x = np.zeros((2, 3, 8, 8))
cnnlib.conv_transpose_forward(x, x, None, {"strid": 2})
