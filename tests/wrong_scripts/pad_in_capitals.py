"""A word that pad does not know.

mypy: TypedDict item "pad" has type "Literal['same', 'valid']
"""

import cnnlib
import numpy as np
from cnnlib.typing import ConvParam

x = np.zeros((2, 3, 8, 8))
conv_param: ConvParam = {"stride": 1, "pad": "SAME"}
cnnlib.conv_forward(x, x, None, conv_param)
