"""Scaled dot-product attention in plain NumPy, with an array of all scores."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cnnlib._typing import Array, Cache, Wanted
from cnnlib.naive.windows import _float_dtype
from cnnlib.typing import AttentionParam

__all__ = ["attention_backward_naive", "attention_forward_naive"]


def attention_forward_naive(
    q: Array, k: Array, v: Array, attention_param: AttentionParam | None = None
) -> tuple[Array, Cache]:
    """``out = softmax(scale * q k^T + bias) v``, the softmax over the keys.

    Parameters
    ----------
    q : ndarray (N, heads, L, D)
    k : ndarray (N, kv_heads, S, D)
        ``heads / kv_heads`` heads of q in a row share one of k and v.
    v : ndarray (N, kv_heads, S, Dv)
    attention_param : dict, optional
        `scale` (1 / sqrt(D)), `bias` (None), an ndarray that broadcasts to (N, heads, L, S), booleans for
        minus infinity where they are False, and `causal` (False), minus infinity for keys behind the query.

    Returns
    -------
    out : ndarray (N, heads, L, Dv)
        Zeros for a query whose scores are all minus infinity.
    cache : tuple
        ``(q, k, v, attention_param, out, most, total)``: a copy of out, and the largest score and the sum of
        ``exp(score - most)`` of each query, (N, heads, L).
    """
    query, key, value, bias, scale = _in_float(q, k, v, attention_param)
    most, total, weights = _weights(query, key, bias, scale)
    out = np.matmul(weights, value)
    return out, (q, k, v, attention_param, out.copy(), most, total)


def attention_backward_naive(
    dout: Array, cache: Cache, bias_gradient: bool = False
) -> tuple[Array, Array, Array] | tuple[Array, Array, Array, Wanted]:
    """Gradients dq, dk, dv of :func:`attention_forward_naive`, and with `bias_gradient` dbias.

    With the weights ``p``: ``dv = p^T dout``, ``dp = dout v^T``, ``ds = p * (dp - sum over keys of p * dp)``,
    ``dq = scale * ds k``, ``dk = scale * ds^T q``; dbias is ds, summed where the bias has size 1. dbias is
    None without a bias, and for one of booleans.
    """
    q, k, v, attention_param, *_ = cache
    query, key, value, bias, scale = _in_float(q, k, v, attention_param)
    _, _, weights = _weights(query, key, bias, scale)
    dout = np.asarray(dout, dtype=query.dtype)
    dweights = np.matmul(dout, np.swapaxes(value, 2, 3))
    dscores = weights * (dweights - np.sum(weights * dweights, axis=3, keepdims=True))
    dq = scale * np.matmul(dscores, key)
    dk = _by_head(scale * np.matmul(np.swapaxes(dscores, 2, 3), query), k.shape[1])
    dv = _by_head(np.matmul(np.swapaxes(weights, 2, 3), dout), v.shape[1])
    if not bias_gradient:
        return dq, dk, dv
    given = None if attention_param is None else attention_param.get("bias")
    if given is None or np.asarray(given).dtype == bool:
        return dq, dk, dv, None
    shape = np.shape(given)
    alike = tuple(axis for axis in range(4) if shape[axis] == 1)
    return dq, dk, dv, np.sum(dscores, axis=alike, keepdims=True)


def _weights(query: Array, key: Array, bias: Array, scale: float) -> tuple[Array, Array, Array]:
    """Each query's largest score, its sum of exponentials, and its weights."""
    scores = scale * np.matmul(query, np.swapaxes(key, 2, 3)) + bias
    most = np.max(scores, axis=3)
    exponentials = np.exp(scores - np.where(most == -np.inf, 0, most)[..., None])
    total = np.sum(exponentials, axis=3)
    return most, total, exponentials / np.where(total == 0, 1, total)[..., None]


def _by_head(gradient: Array, heads: int) -> Array:
    """The sum over the heads of q that share one of k and v."""
    N, all_heads, *plane = gradient.shape
    return np.sum(gradient.reshape(N, heads, all_heads // heads, *plane), axis=2)


def _in_float(
    q: Array, k: Array, v: Array, attention_param: AttentionParam | None
) -> tuple[Array, Array, Array, Array, float]:
    """Arrays of one floating dtype, as many heads in each, the bias with what `causal` hides, the scale."""
    param: Any = attention_param or {}
    bias = np.zeros((1, 1, 1, 1), bool) if param.get("bias") is None else np.asarray(param["bias"])
    if param.get("bias") is None or bias.dtype == bool:
        dtype = _float_dtype(q, k, v)
        bias = np.where(bias | (param.get("bias") is None), 0, -np.inf)
    else:
        dtype = _float_dtype(q, k, v, bias)
    if param.get("causal", False):
        bias = np.where(np.tri(q.shape[2], k.shape[2], dtype=bool), bias, -np.inf)
    group = q.shape[1] // k.shape[1]
    scale = param.get("scale")
    scale = 1 / math.sqrt(q.shape[3]) if scale is None else float(scale)
    key, value = (np.repeat(array, group, axis=1).astype(dtype) for array in (k, v))
    return q.astype(dtype), key, value, bias.astype(dtype), scale
