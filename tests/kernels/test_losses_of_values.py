"""Losses of numbers, masks and pixels: against the loops and numerical gradients; weights, NaN, threads."""

import functools

import cnnlib
import numpy as np
import pytest
from cnnlib import naive
from cnnlib.gradient_check import eval_numerical_gradient, rel_error
from helpers import assert_close

pytestmark = [pytest.mark.sets, pytest.mark.smoke]

# Rows of less and more than a vector, of more than one run; less and more pixels than a block.
SHAPES = [
    (1, 1),
    (5, 3),
    (33, 17),
    (3, 4099),
    (2, 3, 5),
    (1, 1, 1, 1),
    (2, 21, 7, 9),
    (2, 5, 13, 11),
    (1, 3, 2, 3, 4),
]
OF_VALUES = {
    "mse_loss": {},
    "l1_loss": {},
    "huber_loss": {"delta": 0.7},
    "bce_loss": {"pos_weight": 2.5},
    "dice_loss": {},
    "cross_entropy": {},
}


def loss_named(name, **options):
    return functools.partial(getattr(cnnlib, name), **options), functools.partial(
        getattr(naive, f"{name}_naive"), **options
    )


def scores(rng, shape):
    return 3 * rng.standard_normal(shape)


def labels_of(rng, shape):
    return rng.integers(0, shape[1], (shape[0], *shape[2:]))


def assert_same_loss(got, want, dtype):
    (value, dx), (want_value, want_dx) = got, want
    assert type(value) is float
    assert value == pytest.approx(want_value, rel=1e-12 if dtype == np.float64 else 2e-6, abs=1e-7)
    assert_close(dx, want_dx, dtype, scale=1 / want_dx.size)


@pytest.mark.parametrize("name", OF_VALUES)
@pytest.mark.parametrize("kinds", [("f4", "f8"), ("f8", "f4"), ("f2", "f4"), ("?", "f4")], ids=str)
def test_the_loops_compute_in_the_result_s_dtype_too(name, kinds, rng):
    x, y = (rng.random((4, 3)).round().astype(kind) for kind in kinds)
    ours, loops = loss_named(name)
    _, dx = ours(x, y)
    _, want = loops(x, y)
    assert want.dtype == dx.dtype
    assert_close(want, dx, dx.dtype, scale=1 / dx.size)


@pytest.mark.parametrize("name", OF_VALUES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_matches_the_loops(name, shape, isa, dtype, rng):
    x, y = scores(rng, shape).astype(dtype), rng.random(shape).astype(dtype)
    ours, loops = loss_named(name, **OF_VALUES[name])
    assert_same_loss(ours(x, y), loops(x.astype(np.float64), y.astype(np.float64)), dtype)


@pytest.mark.parametrize(
    ("ignore", "with_weights"), [(None, False), (None, True), (0, True), (-100, False), (-(2**31), True)]
)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_softmax_of_pixels_matches_the_loops(shape, ignore, with_weights, isa, dtype, rng):
    x, y = scores(rng, shape).astype(dtype), labels_of(rng, shape)
    if ignore is not None and ignore < 0:
        y[rng.random(y.shape) < 0.3] = ignore
    weights = rng.random(shape[1]).astype(dtype) if with_weights else None
    ours, loops = loss_named("softmax_loss", weights=weights, ignore=ignore)
    assert_same_loss(ours(x, y), loops(x.astype(np.float64), y), dtype)


@pytest.mark.parametrize("name", OF_VALUES)
@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 5), (2, 2, 2, 3)], ids=str)
def test_gradient_is_the_numerical_gradient(name, shape, rng):
    x, y = scores(rng, shape), rng.random(shape)
    ours, _ = loss_named(name, **OF_VALUES[name])
    numerical = eval_numerical_gradient(lambda x: ours(x, y)[0], x)
    assert rel_error(ours(x, y)[1], numerical) < 1e-6


def test_the_gradient_of_weighted_pixels_is_the_numerical_one(rng):
    shape = (2, 3, 2, 3)
    x, y, weights = scores(rng, shape), labels_of(rng, shape), rng.random(3)
    y[0, 0] = 7
    loss = functools.partial(cnnlib.softmax_loss, weights=weights, ignore=7)
    numerical = eval_numerical_gradient(lambda x: loss(x, y)[0], x)
    assert rel_error(loss(x, y)[1], numerical) < 1e-6


def test_a_weight_for_each_channel(dtype, rng):
    x, y, weight = scores(rng, (2, 3, 4, 5)), rng.random((2, 3, 4, 5)), np.array([0.5, 2, 0])
    ours, loops = loss_named("bce_loss", pos_weight=weight)
    x, y = x.astype(dtype), y.astype(dtype)
    assert_same_loss(ours(x, y), loops(x.astype(np.float64), y.astype(np.float64)), dtype)


def test_confident_logits_lose_no_digits(dtype):
    """log(1 + e) of a small e; a formula by differences has no digit left in float32."""
    for logit in (-12.0, -40.0, -80.0):
        value, dx = cnnlib.bce_loss(np.full((1, 20), logit, dtype), np.zeros((1, 20), dtype))
        assert value == pytest.approx(np.exp(logit), rel=1e-5)
        assert 20 * dx[0, 7] == pytest.approx(np.exp(logit), rel=1e-5)
    value, _ = cnnlib.bce_loss(np.full((1, 3), 1e4, dtype), np.zeros((1, 3), dtype))
    assert value == 1e4


