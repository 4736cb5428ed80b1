"""`needs`: which gradients are wanted. `out`: a buffer for the result."""

import inspect
import itertools

import cnnlib
import numpy as np
import pytest
from helpers import LAYERS, as_tuple, random_arrays

pytestmark = pytest.mark.sets

WITH_NEEDS = [layer for layer in LAYERS if "needs" in inspect.signature(layer.backward).parameters]
WITH_OUT = [layer for layer in LAYERS if "out" in inspect.signature(layer.forward).parameters]
WEIGHTED = ("dx", "dw", "db")
NAMES = (*WEIGHTED, "dgamma", "dbeta")


def test_which_layers_have_them():
    """All with weights choose gradients; convolution, pooling and normalisation write to buffers."""
    assert {layer.name for layer in WITH_NEEDS} >= {
        "conv",
        "conv_transpose",
        "affine",
        "affine_relu",
        "affine_bn_relu",
        "conv_relu",
        "conv_bn_relu",
        "conv_relu_pool",
        "conv_bn_relu_pool",
    }
    assert {layer.name for layer in WITH_OUT} >= {
        "conv",
        "conv_transpose",
        "max_pool",
        "avg_pool",
        "global_avg_pool",
        "batchnorm",
        "spatial_batchnorm",
        "layernorm",
        "spatial_layernorm",
        "spatial_groupnorm",
    }


def prepared(layer, rng, dtype=np.float64):
    arrays = layer.arrays(rng, dtype)
    out, cache = layer.forward(*arrays, *layer.rest())
    (dout,) = random_arrays(rng, out.shape)
    return arrays, dout.astype(dtype), out, cache


SUBSETS = [subset for size in range(4) for subset in itertools.combinations(WEIGHTED, size)]


def assert_alone(backward, dout, cache):
    """The gradients asked for come back, and are the same; of a norm the others too."""
    full = backward(dout, cache)
    for needs in SUBSETS:
        some = backward(dout, cache, needs=needs)
        wanted = [None if name in WEIGHTED and name not in needs else g for name, g in zip(NAMES, full)]
        assert [got is None for got in some] == [want is None for want in wanted], needs
        for got, want in zip(some, wanted, strict=True):
            np.testing.assert_array_equal(got, want, str(needs))


@pytest.mark.parametrize("layer", WITH_NEEDS, ids=str)
def test_only_the_gradients_asked_for_come_back_and_they_are_the_same(layer, isa, dtype, rng):
    _, dout, _, cache = prepared(layer, rng, dtype)
    assert_alone(layer.backward, dout, cache)


