"""Every method of convolution, on every shape that it fits, and the plans that `explain` shows."""

import platform

import cnnlib
import numpy as np
import pytest
from cnnlib import _core
from conv_products import conv_results
from helpers import assert_close, cast, random_arrays

pytestmark = [pytest.mark.sets, pytest.mark.smoke, pytest.mark.threads]

PASSES = ("forward", "input_gradient", "weight_gradient")
METHODS = _core.conv_methods[3:]  # behind the wishes 'auto' and 'direct', and 'winograd', which is one too

WEIGHT_GRADIENTS = ("winograd", "winograd-rows", "dot-products", "shared-panels", "tap-rows")

# Between them every method fits some shape, in every instruction set and dtype.
CASES = {
    "3x3": ((2, 20, 14, 13), (18, 20, 3, 3), {"pad": 1}),
    "3x3 many": ((2, 150, 9, 9), (66, 150, 3, 3), {"pad": (1, 0)}),
    # Rows of few filters, beside which a tile has room for several taps.
    "3x3 three filters": ((2, 40, 9, 11), (3, 40, 3, 3), {"pad": 1}),
    "4x4 one filter": ((2, 70, 8, 9), (1, 70, 4, 4), {"pad": 1}),
    "3x3 stride 2": ((3, 70, 9, 8), (65, 70, 3, 3), {"stride": 2, "pad": 1}),
    "3x3 stride 3": ((2, 5, 11, 13), (7, 5, 3, 3), {"stride": 3}),
    "3x3 grouped": ((2, 12, 10, 9), (8, 6, 3, 3), {"pad": 1, "groups": 2}),
    "3x3 dilated": ((2, 8, 12, 11), (9, 8, 3, 3), {"pad": 2, "dilation": 2}),
    "5x5": ((2, 20, 12, 17), (20, 20, 5, 5), {"pad": 2}),
    "2x2": ((2, 20, 13, 14), (35, 20, 2, 2), {}),
    "4x4": ((2, 20, 13, 14), (35, 20, 4, 4), {"pad": 1}),
    "4x4 stride 2": ((3, 34, 14, 18), (70, 34, 4, 4), {"stride": 2, "pad": 1}),
    "5x5 stride 2": ((2, 20, 17, 14), (35, 20, 5, 5), {"stride": 2, "pad": 2}),
    "1x7": ((2, 40, 10, 12), (33, 40, 1, 7), {"pad": (0, 3)}),
    "7x1": ((2, 40, 12, 10), (33, 40, 7, 1), {"pad": (3, 0)}),
    # Winograd's tiles take parts of these kernels, whose last ones lack taps.
    "7x7": ((2, 20, 11, 14), (19, 20, 7, 7), {"pad": 3}),
    "3x5": ((2, 9, 13, 12), (17, 9, 3, 5), {"pad": (1, 3), "dilation": (2, 1)}),
    "2x8": ((2, 5, 9, 21), (19, 5, 2, 8), {"pad": (1, 4)}),
    "1x16": ((3, 12, 2, 45), (34, 6, 1, 16), {"pad": (0, 9), "groups": 2}),
    "9x1": ((2, 5, 31, 3), (18, 5, 9, 1), {"pad": (4, 0), "dilation": (2, 1)}),
    # A row of the kernel is the rows of a tile; two panels of filters, of which the second is not full.
    "4x11": (
        (2, 6, 35, 47),
        (140, 3, 4, 11),
        {"stride": (2, 4), "pad": (2, 5), "dilation": (2, 1), "groups": 2},
    ),
    # Few channels, and kernels that reach over more than 64 positions of a longer image.
    "long row": ((3, 2, 1, 500), (11, 2, 1, 90), {"stride": (1, 7), "pad": (0, 40)}),
    "long column": ((2, 1, 210, 17), (9, 1, 100, 1), {"dilation": (2, 1)}),
    # A single row of more channels: of all rows as they lie, or of all columns, turned.
    "as high": ((3, 5, 7, 20), (18, 5, 7, 3), {"pad": (0, 1), "stride": (2, 1)}),
    "as high, a filter for each": ((2, 6, 9, 21), (12, 1, 9, 1), {"groups": 6}),
    "as wide": ((2, 4, 19, 6), (18, 2, 3, 6), {"pad": (2, 0), "groups": 2, "dilation": (2, 1)}),
    "as wide, strided": ((3, 1, 37, 33), (9, 1, 4, 33), {"stride": (3, 2)}),
    "as the image, grouped": ((3, 6, 4, 5), (8, 3, 4, 5), {"groups": 2}),
    "1x1": ((2, 34, 23, 24), (21, 34, 1, 1), {}),
    # Several chunks of channels; panels of positions that images share, single positions of the last panel.
    "1x1 many channels": ((5, 530, 5, 7), (37, 530, 1, 1), {}),
    "1x1 many filters": ((2, 270, 7, 7), (131, 270, 1, 1), {}),
    # Input of more than a megabyte, for which a few panels of filters are packed at once.
    "1x1 far input": ((2, 2700, 7, 7), (124, 2700, 1, 1), {}),
    # A single panel of filters reads an image of three megabytes by rows of a few channels at a time; dw of
    # several blocks of positions reads it where it lies.
    "1x1 few filters": ((1, 130, 79, 81), (5, 130, 1, 1), {}),
    "1x1 one position left": ((1, 300, 3, 11), (70, 300, 1, 1), {}),
    "1x1 grouped": ((3, 20, 7, 5), (26, 10, 1, 1), {"groups": 2}),
    "1x1 stride 2": ((3, 34, 17, 18), (40, 34, 1, 1), {"stride": 2}),
    "1x1 padded stride": ((2, 3, 7, 7), (5, 3, 1, 1), {"stride": (2, 3), "pad": 1}),
    "windows side by side": ((3, 5, 32, 48), (18, 5, 16, 16), {"stride": 16}),
    "windows in pairs": ((3, 34, 14, 35), (40, 34, 2, 2), {"stride": 2}),
    # Leftover rows and columns; rows of the image between the windows.
    "windows of four": ((2, 6, 27, 38), (10, 3, 4, 4), {"stride": 4, "groups": 2}),
    "windows of eight": ((2, 3, 23, 50), (9, 3, 5, 8), {"stride": (7, 8)}),
    "windows apart": ((2, 6, 17, 23), (10, 3, 3, 2), {"stride": (4, 5), "pad": (1, 0), "groups": 2}),
    # Rows and columns of outputs in the padding alone, beside several chunks of channels.
    "1x1 padded": ((2, 530, 5, 7), (37, 530, 1, 1), {"pad": ((1, 0), (2, 1))}),
    "first layer": ((2, 3, 33, 34), (20, 3, 3, 3), {"pad": 1}),
    "first layer 7x7": ((2, 3, 40, 43), (32, 3, 7, 7), {"stride": 2, "pad": 3}),
    "first layer stride 4": ((2, 3, 71, 75), (32, 3, 11, 11), {"stride": 4, "pad": 2}),
    "rows of seven": ((2, 3, 20, 32), (20, 3, 7, 7), {"pad": 3}),
    "rows of five": ((3, 2, 31, 23), (7, 2, 5, 5), {"pad": 1}),
    "rows dilated, grouped": (
        (2, 4, 33, 45),
        (6, 2, 3, 7),
        {"stride": (3, 2), "groups": 2, "dilation": (2, 1), "pad": ((1, 2), (0, 3))},
    ),
    "rows in bands": ((2, 6, 170, 35), (3, 6, 3, 3), {}),
    "depthwise": ((2, 33, 12, 13), (33, 1, 3, 3), {"pad": 1, "groups": 33}),
    "depthwise wide": ((2, 5, 9, 70), (10, 1, 5, 3), {"pad": 1, "stride": (1, 2), "groups": 5}),
    "depthwise same": ((2, 6, 9, 37), (12, 1, 3, 3), {"pad": 1, "groups": 6}),
    "depthwise same 16": ((2, 3, 5, 16), (3, 1, 3, 3), {"pad": 1, "groups": 3}),
    "depthwise same 32": ((2, 3, 5, 32), (3, 1, 3, 3), {"pad": 1, "groups": 3}),
    "depthwise same 48": ((2, 3, 6, 48), (6, 1, 3, 3), {"pad": 1, "groups": 3}),
    "depthwise short rows": ((2, 3, 8, 8), (6, 1, 3, 3), {"pad": 1, "groups": 3}),
    "depthwise one vector": ((2, 3, 4, 4), (3, 1, 3, 3), {"pad": 1, "groups": 3}),
    "depthwise short rows halved": ((2, 3, 12, 16), (3, 1, 3, 3), {"pad": 1, "stride": 2, "groups": 3}),
    "depthwise short rows halved, no padding before": (
        (2, 3, 8, 16),
        (6, 1, 3, 3),
        {"pad": ((0, 1), (0, 1)), "stride": 2, "groups": 3},
    ),
    "depthwise halved 64": ((2, 3, 12, 64), (3, 1, 3, 3), {"pad": 1, "stride": 2, "groups": 3}),
    "depthwise halved": ((2, 5, 11, 67), (10, 1, 3, 3), {"pad": 1, "stride": 2, "groups": 5}),
    "depthwise halved 32": ((2, 3, 12, 32), (3, 1, 3, 3), {"pad": 1, "stride": 2, "groups": 3}),
    "depthwise halved, no padding before": (
        (2, 3, 12, 70),
        (3, 1, 3, 3),
        {"pad": "same", "stride": 2, "groups": 3},
    ),
    "depthwise 7x7 planes": ((3, 20, 7, 7), (20, 1, 3, 3), {"pad": 1, "groups": 20}),
    "depthwise one row": ((2, 3, 1, 21), (3, 1, 3, 3), {"pad": 1, "groups": 3}),
    "depthwise one column": ((2, 3, 17, 1), (3, 1, 3, 3), {"pad": 1, "groups": 3}),
    "depthwise one point": ((2, 3, 1, 1), (3, 1, 3, 3), {"pad": 1, "groups": 3}),
    "depthwise one row, padded below": ((2, 3, 1, 16), (3, 1, 3, 3), {"pad": ((0, 4), (1, 0)), "groups": 3}),
    "depthwise one row, padded above": ((2, 3, 1, 16), (3, 1, 3, 3), {"pad": ((2, 0), (0, 1)), "groups": 3}),
    "depthwise, outputs below the image": (
        (2, 3, 5, 9),
        (3, 1, 3, 3),
        {"pad": ((1, 6), (1, 4)), "groups": 3},
    ),
    "depthwise halved, outputs below the image": (
        (2, 3, 5, 9),
        (3, 1, 3, 3),
        {"pad": ((1, 7), (1, 6)), "stride": 2, "groups": 3},
    ),
    "depthwise many parts": ((50, 2, 6, 9), (2, 1, 3, 3), {"pad": 1, "groups": 2}),
    "covers the image": ((5, 9, 4, 3), (11, 9, 4, 3), {}),
}


