"""Convolution and pooling of sequences (N, C, L) and volumes (N, C, D, H, W)."""

import cnnlib
import numpy as np
import pytest
from cnnlib import naive
from cnnlib.layers import volumes
from helpers import assert_all_close, assert_close, cast, random_arrays

pytestmark = pytest.mark.sets

# x, w, conv_param
CONV = [
    ((2, 3, 9), (4, 3, 3), {}),
    ((2, 4, 8), (6, 2, 3), {"groups": 2, "pad": ((0, 2),), "stride": 2}),
    ((1, 1, 1), (1, 1, 1), {}),
    ((3, 2, 10), (2, 2, 4), {"pad": "same", "stride": (3,)}),
    ((2, 5, 40), (7, 5, 5), {"dilation": 3, "pad": 6}),
    ((2, 3, 4, 5, 6), (4, 3, 2, 3, 3), {}),
    ((1, 4, 5, 4, 7), (6, 2, 3, 2, 3), {"groups": 2, "pad": (2, 0, 1), "stride": (2, 1, 2)}),
    ((2, 2, 3, 3, 3), (3, 2, 3, 3, 3), {"pad": "same"}),
    (
        (2, 2, 5, 6, 5),
        (3, 2, 3, 2, 2),
        {"pad": ((0, 3), 1, (1, 0)), "dilation": (2, 1, 3), "stride": (3, 2, 1)},
    ),
    ((1, 3, 2, 4, 4), (2, 3, 1, 1, 1), {"stride": 2}),
    ((2, 1, 1, 5, 5), (2, 1, 3, 3, 3), {"pad": 1}),  # most of the depth is padding
    ((0, 2, 3, 4, 4), (3, 2, 2, 2, 2), {}),
]
# x, window, the rest of pool_param
POOL = [
    ((2, 3, 9), (3,), {}),
    ((1, 2, 8), (3,), {"stride": 2, "pad": 1, "ceil_mode": True}),
    ((2, 2, 10), (4,), {"pad": ((0, 3),), "stride": (1,)}),
    ((1, 1, 7), (2,), {"pad": "same"}),
    ((1, 1, 4), (2,), {"stride": 5, "ceil_mode": True}),  # a last window would start behind the end
    ((1, 1, 3, 4, 4), (2, 2, 1), {"stride": (4, 2, 5), "ceil_mode": True}),
    ((2, 3, 4, 6, 6), (2, 2, 2), {}),
    ((1, 2, 5, 7, 6), (3, 2, 3), {"stride": (1, 2, 2), "pad": (1, 0, 1), "ceil_mode": True}),
    ((2, 1, 3, 4, 5), (2, 3, 2), {"pad": ((1, 0), (0, 2), 1), "stride": 1}),
    ((1, 1, 1, 1, 9), (1, 1, 4), {"stride": 3, "pad": "same"}),
]


def name_of(kind, x):
    return f"{kind}{len(x) - 2}d"


def pool_param(window, rest):
    names = ("pool_depth", "pool_height", "pool_width")[-len(window) :]
    return dict(zip(names, window, strict=True)) | rest


def check(name, arrays, param, dtype, rng):
    """Forward and backward against the loops, with what the cache remembers and without."""
    forward, backward = getattr(cnnlib, f"{name}_forward"), getattr(cnnlib, f"{name}_backward")
    want, naive_cache = getattr(naive, f"{name}_forward_naive")(*arrays, param)
    out, cache = forward(*cast(arrays, dtype), param)
    assert_close(out, want, dtype)
    (dout,) = random_arrays(rng, want.shape)
    wants = getattr(naive, f"{name}_backward_naive")(dout, naive_cache)
    for given in (cache, tuple(cache)):
        got = backward(dout.astype(dtype), given)
        if isinstance(got, tuple):
            assert_all_close(got, wants, dtype)
        else:
            assert_close(got, wants, dtype)


@pytest.mark.parametrize(("x", "w", "param"), CONV, ids=str)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_conv_matches_naive(x, w, param, bias, isa, dtype, rng):
    x_, w_, b = random_arrays(rng, x, w, w[:1])
    check(name_of("conv", x), [x_, w_, b if bias else None], param, dtype, rng)


@pytest.mark.parametrize(("x", "window", "rest"), POOL, ids=str)
@pytest.mark.parametrize("kind", ["max_pool", "avg_pool"])
def test_pool_matches_naive(kind, x, window, rest, isa, dtype, rng):
    param, (x_,) = pool_param(window, rest), random_arrays(rng, x)
    more = [{"dilation": 2, "pad": 0}] if kind == "max_pool" else [{"count_include_pad": False}]
    for extra in ({}, *more):
        if all(d >= 2 * (k - 1) + 1 for d, k in zip(x[2:], window, strict=True)) or "dilation" not in extra:
            check(name_of(kind, x), [x_], param | extra, dtype, rng)
            check(name_of(kind, x), [np.round(x_)], param | extra, dtype, rng)  # with ties


