"""The dtype of the plain-loop layers' results."""

import numpy as np


def _float_dtype(*arrays):
    """The dtype of a layer's results: that of its arrays together, and float64 for integers and bools."""
    dtype = np.result_type(*(array for array in arrays if array is not None))
    return np.dtype(np.float64) if dtype.kind in "iub" else dtype
