import functools
import time

import cnnlib
import numpy as np
import pytest
from cnnlib import max_pool_backward, max_pool_forward, naive
from cnnlib.naive import max_pool_backward_naive, max_pool_forward_naive
from helpers import PoolCase, assert_close, random_arrays

pytestmark = [pytest.mark.sets, pytest.mark.smoke, pytest.mark.windows, pytest.mark.core]

Case = PoolCase

CASES = [
    # windows that tile the image, also one of several shapes
    Case((2, 3, 8, 8), (2, 2), stride=2),
    Case((2, 3, 8, 6), (2, 2)),
    Case((2, 3, 9, 6), (3, 2)),
    Case((2, 3, 9, 8), (3, 4), stride=(3, 4)),
    Case((2, 3, 12, 15), (4, 5)),
    Case((2, 2, 36, 16), (18, 16)),
    Case((2, 2, 15, 16), (15, 8)),
    Case((2, 3, 7, 5), (1, 1)),
    Case((2, 3, 7, 5), (1, 1), stride=2),
    # windows that leave a rest, or gaps between them
    Case((2, 3, 9, 7), (2, 2), stride=2),
    Case((2, 3, 10, 11), (3, 3), stride=4),
    Case((2, 3, 10, 11), (2, 3), stride=(5, 4)),
    Case((2, 3, 5, 5), (2, 2), stride=9),
    # overlapping windows
    Case((2, 3, 7, 8), (2, 2), stride=1),
    Case((2, 3, 13, 13), (3, 3), stride=2),
    Case((2, 3, 9, 8), (5, 4), stride=(1, 2)),
    Case((2, 3, 9, 8), (4, 5), stride=(3, 1)),
    # small and large
    Case((0, 3, 4, 4), (2, 2)),
    Case((1, 1, 1, 1), (1, 1)),
    Case((1, 1, 1, 1), (3, 3), stride=1, pad=1),
    Case((2, 2, 5, 4), (5, 4)),
    Case((2, 2, 1, 9), (1, 3), stride=1),
    Case((2, 2, 9, 1), (3, 1), stride=1),
    Case((2, 31, 4, 4), (2, 2)),
    Case((17, 1, 4, 5), (2, 2), stride=1),
    Case((1, 2, 40, 37), (2, 2)),
    Case((1, 2, 37, 40), (3, 3), stride=2, pad=1),
    Case((1, 2, 3, 130), (2, 2), stride=1),
    Case((1, 2, 20, 20), (17, 18), stride=1),
    # padding, up to the window's size minus one
    Case((2, 3, 8, 8), (3, 3), stride=2, pad=1),
    Case((2, 3, 8, 7), (3, 4), stride=1, pad=(2, 3)),
    Case((2, 3, 8, 7), (3, 2), stride=2, pad=(1, 0)),
    Case((2, 3, 6, 7), (3, 3), stride=2, pad=((0, 1), (2, 1))),
    Case((2, 3, 6, 7), (3, 3), stride=1, pad="same"),
    Case((2, 3, 6, 7), (2, 2), stride=1, pad="same"),
    Case((2, 3, 6, 7), (3, 2), stride=2, pad="same"),
    Case((2, 3, 7, 8), (2, 5), stride=3, pad="same"),
    Case((2, 3, 6, 7), (3, 3), stride=2, pad="valid"),
    # ceil_mode
    Case((2, 3, 8, 8), (3, 3), stride=2, ceil_mode=True),
    Case((2, 3, 8, 7), (2, 2), stride=2, ceil_mode=True),
    Case((2, 3, 7, 10), (3, 2), stride=(3, 4), pad=1, ceil_mode=True),
    Case(
        (2, 3, 6, 5), (2, 2), stride=3, pad=1, ceil_mode=True
    ),  # a window that would start in the right padding
    Case((2, 3, 4, 4), (1, 1), stride=3, ceil_mode=True),
    Case((2, 3, 5, 5), (3, 3), stride=5, pad=((2, 2), (0, 2)), ceil_mode=True),
    Case((2, 3, 7, 7), (3, 3), stride=2, pad="same", ceil_mode=True),
    # dilation
    Case((2, 3, 9, 9), (2, 2), stride=2, dilation=2),
    Case((2, 3, 9, 8), (3, 2), stride=1, dilation=(2, 3), pad=(1, 1)),
    Case((2, 3, 9, 8), (3, 3), stride=(2, 1), dilation=2, pad=1, ceil_mode=True),
    Case((2, 3, 9, 8), (2, 3), dilation=(3, 1)),
    Case((2, 3, 9, 8), (3, 3), stride=2, dilation=2, pad="same"),
    # rows, windows and dilations that are cut
    Case((1, 2, 3, 1500), (3, 5), stride=(2, 3), pad=1),
    Case((1, 1, 3, 70000), (2, 66000), stride=(1, 1500)),
    Case((1, 1, 2, 140000), (2, 3), stride=(1, 4000), dilation=(1, 66000), pad=(1, 0)),
]

