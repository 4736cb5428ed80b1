import functools

import cnnlib
import numpy as np
import pytest
from cnnlib import _core, naive
from cnnlib.gradient_check import eval_numerical_gradient_array, rel_error
from helpers import TOLERANCE, assert_close, cast, pair, random_arrays

pytestmark = [pytest.mark.sets, pytest.mark.smoke, pytest.mark.windows, pytest.mark.core]

# x (N, D) goes to batchnorm, x (N, C, H, W) to spatial_batchnorm.
SHAPES = [
    (5, 3),
    (1, 1),
    (1, 5),
    (2, 1),
    (4, 33),
    (7, 16),
    (100, 17),
    (300, 70),
    (3, 130),
    (2, 3, 4, 5),
    (1, 1, 1, 1),
    (1, 4, 1, 1),
    (2, 5, 1, 1),
    (3, 5, 7, 1),
    (2, 33, 3, 3),
    (4, 2, 13, 17),
    (1, 2, 40, 37),
    (33, 3, 2, 2),
]
MODES = ["train", "test"]


def layer(shape):
    """forward, backward, and the naive pair, for x of this shape."""
    name = "batchnorm" if len(shape) == 2 else "spatial_batchnorm"
    return (*pair(name), *pair(name, naive))


def bn_param(mode, shape, dtype=np.float64, **more):
    C = shape[1]
    mean, var = np.linspace(-1, 3, C, dtype=np.float32), np.linspace(0.5, 4, C, dtype=np.float32)
    return {"mode": mode, "running_mean": mean.astype(dtype), "running_var": var.astype(dtype), **more}


@functools.cache
def reference(shape, mode):
    """x, gamma, beta, dout, what the loops make of them (out, dx, dgamma, dbeta), the bn_param after it."""
    rng = np.random.default_rng([*shape, len(mode)])
    x, gamma, beta, dout = random_arrays(rng, shape, shape[1:2], shape[1:2], shape)
    x = 3 * x + 2
    _, _, forward, backward = layer(shape)
    param = bn_param(mode, shape)
    out, cache = forward(x, gamma, beta, param)
    return x, gamma, beta, dout, (out, *backward(dout, cache)), param


def dx_scale(x, gamma, dout, eps=1e-5):
    """Size of the terms whose difference is dx; of one or two samples nothing but rounding is left."""
    axes = (0, *range(2, x.ndim))
    return np.max(np.abs(gamma)) * np.max(np.abs(dout)) / np.sqrt(np.min(np.var(x, axis=axes)) + eps)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_matches_naive(shape, mode, isa, dtype):
    x, gamma, beta, dout, (want, want_dx, want_dgamma, want_dbeta), want_param = reference(shape, mode)
    forward, backward, _, _ = layer(shape)
    param = bn_param(mode, shape, dtype)
    out, cache = forward(*cast((x, gamma, beta), dtype), param)
    assert_close(out, want, dtype)
    dx, dgamma, dbeta = backward(dout.astype(dtype), cache)
    assert_close(dx, want_dx, dtype, scale=dx_scale(x, gamma, dout))
    assert_close(dgamma, want_dgamma, dtype, scale=np.max(np.abs(dout)))
    assert_close(dbeta, want_dbeta, dtype)
    for name in ("running_mean", "running_var"):
        assert param[name].shape == (shape[1],)
        scale = np.max(np.abs(want_param[name]))
        np.testing.assert_allclose(param[name], want_param[name], rtol=0, atol=TOLERANCE[dtype] * scale)


@pytest.mark.parametrize("shape", [(3, 4), (4, 2, 3, 2)], ids=str)
@pytest.mark.parametrize("mode", MODES)
def test_gradients_are_numerical_gradients(shape, mode, isa):
    x, gamma, beta, dout, *_ = reference(shape, mode)
    forward, backward, _, _ = layer(shape)
    x, gamma, beta = x.copy(), gamma.copy(), beta.copy()
    _, cache = forward(x, gamma, beta, bn_param(mode, shape))
    for array, gradient in zip((x, gamma, beta), backward(dout, cache), strict=True):
        numerical = eval_numerical_gradient_array(
            lambda _: forward(x, gamma, beta, bn_param(mode, shape))[0], array, dout
        )
        assert rel_error(gradient, numerical) < 1e-6


