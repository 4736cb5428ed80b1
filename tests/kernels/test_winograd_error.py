"""Winograd's rounding errors stay within what docs/conventions.md promises."""

import cnnlib
import numpy as np
import pytest
from helpers import cast, random_arrays

pytestmark = pytest.mark.sets

# kernel and stride: error of the norm, and of the largest value
BOUNDS = {
    ((3, 3), 1): {np.float32: (2e-6, 5e-6), np.float64: (6e-15, 2e-14)},
    ((3, 3), 2): {np.float32: (1e-6, 2e-6), np.float64: (3e-15, 6e-15)},
    ((2, 2), 1): {np.float32: (2e-6, 5e-6), np.float64: (6e-15, 2e-14)},
    ((4, 4), 1): {np.float32: (3e-6, 1e-5), np.float64: (6e-15, 2e-14)},
    ((4, 4), 2): {np.float32: (1e-6, 2e-6), np.float64: (3e-15, 6e-15)},
    ((5, 5), 2): {np.float32: (2e-6, 5e-6), np.float64: (6e-15, 2e-14)},
    ((5, 5), 1): {np.float32: (4e-6, 1.5e-5), np.float64: (1e-14, 2e-14)},
    ((1, 3), 1): {np.float32: (2e-6, 5e-6), np.float64: (6e-15, 2e-14)},
    ((1, 5), 1): {np.float32: (2e-6, 5e-6), np.float64: (6e-15, 2e-14)},
    ((7, 1), 1): {np.float32: (3e-6, 1e-5), np.float64: (6e-15, 2e-14)},
    ((7, 7), 1): {np.float32: (4e-6, 1.5e-5), np.float64: (1e-14, 2e-14)},
    ((3, 5), 1): {np.float32: (4e-6, 1.5e-5), np.float64: (1e-14, 2e-14)},
    ((1, 9), 1): {np.float32: (2e-6, 5e-6), np.float64: (6e-15, 2e-14)},
}
# Channels, kernel and stride of first layers and of the largest sums of Winograd's method along rows.
ROWS = {
    (3, (3, 3), 1): {np.float32: (2e-6, 5e-6), np.float64: (6e-15, 2e-14)},
    (12, (3, 3), 1): {np.float32: (2e-6, 5e-6), np.float64: (6e-15, 2e-14)},
    (3, (5, 5), 1): {np.float32: (2e-6, 5e-6), np.float64: (6e-15, 2e-14)},
    (3, (7, 7), 1): {np.float32: (4e-6, 1.5e-5), np.float64: (6e-15, 2e-14)},
    (12, (7, 7), 1): {np.float32: (4e-6, 1.5e-5), np.float64: (6e-15, 2e-14)},
    (3, (7, 7), 2): {np.float32: (1e-6, 2e-6), np.float64: (3e-15, 6e-15)},
    (3, (11, 11), 4): {np.float32: (1e-6, 2e-6), np.float64: (3e-15, 6e-15)},
}


SIZES = (9, 10), (7, 8)  # which suit tiles of 5x5 and of 4x4; of many channels one of them for each kernel


@pytest.mark.parametrize(
    ("kernel", "stride", "C", "size"),
    [
        (*layer, C, size)
        for k, layer in enumerate(BOUNDS)
        for C, sizes in ((16, SIZES), (512, SIZES[k % 2 :][:1]))
        for size in sizes
    ],
    ids=str,
)
def test_errors_stay_within_the_documented_bound(C, kernel, stride, size, isa, rng):
    check("winograd", (1, C, *size), (C, C, *kernel), stride, BOUNDS[kernel, stride], rng, ("dx", "dw"))


@pytest.mark.parametrize(("C", "kernel", "stride"), ROWS, ids=str)
def test_errors_along_rows_stay_within_the_documented_bound(C, kernel, stride, isa, rng):
    check("winograd-rows", (2, C, 64, 65), (16, C, *kernel), stride, ROWS[C, kernel, stride], rng, ("dw",))


def check(algorithm, x_shape, w_shape, stride, bounds, rng, needs):
    pad = tuple((k - 1) // 2 for k in w_shape[2:])
    out_size = ((n + 2 * p - k) // stride + 1 for n, p, k in zip(x_shape[2:], pad, w_shape[2:], strict=True))
    x, w, dout = random_arrays(rng, x_shape, w_shape, (x_shape[0], w_shape[0], *out_size))
    param = {"stride": stride, "pad": pad}

    def run(algorithm, dtype):
        out, cache = cnnlib.conv_forward(*cast((x, w), dtype), None, {**param, "algorithm": algorithm})
        gradients = cnnlib.conv_backward(dout.astype(dtype), cache, needs=needs)
        return out, *(gradient for gradient in gradients if gradient is not None)

    exact = run("direct", np.float64)
    for dtype, (norm, largest) in bounds.items():
        for got, want in zip(run(algorithm, dtype), exact, strict=True):
            error = got - want
            assert np.linalg.norm(error) < norm * np.linalg.norm(want)
            assert np.abs(error).max() < largest * np.abs(want).max()
