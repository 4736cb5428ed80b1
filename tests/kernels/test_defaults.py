"""What a call may leave out: biases and conv_param; a pool's window by `size`."""

import inspect

import cnnlib
import numpy as np
import pytest
from cnnlib import layers, naive
from training import assert_same_bits

RNG = np.random.default_rng(0)
IMAGES, FILTERS = RNG.standard_normal((2, 3, 6, 7)), RNG.standard_normal((3, 3, 2, 3))
CONVOLUTIONS = {
    "conv": (IMAGES, FILTERS),
    "conv_transpose": (IMAGES, FILTERS),
    "conv_relu": (IMAGES, FILTERS),
    "conv1d": (IMAGES[:, :, 0], FILTERS[:, :, 0]),
    "conv3d": (IMAGES[:, :, None], FILTERS[:, :, None]),
}
NORM = (np.ones(3), np.zeros(3))


def bn_param():
    return {"mode": "train"}


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("twin", ["", "_naive"])
def test_no_bias_stride_1_no_padding(name, twin):
    module = naive if twin else layers
    forward, backward = (getattr(module, f"{name}_{way}{twin}") for way in ("forward", "backward"))
    wanted, wanted_cache = forward(*CONVOLUTIONS[name], None, {"stride": 1, "pad": 0})
    dout = np.ones_like(wanted)
    for rest in ((), (None,), (None, None), (None, {})):
        out, cache = forward(*CONVOLUTIONS[name], *rest)
        assert_same_bits(out, wanted)
        *grads, db = backward(dout, cache)
        assert db is None
        assert_same_bits(grads, list(backward(dout, wanted_cache)[:2]))
    dilated, _ = forward(*CONVOLUTIONS[name], conv_param={"pad": 1})
    assert dilated.shape != wanted.shape


@pytest.mark.parametrize("twin", ["", "_naive"])
def test_the_cache_has_a_dict(twin):
    """Whoever unpacks it may ask it for a stride."""
    forward = getattr(naive if twin else layers, f"conv_forward{twin}")
    *_, conv_param = forward(IMAGES, FILTERS)[1]
    assert conv_param == {}


@pytest.mark.parametrize("compiled", [True, False])
def test_caches_of_both_kinds_serve_the_other(compiled):
    forward = cnnlib.conv_forward if compiled else naive.conv_forward_naive
    backward = naive.conv_backward_naive if compiled else cnnlib.conv_backward
    out, cache = forward(IMAGES, FILTERS)
    for got, want in zip(backward(out, cache)[:2], cnnlib.conv_backward(out, (IMAGES, FILTERS, None, {}))):
        np.testing.assert_allclose(got, want, rtol=1e-10)


@pytest.mark.parametrize("twin", ["", "_naive"])
def test_sandwiches_whose_last_arguments_are_needed(twin):
    module = naive if twin else layers
    relu_pool = getattr(module, f"conv_relu_pool_forward{twin}")
    assert_same_bits(
        relu_pool(IMAGES, FILTERS, None, None, {"size": 2})[0],
        relu_pool(IMAGES, FILTERS, None, {}, {"pool_height": 2, "pool_width": 2})[0],
    )
    normed = getattr(module, f"conv_bn_relu_forward{twin}")
    wanted = normed(IMAGES, FILTERS, None, *NORM, {}, bn_param())[0]
    assert_same_bits(normed(IMAGES, FILTERS, None, *NORM, None, bn_param())[0], wanted)
    pooled = getattr(module, f"conv_bn_relu_pool_forward{twin}")
    wanted = pooled(IMAGES, FILTERS, None, *NORM, {}, bn_param(), {"size": 2})[0]
    assert_same_bits(pooled(IMAGES, FILTERS, None, *NORM, None, bn_param(), {"size": 2})[0], wanted)


@pytest.mark.parametrize("name", ["affine", "affine_relu"])
@pytest.mark.parametrize("twin", ["", "_naive"])
def test_affine_layers_without_bias(name, twin):
    forward = getattr(naive if twin else layers, f"{name}_forward{twin}")
    x, w = RNG.standard_normal((3, 4)), RNG.standard_normal((4, 2))
    assert_same_bits(forward(x, w)[0], forward(x, w, None)[0])


def test_prepared_filters_take_no_more():
    filters = cnnlib.prepare_conv(FILTERS, np.ones(3), {"pad": 1})
    assert_same_bits(
        cnnlib.conv_forward(IMAGES, filters)[0],
        cnnlib.conv_forward(IMAGES, FILTERS, np.ones(3), {"pad": 1})[0],
    )
    with pytest.raises(ValueError, match="b and conv_param belong to the prepared w"):
        cnnlib.conv_forward(IMAGES, filters, None, {})


