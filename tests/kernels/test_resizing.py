"""Adaptive pooling, upsampling and instance norm."""

import cnnlib
import numpy as np
import pytest
from cnnlib import naive
from cnnlib.gradient_check import eval_numerical_gradient_array, rel_error
from helpers import assert_close, random_arrays, scratch_of

pytestmark = [pytest.mark.sets, pytest.mark.smoke]

# Image and result: smaller, equal, larger, of windows that overlap, of one pixel.
ADAPTIVE = [
    ((2, 3, 8, 12), (4, 3)),
    ((1, 2, 7, 11), (3, 4)),
    ((2, 2, 5, 5), 5),
    ((1, 3, 3, 2), (7, 5)),
    ((2, 1, 33, 70), 1),
    ((1, 1, 1, 1), (2, 3)),
    ((3, 2, 1, 40), (1, 6)),
    ((2, 3, 28, 28), 1),
    ((2, 2, 9, 141), (3, 2)),
    ((1, 2, 5, 67), (2, 1)),
    ((1, 1, 3, 1500), (2, 700)),
    ((1, 1, 2, 140001), (1, 2)),
]
UPSAMPLE = [
    ((2, 3, 4, 5), 2),
    ((1, 2, 3, 37), (1, 2)),
    ((1, 1, 1, 1), (3, 2)),
    ((2, 2, 5, 3), (3, 1)),
    ((1, 2, 2, 17), (2, 4)),
    ((1, 1, 6, 1), 1),
]
MODES = [("nearest", False), ("bilinear", False), ("bilinear", True)]


def compare(name, x, rest, dtype, rng):
    forward, backward = getattr(cnnlib, f"{name}_forward"), getattr(cnnlib, f"{name}_backward")
    want, naive_cache = getattr(naive, f"{name}_forward_naive")(x, *rest)
    out, cache = forward(x.astype(dtype), *rest)
    assert_close(out, want, dtype)
    (dout,) = random_arrays(rng, want.shape)
    want_dx = getattr(naive, f"{name}_backward_naive")(dout, naive_cache)
    for given in (cache, tuple(cache)):  # with what the cache remembers, and without
        assert_close(backward(dout.astype(dtype), given), want_dx, dtype)


@pytest.mark.parametrize(("shape", "size"), ADAPTIVE, ids=str)
@pytest.mark.parametrize("kind", ["avg", "max"])
def test_adaptive_pool_matches_naive(kind, shape, size, isa, dtype, rng):
    (x,) = random_arrays(rng, shape)
    compare(f"adaptive_{kind}_pool", x, (size,), dtype, rng)
    compare(f"adaptive_{kind}_pool", np.round(x), (size,), dtype, rng)  # with ties


@pytest.mark.parametrize(("shape", "scale"), UPSAMPLE, ids=str)
@pytest.mark.parametrize(("mode", "align_corners"), MODES)
def test_upsample_matches_naive(shape, scale, mode, align_corners, isa, dtype, rng):
    (x,) = random_arrays(rng, shape)
    compare("upsample", x, (scale, mode, align_corners), dtype, rng)


def test_windows_of_an_adaptive_pool():
    """Worked out by hand: 5 rows for 3 are 0-1, 1-3 and 3-4, and 3 columns for 2 are 0-1 and 1-2."""
    x = np.arange(15.0).reshape(1, 1, 5, 3)
    highest, _ = cnnlib.adaptive_max_pool_forward(x, (3, 2))
    np.testing.assert_array_equal(highest[0, 0], [[4, 5], [10, 11], [13, 14]])
    means, cache = cnnlib.adaptive_avg_pool_forward(x, (3, 2))
    np.testing.assert_allclose(means[0, 0], [[2, 3], [6.5, 7.5], [11, 12]], rtol=1e-15)
    dx = cnnlib.adaptive_avg_pool_backward(np.full_like(means, 12), cache)
    np.testing.assert_allclose(dx[0, 0, :, 0], [3, 3 + 2, 2, 2 + 3, 3], rtol=1e-15)
    np.testing.assert_allclose(dx[0, 0, :, 1], [6, 6 + 4, 4, 4 + 6, 6], rtol=1e-15)


