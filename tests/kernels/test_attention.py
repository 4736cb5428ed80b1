"""Attention: equal to the formula and to PyTorch, with numerical gradients, and the same bits always."""

import importlib.util
import re

import cnnlib
import numpy as np
import pytest
from cnnlib import naive
from cnnlib.gradient_check import eval_numerical_gradient_array, rel_error
from helpers import assert_all_close, assert_close, cast, random_arrays, scratch_of

# q (N, heads, L, D), kv_heads, S, Dv.
CASES = {
    "one of each": ((1, 1, 1, 1), 1, 1, 1),
    "one query": ((2, 2, 1, 7), 2, 75, 5),
    "one key": ((2, 2, 75, 7), 2, 1, 5),
    "windows": ((3, 2, 49, 32), 2, 49, 32),
    "patches and a class": ((1, 2, 197, 64), 2, 197, 64),
    "more keys": ((2, 1, 66, 17), 1, 130, 33),
    "more queries": ((2, 1, 130, 33), 1, 66, 17),
    "heads share keys": ((2, 6, 20, 8), 2, 30, 12),
    "long heads": ((1, 1, 70, 128), 1, 97, 128),
    "parts of keys": ((2, 2, 70, 9), 1, 530, 10),
}


def drawn(rng, case):
    """q, k, v and dout."""
    (N, heads, L, D), kv_heads, S, Dv = CASES[case]
    shapes = (N, heads, L, D), (N, kv_heads, S, D), (N, kv_heads, S, Dv), (N, heads, L, Dv)
    return random_arrays(rng, *shapes)


def check(arrays, param, dtype, tolerance=None):
    """Forward and backward are those of the formula; and so are its backward pass by the compiled cache."""
    *arrays, dout = arrays
    want, cache = naive.attention_forward_naive(*arrays, param)
    grads = naive.attention_backward_naive(dout, cache, bias_gradient=True)
    bias = param.get("bias")
    given = param if bias is None or bias.dtype == bool else {**param, "bias": bias.astype(dtype)}
    out, own = cnnlib.attention_forward(*cast(arrays, dtype), given)
    assert_close(out, want, dtype, tolerance)
    assert_close(own[4], want, dtype, tolerance)
    assert not np.shares_memory(out, own[4])
    seen = np.isfinite(cache[5])
    for statistic, formula in zip(own[5:], cache[5:], strict=True):
        assert_close(np.where(seen, statistic, 0).astype(dtype), np.where(seen, formula, 0), dtype, tolerance)
    np.testing.assert_array_equal(np.isfinite(own[5]), seen)
    (dy,) = cast([dout], dtype)
    got = cnnlib.attention_backward(dy, own, bias_gradient=True)
    # One key has all the weight: gradients are differences that are 0 but for rounding.
    scale = np.max(np.abs(dout)) * max(np.max(np.abs(array)) for array in arrays)
    for one, formula in zip(got, grads, strict=True):
        if formula is None:
            assert one is None
        else:
            assert_close(one, formula, dtype, tolerance, scale=scale)
    assert_all_close(cnnlib.attention_backward(dy, own), got[:3], dtype, 0)
    by_loops = naive.attention_backward_naive(dy, own)
    for one, formula in zip(by_loops, grads[:3], strict=True):
        assert_close(np.ascontiguousarray(one), formula, dtype, tolerance, scale=scale)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("causal", [False, True])
def test_equals_the_formula(case, causal, isa, dtype, rng):
    check(drawn(rng, case), {"causal": causal}, dtype)


@pytest.mark.parametrize("sizes", ["NHLS", "1HLS", "11LS", "N11S", "1HL1", "NH1S", "1111", "N1L1"])
@pytest.mark.parametrize("boolean", [False, True])
def test_bias_of_every_shape(sizes, boolean, isa, dtype, rng):
    for case in ("heads share keys", "more keys", "parts of keys"):
        *arrays, dout = drawn(rng, case)
        of = dict(zip("NHLS", (*arrays[0].shape[:3], arrays[1].shape[2])))
        (bias,) = random_arrays(rng, tuple(of.get(letter, 1) for letter in sizes))
        check([*arrays, dout], {"bias": bias > -0.5 if boolean else bias, "scale": 0.3}, dtype)
        check([*arrays, dout], {"bias": bias > -0.5 if boolean else bias, "causal": True}, dtype)


@pytest.mark.slow
def test_random_shapes(isa, dtype, rng):
    for _ in range(60):
        kv_heads, group, L, S = rng.integers(1, [3, 3, 200, 300])
        D, Dv = rng.integers(1, 129, 2)
        shapes = (1, kv_heads * group, L, D), (1, kv_heads, S, D), (1, kv_heads, S, Dv)
        arrays = random_arrays(rng, *shapes, (1, kv_heads * group, L, Dv))
        check(arrays, {"causal": bool(rng.integers(2))}, dtype)


