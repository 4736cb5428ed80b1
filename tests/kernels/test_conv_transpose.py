import functools

import numpy as np
import pytest
from cnnlib import conv_backward, conv_transpose_backward, conv_transpose_forward
from cnnlib.naive import conv_transpose_backward_naive, conv_transpose_forward_naive
from helpers import ConvCase as Case
from helpers import assert_all_close, assert_close, cast, random_arrays

pytestmark = pytest.mark.sets


@functools.cache
def reference(case):
    """x, w, b, dout, and what the loops make of them: out, (dx, dw, db)."""
    rng = np.random.default_rng(list(str(case).encode()))
    x, w, b = random_arrays(rng, case.x, case.w, (case.w[1] * case.groups,))
    b = b if case.bias else None
    out, cache = conv_transpose_forward_naive(x, w, b, case.conv_param)
    (dout,) = random_arrays(rng, out.shape)
    return x, w, b, dout, out, conv_transpose_backward_naive(dout, cache)


CASES = [
    Case((2, 3, 5, 4), (3, 4, 3, 3)),
    Case((2, 3, 5, 4), (3, 4, 3, 3), pad=1),
    Case((2, 3, 5, 4), (3, 4, 2, 2), stride=2),
    Case((2, 3, 5, 4), (3, 4, 4, 4), stride=2, pad=1),
    Case((2, 3, 5, 4), (3, 4, 3, 3), stride=2, pad=1, output_pad=1),
    Case((2, 3, 5, 4), (3, 4, 3, 3), stride=2, pad=1, output_pad=1, bias=False),
    Case((1, 1, 1, 1), (1, 1, 1, 1)),
    Case((3, 2, 1, 1), (2, 1, 5, 3), stride=3),
    Case((0, 3, 5, 4), (3, 4, 3, 3), stride=2),
    Case((2, 3, 4, 5), (3, 2, 1, 1)),
    Case((2, 3, 1, 9), (3, 4, 6, 3), stride=(2, 1), pad=(0, 1)),
    Case((2, 4, 9, 1), (4, 3, 3, 6), groups=2, pad=(1, 0)),
    Case((2, 3, 4, 5), (3, 2, 1, 1), stride=3),
    Case((2, 3, 4, 5), (3, 2, 1, 1), stride=3, output_pad=(2, 1)),
    Case((2, 3, 4, 5), (3, 2, 2, 2), stride=4, output_pad=3),
    Case((2, 3, 4, 5), (3, 2, 3, 2), stride=(1, 3), pad=(1, 0), output_pad=(0, 2)),
    Case((2, 3, 4, 5), (3, 2, 3, 4), stride=2, pad=((1, 0), (2, 1))),
    Case((2, 3, 4, 5), (3, 2, 3, 4), stride=2, pad="valid"),
    Case((2, 3, 4, 5), (3, 2, 5, 5), pad=3),
    Case((2, 3, 6, 6), (3, 2, 3, 3), pad=3),
    Case((2, 3, 4, 5), (3, 2, 1, 5), stride=2, pad=(0, 2)),
    Case((2, 3, 4, 5), (3, 2, 5, 1), stride=2, pad=(2, 0)),
    Case((2, 3, 4, 5), (3, 2, 3, 3), dilation=2),
    Case((2, 3, 4, 5), (3, 2, 3, 2), dilation=(2, 3), stride=2, pad=1, output_pad=1),
    Case((1, 2, 3, 3), (2, 2, 2, 2), dilation=3, stride=2, output_pad=2),
    Case((2, 4, 4, 5), (4, 3, 3, 3), groups=2, stride=2, pad=1),
    Case((2, 6, 4, 3), (6, 1, 3, 3), groups=3, pad=1),
    Case((2, 5, 4, 3), (5, 1, 3, 3), groups=5, stride=2, pad=1, output_pad=1),
    Case((2, 5, 4, 3), (5, 2, 3, 3), groups=5, dilation=2),
    Case((2, 3, 4, 5), (3, 2, 3, 3), dilation=30, pad=((30, 29), (0, 60))),
    Case((1, 17, 4, 4), (17, 15, 3, 3), stride=2, pad=1),
    Case((1, 33, 3, 3), (33, 31, 2, 2), stride=2),
    Case((1, 1, 6, 7), (1, 67, 3, 3), stride=2),
    Case((1, 70, 3, 2), (70, 1, 3, 3), stride=2),
    Case((1, 2, 20, 19), (2, 3, 4, 4), stride=2, pad=1),
    Case((9, 2, 3, 4), (2, 3, 3, 3), stride=2, pad=1, output_pad=1),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_matches_naive(case, isa, dtype):
    x, w, b, dout, want, want_gradients = reference(case)
    out, cache = conv_transpose_forward(*cast((x, w, b), dtype), case.conv_param)
    assert_close(out, want, dtype)
    assert_all_close(conv_transpose_backward(dout.astype(dtype), cache), want_gradients, dtype)


def undone_by_convolution(case):
    """Whether a convolution of these parameters gives the size of x: output_pad is below the stride."""
    strides, extra = (np.broadcast_to(v, 2) for v in (case.stride, case.output_pad))
    return all(extra < strides)


@pytest.mark.parametrize("case", [case for case in CASES if undone_by_convolution(case)], ids=str)
def test_is_the_input_gradient_of_a_convolution(case, dtype):
    x, w, _, _, out, _ = reference(case)
    if case.bias:
        out, _ = conv_transpose_forward_naive(x, w, None, case.conv_param)
    conv_param = {key: value for key, value in case.conv_param.items() if key != "output_pad"}
    image = np.zeros(out.shape, dtype)
    dx, _, _ = conv_backward(x.astype(dtype), (image, w.astype(dtype), None, conv_param))
    assert_close(dx, out, dtype)


def test_output_pad_beyond_every_window_holds_the_bias(isa, dtype):
    x, w = np.ones((1, 1, 2, 2), dtype), np.ones((1, 1, 1, 1), dtype)
    out, _ = conv_transpose_forward(x, w, np.array([5], dtype), {"stride": 3, "output_pad": 2})
    assert out.shape == (1, 1, 6, 6)
    want = np.full((6, 6), 5)
    want[::3, ::3] = 6
    np.testing.assert_array_equal(out[0, 0], want)