@pytest.mark.parametrize("shape", [(50, 3), (4, 3, 5, 6)], ids=str)
def test_training_output_has_mean_beta_and_deviation_gamma(shape, isa, dtype, rng):
    x, _ = random_arrays(rng, shape, shape)
    forward, *_ = layer(shape)
    gamma, beta = np.array([1, 2, 3], dtype), np.array([11, 12, 13], dtype)
    out, _ = forward((5 * x + 12).astype(dtype), gamma, beta, {"mode": "train"})
    axes = (0, *range(2, len(shape)))
    np.testing.assert_allclose(out.mean(axis=axes), beta, rtol=1e-5)
    np.testing.assert_allclose(out.std(axis=axes), gamma, rtol=1e-5)


@pytest.mark.parametrize("shape", [(20, 3), (4, 3, 5, 6)], ids=str)
def test_running_statistics_follow_the_formula(shape, isa, dtype, rng):
    """running = momentum * running + (1 - momentum) * batch, with the biased variance, from zeros on."""
    forward, *_ = layer(shape)
    param = {"mode": "train", "momentum": 0.75}
    mean, var = np.zeros(3), np.zeros(3)
    axes = (0, *range(2, len(shape)))
    for _ in range(4):
        (x,) = random_arrays(rng, shape)
        forward(x.astype(dtype), np.ones(3, dtype), np.zeros(3, dtype), param)
        mean = 0.75 * mean + 0.25 * x.mean(axis=axes)
        var = 0.75 * var + 0.25 * x.var(axis=axes)
        np.testing.assert_allclose(param["running_mean"], mean, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(param["running_var"], var, rtol=1e-5)
    assert param["mode"] == "train"
    assert param["momentum"] == 0.75


@pytest.mark.parametrize("shape", [(20, 3), (4, 3, 5, 6)], ids=str)
def test_test_mode_leaves_the_running_statistics_alone(shape, isa, dtype, rng):
    forward, *_ = layer(shape)
    (x,) = random_arrays(rng, shape)
    param = bn_param("test", shape, dtype)
    before = {name: np.copy(value) for name, value in param.items()}
    forward(x.astype(dtype), np.ones(3, dtype), np.zeros(3, dtype), param)
    for name in ("running_mean", "running_var"):
        np.testing.assert_array_equal(param[name], before[name])


def test_the_array_of_running_statistics_given_is_not_written(rng):
    """bn_param gets new arrays; one that the caller holds elsewhere (a best model's, say) stays as it was."""
    x, running_mean = random_arrays(rng, (8, 3), (3,))
    kept = running_mean.copy()
    param = {"mode": "train", "running_mean": running_mean, "running_var": np.ones(3)}
    cnnlib.batchnorm_forward(x, np.ones(3), np.zeros(3), param)
    np.testing.assert_array_equal(running_mean, kept)
    assert not np.array_equal(param["running_mean"], kept)


def test_running_statistics_that_a_mask_hides_do_not_count():
    hidden = np.ma.masked_array(np.zeros(3), [True, False, False])
    with pytest.raises(ValueError, match=r"^batchnorm_forward: running_mean has masked values"):
        cnnlib.batchnorm_forward(
            np.ones((2, 3)), np.ones(3), np.zeros(3), {"mode": "test", "running_mean": hidden}
        )


def test_running_statistics_may_lie_apart(rng):
    x, means, gamma, beta = random_arrays(rng, (8, 3), (3, 2), (3,), (3,))
    apart = {"mode": "train", "running_mean": means[:, 1]}
    together = {"mode": "train", "running_mean": means[:, 1].copy()}
    for param in (apart, together):
        cnnlib.batchnorm_forward(x, gamma, beta, param)
    np.testing.assert_array_equal(apart["running_mean"], together["running_mean"])
    np.testing.assert_allclose(apart["running_mean"], 0.9 * means[:, 1] + 0.1 * x.mean(0), rtol=1e-12)


@pytest.mark.parametrize("forward", [cnnlib.batchnorm_forward, naive.batchnorm_forward_naive])
def test_running_statistics_may_be_integers(forward, rng):
    (x,) = random_arrays(rng, (8, 3))
    param = {"mode": "train", "running_mean": np.arange(3), "running_var": [1, 2, 3]}
    forward(x, np.ones(3), np.zeros(3), param)
    np.testing.assert_allclose(param["running_mean"], 0.9 * np.arange(3) + 0.1 * x.mean(0), rtol=1e-12)
    np.testing.assert_allclose(param["running_var"], 0.9 * np.arange(1, 4) + 0.1 * x.var(0), rtol=1e-12)


def test_missing_running_statistics_are_zeros(isa, dtype):
    param = {"mode": "test"}
    x = np.array([[1, -2]], dtype)
    out, _ = cnnlib.batchnorm_forward(x, np.ones(2, dtype), np.zeros(2, dtype), param)
    np.testing.assert_allclose(out, x / np.sqrt(1e-5), rtol=1e-5)


def test_eps(isa, dtype):
    x = np.array([[1], [3]], dtype)
    out, _ = cnnlib.batchnorm_forward(x, np.ones(1, dtype), np.zeros(1, dtype), {"mode": "train", "eps": 3})
    np.testing.assert_allclose(out, [[-0.5], [0.5]], rtol=1e-6)


@pytest.mark.parametrize("constant", [7, 0.1, 1e4 + 1 / 64])
@pytest.mark.parametrize("shape", [(6, 2), (5000, 2), (2, 2, 3, 4), (2, 2, 60, 60)], ids=str)
def test_constant_features_give_beta_and_no_nan(shape, constant, isa, dtype):
    forward, backward, *_ = layer(shape)
    gamma, beta = np.array([2, 3], dtype), np.array([0.5, -1], dtype)
    out, cache = forward(np.full(shape, constant, dtype), gamma, beta, {"mode": "train"})
    want = np.broadcast_to(beta.reshape(1, 2, *[1] * (len(shape) - 2)), shape)
    np.testing.assert_allclose(out, want, rtol=1e-6)
    for gradient in backward(np.ones(shape, dtype), cache):
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("name", "shape", "rest"),
    [
        ("batchnorm", (1, 37), ({"mode": "train"},)),
        ("spatial_batchnorm", (1, 5, 1, 1), ({"mode": "train"},)),
        ("layernorm", (9, 1), ({},)),
        ("spatial_layernorm", (2, 1, 5, 6), ({},)),
        ("spatial_groupnorm", (3, 6, 1, 1), (6, {})),
        ("spatial_instancenorm", (3, 6, 1, 1), ({},)),
    ],
)
def test_a_value_that_is_its_own_mean_has_no_gradient(name, shape, rest, isa, dtype, rng):
    x, dout = cast(random_arrays(rng, shape, shape), dtype)
    gamma, beta = cast(random_arrays(rng, shape[1:2], shape[1:2]), dtype)
    out, cache = getattr(cnnlib, f"{name}_forward")(100 * x, gamma, beta, *rest)
    np.testing.assert_array_equal(out, np.broadcast_to(beta.reshape(-1, *[1] * (len(shape) - 2)), shape))
    dx, dgamma, dbeta = getattr(cnnlib, f"{name}_backward")(dout, cache)
    assert not dx.any()
    assert not dgamma.any()
    assert_close(dbeta, np.sum(dout, axis=(0, *range(2, len(shape))), dtype=np.float64), dtype)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", [(0, 3), (0, 3, 4, 5)], ids=str)
