"""The dtype rule: what the layers accept, compute in and return; caches and what lies in them."""

import numpy as np

from cnnlib import _core

_HALVES = ("float16", "bfloat16")


def as_array(function, name, value):
    """`value` as an array, whatever protocol it has."""
    if value is None:
        raise TypeError(f"{function}: {name} must be an array, got None")
    if isinstance(value, np.ndarray) and hasattr(value, "mask") and np.any(value.mask):
        raise ValueError(f"{function}: {name} has masked values, which would count as others do; fill them")
    try:
        if not hasattr(value, "__array__") and hasattr(value, "__dlpack__"):
            return np.from_dlpack(value)
        return np.asarray(value)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:  # as a tensor's that has a gradient
        kind = ValueError if isinstance(error, ValueError) else TypeError
        raise kind(f"{function}: {name} is not an array: {error}") from None


def reals(where, name, value):
    """`value` as an array of no complex numbers, text or objects, which NumPy would make numbers of."""
    return checked_reals(where, name, as_array(where, name, value))


def checked_reals(where, name, array):
    """The same of what is an array already."""
    if array.dtype.kind not in "fiub" and array.dtype.name != "bfloat16":
        raise TypeError(f"{where}: {name} must be numbers, got dtype {array.dtype}")
    return array


def _compute_dtype(function, names, arrays):
    """The floating dtype of the result and the one to compute in (float32 for 16-bit floats)."""
    for name, array in zip(names, arrays):
        kind = array.dtype.kind
        if not (kind in "iub" or array.dtype.name in (*_HALVES, "float32", "float64")):
            raise TypeError(
                f"{function}: {name} has dtype {array.dtype}; float32, float64, float16, bfloat16, integers "
                "and booleans are supported"
            )
    try:
        result = np.result_type(*(array.dtype for array in arrays)).newbyteorder("=")
    except TypeError:  # float16 and bfloat16, with ml_dtypes before 0.7
        given = ", ".join(f"{name} has {array.dtype}" for name, array in zip(names, arrays))
        raise TypeError(f"{function}: the dtypes have none in common: {given}") from None
    if result.kind in "iub":
        result = np.dtype(np.float64)
    return result, np.dtype(np.float32) if result.name in _HALVES else result


def prepare(function, names, *values):
    """
    Return `values` as C-contiguous arrays of one floating dtype, and the dtype that results have.

    A bias of None stays None. An array is copied only where its dtype, byte order, strides or
    alignment ask for it.
    """
    dtype = _core.ready_dtype(names, values)
    if dtype is not None:  # most calls
        return values, dtype
    return _prepared(function, names, values)


def _prepared(function, names, values, where=""):
    arrays, result, compute = layer_arrays(function, names, values, where)
    ready = [
        None if array is None else _ready(function, name + where, array, compute)
        for name, array in zip(names, arrays)
    ]
    return tuple(ready), result


def layer_arrays(function, names, values, where=""):
    """
    Return `values` as arrays, the dtype of the result, and the dtype to compute in.

    A bias of None stays None. Messages call a value by its name and `where`. TypeError for what is no array,
    or has a dtype that layers do not take; ValueError for masked values.
    """
    arrays = [
        None if value is None and name == "b" else as_array(function, name + where, value)
        for name, value in zip(names, values)
    ]
    present = [(name + where, array) for name, array in zip(names, arrays) if array is not None]
    return arrays, *_compute_dtype(function, *zip(*present))


def _ready(function, name, array, dtype):
    """The array contiguous, aligned and in this dtype: itself or a copy, which takes memory."""
    try:
        return np.require(array, dtype, ("C", "A"))
    except (MemoryError, ValueError) as error:  # broadcast arrays claim any size
        kind = MemoryError if isinstance(error, MemoryError) else ValueError
        raise kind(f"{function}: {name} of shape {array.shape} does not fit into memory as {dtype}") from None


def prepare_backward(function, dout, names, *values):
    """`prepare` what the forward pass took, and convert `dout` to the dtype of that."""
    dtype = _core.ready_dtype(names, (dout, *values))
    if dtype is not None:
        return (dout, *values), dtype
    values, dtype = _prepared(function, names, values, " in cache")
    return (in_dtype(function, "dout", dout, values[0].dtype), *values), dtype


def prepare_sandwich_backward(function, dout, between, names, *values):
    """Like `prepare_backward`; `between`, an intermediate result of the sandwich, is converted as dout is."""
    dtype = _core.ready_dtype(names, (dout, between, *values))
    if dtype is not None:
        return (dout, between, *values), dtype
    values, dtype = _prepared(function, names, values, " in cache")
    compute = values[0].dtype
    between = in_dtype(function, "the norm's x in cache", between, compute)
    return (in_dtype(function, "dout", dout, compute), between, *values), dtype


