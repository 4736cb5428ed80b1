"""Winograd's rounding errors stay within what docs/conventions.md promises."""

import cnnlib
import numpy as np
import pytest

# kernel and stride: error of the norm, and of the largest value
BOUNDS = {
    ((3, 3), 1): {np.float32: (2e-6, 5e-6), np.float64: (6e-15, 2e-14)},
    ((3, 3), 2): {np.float32: (1e-6, 2e-6), np.float64: (3e-15, 6e-15)},
    ((5, 5), 1): {np.float32: (4e-6, 1.5e-5), np.float64: (1e-14, 2e-14)},
    ((1, 3), 1): {np.float32: (2e-6, 5e-6), np.float64: (6e-15, 2e-14)},
    ((1, 5), 1): {np.float32: (2e-6, 5e-6), np.float64: (6e-15, 2e-14)},
    ((7, 1), 1): {np.float32: (3e-6, 1e-5), np.float64: (6e-15, 2e-14)},
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


@pytest.mark.parametrize(("kernel", "stride"), BOUNDS, ids=str)
@pytest.mark.parametrize("C", [16, 64, 512])
@pytest.mark.parametrize("size", [(9, 10), (7, 8)], ids=str)  # suits tiles of 5x5 and of 4x4
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_errors_stay_within_the_documented_bound(C, kernel, stride, size, dtype, isa, rng):
    check("winograd", (1, C, *size), (C, C, *kernel), stride, dtype, BOUNDS[kernel, stride][dtype], rng)


@pytest.mark.parametrize(("C", "kernel", "stride"), ROWS, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_errors_along_rows_stay_within_the_documented_bound(C, kernel, stride, dtype, isa, rng):
    bound = ROWS[C, kernel, stride][dtype]
    check("winograd-rows", (2, C, 64, 65), (16, C, *kernel), stride, dtype, bound, rng, ("dw",))


def check(algorithm, x_shape, w_shape, stride, dtype, bound, rng, needs=("dx", "dw")):
    x, w = (rng.standard_normal(shape).astype(dtype) for shape in (x_shape, w_shape))
    dout = rng.standard_normal((x_shape[0], w_shape[0], *(-(-n // stride) for n in x_shape[2:]))).astype(
        dtype
    )
    param = {"stride": stride, "pad": tuple(k // 2 for k in w_shape[2:])}

    def run(algorithm, real):
        arrays = (a.astype(real) for a in (x, w))
        out, cache = cnnlib.conv_forward(*arrays, None, {**param, "algorithm": algorithm})
        gradients = cnnlib.conv_backward(dout.astype(real), cache, needs=needs)
        return out, *(gradient for gradient in gradients if gradient is not None)

    norm, largest = bound
    for got, want in zip(run(algorithm, dtype), run("direct", np.float64), strict=True):
        error = got - want
        assert np.linalg.norm(error) < norm * np.linalg.norm(want)
        assert np.abs(error).max() < largest * np.abs(want).max()
