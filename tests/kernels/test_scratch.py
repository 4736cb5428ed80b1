"""What kernels take beside their arrays is what `cnnlib.explain` says, at 64 threads."""

import cnnlib
import numpy as np
import pytest
from helpers import scratch_of

THREADS = 64
# On threads' stacks (32 KB each) scratch does not count.
SMALL = 40 << 10
SHAPES = {
    "3x3": ((4, 64, 56, 56), (64, 64, 3, 3), {"pad": 1}),
    "3x3 many filters": ((2, 256, 14, 14), (512, 256, 3, 3), {"pad": 1}),
    "3x3 few pixels": ((8, 512, 7, 7), (512, 512, 3, 3), {"pad": 1}),
    "3x3 stride 2": ((8, 64, 56, 56), (128, 64, 3, 3), {"stride": 2, "pad": 1}),
    "first layer": ((8, 3, 112, 112), (64, 3, 7, 7), {"stride": 2, "pad": 3}),
    "1x1": ((8, 256, 28, 28), (64, 256, 1, 1), {}),
    "1x1 far input": ((8, 1100, 7, 7), (400, 1100, 1, 1), {}),
    "1x1 thousands of filters": ((2, 4, 3, 3), (8192, 4, 1, 1), {}),
    "5x5": ((4, 48, 28, 28), (64, 48, 5, 5), {"pad": 2}),
    "groups": ((8, 64, 28, 28), (128, 16, 3, 3), {"pad": 1, "groups": 4}),
    "depthwise": ((8, 128, 28, 28), (128, 1, 3, 3), {"pad": 1, "groups": 128}),
    "dilated": ((4, 64, 28, 28), (64, 64, 3, 3), {"pad": 2, "dilation": 2}),
    "small, at a stride": ((17, 62, 6, 8), (41, 62, 3, 3), {"stride": 2, "pad": ((1, 0), (0, 0))}),
    "points at a stride": ((2, 62, 30, 30), (41, 62, 1, 1), {"stride": 2, "algorithm": "gathered"}),
    "windows side by side": ((8, 3, 112, 112), (96, 3, 16, 16), {"stride": 16}),
    "windows that overlap": ((2, 62, 9, 9), (41, 62, 3, 3), {"stride": 3, "pad": 1, "algorithm": "gathered"}),
    "as wide as the image": ((32, 2, 40, 128), (100, 2, 3, 128), {}),
    "covers the image": ((64, 256, 7, 7), (512, 256, 7, 7), {}),
    "covers the image, few images": ((3, 512, 4, 4), (700, 512, 4, 4), {}),
    "covers the image, small result": ((600, 40, 3, 3), (30, 40, 3, 3), {}),
    "images of one value": ((100, 800, 1, 1), (700, 800, 1, 1), {}),
    "many values": ((8192, 4, 1, 1), (800, 4, 1, 1), {}),
    "many filters, two values": ((1, 1, 1, 2), (16384, 1, 1, 1), {}),
    # conv_bn_relu takes them in blocks of 20, 20 and 18 images, of which the last is planned otherwise.
    "blocks of images": ((58, 5, 18, 18), (230, 5, 3, 3), {"pad": 1}),
}


def arrays_of(name):
    x_shape, w_shape, param = SHAPES[name]
    rng = np.random.default_rng(1)
    x = rng.standard_normal(x_shape, np.float32)
    w = rng.standard_normal(w_shape, np.float32)
    return x, w, np.zeros(w_shape[0], np.float32), param


@pytest.mark.parametrize("name", SHAPES)
def test_a_plan_says_what_is_taken(name, isa, num_threads):
    num_threads(THREADS)
    x, w, b, param = arrays_of(name)
    plans = cnnlib.explain(x.shape, w.shape, param)
    (out, cache), forward = scratch_of(cnnlib.conv_forward, x, w, b, param)
    taken = {"forward": forward}
    for key, need in (("input_gradient", ("dx",)), ("weight_gradient", ("dw",))):
        _, taken[key] = scratch_of(cnnlib.conv_backward, out, cache, needs=need)
    for key, bytes_taken in taken.items():
        plan = getattr(plans, key)
        said = plan.scratch_bytes + plan.packed_bytes
        assert bytes_taken <= said + SMALL, (key, plan.method)
        # A depthwise plan tells of the staged pass, in whose place another may run. Parts of shared panels,
        # of gathered windows as well, take theirs when they begin: on few cores one after the other.
        alone = name == "depthwise" or plan.method in ("shared-panels", "gathered")
        assert said <= SMALL or 0.5 * said <= bytes_taken or alone, (key, plan.method)


def test_threads_without_an_image_have_no_scratch(isa, num_threads):
    num_threads(THREADS)
    plans = {N: cnnlib.explain((N, 3, 112, 112), (64, 3, 7, 7), {"algorithm": "col2im"}) for N in (1, 3)}
    assert [plan.input_gradient.threads for plan in plans.values()] == [1, 3]
    one, three = (plan.input_gradient.scratch_bytes for plan in plans.values())
    assert 2 * one < three < 4 * one


@pytest.mark.parametrize(("name", "threads"), [*((name, THREADS) for name in SHAPES), ("many values", 1)])
def test_conv_bn_relu_takes_what_is_said(name, threads, isa, num_threads):
    num_threads(threads)
    x, w, b, param = arrays_of(name)
    said = cnnlib.explain(x.shape, w.shape, param).conv_bn_relu_scratch_bytes
    one, zero = np.ones_like(b), np.zeros_like(b)
    (out, cache), forward = scratch_of(
        cnnlib.conv_bn_relu_forward, x, w, b, one, zero, param, {"mode": "train"}
    )

    _, backward = scratch_of(cnnlib.conv_bn_relu_backward, out, cache)
    assert forward <= said[0] + SMALL
    assert backward <= said[1] + SMALL


def test_conv_bn_relu_takes_no_more_for_a_larger_batch(isa, num_threads):
    """Its backward pass goes through the batch block by block."""
    num_threads(1)
    found = []
    for N in (256, 512):
        x, w = np.zeros((N, 16, 48, 48), np.float32), np.ones((32, 16, 3, 3), np.float32)
        b, one = np.zeros(32, np.float32), np.ones(32, np.float32)
        (out, cache), forward = scratch_of(
            cnnlib.conv_bn_relu_forward, x, w, b, one, b, {"pad": 1}, {"mode": "train"}
        )

        _, backward = scratch_of(cnnlib.conv_bn_relu_backward, out, cache)
        found.append((forward, backward))
    assert max(a / b for a, b in zip(found[1], found[0], strict=True)) < 1.2