@pytest.fixture(scope="module")
def expected():
    """Arrays and the loops' results of a case, computed once."""
    known = {}

    def of(name):
        if name not in known:
            x_shape, w_shape, param = CASES[name]
            random = np.random.default_rng(list(name.encode()))
            x, w, b = random_arrays(random, x_shape, w_shape, w_shape[:1])
            dout, want = conv_results(x, w, b, param, lambda shape: random_arrays(random, shape)[0])
            known[name] = x, w, b, dout, want
        return known[name]

    return of


def methods_of(case, dtype):
    x_shape, w_shape, param = CASES[case]
    plans = cnnlib.explain(x_shape, w_shape, param, dtype)
    return {name: [method for method, _ in getattr(plans, name).alternatives] for name in PASSES}


@pytest.mark.parametrize("case", CASES)
def test_every_method_on_every_shape_that_it_fits(isa, dtype, case, expected):
    x, w, b, dout, want = expected(case)
    x_shape, w_shape, param = CASES[case]
    fitting = methods_of(case, dtype)
    for method in sorted({m for methods in fitting.values() for m in methods}):
        named = {**param, "algorithm": method}
        plans = cnnlib.explain(x_shape, w_shape, named, dtype)
        for name in PASSES:  # it is what runs, wherever it fits
            assert (getattr(plans, name).method == method) == (method in fitting[name])
        out, cache = cnnlib.conv_forward(*cast((x, w, b), dtype), named)
        for got, right in zip((out, *cnnlib.conv_backward(dout.astype(dtype), cache)), want, strict=True):
            assert_close(got, right, dtype, 4e-5 if dtype == np.float32 else None)


