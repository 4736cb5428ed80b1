"""Activations and softmax: the loops, the accuracy of exponentials, limits, and bits that stand alone."""

import math

import cnnlib
import numpy as np
import pytest
from cnnlib import naive
from cnnlib.gradient_check import eval_numerical_gradient_array
from helpers import assert_close, pair, random_arrays

pytestmark = [pytest.mark.sets, pytest.mark.smoke]

SIMPLE = ("relu6", "sigmoid", "tanh", "silu", "hard_sigmoid", "hard_swish")
CALLS = {
    **{name: (name, ()) for name in SIMPLE},
    "gelu": ("gelu", ()),
    "gelu tanh": ("gelu", ("tanh",)),
    "elu": ("elu", ()),
    "elu 0.3": ("elu", (0.3,)),
    "elu -2": ("elu", (-2,)),
}
every_call = pytest.mark.parametrize(("name", "rest"), CALLS.values(), ids=CALLS)


@every_call
@pytest.mark.parametrize("scale", [1, 6, 60])
def test_matches_naive(name, rest, scale, isa, dtype, rng):
    (forward, backward), (naive_forward, naive_backward) = pair(name), pair(name, naive)
    for shape in ((1,), (17,), (2, 3, 4, 5), (3, 33), (0, 4), ()):
        x, dout = random_arrays(rng, shape, shape)
        x = np.asarray(np.float32(x * scale), np.float64)
        want, naive_cache = naive_forward(x, *rest)
        out, cache = forward(x.astype(dtype), *rest)
        assert_close(out, want, dtype, scale=1.0)
        want_dx = naive_backward(dout, naive_cache)
        assert_close(backward(dout.astype(dtype), cache), want_dx, dtype, scale=1.0)


@every_call
def test_gradient_is_the_numerical_gradient(name, rest, isa, rng):
    (dout,) = random_arrays(rng, (60,))
    x = np.linspace(-7.03, 7.01, 60)  # clear of the kinks at -3, 0, 3 and 6
    forward, backward = pair(name)
    numerical = eval_numerical_gradient_array(lambda x: forward(x, *rest)[0], x, dout)
    analytic = backward(dout, forward(x, *rest)[1])
    np.testing.assert_allclose(analytic, numerical, rtol=0, atol=2e-9)


def test_values_at_the_kinks(isa, dtype):
    x = np.array([-4, -3, 0, 3, 4, 6, 7], dtype)
    ones = np.ones_like(x)
    for name, out, dx in [
        ("relu6", [0, 0, 0, 3, 4, 6, 6], [0, 0, 0, 1, 1, 0, 0]),
        ("hard_sigmoid", [0, 0, 1 / 2, 1, 1, 1, 1], [0, 0, 1 / 6, 0, 0, 0, 0]),
        ("hard_swish", [0, 0, 0, 3, 4, 6, 7], [0, 0, 1 / 2, 1, 1, 1, 1]),
        ("elu", [math.expm1(-4), math.expm1(-3), 0, 3, 4, 6, 7], [math.exp(-4), math.exp(-3), *[1] * 5]),
    ]:
        forward, backward = pair(name)
        got, cache = forward(x)
        np.testing.assert_allclose(got, out, rtol=1e-6, err_msg=name)
        np.testing.assert_allclose(backward(ones, cache), dx, rtol=1e-6, err_msg=name)


def test_published_values_of_gelu(isa):
    """P(1) and P(2) to 15 digits, from the table of the normal distribution."""
    out, _ = cnnlib.gelu_forward(np.array([1.0, -1.0, 2.0, -2.0]))
    tails = np.array([0.158655253931457, 0.022750131948179])
    want = [1 - tails[0], -tails[0], 2 - 2 * tails[1], -2 * tails[1]]
    np.testing.assert_allclose(out, want, rtol=1e-13)


# Accuracy, in units in the last place of the result. The references are the system's, in np.longdouble or,
# for erfc, in float64, which itself may be off by one.

LN_2 = math.log(2)


def _logistic(x):
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


def _erfc(x):
    return np.array([math.erfc(v) for v in x.astype(np.float64)], np.longdouble)


