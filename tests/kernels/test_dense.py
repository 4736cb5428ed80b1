"""Affine, relu and dropout."""

import functools

import numpy as np
import pytest
from cnnlib import (
    affine_backward,
    affine_forward,
    affine_relu_forward,
    dropout_backward,
    dropout_forward,
    relu_backward,
    relu_forward,
)
from cnnlib.naive import (
    affine_backward_naive,
    affine_forward_naive,
    dropout_backward_naive,
    dropout_forward_naive,
    relu_backward_naive,
    relu_forward_naive,
)
from helpers import assert_all_close, assert_close, cast, random_arrays

pytestmark = [pytest.mark.sets, pytest.mark.smoke, pytest.mark.windows, pytest.mark.core]

# Shape of x, M
AFFINE_CASES = [
    ((3, 4), 5),
    ((1, 1), 1),
    ((1, 7), 3),
    ((7, 1), 3),
    ((5, 9), 1),
    ((2, 3, 4, 5), 6),
    ((2, 1, 1, 1), 2),
    ((4, 2, 3), 13),
    ((0, 4), 3),
    ((0, 2, 3), 4),
    ((13, 14), 15),
    ((16, 17), 29),
    ((31, 33), 16),
    ((33, 31), 70),
    ((70, 5), 67),
    ((2, 1500), 3),
    ((3, 4), 300),
    ((150, 3), 4),
    ((1, 1100), 530),
    ((2, 700), 67),
    ((3, 530), 131),
    ((4, 2, 35), 66),
    ((4, 610), 450),
    ((610, 3), 450),
    ((700, 40), 390),
]
# Lengths on both sides of every vector.
LENGTHS = [0, 1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 33, 64, 70]


@functools.cache
def affine_reference(shape, M):
    rng = np.random.default_rng([*shape, M])
    N, D = shape[0], int(np.prod(shape[1:]))
    x, w, b, dout = random_arrays(rng, shape, (D, M), (M,), (N, M))
    if N * M < 5000:
        out, cache = affine_forward_naive(x, w, b)
        return x, w, b, dout, out, affine_backward_naive(dout, cache)
    rows = x.reshape(N, D)  # where the loops would take a second
    gradients = (dout @ w.T).reshape(shape), rows.T @ dout, dout.sum(axis=0)
    return x, w, b, dout, rows @ w + b, gradients


@pytest.mark.parametrize(("shape", "M"), AFFINE_CASES, ids=str)
def test_affine_matches_naive(shape, M, isa, dtype):
    x, w, b, dout, want, want_gradients = affine_reference(shape, M)
    out, cache = affine_forward(*cast((x, w, b), dtype))
    assert_close(out, want, dtype)
    assert_all_close(affine_backward(dout.astype(dtype), cache), want_gradients, dtype)


@pytest.mark.parametrize("N", [7, 40, 130])
@pytest.mark.parametrize("M", [3600, 3613])
def test_weights_that_no_cache_holds(N, M, isa, dtype, rng, num_threads):
    """More than eight megabytes, by strips of panels, of which the last ones are not whole."""
    x, w, b = (rng.standard_normal(shape).astype(dtype) for shape in ((N, 600), (600, M), (M,)))
    out, _ = affine_forward(x, w, b)
    assert_close(out, x.astype(np.float64) @ w.astype(np.float64) + b, dtype)
    num_threads(3)
    np.testing.assert_array_equal(affine_forward(x, w, b)[0], out)


@pytest.mark.parametrize("shape", [(3, 4), (0, 4), (2, 3, 5)], ids=str)
def test_affine_without_bias(shape, isa, dtype):
    x, w, b, dout, want, (dx, dw, _) = affine_reference(shape, 6)
    out, cache = affine_forward(*cast((x, w), dtype), None)
    assert_close(out, want - b, dtype)
    assert_all_close(affine_backward(dout.astype(dtype), cache), (dx, dw, None), dtype)


@pytest.mark.parametrize(("shape", "M"), [((1, 1100), 530), ((610, 3), 450), ((40, 70), 66)], ids=str)
def test_fused_relu_cuts_off_the_same_values(shape, M, isa, dtype):
    x, w, b, *_ = affine_reference(shape, M)
    arrays = cast((x, w, b), dtype)
    want = np.maximum(affine_forward(*arrays)[0], 0)
    assert 0.3 < np.mean(want > 0) < 0.7
    assert affine_relu_forward(*arrays)[0].tobytes() == want.tobytes()


@pytest.mark.parametrize(("N", "D", "M"), [(1, 600, 130), (3, 70, 200), (65, 90, 33), (2, 5, 1), (0, 4, 3)])
def test_weights_that_are_a_transposed_view_are_used_where_they_lie(N, D, M, isa, dtype, rng):
    x, transposed, b, dout = cast(random_arrays(rng, (N, D), (M, D), (M,), (N, M)), dtype)
    view, copy = transposed.T, np.ascontiguousarray(transposed.T)
    out, cache = affine_forward(x, view, b)
    want, want_cache = affine_forward(x, copy, b)
    assert out.tobytes() == want.tobytes()
    for grad, wanted in zip(affine_backward(dout, cache), affine_backward(dout, want_cache), strict=True):
        assert_close(grad, wanted, dtype)
        assert grad.flags.c_contiguous
    with pytest.raises(ValueError, match=rf"affine_forward: .* w is \({D}, {M}\)"):
        affine_forward(x[:, 1:] if D > 1 else x, view, b)