def prepare_gradient(function, dout, dtype):
    """Convert `dout` to the dtype that results of `dtype`, as the cache has it, are computed in."""
    if dtype.name not in (*_HALVES, "float32", "float64"):
        raise TypeError(f"{function}: dtype in cache must be that of a result, got {dtype}")
    return in_dtype(function, "dout", dout, np.dtype(np.float32) if dtype.name in _HALVES else dtype)


def in_dtype(function, name, value, dtype):
    """`value` as a contiguous array of the given dtype."""
    (array,), _ = prepare(function, (name,), value)
    return _ready(function, name, array, dtype)


def gradient_like(function, name, value, shape, dtype):
    """
    Return a gradient that a user's function gave as a C-contiguous array of this dtype.

    TypeError for what is no array of real numbers, ValueError for another shape.
    """
    array = as_array(function, name, value)
    if array.dtype.kind not in "fiub" and array.dtype.name != "bfloat16":
        raise TypeError(f"{function}: {name} must be real, got dtype {array.dtype}")
    if array.shape != shape:
        raise ValueError(f"{function}: {name} must have shape {shape}, got {array.shape}")
    return np.require(array, dtype, ("C", "A"))


def prepare_out(function, out, dtype, *inputs):
    """Check a caller's buffer: it must take the result as it is, and hold none of the inputs."""
    if out is None:
        return None
    if not isinstance(out, np.ndarray):
        raise TypeError(f"{function}: out must be a NumPy array, got {type(out).__name__}")
    if out.dtype != dtype or dtype.name in _HALVES:
        wanted = "float32 or float64 (16-bit results take no out)" if dtype.name in _HALVES else dtype
        raise ValueError(f"{function}: out must have dtype {wanted}, got {out.dtype}")
    if not (out.flags.carray and out.dtype.isnative):
        raise ValueError(f"{function}: out must be C-contiguous, aligned and writable")
    if any(value is not None and np.may_share_memory(out, value) for value in inputs):
        raise ValueError(f"{function}: out must not overlap an input")
    return out


def result(array, dtype):
    """A computed array in the dtype of the result."""
    return array if array is None or array.dtype is dtype or array.dtype == dtype else array.astype(dtype)


def labels(function, y, shape, classes=None):
    """
    `y` as int64 labels of this shape, in [0, classes) if that is given.

    A copy: what is checked is what is used, even where another thread writes to `y`.
    """
    y = as_array(function, "y", y)
    if y.dtype.kind not in "iu":
        raise TypeError(f"{function}: y must hold integer labels, got dtype {y.dtype}")
    if y.shape != shape:
        raise ValueError(f"{function}: y must have shape {shape}, got {y.shape}")
    copy = np.array(y, np.int64, order="C")
    if classes is not None and y.size and copy.view(np.uint64).max() >= classes:  # so are negative ones
        advice = ""
        if y.min() > 0 and y.max() == classes:
            advice = "; labels begin at 0: y - 1"
        elif classes == 2 and np.isin(y, (0, 255)).all():
            advice = "; of masks of 0 and 255 the labels are y // 255"
        found = f"got values from {y.min()} to {y.max()}"
        raise ValueError(f"{function}: y must lie in [0, {classes}), {found}{advice}")
    return copy


_STATISTICS = ("mean", "inv_std")
_DOUBLE = np.dtype(np.float64)


def unpack(function, cache, *names):
    """The parts of a cache, which must be a tuple with one for each of `names`."""
    if isinstance(cache, (tuple, list)) and len(cache) == len(names):
        return cache
    expected = f"{function}: cache must be the forward pass's tuple ({', '.join(names)})"
    if isinstance(cache, (tuple, list)):
        raise ValueError(f"{expected}, got {len(cache)} parts")
    raise TypeError(f"{expected}, got {type(cache).__name__}")


def statistics(function, mean, inv_std):
    """The mean and the inverse deviation in a norm's cache as the kernels take them."""
    if _core.ready_dtype(_STATISTICS, (mean, inv_std)) is _DOUBLE:  # most calls
        return mean, inv_std
    found = []
    for name, value in zip(_STATISTICS, (mean, inv_std)):
        array = as_array(function, f"{name} in cache", value)
        if array.dtype.kind != "f":
            raise TypeError(f"{function}: {name} in cache must be of a floating dtype, got {array.dtype}")
        found.append(np.require(array, _DOUBLE, ("C", "A")))
    return tuple(found)
