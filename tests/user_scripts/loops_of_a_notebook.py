"""The loops as a notebook imports them, all at once."""

from typing import Any, assert_type

import numpy as np
from cnnlib.naive import *  # noqa: F403
from numpy.typing import NDArray

x, w = np.ones((2, 3, 4, 4)), np.ones((5, 3, 3, 3))
out, cache = conv_forward_naive(x, w, None, {"stride": 1, "pad": 1})  # noqa: F405
dx, dw, db = conv_backward_naive(np.ones_like(out), cache)  # noqa: F405
assert_type(dx, NDArray[np.floating[Any]])
assert dx.shape == x.shape
assert dw.shape == w.shape