@pytest.mark.parametrize(
    ("C", "F", "size"), [(3, 9, 3), (3, 16, 5), (3, 32, 7), (8, 32, 7), (16, 16, 1)], ids=str
)
def test_gradients_of_a_first_layer_are_the_same_alone(C, F, size, isa, dtype, rng):
    """Images with few channels share one pass over dout, and large kernels one for dw and db."""
    stride = min(size, 2)
    out = (5, F, -(-19 // stride), -(-37 // stride))
    x, w, dout = (
        array.astype(dtype) for array in random_arrays(rng, (5, C, 19, 37), (F, C, size, size), out)
    )
    _, cache = cnnlib.conv_forward(x, w, np.zeros(F, dtype), {"stride": stride, "pad": size // 2})
    assert_alone(cnnlib.conv_backward, dout, cache)


@pytest.mark.parametrize("method", ["depthwise-rows", "depthwise-channels"])
def test_gradients_of_a_depthwise_layer_are_the_same_alone(method, isa, dtype, rng):
    """An image is cut into several bands, at whose ends sums are rounded."""
    x, w = (array.astype(dtype) for array in random_arrays(rng, (1, 2, 250, 200), (2, 1, 3, 3)))
    param = {"pad": 1, "groups": 2, "algorithm": method}
    out, cache = cnnlib.conv_forward(x, w, np.zeros(2, dtype), param)
    assert_alone(cnnlib.conv_backward, out, cache)


@pytest.mark.parametrize("layer", WITH_NEEDS, ids=str)
def test_needs_is_none_or_names(layer, rng):
    _, dout, _, cache = prepared(layer, rng)
    for got, want in zip(layer.backward(dout, cache, needs=None), layer.backward(dout, cache), strict=True):
        np.testing.assert_array_equal(got, want)
    assert layer.backward(dout, cache, needs=["dw"])[1] is not None
    with pytest.raises(ValueError, match=r"needs may name 'dx', 'dw', 'db', got 'dW'"):
        layer.backward(dout, cache, needs=("dx", "dW"))
    for wrong in ("dx", 1, iter(["dx"])):
        with pytest.raises(TypeError, match=r"needs must be a tuple of names, got "):
            layer.backward(dout, cache, needs=wrong)


@pytest.mark.parametrize(
    "needs",
    [("dw",), ("".join(("d", "w")),), ("dw", "dw"), ["dw"], {"dw"}],
    ids=["plain", "own", "twice", "list", "set"],
)
def test_any_collection_of_names_and_any_sequence_of_parts(needs, rng):
    x, w, b = random_arrays(rng, (2, 3, 5, 5), (4, 3, 3, 3), (4,))
    out, cache = cnnlib.conv_forward(x, w, b, {})
    for parts in (cache, list(cache)):
        dx, dw, db = cnnlib.conv_backward(out, parts, needs=needs)
        np.testing.assert_array_equal(dw, cnnlib.conv_backward(out, cache)[1])
        assert (dx, db) == (None, None)


def test_db_is_none_without_a_bias_whatever_is_asked_for(rng):
    x, w = random_arrays(rng, (2, 3, 5, 5), (4, 3, 3, 3))
    out, cache = cnnlib.conv_forward(x, w, None, {})
    assert cnnlib.conv_backward(out, cache, needs=("db",)) == (None, None, None)


@pytest.mark.parametrize("layer", WITH_OUT, ids=str)
def test_out_receives_the_result(layer, isa, dtype, rng):
    arrays, dout, want, cache = prepared(layer, rng, dtype)
    buffer = np.full(want.shape, np.nan, dtype)
    got, got_cache = layer.forward(*arrays, *layer.rest(), out=buffer)
    assert np.shares_memory(got, buffer)
    np.testing.assert_array_equal(buffer, want)
    wanted, found = (as_tuple(layer.backward(dout, c)) for c in (cache, got_cache))
    for gradient, want_gradient in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(gradient, want_gradient)


@pytest.mark.parametrize("layer", WITH_OUT, ids=str)
def test_out_that_does_not_fit_is_refused(layer, rng):
    arrays, _, want, _ = prepared(layer, rng)
    for wrong in (np.empty(want.size + 1), np.empty((*want.shape, 1)), want[1:].copy()):
        with pytest.raises(ValueError, match="out must have shape") as error:
            layer.forward(*arrays, *layer.rest(), out=wrong)
        assert str(wrong.shape) in str(error.value)
    with pytest.raises(ValueError, match="out must have dtype float64, got float32"):
        layer.forward(*arrays, *layer.rest(), out=want.astype(np.float32))
    with pytest.raises(TypeError, match="out must be a NumPy array, got list"):
        layer.forward(*arrays, *layer.rest(), out=[0.0])
    read_only = np.empty_like(want)
    read_only.flags.writeable = False
    spread = np.empty((*want.shape, 2))[..., 0]
    swapped = np.empty(want.shape, want.dtype.newbyteorder())
    for wrong in (read_only, spread, swapped):
        with pytest.raises(ValueError, match=r"out must (be C-contiguous, aligned and writable|have dtype)"):
            layer.forward(*arrays, *layer.rest(), out=wrong)


@pytest.mark.parametrize("layer", WITH_OUT, ids=str)
def test_out_that_overlaps_an_input_is_refused(layer, rng):
    """An input is never written to, and the cache still needs it."""
    arrays, _, want, _ = prepared(layer, rng)
    for position, array in enumerate(arrays):
        base = np.empty(array.size + want.size - 1)
        overlapping = list(arrays)
        overlapping[position] = base[want.size - 1 :].reshape(array.shape)  # one element in common
        overlapping[position][...] = array
        with pytest.raises(ValueError, match=rf"{layer.name}_forward: out\b"):
            layer.forward(*overlapping, *layer.rest(), out=base[: want.size].reshape(want.shape))
        np.testing.assert_array_equal(overlapping[position], array)
