"""Steps of prepared networks on tensors: they give what NumPy gives, and stay within their values."""

import re
from dataclasses import astuple

import numpy as np
import pytest
from cnnlib import _core
from cnnlib.graph.ops import pieces
from helpers import assert_close, cast, random_arrays

N = 5
ALIGNED = 64  # bytes


def prepared(xs, shape, add):
    """The output (N, *shape) of a program whose inputs xs (N, ...) are parts of its samples."""
    sizes, dtype = [x[0].size for x in xs], xs[0].dtype
    item, out = dtype.itemsize, int(np.prod(shape))
    ends, total = np.cumsum(sizes), int(np.sum(sizes))
    room = [-(-size * item // ALIGNED) * ALIGNED for size in sizes]
    places = [(2, size * item, int(at)) for size, at in zip(sizes, np.cumsum([0, *room]))]
    values = [(0, total * item, 0), *places, (1, out * item, 0)]
    program = _core.Program(dtype, values, total * item, out * item, sum(room), False)
    for number, (end, size) in enumerate(zip(ends, sizes)):
        piece = (0, [size], int(end - size), [1], 0, [1])
        program.copy("", [0], 1 + number, [piece], None)
    add(program, [*range(1, len(xs) + 1)], len(xs) + 1)
    samples = np.concatenate([x.reshape(len(x), -1) for x in xs], axis=1)
    return program.run(samples, [len(samples), *shape])


def check_copy(xs, found, want, filled=None):
    told = [*map(astuple, found)]
    got = prepared(xs, want.shape[1:], lambda p, inputs, out: p.copy("", inputs, out, told, filled))
    np.testing.assert_array_equal(got, want)


ORDERS = {
    (5, 7): [(1, 0)],
    (3, 40, 50): [(0, 2, 1), (2, 1, 0), (1, 2, 0)],
    (197, 3, 4, 16): [(1, 2, 0, 3), (1, 0, 2, 3), (3, 2, 1, 0)],
    (2, 3, 1, 4, 5): [(4, 0, 3, 2, 1), (0, 1, 2, 3, 4)],
}


@pytest.mark.parametrize("shape", ORDERS, ids=str)
def test_transposed(shape, dtype, rng, num_threads):
    (x,) = cast(random_arrays(rng, (N, *shape)), dtype)
    for order in ORDERS[shape]:
        axes = (0, *(axis + 1 for axis in order))
        for threads in (1, 4):
            num_threads(threads)
            check_copy([x], pieces.transposed(shape, order), x.transpose(axes))


@pytest.mark.parametrize(
    "slices",
    [
        (slice(None), slice(2, 5), slice(None)),
        (slice(None, None, -1), slice(1, None, 2), slice(3, 4)),
        (slice(0, 3), slice(7, 1, -3), slice(-1, None)),
    ],
    ids=str,
)
def test_sliced(slices, dtype, rng):
    (x,) = cast(random_arrays(rng, (N, 3, 9, 20)), dtype)
    check_copy([x], pieces.sliced(x.shape[1:], slices), x[(slice(None), *slices)])


@pytest.mark.parametrize("value", [0.0, -np.inf, 2.5])
def test_padded(value, dtype, rng):
    widths = [(0, 0), (2, 1), (0, 3)]
    (x,) = cast(random_arrays(rng, (N, 3, 4, 6)), dtype)
    want = np.pad(x, [(0, 0), *widths], constant_values=value)
    check_copy([x], pieces.padded(x.shape[1:], widths), want, filled=value)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_joined(axis, dtype, rng):
    shapes = [
        tuple(k + size if place == axis else size for place, size in enumerate((3, 4, 5))) for k in (0, 2, 1)
    ]
    xs = cast(random_arrays(rng, *((N, *shape) for shape in shapes)), dtype)
    check_copy(xs, pieces.joined(shapes, axis), np.concatenate(xs, axis=axis + 1))


def test_picked(dtype, rng):
    (x,) = cast(random_arrays(rng, (N, 4, 6)), dtype)
    rows, columns = [3, 3, 0, 1, 2], rng.integers(0, 6, size=17).tolist()
    check_copy([x], pieces.picked((4, 6), [rows, columns]), x[:, rows][:, :, columns])
    check_copy([x], pieces.picked((4, 6), [None, [5]]), x[:, :, 5:])


@pytest.mark.parametrize(("batch", "M", "N_", "K"), [((), 5, 7, 3), ((3,), 40, 33, 20), ((2, 3), 1, 9, 70)])
def test_products(batch, M, N_, K, isa, dtype, rng, num_threads):
    a, b = cast(random_arrays(rng, (N, *batch, M, K), (N, *batch, K, N_)), dtype)
    want, count = np.matmul(a.astype(np.float64), b.astype(np.float64)), int(np.prod(batch))
    found = set()
    for threads in (1, 3):
        num_threads(threads)
        got = prepared([a, b], want.shape[1:], lambda p, ins, out: p.matmul("", ins, out, count, M, N_, K))
        assert_close(got, want, dtype)
        found.add(got.tobytes())
        alone = prepared(
            [a[2:3], b[2:3]], want.shape[1:], lambda p, ins, out: p.matmul("", ins, out, count, M, N_, K)
        )
        np.testing.assert_array_equal(alone, got[2:3])
    assert len(found) == 1


SPECIAL = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -2.0, 60.0])
FUNCTIONS = {
    "exp": (np.exp, ()),
    "log": (np.log, ()),
    "absolute": (np.abs, ()),
    "softplus": (lambda x: np.logaddexp(x, 0), ()),
    "power": (lambda x: x**1.5, (1.5,)),
    "clip": (lambda x: np.clip(x, -1, 50), (-1.0, 50.0)),
}


