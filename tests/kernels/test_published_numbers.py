"""Numbers that the course notebook prints for its layers, which anyone's right version reproduces."""

import cnnlib
import numpy as np
import pytest
from cnnlib import _core, fast_layers, naive
from cnnlib.gradient_check import eval_numerical_gradient_array, rel_error

# Values are printed with eight decimals, hence the differences of some 1e-8.
CONV_OUT = np.array(
    [
        [
            [[-0.08759809, -0.10987781], [-0.18387192, -0.2109216]],
            [[0.21027089, 0.21661097], [0.22847626, 0.23004637]],
            [[0.50813986, 0.54309974], [0.64082444, 0.67101435]],
        ],
        [
            [[-0.98053589, -1.03143541], [-1.19128892, -1.24695841]],
            [[0.69108355, 0.66880383], [0.59480972, 0.56776003]],
            [[2.36270298, 2.36904306], [2.38090835, 2.38247847]],
        ],
    ]
)
MAX_POOL_OUT = np.array(
    [
        [
            [[-0.26315789, -0.24842105], [-0.20421053, -0.18947368]],
            [[-0.14526316, -0.13052632], [-0.08631579, -0.07157895]],
            [[-0.02736842, -0.01263158], [0.03157895, 0.04631579]],
        ],
        [
            [[0.09052632, 0.10526316], [0.14947368, 0.16421053]],
            [[0.20842105, 0.22315789], [0.26736842, 0.28210526]],
            [[0.32631579, 0.34105263], [0.38526316, 0.4]],
        ],
    ]
)


@pytest.fixture(params=["naive", *_core.available_isas()])
def layer(request):
    """Look a layer's function up by its name: the loops, or the compiled one on each instruction set."""
    if request.param == "naive":
        yield lambda name: getattr(naive, f"{name}_naive")
        return
    previous = _core.active_isa()
    _core.use_isa(request.param)
    yield lambda name: getattr(cnnlib, name)
    _core.use_isa(previous)


def linspace(low, high, *shape):
    return np.linspace(low, high, num=int(np.prod(shape))).reshape(shape)


def numerical_errors(forward, backward, arrays, rest, dout):
    """Relative error of each gradient against the numerical one."""
    _, cache = forward(*arrays, *rest)
    gradients = backward(dout, cache)
    errors = []
    for array, gradient in zip(arrays, gradients, strict=True):
        numerical = eval_numerical_gradient_array(lambda _: forward(*arrays, *rest)[0], array, dout)
        errors.append(rel_error(gradient, numerical))
    return errors


def test_conv_forward(layer):
    x = linspace(-0.1, 0.5, 2, 3, 4, 4)
    w = linspace(-0.2, 0.3, 3, 3, 4, 4)
    b = np.linspace(-0.1, 0.2, num=3)
    out, _ = layer("conv_forward")(x, w, b, {"stride": 2, "pad": 1})
    assert rel_error(out, CONV_OUT) == pytest.approx(2.2e-8, rel=0.05)


def test_conv_backward(layer, rng):
    arrays = [rng.standard_normal(shape) for shape in ((4, 3, 5, 5), (2, 3, 3, 3), (2,))]
    dout = rng.standard_normal((4, 2, 5, 5))
    rest = ({"stride": 1, "pad": 1},)
    dx, dw, db = numerical_errors(layer("conv_forward"), layer("conv_backward"), arrays, rest, dout)
    assert dx < 1e-6
    assert dw < 1e-6
    assert db < 1e-8


def test_max_pool_forward(layer):
    x = linspace(-0.3, 0.4, 2, 3, 4, 4)
    out, _ = layer("max_pool_forward")(x, {"pool_height": 2, "pool_width": 2, "stride": 2})
    assert rel_error(out, MAX_POOL_OUT) == pytest.approx(4.2e-8, rel=0.05)


def test_max_pool_backward(layer, rng):
    x, dout = rng.standard_normal((3, 2, 8, 8)), rng.standard_normal((3, 2, 4, 4))
    pool_param = {"pool_height": 2, "pool_width": 2, "stride": 2}
    forward = layer("max_pool_forward")
    _, cache = forward(x, pool_param)
    numerical = eval_numerical_gradient_array(lambda x: forward(x, pool_param)[0], x, dout)
    assert rel_error(layer("max_pool_backward")(dout, cache), numerical) < 1e-9


def test_conv_relu_pool(layer, rng, request):
    arrays = [rng.standard_normal(shape) for shape in ((2, 3, 16, 16), (3, 3, 3, 3), (3,))]
    dout = rng.standard_normal((2, 3, 8, 8))
    if "naive" in request.node.name:  # the loops take half a minute over every pixel of the whole case
        arrays[0], dout = arrays[0][:1, :, :4, :4].copy(), dout[:1, :, :2, :2].copy()
    rest = {"stride": 1, "pad": 1}, {"pool_height": 2, "pool_width": 2, "stride": 2}
    forward, backward = layer("conv_relu_pool_forward"), layer("conv_relu_pool_backward")
    assert max(numerical_errors(forward, backward, arrays, rest, dout)) < 1e-6


def test_conv_relu(layer, rng, request):
    arrays = [rng.standard_normal(shape) for shape in ((2, 3, 8, 8), (3, 3, 3, 3), (3,))]
    dout = rng.standard_normal((2, 3, 8, 8))
    if "naive" in request.node.name:
        arrays[0], dout = arrays[0][:1, :, :4, :4].copy(), dout[:1, :, :4, :4].copy()
    rest = ({"stride": 1, "pad": 1},)
    forward, backward = layer("conv_relu_forward"), layer("conv_relu_backward")
    assert max(numerical_errors(forward, backward, arrays, rest, dout)) < 1e-6


def test_speed_cells_differ_by_rounding_only(isa, rng):
    """The notebook times the fast layers against the loops and prints how far they differ."""
    x, w, b = rng.standard_normal((2, 3, 31, 31)), rng.standard_normal((25, 3, 3, 3)), rng.standard_normal(25)
    dout = rng.standard_normal((2, 25, 16, 16))
    want, cache = naive.conv_forward_naive(x, w, b, {"stride": 2, "pad": 1})
    got, fast_cache = fast_layers.conv_forward_fast(x, w, b, {"stride": 2, "pad": 1})
    assert rel_error(got, want) < 1e-9
    wants, gots = naive.conv_backward_naive(dout, cache), fast_layers.conv_backward_fast(dout, fast_cache)
    for want, got in zip(wants, gots, strict=True):
        assert rel_error(got, want) < 1e-9

    x, dout = rng.standard_normal((2, 3, 32, 32)), rng.standard_normal((2, 3, 16, 16))
    pool_param = {"pool_height": 2, "pool_width": 2, "stride": 2}
    want, cache = naive.max_pool_forward_naive(x, pool_param)
    got, fast_cache = fast_layers.max_pool_forward_fast(x, pool_param)
    assert rel_error(got, want) == 0
    dx, fast_dx = (
        naive.max_pool_backward_naive(dout, cache),
        fast_layers.max_pool_backward_fast(dout, fast_cache),
    )
    assert rel_error(fast_dx, dx) == 0
