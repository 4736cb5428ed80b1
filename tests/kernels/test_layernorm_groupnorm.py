import functools

import numpy as np
import pytest
from cnnlib import (
    layernorm_backward,
    layernorm_forward,
    spatial_groupnorm_backward,
    spatial_groupnorm_forward,
    spatial_layernorm_backward,
    spatial_layernorm_forward,
)
from cnnlib.naive import (
    layernorm_backward_naive,
    layernorm_forward_naive,
    spatial_groupnorm_backward_naive,
    spatial_groupnorm_forward_naive,
    spatial_layernorm_backward_naive,
    spatial_layernorm_forward_naive,
)
from helpers import assert_all_close, assert_close, cast, random_arrays

LAYERNORM_SHAPES = [(4, 3), (1, 1), (3, 1), (1, 2), (5, 13), (2, 17), (3, 64), (33, 5), (2, 300), (0, 4)]

# x (N, C, H, W) and G
GROUPNORM_CASES = [
    ((2, 6, 4, 5), 2),
    ((2, 6, 4, 5), 3),
    ((2, 6, 4, 5), 1),
    ((2, 6, 4, 5), 6),
    ((1, 1, 1, 1), 1),
    ((2, 4, 1, 1), 2),
    ((3, 4, 1, 1), 4),
    ((0, 4, 3, 3), 2),
    ((1, 33, 3, 3), 11),
    ((1, 2, 40, 37), 1),
    ((17, 2, 3, 2), 2),
    ((2, 3, 7, 1), 3),
]


@functools.cache
def layernorm_reference(shape):
    rng = np.random.default_rng(list(shape))
    x, gamma, beta, dout = random_arrays(rng, shape, shape[1:], shape[1:], shape)
    x = 3 * x + 2
    out, cache = layernorm_forward_naive(x, gamma, beta, {})
    return x, gamma, beta, dout, (out, *layernorm_backward_naive(dout, cache))


@functools.cache
def groupnorm_reference(shape, G):
    rng = np.random.default_rng([*shape, G])
    x, gamma, beta, dout = random_arrays(rng, shape, shape[1:2], shape[1:2], shape)
    x = 3 * x + 2
    out, cache = spatial_groupnorm_forward_naive(x, gamma, beta, G, {})
    return x, gamma, beta, dout, (out, *spatial_groupnorm_backward_naive(dout, cache))


def dx_scale(rows, gamma, dout, eps=1e-5):
    """Size of the terms whose difference is dx; of one or two values nothing but rounding is left."""
    if rows.size == 0:
        return 0.0
    return np.max(np.abs(gamma)) * np.max(np.abs(dout)) / np.sqrt(np.min(np.var(rows, axis=1)) + eps)


@pytest.mark.parametrize("shape", LAYERNORM_SHAPES, ids=str)
def test_layernorm_matches_naive(shape, isa, dtype):
    x, gamma, beta, dout, (want, want_dx, want_dgamma, want_dbeta) = layernorm_reference(shape)
    out, cache = layernorm_forward(*cast((x, gamma, beta), dtype), {})
    assert_close(out, want, dtype)
    dx, dgamma, dbeta = layernorm_backward(dout.astype(dtype), cache)
    assert_close(dx, want_dx, dtype, scale=dx_scale(x, gamma, dout))
    assert_close(dgamma, want_dgamma, dtype, scale=np.max(np.abs(dout), initial=0.0))
    assert_close(dbeta, want_dbeta, dtype)