@pytest.mark.parametrize("kind", FUNCTIONS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_functions_of_special_numbers(kind, dtype):
    function, given = FUNCTIONS[kind]
    x = np.tile(SPECIAL.astype(dtype), (N, 700))
    a, b = (*given, 0.0, 0.0)[:2]
    got = prepared([x], x.shape[1:], lambda p, ins, out: p.function("", *ins, out, kind, a, b))
    np.testing.assert_allclose(got, function(x), rtol=8 * np.finfo(dtype).eps)


@pytest.mark.parametrize("kind", ["divide", "minimum", "maximum"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_pairs_of_special_numbers(kind, dtype):
    x, y = (np.repeat(m.ravel()[None], N, 0).astype(dtype) for m in np.meshgrid(SPECIAL, SPECIAL))
    got = prepared([x, y], x.shape[1:], lambda p, ins, out: p.pair("", ins, out, kind))
    np.testing.assert_array_equal(got, getattr(np, kind)(x, y))


def program_of(size):
    return _core.Program(np.dtype("f4"), [(0, 4 * size, 0), (1, 4 * size, 0)], 4 * size, 4 * size, 0, False)


REFUSED = {
    "a piece of an input that does not exist": [(1, [2], 0, [1], 0, [1])],
    "a piece of shape (2,) outside of its values": [(0, [2], 5, [1], 0, [1])],
    "a piece of shape (3, 2) outside of its values": [(0, [3, 2], 1, [-2, 1], 0, [2, 1])],
    "a piece of shape (4,) outside of its values": [(0, [4], 0, [1], 0, [2**62])],
    "a piece of shape (0,)": [(0, [0], 0, [1], 0, [1])],
    "a piece of shape (2, 2)": [(0, [2, 2], 0, [1], 0, [1, 1])],
    f"a piece of shape {(1,) * 33}": [(0, [1] * 33, 0, [1] * 33, 0, [1] * 33)],
}


@pytest.mark.parametrize("message", REFUSED)
def test_pieces_that_reach_too_far_are_refused(message):
    """Nothing is read or written outside of the values, whatever a file says."""
    with pytest.raises(ValueError, match=f"^{re.escape(f'prepare: {message}')}$"):
        program_of(6).copy("", [0], 1, REFUSED[message], None)


OUTSIDE = {
    "products of other sizes": lambda p: p.matmul("", [0, 0], 1, 1, 2, 3, 2),
    "products of overflowing sizes": lambda p: p.matmul("", [0, 0], 1, 2**40, 2**40, 3, 2**40),
    "no function": lambda p: p.function("", 0, 1, "i0", 0.0, 0.0),
    "no function of two": lambda p: p.pair("", [0, 0], 1, "hypot"),
    "a short mask": lambda p: p.where("", [0, 0], 1, np.ones(5, np.uint8)),
    "a short constant": lambda p: p.constant("", 0, 1, np.ones(5, np.float32)),
    "no reduction": lambda p: p.reduce("", 0, 1, "median", ([6], [1]), ([1], [1])),
    "axes outside": lambda p: p.reduce("", 0, 1, "sum", ([6], [1]), ([2], [1])),
    "a step outside": lambda p: p.reduce("", 0, 1, "sum", ([6], [2**61]), ([1], [1])),
    "negative steps": lambda p: p.reduce("", 0, 1, "sum", ([6], [-1]), ([1], [1])),
    "other numbers of axes": lambda p: p.reduce("", 0, 1, "sum", ([6], []), ([1], [1])),
    "many axes": lambda p: p.reduce("", 0, 1, "sum", ([2**40, 2**40], [1, 1]), ([1], [1])),
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_steps_outside_of_their_values_are_refused(name):
    with pytest.raises(ValueError, match=r"^prepare: "):
        OUTSIDE[name](program_of(6))