def test_empty_batch(shape, mode, isa, dtype):
    forward, backward, *_ = layer(shape)
    param = bn_param(mode, shape, dtype)
    out, cache = forward(np.zeros(shape, dtype), np.ones(3, dtype), np.zeros(3, dtype), param)
    dx, dgamma, dbeta = backward(np.zeros(shape, dtype), cache)
    assert out.shape == dx.shape == shape
    np.testing.assert_array_equal(dgamma, np.zeros(3))
    np.testing.assert_array_equal(dbeta, np.zeros(3))
    want = bn_param(mode, shape, dtype)
    for name in ("running_mean", "running_var"):
        np.testing.assert_array_equal(param[name], want[name])


@pytest.mark.parametrize(
    ("offset", "kind"), [(1e4, np.float32), (1e8, np.float64)], ids=["float32", "float64"]
)
@pytest.mark.parametrize("shape", [(400, 3), (8, 3, 20, 20)], ids=str)
def test_large_mean_costs_no_accuracy(shape, offset, kind, isa, rng):
    """Of a variance of 1 around such a mean E[x²] - E[x]² would leave nothing."""
    x, gamma, beta, dout = random_arrays(rng, shape, shape[1:2], shape[1:2], shape)
    x = (x + offset).astype(kind)
    # Subtracting first, which is exact here, the loops have an easy task.
    param, want_param = {"mode": "train"}, {"mode": "train"}
    forward, backward, naive_forward, naive_backward = layer(shape)
    want, want_cache = naive_forward(x.astype(np.float64) - offset, gamma, beta, want_param)
    want_dx, want_dgamma, _ = naive_backward(dout, want_cache)
    out, cache = forward(x, *cast((gamma, beta), kind), param)
    dx, dgamma, _ = backward(dout.astype(kind), cache)
    tolerance = 2e-5 if kind == np.float32 else 1e-7
    assert_close(out, want, kind, tolerance)
    assert_close(dx, want_dx, kind, tolerance)
    assert_close(dgamma, want_dgamma, kind, tolerance)
    np.testing.assert_allclose(param["running_var"], want_param["running_var"], rtol=1e-6)
    mean = want_param["running_mean"] + 0.1 * offset
    np.testing.assert_allclose(param["running_mean"], mean, rtol=1e-6)


