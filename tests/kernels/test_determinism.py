"""Results are the same bits whatever the number of threads, and an image's do not depend on its batch."""

import cnnlib
import numpy as np
import pytest
from helpers import LAYERS, cast, random_arrays
from large_layers import LARGE

pytestmark = [pytest.mark.sets, pytest.mark.threads, pytest.mark.core]

MIX_THE_BATCH = {"batchnorm", "spatial_batchnorm", "conv_bn_relu_pool"}
ONE_BY_ONE = [name for name in LARGE if name not in MIX_THE_BATCH]
SHARED_PANELS = {"pad": 1, "algorithm": "shared-panels"}


def bits(arrays):
    return [array.tobytes() for array in arrays]


def run(layer, dtype):
    """All results of a layer, and the arrays and dout that led to them."""
    rng = np.random.default_rng(1)
    arrays = layer.arrays(rng, dtype)
    out, _ = layer.forward(*arrays, *layer.rest())
    (dout,) = cast(random_arrays(rng, out.shape), dtype)
    return layer.run(arrays, dout), arrays, dout


@pytest.mark.parametrize("name", LARGE)
def test_same_bits_for_any_number_of_threads(name, isa, dtype, num_threads, thread_pool):
    num_threads(1)
    want, arrays, dout = run(LARGE[name], dtype)
    for threads in (2, 5, 8, 17, 64):
        thread_pool(threads in (5, 17))
        num_threads(threads)
        assert bits(LARGE[name].run(arrays, dout)) == bits(want)


def test_more_threads_than_blocks_of_channels(isa, dtype, num_threads):
    """Nine tenths of ten threads have a block of channels each: the tenth has nothing to do."""
    _, lanes = cnnlib.explain((5, 300, 16, 17), (16, 300, 3, 3), SHARED_PANELS, dtype).weight_gradient.tile
    x_shape, w_shape = (5, 9 * lanes, 16, 17), (16, 9 * lanes, 3, 3)
    assert cnnlib.explain(x_shape, w_shape, SHARED_PANELS, dtype).weight_gradient.method == "shared-panels"
    arrays = cast(random_arrays(np.random.default_rng(4), x_shape, w_shape, w_shape[:1]), dtype)
    found = set()
    for threads in (1, 10):
        num_threads(threads)
        assert cnnlib.explain(x_shape, w_shape, SHARED_PANELS, dtype).weight_gradient.threads == threads
        out, cache = cnnlib.conv_forward(*arrays, SHARED_PANELS)
        found.add(cnnlib.conv_backward(out, cache)[1].tobytes())
    assert len(found) == 1


def test_same_bits_of_a_batch_cut_into_blocks(isa, dtype, num_threads):
    rng = np.random.default_rng(3)
    N = 400 // np.dtype(dtype).itemsize
    arrays = cast(random_arrays(rng, (N, 5, 24, 24), (40, 5, 1, 1), (40,), (40,), (40,)), dtype)
    (dout,) = cast(random_arrays(rng, (N, 40, 24, 24)), dtype)
    found = set()
    for threads in (1, 2, 3, 8):
        num_threads(threads)
        bn_param = {"mode": "train"}
        out, cache = cnnlib.conv_bn_relu_forward(*arrays, {}, bn_param)
        grads = cnnlib.conv_bn_relu_backward(dout, cache)
        found.add(tuple(bits((out, *grads, bn_param["running_mean"], bn_param["running_var"]))))
    assert len(found) == 1


@pytest.mark.parametrize("name", LARGE)
def test_nothing_of_an_earlier_call_shows(name, isa, dtype):
    """Memory is used again: what a call on NaN alone left there must not reach the next result."""
    layer = LARGE[name]
    want, arrays, dout = run(layer, dtype)
    for _ in range(2):
        layer.run([np.full_like(a, np.nan) for a in arrays], np.full_like(dout, np.nan))
        assert bits(layer.run(arrays, dout)) == bits(want)


@pytest.mark.parametrize("name", ONE_BY_ONE)
def test_an_image_does_not_depend_on_its_batch(name, isa, dtype):
    """Out and dx of some images alone, or with others, are those of the whole batch."""
    layer = LARGE[name]
    (out, *grads), arrays, dout = run(layer, dtype)
    N = len(out)
    for chosen in (
        slice(0, 1),
        slice(N - 1, N),
        slice(N // 2, N // 2 + 2),
        slice(1, None),
        slice(None, None, 2),
    ):
        part, *part_grads = layer.run(layer.samples(arrays, chosen), dout[chosen])
        assert part.tobytes() == out[chosen].tobytes()
        for by_sample, part_grad, grad in zip(layer.by_sample, part_grads, grads, strict=True):
            assert not by_sample or part_grad.tobytes() == grad[chosen].tobytes()


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_every_layer_is_among_those_tested(layer):
    tested = {large.name for large in LARGE.values()}
    # These two draw on nothing compiled of their own, or repeat what the longest sandwich runs.
    assert layer.name in tested | {
        "dropout",
        "affine_relu",
        "affine_bn_relu",
        "conv_relu",
        "conv_bn_relu",
        "conv_relu_pool",
    }


def test_the_running_statistics_too(isa, dtype, num_threads):
    (x,) = cast(random_arrays(np.random.default_rng(2), (9, 33, 29, 28)), dtype)
    one, zero = np.ones(33, dtype), np.zeros(33, dtype)
    found = set()
    for threads in (1, 2, 3, 8):
        num_threads(threads)
        param = {"mode": "train"}
        cnnlib.spatial_batchnorm_forward(x, one, zero, param)
        found.add((param["running_mean"].tobytes(), param["running_var"].tobytes()))
    assert len(found) == 1
