import sys

import numpy as np
import pytest
from cnnlib import naive, softmax_loss, svm_loss
from cnnlib.gradient_check import eval_numerical_gradient, rel_error
from helpers import assert_close, random_arrays

pytestmark = [pytest.mark.sets, pytest.mark.smoke]

LOSSES = [softmax_loss, svm_loss]
SHAPES = [(1, 1), (1, 2), (5, 3), (4, 1), (7, 10), (33, 17), (3, 130)]


def twin(loss):
    return getattr(naive, f"{loss.__name__}_naive")


def labels(rng, shape):
    N, C = shape
    return rng.integers(0, C, N)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_matches_naive(loss, shape, isa, dtype, rng):
    (x,) = random_arrays(rng, shape)
    x, y = 3 * x, labels(rng, shape)
    want, want_dx = twin(loss)(x, y)
    value, dx = loss(x.astype(dtype), y)
    assert type(value) is float
    assert value == pytest.approx(want, rel=1e-12 if dtype == np.float64 else 1e-5, abs=1e-6)
    assert_close(dx, want_dx, dtype)


@pytest.mark.parametrize("loss", LOSSES)
def test_gradient_is_the_numerical_gradient(loss, rng):
    (x,) = random_arrays(rng, (5, 4))
    y = labels(rng, x.shape)
    numerical = eval_numerical_gradient(lambda x: loss(x, y)[0], x)
    assert rel_error(loss(x, y)[1], numerical) < 1e-7


def test_small_scores_give_the_course_values(rng):
    """The notebook's check: tiny scores of 10 classes give losses of about 9 and log(10) = 2.3."""
    x = 0.001 * rng.standard_normal((50, 10))
    y = labels(rng, x.shape)
    assert svm_loss(x, y)[0] == pytest.approx(9, abs=0.01)
    assert softmax_loss(x, y)[0] == pytest.approx(np.log(10), abs=0.01)


def test_values_by_hand(dtype):
    x = np.array([[1, 2, 0.5], [3, 0, 2.25]], dtype)
    y = np.array([0, 0])
    value, dx = svm_loss(x, y)
    assert value == pytest.approx((2 + 0.5 + 0.25) / 2)
    np.testing.assert_allclose(dx, [[-1, 0.5, 0.5], [-0.5, 0, 0.5]])
    value, dx = softmax_loss(np.log(np.array([[1, 2, 1], [1, 1, 6]], dtype)), np.array([1, 2]))
    assert value == pytest.approx((np.log(2) + np.log(8 / 6)) / 2, rel=1e-6)
    np.testing.assert_allclose(dx, [[0.125, -0.25, 0.125], [1 / 16, 1 / 16, -2 / 16]], rtol=1e-5)


@pytest.mark.parametrize("offset", [0, 1e3, -1e3])
def test_softmax_does_not_overflow(offset, dtype):
    x = np.array([[1000, 0], [-1000, 0]], dtype) + dtype.type(offset)
    value, dx = softmax_loss(x, np.array([0, 0]))
    assert value == pytest.approx(500)
    np.testing.assert_allclose(dx, [[0, 0], [-0.5, 0.5]], atol=1e-30)


def test_softmax_takes_minus_infinity_for_impossible_classes(dtype):
    x = np.array([[0, -np.inf, 0]], dtype)
    value, dx = softmax_loss(x, np.array([0]))
    assert value == pytest.approx(np.log(2))
    np.testing.assert_allclose(dx, [[-0.5, 0, 0.5]])
    assert softmax_loss(x, np.array([1]))[0] == np.inf


@pytest.mark.parametrize("loss", LOSSES)
def test_nan_reaches_the_loss(loss, dtype, rng):
    for position in range(3):
        x = rng.standard_normal((2, 3)).astype(dtype)
        x[1, position] = np.nan
        assert np.isnan(loss(x, np.array([0, 1]))[0])


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int32, np.uint64, np.dtype(">i4"), list])
def test_labels_of_any_integer_type(loss, kind, rng):
    x = rng.standard_normal((3, 4))
    y = [3, 0, 2]
    want, want_dx = loss(x, np.array(y))
    value, dx = loss(x, y if kind is list else np.array(y, kind))
    assert value == want
    np.testing.assert_array_equal(dx, want_dx)


@pytest.mark.parametrize("loss", LOSSES)
def test_scores_and_labels_are_not_written(loss, rng):
    x, y = rng.standard_normal((3, 4)), np.array([1, 2, 3])
    kept = x.copy()
    x.flags.writeable = y.flags.writeable = False
    _, dx = loss(x, y)
    np.testing.assert_array_equal(x, kept)
    assert not np.shares_memory(dx, x)


@pytest.mark.parametrize("loss", [softmax_loss, svm_loss])
def test_labels_are_read_once(loss, monkeypatch, rng):
    """Another thread that writes to y after its check changes nothing."""
    x, y = rng.standard_normal((6, 4)), np.arange(6) % 4
    want, want_dx = loss(x, y)
    module = sys.modules[loss.__module__]
    check = module.labels

    def check_then_write(function, labels, *sizes):
        checked = check(function, labels, *sizes)
        labels[:] = 10**9
        return checked

    monkeypatch.setattr(module, "labels", check_then_write)
    value, dx = loss(x, y)
    assert value == want
    np.testing.assert_array_equal(dx, want_dx)


@pytest.mark.parametrize("weight", [0.1, 0.3, 0.7])
def test_weights_are_summed_in_double(weight, dtype):
    """Equal scores of two classes lose log 2 a sample, whatever the weight of the one class there is."""
    loss, _ = softmax_loss(np.zeros((11, 2), dtype), np.zeros(11, int), weights=[weight, 1.0])
    assert loss == pytest.approx(np.log(2), rel=1e-12)