@pytest.mark.parametrize("method", ["winograd", *METHODS])
def test_every_method_fits_some_shape(isa, dtype, method):
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    if {"position-panels": x86 and isa != "avx2", "tap-rows": isa != "avx512"}.get(method):
        pytest.skip("always beaten by another method there, and left out")
    assert any(method in methods for case in CASES for methods in methods_of(case, dtype).values())


@pytest.mark.parametrize("method", ["winograd", *METHODS])
def test_a_method_that_fits_no_pass_is_refused(dtype, method):
    x, w = np.ones((1, 2, 5, 3), dtype), np.ones((3, 2, 2, 2), dtype)
    param = {"algorithm": method, "stride": 2}
    if any(method in m for m in _methods(x, w, {"stride": 2}).values()):
        cnnlib.conv_forward(x, w, None, param)
    else:
        with pytest.raises(ValueError, match=f"conv_forward: algorithm '{method}'"):
            cnnlib.conv_forward(x, w, None, param)


def _methods(x, w, param):
    plans = cnnlib.explain(x.shape, w.shape, param, x.dtype)
    return {name: [m for m, _ in getattr(plans, name).alternatives] for name in PASSES}


@pytest.mark.parametrize("method", WEIGHT_GRADIENTS)
def test_a_plan_tells_the_memory_of_its_weights_gradient(isa, dtype, method, num_threads):
    for case, (x_shape, w_shape, param) in CASES.items():
        if method not in methods_of(case, dtype)["weight_gradient"]:
            continue
        named, plans = {**param, "algorithm": method}, []
        for threads in (1, 3):
            num_threads(threads)
            plans.append(cnnlib.explain((64, *x_shape[1:]), w_shape, named, dtype).weight_gradient)
        one, three = plans
        # One thread may add parts up as it goes.
        sums = three.blocks.get("partial sums", 1)
        kept = sums * np.prod(w_shape) * dtype.itemsize if sums > 1 and three.threads > 1 else 0
        assert one.scratch_bytes > 0, case
        assert three.scratch_bytes > kept, case
        # Every thread stages for itself.
        assert (three.scratch_bytes > one.scratch_bytes) == (three.threads > one.threads), case


