"""The loops themselves, where the compiled layers could be wrong together with them.

Mostly against PyTorch on random configurations; where it is absent, against formulas written another way.
"""

import cnnlib
import conv_products
import numpy as np
import pytest
from cnnlib import naive
from cnnlib.gradient_check import eval_numerical_gradient_array, rel_error
from conv_products import conv_results
from helpers import LAYERS, as_tuple, random_arrays

CONFIGURATIONS = range(15)


def naive_pair(name):
    return getattr(naive, f"{name}_forward_naive"), getattr(naive, f"{name}_backward_naive")


def test_every_compiled_layer_has_a_twin_and_every_twin_a_layer():
    functions = {
        name for name in vars(cnnlib.layers) if name.endswith(("_forward", "_backward", "_loss", "_entropy"))
    }
    assert {name.removesuffix("_naive") for name in naive.__all__} == functions


@pytest.mark.parametrize(
    "name", ["conv", "conv1d", "conv3d", "max_pool", "avg_pool", "max_pool1d", "avg_pool3d"]
)
def test_a_sample_without_its_batch_is_refused_by_name(name):
    """It would count as a batch of samples of one axis less."""
    axes = {"1d": 1, "3d": 3}.get(name[-2:], 2)
    size = {f"pool_{side}": 2 for side in ("depth", "height", "width")[3 - axes :]}
    rest = (np.ones((1, 3, *(2,) * axes)), None, {}) if "conv" in name else (size,)
    with pytest.raises(ValueError, match=rf"^{name}_forward_naive: x must be \(N, C, .*\), got shape \(3, 4"):
        naive_pair(name)[0](np.ones((3, *(4,) * axes)), *rest)


def integers(rng, low, high):
    """An int, or a pair of them."""
    return tuple(int(v) for v in rng.integers(low, high + 1, 2))


def compare(torch, name, arrays, rest, function, rng):
    """The loops' results and gradients equal those of a function on tensors."""
    forward, backward = naive_pair(name)
    out, cache = forward(*arrays, *rest)
    tensors = [torch.tensor(a, requires_grad=True) for a in arrays]
    want = function(*tensors)
    assert out.shape == tuple(want.shape)
    np.testing.assert_allclose(out, want.detach().numpy(), rtol=1e-9, atol=1e-10)
    dout = rng.standard_normal(out.shape)
    want.backward(torch.tensor(dout))
    gradients = backward(dout, cache)
    for gradient, tensor in zip(
        gradients if isinstance(gradients, tuple) else [gradients], tensors, strict=True
    ):
        np.testing.assert_allclose(gradient, tensor.grad.numpy(), rtol=1e-9, atol=1e-10)


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="torch is not installed")


@pytest.fixture(params=CONFIGURATIONS)
def random(request):
    return np.random.default_rng(request.param)


