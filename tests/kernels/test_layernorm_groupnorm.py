import functools

import numpy as np
import pytest
from cnnlib import (
    layernorm_forward,
    naive,
    spatial_groupnorm_backward,
    spatial_groupnorm_forward,
    spatial_layernorm_forward,
)
from helpers import assert_all_close, assert_close, cast, pair, random_arrays

pytestmark = [pytest.mark.sets, pytest.mark.smoke]

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
def reference(name, shape, rest=(), form=(-1,)):
    """x, gamma, beta, dout, and what the loops make of them: out, (dx, dgamma, dbeta)."""
    rng = np.random.default_rng([*shape, *rest])
    x, gamma, beta, dout = random_arrays(rng, shape, shape[1:2], shape[1:2], shape)
    x, gamma, beta = 3 * x + 2, gamma.reshape(form), beta.reshape(form)
    forward, backward = pair(name, naive)
    out, cache = forward(x, gamma, beta, *rest, {})
    return x, gamma, beta, dout, out, backward(dout, cache)


def dx_scale(rows, gamma, dout, eps=1e-5):
    """Size of the terms whose difference is dx; of one or two values nothing but rounding is left."""
    if rows.size == 0:
        return 0.0
    return np.max(np.abs(gamma)) * np.max(np.abs(dout)) / np.sqrt(np.min(np.var(rows, axis=1)) + eps)


def check(rows, dtype, name, *described):
    """Compare a layer with its loops; `rows` has the values that are normalised together."""
    x, gamma, beta, dout, want, (want_dx, want_dgamma, want_dbeta) = reference(name, *described)
    forward, backward = pair(name)
    rest = described[1] if len(described) > 1 else ()
    out, cache = forward(*cast((x, gamma, beta), dtype), *rest, {})
    assert_close(out, want, dtype)
    dx, dgamma, dbeta = backward(dout.astype(dtype), cache)
    assert_close(dx, want_dx, dtype, scale=dx_scale(rows(x), gamma, dout))
    assert_close(dgamma, want_dgamma, dtype, scale=np.max(np.abs(dout), initial=0.0))
    assert_close(dbeta, want_dbeta, dtype)


@pytest.mark.parametrize("shape", LAYERNORM_SHAPES, ids=str)
def test_layernorm_matches_naive(shape, isa, dtype):
    check(lambda x: x, dtype, "layernorm", shape)


FORMS = {"C": (-1,), "1C11": (1, -1, 1, 1)}  # of gamma and beta


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("shape", "G"), GROUPNORM_CASES, ids=str)
def test_groupnorm_matches_naive(shape, G, form, isa, dtype):
    def rows(x):
        return x.reshape(shape[0] * G, -1) if x.size else x

    check(rows, dtype, "spatial_groupnorm", shape, (G,), FORMS[form])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "shape", [(2, 6, 4, 5), (1, 1, 1, 1), (3, 4, 1, 1), (0, 4, 3, 3), (1, 33, 3, 7), (2, 67, 24, 23)], ids=str
)
def test_spatial_layernorm_matches_naive(shape, form, isa, dtype):
    def rows(x):
        return x.transpose(0, 2, 3, 1).reshape(-1, shape[1])

    check(rows, dtype, "spatial_layernorm", shape, (), FORMS[form])


def test_spatial_layernorm_is_layernorm_of_each_pixel(isa, rng):
    x, gamma, beta = random_arrays(rng, (2, 6, 3, 4), (6,), (6,))
    out, _ = spatial_layernorm_forward(x, gamma, beta, {"eps": 0.1})
    want, _ = layernorm_forward(x[1, :, 2, 3][None], gamma, beta, {"eps": 0.1})
    np.testing.assert_allclose(out[1, :, 2, 3], want[0], rtol=1e-13, atol=1e-13)


def test_gamma_and_beta_may_differ_in_form(isa, dtype):
    x, gamma, beta, dout, want, (_, _, want_dbeta) = reference("spatial_groupnorm", (2, 6, 4, 5), (2,))
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
    for name, shape, rest in (
        ("layernorm", (4, 400), ({},)),
        ("spatial_groupnorm", (4, 4, 10, 10), (2, {})),
        ("spatial_layernorm", (4, 4, 10, 10), ({},)),
    ):
        (forward, backward), (loops, loops_backward) = pair(name), pair(name, naive)
        parameters = gamma[: shape[1]], beta[: shape[1]]
        want, want_cache = loops(easy.reshape(shape), *parameters, *rest)
        out, cache = forward(x.reshape(shape), *cast(parameters, kind), *rest)
        assert_close(out, want, kind, tolerance)
        want_gradients = loops_backward(dout.reshape(shape), want_cache)
        assert_all_close(backward(dout.reshape(shape).astype(kind), cache), want_gradients, kind, tolerance)


@pytest.mark.parametrize("value", [np.inf, -np.inf], ids=str)
@pytest.mark.parametrize("name", ["layernorm", "spatial_layernorm", "spatial_groupnorm"])
def test_an_infinite_gradient_is_infinite_where_it_is_in_the_loops(name, value, isa, dtype, rng):
    (forward, loops), (_, backward) = pair(name, naive), pair(name)
    shape = (2, 5) if name == "layernorm" else (2, 5, 6, 1)
    x, dout, gamma = random_arrays(rng, shape, shape, shape[1:2])
    dout[(1, 2, *[0] * (len(shape) - 2))] = value
    _, cache = forward(x, gamma, gamma, *([1] if name == "spatial_groupnorm" else []), {})
    with np.errstate(invalid="ignore"):
        want = loops(dout, cache)[0]
    arrays, *statistics = cache
    dx = backward(dout.astype(dtype), (tuple(a.astype(dtype) for a in arrays), *statistics))[0]
    infinite = np.isinf(want)
    assert infinite.any()
    np.testing.assert_array_equal(dx[infinite], want[infinite])