@pytest.mark.parametrize("method", ["depthwise-rows", "depthwise-channels"])
def test_depthwise_layers_take_more_threads_than_their_products_say(method, dtype, num_threads):
    num_threads(16)
    param = {"stride": 2, "pad": 1, "groups": 576, "algorithm": method}
    plans = cnnlib.explain((8, 576, 14, 14), (576, 1, 3, 3), param, dtype)
    assert [getattr(plans, name).threads for name in PASSES] == [16] * 3


def test_plans_of_an_empty_batch(isa, dtype):
    for x_shape, w_shape, param in CASES.values():
        plans = cnnlib.explain((0, *x_shape[1:]), w_shape, param, dtype)
        assert plans.weight_gradient.method == plans.weight_gradient.alternatives[0][0]


def test_auto_takes_the_cheapest_and_direct_anything_but_winograd(isa, dtype):
    for case, (x_shape, w_shape, param) in CASES.items():
        auto = cnnlib.explain(x_shape, w_shape, param, dtype)
        direct = cnnlib.explain(x_shape, w_shape, {**param, "algorithm": "direct"}, dtype)
        for name in PASSES:
            plan = getattr(auto, name)
            costs = [cost for _, cost in plan.alternatives]
            assert costs == sorted(costs), case
            assert (plan.method, plan.cost) == plan.alternatives[0], case
            assert plan.cost > 0, case
            # Of its own alternatives: methods that plan another convolution do so without Winograd too.
            others = [m for m, _ in getattr(direct, name).alternatives if not m.startswith("winograd")]
            assert getattr(direct, name).method == others[0], case


