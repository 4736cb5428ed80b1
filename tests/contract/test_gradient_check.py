import numpy as np
import pytest
from cnnlib.gradient_check import (
    eval_numerical_gradient,
    eval_numerical_gradient_array,
    grad_check_sparse,
    rel_error,
)

# Each as a call f(x) -> anything, with the function that gives a number or an array.
SCALAR_CHECKS = [
    lambda f, x: eval_numerical_gradient(f, x),
    lambda f, x: grad_check_sparse(f, x, np.zeros_like(x)),
]
ALL_CHECKS = [*SCALAR_CHECKS, lambda f, x: eval_numerical_gradient_array(f, x, np.ones(()))]
NAMES = ["eval_numerical_gradient", "grad_check_sparse", "eval_numerical_gradient_array"]


def test_gradient_of_a_polynomial(rng):
    x = rng.standard_normal((2, 3, 4))
    gradient = eval_numerical_gradient(lambda x: np.sum(x**3), x)
    assert gradient.shape == x.shape
    assert rel_error(gradient, 3 * x**2) < 1e-7


def test_the_difference_is_central():
    """At 0 it gives exactly 0 for x², where a one-sided difference gives h."""
    x = np.zeros(1)
    assert eval_numerical_gradient(lambda x: x[0] ** 2, x, h=0.5)[0] == 0
    assert eval_numerical_gradient(lambda x: x[0] ** 3, x, h=0.5)[0] == pytest.approx(0.25)


def test_the_step_counts():
    x = np.array([1.0])
    values = []
    eval_numerical_gradient(lambda x: values.append(float(x[0])) or 0.0, x, h=0.125)
    assert sorted(values) == [0.875, 1.125]


@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 3)], ids=str)
def test_any_shape(shape, rng):
    x = np.array(rng.standard_normal(shape))
    assert rel_error(eval_numerical_gradient(lambda x: np.sum(x * x), x), 2 * x) < 1e-7
    assert rel_error(eval_numerical_gradient_array(lambda x: x * x, x, np.full(shape, 3.0)), 6 * x) < 1e-7


def test_empty_array():
    assert eval_numerical_gradient(lambda x: 0.0, np.zeros((0, 3))).shape == (0, 3)


@pytest.mark.parametrize("layout", ["transposed", "every second", "negative strides"])
def test_views_are_changed_in_place(layout, rng):
    """Were a copy moved instead, f would not see it and the gradient would be 0."""
    base = rng.standard_normal((6, 8))
    x = {"transposed": base.T, "every second": base[::2, ::2], "negative strides": base[::-1, ::-1]}[layout]
    gradient = eval_numerical_gradient(lambda _: np.sum(np.sin(base)), x)
    assert rel_error(gradient, np.cos(x)) < 1e-6


def test_array_version_contracts_with_df(rng):
    x, w, df = rng.standard_normal((3, 4)), rng.standard_normal((4, 5)), rng.standard_normal((3, 5))
    assert rel_error(eval_numerical_gradient_array(lambda x: x @ w, x, df), df @ w.T) < 1e-7


def test_array_version_with_a_function_that_returns_its_argument(rng):
    """f may hand out the very array that is being moved."""
    x, df = rng.standard_normal((3, 4)), rng.standard_normal((3, 4))
    assert rel_error(eval_numerical_gradient_array(lambda x: x, x, df), df) < 1e-7


def test_array_version_with_a_function_that_reuses_its_buffer(rng):
    x, df, buffer = rng.standard_normal(4), rng.standard_normal(4), np.zeros(4)
    assert (
        rel_error(eval_numerical_gradient_array(lambda x: np.multiply(x, x, out=buffer), x, df), 2 * x * df)
        < 1e-7
    )


def test_array_version_does_not_drown_in_a_large_output():
    """The other values of the output are 1e9; only the difference counts."""
    x = np.array([0.5])
    df = np.ones(2)
    gradient = eval_numerical_gradient_array(lambda x: np.array([x[0], 1e9]), x, df)
    assert gradient[0] == pytest.approx(1, rel=1e-9)