def test_a_loss_beyond_the_largest_number_is_infinite(isa, dtype):
    want = np.inf if dtype == np.float32 else 1.25e40
    value, dx = cnnlib.huber_loss(np.array([3e20, 1], dtype), np.zeros(2, dtype), 1e20)
    assert value == pytest.approx(want)
    np.testing.assert_allclose(dx, [5e19, 0.5], rtol=1e-6)


def test_an_empty_mask_answers_an_empty_target(dtype):
    value, dx = cnnlib.dice_loss(np.full((1, 1, 8, 8), -200, dtype), np.zeros((1, 1, 8, 8), dtype))
    assert value == 0
    assert np.abs(dx).max() < np.exp(-190.0)


def test_labels_that_are_ignored_do_not_count_whatever_the_scores(dtype, rng):
    for shape in ((4, 5), (2, 5, 3, 30)):
        x, y = scores(rng, shape).astype(dtype), labels_of(rng, shape)
        y[0] = 255
        want = cnnlib.softmax_loss(x[1:], y[1:])
        x[0] = np.nan
        value, dx = cnnlib.softmax_loss(x, y, ignore=255)
        assert value == pytest.approx(want[0], rel=1e-6)
        np.testing.assert_array_equal(dx[0], 0)
        np.testing.assert_allclose(dx[1:], want[1], rtol=1e-5)
        value, dx = cnnlib.softmax_loss(x, np.full_like(y, 255), ignore=255)
        assert value == 0
        assert not dx.any()


@pytest.mark.parametrize("shape", [(2, 2), (3, 37), (2, 4099), (1, 2, 1), (2, 5, 3, 30)], ids=str)
def test_factors_that_cancel_out_count_all_the_same(shape, isa, dtype, rng):
    """Advantages, say, whose sum is 0."""
    x, y = scores(rng, shape), np.zeros(shape)
    y[:1, 0], y[:1, -1] = 3, -3
    x[1:] = np.nan  # of factors that are all 0
    ours, loops = loss_named("cross_entropy")
    x = x.astype(dtype)
    want = loops(x.astype(np.float64), y)
    assert want[1][0].any()
    assert_same_loss(ours(x, y.astype(dtype)), want, dtype)


@pytest.mark.parametrize("shape", [(2, 4), (3, 37), (2, 4099), (1, 3, 1), (2, 5, 3, 30)], ids=str)
def test_impossible_classes_without_a_share_cost_nothing(shape, isa, dtype, rng):
    x, y = scores(rng, shape).astype(dtype), rng.random(shape).astype(dtype)
    x[:, 1] = -np.inf
    y[:, 1] = 0
    ours, loops = loss_named("cross_entropy")
    with np.errstate(invalid="ignore"):
        assert_same_loss(ours(x, y), loops(x.astype(np.float64), y.astype(np.float64)), dtype)
    y[:, 1] = 0.5
    assert ours(x, y)[0] == np.inf


@pytest.mark.parametrize("name", [*OF_VALUES, "softmax_loss"])
@pytest.mark.parametrize("shape", [(4, 5), (2, 3, 5, 7)], ids=str)
def test_nan_reaches_the_loss_and_the_gradient(name, shape, dtype, rng):
    for place in (0, np.prod(shape) // 2, np.prod(shape) - 1):
        x, y = scores(rng, shape).astype(dtype), rng.random(shape)
        x.flat[place] = np.nan
        for loss in loss_named(name):
            value, dx = loss(x, labels_of(rng, shape) if name == "softmax_loss" else y)
            assert np.isnan(value)
            assert np.isnan(dx.flat[place])


@pytest.mark.parametrize("name", [*OF_VALUES, "softmax_loss"])
@pytest.mark.parametrize("shape", [(300, 1000), (3, 21, 97, 101), (70, 10, 33, 31)], ids=str)
def test_the_same_bits_for_any_number_of_threads(name, shape, dtype, rng, num_threads):
    x, y = scores(rng, shape).astype(dtype), rng.random(shape).astype(dtype)
    y = labels_of(rng, shape) if name == "softmax_loss" else y
    num_threads(1)
    want, want_dx = getattr(cnnlib, name)(x, y)
    for threads in (2, 5):
        num_threads(threads)
        value, dx = getattr(cnnlib, name)(x, y)
        assert value == want
        np.testing.assert_array_equal(dx, want_dx)


@pytest.mark.parametrize("name", ["mse_loss", "bce_loss"])
def test_the_same_bits_at_any_address(name, dtype, rng):
    """Results beyond the caches are written past them, where their address allows it."""
    n = 3_000_001
    memory, y = rng.standard_normal(n + 1).astype(dtype), rng.random(n).astype(dtype)
    want = getattr(cnnlib, name)(memory[1:].copy(), y)
    value, dx = getattr(cnnlib, name)(memory[1:], y)
    assert value == want[0]
    np.testing.assert_array_equal(dx, want[1])


def test_half_precision_comes_back_as_it_was(rng):
    x, y = rng.standard_normal((2, 3, 5)).astype(np.float16), rng.random((2, 3, 5)).astype(np.float16)
    for name in OF_VALUES:
        assert getattr(cnnlib, name)(x, y)[1].dtype == np.float16
    assert cnnlib.mse_loss([1, 2], [0, 4])[1].dtype == np.float64