def test_depthwise_plans_say_what_they_stage(isa, dtype, num_threads):
    """Channels in the lanes: scratch holds at least a staged image; a tall one is staged in bands."""
    num_threads(1)
    channels = 8
    w_shape, param = (channels, 1, 3, 3), {"pad": 1, "groups": channels, "algorithm": "depthwise-channels"}
    small = cnnlib.explain((2, channels, 16, 16), w_shape, param, dtype)
    tall = cnnlib.explain((2, channels, 1600, 16), w_shape, param, dtype)
    for name in PASSES:
        scratch, bands = getattr(small, name).scratch_bytes, getattr(tall, name).scratch_bytes
        assert 16 * 16 * dtype.itemsize <= scratch < 2**20
        assert scratch <= bands < 2**20


def test_depthwise_on_planes_as_they_lie_takes_no_scratch_for_them(isa, dtype):
    """The forward pass none at all, gradients some for the sums of their filters."""
    w_shape, param = (8, 1, 3, 3), {"pad": 1, "groups": 8, "algorithm": "depthwise-rows"}
    plans = [cnnlib.explain((2, 8, size, 16), w_shape, param, dtype) for size in (16, 1600)]
    assert [getattr(plan, name).method for plan in plans for name in PASSES] == 6 * ["depthwise-rows"]
    assert [plan.forward.scratch_bytes for plan in plans] == [0, 0]
    for name in PASSES[1:]:
        assert all(getattr(plan, name).scratch_bytes < 2**17 for plan in plans)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("pad", [0, 1, 2])
@pytest.mark.parametrize(
    "size", [(1, 1), (2, 40), (40, 2), (3, 15), (7, 16), (9, 17), (6, 31), (5, 65), (70, 33)], ids=str
)
def test_depthwise_on_planes_as_they_lie(isa, dtype, size, pad, stride, rng):
    """Every number of lines and of columns beside whole vectors, and several bands."""
    if min(size) + 2 * pad < 3:
        pytest.skip("the filter is larger than the padded image")
    x = rng.standard_normal((2, 3, *size)).astype(dtype)
    w, b = rng.standard_normal((3, 1, 3, 3)).astype(dtype), rng.standard_normal(3).astype(dtype)
    param = {"pad": pad, "stride": stride, "groups": 3, "algorithm": "depthwise-rows"}
    out, cache = cnnlib.conv_forward(x, w, b, param)
    dout = rng.standard_normal(out.shape).astype(dtype)
    wide = cast((x, w, b), np.float64)
    _, want = conv_results(*wide, param, lambda shape: dout.astype(np.float64))
    close = {"rtol": 1e-4, "atol": 1e-4} if dtype == np.float32 else {"rtol": 1e-10, "atol": 1e-10}
    for got, right in zip((out, *cnnlib.conv_backward(dout, cache)), want, strict=True):
        np.testing.assert_allclose(got, right, **close)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("pad", [(0, 0), (1, 0), (0, 2)], ids=str)
@pytest.mark.parametrize("width", [7, 10, 15, 19])
def test_depthwise_weights_meet_the_nan_of_their_own_columns_alone(isa, dtype, width, pad, stride, rng):
    param = {"pad": ((1, 1), pad), "stride": stride, "algorithm": "depthwise-rows"}
    w = np.ones((1, 1, 3, 3), dtype)
    for column in range(width):
        x = rng.standard_normal((1, 1, 4, width)).astype(dtype)
        x[0, 0, 1, column] = np.nan
        out, cache = cnnlib.conv_forward(x, w, None, param)
        _, dw, _ = cnnlib.conv_backward(np.ones_like(out), cache)
        padded = np.pad(np.isnan(x[0, 0]), ((1, 1), pad))
        met = np.lib.stride_tricks.sliding_window_view(padded, (3, 3))[::stride, ::stride].any(axis=(0, 1))
        np.testing.assert_array_equal(np.isnan(dw[0, 0]), met)


