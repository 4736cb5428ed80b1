"""Results are the same bits whatever the number of threads, and an image's do not depend on its batch."""

import cnnlib
import numpy as np
import pytest
from cnnlib import _core
from helpers import LAYERS, Layer, cast, random_arrays


def conv(**conv_param):
    return lambda: (dict(conv_param),)


def pool(**pool_param):
    return lambda: ({"pool_height": 3, "pool_width": 3, **pool_param},)


def batchnorm(mode, C):
    statistics = {"running_mean": np.linspace(-1, 1, C), "running_var": np.linspace(0.5, 2, C)}
    return lambda: ({"mode": mode, **statistics},)


POOL_3D = {"pool_depth": 2, "pool_height": 3, "pool_width": 3, "stride": 2, "pad": 1}
X, XWB, XGB = ("x",), ("x", "w", "b"), ("x", "gamma", "beta")

# Large enough that several threads are worth their while.
LARGE = {
    "conv 3x3": Layer("conv", XWB, ((7, 16, 19, 18), (33, 16, 3, 3), (33,)), conv(pad=1)),
    "conv 3x3 direct": Layer(
        "conv", XWB, ((7, 16, 19, 18), (33, 16, 3, 3), (33,)), conv(pad=1, algorithm="direct")
    ),
    # Where the whole batch is worth another algorithm than a single image.
    "conv 3x3 deep": Layer("conv", XWB, ((5, 64, 8, 8), (64, 64, 3, 3), (64,)), conv(pad=1)),
    "conv 3x3 deeper": Layer("conv", XWB, ((6, 70, 5, 6), (60, 70, 3, 3), (60,)), conv(pad=1)),
    "conv 3x3 many filters": Layer("conv", XWB, ((2, 40, 9, 9), (200, 40, 3, 3), (200,)), conv(pad=1)),
    "conv 3x3 stride 2": Layer(
        "conv", XWB, ((5, 40, 19, 18), (70, 40, 3, 3), (70,)), conv(stride=2, pad=1, algorithm="winograd")
    ),
    "conv 3x3 stride 2 many filters": Layer(
        "conv", XWB, ((2, 200, 9, 8), (210, 200, 3, 3), (210,)), conv(stride=2, algorithm="winograd")
    ),
    "conv stride": Layer("conv", XWB, ((7, 16, 19, 18), (33, 16, 3, 3), (33,)), conv(stride=2, pad=1)),
    "conv 1x1": Layer("conv", XWB, ((5, 70, 13, 11), (67, 70, 1, 1), (67,)), conv()),
    # Alone, an image has fewer positions than there are filters; the batch has more.
    "conv 1x1 small": Layer("conv", XWB, ((5, 300, 7, 7), (100, 300, 1, 1), (100,)), conv()),
    "conv deep": Layer("conv", XWB, ((3, 150, 5, 5), (40, 150, 3, 3), (40,)), conv(pad=1)),
    "conv 5x5": Layer("conv", XWB, ((3, 48, 19, 18), (64, 48, 5, 5), (64,)), conv(pad=2)),
    "conv dilated": Layer("conv", XWB, ((3, 48, 19, 18), (33, 48, 3, 3), (33,)), conv(pad=2, dilation=2)),
    "conv whole image": Layer("conv", XWB, ((65, 30, 5, 5), (70, 30, 5, 5), (70,)), conv()),
    "conv large result": Layer("conv", XWB, ((2, 192, 35, 33), (50, 96, 3, 1), (50,)), conv(groups=2)),
    "conv one image": Layer("conv", XWB, ((1, 32, 40, 37), (48, 32, 3, 3), (48,)), conv(pad=1)),
    # Fewer tiles and panels of filters than threads: products are cut by points.
    "conv 3x3 few tiles": Layer("conv", XWB, ((1, 96, 9, 9), (160, 96, 3, 3), (160,)), conv(pad=1)),
    "conv 1x1 stride 2": Layer("conv", XWB, ((2, 64, 24, 22), (130, 64, 1, 1), (130,)), conv(stride=2)),
    "conv 7x7": Layer("conv", XWB, ((3, 3, 30, 30), (16, 3, 7, 7), (16,)), conv(stride=2, pad=3)),
    "conv groups": Layer("conv", XWB, ((7, 16, 19, 18), (32, 4, 3, 3), (32,)), conv(pad=1, groups=4)),
    "conv depthwise": Layer("conv", XWB, ((7, 33, 19, 18), (33, 1, 3, 3), (33,)), conv(pad=1, groups=33)),
    "conv depthwise in place": Layer(
        "conv", XWB, ((2, 33, 30, 37), (66, 1, 3, 3), (66,)), conv(pad=1, groups=33)
    ),
    "conv_transpose": Layer(
        "conv_transpose", XWB, ((5, 24, 11, 10), (24, 17, 4, 4), (17,)), conv(stride=2, pad=1)
    ),
    "max_pool": Layer("max_pool", X, ((7, 16, 19, 18),), pool(stride=2, pad=1)),
    "avg_pool": Layer("avg_pool", X, ((7, 16, 19, 18),), pool(stride=2, pad=1)),
    "global_avg_pool": Layer("global_avg_pool", X, ((7, 60, 19, 18),)),
    "batchnorm": Layer("batchnorm", XGB, ((700, 301), (301,), (301,)), batchnorm("train", 301)),
    "batchnorm test": Layer("batchnorm", XGB, ((700, 301), (301,), (301,)), batchnorm("test", 301)),
    "spatial_batchnorm": Layer(
        "spatial_batchnorm", XGB, ((7, 33, 29, 28), (33,), (33,)), batchnorm("train", 33)
    ),
    "spatial_batchnorm test": Layer(
        "spatial_batchnorm", XGB, ((7, 33, 29, 28), (33,), (33,)), batchnorm("test", 33)
    ),
    "layernorm": Layer("layernorm", XGB, ((301, 700), (700,), (700,)), lambda: ({},)),
    "spatial_groupnorm": Layer("spatial_groupnorm", XGB, ((7, 33, 29, 28), (33,), (33,)), lambda: (3, {})),
    "spatial_instancenorm": Layer(
        "spatial_instancenorm", XGB, ((7, 33, 29, 28), (33,), (33,)), lambda: ({},)
    ),
    "spatial_layernorm": Layer("spatial_layernorm", XGB, ((7, 33, 29, 28), (33,), (33,)), lambda: ({},)),
    "affine": Layer("affine", XWB, ((65, 3, 10, 10), (300, 129), (129,))),
    "affine narrow": Layer("affine", XWB, ((200, 1000), (1000, 10), (10,))),
    "affine few rows": Layer("affine", XWB, ((3, 2000), (2000, 130), (130,))),
    "affine of rows": Layer("affine", XWB, ((70, 1100), (1100, 530), (530,))),
    "relu": Layer("relu", X, ((7, 33, 40, 37),)),
    "leaky_relu": Layer("leaky_relu", X, ((7, 33, 40, 37),)),
    **{
        name: Layer(name, X, ((7, 33, 40, 37),))
        for name in ("relu6", "sigmoid", "tanh", "silu", "hard_sigmoid", "hard_swish", "elu")
    },
    "gelu": Layer("gelu", X, ((7, 33, 40, 37),)),
    "max_pool1d": Layer(
        "max_pool1d", X, ((7, 64, 900),), lambda: ({"pool_width": 3, "stride": 2, "pad": 1},)
    ),
    "avg_pool1d": Layer(
        "avg_pool1d", X, ((7, 64, 900),), lambda: ({"pool_width": 3, "stride": 2, "pad": 1},)
    ),
    "conv1d": Layer("conv1d", XWB, ((7, 16, 300), (33, 16, 5), (33,)), conv(pad=2)),
    "conv3d": Layer("conv3d", XWB, ((5, 8, 6, 19, 18), (17, 8, 3, 3, 3), (17,)), conv(pad=1)),
    "max_pool3d": Layer("max_pool3d", X, ((7, 8, 6, 19, 18),), lambda: (dict(POOL_3D),)),
    "avg_pool3d": Layer("avg_pool3d", X, ((7, 8, 6, 19, 18),), lambda: (dict(POOL_3D),)),
    "adaptive_avg_pool": Layer("adaptive_avg_pool", X, ((7, 33, 40, 37),), lambda: ((7, 6),)),
    "adaptive_max_pool": Layer("adaptive_max_pool", X, ((7, 33, 40, 37),), lambda: ((7, 6),)),
    "upsample": Layer("upsample", X, ((7, 33, 20, 17),), lambda: (2,)),
    "upsample bilinear": Layer("upsample", X, ((7, 33, 20, 17),), lambda: ((3, 2), "bilinear")),
    "softmax": Layer("softmax", X, ((7, 33, 40, 37),)),
    "softmax of rows": Layer("softmax", X, ((70, 3301),)),
    "softmax of short rows": Layer("softmax", X, ((20_011, 10),)),
    "conv_bn_relu_pool": Layer(
        "conv_bn_relu_pool",
        (*XWB, "gamma", "beta"),
        ((7, 16, 19, 18), (33, 16, 3, 3), (33,), (33,), (33,)),
        lambda: ({"pad": 1}, {"mode": "train"}, {"pool_height": 2, "pool_width": 2}),
    ),
}
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


