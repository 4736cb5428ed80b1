"""Scaled dot-product attention of several heads."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, overload

import numpy as np

from cnnlib import _core
from cnnlib._params import check_keys, flag, number
from cnnlib._params.arrays import as_array, in_dtype, prepare, result, unpack
from cnnlib._typing import Array, ArrayLike, Cache, Wanted
from cnnlib.typing import AttentionParam

__all__ = ["attention_backward", "attention_forward"]

NAMES = ("q", "k", "v")
KEYS = ("scale", "bias", "causal")
_CACHE = (*NAMES, "attention_param", "out", "most", "total")


def attention_forward(
    q: ArrayLike, k: ArrayLike, v: ArrayLike, attention_param: AttentionParam | None = None
) -> tuple[Array, Cache]:
    """
    Average values by how well their keys fit each query [1]_: softmax(scale * q k^T + bias) v.

    The scores are found block by block, forward and backward, with a running maximum and sum [2]_: an array
    of all of them never exists.

    Parameters
    ----------
    q : array, (N, heads, L, D)
        Queries.
    k : array, (N, kv_heads, S, D)
        Keys. `kv_heads` divides `heads`, and is often the same; else as many heads of q in a row share one
        of k and v.
    v : array, (N, kv_heads, S, Dv)
        Values.
    attention_param : dict, optional
        `scale` (1 / sqrt(D)). `bias` (None): what is added to the scores, an array of four axes, each of the
        size of the scores (N, heads, L, S) or 1; of booleans, True where a query may look at a key. `causal`
        (False): query i looks at keys 0 to i alone, also where L and S differ.

    Returns
    -------
    out : array, (N, heads, L, Dv)
        Zeros for a query that may look at no key, as in PyTorch. What is hidden has the weight 0, and 0 times
        a NaN or an infinity in v is NaN, unless all queries of a block skip it.
    cache : tuple
        (q, k, v, attention_param, out, most, total) for `attention_backward`: a copy of out, and the largest
        score and the sum of exponentials of each query, (N, heads, L).

    Raises
    ------
    ValueError
        Shapes that do not fit, values out of range, unknown keys.
    TypeError
        Arrays or parameters of an unsupported type.

    References
    ----------
    .. [1] A. Vaswani, N. Shazeer, N. Parmar, J. Uszkoreit, L. Jones, A. N. Gomez, L. Kaiser, I. Polosukhin,
       "Attention Is All You Need", 2017, arXiv:1706.03762.
    .. [2] T. Dao, D. Y. Fu, S. Ermon, A. Rudra, C. Re, "FlashAttention: Fast and Memory-Efficient Exact
       Attention with IO-Awareness", 2022, arXiv:2205.14135.

    Examples
    --------
    One head, one query between two keys, which it likes alike, then the first alone:

    >>> q, k = np.zeros((1, 1, 1, 2)), np.ones((1, 1, 2, 2))
    >>> v = np.array([2.0, 4.0]).reshape(1, 1, 2, 1)
    >>> out, cache = attention_forward(q, k, v, {})
    >>> out.ravel()
    array([3.])
    >>> dq, dk, dv = attention_backward(np.ones_like(out), cache)
    >>> dv.ravel()
    array([0.5, 0.5])
    >>> attention_forward(q, k, v, {"bias": np.array([[[[True, False]]]])})[0].ravel()
    array([2.])
    """
    function = "attention_forward"
    (q_, k_, v_), bias, scale, causal, dtype = _prepared(function, q, k, v, attention_param)
    out, copy, most, total = _core.attention_forward(function, q_, k_, v_, bias, scale, causal, True)
    kept = q, k, v, attention_param, result(copy, dtype), most, total
    return result(out, dtype), kept


def scores_of_attention(q: Array, k: Array, v: Array, attention_param: AttentionParam | None = None) -> Array:
    """Attend without a cache."""
    function = "attention_forward"
    (q, k, v), bias, scale, causal, dtype = _prepared(function, q, k, v, attention_param)
    return result(_core.attention_forward(function, q, k, v, bias, scale, causal, False)[0], dtype)


@overload
def attention_backward(
    dout: ArrayLike, cache: Cache, *, bias_gradient: Literal[False] = False
) -> tuple[Array, Array, Array]: ...


@overload
def attention_backward(
    dout: ArrayLike, cache: Cache, *, bias_gradient: bool
) -> tuple[Array, Array, Array] | tuple[Array, Array, Array, Wanted]: ...


def attention_backward(
    dout: ArrayLike, cache: Cache, *, bias_gradient: bool = False
) -> tuple[Array, Array, Array] | tuple[Array, Array, Array, Wanted]:
    """
    Gradients of `attention_forward`.

    Parameters
    ----------
    dout : array, (N, heads, L, Dv)
    cache : tuple
        (q, k, v, attention_param, out, most, total).
    bias_gradient : bool
        Return the bias's gradient as well, as position biases that are learnt need it.

    Returns
    -------
    dq : array, (N, heads, L, D)
    dk : array, (N, kv_heads, S, D)
    dv : array, (N, kv_heads, S, Dv)
    dbias : array of the shape of the bias
        Only with `bias_gradient`; None without a bias, and for one of booleans. Zeros where the bias is the
        same for all keys, which changes no weight.

    Raises
    ------
    ValueError, TypeError
        `dout` of another shape than the output, or of an unsupported type.
    """
    function = "attention_backward"
    q, k, v, attention_param, *kept = unpack(function, cache, *_CACHE)
    wants_bias = flag(function, "bias_gradient", bias_gradient)
    (q, k, v), bias, scale, causal, dtype = _prepared(function, q, k, v, attention_param, " in cache")
    learns = wants_bias and bias is not None and not _is_mask(attention_param)
    dy = in_dtype(function, "dout", dout, q.dtype)
    names = ("out in cache", "most in cache", "total in cache")
    out, most, total = (in_dtype(function, name, value, q.dtype) for name, value in zip(names, kept))
    grads = _core.attention_backward(function, dy, q, k, v, bias, scale, causal, out, most, total, learns)
    dq, dk, dv, dbias = (result(grad, dtype) for grad in grads)
    return (dq, dk, dv, dbias) if wants_bias else (dq, dk, dv)


def scale_of(attention_param: Mapping[str, Any], features: int) -> Any:
    """Return the factor of the scores: by default 1 / sqrt(features)."""
    scale = attention_param.get("scale")
    return 1 / math.sqrt(max(1, features)) if scale is None else scale


def added_bias(bias: np.ndarray) -> np.ndarray:
    """Return what is added to the scores: minus infinity where booleans are False."""
    return np.where(bias, 0.0, -np.inf) if bias.dtype == bool else bias


def _is_mask(attention_param):
    return as_array("attention_forward", "bias", attention_param["bias"]).dtype == bool


def _prepared(function, q, k, v, attention_param, where=""):
    """The arrays, the bias or None, scale, causal, and the dtype of the result."""
    param: dict[str, Any] = {} if attention_param is None else attention_param
    check_keys(function, "attention_param", param, KEYS)
    bias = param.get("bias")
    names = tuple(name + where for name in NAMES)
    arrays: tuple[Any, ...] = q, k, v
    if bias is not None:
        bias = as_array(function, f"bias{where}", bias)
        if bias.dtype != bool:
            names, arrays = (*names, f"bias{where}"), (*arrays, bias)
    arrays, dtype = prepare(function, names, *arrays)
    if len(arrays) == 4:
        bias = arrays[3]
    elif bias is not None:
        bias = added_bias(bias).astype(arrays[0].dtype)
    features = arrays[0].shape[-1] if arrays[0].ndim else 0
    scale = number(function, "scale", scale_of(param, features))
    return arrays[:3], bias, scale, flag(function, "causal", param.get("causal", False)), dtype