@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise_bands_below_the_image(isa, dtype, stride, rng):
    x, w = (rng.standard_normal(shape).astype(dtype) for shape in ((1, 2, 30, 2200), (2, 1, 3, 3)))
    param = {"pad": ((1, 80), (1, 1)), "stride": stride, "groups": 2, "algorithm": "depthwise-rows"}
    out, cache = cnnlib.conv_forward(x, w, np.zeros(2, dtype), param)
    dout = rng.uniform(1, 2, out.shape).astype(dtype)
    _, dw, db = cnnlib.conv_backward(dout, cache)
    np.testing.assert_allclose(db, dout.sum((0, 2, 3), dtype=np.float64), rtol=1e-5)
    named = {**param, "algorithm": "depthwise-channels"}
    _, right, _ = cnnlib.conv_backward(dout, (*cache[:3], named))
    np.testing.assert_allclose(dw, right, rtol=1e-3, atol=1e-1)


@pytest.mark.parametrize("method", ["depthwise-rows", "depthwise-channels"])
@pytest.mark.parametrize("size", [(5, 7), (6, 16), (3, 33)], ids=str)
def test_a_depthwise_plane_sees_nothing_of_the_planes_beside_it(isa, dtype, method, size, rng):
    x, dout = (rng.standard_normal((2, 3, *size)).astype(dtype) for _ in range(2))
    w, b = rng.standard_normal((3, 1, 3, 3)).astype(dtype), rng.standard_normal(3).astype(dtype)
    param = {"pad": 1, "groups": 3, "algorithm": method}

    def run():
        out, (*_, cache_param) = cnnlib.conv_forward(x, w, b, param)
        dx, dw, db = cnnlib.conv_backward(dout, (x, w, b, cache_param))
        return out[:, ::2], dx[:, ::2], dw[::2], db[::2]

    want = run()
    x[:, 1], dout[:, 1] = np.inf, np.nan
    for got, right in zip(run(), want, strict=True):
        assert np.array_equal(got, right)


def test_neither_batch_nor_threads_choose_a_method(isa, dtype, num_threads):
    for (_, *image), w_shape, param in CASES.values():
        chosen = set()
        for N, threads in [(1, 1), (2, 2), (64, 3)]:
            num_threads(threads)
            plans = cnnlib.explain((N, *image), w_shape, param, dtype)
            chosen.add(tuple((getattr(plans, name).method, getattr(plans, name).cost) for name in PASSES))
        assert len(chosen) == 1


def test_the_process_can_be_told_a_method():
    try:
        cnnlib.set_conv_algorithm("filter-lanes")
        assert cnnlib.explain((2, 3, 9, 9), (4, 3, 3, 3), {"pad": 1}).forward.method == "filter-lanes"
        assert cnnlib.explain((2, 3, 9, 9), (4, 3, 3, 3), {"algorithm": "pixel-lanes"}).forward.method == (
            "pixel-lanes"
        )
    finally:
        cnnlib.set_conv_algorithm("auto")
    with pytest.raises(ValueError, match="set_conv_algorithm: name must be one of 'auto', 'direct'"):
        cnnlib.set_conv_algorithm("fastest")