@pytest.mark.parametrize("check", ALL_CHECKS, ids=NAMES)
def test_x_is_restored_to_the_bit(check, rng, capsys):
    x = np.array([0.1, 1e-20, 1e5, -3.3, 1e-300])
    kept = x.copy()
    check(lambda x: np.sum(x), x)
    assert x.tobytes() == kept.tobytes()


@pytest.mark.parametrize("failing", [1, 2, 4])
@pytest.mark.parametrize("check", ALL_CHECKS, ids=NAMES)
def test_x_is_restored_if_f_raises(check, failing, rng, capsys):
    x = rng.standard_normal(5)
    kept = x.copy()
    calls = []

    def f(x):
        calls.append(None)
        if len(calls) == failing:
            raise ArithmeticError("no")
        return np.sum(x)

    with pytest.raises(ArithmeticError, match="no"):
        check(f, x)
    assert x.tobytes() == kept.tobytes()


def test_verbose_prints_every_derivative(capsys):
    x = np.array([[1.0, 2.0]])
    eval_numerical_gradient(lambda x: np.sum(x * x), x)
    assert capsys.readouterr().out == ""
    eval_numerical_gradient(lambda x: np.sum(x * x), x, verbose=True)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("(0, 1) 4.0")


def test_sparse_check_of_a_right_gradient(rng, capsys):
    x = rng.standard_normal((4, 5))
    errors = grad_check_sparse(lambda x: np.sum(x**3), x, 3 * x**2, num_checks=7)
    assert errors.shape == (7,)
    assert np.max(errors) < 1e-6
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 7
    for line, error in zip(lines, errors, strict=True):
        assert line.startswith("numerical: ")
        assert " analytic: " in line
        assert line.endswith(f"relative error: {error:e}")


def test_sparse_check_finds_a_wrong_gradient(rng, capsys):
    x = rng.standard_normal((4, 5))
    assert np.min(grad_check_sparse(lambda x: np.sum(x**3), x, -3 * x**2)) == pytest.approx(1)
    assert len(capsys.readouterr().out.splitlines()) == 10


def test_sparse_check_is_repeatable_and_visits_several_places(capsys):
    x = np.arange(1.0, 101.0)
    np.random.seed(3)
    first = grad_check_sparse(lambda x: np.sum(x**2), x, x)
    out = capsys.readouterr().out
    np.random.seed(3)
    np.testing.assert_array_equal(grad_check_sparse(lambda x: np.sum(x**2), x, x), first)
    assert capsys.readouterr().out == out
    assert len(set(out.splitlines())) > 5


@pytest.mark.parametrize(
    ("x", "y", "want"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0),
        ([1.0], [3.0], 0.5),
        ([1.0, 1.0], [1.0, -1.0], 1),
        ([0.0], [0.0], 0),
        ([1e-9], [0.0], 0.1),
        ([100.0, 1.0], [100.0, 2.0], 1 / 3),
        (2.0, 2.5, 0.5 / 4.5),
        ([], [], 0),
    ],
)
def test_rel_error(x, y, want):
    assert rel_error(np.array(x), np.array(y)) == pytest.approx(want)
    assert type(rel_error(x, y)) is float


def test_rel_error_of_unsigned_integers():
    assert rel_error(np.array([1], np.uint8), np.array([3], np.uint8)) == 0.5


def test_rel_error_shows_nan():
    assert np.isnan(rel_error([1.0, np.nan], [1.0, 1.0]))
    assert np.isnan(rel_error([1.0, 2.0], [np.nan, 2.0]))
    assert np.isnan(rel_error([np.inf], [np.inf]))


def test_rel_error_does_not_broadcast():
    with pytest.raises(ValueError, match=r"rel_error: x has shape \(3, 1\), but y has shape \(3,\)"):
        rel_error(np.zeros((3, 1)), np.zeros(3))


