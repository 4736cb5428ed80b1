import functools

import cnnlib
import numpy as np
import pytest
from cnnlib import naive
from helpers import assert_all_close, assert_close, cast, random_arrays

pytestmark = [pytest.mark.sets, pytest.mark.smoke]

CONV, POOL = {"stride": 1, "pad": 1}, {"pool_height": 2, "pool_width": 2, "stride": 2}
STRIDED, OVERLAP = (
    {"stride": (2, 1), "pad": ((1, 0), (2, 1))},
    {"pool_height": 3, "pool_width": 2, "stride": 1},
)
SAME, PADDED = {"pad": "same", "groups": 2}, {"pool_height": 3, "pool_width": 3, "stride": 2, "pad": 1}

# Layer, shapes of x and w, and the parameter dicts that follow the arrays; "bn" stands for bn_param.
CASES = [
    ("affine_relu", (3, 4), (4, 5), ()),
    ("affine_relu", (2, 3, 4, 5), (60, 33), ()),
    ("affine_relu", (17, 13), (13, 1), ()),
    ("affine_bn_relu", (5, 4), (4, 3), ("bn",)),
    ("affine_bn_relu", (9, 2, 3, 2), (12, 17), ("bn",)),
    ("conv_relu", (2, 3, 6, 5), (4, 3, 3, 3), (CONV,)),
    ("conv_relu", (2, 4, 6, 7), (6, 2, 3, 2), (SAME,)),
    ("conv_relu", (2, 3, 7, 6), (17, 3, 3, 3), (STRIDED,)),
    ("conv_bn_relu", (2, 3, 6, 5), (4, 3, 3, 3), (CONV, "bn")),
    ("conv_bn_relu", (3, 4, 6, 7), (6, 2, 3, 2), (SAME, "bn")),
    ("conv_bn_relu", (2, 3, 7, 6), (17, 3, 3, 3), (STRIDED, "bn")),
    ("conv_relu_pool", (2, 3, 6, 8), (4, 3, 3, 3), (CONV, POOL)),
    ("conv_relu_pool", (2, 4, 6, 7), (6, 2, 3, 2), (SAME, OVERLAP)),
    ("conv_relu_pool", (2, 3, 9, 6), (17, 3, 3, 3), (STRIDED, PADDED)),
    ("conv_bn_relu_pool", (2, 3, 6, 8), (4, 3, 3, 3), (CONV, "bn", POOL)),
    ("conv_bn_relu_pool", (2, 4, 6, 7), (6, 2, 3, 2), (SAME, "bn", OVERLAP)),
    ("conv_bn_relu_pool", (2, 3, 9, 6), (17, 3, 3, 3), (STRIDED, "bn", PADDED)),
    # images of one value, which are columns, and planes of several vectors and a rest
    ("conv_bn_relu", (6, 3, 3, 3), (18, 3, 3, 3), ({"stride": 1, "pad": 0}, "bn")),
    ("conv_bn_relu", (3, 2, 11, 9), (5, 2, 3, 3), (CONV, "bn")),
]
# Those with batch norm run in both modes.
RUNS = [
    (index, mode) for index, case in enumerate(CASES) for mode in ("train", "test")[: 1 + ("bn" in case[0])]
]


def parameters(rest, F, mode):
    """The parameter dicts, with a new bn_param."""
    bn_param = {
        "mode": mode,
        "running_mean": np.linspace(-0.5, 0.5, F),
        "running_var": np.linspace(0.5, 2, F),
    }
    return [bn_param if item == "bn" else item for item in rest]


def inputs(name, x_shape, w_shape):
    """x, w, b, and gamma, beta for layers with batch norm."""
    rng = np.random.default_rng(list(f"{name}{x_shape}{w_shape}".encode()))
    F = w_shape[1] if name.startswith("affine") else w_shape[0]
    shapes = [x_shape, w_shape, (F,)] + ([(F,), (F,)] if "bn" in name else [])
    return random_arrays(rng, *shapes), F


@functools.cache
def reference(index, mode, bias):
    """Arrays, dout, what the loops make of them: out, gradients; and the parameters after the forward."""
    name, x_shape, w_shape, rest = CASES[index]
    arrays, F = inputs(name, x_shape, w_shape)
    if not bias:
        arrays[2] = None
    params = parameters(rest, F, mode)
    out, cache = getattr(naive, f"{name}_forward_naive")(*arrays, *params)
    (dout,) = random_arrays(np.random.default_rng(index), out.shape)
    return arrays, dout, out, getattr(naive, f"{name}_backward_naive")(dout, cache), params