def test_explanation_reads_as_a_table():
    lines = str(cnnlib.explain((8, 64, 56, 56), (64, 64, 3, 3), {"pad": 1})).splitlines()
    assert lines[0].startswith("x (8, 64, 56, 56), w (64, 64, 3, 3), float32")
    for name in ("forward", "dx", "dw"):
        (line,) = [line for line in lines if line.startswith(f"{name} ")]
        assert "threads" in line
        assert "scratch" in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((2, 3, 9), (4, 3, 3, 3)), "explain: x_shape must be four whole numbers"),
        (((2, 3, 9, 9), 3), "explain: w_shape must be four whole numbers"),
        (((2, 3, 9, 9), (4, 2, 3, 3)), "explain: x and w disagree on the channels"),
        (((2, 3, 9, 9), (4, 3, 3, 3), {"strid": 1}), "explain: unknown key 'strid'"),
        (((2**40, 2**40, 9, 9), (4, 3, 3, 3)), "explain: x_shape .* is larger than any array"),
        (((2, 3, 9, 9), (4, 3, 3, 3), {"pad": 2**31 - 1}), "explain: a result of shape .* is too large"),
        (((0, 3, 9, 9), (4, 3, 3, 3), {"pad": 2**31 - 1}), "explain: a result of shape .* is too large"),
    ],
)
def test_explain_refuses_what_conv_forward_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        cnnlib.explain(*arguments)


def test_images_gathered_one_at_a_time(isa, dtype, rng):
    """The points of two are more than a part holds."""
    C = 1040 // np.dtype(dtype).itemsize
    x, w, b = cast(random_arrays(rng, (3, C, 32, 30), (2, C, 3, 3), (2,)), dtype)
    param = {"pad": 1, "algorithm": "gathered"}
    plan = cnnlib.explain(x.shape, w.shape, param, dtype).forward
    assert (plan.method, plan.blocks["images"]) == ("gathered", 1)
    out, cache = cnnlib.conv_forward(x, w, b, param)
    wanted, other = cnnlib.conv_forward(x, w, b, {"pad": 1, "algorithm": "direct"})
    grads = zip(cnnlib.conv_backward(out, cache), cnnlib.conv_backward(out, other), strict=True)
    for got, want in [(out, wanted), *grads]:
        assert_close(got, want, dtype, 4e-5 if dtype == np.float32 else None)


def test_explain_of_points_that_no_memory_holds(dtype):
    """Their number is 2**72."""
    param = {"stride": 64, "pad": 2**31 - 1, "algorithm": "gathered"}
    with pytest.raises(MemoryError, match="no memory for what a layer needs beside its arrays"):
        cnnlib.explain((1, 2**20, 1, 1), (1, 2**20, 1, 1), param, dtype)


def test_explain_allocates_no_arrays(dtype):
    """2**50 values of x, 2**40 of w."""
    sizes = {"x_shape": (2**36, 2**8, 8, 8), "w_shape": (2**16, 2**8, 2**8, 2**8)}
    plans = cnnlib.explain(**sizes, conv_param={"pad": 124}, dtype=dtype)
    assert (plans.x_shape, plans.w_shape) == tuple(sizes.values())


def test_explain_refuses_other_dtypes():
    with pytest.raises(TypeError, match="explain: dtype must be float32 or float64, got int32"):
        cnnlib.explain((2, 3, 9, 9), (4, 3, 3, 3), dtype=np.int32)


def test_the_last_block_of_a_million_positions(isa, dtype, rng):
    """Blocks of 1024 columns would leave three for the last one here, where a vector ends with the row."""
    OW, K, lanes = 1_045_507, 7, {"base": 16, "avx2": 32}.get(isa, 64) // np.dtype(dtype).itemsize
    param = {"algorithm": "dot-products"}
    x = rng.standard_normal((1, 1, 1, OW + K - 1)).astype(dtype)
    dout = rng.standard_normal((1, 1, 1, OW)).astype(dtype)
    plan = cnnlib.explain(x.shape, (1, 1, 1, K), param, dtype=dtype).weight_gradient
    assert OW % plan.blocks["output columns"] >= lanes
    _, dw, _ = cnnlib.conv_backward(dout, (x, np.ones((1, 1, 1, K), dtype), None, param))
    wanted = [np.dot(dout.ravel().astype(float), x[0, 0, 0, k : k + OW].astype(float)) for k in range(K)]
    np.testing.assert_allclose(dw.ravel(), wanted, rtol=0, atol=1e-2 if dtype == np.float32 else 1e-8)