@pytest.mark.parametrize("stack_bytes", [1, 1000, 1500, 4000])
def test_volumes_in_pieces(stack_bytes, monkeypatch, isa, dtype, rng):
    """Stacks of one plane, of some, and of an image or two: dx of an image does not depend on its batch."""
    monkeypatch.setattr(volumes, "_STACK_BYTES", stack_bytes)
    for x, w, param in CONV[6:10]:
        arrays = random_arrays(rng, x, w, w[:1])
        check("conv3d", arrays, param, dtype, rng)
        x_, w_, b = cast(arrays, dtype)
        out, cache = cnnlib.conv3d_forward(x_, w_, b, param)
        dx, *_ = cnnlib.conv3d_backward(out, cache)
        for n in range(len(x_)):
            alone, *_ = cnnlib.conv3d_backward(out[n : n + 1], (x_[n : n + 1], w_, b, param))
            assert alone.tobytes() == dx[n : n + 1].tobytes()


def test_a_volume_of_one_plane_is_an_image(isa, dtype, rng):
    x, w, b = (a.astype(dtype) for a in random_arrays(rng, (3, 4, 9, 8), (5, 4, 3, 3), (5,)))
    want, _ = cnnlib.conv_forward(x, w, b, {"pad": 1})
    out, _ = cnnlib.conv3d_forward(x[:, :, None], w[:, :, None], b, {"pad": (0, 1, 1)})
    np.testing.assert_array_equal(out[:, :, 0], want)
    rows, _ = cnnlib.conv1d_forward(x[:, :, 0], w[:, :, 0], b, {"pad": 1})
    row, _ = cnnlib.conv_forward(x[:, :, :1], w[:, :, :1], b, {"pad": (0, 1)})
    np.testing.assert_array_equal(rows, row[:, :, 0])


def test_ties_of_volumes_go_to_the_first_in_row_major_order(isa, dtype):
    """Also where a later plane has the maximum in an earlier column; a NaN beats all, the first of them."""
    x = np.zeros((1, 1, 2, 2, 2), dtype)
    x[0, 0, 0, 1, 1] = x[0, 0, 1, 0, 0] = 5
    param = pool_param((2, 2, 2), {})
    for value, place in ((5, (0, 1, 1)), (np.nan, (1, 0, 1))):
        x[0, 0, 1, 0, 1] = x[0, 0, 1, 1, 0] = value
        out, cache = cnnlib.max_pool3d_forward(x, param)
        np.testing.assert_array_equal(out.ravel(), [value])
        for given in (cache, tuple(cache)):
            dx = cnnlib.max_pool3d_backward(np.ones_like(out), given)
            assert np.argwhere(dx[0, 0]).tolist() == [list(place)]


def test_changed_parameters_are_read_again(rng):
    """A cache's pool_param may change after the forward pass: what it remembers then counts no more."""
    (x,) = random_arrays(rng, (1, 2, 4, 4, 4))
    param = pool_param((2, 2, 2), {})
    out, cache = cnnlib.max_pool3d_forward(x, param)
    param["stride"] = (2, 2, 1)
    want, fresh = cnnlib.max_pool3d_forward(x, param)
    np.testing.assert_array_equal(
        cnnlib.max_pool3d_backward(want, cache), cnnlib.max_pool3d_backward(want, fresh)
    )
    with pytest.raises(ValueError, match=r"max_pool3d_backward: dout must have shape"):
        cnnlib.max_pool3d_backward(out, cache)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: cnnlib.conv3d_forward(np.ones((1, 2, 3, 4, 5)), np.ones((1, 2, 4, 1, 1)), None, {}),
            "along D",
        ),
        (
            lambda: cnnlib.conv3d_forward(np.ones((1, 2, 3, 4, 5)), np.ones((1, 2, 1, 1, 6)), None, {}),
            "along W",
        ),
        (lambda: cnnlib.conv1d_forward(np.ones((1, 2, 3)), np.ones((1, 2, 4)), None, {}), "along L"),
        (lambda: cnnlib.max_pool1d_forward(np.ones((1, 2, 3)), {"pool_width": 4}), "along L"),
        (lambda: cnnlib.conv1d_forward(np.ones((1, 2, 3)), np.ones((1, 3, 1)), None, {}), "channels"),
        (lambda: cnnlib.conv1d_forward(np.ones((1, 2, 3, 1)), np.ones((1, 3, 1)), None, {}), r"\(N, C, L\)"),
        (
            lambda: cnnlib.conv3d_forward(np.ones((1, 2, 3)), np.ones((1, 3, 1)), None, {}),
            r"\(N, C, D, H, W\)",
        ),
    ],
)
def test_messages_name_the_axes(call, words):
    with pytest.raises(ValueError, match=rf"^(conv[13]d|max_pool1d)_forward: .*{words}"):
        call()
