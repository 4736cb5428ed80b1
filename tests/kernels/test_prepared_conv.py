"""Filters packed once: the same bits as unprepared ones, whatever the batch, the threads and the method."""

import pickle

import cnnlib
import numpy as np
import pytest
from helpers import in_threads, pair, random_arrays

pytestmark = [pytest.mark.sets, pytest.mark.smoke, pytest.mark.threads]

# x, w and conv_param: methods that pack all filters, panel by panel where nobody keeps them, and not at all.
SHAPES = {
    "3x3": ((2, 20, 13, 14), (70, 20, 3, 3), {"pad": 1}),
    "3x3 few tiles": ((2, 66, 5, 6), (104, 66, 3, 3), {"pad": 1}),
    "3x3 stride 2": ((2, 24, 15, 14), (33, 24, 3, 3), {"pad": 1, "stride": 2}),
    "1x1 many filters": ((2, 150, 7, 7), (256, 150, 1, 1), {}),
    "1x1": ((3, 64, 19, 18), (48, 64, 1, 1), {}),
    "1x1 stride 2": ((2, 96, 14, 14), (64, 96, 1, 1), {"stride": 2}),
    "5x5 dilated": ((2, 8, 17, 16), (20, 8, 5, 5), {"pad": 4, "dilation": 2}),
    "first layer": ((2, 3, 33, 31), (16, 3, 7, 7), {"pad": 3, "stride": 2}),
    "depthwise": ((3, 33, 12, 11), (33, 1, 3, 3), {"pad": 1, "groups": 33}),
    "groups": ((2, 32, 9, 9), (48, 8, 3, 3), {"pad": 1, "groups": 4}),
    "as high": ((2, 5, 7, 30), (20, 5, 7, 3), {}),
    "as wide": ((3, 2, 21, 9), (20, 2, 3, 9), {"pad": (1, 0), "stride": (2, 1)}),
    "whole image": ((5, 30, 4, 4), (70, 30, 4, 4), {}),
}


def arrays(name, dtype):
    x_shape, w_shape, conv_param = SHAPES[name]
    x, w, b = (
        a.astype(dtype) for a in random_arrays(np.random.default_rng(0), x_shape, w_shape, w_shape[:1])
    )
    return x, w, b, conv_param


def methods(name, dtype):
    x_shape, w_shape, conv_param = SHAPES[name]
    return [method for method, _ in cnnlib.explain(x_shape, w_shape, conv_param, dtype).forward.alternatives]


# Methods that pack weights.
PACKED = (
    "winograd",
    "winograd-rows",
    "pixel-lanes",
    "filter-lanes",
    "position-panels",
    "gathered",
    "single-row",
)


@pytest.mark.parametrize("name", SHAPES)
def test_same_bits_by_every_method(name, dtype, isa, num_threads):
    """For any number of images and threads with one packing, whichever came first."""
    x, w, b, conv_param = arrays(name, dtype)
    most = np.concatenate([x, x, x])
    for method in methods(name, dtype):
        param = {**conv_param, "algorithm": method}
        prepared = cnnlib.prepare_conv(w, b, param)
        want, _ = cnnlib.conv_forward(most, w, b, param)
        for threads in (1, 3):
            num_threads(threads)
            for images in (x, x[:1], most):
                got, _ = cnnlib.conv_forward(images, prepared, None, None)
                assert got.dtype == dtype
                assert np.array_equal(got, want[: len(images)]), (method, threads, len(images))
        packed = prepared._packed.packed()
        assert [packed_method for packed_method, _ in packed] == [method]
        assert (packed[0][1] > 0) == (method in PACKED)