def test_adaptive_pools_of_divisors_are_pools(isa, dtype, rng):
    x = random_arrays(rng, (2, 3, 12, 20))[0].astype(dtype)
    param = {"pool_height": 3, "pool_width": 5}
    for kind in ("avg", "max"):
        out, cache = getattr(cnnlib, f"adaptive_{kind}_pool_forward")(x, 4)
        want, want_cache = getattr(cnnlib, f"{kind}_pool_forward")(x, param)
        np.testing.assert_allclose(out, want, rtol=1e-5)
        dx = getattr(cnnlib, f"adaptive_{kind}_pool_backward")(want, cache)
        np.testing.assert_allclose(dx, getattr(cnnlib, f"{kind}_pool_backward")(want, want_cache), rtol=1e-5)


def test_nan_wins_an_adaptive_window(isa, dtype):
    x = np.arange(48, dtype=dtype).reshape(1, 1, 6, 8)
    x[0, 0, 1, 2] = x[0, 0, 2, 1] = np.nan
    x[0, 0, 5, 7] = -np.inf
    x[0, 0, 3:, 4:] = -np.inf
    dout = np.arange(1, 5, dtype=dtype).reshape(1, 1, 2, 2)
    want = np.zeros((1, 1, 6, 8))
    for value, place in enumerate([(1, 2), (2, 7), (5, 3), (3, 4)], 1):
        want[0, 0][place] = value
    out, cache = cnnlib.adaptive_max_pool_forward(x, 2)
    np.testing.assert_array_equal(out[0, 0], [[np.nan, 23], [43, -np.inf]])
    for given in (cache, tuple(cache)):
        np.testing.assert_array_equal(cnnlib.adaptive_max_pool_backward(dout, given), want)


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (1, 2)], ids=str)
def test_the_first_of_equal_maxima_wins_a_wide_window(size, isa, dtype, rng):
    """Wherever it stands, in vectors or behind them; NaN before every number, zeros of either sign alike."""
    x = rng.standard_normal((1, 300, 4, 83)).clip(-1, 1).astype(dtype)
    plane = np.arange(300)
    for value in (2, np.nan):
        for start in (0, 100, 200):
            where = rng.integers(0, 4 * 83, (2, 100))
            x.reshape(300, -1)[plane[start : start + 100], where] = value
    x[0, :9] = -np.inf
    x[0, 9:20] = rng.choice([0.0, -0.0], (11, 4, 83))
    dout = np.ones((1, 300, *size))
    want, cache = naive.adaptive_max_pool_forward_naive(x, size)
    want_dx = naive.adaptive_max_pool_backward_naive(dout, cache)
    out, cache = cnnlib.adaptive_max_pool_forward(x, size)
    np.testing.assert_array_equal(out, want)
    np.testing.assert_array_equal(cnnlib.adaptive_max_pool_backward(dout.astype(dtype), cache), want_dx)


def test_the_first_of_equal_maxima_wins_a_window_of_very_many_rows(isa, dtype):
    """More of them than float32 counts exactly with room to spare: 2^20 are taken at a time."""
    rows, later = (1 << 20) + 9, (1 << 20) + 3
    x = np.zeros((1, 1, rows, 2), dtype)
    for places in (
        [(later, 1)],
        [(later, 1), (rows - 1, 0)],
        [(5, 1), (later, 0)],
        [(later - 4, 1), (later, 0)],
    ):
        for value in (1, np.nan):
            x[...] = 0
            for place in places:
                x[0, 0][place] = value
            out, cache = cnnlib.adaptive_max_pool_forward(x, 1)
            np.testing.assert_array_equal(out[0, 0], [[value]])
            dx = cnnlib.adaptive_max_pool_backward(np.ones_like(out), cache)
            assert np.argwhere(dx[0, 0]).tolist() == [list(places[0])]


def test_altered_winners_are_searched_again_or_take_no_gradient():
    x = np.arange(16.0).reshape(1, 1, 4, 4)
    dout = np.ones((1, 1, 2, 2))
    _, cache = cnnlib.adaptive_max_pool_forward(x, 2)
    want = cnnlib.adaptive_max_pool_backward(dout, cache)
    for winners in (None, 3, (), ((3, 3), cache.winners[1]), (cache.winners[0], "text")):
        cache.winners = winners
        np.testing.assert_array_equal(cnnlib.adaptive_max_pool_backward(dout, cache), want)
    for wrong in (-1, 16, 2**62, -(2**62)):
        cache.winners = (2, 2), np.full((1, 1, 2, 2), wrong)
        np.testing.assert_array_equal(cnnlib.adaptive_max_pool_backward(dout, cache), np.zeros_like(x))