REFERENCES = {
    "sigmoid": (_logistic, 4),
    "tanh": (np.tanh, 4),
    "silu": (lambda x: x * _logistic(x), 5),
    "gelu": (lambda x: x * _erfc(-x / np.sqrt(np.longdouble(2))) / 2, 14),
    "elu": (lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))), 2),
}


def samples(rng, dtype):
    """Numbers of all sizes that matter, multiples of log(2) / 2, where an exponent changes, among them."""
    x = np.concatenate(
        [
            rng.uniform(-12, 12, 20000),
            np.ldexp(rng.uniform(-1, 1, 4000), rng.integers(-60, 3, 4000)),
            np.arange(-30, 31) * LN_2 / 2,
        ]
    )
    return x.astype(dtype)


@pytest.mark.parametrize("name", REFERENCES)
def test_errors_in_units_in_the_last_place(name, isa, dtype, rng):
    function, bound = REFERENCES[name]
    x = samples(rng, dtype)
    if name == "gelu":  # the reference rounds its argument, which counts |x|^2 times in the tail
        x = x[x > (-12 if dtype == np.float32 else -3)]
    want = function(x.astype(np.longdouble))
    out, _ = getattr(cnnlib, f"{name}_forward")(x)
    units = np.abs(out - want) / np.spacing(np.abs(want).astype(dtype))
    assert np.max(units) <= bound, f"{np.max(units)} at {x[np.argmax(units)]}"


@pytest.mark.parametrize("kind", ["none", "tanh"])
def test_errors_of_gelu_relative_to_x(kind, isa, dtype, rng):
    x = samples(rng, dtype)
    exact, _ = naive.gelu_forward_naive(x.astype(np.float64), kind)
    out, _ = cnnlib.gelu_forward(x, kind)
    assert np.all(np.abs(out - exact) <= 4 * np.finfo(dtype).eps * np.abs(x.astype(np.float64)))


def test_tails_down_to_the_smallest_numbers(isa, dtype):
    """Where e^x is a denormal number it still has the right ones, and 0 only below half of the smallest."""
    smallest = np.finfo(dtype).smallest_subnormal
    last = np.log(np.longdouble(smallest))
    x = np.linspace(last - 3, last + 30, 500).astype(dtype)
    x = x[np.abs(x - (last - LN_2)) > 1e-3 * LN_2]  # clear of the tie
    want = np.exp(x.astype(np.longdouble))
    out, cache = cnnlib.sigmoid_forward(x)
    dx = cnnlib.sigmoid_backward(np.ones_like(x), cache)
    for got in (out, dx):
        assert np.all(np.abs(got - want) <= 0.51 * smallest + 4 * np.finfo(dtype).eps * want)
    silu, _ = cnnlib.silu_forward(x)
    assert np.all(np.abs(silu - x * want) <= np.abs(x) * (0.52 * smallest + 4 * np.finfo(dtype).eps * want))
    assert out[-1] > 0
    assert out[0] == 0


def test_denormal_numbers_pass(isa, dtype):
    x = np.array([1, -1, 3, -7], dtype) * np.finfo(dtype).smallest_subnormal
    for name in ("tanh", "elu"):
        out, cache = getattr(cnnlib, f"{name}_forward")(x)
        np.testing.assert_array_equal(out, x)
        np.testing.assert_array_equal(getattr(cnnlib, f"{name}_backward")(x, cache), x)


# For minus infinity, minus the largest number, its plus, infinity: (values, slopes).
LIMITS = {
    "relu6": ([0, 0, 6, 6], [0, 0, 0, 0]),
    "sigmoid": ([0, 0, 1, 1], [0, 0, 0, 0]),
    "tanh": ([-1, -1, 1, 1], [0, 0, 0, 0]),
    "hard_sigmoid": ([0, 0, 1, 1], [0, 0, 0, 0]),
    "elu": ([-1, -1, np.nan, np.nan], [0, 0, 1, 1]),
    "elu 0.3": ([-0.3, -0.3, np.nan, np.nan], [0, 0, 1, 1]),
    "elu -2": ([2, 2, np.nan, np.nan], [0, 0, 1, 1]),
    **dict.fromkeys(("silu", "gelu", "gelu tanh", "hard_swish"), ([0, 0, np.nan, np.nan], [0, 0, 1, 1])),
}