def test_relu_and_gradients():
    x, w, b, conv_param = arrays("3x3", np.float64)
    prepared = cnnlib.prepare_conv(w, b, conv_param)
    out, cache = cnnlib.conv_relu_forward(x, prepared, None, None)
    want, want_cache = cnnlib.conv_relu_forward(x, w, b, conv_param)
    assert np.array_equal(out, want)
    for got, expected in zip(
        cnnlib.conv_relu_backward(out, cache), cnnlib.conv_relu_backward(want, want_cache), strict=True
    ):
        assert np.array_equal(got, expected)
    pool_param = {"pool_height": 2, "pool_width": 2}
    pooled, cache = cnnlib.conv_relu_pool_forward(x, prepared, None, None, pool_param)
    want, want_cache = cnnlib.conv_relu_pool_forward(x, w, b, conv_param, pool_param)
    assert np.array_equal(pooled, want)
    backward = cnnlib.conv_relu_pool_backward
    for got, expected in zip(backward(want, cache), backward(want, want_cache), strict=True):
        assert np.array_equal(got, expected)
    out, cache = cnnlib.conv_forward(x, prepared, None, None)
    for got, expected in zip(
        cnnlib.conv_backward(out, cache), cnnlib.conv_backward(out, (x, w, b, conv_param)), strict=True
    ):
        assert np.array_equal(got, expected)


def test_what_was_given_may_change():
    x, w, b, _ = arrays("3x3", np.float32)
    mine = w.copy(), b.copy(), {"pad": 1, "stride": [1, 1], "dilation": np.array([1, 1])}
    want, _ = cnnlib.conv_forward(x, *mine)
    prepared = cnnlib.prepare_conv(*mine)
    mine[0][:] = 0
    mine[1][:] = 0
    mine[2]["pad"] = 0
    mine[2]["stride"][0] = 2
    mine[2]["dilation"][:] = 2
    assert np.array_equal(cnnlib.conv_forward(x, prepared, None, None)[0], want)
    with pytest.raises(ValueError, match="read-only"):
        prepared.w[0] = 1


@pytest.mark.parametrize("kind", [np.int64, np.uint8, np.array])
def test_numbers_of_numpy(kind):
    x, w, b, conv_param = arrays("groups", np.float32)
    param = {key: kind(value) for key, value in conv_param.items()}
    got, _ = cnnlib.conv_forward(x, cnnlib.prepare_conv(w, b, param), None, None)
    assert np.array_equal(got, cnnlib.conv_forward(x, w, b, conv_param)[0])


def test_images_of_other_sizes_and_types():
    _, w, b, conv_param = arrays("3x3", np.float32)
    prepared = cnnlib.prepare_conv(w, b, conv_param)
    for size in range(3, 24):  # more than are kept
        x = np.random.default_rng(size).integers(0, 255, (2, 20, size, size + 1), dtype=np.uint8)
        got, _ = cnnlib.conv_forward(x, prepared, None, None)
        want, _ = cnnlib.conv_forward(x.astype(np.float32), w, b, conv_param)
        assert got.dtype == np.float32
        assert np.array_equal(got, want)
    assert len(prepared._packed.packed()) == 16
    double = cnnlib.prepare_conv(w, None, conv_param, dtype=np.float64)
    got, _ = cnnlib.conv_forward(x.astype(np.float32), double, None, None)
    assert np.array_equal(got, cnnlib.conv_forward(x.astype(float), w.astype(float), None, conv_param)[0])


@pytest.mark.parametrize("name", ["conv", "conv_relu", "conv_relu_pool"])
@pytest.mark.parametrize("dtype", [np.float64, np.int64])
def test_gradients_have_the_dtype_of_the_result(name, dtype):
    x, w, b, conv_param = arrays("3x3", np.float32)
    pool = ({"pool_height": 2, "pool_width": 2},) if "pool" in name else ()
    forward, backward = pair(name)
    out, cache = forward(x.astype(dtype), cnnlib.prepare_conv(w, b, conv_param), None, None, *pool)
    want = backward(out, forward(x.astype(dtype).astype(np.float32), w, b, conv_param, *pool)[1])
    for got, expected in zip(backward(out, cache), want, strict=True):
        assert got.dtype == np.float32
        np.testing.assert_array_equal(got, expected)


def test_out_and_empty_batches():
    x, w, b, conv_param = arrays("3x3", np.float32)
    prepared = cnnlib.prepare_conv(w, b, conv_param)
    out = np.empty((2, 70, 13, 14), np.float32)
    got, _ = cnnlib.conv_forward(x, prepared, None, None, out=out)
    assert got is out
    assert np.array_equal(out, cnnlib.conv_forward(x, w, b, conv_param)[0])
    assert cnnlib.conv_forward(x[:0], prepared, None, None)[0].shape == (0, 70, 13, 14)