@pytest.fixture(params=[False, True], ids=["near cores", "far cores"])
def sharing(request):
    """Whether kernels take it that data of one thread is expensive for another."""
    _core.assume_sharing(request.param)
    yield request.param
    _core.assume_sharing(None)


@pytest.mark.parametrize("name", LARGE)
def test_same_bits_for_any_number_of_threads(name, isa, dtype, num_threads, sharing, thread_pool):
    num_threads(1)
    want, arrays, dout = run(LARGE[name], dtype)
    for threads in (3, 8, 17, 64) if sharing else (2, 5, 9, 16, 33):
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
    try:
        for threads, far in [(1, False), (10, False), (10, True)]:
            num_threads(threads)
            assert cnnlib.explain(x_shape, w_shape, SHARED_PANELS, dtype).weight_gradient.threads == threads
            _core.assume_sharing(far)
            out, cache = cnnlib.conv_forward(*arrays, SHARED_PANELS)
            found.add(cnnlib.conv_backward(out, cache)[1].tobytes())
    finally:
        _core.assume_sharing(None)
    assert len(found) == 1


def test_same_bits_of_a_batch_cut_into_slices(isa, dtype, num_threads):
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
    (out, dx, *_), arrays, dout = run(layer, dtype)
    N = len(dx)
    x, rest = arrays[0], arrays[1:]
    for chosen in (
        slice(0, 1),
        slice(N - 1, N),
        slice(N // 2, N // 2 + 2),
        slice(1, None),
        slice(None, None, 2),
    ):
        part, part_dx, *_ = layer.run([x[chosen], *rest], dout[chosen])
        assert part.tobytes() == out[chosen].tobytes()
        assert part_dx.tobytes() == dx[chosen].tobytes()


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