def far_from_zero(shape, mean, deviation):
    """float32 samples, their mean, variance and normalised values of each feature in float64."""
    x = (mean + deviation * np.random.default_rng(0).standard_normal(shape)).astype(np.float32)
    exact, axes = x.astype(np.float64), (0, *range(2, len(shape)))
    means, variances = exact.mean(axes, keepdims=True), exact.var(axes, keepdims=True)
    return x, means.ravel(), variances.ravel(), (exact - means) / np.sqrt(variances + 1e-5)


# Means and deviations, down to some ten units in the last place.
FAR = [(1e3, 1), (1e3, 1e-2), (1e4, 1e-2), (1e5, 1)]


@pytest.mark.parametrize(("mean", "deviation"), FAR)
@pytest.mark.parametrize("shape", [(256, 8), (16, 8, 14, 14)], ids=str)
def test_tiny_variances_around_huge_means(shape, mean, deviation, isa):
    x, means, variances, want = far_from_zero(shape, mean, deviation)
    param = {"mode": "train", "momentum": 0}
    forward, *_ = layer(shape)
    out, _ = forward(x, np.ones(8, np.float32), np.zeros(8, np.float32), param)
    assert_close(out, want, np.float32, 1e-6)
    np.testing.assert_allclose(param["running_mean"], means, rtol=1e-7)
    np.testing.assert_allclose(param["running_var"], variances, rtol=1e-6)


@pytest.mark.peers
@pytest.mark.parametrize(("mean", "deviation"), FAR)
@pytest.mark.parametrize("shape", [(256, 8), (16, 8, 14, 14)], ids=str)
def test_no_less_exact_than_pytorch(shape, mean, deviation, isa):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    x, _, _, want = far_from_zero(shape, mean, deviation)
    forward, *_ = layer(shape)
    out, _ = forward(x, np.ones(8, np.float32), np.zeros(8, np.float32), {"mode": "train"})
    theirs = torch.nn.functional.batch_norm(torch.from_numpy(x), None, None, training=True).numpy()
    assert np.abs(out - want).max() <= np.abs(theirs - want).max()


@pytest.mark.parametrize("shape", [(6, 3), (2, 3, 3, 4)], ids=str)
def test_nan_spoils_its_own_feature_alone(shape, isa, dtype, rng):
    x, gamma, beta, dout = cast(random_arrays(rng, shape, (3,), (3,), shape), dtype)
    x[(1, 2, *[0] * (len(shape) - 2))] = np.nan
    forward, backward, *_ = layer(shape)
    param = {"mode": "train"}
    out, cache = forward(x, gamma, beta, param)
    dx, dgamma, _ = backward(dout, cache)
    for name in ("running_mean", "running_var"):
        np.testing.assert_array_equal(np.isnan(param[name]), [False, False, True])
    for array in (out, dx):
        assert np.isnan(array[:, 2]).all()
        assert np.isfinite(array[:, :2]).all()
    np.testing.assert_array_equal(np.isnan(dgamma), [False, False, True])


@pytest.mark.parametrize("shape", [(2, 3, 0, 5), (2**40, 0), (2**30, 0, 2**10, 2**10)], ids=str)
def test_kernels_of_empty_images_end_at_once(shape):
    """The layers refuse such images; the core neither divides by their size nor loops over the rest."""
    x, ones = np.zeros(shape), np.ones(shape[1])
    out = _core.batchnorm_normalize("bn", x, x.ndim, ones, ones, ones, ones)
    assert out.shape == shape
    dx, dgamma, dbeta = _core.batchnorm_backward("bn", x, x, x.ndim, ones, ones, ones, None, True)
    assert dx.shape == shape
    np.testing.assert_array_equal(dgamma, np.zeros(shape[1]))
    np.testing.assert_array_equal(dbeta, np.zeros(shape[1]))


