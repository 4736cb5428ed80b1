"""An empty batch has empty results; anything else that is empty is refused, by the loops as well."""

import cnnlib
import numpy as np
import pytest
from cnnlib import naive
from helpers import ELEMENTWISE, LAYERS, as_tuple, pair

pytestmark = pytest.mark.sets

POOL = {"pool_height": 2, "pool_width": 2}


def both(name):
    return [pair(name)[0], pair(name, naive)[0]]


def arguments(name, shape, mode="train"):
    """What a layer takes for x of this shape."""
    x, C = np.zeros(shape), shape[1]
    if name == "conv":
        return x, np.zeros((4, 3, 2, 2)), None, {}
    if name == "conv_transpose":
        return x, np.zeros((3, 4, 2, 2)), None, {}
    if name.endswith("batchnorm"):
        return x, np.ones(C), np.ones(C), {"mode": mode}
    if name in ("layernorm", "spatial_layernorm", "spatial_instancenorm"):
        return x, np.ones(C), np.ones(C), {}
    if name == "spatial_groupnorm":
        return x, np.ones(C), np.ones(C), 1, {}
    if name.startswith(("adaptive", "upsample")):
        return x, 2
    return (x,) if name == "global_avg_pool" else (x, POOL)


IMAGE_LAYERS = ["conv", "conv_transpose", "max_pool", "avg_pool", "global_avg_pool"]
IMAGE_LAYERS += ["spatial_batchnorm", "spatial_layernorm", "spatial_groupnorm", "spatial_instancenorm"]
IMAGE_LAYERS += ["adaptive_avg_pool", "adaptive_max_pool", "upsample"]


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_an_empty_batch_has_empty_results(layer, rng):
    arrays = layer.samples(layer.arrays(rng), slice(0))
    out, cache = layer.forward(*arrays, *layer.rest())
    want, naive_cache = layer.naive_forward(*arrays, *layer.rest())
    assert out.shape == want.shape
    assert len(out) == 0
    grads = as_tuple(layer.backward(out, cache))
    wants = as_tuple(layer.naive_backward(want, naive_cache))
    for grad, want_grad, array in zip(grads, wants, arrays, strict=True):
        np.testing.assert_array_equal(grad, np.zeros(array.shape))
        np.testing.assert_array_equal(want_grad, np.zeros(array.shape))


@pytest.mark.parametrize("layer", ["conv_bn_relu", "conv_bn_relu_pool"])
def test_nothing_is_left_of_the_batch_before(layer, rng):
    """Of images of one pixel, which the norm takes as rows."""
    w, gamma = rng.standard_normal((3, 2, 1, 1)), rng.standard_normal(3)
    rest = [{"pool_height": 1, "pool_width": 1}] if layer.endswith("pool") else []
    forward, backward = pair(layer)
    for N in (4, 0):
        x = rng.standard_normal((N, 2, 1, 1))
        out, cache = forward(x, w, np.zeros(3), gamma, gamma, {}, {"mode": "train"}, *rest)
        grads = backward(np.ones_like(out), cache)
    for grad, array in zip(grads, (x, w, gamma, gamma, gamma), strict=True):
        np.testing.assert_array_equal(grad, np.zeros(array.shape))


@pytest.mark.parametrize("mode", ["train", "test"])
@pytest.mark.parametrize("shape", [(2, 3, 0, 5), (2, 3, 4, 0), (2, 0, 4, 5), (0, 3, 0, 5)], ids=str)
@pytest.mark.parametrize("name", IMAGE_LAYERS)
def test_empty_images_are_refused(name, shape, mode):
    for forward in both(name):
        with pytest.raises(ValueError, match=f"{forward.__name__}: x .*{shape[1]}, {shape[2]}, {shape[3]}"):
            forward(*arguments(name, shape, mode))


@pytest.mark.parametrize("name", ["batchnorm", "layernorm"])
@pytest.mark.parametrize("shape", [(2, 0), (0, 0), (2**40, 0)], ids=str)
def test_samples_without_features_have_no_statistics(name, shape):
    for forward in both(name):
        with pytest.raises(ValueError, match=f"{forward.__name__}: x .*empty.*, 0"):
            forward(*arguments(name, shape))


@pytest.mark.parametrize("N", [0, 2])
@pytest.mark.parametrize("name", ["conv", "max_pool", "avg_pool"])
@pytest.mark.parametrize("size", [(1, 4), (4, 1)], ids=str)
def test_a_window_that_does_not_fit_is_refused_in_an_empty_batch_too(name, N, size):
    for forward in both(name):
        with pytest.raises(ValueError, match=rf"{forward.__name__}: the window (of w )?is larger .*2 > 1"):
            forward(*arguments(name, (N, 3, *size)))


@pytest.mark.parametrize("shape", [(0, 3, 2, 2), (4, 0, 2, 2), (4, 3, 0, 2), (4, 3, 2, 0)], ids=str)
@pytest.mark.parametrize("name", ["conv", "conv_transpose"])
def test_empty_filters_are_refused(name, shape):
    w = np.zeros(shape if name == "conv" else (shape[1], shape[0], *shape[2:]))
    for forward in both(name):
        with pytest.raises(ValueError, match=f"{forward.__name__}: .*w"):
            forward(np.zeros((2, 3, 4, 5)), w, None, {})