@pytest.mark.parametrize("call", CALLS)
def test_limits(call, isa, dtype):
    """Where the table has NaN, out is x."""
    name, rest = CALLS[call]
    most = np.finfo(dtype).max
    x = np.array([-np.inf, -most, most, np.inf], dtype)
    values, slopes = (np.array(side, dtype) for side in LIMITS[call])
    for forward, backward in (pair(name), pair(name, naive)):
        out, cache = forward(x, *rest)
        np.testing.assert_array_equal(out, np.where(np.isnan(values), x, values))
        np.testing.assert_array_equal(backward(np.ones_like(x), cache), slopes)


@pytest.mark.parametrize("call", CALLS)
def test_nan_is_never_lost(call, isa, dtype):
    """Of each lane of a vector, and of dout where the slope is not 0 because it is a constant piece."""
    name, rest = CALLS[call]
    forward, backward = pair(name)
    x = np.full(37, 0.7, dtype)
    good, cache = forward(x, *rest)
    good_dx = backward(np.ones_like(x), cache)
    for i in range(37):
        x[i] = np.nan
        out, cache = forward(x, *rest)
        dx = backward(np.ones_like(x), cache)
        assert np.isnan(out[i])
        x[i], out[i], dx[i] = 0.7, good[i], good_dx[i]
        np.testing.assert_array_equal(out, good)
        np.testing.assert_array_equal(dx, good_dx)
        dout = np.ones_like(x)
        dout[i] = np.nan
        assert np.isnan(backward(dout, forward(x, *rest)[1])).nonzero()[0].tolist() == [i]


@pytest.mark.parametrize("call", CALLS)
def test_each_element_has_bits_of_its_own(call, isa, dtype, rng):
    """Wherever it stands: in a whole vector or at the end of a loop."""
    name, rest = CALLS[call]
    forward, backward = pair(name)
    x = (4 * rng.standard_normal(67)).astype(dtype)
    dout = rng.standard_normal(67).astype(dtype)
    out, cache = forward(x, *rest)
    dx = backward(dout, cache)
    for i in range(67):
        alone, cache = forward(x[i : i + 1], *rest)
        assert alone[0] == out[i]
        assert backward(dout[i : i + 1], cache)[0] == dx[i]


# Sigmoid, tanh and softmax keep a copy of their result.

FROM_RESULT = ("sigmoid", "tanh", "softmax")
LARGE = {  # some 10 MB in float32: written past the caches, where vectors are aligned
    "sigmoid": (9_000_007,),  # in float64 with the result, on every processor
    "tanh": (3, 900_001),
    "softmax of rows": (3, 900_001),
    "softmax of aligned planes": (2, 17, 256, 256),
    "softmax of other planes": (2, 17, 255, 257),
}


def assert_kept(layer, x):
    out, cache = getattr(cnnlib, f"{layer}_forward")(x)
    assert not np.shares_memory(out, cache)
    assert np.array_equal(cache, out)
    return out


@pytest.mark.parametrize("layer", FROM_RESULT)
def test_the_cache_is_a_copy_of_the_result(layer, isa, dtype, rng):
    for shape in ((1, 1), (3, 37), (2, 5, 3, 4), (2, 3, 8, 33), (0, 4)):
        assert_kept(layer, rng.standard_normal(shape).astype(dtype))


@pytest.mark.parametrize("call", LARGE)
def test_large_copies(call, isa, dtype, rng):
    layer = call.split()[0]
    few = rng.standard_normal(10_007).astype(dtype)
    x = np.resize(few, LARGE[call])
    out, close = assert_kept(layer, x), {"rtol": 64 * np.finfo(dtype).eps}
    if layer == "softmax":
        np.testing.assert_allclose(out, naive.softmax_forward_naive(x)[0], **close)
    else:  # of each element by itself
        np.testing.assert_allclose(out.flat[: few.size], pair(layer, naive)[0](few)[0], **close)
        assert np.array_equal(out, np.resize(out.flat[: few.size], out.shape))


@pytest.mark.parametrize(
    ("layer", "slope"), [("sigmoid", lambda y: y * (1 - y)), ("tanh", lambda y: (1 - y) * (1 + y))]
)
def test_slopes_are_as_exact_as_the_result_allows(layer, slope, isa, dtype, rng):
    """Also beside 1, where 1 - y * y loses what y * y is rounded by."""
    forward, backward = pair(layer)
    out, cache = forward(samples(rng, dtype))
    want = slope(out.astype(np.longdouble))
    dx = backward(np.ones_like(out), cache)
    assert np.all(np.abs(dx - want) <= 2 * np.finfo(dtype).eps * want)