@pytest.mark.parametrize("param", [{}, {"causal": True}, {"scale": -0.7}], ids=str)
def test_numerical_gradients(param, isa, rng):
    q, k, v, dout = random_arrays(rng, (2, 4, 3, 5), (2, 2, 4, 5), (2, 2, 4, 3), (2, 4, 3, 3))
    param = {**param, "bias": random_arrays(rng, (1, 4, 3, 4))[0]}
    _, cache = cnnlib.attention_forward(q, k, v, param)
    grads = cnnlib.attention_backward(dout, cache, bias_gradient=True)
    for array, grad in zip((q, k, v, param["bias"]), grads, strict=True):
        want = eval_numerical_gradient_array(
            lambda _: cnnlib.attention_forward(q, k, v, param)[0], array, dout
        )
        assert rel_error(grad, want) < 1e-6


def test_a_query_that_sees_no_key_gets_zeros(isa, dtype, rng):
    """And passes no gradient on, whatever lies elsewhere."""
    q, k, v, dout = cast(random_arrays(rng, *((2, 2, 5, 4),) * 4), dtype)
    seen = np.ones((2, 1, 5, 5), bool)
    seen[1, 0, 3] = False
    out, cache = cnnlib.attention_forward(q, k, v, {"bias": seen})
    assert not out[1, :, 3].any()
    assert out[0].all()
    dq, *_ = cnnlib.attention_backward(dout, cache)
    assert not dq[1, :, 3].any()
    check([*map(np.float64, (q, k, v, dout))], {"bias": seen}, dtype)


def test_large_scores_do_not_overflow(isa, dtype, rng):
    q, k, v, dout = random_arrays(rng, *((1, 1, 70, 8),) * 4)
    check([100 * q, 100 * k, v, dout], {}, dtype, tolerance=2e-2 if dtype == np.float32 else 1e-9)
    lifted = naive.attention_forward_naive(q, k, v, {"bias": np.full((1, 1, 1, 1), 1e30)})[0]
    np.testing.assert_allclose(lifted, np.broadcast_to(v.mean(axis=2, keepdims=True), v.shape))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["q", "k", "v"])
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_special_values_go_where_the_formula_takes_them(name, value, isa, dtype, rng):
    arrays = dict(zip("qkv", cast(random_arrays(rng, *((1, 2, 150, 5),) * 3), dtype)))
    arrays[name][0, 1, 100, 2] = value
    want = naive.attention_forward_naive(*arrays.values())[0]
    out, cache = cnnlib.attention_forward(*arrays.values())
    np.testing.assert_array_equal(np.isnan(out), np.isnan(want))
    np.testing.assert_array_equal(np.isinf(out), np.isinf(want))
    np.testing.assert_allclose(out, want, rtol=1e-3)
    assert not np.isnan(out[0, 0]).any()
    grads = cnnlib.attention_backward(np.ones_like(out), cache)
    for grad in grads:
        assert np.isfinite(grad[0, 0]).all()
    assert np.isnan(grads[0][0, 1]).any()


@pytest.mark.parametrize("param", [{}, {"causal": True}], ids=str)
def test_same_bits_of_the_bias_gradient(param, isa, dtype, num_threads, rng):
    """The sum over samples is cut alike for all numbers of threads."""
    q, k, v, dout = cast(random_arrays(rng, *((11, 2, 70, 16),) * 4), dtype)
    for shape in ((1, 2, 70, 70), (1, 1, 70, 70), (11, 1, 1, 70)):
        (bias,) = cast(random_arrays(rng, shape), dtype)
        found = set()
        for threads in (1, 2, 5, 16, 64):
            num_threads(threads)
            _, cache = cnnlib.attention_forward(q, k, v, {**param, "bias": bias})
            grads = cnnlib.attention_backward(dout, cache, bias_gradient=True)
            found.add(tuple(grad.tobytes() for grad in grads))
        assert len(found) == 1


def test_nothing_is_as_large_as_the_scores(num_threads, rng):
    """Not even the shares of dq, which wait in turns."""
    num_threads(2)
    q, k, v, dout = rng.standard_normal((4, 1, 4, 1500, 16), np.float32)
    (_, cache), forward = scratch_of(cnnlib.attention_forward, q, k, v)
    _, backward = scratch_of(cnnlib.attention_backward, dout, cache)
    assert forward < 1 << 20
    assert backward < 4 << 20  # the scores of one head take 9 MB
    _, longer = scratch_of(cnnlib.attention_forward, *(np.repeat(array, 2, axis=2) for array in (q, k, v)))
    assert longer == forward


