"""The loops themselves: their gradients, a convolution written another way, what they refuse.

tests/exchange/test_torch_parity.py compares the compiled layers, whose equals they are, with PyTorch.
"""

import cnnlib
import conv_products
import numpy as np
import pytest
from cnnlib import naive
from cnnlib.gradient_check import eval_numerical_gradient_array, rel_error
from conv_products import conv_results
from helpers import ELEMENTWISE, LAYERS, as_tuple, pair, random_arrays


def test_every_compiled_layer_has_a_twin_and_every_twin_a_layer():
    functions = {
        name for name in vars(cnnlib.layers) if name.endswith(("_forward", "_backward", "_loss", "_entropy"))
    }
    assert {name.removesuffix("_naive") for name in naive.__all__} == functions | {"softmax"}


@pytest.mark.parametrize(
    "name", ["conv", "conv1d", "conv3d", "max_pool", "avg_pool", "max_pool1d", "avg_pool3d"]
)
def test_a_sample_without_its_batch_is_refused_by_name(name):
    """It would count as a batch of samples of one axis less."""
    axes = {"1d": 1, "3d": 3}.get(name[-2:], 2)
    size = {f"pool_{side}": 2 for side in ("depth", "height", "width")[3 - axes :]}
    rest = (np.ones((1, 3, *(2,) * axes)), None, {}) if "conv" in name else (size,)
    with pytest.raises(ValueError, match=rf"^{name}_forward_naive: x must be \(N, C, .*\), got shape \(3, 4"):
        pair(name, naive)[0](np.ones((3, *(4,) * axes)), *rest)


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="torch is not installed")