@pytest.mark.parametrize("check", ALL_CHECKS, ids=NAMES)
def test_float32_is_refused(check):
    with pytest.raises(TypeError, match="x has to be float64, not float32"):
        check(lambda x: np.sum(x), np.zeros(3, np.float32))


@pytest.mark.parametrize(("check", "name"), list(zip(ALL_CHECKS, NAMES, strict=True)), ids=NAMES)
def test_only_arrays_can_be_changed_in_place(check, name):
    with pytest.raises(TypeError, match=rf"{name}: x has to be an ndarray.*list"):
        check(lambda x: 0.0, [1.0, 2.0])


@pytest.mark.parametrize("check", ALL_CHECKS, ids=NAMES)
def test_read_only_x_is_refused(check):
    x = np.zeros(3)
    x.flags.writeable = False
    with pytest.raises(ValueError, match="x is read-only"):
        check(lambda x: np.sum(x), x)


@pytest.mark.parametrize("h", [0, -1e-5, np.nan, np.inf, "small", None])
def test_impossible_steps_are_refused(h):
    with pytest.raises((ValueError, TypeError), match=r"^eval_numerical_gradient: h must be "):
        eval_numerical_gradient(lambda x: np.sum(x), np.zeros(3), h=h)


@pytest.mark.parametrize("num_checks", [-1, 2.5, None, True])
def test_impossible_numbers_of_checks_are_refused(num_checks):
    with pytest.raises((ValueError, TypeError), match=r"^grad_check_sparse: num_checks must be "):
        grad_check_sparse(lambda x: np.sum(x), np.zeros(3), np.ones(3), num_checks)


def test_a_step_that_vanishes_beside_x_is_refused():
    x = np.array([1.0, 1e15])
    with pytest.raises(ValueError, match=r"h = 1e-05 is too small to change x\[1\]"):
        eval_numerical_gradient(lambda x: np.sum(x), x)
    np.testing.assert_array_equal(x, [1.0, 1e15])


def test_the_step_that_float64_holds_is_the_one_divided_by():
    """At 1e6 the moved values are 1e-10 away from where they should be: a millionth of the step."""
    x = np.array([1e6 + 0.3])
    assert eval_numerical_gradient(lambda x: x[0] - 1e6, x)[0] == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("check", SCALAR_CHECKS, ids=NAMES[:2])
def test_a_function_that_returns_an_array_is_refused(check):
    x = np.zeros(3)
    with pytest.raises(ValueError, match=r"f has to return a number, not an array of shape \(3,\)"):
        check(lambda x: 2 * x, x)


@pytest.mark.parametrize("result", [(np.zeros(3), {}), (1.0, np.zeros(3)), None])
@pytest.mark.parametrize("check", ALL_CHECKS, ids=NAMES)
def test_a_function_that_returns_no_numbers_is_refused(check, result):
    """The whole of what a forward pass or a loss returns, say."""
    x = np.zeros(3)
    with pytest.raises(TypeError, match=r": f has to return numbers, not (tuple|NoneType): of a layer's"):
        check(lambda x: result, x)


def test_a_function_may_return_the_same_memory():
    loss, x = np.zeros(()), np.ones(3)
    np.testing.assert_allclose(eval_numerical_gradient(lambda x: np.sum(x**2, out=loss), x), 2 * x)


def test_df_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"df has shape \(2,\), but f\(x\) has shape \(3,\)"):
        eval_numerical_gradient_array(lambda x: x, np.zeros(3), np.zeros(2))


def test_sparse_check_refuses_another_shape_and_an_empty_array():
    with pytest.raises(ValueError, match=r"analytic_grad has shape \(2,\), but x has shape \(3,\)"):
        grad_check_sparse(lambda x: 0.0, np.zeros(3), np.zeros(2))
    with pytest.raises(ValueError, match=r"x of shape \(0, 2\) has no value to check"):
        grad_check_sparse(lambda x: 0.0, np.zeros((0, 2)), np.zeros((0, 2)))
