import numpy as np
import pytest
from cnnlib import leaky_relu_backward, leaky_relu_forward
from cnnlib.naive import leaky_relu_backward_naive, leaky_relu_forward_naive
from helpers import assert_close, random_arrays

pytestmark = pytest.mark.sets


@pytest.mark.parametrize("alpha", [0.01, 0.2, 0, 1, 2.5, -0.5])
def test_matches_naive(alpha, isa, dtype, rng):
    for shape in ((1,), (7,), (17,), (2, 3, 4, 5), (3, 33), (0, 4), ()):
        x, dout = random_arrays(rng, shape, shape)
        want, naive_cache = leaky_relu_forward_naive(x, alpha)
        out, cache = leaky_relu_forward(x.astype(dtype), alpha)
        assert_close(out, want, dtype)
        want_dx = leaky_relu_backward_naive(dout, naive_cache)
        assert_close(leaky_relu_backward(dout.astype(dtype), cache), want_dx, dtype)


def test_alpha_is_a_hundredth_by_default(dtype):
    x = np.array([-1, 2], dtype)
    out, cache = leaky_relu_forward(x)
    np.testing.assert_allclose(out, [-0.01, 2], rtol=1e-6)
    np.testing.assert_allclose(leaky_relu_backward(np.ones(2, dtype), cache), [0.01, 1], rtol=1e-6)


@pytest.mark.parametrize("alpha", [0.25, 0, -0.5])
def test_special_values(alpha, isa, dtype):
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0] * 5, dtype)
    dout = np.repeat(np.array([1, np.nan, np.inf, -2, 3], dtype), 7)
    out, cache = leaky_relu_forward(x, alpha)
    dx = leaky_relu_backward(dout, cache)
    with np.errstate(invalid="ignore"):
        want, naive_cache = leaky_relu_forward_naive(x, alpha)
        want_dx = leaky_relu_backward_naive(dout, naive_cache)
    for got, by_loops in ((out, want), (dx, want_dx)):
        np.testing.assert_array_equal(got, by_loops)
        is_number = ~np.isnan(by_loops)
        np.testing.assert_array_equal(np.signbit(got[is_number]), np.signbit(by_loops[is_number]))
