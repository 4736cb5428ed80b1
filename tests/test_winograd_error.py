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


@pytest.mark.parametrize(("kernel", "stride"), BOUNDS, ids=str)
@pytest.mark.parametrize("C", [16, 64, 512])
@pytest.mark.parametrize("size", [(9, 10), (7, 8)], ids=str)  # suits tiles of 5x5 and of 4x4
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_errors_stay_within_the_documented_bound(C, kernel, stride, size, dtype, isa, rng):
    x = rng.standard_normal((1, C, *size)).astype(dtype)
    dout = rng.standard_normal((1, C, *(-(-n // stride) for n in size))).astype(dtype)
    w = rng.standard_normal((C, C, *kernel)).astype(dtype)

    def run(algorithm, real):
        arrays = (a.astype(real) for a in (x, w))
        pads = tuple(k // 2 for k in kernel)
        out, cache = cnnlib.conv_forward(
            *arrays, None, {"stride": stride, "pad": pads, "algorithm": algorithm}
        )
        return out, *cnnlib.conv_backward(dout.astype(real), cache)[:2]

    norm, largest = BOUNDS[kernel, stride][dtype]
    for got, want in zip(run("winograd", dtype), run("direct", np.float64), strict=True):
        error = got - want
        assert np.linalg.norm(error) < norm * np.linalg.norm(want)
        assert np.abs(error).max() < largest * np.abs(want).max()