@pytest.mark.parametrize(
    ("size", "window", "stride", "pads"),
    [
        (5, 3, 1, (1, 1)),
        (5, 3, 2, (1, 1)),
        (6, 3, 2, (0, 1)),
        (7, 2, 3, (0, 0)),
        (8, 4, 1, (1, 2)),
        (5, 1, 3, (0, 0)),
    ],
)
def test_same_padding_puts_the_odd_pixel_below(size, window, stride, pads):
    """The table is worked out by hand from: ceil(size / stride) outputs."""
    x, w = np.arange(1.0, size + 1).reshape(1, 1, size, 1), np.ones((1, 1, window, 1))
    out, _ = naive.conv_forward_naive(x, w, None, {"stride": (stride, 1), "pad": "same"})
    padded = np.concatenate([np.zeros(pads[0]), x.ravel(), np.zeros(pads[1])])
    want = [padded[i * stride : i * stride + window].sum() for i in range(-(-size // stride))]
    np.testing.assert_allclose(out.ravel(), want)


@pytest.mark.peers
def test_special_values_equal_torch(torch):
    """Which of several NaN or equal values a pool takes, and what relu does with NaN."""
    x = np.array([1, 5, 5, 2, np.nan, 5, 0, np.nan, 0, -np.inf, 7, 7, 0, 0, 7, np.inf]).reshape(1, 1, 4, 4)
    dout = np.array([[1.0, 2], [3, 4]]).reshape(1, 1, 2, 2)
    tensor = torch.tensor(x, requires_grad=True)
    want = torch.nn.functional.max_pool2d(tensor, 2)
    want.backward(torch.tensor(dout))
    out, cache = naive.max_pool_forward_naive(x, {"pool_height": 2, "pool_width": 2})
    np.testing.assert_array_equal(out, want.detach().numpy())
    ours = naive.max_pool_backward_naive(dout, cache)
    # Of a window with one NaN, both take it; ties and infinities alike.
    np.testing.assert_array_equal(ours, tensor.grad.numpy())

    tensor = torch.tensor(x, requires_grad=True)
    torch.relu(tensor).backward(torch.ones_like(tensor))
    np.testing.assert_array_equal(naive.relu_backward_naive(np.ones_like(x), x), tensor.grad.numpy())


@pytest.mark.parametrize(
    ("x", "w", "param"),
    [
        ((2, 3, 6, 5), (4, 3, 3, 2), {"stride": (1, 2), "pad": (1, 0)}),
        ((2, 4, 9, 8), (6, 2, 3, 2), {"stride": 2, "groups": 2, "dilation": (1, 3), "pad": ((0, 2), (3, 1))}),
        ((1, 3, 7, 8), (6, 1, 4, 3), {"stride": (3, 1), "groups": 3, "pad": "same"}),
        ((1, 2, 5, 5), (3, 2, 3, 3), {"stride": 7, "pad": 1}),
    ],
)
@pytest.mark.parametrize("bias", [True, False])
def test_conv_is_a_product_of_matrices(x, w, param, bias, rng, monkeypatch):
    """Which other tests take for the loops where the layer is large."""
    x, w, b = random_arrays(rng, x, w, w[:1])
    b = b if bias else None
    dout, want = conv_results(x, w, b, param, rng.standard_normal)
    monkeypatch.setattr(conv_products, "LOOPS", 0)
    for got, by_loops in zip(conv_results(x, w, b, param, lambda shape: dout)[1], want, strict=True):
        assert (got is None) == (by_loops is None)
        if got is not None:
            np.testing.assert_allclose(got, by_loops, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_gradients_are_numerical_gradients(layer, isa, rng):
    """Those of the loops and of the compiled layer, in whose forward pass changes are tried: it is faster."""
    corner = {4: (4, 4), 5: (2, 3, 3)}
    x, *weights = layer.shapes
    if len(x) in corner and layer.names[0] == "x":
        x = (2, x[1], *corner[len(x)])
    arrays = random_arrays(rng, x, *weights)
    out, cache = layer.naive_forward(*arrays, *layer.rest())
    compiled, compiled_cache = layer.forward(*arrays, *layer.rest())
    np.testing.assert_allclose(compiled, out, rtol=1e-11, atol=1e-11)
    (dout,) = random_arrays(rng, out.shape)
    both = as_tuple(layer.naive_backward(dout, cache)), as_tuple(layer.backward(dout, compiled_cache))
    for array, *gradients in zip(arrays, *both, strict=True):
        numerical = eval_numerical_gradient_array(
            lambda _: layer.forward(*arrays, *layer.rest())[0], array, dout
        )
        scale = max(np.max(np.abs(numerical)), 1e-2)
        for gradient in gradients:
            np.testing.assert_allclose(gradient, numerical, rtol=0, atol=1e-6 * scale)


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_the_dtype_is_kept(layer, dtype, rng):
    arrays = layer.arrays(rng, dtype)
    out, cache = layer.naive_forward(*arrays, *layer.rest())
    assert out.dtype == dtype
    gradients = layer.naive_backward(out, cache)
    for array, gradient in zip(
        arrays, gradients if isinstance(gradients, tuple) else [gradients], strict=True
    ):
        assert gradient.dtype == dtype
        assert gradient.shape == array.shape


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_inputs_are_not_written(layer, rng):
    arrays = layer.arrays(rng)
    kept = [array.copy() for array in arrays]
    out, cache = layer.naive_forward(*arrays, *layer.rest())
    layer.naive_backward(out, cache)
    for array, copy in zip(arrays, kept, strict=True):
        np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "bool"])
@pytest.mark.parametrize("layer", LAYERS, ids=str)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_small_integers_do_not_wrap_around(layer, dtype, rng):
    def integers(shape):
        return rng.integers(0, 2 if dtype == "bool" else 120, shape).astype(dtype)

    arrays = [integers(array.shape) for array in layer.arrays(rng)]
    (want, cache), (got, loops_cache) = (
        forward(*arrays, *layer.rest()) for forward in (layer.forward, layer.naive_forward)
    )
    dout = integers(want.shape)
    wanted = want, *as_tuple(layer.backward(dout, cache))
    for loops, compiled in zip(
        (got, *as_tuple(layer.naive_backward(dout, loops_cache))), wanted, strict=True
    ):
        np.testing.assert_allclose(loops, compiled, rtol=1e-6, atol=1e-6 * max(1, np.abs(compiled).max()))


@pytest.mark.parametrize("dtype", ["uint8", "int8", "bool"])
@pytest.mark.parametrize("name", ["softmax", "svm", "mse", "l1", "huber", "bce", "dice"])
def test_losses_of_small_integers_do_not_wrap_around(name, dtype, rng):
    x, y = rng.integers(0, 2 if dtype == "bool" else 120, (2, 6, 4)).astype(dtype)
    target = np.arange(6) % 4 if name in ("softmax", "svm") else y
    loss, dx = getattr(naive, f"{name}_loss_naive")(x, target)
    want, want_dx = getattr(cnnlib, f"{name}_loss")(x, target)
    np.testing.assert_allclose(loss, want, rtol=1e-9)
    np.testing.assert_allclose(dx, want_dx, rtol=1e-9, atol=1e-12)


def test_float_results_of_integer_arrays():
    x, w = np.arange(9).reshape(1, 1, 3, 3), np.array([[[[1, 2], [3, 4]]]])
    out, _ = naive.conv_forward_naive(x, w, np.array([0.5]), {})
    np.testing.assert_array_equal(out[0, 0], [[27.5, 37.5], [57.5, 67.5]])
    assert rel_error(naive.avg_pool_forward_naive(x, {"pool_height": 3, "pool_width": 3})[0], [[[[4]]]]) == 0


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_results_of_a_number_are_arrays_of_its_dtype(name):
    forward, backward = pair(name, naive)
    out, cache = forward(
        np.array(1.5, np.float32), *next(layer for layer in LAYERS if layer.name == name).rest()
    )
    for result in (out, backward(np.array(2.0), cache)):
        assert type(result) is np.ndarray
        assert (result.shape, result.dtype) == ((), np.float32)


@pytest.mark.parametrize("value", [np.int64(2**62), np.uint64(2**63), np.float16(40_000)], ids=repr)
def test_a_means_sum_may_be_more_than_its_dtype_holds(value):
    x = np.full((1, 1, 2, 3), value)
    pool_param = {"pool_height": 2, "pool_width": 3}
    assert naive.avg_pool_forward_naive(x, pool_param)[0] == value
    assert naive.global_avg_pool_forward_naive(x)[0] == value


def test_parameters_may_be_arrays_and_narrow_numbers(rng):
    x, w, gamma = random_arrays(rng, (2, 3, 5, 4), (2, 3, 3, 3), (3,))
    for pad, same in ((np.array([1, 2]), (1, 2)), (np.array([[0, 1], [2, 1]]), ((0, 1), (2, 1)))):
        got, want = (naive.conv_forward_naive(x, w, None, {"pad": p})[0] for p in (pad, same))
        np.testing.assert_array_equal(got, want)
    for mode in ("train", "test"):
        results = [
            forward(x, gamma, gamma, {"mode": mode, "eps": np.float32(0.1), "running_var": gamma**2})[0]
            for forward in pair("spatial_batchnorm", naive)[:1] + pair("spatial_batchnorm")[:1]
        ]
        np.testing.assert_allclose(*results, rtol=1e-12, atol=1e-12)