# Few values, so that most windows hold their maximum more than once.
TIES = ["distinct", "ties"]


@functools.cache
def reference(case, values):
    """x, dout, and what the loops make of them: out, dx."""
    rng = np.random.default_rng(list(f"{case} {values}".encode()))
    (x,) = random_arrays(rng, case.x)
    if values == "ties":
        x = np.round(x / 2)
    out, cache = max_pool_forward_naive(x, case.pool_param)
    (dout,) = random_arrays(rng, out.shape)
    return x, dout, out, max_pool_backward_naive(dout, cache)


@pytest.mark.parametrize("values", TIES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_matches_naive(case, values, isa, dtype):
    x, dout, want, want_dx = reference(case, values)
    out, cache = max_pool_forward(x.astype(dtype), case.pool_param)
    assert_close(out, want, dtype, tolerance=0)
    for given in (cache, tuple(cache)):  # with the winners that it remembers, and without
        assert_close(max_pool_backward(dout.astype(dtype), given), want_dx, dtype)


def random_case(rng):
    """x with ties, zeros of either sign, infinities or NaN, and a pool of any window that fits it."""
    few = rng.choice([3, 12])
    height, width = rng.integers(1, few + 1, 2)
    dilation = rng.choice([1, 1, 2, 3], 2)
    tall, wide = (height - 1) * dilation[0] + 1, (width - 1) * dilation[1] + 1
    pads = [tuple(int(p) for p in rng.integers(0, rng.choice([1, size]), 2)) for size in (tall, wide)]
    H = max(1, tall - sum(pads[0])) + int(rng.integers(20))
    W = max(1, wide - sum(pads[1])) + int(rng.integers(rng.choice([20, 60, 600])))
    shape = (int(rng.integers(1, 4)), int(rng.integers(1, 4)), H, W) if W < 60 else (1, 1, H, W)
    stride = tuple(int(rng.choice([1, 2, size, rng.integers(1, 9)])) for size in (height, width))
    pool = (int(height), int(width))
    case = Case(shape, pool, stride, tuple(pads), tuple(map(int, dilation)), bool(rng.integers(2)))
    numbers = rng.choice(
        [0.0, -0.0, -1.0, 1.0, -np.inf, np.inf, np.nan], shape, p=rng.dirichlet(np.ones(7) / 3)
    )
    return case, np.where(
        rng.random(shape) < rng.choice([0, 0.3, 1]), numbers, np.round(rng.standard_normal(shape), 1)
    )


@functools.cache
def random_references(seed):
    rng = np.random.default_rng([seed, 17])
    references = []
    for _ in range(60):
        case, x = random_case(rng)
        x = x.astype(np.float32).astype(np.float64)
        out, cache = max_pool_forward_naive(x, case.pool_param)
        dout = rng.integers(-4, 5, out.shape).astype(np.float64)
        references.append((case, x, dout, out, max_pool_backward_naive(dout, cache)))
    return references


@pytest.mark.parametrize("seed", range(3))
def test_random_windows_match_naive_exactly(seed, isa, dtype):
    """Values and winners: whole numbers in dout add up without an error."""
    for case, x, dout, want, want_dx in random_references(seed):
        out, cache = max_pool_forward(x.astype(dtype), case.pool_param)
        np.testing.assert_array_equal(out, want.astype(dtype), err_msg=str(case))
        dx = max_pool_backward(dout.astype(dtype), cache)
        np.testing.assert_array_equal(dx, want_dx.astype(dtype), err_msg=str(case))


WIDTHS = [*range(2, 21), *range(30, 36), 47, *range(62, 68)]
WINDOWS = {
    "tiles": {"pool": (2, 2)},
    "tiles_ceil": {"pool": (2, 2), "ceil_mode": True},
    "2x2_pad": {"pool": (2, 2), "stride": 2, "pad": 1},
    "3x3": {"pool": (3, 3), "stride": 2},
    "3x3_pad": {"pool": (3, 3), "stride": 2, "pad": 1},
    "3x3_ceil": {"pool": (3, 3), "stride": 2, "pad": 1, "ceil_mode": True},
    "3x3_same": {"pool": (3, 3), "stride": 2, "pad": "same"},
    "2x3": {"pool": (2, 3), "stride": 2, "pad": (0, 1)},
    "3x2": {"pool": (3, 2), "stride": 2, "pad": (2, 1)},
    "close": {"pool": (3, 3), "stride": 1, "pad": 1},
}


@pytest.mark.parametrize("window", WINDOWS)
def test_rows_of_any_length(window, isa, dtype):
    """Whole vectors, their ends, and what they leave over, for several planes one behind the other."""
    for W in WIDTHS:
        for H in (3, 6, 7):
            case = Case((1, 3, H, max(W, 3)), **WINDOWS[window])
            x, dout, want, want_dx = reference(case, "ties")
            out, cache = max_pool_forward(x.astype(dtype), case.pool_param)
            np.testing.assert_array_equal(out, want.astype(dtype), err_msg=str(case))
            assert_close(max_pool_backward(dout.astype(dtype), cache), want_dx, dtype)


def test_first_of_equal_maxima_gets_the_gradient(isa, dtype):
    x = np.array([[1, 5, 5, 2], [5, 5, 0, 5], [0, 0, 0, 0], [0, 0, 0, 0]], dtype).reshape(1, 1, 4, 4)
    _, cache = max_pool_forward(x, {"pool_height": 2, "pool_width": 2, "stride": 2})
    dx = max_pool_backward(np.array([[1, 2], [3, 4]], dtype).reshape(1, 1, 2, 2), cache)
    want = [[0, 1, 2, 0], [0, 0, 0, 0], [3, 0, 4, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(dx[0, 0], want)


def test_signed_zeros_are_equal(isa, dtype):
    x = np.array([-0.0, 0.0, 0.0, -0.0], dtype).reshape(1, 1, 2, 2)
    _, cache = max_pool_forward(x, {"pool_height": 2, "pool_width": 2})
    dx = max_pool_backward(np.ones((1, 1, 1, 1), dtype), cache)
    np.testing.assert_array_equal(dx.ravel(), [1, 0, 0, 0])


def test_overlapping_windows_add_up(isa, dtype):
    x = np.array([[0, 0, 0], [0, 9, 0], [0, 0, 0]], dtype).reshape(1, 1, 3, 3)
    _, cache = max_pool_forward(x, {"pool_height": 2, "pool_width": 2, "stride": 1})
    dx = max_pool_backward(np.array([[1, 2], [4, 8]], dtype).reshape(1, 1, 2, 2), cache)
    np.testing.assert_array_equal(dx[0, 0], [[0, 0, 0], [0, 15, 0], [0, 0, 0]])


def test_padding_is_minus_infinity_and_gets_no_gradient(isa, dtype):
    x = np.full((1, 1, 2, 2), -5, dtype)
    x[0, 0, 0, 0] = -np.inf
    out, cache = max_pool_forward(x, {"pool_height": 2, "pool_width": 2, "stride": 2, "pad": 1})
    np.testing.assert_array_equal(out[0, 0], [[-np.inf, -5], [-5, -5]])
    dx = max_pool_backward(np.array([[1, 2], [3, 4]], dtype).reshape(1, 1, 2, 2), cache)
    np.testing.assert_array_equal(dx[0, 0], [[1, 2], [3, 4]])


@pytest.mark.parametrize("others", [0.0, np.inf], ids=["finite", "infinite"])
def test_nan_wins_its_window(others, isa, dtype):
    for position in range(9):
        x = np.full((1, 1, 3, 3), others, dtype)
        x.ravel()[position] = np.nan
        out, cache = max_pool_forward(x, {"pool_height": 3, "pool_width": 3})
        assert np.isnan(out).all()
        dx = max_pool_backward(np.ones((1, 1, 1, 1), dtype), cache)
        np.testing.assert_array_equal(np.flatnonzero(dx), [position])


def test_first_of_several_nan_gets_the_gradient(isa, dtype):
    x = np.array([[1, np.nan, 2], [np.nan, np.inf, 3], [4, 5, np.nan]], dtype).reshape(1, 1, 3, 3)
    for pool_param in ({"pool_height": 3, "pool_width": 3}, {"pool_height": 2, "pool_width": 2, "stride": 1}):
        _, cache = max_pool_forward(x, pool_param)
        dout = np.ones_like(cache[0][:, :, : 4 - pool_param["pool_height"], : 4 - pool_param["pool_width"]])
        want = max_pool_backward_naive(dout, cache)
        np.testing.assert_array_equal(max_pool_backward(dout, cache), want)
        np.testing.assert_array_equal(max_pool_backward(dout, tuple(cache)), want)


def test_windows_wider_than_a_byte_can_count(isa, dtype, rng):
    """The winner of a 20 x 20 window may stand at a place beyond 255."""
    (x,) = random_arrays(rng, (1, 1, 21, 40))
    x[0, 0, 19, 19] = x[0, 0, 20, 39] = 100
    pool_param = {"pool_height": 20, "pool_width": 20, "stride": (1, 20)}
    out, cache = max_pool_forward(x.astype(dtype), pool_param)
    want, naive_cache = max_pool_forward_naive(x, pool_param)
    assert_close(out, want, dtype, tolerance=0)
    dout = np.arange(1.0, 5.0).reshape(1, 1, 2, 2)
    assert_close(
        max_pool_backward(dout.astype(dtype), cache), max_pool_backward_naive(dout, naive_cache), dtype
    )


def test_nan_in_dout_reaches_dx(isa, dtype):
    x = np.arange(16, dtype=dtype).reshape(1, 1, 4, 4)
    _, cache = max_pool_forward(x, {"pool_height": 2, "pool_width": 2})
    dout = np.array([[np.nan, 1], [np.inf, 2]], dtype).reshape(1, 1, 2, 2)
    dx = max_pool_backward(dout, cache)
    np.testing.assert_array_equal(
        dx[0, 0], [[0, 0, 0, 0], [0, np.nan, 0, 1], [0, 0, 0, 0], [0, np.inf, 0, 2]]
    )


@pytest.mark.parametrize("name", ["max_pool", "avg_pool"])
def test_strides_far_beyond_the_image_take_no_longer(name, isa, dtype, rng):
    (x,) = random_arrays(rng, (1, 2, 5, 40))
    pool_param = {"pool_height": 2, "pool_width": 2, "stride": (2**31 - 1, 2)}
    _, cache = getattr(cnnlib, f"{name}_forward")(x.astype(dtype), pool_param)
    (dout,) = random_arrays(rng, (1, 2, 1, 20))
    start = time.process_time()
    dx = getattr(cnnlib, f"{name}_backward")(dout.astype(dtype), cache)
    assert time.process_time() - start < 1  # row by row it would be half a minute
    assert_close(dx, getattr(naive, f"{name}_backward_naive")(dout, (x, pool_param)), dtype)