@pytest.mark.parametrize("name", ["affine", "affine_relu"])
@pytest.mark.parametrize(
    ("x", "w"),
    [((3, 0), (0, 5)), ((3, 0, 2), (0, 5)), ((3, 4), (4, 0)), ((0, 4), (4, 0)), ((0, 0), (0, 0))],
    ids=str,
)
def test_affine_layers_sum_over_nothing(name, x, w, isa, dtype):
    x, w, b = np.ones(x, dtype), np.ones(w, dtype), np.arange(1, w[1] + 1, dtype=dtype)
    for forward, backward in (pair(name), pair(name, naive)):
        out, cache = forward(x, w, b)
        want = np.broadcast_to(b + w.shape[0], (len(x), w.shape[1]))
        np.testing.assert_array_equal(out, want)
        dx, dw, db = backward(out, cache)
        np.testing.assert_array_equal(dx, np.full(x.shape, np.sum(b + w.shape[0])))
        np.testing.assert_array_equal(dw, np.broadcast_to((b + w.shape[0]) * len(x), w.shape))
        np.testing.assert_array_equal(db, (b + w.shape[0]) * len(x))


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 3, 0), (2, 3, 0, 5)], ids=str)
@pytest.mark.parametrize("layer", [la for la in LAYERS if la.name in ELEMENTWISE], ids=str)
def test_elementwise_layers_take_any_empty_shape(layer, shape, dtype):
    for forward, backward in [(layer.forward, layer.backward), (layer.naive_forward, layer.naive_backward)]:
        out, cache = forward(np.ones(shape, dtype), *layer.rest())
        assert out.shape == backward(out, cache).shape == shape
        assert out.dtype == dtype


@pytest.mark.parametrize("name", ["softmax_loss", "svm_loss"])
def test_losses_of_nothing(name, dtype):
    for loss in (getattr(cnnlib, name), getattr(naive, f"{name}_naive")):
        value, dx = loss(np.zeros((0, 4), dtype), np.zeros(0, int))
        assert (value, dx.shape, dx.dtype) == (0.0, (0, 4), dtype)
        for N in (0, 3):
            with pytest.raises(ValueError, match=rf"{loss.__name__}: x .*\({N}, 0\)"):
                loss(np.zeros((N, 0)), np.zeros(N, int))


@pytest.mark.parametrize(
    "name", ["mse_loss", "l1_loss", "huber_loss", "bce_loss", "dice_loss", "cross_entropy"]
)
def test_losses_of_no_values(name):
    for loss in (getattr(cnnlib, name), getattr(naive, f"{name}_naive")):
        value, dx = loss(np.zeros((0, 4, 3)), np.zeros((0, 4, 3)))
        assert (value, dx.shape) == (0.0, (0, 4, 3))


@pytest.mark.parametrize("name", ["softmax_loss", "cross_entropy"])
def test_losses_of_images_without_pixels(name):
    y = np.zeros((2, 0, 3), int) if name == "softmax_loss" else np.zeros((2, 4, 0, 3))
    for loss in (getattr(cnnlib, name), getattr(naive, f"{name}_naive")):
        value, dx = loss(np.zeros((2, 4, 0, 3)), y)
        assert (value, dx.shape) == (0.0, (2, 4, 0, 3))


def test_global_pools_take_axes_as_long_as_arrays_have_them():
    x = np.empty((0, 3, 2**40, 1), np.float32)
    assert cnnlib.global_avg_pool_backward(*cnnlib.global_avg_pool_forward(x)).shape == x.shape


def test_padding_that_leaves_nothing_of_a_transposed_convolution_is_refused():
    for forward in both("conv_transpose"):
        with pytest.raises(ValueError, match=f"{forward.__name__}: .*pad"):
            forward(np.zeros((1, 1, 2, 2)), np.zeros((1, 1, 3, 3)), None, {"pad": 2})


@pytest.mark.parametrize("algorithm", ["auto", "col2im"])
def test_results_that_no_array_can_have_are_refused_by_name(algorithm):
    x, w = np.zeros((0, 1, 1, 1)), np.zeros((1, 1, 3, 3))
    param = {"pad": 2**31 - 1, "algorithm": algorithm}
    with pytest.raises(ValueError, match=r"^conv_forward: a result of shape .* is too large$"):
        cnnlib.conv_forward(x, w, None, param)
    x = np.zeros((0, 1, 2**15, 2**15))
    with pytest.raises(ValueError, match=r"^conv_transpose_forward: a result of shape .* is too large$"):
        cnnlib.conv_transpose_forward(x, w, None, {"stride": 2**15, "algorithm": algorithm})


@pytest.mark.parametrize(("name", "axes"), [("conv1d", 1), ("conv", 2), ("conv3d", 3)])
def test_an_empty_batch_has_its_options_checked(name, axes):
    x, w = np.ones((0, 2, *[4] * axes)), np.ones((3, 2, *[3] * axes))
    with pytest.raises(ValueError, match=f"{name}_forward: algorithm must be one of"):
        getattr(cnnlib, f"{name}_forward")(x, w, None, {"algorithm": "fast"})
