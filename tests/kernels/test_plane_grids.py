"""
Pools, upsampling and norms as grids of tasks: planes by bands of rows by blocks of columns.

A grid follows from the threads; no bit of a result may, however few and large the planes are, and scratch
has a bound that planes do not raise.
"""

import functools

import cnnlib
import numpy as np
import pytest
from cnnlib import _core
from helpers import Layer, as_tuple, assert_close, cast, random_arrays, scratch_of

THREADS = (1, 2, 5, 8, 17, 64)


def window(height, width=None, **pool_param):
    width = height if width is None else width
    return lambda: ({"pool_height": height, "pool_width": width, **pool_param},)


def with_running(C):
    return lambda: ({"mode": "train", "running_mean": np.zeros(C), "running_var": np.ones(C)},)


X, XGB = ("x",), ("x", "gamma", "beta")
# A plane that is many tasks, planes of a few, and planes of which a task takes several.
ONE, FEW, MANY = (1, 1, 257, 513), (1, 3, 131, 150), (7, 9, 13, 17)
SIZES = {"one": ONE, "few": FEW, "many": MANY}
WINDOWS = {
    "2x2": window(2, stride=2),
    "2x2 ceil_mode": window(2, stride=2, ceil_mode=True),
    "3x3 stride 2": window(3, stride=2, pad=1),
    "3x3 stride 1": window(3, stride=1, pad=1),
    "2x3 strides 3 and 2": window(2, 3, stride=(3, 2), pad=((1, 0), (0, 2))),
    "3x2 stride 1": window(3, 2, stride=1, pad=((2, 0), (1, 0))),
    "5x4 stride 3": window(5, 4, stride=3, pad=2),
    "1x3 stride 4": window(1, 3, stride=4),
    "12x13 stride 1": window(12, 13, stride=1, pad=5),
}
GRIDS = {
    **{
        f"{kind} {name} {size}": Layer(f"{kind}_pool", X, (shape,), rest)
        for kind in ("max", "avg")
        for name, rest in WINDOWS.items()
        for size, shape in SIZES.items()
    },
    **{
        f"avg {name} without padding": Layer(
            "avg_pool", X, (ONE,), window(*name_window, count_include_pad=False, ceil_mode=True, **rest)
        )
        for name, name_window, rest in (
            ("3x3", (3,), {"stride": 2, "pad": 1}),
            ("40x50", (40, 50), {"stride": 7, "pad": 20}),
        )
    },
    "max dilated": Layer("max_pool", X, (ONE,), window(3, stride=2, pad=2, dilation=2)),
    "max 20x20": Layer("max_pool", X, (FEW,), window(20, stride=9, pad=3)),
    "avg whole plane": Layer("avg_pool", X, (ONE,), window(257, 513)),
    "global": Layer("global_avg_pool", X, (ONE,)),
    "global few": Layer("global_avg_pool", X, (FEW,)),
    **{
        f"adaptive {kind} {outputs} {size}": Layer(
            f"adaptive_{kind}_pool", X, (shape,), lambda o=outputs: (o,)
        )
        for kind in ("avg", "max")
        for outputs in ((7, 6), (1, 1), (1, 5), (40, 300))
        for size, shape in (("one", ONE), ("few", FEW))
    },
    **{
        f"1-D {kind} {name}": Layer(f"{kind}_pool1d", X, ((1, 2, 70_001),), lambda rest=rest: (dict(rest),))
        for kind in ("max", "avg")
        for name, rest in (
            ("3 stride 2", {"pool_width": 3, "stride": 2, "pad": 1}),
            ("3 stride 1", {"pool_width": 3, "stride": 1, "pad": 1}),
            ("9 stride 5", {"pool_width": 9, "stride": 5, "pad": 4}),
        )
    },
    **{
        f"upsample {scale} {mode} {size}": Layer("upsample", X, (shape,), lambda s=scale, m=mode: (s, m))
        for scale in (2, (3, 2), (1, 2), (20, 5))
        for mode in ("nearest", "bilinear")
        for size, shape in (("one", (1, 1, 61, 83)), ("many", (5, 4, 7, 9)))
    },
    "spatial_batchnorm one": Layer("spatial_batchnorm", XGB, (ONE, (1,), (1,)), with_running(1)),
    "spatial_batchnorm few": Layer("spatial_batchnorm", XGB, ((2, *FEW[1:]), (3,), (3,)), with_running(3)),
    "spatial_batchnorm tall": Layer("spatial_batchnorm", XGB, ((300, 5, 9, 11), (5,), (5,)), with_running(5)),
    "batchnorm tall": Layer("batchnorm", XGB, ((9_001, 37), (37,), (37,)), with_running(37)),
    "spatial_groupnorm one": Layer("spatial_groupnorm", XGB, ((1, 4, 131, 150), (4,), (4,)), lambda: (2, {})),
    "spatial_groupnorm tall": Layer(
        "spatial_groupnorm", XGB, ((130, 6, 11, 13), (6,), (6,)), lambda: (3, {})
    ),
    "spatial_instancenorm one": Layer("spatial_instancenorm", XGB, (FEW, (3,), (3,)), lambda: ({},)),
    "layernorm one": Layer("layernorm", XGB, ((1, 100_003), (100_003,), (100_003,)), lambda: ({},)),
    "layernorm few": Layer("layernorm", XGB, ((35, 5_003), (5_003,), (5_003,)), lambda: ({},)),
    "layernorm tall": Layer("layernorm", XGB, ((3_001, 43), (43,), (43,)), lambda: ({},)),
}