ALTERED = [
    ("batchnorm", ((9, 40), (40,), (40,)), ({"mode": "train"},)),
    ("spatial_batchnorm", ((3, 40, 5, 5), (40,), (40,)), ({"mode": "train"},)),
    ("layernorm", ((40, 9), (9,), (9,)), ({},)),
    ("spatial_groupnorm", ((3, 40, 5, 5), (40,), (40,)), (20, {})),
    ("affine_bn_relu", ((9, 6), (6, 40), None, (40,), (40,)), ({"mode": "train"},)),
    ("conv_bn_relu", ((3, 2, 5, 5), (40, 2, 3, 3), None, (40,), (40,)), ({}, {"mode": "train"})),
]


def altered(cache, field):
    """The cache with one array of its batch or row norm cut to two values; None where it has none such."""
    if not isinstance(cache, tuple):
        return None
    if len(cache) == 4 and isinstance(cache[0], tuple) and len(cache[0]) == 3:
        (x, gamma, beta), mean, inv_std, last = cache
        parts = {"x": x, "gamma": gamma, "beta": beta, "mean": mean, "inv_std": inv_std}
        parts[field] = parts[field][:2]
        return (parts["x"], parts["gamma"], parts["beta"]), parts["mean"], parts["inv_std"], last
    for i, part in enumerate(cache):
        inner = altered(part, field)
        if inner is not None:
            return (*cache[:i], inner, *cache[i + 1 :])
    return None


@pytest.mark.parametrize(("name", "shapes", "rest"), ALTERED, ids=[case[0] for case in ALTERED])
@pytest.mark.parametrize("field", ["mean", "inv_std", "gamma", "beta"])
def test_altered_caches_are_refused(name, shapes, rest, field, rng):
    if field == "beta" and "relu" not in name:
        return  # the gradients do not read it
    arrays = [None if shape is None else rng.standard_normal(shape) for shape in shapes]
    out, cache = getattr(cnnlib, f"{name}_forward")(*arrays, *rest)
    wrong = altered(cache, field)
    assert wrong is not None
    with pytest.raises(ValueError, match=rf"{field} (in cache )?must have shape"):
        getattr(cnnlib, f"{name}_backward")(out, wrong)


@pytest.mark.parametrize("groups", [0, -1, 3, 40, 2**40, 2**62])
def test_altered_groups_are_refused(groups, rng):
    x = rng.standard_normal((2, 40, 3, 3))
    out, cache = cnnlib.spatial_groupnorm_forward(x, np.ones(40), np.ones(40), 20, {})
    with pytest.raises(ValueError, match=r"spatial_groupnorm_backward: (G|mean)\b"):
        cnnlib.spatial_groupnorm_backward(out, (*cache[:3], groups))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("shape", [(9, 5), (3, 5, 4, 7)], ids=str)
def test_dx_does_not_depend_on_x_in_test_mode(shape, value, dtype, rng):
    forward, backward, *_ = layer(shape)
    x, gamma, dout = cast(random_arrays(rng, shape, (5,), shape), dtype)
    param = {"mode": "test", "running_mean": np.ones(5, dtype), "running_var": np.full(5, 2, dtype)}
    want, *_ = backward(dout, forward(x, gamma, gamma, param)[1])
    x[1, 2] = value
    got, *_ = backward(dout, forward(x, gamma, gamma, param)[1])
    np.testing.assert_array_equal(got, want)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("infinite_dout", [False, True])
@pytest.mark.parametrize("mode", ["train", "test", "test, variance 0", "test, infinite mean"])
@pytest.mark.parametrize("shape", [(9, 5), (3, 5, 4, 7)], ids=str)
def test_infinities_are_where_the_loops_have_them(shape, mode, infinite_dout, dtype, rng):
    x, gamma, beta, dout = cast(random_arrays(rng, shape, (5,), (5,), shape), dtype)
    if infinite_dout:
        dout[1, 2] = np.inf
    variance = np.full(5, 0 if "0" in mode else 2, dtype)

    def run(forward, backward):
        param = {"mode": mode[:5].rstrip(","), "eps": 0.0}
        if mode != "train":
            mean = np.full(5, np.inf if "mean" in mode else 0.1, dtype)
            param.update(running_mean=mean, running_var=variance)
        out, cache = forward(x, gamma, beta, param)
        dx, dgamma, dbeta = backward(dout, cache)
        return (out, dx, dbeta) if "0" in mode else (out, dx, dgamma, dbeta)  # see docs/conventions.md

    forward, backward, *naive_pair = layer(shape)
    for got, want in zip(run(forward, backward), run(*naive_pair), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
