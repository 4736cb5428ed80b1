"""Winograd's rounding errors stay within what docs/conventions.md promises."""

import cnnlib
import numpy as np
import pytest

BOUNDS = {np.float32: (2e-6, 5e-6), np.float64: (6e-15, 2e-14)}  # of the norm, of the largest value


@pytest.mark.parametrize(("C", "kernel"), [(16, 3), (64, 3), (512, 3), (16, 5), (64, 5), (512, 5)])
@pytest.mark.parametrize("dtype", BOUNDS)
def test_errors_stay_within_the_documented_bound(C, kernel, dtype, isa, rng):
    x, dout = rng.standard_normal((2, 1, C, 9, 10)).astype(dtype)
    w = rng.standard_normal((C, C, kernel, kernel)).astype(dtype)

    def run(algorithm, real):
        arrays = (a.astype(real) for a in (x, w))
        out, cache = cnnlib.conv_forward(*arrays, None, {"pad": kernel // 2, "algorithm": algorithm})
        return out, *cnnlib.conv_backward(dout.astype(real), cache)[:2]

    norm, largest = BOUNDS[dtype]
    for got, want in zip(run("winograd", dtype), run("direct", np.float64), strict=True):
        error = got - want
        assert np.linalg.norm(error) < norm * np.linalg.norm(want)
        assert np.abs(error).max() < largest * np.abs(want).max()