def results(layer, arrays, dout):
    return [array.tobytes() for array in layer.run(arrays, dout)]


@pytest.mark.parametrize("name", GRIDS)
def test_same_bits_for_any_number_of_threads(name, isa, dtype, num_threads):
    layer, rng = GRIDS[name], np.random.default_rng(1)
    arrays = layer.arrays(rng, dtype)
    (dout,) = cast(random_arrays(rng, layer.forward(*arrays, *layer.rest())[0].shape), dtype)
    dout[dout < -1] = -0.0
    num_threads(1)
    want = results(layer, arrays, dout)
    for threads in THREADS[1:]:
        num_threads(threads)
        assert results(layer, arrays, dout) == want, threads


@functools.cache
def defined(name):
    """A layer's arrays and dout, and what the loops that define it make of them."""
    layer, rng = GRIDS[name], np.random.default_rng(2)
    arrays = layer.arrays(rng)
    out, cache = layer.naive_forward(*arrays, *layer.rest())
    (dout,) = random_arrays(rng, out.shape)
    return arrays, dout, [out, *as_tuple(layer.naive_backward(dout, cache))]


SLOW = ("20x20", "12x13", "1-D", "20, 5", "adaptive avg (40", "adaptive max (40")
SLOW += ("max 3x2 stride 1", "avg 3x3 stride 1")  # as the two others of their kind


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, layer in GRIDS.items()
        if np.prod(layer.shapes[0]) < 70_000 and (name.endswith("many") or not any(s in name for s in SLOW))
    ],
)
def test_bands_match_naive(name, isa, dtype, num_threads):
    arrays, dout, want = defined(name)
    num_threads(33)
    got = GRIDS[name].run(cast(arrays, dtype), dout.astype(dtype))
    for a, b in zip(got, want, strict=True):
        assert_close(a, b, dtype, scale=1.0)