@pytest.mark.parametrize("gamma_shape", ["C", "1C11"])
@pytest.mark.parametrize(("shape", "G"), GROUPNORM_CASES, ids=str)
def test_groupnorm_matches_naive(shape, G, gamma_shape, isa, dtype):
    x, gamma, beta, dout, (want, want_dx, want_dgamma, want_dbeta) = groupnorm_reference(shape, G)
    to_shape = (shape[1],) if gamma_shape == "C" else (1, shape[1], 1, 1)
    x, gamma, beta = cast((x, gamma.reshape(to_shape), beta.reshape(to_shape)), dtype)
    out, cache = spatial_groupnorm_forward(x, gamma, beta, G, {})
    assert_close(out, want, dtype)
    dx, dgamma, dbeta = spatial_groupnorm_backward(dout.astype(dtype), cache)
    scale = dx_scale(x.reshape(shape[0] * G, -1) if x.size else x, gamma, dout)
    assert_close(dx, want_dx, dtype, scale=scale)
    assert_close(dgamma, want_dgamma.reshape(to_shape), dtype, scale=np.max(np.abs(dout), initial=0.0))
    assert_close(dbeta, want_dbeta.reshape(to_shape), dtype)


@pytest.mark.parametrize("gamma_shape", ["C", "1C11"])
@pytest.mark.parametrize(
    "shape",
    [(2, 6, 4, 5), (1, 1, 1, 1), (3, 4, 1, 1), (0, 4, 3, 3), (1, 33, 3, 7), (2, 67, 24, 23)],
    ids=str,
)
def test_spatial_layernorm_matches_naive(shape, gamma_shape, isa, dtype):
    x, gamma, beta, dout, _ = groupnorm_reference(shape, 1)
    to_shape = (shape[1],) if gamma_shape == "C" else (1, shape[1], 1, 1)
    gamma, beta = gamma.reshape(to_shape), beta.reshape(to_shape)
    want, naive_cache = spatial_layernorm_forward_naive(x, gamma, beta, {})
    want_dx, want_dgamma, want_dbeta = spatial_layernorm_backward_naive(dout, naive_cache)
    out, cache = spatial_layernorm_forward(*cast((x, gamma, beta), dtype), {})
    assert_close(out, want, dtype)
    dx, dgamma, dbeta = spatial_layernorm_backward(dout.astype(dtype), cache)
    scale = dx_scale(x.transpose(0, 2, 3, 1).reshape(-1, shape[1]), gamma, dout)
    assert_close(dx, want_dx, dtype, scale=scale)
    assert_close(dgamma, want_dgamma, dtype, scale=np.max(np.abs(dout), initial=0.0))
    assert_close(dbeta, want_dbeta, dtype)


def test_spatial_layernorm_is_layernorm_of_each_pixel(isa, rng):
    x, gamma, beta = random_arrays(rng, (2, 6, 3, 4), (6,), (6,))
    out, _ = spatial_layernorm_forward(x, gamma, beta, {"eps": 0.1})
    want, _ = layernorm_forward(x[1, :, 2, 3][None], gamma, beta, {"eps": 0.1})
    np.testing.assert_allclose(out[1, :, 2, 3], want[0], rtol=1e-13, atol=1e-13)


def test_gamma_and_beta_may_differ_in_form(isa, dtype):
    x, gamma, beta, dout, (want, _, _, want_dbeta) = groupnorm_reference((2, 6, 4, 5), 2)
    x, gamma, beta = cast((x, gamma.reshape(1, 6, 1, 1), beta), dtype)
    out, cache = spatial_groupnorm_forward(x, gamma, beta, 2, {})
    assert_close(out, want, dtype)
    _, dgamma, dbeta = spatial_groupnorm_backward(dout.astype(dtype), cache)
    assert dgamma.shape == (1, 6, 1, 1)
    assert_close(dbeta, want_dbeta, dtype)


def test_eps(isa, dtype):
    x = np.array([[1, 3]], dtype)
    one, zero = np.ones(2, dtype), np.zeros(2, dtype)
    out, _ = layernorm_forward(x, one, zero, {"eps": 3})
    np.testing.assert_allclose(out, [[-0.5, 0.5]], rtol=1e-6)
    out, _ = spatial_groupnorm_forward(x.reshape(1, 2, 1, 1), one, zero, 1, {"eps": 3})
    np.testing.assert_allclose(out.ravel(), [-0.5, 0.5], rtol=1e-6)