def test_twins_have_the_same_arguments():
    for name in dir(layers):
        twin = getattr(naive, f"{name}_naive", None)
        if name.endswith("_forward") and twin is not None:
            ours = inspect.signature(getattr(layers, name)).parameters
            of_twin = inspect.signature(twin).parameters
            shared = {key: of_twin[key].default for key in of_twin}
            assert shared == {key: ours[key].default for key in ours if key in of_twin}, name


POOLS = [
    (f"{kind}_pool{rank}", images, names)
    for kind in ("max", "avg")
    for rank, images, names in (
        ("1d", IMAGES[:, :, 0], ("pool_width",)),
        ("", IMAGES, ("pool_height", "pool_width")),
        ("3d", np.stack([IMAGES, IMAGES], 2), ("pool_depth", "pool_height", "pool_width")),
    )
]


@pytest.mark.parametrize(("name", "x", "names"), POOLS)
@pytest.mark.parametrize("twin", ["", "_naive"])
class TestPools:
    def test_one_size_or_one_for_each_axis(self, name, x, names, twin):
        forward = getattr(naive if twin else layers, f"{name}_forward{twin}")
        backward = getattr(naive if twin else layers, f"{name}_backward{twin}")
        for size, sizes in ((2, (2,) * len(names)), ((1, 2, 3)[-len(names) :], (1, 2, 3)[-len(names) :])):
            by_name = dict(zip(names, sizes, strict=True))
            wanted, wanted_cache = forward(x, by_name)
            for pool_param in ({"size": size}, {"size": list(sizes)}, {"size": size, **by_name}):
                out, cache = forward(x, pool_param)
                assert_same_bits(out, wanted)
                assert cache[1] is pool_param
                assert_same_bits(backward(wanted, cache), backward(wanted, wanted_cache))

    def test_both_that_differ(self, name, x, names, twin):
        forward = getattr(naive if twin else layers, f"{name}_forward{twin}")
        for key in names:
            with pytest.raises(ValueError, match=f"{name}_forward.*: size 2 and {key} 1 in pool_"):
                forward(x, {"size": 2, key: 1})

    @pytest.mark.parametrize("size", [0, -1, (2, 2, 2, 2), (), 1.5, None, "2", True])
    def test_what_is_no_size(self, name, x, names, twin, size):
        forward = getattr(naive if twin else layers, f"{name}_forward{twin}")
        with pytest.raises((TypeError, ValueError), match=f"{name}_forward.*: size must be "):
            forward(x, {"size": size})

    def test_neither(self, name, x, names, twin):
        forward = getattr(naive if twin else layers, f"{name}_forward{twin}")
        with pytest.raises(KeyError, match=rf"lacks '{names[0]}'.* \(or 'size'\)"):
            forward(x, {"stride": 1})


def test_sizes_of_volumes_for_images():
    with pytest.raises(ValueError, match="unknown key 'pool_depth'"):
        cnnlib.max_pool_forward(IMAGES, {"size": 2, "pool_depth": 2})


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
class TestSoftmax:
    def test_any_axis(self, dtype):
        x = RNG.standard_normal((2, 3, 4, 5)).astype(dtype)
        for axis in range(-4, 4):
            out = cnnlib.softmax(x, axis)
            assert out.dtype == dtype
            np.testing.assert_allclose(out, naive.softmax_naive(x, axis), rtol=1e-5)
            np.testing.assert_allclose(out.sum(axis=axis), 1, rtol=1e-5)

    def test_is_that_of_the_layer(self, dtype):
        for shape in ((4, 3), (2, 3, 4, 5), (2, 3, 7)):
            x = RNG.standard_normal(shape).astype(dtype)
            assert_same_bits(cnnlib.softmax(x), cnnlib.softmax_forward(x)[0])
        row = RNG.standard_normal(9).astype(dtype)
        assert_same_bits(cnnlib.softmax(row, axis=0), cnnlib.softmax(row[None])[0])

    def test_large_scores(self, dtype):
        x = np.array([[1e4, 1e4], [0, -1e4]], dtype)
        assert_same_bits(cnnlib.softmax(x), np.array([[0.5, 0.5], [1, 0]], dtype))

    def test_no_samples(self, dtype):
        assert cnnlib.softmax(np.zeros((0, 3), dtype)).shape == (0, 3)
        assert cnnlib.softmax(np.zeros((0, 3), dtype)).dtype == dtype


@pytest.mark.parametrize(
    ("x", "axis", "error"),
    [
        (np.zeros((2, 3)), 2, ValueError),
        (np.zeros((2, 3)), -3, ValueError),
        (np.zeros((2, 0)), 1, ValueError),
        (np.zeros(()), 0, ValueError),
        (np.zeros((2, 3)), 1.0, TypeError),
        (np.zeros((2, 3)), None, TypeError),
        (["a"], 0, TypeError),
    ],
)
def test_softmax_refuses(x, axis, error):
    with pytest.raises(error, match=r"^softmax: "):
        cnnlib.softmax(x, axis)