def test_pickle_and_repr():
    x, w, b, conv_param = arrays("1x1", np.float32)
    prepared = cnnlib.prepare_conv(w, b, conv_param)
    assert "64->48 1x1 float32" in repr(prepared)
    assert "nothing yet" in repr(prepared)
    want, _ = cnnlib.conv_forward(x, prepared, None, None)
    assert cnnlib.explain(x.shape, w.shape, conv_param).forward.method in repr(prepared)
    assert np.array_equal(cnnlib.conv_forward(x, pickle.loads(pickle.dumps(prepared)), None, None)[0], want)


def test_many_threads_share_one():
    cases = {name: arrays(name, np.float32) for name in ("3x3", "3x3 few tiles", "1x1 many filters")}
    prepared = {name: cnnlib.prepare_conv(w, b, param) for name, (_, w, b, param) in cases.items()}
    want = {name: cnnlib.conv_forward(x, w, b, param)[0] for name, (x, w, b, param) in cases.items()}

    def work(k):
        for _ in range(10):
            for name, (x, *_) in cases.items():
                got, _ = cnnlib.conv_forward(x, prepared[name], None, None)
                np.testing.assert_array_equal(got, want[name], err_msg=name)

    in_threads(4, work)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((np.zeros((2, 3, 3)),), ValueError, "prepare_conv: w must have 4 dimensions"),
        ((np.zeros((2, 3, 3, 3)), np.zeros(3)), ValueError, r"prepare_conv: b must have shape \(2,\)"),
        ((np.zeros((2, 3, 3, 3)), None, {"padding": 1}), ValueError, "prepare_conv: .*padding"),
        ((np.zeros((2, 3, 3, 3)), None, {"stride": 0}), ValueError, "prepare_conv: stride"),
        ((np.zeros((3, 3, 3, 3)), None, {"groups": 2}), ValueError, "prepare_conv: groups"),
        ((np.zeros((3, 3, 3, 3)), None, {"groups": 2**31 - 1}), ValueError, "prepare_conv: groups"),
        ((np.zeros((3, 0, 3, 3)),), ValueError, "prepare_conv: w has an empty dimension"),
        ((np.zeros((2, 3, 3, 3)), None, None, np.int32), TypeError, "prepare_conv: dtype must be float32"),
        ((np.zeros((2, 3, 3, 3)), None, None, "half-"), TypeError, "prepare_conv: dtype .*, got 'half-'"),
        ((None,), TypeError, "prepare_conv: w must be an array, got None"),
    ],
)
def test_errors_of_prepare(arguments, error, message):
    with pytest.raises(error, match=message):
        cnnlib.prepare_conv(*arguments)


def test_errors_of_the_call():
    x, w, b, conv_param = arrays("3x3", np.float32)
    prepared = cnnlib.prepare_conv(w, b, conv_param)
    with pytest.raises(ValueError, match="conv_forward: b and conv_param belong to the prepared w"):
        cnnlib.conv_forward(x, prepared, b, None)
    with pytest.raises(ValueError, match="conv_relu_forward: b and conv_param belong to the prepared w"):
        cnnlib.conv_relu_forward(x, prepared, None, conv_param)
    with pytest.raises(ValueError, match="conv_forward: x and w disagree on the channels"):
        cnnlib.conv_forward(x[:, :3], prepared, None, None)


@pytest.mark.parametrize(
    ("shape", "param"), [((1_000_000, 1, 1, 1), {}), ((2, 1, 3, 1), {"dilation": (1 << 16, 1)})], ids=str
)
def test_extreme_filters_are_prepared(shape, param):
    """What is wrong with filters is found out with images of no size that memory would not hold."""
    w = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    x = np.ones((1, 1, *((1 << 17) + 1 if k > 1 else 1 for k in shape[2:])), np.float32)
    out, _ = cnnlib.conv_forward(x, cnnlib.prepare_conv(w, conv_param=param))
    np.testing.assert_array_equal(out[..., 0, 0], w.reshape(1, shape[0], -1).sum(2))