def test_published_bilinear_rows(isa, dtype):
    """[1, 2] enlarged four times, as in the ONNX operator's description of both conventions."""
    x = np.array([1, 2], dtype).reshape(1, 1, 1, 2)
    halves, _ = cnnlib.upsample_forward(x, (1, 4), "bilinear")
    np.testing.assert_array_equal(halves.ravel(), [1, 1, 1.125, 1.375, 1.625, 1.875, 2, 2])
    corners, _ = cnnlib.upsample_forward(x, (1, 4), "bilinear", True)
    np.testing.assert_allclose(corners.ravel(), 1 + np.arange(8) / 7, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "rest"),
    [
        ("adaptive_avg_pool", ((3, 2),)),
        ("adaptive_max_pool", ((3, 2),)),
        *[("upsample", ((2, 3), *mode)) for mode in MODES],
    ],
)
def test_gradient_is_the_numerical_gradient(name, rest, isa, rng):
    (x,) = random_arrays(rng, (2, 2, 4, 5))
    forward = getattr(cnnlib, f"{name}_forward")
    out, cache = forward(x, *rest)
    (dout,) = random_arrays(rng, out.shape)
    numerical = eval_numerical_gradient_array(lambda x: forward(x, *rest)[0], x, dout)
    assert rel_error(getattr(cnnlib, f"{name}_backward")(dout, cache), numerical) < 1e-7


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_infinities_stay_where_they_are(mode, isa, dtype):
    """A pixel's neighbours by more than a pixel see nothing of it."""
    x = np.zeros((1, 1, 5, 40), dtype)
    x[0, 0, 2, 20] = np.inf
    out, _ = cnnlib.upsample_forward(x, 2, *mode)
    assert np.isinf(out[0, 0, 4, 40]) or np.isinf(out[0, 0, 5, 41])
    assert np.isfinite(out[0, 0, :, :37]).all()
    assert np.isfinite(out[0, 0, :, 45:]).all()


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 7, 1, 9), (3, 1, 17, 16)], ids=str)
def test_instancenorm_is_groupnorm_of_single_channels(shape, isa, dtype, rng):
    C = shape[1]
    x, gamma, beta, dout = (a.astype(dtype) for a in random_arrays(rng, shape, (C,), (C,), shape))
    out, cache = cnnlib.spatial_instancenorm_forward(x, gamma, beta, {"eps": 1e-3})
    want, want_cache = cnnlib.spatial_groupnorm_forward(x, gamma, beta, C, {"eps": 1e-3})
    np.testing.assert_array_equal(out, want)
    for got, grad in zip(
        cnnlib.spatial_instancenorm_backward(dout, cache),
        cnnlib.spatial_groupnorm_backward(dout, want_cache),
        strict=True,
    ):
        np.testing.assert_array_equal(got, grad)
    plain = (out - beta[:, None, None]) / gamma[:, None, None]
    np.testing.assert_allclose(plain.mean((2, 3)), 0, atol=1e-5)


def test_results_that_no_array_can_have_are_refused_in_an_empty_batch_too():
    for N in (0, 1):
        x = np.zeros((N, 3, 2, 2), np.float32)
        for name, word in (
            ("adaptive_avg_pool", "size"),
            ("adaptive_max_pool", "size"),
            ("upsample", "scale"),
        ):
            with pytest.raises(ValueError, match=rf"^{name}_forward: {word} .*too large"):
                getattr(cnnlib, f"{name}_forward")(x, 2**30 - 1)


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_an_empty_batch_lists_no_places(mode, dtype):
    """Of results of any size: the list takes memory for each row and column."""
    x = np.zeros((0, 1, 1, 1), dtype)
    (out, cache), forward = scratch_of(cnnlib.upsample_forward, x, 10_000, *mode)
    dx, backward = scratch_of(cnnlib.upsample_backward, out, cache)
    assert (out.shape, dx.shape) == ((0, 1, 10_000, 10_000), x.shape)
    assert (forward, backward) == (0, 0)