@pytest.mark.peers
@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", ["plain", "causal", "bias", "mask"])
def test_equals_pytorch(case, kind, dtype, rng):
    """The causal mask begins at the first query and key there too, where L and S differ."""
    import torch

    q, k, v, dout = cast(drawn(rng, case), dtype)
    (bias,) = cast(random_arrays(rng, (1, q.shape[1], q.shape[2], k.shape[2])), dtype)
    bias = {"bias": bias, "mask": bias > 0}.get(kind)
    param = {"causal": kind == "causal"} | ({} if bias is None else {"bias": bias})
    out, cache = cnnlib.attention_forward(q, k, v, param)
    grads = cnnlib.attention_backward(dout, cache, bias_gradient=kind == "bias")
    tensors = [torch.tensor(array, requires_grad=True) for array in (q, k, v)]
    mask = None if bias is None else torch.tensor(bias, requires_grad=kind == "bias")
    want = torch.nn.functional.scaled_dot_product_attention(
        *tensors, attn_mask=mask, is_causal=kind == "causal", enable_gqa=q.shape[1] != k.shape[1]
    )
    want.backward(torch.tensor(dout))
    wanted = [tensor.grad for tensor in (*tensors, *([mask] if kind == "bias" else []))]
    assert_close(out, want.detach().numpy().astype(np.float64), dtype)
    scale = np.max(np.abs(dout)) * max(np.max(np.abs(array)) for array in (q, k, v))
    for grad, tensor in zip(grads, wanted, strict=True):
        assert_close(grad, tensor.numpy().astype(np.float64), dtype, scale=scale)


Q, K, V = (2, 4, 5, 3), (2, 2, 6, 3), (2, 2, 6, 7)
REFUSED = {
    "q must be (N, heads, tokens, features), none of them but N 0, got shape (5, 3)": ((5, 3), K, V, {}),
    "k must be (N, heads, tokens, features), none of them but N 0, got shape (2, 2, 0, 3)": (
        *(Q, (2, 2, 0, 3), (2, 2, 0, 7)),
        {},
    ),
    "k must have the samples and features of q, (2, 4, 5, 3), got shape (2, 2, 6, 4)": (
        *(Q, (2, 2, 6, 4), V),
        {},
    ),
    "the heads of k must divide those of q, 4, got 3": (Q, (2, 3, 6, 3), (2, 3, 6, 7), {}),
    "v must have the samples, heads and tokens of k, (2, 2, 6, 3), got shape (2, 2, 5, 7)": (
        *(Q, K, (2, 2, 5, 7)),
        {},
    ),
    "bias must have the shape of the scores, (2, 4, 5, 6), or 1 in place of a size, got (5, 6)": (
        *(Q, K, V),
        {"bias": np.zeros((5, 6))},
    ),
    "unknown key 'mask' in attention_param; did you mean 'bias'?": (Q, K, V, {"mask": None}),
    "scale must be finite and at least -inf, got nan": (Q, K, V, {"scale": np.nan}),
}


@pytest.mark.parametrize("message", REFUSED)
def test_wrong_values_are_refused(message):
    *shapes, param = REFUSED[message]
    with pytest.raises(ValueError, match=f"^{re.escape(f'attention_forward: {message}')}$"):
        cnnlib.attention_forward(*map(np.zeros, shapes), param)


def test_wrong_types_are_refused():
    arrays = [*map(np.zeros, (Q, K, V))]
    with pytest.raises(TypeError, match="attention_forward: causal must be True or False, got 1"):
        cnnlib.attention_forward(*arrays, {"causal": 1})
    with pytest.raises(TypeError, match="attention_forward: bias has dtype complex128"):
        cnnlib.attention_forward(*arrays, {"bias": np.zeros((1, 1, 1, 1), complex)})
    out, cache = cnnlib.attention_forward(*arrays)
    with pytest.raises(TypeError, match="attention_backward: bias_gradient must be True or False, got None"):
        cnnlib.attention_backward(out, cache, bias_gradient=None)
    with pytest.raises(ValueError, match=r"attention_backward: dout must have shape \(2, 4, 5, 7\), got"):
        cnnlib.attention_backward(out[:1], cache)
    wrong = *cache[:5], cache[5][:, :1], cache[6]
    with pytest.raises(ValueError, match=r"attention_backward: most in cache must have shape \(2, 4, 5\)"):
        cnnlib.attention_backward(out, wrong)


def test_a_bias_takes_part_in_the_dtype():
    arrays = [np.ones(shape, np.float32) for shape in (Q, K, V)]
    assert cnnlib.attention_forward(*arrays, {"bias": np.ones((1, 1, 1, 6), bool)})[0].dtype == np.float32
    assert cnnlib.attention_forward(*arrays, {"bias": np.ones((1, 1, 1, 6))})[0].dtype == np.float64