@pytest.mark.parametrize("mode", ["train", "test"])
def test_mode_is_accepted_and_ignored(mode, rng):
    x, gamma, beta = random_arrays(rng, (3, 4), (4,), (4,))
    np.testing.assert_array_equal(
        layernorm_forward(x, gamma, beta, {"mode": mode})[0], layernorm_forward(x, gamma, beta, {})[0]
    )
    x = x.reshape(3, 4, 1, 1)
    np.testing.assert_array_equal(
        spatial_groupnorm_forward(x, gamma, beta, 2, {"mode": mode})[0],
        spatial_groupnorm_forward(x, gamma, beta, 2, {})[0],
    )


@pytest.mark.parametrize(
    ("offset", "kind"), [(1e4, np.float32), (1e8, np.float64)], ids=["float32", "float64"]
)
def test_large_mean_costs_no_accuracy(offset, kind, isa, rng):
    """Of a variance of 1 around such a mean E[x²] - E[x]² would leave nothing."""
    x, gamma, beta, dout = random_arrays(rng, (4, 400), (400,), (400,), (4, 400))
    x = (x + offset).astype(kind)
    easy = x.astype(np.float64) - offset  # exact
    tolerance = 2e-5 if kind == np.float32 else 1e-7
    want, want_cache = layernorm_forward_naive(easy, gamma, beta, {})
    out, cache = layernorm_forward(x, *cast((gamma, beta), kind), {})
    assert_close(out, want, kind, tolerance)
    want_gradients = layernorm_backward_naive(dout, want_cache)
    assert_all_close(layernorm_backward(dout.astype(kind), cache), want_gradients, kind, tolerance)

    x, easy, dout = (a.reshape(4, 4, 10, 10) for a in (x, easy, dout))
    groups = spatial_groupnorm_forward, spatial_groupnorm_backward
    groups_naive = spatial_groupnorm_forward_naive, spatial_groupnorm_backward_naive
    pixels = spatial_layernorm_forward, spatial_layernorm_backward
    pixels_naive = spatial_layernorm_forward_naive, spatial_layernorm_backward_naive
    for layer, naive, rest in ((groups, groups_naive, (2, {})), (pixels, pixels_naive, ({},))):
        want, want_cache = naive[0](easy, gamma[:4], beta[:4], *rest)
        out, cache = layer[0](x, *cast((gamma[:4], beta[:4]), kind), *rest)
        assert_close(out, want, kind, tolerance)
        want_gradients = naive[1](dout, want_cache)
        assert_all_close(layer[1](dout.astype(kind), cache), want_gradients, kind, tolerance)


BACKWARD = {
    "layernorm": (layernorm_forward_naive, layernorm_backward_naive, layernorm_backward),
    "spatial_layernorm": (
        spatial_layernorm_forward_naive,
        spatial_layernorm_backward_naive,
        spatial_layernorm_backward,
    ),
    "spatial_groupnorm": (
        spatial_groupnorm_forward_naive,
        spatial_groupnorm_backward_naive,
        spatial_groupnorm_backward,
    ),
}


@pytest.mark.parametrize("value", [np.inf, -np.inf], ids=str)
@pytest.mark.parametrize("name", BACKWARD)
def test_an_infinite_gradient_is_infinite_where_it_is_in_the_loops(name, value, isa, dtype, rng):
    forward, naive, backward = BACKWARD[name]
    shape = (2, 5) if name == "layernorm" else (2, 5, 6, 1)
    x, dout, gamma = random_arrays(rng, shape, shape, shape[1:2])
    dout[(1, 2, *[0] * (len(shape) - 2))] = value
    _, cache = forward(x, gamma, gamma, *([1] if name == "spatial_groupnorm" else []), {})
    with np.errstate(invalid="ignore"):
        want = naive(dout, cache)[0]
    arrays, *statistics = cache
    dx = backward(dout.astype(dtype), (tuple(a.astype(dtype) for a in arrays), *statistics))[0]
    infinite = np.isinf(want)
    assert infinite.any()
    np.testing.assert_array_equal(dx[infinite], want[infinite])