def run_id(run):
    index, mode = run
    name, x_shape, *_ = CASES[index]
    return f"{name}-{'x'.join(map(str, x_shape))}-{mode}"


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("run", RUNS, ids=run_id)
def test_matches_naive(run, bias, isa, dtype):
    index, mode = run
    name, _, w_shape, rest = CASES[index]
    arrays, dout, want, want_gradients, want_params = reference(index, mode, bias)
    F = w_shape[1] if name.startswith("affine") else w_shape[0]
    params = parameters(rest, F, mode)
    out, cache = getattr(cnnlib, f"{name}_forward")(*cast(arrays, dtype), *params)
    assert_close(out, want, dtype)
    got = getattr(cnnlib, f"{name}_backward")(dout.astype(dtype), cache)
    # Batch norm takes the mean away, so that a bias before it has no gradient but rounding.
    scale = np.max(np.abs(dout)) if "bn" in name else 0.0
    for gradient, want_gradient in zip(got, want_gradients, strict=True):
        if want_gradient is None:
            assert gradient is None
        else:
            assert_close(gradient, want_gradient, dtype, scale=scale)
    for param, want_param in zip(params, want_params, strict=True):
        for key in ("running_mean", "running_var"):
            if key in want_param:
                np.testing.assert_allclose(param[key], want_param[key], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("index", [3, 5, 8, 11, 14])
def test_unknown_keys_are_refused(index):
    name, x_shape, w_shape, rest = CASES[index]
    arrays, F = inputs(name, x_shape, w_shape)
    for position in range(len(rest)):
        params = [dict(param) for param in parameters(rest, F, "train")]
        params[position]["strides"] = 1
        with pytest.raises(ValueError, match="strides"):
            getattr(cnnlib, f"{name}_forward")(*arrays, *params)


def test_a_refused_pool_moves_no_statistics():
    x, w, b, gamma, beta = inputs(*CASES[-1][:3])[0]
    param, window = {"mode": "train"}, {"pool_height": 99, "pool_width": 1}
    with pytest.raises(ValueError, match="larger than the padded input"):
        cnnlib.conv_bn_relu_pool_forward(x, w, b, gamma, beta, {}, param, window)
    assert param == {"mode": "train"}


PLAIN, GROUPED = (41, {"stride": 1, "pad": 0}), (40, {"stride": 2, "pad": (1, 0), "groups": 5})


@pytest.mark.parametrize(
    ("F", "param", "mode", "needs"),
    [(*PLAIN, "train", None), (*GROUPED, "train", ("dx", "db")), (*GROUPED, "test", ("dw",))],
    ids=str,
)
def test_conv_bn_relu_of_a_large_batch(F, param, mode, needs, isa, dtype, rng):
    """Large enough for two blocks of images in the backward pass."""
    N = 400 // np.dtype(dtype).itemsize
    groups = param.get("groups", 1)
    size = 24 * param["stride"]
    x, w, b, gamma, beta = cast(
        random_arrays(rng, (N, 5, size, size), (F, 5 // groups, 1, 1), (F,), (F,), (F,)), dtype
    )
    bn_param = parameters(("bn",), F, mode)[0]
    out, cache = cnnlib.conv_bn_relu_forward(x, w, b, gamma, beta, param, dict(bn_param))
    a, conv_cache = cnnlib.conv_forward(x, w, b, param)
    normed, bn_cache = cnnlib.spatial_batchnorm_forward(a, gamma, beta, dict(bn_param))
    want, relu_cache = cnnlib.relu_forward(normed)
    assert_all_close((out,), (want.astype(np.float64),), dtype)

    dout = random_arrays(rng, out.shape)[0].astype(dtype)
    got = cnnlib.conv_bn_relu_backward(dout, cache, needs=needs)
    da, dgamma, dbeta = cnnlib.spatial_batchnorm_backward(cnnlib.relu_backward(dout, relu_cache), bn_cache)
    wants = (*cnnlib.conv_backward(da, conv_cache, needs=needs), dgamma, dbeta)
    for name, grad, want in zip(("dx", "dw", "db", "dgamma", "dbeta"), got, wants, strict=True):
        if want is None:
            assert grad is None
        elif (
            name == "db" and mode == "train"
        ):  # batch norm takes the bias out again: rounding errors are left
            assert np.abs(grad).max() < 1e-3 * np.abs(dout).sum() / F
        else:
            # In float32 a value next to 0 may pass ReLU on one side alone.
            tolerance = 1e-3 if dtype == np.float32 else None
            assert_close(grad, want.astype(np.float64), dtype, tolerance, scale=1.0)


def test_backward_of_wide_depthwise_layers_with_fewer_rows_of_dout(dtype, rng):
    """One channel with one filter, unpadded: some bands of rows of dx had no rows of dout at all."""
    x, w = cast(random_arrays(rng, (1, 1, 16, 1200), (1, 1, 3, 3)), dtype)
    one = np.ones(1, dtype)
    out, cache = cnnlib.conv_relu_forward(x, w, None, {})
    dx, dw, _ = cnnlib.conv_relu_backward(np.ones_like(out), cache)
    conv_out, conv_cache = cnnlib.conv_forward(x, w, None, {})
    want = cnnlib.conv_backward((conv_out > 0).astype(dtype), conv_cache)
    np.testing.assert_array_equal(dx, want[0])
    np.testing.assert_array_equal(dw, want[1])
    out, cache = cnnlib.conv_bn_relu_forward(x, w, None, one, one, {}, {"mode": "train"})
    assert all(np.isfinite(g).all() for g in cnnlib.conv_bn_relu_backward(out, cache) if g is not None)
    out, cache = cnnlib.conv_transpose_forward(x, w, None, {"pad": 0})
    dx, dw, _ = cnnlib.conv_transpose_backward(np.ones_like(out), cache)
    np.testing.assert_allclose(dx, np.full_like(x, w.sum()), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(dw, np.full_like(w, x.sum()), rtol=1e-3, atol=1e-3)