def test_conv_equals_torch(torch, random):
    groups = int(random.integers(1, 4))
    C, F = groups * int(random.integers(1, 4)), groups * int(random.integers(1, 4))
    kernel, stride, pad, dilation = (integers(random, *r) for r in ((1, 3), (1, 3), (0, 2), (1, 2)))
    shapes = [(2, C, *integers(random, 5, 8)), (F, C // groups, *kernel), (F,)]
    param = {"stride": stride, "pad": pad, "dilation": dilation, "groups": groups}
    compare(
        torch,
        "conv",
        [random.standard_normal(shape) for shape in shapes],
        (param,),
        lambda x, w, b: torch.nn.functional.conv2d(x, w, b, stride, pad, dilation, groups),
        random,
    )


@pytest.mark.parametrize("kernel", [(3, 3), (2, 4), (5, 2)], ids=str)
@pytest.mark.parametrize("dilation", [1, 2])
def test_conv_with_same_padding_equals_torch(torch, kernel, dilation, rng):
    arrays = [rng.standard_normal(shape) for shape in ((2, 3, 9, 10), (4, 3, *kernel), (4,))]
    rows, cols = (dilation * (k - 1) for k in kernel)
    pads = (cols // 2, cols - cols // 2, rows // 2, rows - rows // 2)  # left, right, top, bottom
    functional = torch.nn.functional
    compare(
        torch,
        "conv",
        arrays,
        ({"pad": "same", "dilation": dilation},),
        lambda x, w, b: functional.conv2d(functional.pad(x, pads), w, b, 1, 0, dilation),
        rng,
    )


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


def test_conv_transpose_equals_torch(torch, random):
    groups = int(random.integers(1, 4))
    C, F = groups * int(random.integers(1, 4)), groups * int(random.integers(1, 4))
    kernel, stride, dilation = (integers(random, *r) for r in ((1, 3), (1, 3), (1, 2)))
    pad = tuple(int(random.integers(0, d * (k - 1) + 1)) for d, k in zip(dilation, kernel, strict=True))
    output_pad = tuple(int(random.integers(0, max(s, d))) for s, d in zip(stride, dilation, strict=True))
    shapes = [(2, C, *integers(random, 3, 6)), (C, F // groups, *kernel), (F,)]
    param = {"stride": stride, "pad": pad, "dilation": dilation, "groups": groups, "output_pad": output_pad}
    compare(
        torch,
        "conv_transpose",
        [random.standard_normal(shape) for shape in shapes],
        (param,),
        lambda x, w, b: torch.nn.functional.conv_transpose2d(
            x, w, b, stride, pad, output_pad, groups, dilation
        ),
        random,
    )


def test_max_pool_equals_torch(torch, random):
    kernel, stride, dilation = (integers(random, *r) for r in ((1, 3), (1, 3), (1, 2)))
    pad = tuple(int(random.integers(0, k // 2 + 1)) for k in kernel)
    ceil_mode = bool(random.integers(2))
    param = {
        "pool_height": kernel[0],
        "pool_width": kernel[1],
        "stride": stride,
        "pad": pad,
        "dilation": dilation,
        "ceil_mode": ceil_mode,
    }
    compare(
        torch,
        "max_pool",
        [random.standard_normal((2, 2, *integers(random, 5, 9)))],
        (param,),
        lambda x: torch.nn.functional.max_pool2d(x, kernel, stride, pad, dilation, ceil_mode),
        random,
    )


def test_avg_pool_equals_torch(torch, random):
    kernel, stride = (integers(random, *r) for r in ((1, 3), (1, 3)))
    pad = tuple(int(random.integers(0, k // 2 + 1)) for k in kernel)
    ceil_mode, count_include_pad = bool(random.integers(2)), bool(random.integers(2))
    param = {
        "pool_height": kernel[0],
        "pool_width": kernel[1],
        "stride": stride,
        "pad": pad,
        "ceil_mode": ceil_mode,
        "count_include_pad": count_include_pad,
    }
    compare(
        torch,
        "avg_pool",
        [random.standard_normal((2, 2, *integers(random, 5, 9)))],
        (param,),
        lambda x: torch.nn.functional.avg_pool2d(x, kernel, stride, pad, ceil_mode, count_include_pad),
        random,
    )


def test_global_avg_pool_equals_torch(torch, rng):
    x = rng.standard_normal((2, 3, 5, 4))
    compare(torch, "global_avg_pool", [x], (), lambda x: x.mean(dim=(2, 3)), rng)


@pytest.mark.parametrize("mode", ["train", "test"])
@pytest.mark.parametrize("shape", [(5, 3), (2, 3, 4, 5)], ids=str)
def test_batchnorm_equals_torch(torch, shape, mode, rng):
    """PyTorch's momentum is the weight of the new value, and its running variance the unbiased one."""
    arrays = [rng.standard_normal(shape), rng.standard_normal(3), rng.standard_normal(3)]
    mean, var = rng.standard_normal(3), rng.random(3) + 0.5
    torch_mean, torch_var = torch.tensor(mean), torch.tensor(var)
    param = {"mode": mode, "momentum": 0.8, "eps": 1e-3, "running_mean": mean, "running_var": var}
    compare(
        torch,
        "batchnorm" if len(shape) == 2 else "spatial_batchnorm",
        arrays,
        (param,),
        lambda x, gamma, beta: torch.nn.functional.batch_norm(
            x, torch_mean, torch_var, gamma, beta, mode == "train", 0.2, 1e-3
        ),
        rng,
    )
    np.testing.assert_allclose(param["running_mean"], torch_mean.numpy())
    new, torch_new = param["running_var"] - 0.8 * var, torch_var.numpy() - 0.8 * var
    n = arrays[0].size // 3
    np.testing.assert_allclose(new * n / (n - 1) if mode == "train" else new, torch_new)


def test_layernorm_equals_torch(torch, rng):
    arrays = [rng.standard_normal((4, 7)), rng.standard_normal(7), rng.standard_normal(7)]
    compare(
        torch,
        "layernorm",
        arrays,
        ({"eps": 1e-3},),
        lambda x, gamma, beta: torch.nn.functional.layer_norm(x, (7,), gamma, beta, 1e-3),
        rng,
    )


@pytest.mark.parametrize("G", [1, 2, 3, 6])
def test_groupnorm_equals_torch(torch, G, rng):
    arrays = [rng.standard_normal((2, 6, 3, 4)), rng.standard_normal(6), rng.standard_normal(6)]
    compare(
        torch,
        "spatial_groupnorm",
        arrays,
        (G, {"eps": 1e-3}),
        lambda x, gamma, beta: torch.nn.functional.group_norm(x, G, gamma, beta, 1e-3),
        rng,
    )


def test_activations_and_affine_equal_torch(torch, rng):
    x = rng.standard_normal((4, 5))
    compare(torch, "relu", [x], (), torch.relu, rng)
    leaky = torch.nn.functional.leaky_relu
    compare(torch, "leaky_relu", [x], (0.2,), lambda x: leaky(x, 0.2), rng)
    arrays = [x, rng.standard_normal((5, 3)), rng.standard_normal(3)]
    compare(torch, "affine", arrays, (), lambda x, w, b: x @ w + b, rng)


def test_losses_equal_torch(torch, rng):
    x, y = rng.standard_normal((6, 5)), rng.integers(0, 5, 6)
    functional = torch.nn.functional
    for loss, function in (
        (naive.softmax_loss_naive, lambda x, y: functional.cross_entropy(x, y)),
        # PyTorch divides the margins by the number of classes as well
        (naive.svm_loss_naive, lambda x, y: 5 * functional.multi_margin_loss(x, y)),
    ):
        value, dx = loss(x, y)
        tensor = torch.tensor(x, requires_grad=True)
        want = function(tensor, torch.tensor(y))
        want.backward()
        assert value == pytest.approx(want.item(), rel=1e-12)
        np.testing.assert_allclose(dx, tensor.grad.numpy(), atol=1e-12)


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
    arrays = random_arrays(rng, (2, x[1], *corner[len(x)]) if len(x) in corner else x, *weights)
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


def test_float_results_of_integer_arrays():
    x, w = np.arange(9).reshape(1, 1, 3, 3), np.array([[[[1, 2], [3, 4]]]])
    out, _ = naive.conv_forward_naive(x, w, np.array([0.5]), {})
    np.testing.assert_array_equal(out[0, 0], [[27.5, 37.5], [57.5, 67.5]])
    assert rel_error(naive.avg_pool_forward_naive(x, {"pool_height": 3, "pool_width": 3})[0], [[[[4]]]]) == 0


@pytest.mark.parametrize("N", [0, 1])
@pytest.mark.parametrize("name", ["conv", "max_pool", "avg_pool"])
def test_a_window_that_does_not_fit_is_refused(name, N):
    x, w = np.zeros((N, 1, 4, 4)), np.zeros((1, 1, 5, 5))
    arguments = (w, None, {}) if name == "conv" else ({"pool_height": 5, "pool_width": 5},)
    with pytest.raises(ValueError, match="window is larger than the padded input: 5 > 4"):
        getattr(naive, f"{name}_forward_naive")(x, *arguments)