def test_relu_matches_naive(isa, dtype, rng):
    for length in LENGTHS:
        x, dout = cast(random_arrays(rng, (length,), (length,)), dtype)
        out, cache = relu_forward(x)
        assert_close(out, relu_forward_naive(x)[0], dtype, tolerance=0)
        assert_close(relu_backward(dout, cache), relu_backward_naive(dout, x), dtype, tolerance=0)
        np.testing.assert_array_equal(cache, x)
        assert_close(relu_backward(dout, x), relu_backward_naive(dout, cache), dtype, tolerance=0)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (3, 4), (), (2, 0, 3), (1, 1, 1, 1, 5)], ids=str)
def test_relu_takes_any_shape(shape, dtype, rng):
    x = np.asarray(rng.standard_normal(shape)).astype(dtype)
    out, cache = relu_forward(x)
    np.testing.assert_array_equal(out, np.maximum(x, 0))
    assert out.shape == relu_backward(out, cache).shape == shape


def test_relu_on_special_values(isa, dtype):
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, -1e-40, 1.0, -1.0] * 5, dtype)
    dout = np.repeat(np.array([1, np.nan, np.inf, -2, 3], dtype), 9)
    out, cache = relu_forward(x)
    np.testing.assert_array_equal(out, np.maximum(x, 0))
    dx = relu_backward(dout, cache)
    np.testing.assert_array_equal(dx, relu_backward_naive(dout, x))
    # Neither NaN nor infinity of dout may leak past a gate that is shut.
    np.testing.assert_array_equal(dx[x <= 0], 0)


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 5, 7), (0, 4), (17,)], ids=str)
@pytest.mark.parametrize("p", [0, 0.25, 0.9])
def test_dropout_with_a_seed(p, shape, dtype, rng):
    x, dout = cast(random_arrays(rng, shape, shape), dtype)
    param = {"mode": "train", "p": p, "seed": 123}
    state = np.random.get_state()
    out, cache = dropout_forward(x, param)
    np.testing.assert_array_equal(np.random.get_state()[1], state[1])
    assert np.random.get_state()[2] == state[2]

    keep = np.random.RandomState(123).rand(*shape) < 1 - p
    want = np.where(keep, x / (1 - p), 0)
    np.testing.assert_allclose(out, want, rtol=1e-6)
    np.testing.assert_array_equal(out != 0, keep)
    dx = dropout_backward(dout, cache)
    np.testing.assert_allclose(dx, np.where(keep, dout / (1 - p), 0), rtol=1e-6)
    assert out.dtype == dx.dtype == dtype

    cached_param, mask = cache
    assert cached_param["p"] == p
    np.testing.assert_allclose(mask, keep / (1 - p), rtol=1e-6)
    np.testing.assert_array_equal(dropout_forward(x, param)[0], out)
    np.testing.assert_allclose(dropout_forward_naive(x, param)[0], out, rtol=1e-6)


def test_dropout_without_a_seed_follows_numpys_global_state(dtype):
    x = np.ones((40, 50), dtype)
    np.random.seed(7)
    out, _ = dropout_forward(x, {"mode": "train", "p": 0.4})
    after = np.random.rand()
    np.random.seed(7)
    np.testing.assert_array_equal(out != 0, np.random.rand(40, 50) < 0.6)
    assert np.random.rand() == after
    assert np.mean(out) == pytest.approx(1, abs=0.06)


def test_dropout_in_test_mode_passes_everything(dtype, rng):
    x, dout = cast(random_arrays(rng, (3, 4), (3, 4)), dtype)
    out, cache = dropout_forward(x, {"mode": "test", "p": 0.5})
    np.testing.assert_array_equal(out, x)
    assert out.dtype == dtype
    assert not np.shares_memory(out, x)
    assert cache[1] is None
    np.testing.assert_array_equal(dropout_backward(dout, cache), dout)


@pytest.mark.parametrize("mode", ["train", "test"])
@pytest.mark.parametrize("seed", [None, 3])
def test_dropout_of_an_array_without_axes(mode, seed, dtype):
    x, param = np.asarray(3, dtype), {"p": 0.5, "mode": mode, "seed": seed}
    for forward, backward in (
        (dropout_forward, dropout_backward),
        (dropout_forward_naive, dropout_backward_naive),
    ):
        np.random.seed(1)
        out, cache = forward(x, param)
        dx = backward(x, cache)
        np.random.seed(1)
        keep = mode == "test" or (np.random if seed is None else np.random.RandomState(seed)).rand() < 0.5
        want = x * (keep * 2 if mode == "train" else 1)
        for result in (out, dx):
            assert type(result) is np.ndarray
            assert result.shape == ()
            assert result.dtype == dtype
            assert result == want


@pytest.mark.parametrize("forward", [dropout_forward, dropout_forward_naive])
def test_dropout_of_everything(forward, dtype, rng):
    out, cache = forward(np.ones((3, 4), dtype), {"mode": "train", "p": 1})
    np.testing.assert_array_equal(out, np.zeros((3, 4)))
    np.testing.assert_array_equal(dropout_backward(np.ones((3, 4), dtype), cache), np.zeros((3, 4)))
