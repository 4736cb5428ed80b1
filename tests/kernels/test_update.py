"""The update kernels beside their formulas (torch parity): a factor on the gradient, sums of squares."""

import numpy as np
import pytest
from cnnlib import _core, optim

pytestmark = [pytest.mark.sets, pytest.mark.smoke]

SIZES = [0, 1, 7, 31, 32, 33, 1000, 32768, 100_003]


@pytest.mark.parametrize("name", optim.__all__)
def test_scale_is_a_factor_on_the_gradient(name, isa, dtype, rng):
    rule = getattr(optim, name)
    w, dw = rng.standard_normal((2, 1003)).astype(dtype)
    given = dw.copy()
    (w1, config1), (w2, config2) = (w.copy(), {}), (w.copy(), {})
    for _ in range(3):
        w1, config1 = rule(w1, dw, config1, scale=0.25)
        w2, config2 = rule(w2, 0.25 * dw, config2)
    np.testing.assert_array_equal(w1, w2)
    np.testing.assert_array_equal(dw, given)
    for key, value in config2.items():
        np.testing.assert_array_equal(config1[key], value)
    assert np.any(rule(w.copy(), dw)[0] != rule(w.copy(), dw, scale=0.0)[0])


@pytest.mark.parametrize("name", ["rmsprop", "adam", "adamw"])
def test_roots_of_infinite_and_of_subnormal_moments(name, isa, dtype):
    """An infinite one makes no step; from a subnormal one the step is as long as from any other."""
    w, rule = np.zeros(19, dtype), getattr(optim, name)
    huge, tiny = np.finfo(dtype).max / 2, np.sqrt(np.finfo(dtype).tiny)
    np.testing.assert_array_equal(rule(w.copy(), np.full(19, huge, dtype), {})[0], w)
    steps = [
        rule(w.copy(), np.full(19, scale, dtype), {"learning_rate": 1.0, "epsilon": 1e-300})[0]
        for scale in (tiny, 1)
    ]
    np.testing.assert_allclose(*steps, rtol=1e-3)


@pytest.mark.parametrize("size", SIZES)
def test_sum_of_squares(size, isa, dtype, rng):
    x = rng.standard_normal(size).astype(dtype)
    want = np.sum(np.square(x.astype(np.longdouble)))
    assert _core.sum_of_squares(x) == pytest.approx(float(want), rel=1e-13, abs=0)


def test_sum_of_squares_is_double(isa):
    assert _core.sum_of_squares(np.full(3, 1e30, np.float32)) == pytest.approx(3e60, rel=1e-6)
    assert _core.sum_of_squares(np.full(3, 1e-30, np.float32)) == pytest.approx(3e-60, rel=1e-6)
    for value in (np.nan, np.inf):
        assert not np.isfinite(_core.sum_of_squares(np.array([1, value, 2])))


def test_sum_of_squares_does_not_depend_on_the_threads(isa, dtype, rng, num_threads):
    x = rng.standard_normal(1_000_003).astype(dtype)
    sums = set()
    for n in (1, 2, 3, 8):
        num_threads(n)
        sums.add(_core.sum_of_squares(x))
    assert len(sums) == 1


@pytest.mark.parametrize("shift", [-1, 0, 1])
@pytest.mark.parametrize("name", optim.__all__)
def test_gradients_in_the_memory_of_the_weights_are_not_written(name, shift, dtype, rng):
    memory = rng.standard_normal(1002).astype(dtype)
    before, rule = memory.copy(), getattr(optim, name)
    w, dw = slice(1, 1001), slice(1 + shift, 1001 + shift)
    got, _ = rule(memory[w], memory[dw])
    np.testing.assert_array_equal(got, rule(before[w].copy(), before[dw].copy())[0])
    np.testing.assert_array_equal(memory, before)


STATES = {
    "sgd_momentum": ("velocity",),
    "sgd_nesterov_momentum": ("velocity",),
    "rmsprop": ("a",),
    "adam": ("v", "a"),
    "adamw": ("v", "a"),
}


@pytest.mark.parametrize("place", ["one array", "the weights", "the gradient"])
@pytest.mark.parametrize("name", STATES)
def test_state_that_is_another_array_becomes_its_own(name, place, dtype, rng):
    rule = getattr(optim, name)
    w, dw, start = np.abs(rng.standard_normal((3, 1003))).astype(dtype)
    given, want = dw.copy(), w.copy()
    shared = {"one array": start, "the weights": w, "the gradient": dw}[place]
    apart, config = {key: shared.copy() for key in STATES[name]}, dict.fromkeys(STATES[name], shared)
    for _ in range(3):
        w, config = rule(w, dw, config)
        want, apart = rule(want, given.copy(), apart)
    np.testing.assert_array_equal(w, want)
    np.testing.assert_array_equal(dw, given)
    for key in STATES[name]:
        np.testing.assert_array_equal(config[key], apart[key])