def blocks_of(x, size):
    N, C, H, W = x.shape
    return x.reshape(N, C, H // size, size, W // size, size)


@pytest.mark.parametrize("size", [2, 4, 19])
def test_bands_of_a_large_plane(size, isa, dtype, num_threads):
    """Windows that tile a plane of many bands, against NumPy's sums over blocks."""
    rng = np.random.default_rng(3)
    (x,) = cast(random_arrays(rng, (1, 1, 19 * 4 * 9, 19 * 4 * 5)), dtype)
    num_threads(9)
    pool_param = {"pool_height": size, "pool_width": size, "stride": size}
    out, cache = cnnlib.avg_pool_forward(x, pool_param)
    assert_close(out, blocks_of(np.float64(x), size).mean((3, 5)), dtype)
    dx = cnnlib.avg_pool_backward(out, cache)
    assert_close(dx, out.repeat(size, 2).repeat(size, 3) / size**2, dtype)
    out, cache = cnnlib.max_pool_forward(x, pool_param)
    np.testing.assert_array_equal(out, blocks_of(x, size).max((3, 5)))
    winners = x == out.repeat(size, 2).repeat(size, 3)
    dx = cnnlib.max_pool_backward(np.ones_like(out), cache)
    np.testing.assert_array_equal(dx != 0, winners)


@pytest.mark.parametrize("pool", list(WINDOWS))
def test_nan_ties_and_infinities_across_bands(pool, isa, dtype, num_threads):
    """A winner is the first of equals and of NaN, wherever a band begins."""
    rng = np.random.default_rng(4)
    x = rng.integers(0, 3, (1, 1, 200, 310)).astype(dtype)
    x[rng.random(x.shape) < 0.02] = np.nan
    x[rng.random(x.shape) < 0.2] = -np.inf
    x[..., 40:60, :] = -np.inf
    layer = Layer("max_pool", X, (x.shape,), WINDOWS[pool])
    num_threads(64)
    out, cache = layer.forward(x, *layer.rest())
    dx = layer.backward(np.ones_like(out), cache)
    part = x[..., 90:131, :70].copy()
    want, naive_cache = layer.naive_forward(part.astype(np.float64), *layer.rest())
    got, cache = layer.forward(part, *layer.rest())
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(
        layer.backward(np.ones_like(got), cache), layer.naive_backward(np.ones_like(want), naive_cache)
    )
    _core.use_isa(_core.available_isas()[-1])
    base, cache = layer.forward(x, *layer.rest())
    assert base.tobytes() == out.tobytes()
    np.testing.assert_array_equal(layer.backward(np.ones_like(base), cache), dx)


# Of a mean or a sum of a million values; one chain of additions in float32 is off by up to 7e-4.
MOST_ERROR = {np.dtype(np.float32): 5e-7, np.dtype(np.float64): 1e-12}


def relative_error(got, want):
    return np.abs(np.float64(got) - want).max() / np.abs(want).max()


@pytest.mark.parametrize("shape", [(1000, 1000), (1, 1_000_000), (1_000_000, 1), (100_000, 3)])
@pytest.mark.parametrize("value", ["random", "one value"])
def test_means_of_many_values_lose_no_precision(shape, value, isa, dtype):
    rng = np.random.default_rng(5)
    H, W = shape
    x = (
        rng.random((1, 1, H + 1, W + 1)) if value == "random" else np.full((1, 1, H + 1, W + 1), 0.1)
    ).astype(dtype)
    exact = np.cumsum(np.cumsum(x.astype(np.longdouble), 2), 3)
    whole = np.pad(exact, ((0, 0), (0, 0), (1, 0), (1, 0)))
    windows = whole[..., H:, W:] - whole[..., :-H, W:] - whole[..., H:, :-W] + whole[..., :-H, :-W]
    most = MOST_ERROR[dtype]
    out, cache = cnnlib.avg_pool_forward(x, {"pool_height": H, "pool_width": W, "stride": 1})
    assert relative_error(out, np.float64(windows / (H * W))) < most
    mean = np.float64(exact[..., -1:, -1:] / x.size)
    assert relative_error(cnnlib.adaptive_avg_pool_forward(x, (1, 1))[0], mean) < 5 * most
    assert relative_error(cnnlib.global_avg_pool_forward(x)[0], mean[..., 0, 0]) < 5 * most
    left = np.float64(exact[..., -1, -(-(W + 1) // 2) - 1] / ((H + 1) * -(-(W + 1) // 2)))
    assert relative_error(cnnlib.adaptive_avg_pool_forward(x, (1, 2))[0][..., 0, 0], left) < most
    dx = cnnlib.avg_pool_backward(np.ones_like(out), cache)
    assert dx[0, 0, 0, 0] == pytest.approx(1 / (H * W), rel=most)


def test_gradients_of_many_windows_lose_no_precision(isa, dtype):
    """Every pixel in the middle lies in 300 x 300 windows."""
    rng, size = np.random.default_rng(6), 300
    x = np.zeros((1, 1, 2 * size - 1, 2 * size - 1), dtype)
    dout = rng.random((1, 1, size, size)).astype(dtype)
    _, cache = cnnlib.avg_pool_forward(x, {"pool_height": size, "pool_width": size, "stride": 1})
    dx = cnnlib.avg_pool_backward(dout, cache)
    want = np.float64(dout).sum() / size**2
    assert abs(float(dx[0, 0, size - 1, size - 1]) - want) < MOST_ERROR[dtype] * want


@pytest.mark.parametrize("scale", [1000, (1, 1_000_000), (1_000_000, 1)])
def test_gradients_of_repeated_pixels_lose_no_precision(scale, isa, dtype):
    _, cache = cnnlib.upsample_forward(np.zeros((1, 1, 1, 1), dtype), scale)
    height, width = (scale, scale) if isinstance(scale, int) else scale
    dout = np.random.default_rng(7).random((1, 1, height, width)).astype(dtype)
    want = np.float64(dout.astype(np.longdouble).sum())
    assert relative_error(cnnlib.upsample_backward(dout, cache), want) < MOST_ERROR[dtype]


LARGE_PLANES = {
    "max 3x3 stride 1": Layer("max_pool", X, ((1, 1, 2048, 2048),), window(3, stride=1, pad=1)),
    "max 3x3 stride 2": Layer("max_pool", X, ((1, 1, 2048, 2048),), window(3, stride=2, pad=1)),
    "max 100x100": Layer("max_pool", X, ((1, 1, 512, 512),), window(100, stride=50)),
    "max 1-D": Layer("max_pool1d", X, ((1, 1, 3_000_000),), lambda: ({"pool_width": 3, "stride": 2},)),
    "avg 3x3 stride 1": Layer("avg_pool", X, ((1, 1, 2048, 2048),), window(3, stride=1, pad=1)),
    "avg 100x100": Layer("avg_pool", X, ((1, 1, 2048, 2048),), window(100, stride=50)),
    "avg 1-D": Layer("avg_pool1d", X, ((1, 1, 3_000_000),), lambda: ({"pool_width": 3, "stride": 2},)),
    "avg 1-D of 20": Layer("avg_pool1d", X, ((1, 1, 3_000_000),), lambda: ({"pool_width": 20},)),
    "adaptive avg": Layer("adaptive_avg_pool", X, ((1, 1, 2048, 2048),), lambda: ((7, 7),)),
    "adaptive max": Layer("adaptive_max_pool", X, ((1, 1, 2048, 2048),), lambda: ((7, 7),)),
    "global": Layer("global_avg_pool", X, ((1, 1, 2048, 2048),)),
    "upsample bilinear": Layer("upsample", X, ((1, 1, 1024, 1024),), lambda: (2, "bilinear")),
    "upsample nearest": Layer("upsample", X, ((1, 1, 1024, 1024),), lambda: (2,)),
    "spatial_batchnorm": Layer(
        "spatial_batchnorm", XGB, ((64, 256, 7, 7), (256,), (256,)), with_running(256)
    ),
    "batchnorm": Layer("batchnorm", XGB, ((50_000, 64), (64,), (64,)), with_running(64)),
    "spatial_groupnorm": Layer("spatial_groupnorm", XGB, ((1, 2, 1024, 1024), (2,), (2,)), lambda: (1, {})),
}


@pytest.mark.parametrize("name", LARGE_PLANES)
def test_scratch_is_bounded_for_each_thread(name, isa, num_threads):
    """At 64 threads: a few rows for each, and a share of what is read that planes do not raise."""
    layer = LARGE_PLANES[name]
    arrays = [np.zeros(shape) for shape in layer.shapes]
    num_threads(64)
    (out, cache), forward = scratch_of(layer.forward, *arrays, *layer.rest())
    _, backward = scratch_of(layer.backward, out, cache)
    row = max(
        arrays[0].shape[-1] if arrays[0].shape[-1] < 10_000 else 0,
        out.shape[-1] if out.shape[-1] < 10_000 else 0,
    )
    bound = 64 * ((256 << 10) + 4 * row * 8)
    assert max(forward, backward) < bound
    # The same bound for a longer plane, or a larger batch where a norm's statistics are of all.
    axis = 0 if "batchnorm" in name else -1 if "1-D" in name else 2
    longer = np.concatenate([arrays[0]] * 2, axis)
    (out, cache), forward = scratch_of(layer.forward, longer, *arrays[1:], *layer.rest())
    _, backward = scratch_of(layer.backward, out, cache)
    assert max(forward, backward) < bound


def test_batch_norms_sums_do_not_grow_with_the_images(isa, num_threads):
    num_threads(64)
    found = []
    for N in (256, 1024):
        x = np.zeros((N, 128, 7, 7), np.float32)
        one, zero = np.ones(128, np.float32), np.zeros(128, np.float32)
        (out, cache), forward = scratch_of(cnnlib.spatial_batchnorm_forward, x, one, zero, {"mode": "train"})

        _, backward = scratch_of(cnnlib.spatial_batchnorm_backward, out, cache)
        found.append((forward, backward))
    assert max(found[0] + found[1]) < 64 * 128 * 32 + 65_536
