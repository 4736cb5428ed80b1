"""Hypothesis strategies: arrays in every state that NumPy knows, and parameters that fit them or do not."""

import os

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

searched = "HYPOTHESIS_EXAMPLES" in os.environ
ELEMENTS = 4096


def examples(most):
    """Settings of a test: the same examples in every run, or HYPOTHESIS_EXAMPLES new ones."""
    return settings(
        max_examples=int(os.environ.get("HYPOTHESIS_EXAMPLES", most)),
        derandomize=not searched,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


@st.composite
def memories(draw, dtype):
    """A writable 1-d array for views(): normal numbers that float16 holds, in any byte order, any offset."""
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    values = rng.standard_normal(ELEMENTS).astype(np.float16)
    if draw(st.booleans()):
        values = np.round(values)  # ties, and zeros of both signs
    dtype = np.dtype(dtype).newbyteorder(draw(st.sampled_from("=S")))
    offset = draw(st.sampled_from([0, 0, 1, dtype.itemsize // 2]))
    memory = np.zeros(ELEMENTS * dtype.itemsize + offset, np.uint8)[offset:].view(dtype)
    memory[...] = values
    return memory


@st.composite
def views(draw, memory, shape):
    """
    A view of this shape somewhere in memory.

    Its strides are those of an array in C order, or any: 0, negative, with gaps, in any order of the axes;
    elements may coincide, and two views of one memory overlap.
    """
    itemsize = memory.dtype.itemsize
    if draw(st.integers(0, 3)) == 0:
        strides = [int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]
    else:
        strides = [draw(st.sampled_from([1, -1, 0, 2, 3, -5, 17, 64, -64])) for _ in shape]
    reach = [stride * (size - 1) for stride, size in zip(strides, shape, strict=True) if size > 0]
    low, high = sum(min(r, 0) for r in reach), sum(max(r, 0) for r in reach)
    first = draw(st.integers(-low, ELEMENTS - 1 - high))
    strides = [stride * itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(memory[first:], shape, strides, writeable=draw(st.booleans()))


def pairs(values):
    """A number for both axes, or (vertical, horizontal)."""
    return st.one_of(values, st.tuples(values, values))


def pads(largest):
    side = st.integers(0, largest)
    both = st.tuples(side, side)
    return st.one_of(pairs(side), st.tuples(both, both), st.sampled_from(["same", "valid"]))


@st.composite
def convolutions(draw, transposed=False):
    """Shapes of x and w, and conv_param; the window may be larger than the padded image."""
    groups = draw(st.integers(1, 3))
    C, F = groups * draw(st.integers(1, 3)), groups * draw(st.integers(1, 3))
    N, H, W = draw(st.integers(0, 2)), draw(st.integers(1, 9)), draw(st.integers(1, 9))
    KH, KW = draw(
        st.sampled_from([(1, 1), (3, 3), (3, 3), (5, 5), (2, 2), (4, 4), (1, 3), (2, 4), (4, 1), (6, 1)])
    )
    stride, dilation = draw(pairs(st.integers(1, 3))), draw(pairs(st.integers(1, 2)))
    param = {"stride": stride, "dilation": dilation, "groups": groups}
    if transposed:
        param["pad"] = draw(pads(1).filter(lambda pad: pad != "same"))
        param["output_pad"] = draw(st.integers(0, 1)) if np.min(stride) > 1 else 0
    else:
        param["pad"] = draw(pads(2))
        param["algorithm"] = draw(st.sampled_from(["auto", "auto", "direct", "winograd"]))
    w = (C, F // groups, KH, KW) if transposed else (F, C // groups, KH, KW)
    return (N, C, H, W), w, (F,), param


@st.composite
def pools(draw, average=False):
    """The shape of x, and pool_param."""
    shape = draw(st.tuples(st.integers(0, 2), st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)))
    KH, KW = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    param = {"pool_height": KH, "pool_width": KW, "ceil_mode": draw(st.booleans())}
    if draw(st.booleans()):
        param["stride"] = draw(pairs(st.integers(1, 4)))
    if average:
        param["count_include_pad"] = draw(st.booleans())
    elif draw(st.booleans()):
        param["dilation"] = draw(pairs(st.integers(1, 2)))
    param["pad"] = draw(pads(min(KH, KW) - 1))
    return shape, param