@pytest.mark.parametrize("layer", FROM_RESULT)
def test_half_precision_copies(layer, rng):
    x = rng.standard_normal((3, 5)).astype(np.float16)
    out, cache = getattr(cnnlib, f"{layer}_forward")(x)
    assert out.dtype == cache.dtype == np.float16
    np.testing.assert_array_equal(cache, out)


# Softmax

SOFTMAX_SHAPES = [
    (1, 1),
    (3, 5),
    (2, 17),
    (500, 10),
    (97, 23),
    (5, 32),
    (9, 64),
    (4, 1000),
    (2, 5000),
    (2, 3, 4, 5),
    (1, 70, 9, 17),
    (2, 131, 25, 45),
    (2, 6, 16, 16),
    (2, 5, 1),
    (2, 4, 3, 2, 2),
]


@pytest.mark.parametrize("shape", SOFTMAX_SHAPES, ids=str)
def test_softmax_matches_naive(shape, isa, dtype, rng):
    x, dout = random_arrays(rng, shape, shape)
    x *= 4
    want, naive_cache = naive.softmax_forward_naive(x)
    out, cache = cnnlib.softmax_forward(x.astype(dtype))
    assert_close(out, want, dtype, tolerance=16 * np.finfo(dtype).eps)
    np.testing.assert_allclose(out, want, rtol=32 * np.finfo(dtype).eps)
    np.testing.assert_allclose(
        out.sum(axis=1, dtype=np.float64), 1, rtol=1e-6 if dtype == np.float32 else 1e-14
    )
    want_dx = naive.softmax_backward_naive(dout, naive_cache)
    assert_close(cnnlib.softmax_backward(dout.astype(dtype), cache), want_dx, dtype)


@pytest.mark.parametrize("pixels", [(), (3, 7)], ids=["rows", "images"])
def test_softmax_of_extreme_scores(pixels, isa, dtype):
    """Any constant may be added to the scores; minus infinity has probability 0; the rest is NaN."""

    def out_of(*scores):
        x = np.zeros((2, len(scores), *pixels), dtype)
        x[1] = np.array(scores, dtype).reshape(-1, *[1] * len(pixels))
        out, cache = cnnlib.softmax_forward(x)
        np.testing.assert_allclose(out[0], 1 / len(scores), rtol=1e-6)
        dx = cnnlib.softmax_backward(np.ones_like(x), cache)
        np.testing.assert_allclose(dx[0], 0, atol=1e-6)
        assert np.isnan(dx[1]).all() == np.isnan(out[1]).all()
        assert (
            out[1] == out[1].reshape(len(scores), -1)[:, :1].reshape(-1, *[1] * len(pixels))
        ).all() or np.isnan(out[1]).all()
        return out[1].reshape(len(scores), -1)[:, 0]

    most = np.finfo(dtype).max
    quarter, half = np.full(4, 0.25), np.full(2, 0.5)
    np.testing.assert_allclose(out_of(*[1e4] * 4), quarter, rtol=1e-6)
    np.testing.assert_allclose(out_of(*[-1e4] * 4), quarter, rtol=1e-6)
    np.testing.assert_array_equal(out_of(most, -most, most), [0.5, 0, 0.5])
    np.testing.assert_array_equal(out_of(0, -np.inf, 0), [*half[:1], 0, *half[1:]])
    for scores in (
        (0, np.nan, 1),
        (np.nan, 0, 1),
        (0, np.inf, 1),
        (-np.inf, -np.inf),
        (np.nan,),
        (*[0] * 40, np.nan),
    ):
        assert np.isnan(out_of(*scores)).all()


def test_softmax_refuses_scores_of_one_axis_or_none():
    for forward in (cnnlib.softmax_forward, naive.softmax_forward_naive):
        for shape in ((), (3,), (3, 0), (2, 3, 0, 4)):
            with pytest.raises(ValueError, match=rf"{forward.__name__}: x must be \(N, C\)"):
                forward(np.zeros(shape))
