import functools

import numpy as np
import pytest
from cnnlib import avg_pool_backward, avg_pool_forward, global_avg_pool_backward, global_avg_pool_forward
from cnnlib.gradient_check import eval_numerical_gradient_array, rel_error
from cnnlib.naive import (
    avg_pool_backward_naive,
    avg_pool_forward_naive,
    global_avg_pool_backward_naive,
    global_avg_pool_forward_naive,
)
from helpers import PoolCase, assert_close, random_arrays

pytestmark = [pytest.mark.sets, pytest.mark.smoke]

Case = PoolCase

CASES = [
    Case((2, 3, 8, 8), (2, 2), stride=2),
    Case((2, 3, 9, 7), (3, 2)),
    Case((2, 3, 9, 7), (2, 3), stride=(1, 2)),
    Case((2, 3, 10, 11), (3, 3), stride=4),
    Case((2, 3, 7, 5), (1, 1), stride=2),
    Case((0, 3, 4, 4), (2, 2)),
    Case((1, 1, 1, 1), (1, 1)),
    Case((1, 1, 1, 1), (3, 3), stride=1, pad=1),
    Case((1, 1, 1, 1), (3, 3), stride=1, pad=1, count_include_pad=False),
    Case((2, 2, 5, 4), (5, 4)),
    Case((2, 31, 4, 4), (2, 2)),
    Case((17, 1, 4, 5), (2, 2), stride=1),
    Case((1, 2, 37, 40), (3, 3), stride=2, pad=1),
    Case((1, 2, 3, 130), (2, 2), stride=1),
    *(
        Case((2, 3, *size), pool, stride, pad, None, ceil_mode, count_include_pad)
        for count_include_pad in (True, False)
        for size, pool, stride, pad, ceil_mode in [
            ((8, 8), (3, 3), 2, 1, False),
            ((8, 7), (3, 4), 1, (2, 3), False),
            ((6, 7), (3, 3), 2, ((0, 1), (2, 1)), False),
            ((6, 7), (3, 3), 1, "same", False),
            ((6, 7), (2, 2), 1, "same", False),
            ((7, 8), (2, 5), 3, "same", False),
            ((8, 7), (2, 2), 2, 0, True),
            ((8, 8), (3, 3), 2, 1, True),
            ((7, 10), (3, 2), (3, 4), 1, True),
            ((6, 5), (2, 2), 3, 1, True),
            ((5, 5), (3, 3), 5, ((2, 2), (0, 2)), True),
            ((4, 4), (1, 1), 3, 0, True),
        ]
    ),
]


@functools.cache
def reference(case):
    """x, dout, and what the loops make of them: out, dx."""
    rng = np.random.default_rng(list(str(case).encode()))
    (x,) = random_arrays(rng, case.x)
    out, cache = avg_pool_forward_naive(x, case.pool_param)
    (dout,) = random_arrays(rng, out.shape)
    return x, dout, out, avg_pool_backward_naive(dout, cache)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_matches_naive(case, isa, dtype):
    x, dout, want, want_dx = reference(case)
    out, cache = avg_pool_forward(x.astype(dtype), case.pool_param)
    assert_close(out, want, dtype)
    assert_close(avg_pool_backward(dout.astype(dtype), cache), want_dx, dtype)


@pytest.mark.parametrize("count_include_pad", [True, False])
def test_gradient_is_the_numerical_gradient(count_include_pad, isa):
    case = Case((2, 2, 5, 6), (3, 2), 2, ((1, 0), (0, 1)), None, True, count_include_pad)
    x, dout, _, _ = reference(case)
    _, cache = avg_pool_forward(x, case.pool_param)
    numerical = eval_numerical_gradient_array(
        lambda x: avg_pool_forward(x, case.pool_param)[0], x.copy(), dout
    )
    assert rel_error(avg_pool_backward(dout, cache), numerical) < 1e-8


def test_divisor(isa, dtype):
    """Means of ones show the divisor: padding counts if asked for, the overhang of ceil_mode never does."""
    x = np.ones((1, 1, 4, 4), dtype)
    param = {"pool_height": 3, "pool_width": 3, "stride": 2, "pad": 1, "ceil_mode": True}
    counting, _ = avg_pool_forward(x, param)
    np.testing.assert_allclose(counting[0, 0, 0], [4 / 9, 6 / 9, 2 / 6], rtol=1e-6)
    np.testing.assert_allclose(counting[0, 0, 2, 2], 1 / 4, rtol=1e-6)
    ignoring, _ = avg_pool_forward(x, {**param, "count_include_pad": False})
    np.testing.assert_allclose(ignoring, 1, rtol=1e-6)


@pytest.mark.parametrize(
    "shape", [(2, 3, 4, 5), (0, 3, 4, 5), (1, 1, 1, 1), (3, 33, 2, 2), (1, 2, 40, 37), (2, 17, 1, 7)], ids=str
)
def test_global_avg_pool_matches_naive(shape, isa, dtype, rng):
    x, dout = random_arrays(rng, shape, shape[:2])
    want, naive_cache = global_avg_pool_forward_naive(x)
    out, cache = global_avg_pool_forward(x.astype(dtype))
    assert_close(out, want, dtype)
    want_dx = global_avg_pool_backward_naive(dout, naive_cache)
    assert_close(global_avg_pool_backward(dout.astype(dtype), cache), want_dx, dtype)


def test_global_avg_pool_of_many_values_keeps_accuracy(isa):
    """Adding 250,000 values one by one in float32 would be off by a thousandth."""
    x = np.full((1, 1, 500, 500), 1e4 + 1 / 64, np.float32)
    out, _ = global_avg_pool_forward(x)
    np.testing.assert_allclose(out, x[0, 0, 0, 0], rtol=5e-6)
