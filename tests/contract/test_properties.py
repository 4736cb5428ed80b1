"""
The compiled layers against the loops, for shapes, parameters and memory layouts that nobody wrote down.

The same examples in every run; with `HYPOTHESIS_EXAMPLES=2000` set it searches on.
"""

import cnnlib
import numpy as np
import pytest
from cnnlib import _core, naive, optim
from helpers import as_tuple

pytest.importorskip("hypothesis", reason="hypothesis is not installed")
from hypothesis import given
from hypothesis import strategies as st
from strategies import convolutions, examples, memories, pools, views

pytestmark = pytest.mark.sets

prop = examples(30)
DTYPES = st.sampled_from([np.float32, np.float64, np.float16])
ISAS = st.sampled_from(_core.available_isas())
# Largest error, relative to the sum of the magnitudes of what is added up.
ERROR = {np.dtype(np.float16): 2e-3, np.dtype(np.float32): 4e-6, np.dtype(np.float64): 2e-14}


@pytest.fixture(autouse=True, scope="module")
def best_isa():
    yield
    _core.use_isa(_core.available_isas()[0])


def assert_near(got, want, dtype, magnitude):
    assert got.dtype == dtype
    assert got.shape == want.shape
    bound = ERROR[np.dtype(dtype)] * magnitude
    np.testing.assert_allclose(got.astype(np.float64), want, rtol=ERROR[np.dtype(dtype)], atol=bound)


def magnitude_of(*arrays):
    """A bound for products of one element of each."""
    return float(np.prod([np.max(np.abs(a), initial=0.0) for a in arrays]))


def exact(*arrays):
    """The same values in float64, contiguous."""
    return [None if a is None else np.array(a, np.float64, order="C") for a in arrays]


def compare(name, data, arrays, rest, magnitudes):
    """
    Forward and backward of both versions, refused by both or equal; no argument is written to.

    `magnitudes(out, dout)` bounds the sums behind out and each gradient.
    """
    _core.use_isa(data.draw(ISAS))
    dtype = next(a.dtype for a in arrays).newbyteorder("=")
    kept = [None if a is None else a.tobytes() for a in arrays]
    given = exact(*arrays)
    forward, refusal = (
        getattr(cnnlib, f"{name}_forward"),
        rf"{name}_forward: (the window (of w )?is larger|pad leaves no output)",
    )
    try:
        want, naive_cache = getattr(naive, f"{name}_forward_naive")(*given, *rest())
    except ValueError:
        with pytest.raises(ValueError, match=refusal):
            forward(*arrays, *rest())
        return
    try:
        out, cache = forward(*arrays, *rest())
    except ValueError as error:
        if "algorithm 'winograd' needs" in str(error):
            return
        raise
    if name in ("affine_relu", "conv_relu"):  # rounding decides on which side of 0 a sum lies
        naive_cache = naive_cache[0], cache[1]
    memory = data.draw(memories(data.draw(DTYPES)))
    dout = data.draw(views(memory, want.shape)) if want.ndim else np.ones(())
    wants = as_tuple(getattr(naive, f"{name}_backward_naive")(*exact(dout), naive_cache))
    grads = as_tuple(getattr(cnnlib, f"{name}_backward")(dout, cache))
    bounds = magnitudes(want, dout)
    for got, right, bound in zip((out, *grads), (want, *wants), bounds, strict=True):
        if right is None:
            assert got is None
        else:
            assert_near(got, right, dtype, bound)
    assert [None if a is None else a.tobytes() for a in arrays] == kept


@prop
@given(st.data(), DTYPES)
@pytest.mark.parametrize("name", ["conv", "conv_transpose", "conv_relu"])
def test_convolutions(name, data, dtype):
    x_shape, w_shape, b_shape, param = data.draw(convolutions(transposed=name == "conv_transpose"))
    memory = data.draw(memories(dtype))
    x, w = data.draw(views(memory, x_shape)), data.draw(views(memory, w_shape))
    b = data.draw(st.none() | views(memory, b_shape))

    def magnitudes(out, dout):
        taps = w.size
        bias = 0 if b is None else magnitude_of(b)
        outputs = out.size + x.size
        return (
            taps * magnitude_of(x, w) + bias,
            taps * magnitude_of(dout, w),
            outputs * magnitude_of(dout, x),
            outputs * magnitude_of(dout),
        )

    compare(name, data, [x, w, b], lambda: (dict(param),), magnitudes)


@prop
@given(st.data(), DTYPES)
@pytest.mark.parametrize("name", ["max_pool", "avg_pool"])
def test_pools(name, data, dtype):
    shape, param = data.draw(pools(average=name == "avg_pool"))
    x = data.draw(views(data.draw(memories(dtype)), shape))

    def magnitudes(out, dout):
        # Windows without a tap are minus infinity; a window's gradient reaches each tap once.
        taps = param["pool_height"] * param["pool_width"]
        return (0 if name == "max_pool" else taps * magnitude_of(x), taps * magnitude_of(dout))

    compare(name, data, [x], lambda: (dict(param),), magnitudes)


@prop
@given(st.data(), DTYPES)
def test_global_avg_pool(data, dtype):
    shape = data.draw(st.tuples(st.integers(0, 3), *[st.integers(1, 7)] * 3))
    x = data.draw(views(data.draw(memories(dtype)), shape))
    compare("global_avg_pool", data, [x], tuple, lambda out, dout: (magnitude_of(x), magnitude_of(dout)))


@prop
@given(st.data(), DTYPES)
@pytest.mark.parametrize(
    "name", ["batchnorm", "spatial_batchnorm", "layernorm", "spatial_layernorm", "spatial_groupnorm"]
)
def test_norms(name, data, dtype):
    spatial = name.startswith("spatial")
    G = data.draw(st.integers(1, 3)) if name == "spatial_groupnorm" else 1
    N, C = data.draw(st.integers(0, 4)), G * data.draw(st.integers(1, 6))
    shape = (N, C, data.draw(st.integers(1, 5)), data.draw(st.integers(1, 5))) if spatial else (N, C)
    memory = data.draw(memories(dtype))
    x, gamma, beta = (data.draw(views(memory, s)) for s in (shape, (C,), (C,)))
    eps = data.draw(st.sampled_from([1e-2, 0.3, 1]))
    if "batchnorm" in name:
        mode = data.draw(st.sampled_from(["train", "test"]))
        mean, var = np.linspace(-1, 1, C), np.linspace(0.5, 2, C)

        def rest():
            return ({"mode": mode, "eps": eps, "running_mean": mean, "running_var": var},)
    else:

        def rest():
            return ({"eps": eps},) if name.endswith("layernorm") else (G, {"eps": eps})

    def magnitudes(out, dout):
        scale = (magnitude_of(x) + 1) / np.sqrt(eps)  # of normalised values
        return (
            scale * magnitude_of(gamma) + magnitude_of(beta),
            scale**2 * magnitude_of(dout, gamma) / np.sqrt(eps),
            x.size * scale * magnitude_of(dout),
            x.size * magnitude_of(dout),
        )

    compare(name, data, [x, gamma, beta], rest, magnitudes)


@prop
@given(st.data(), DTYPES)
@pytest.mark.parametrize("name", ["affine", "affine_relu"])
def test_affine_layers(name, data, dtype):
    shape = tuple(data.draw(st.lists(st.integers(0, 5), min_size=1, max_size=3)))
    D, M = int(np.prod(shape[1:])), data.draw(st.integers(0, 20))
    memory = data.draw(memories(dtype))
    x, w = data.draw(views(memory, shape)), data.draw(views(memory, (D, M)))
    b = data.draw(st.none() | views(memory, (M,)))

    def magnitudes(out, dout):
        bias = 0 if b is None else magnitude_of(b)
        return (
            D * magnitude_of(x, w) + bias,
            M * magnitude_of(dout, w),
            len(x) * magnitude_of(dout, x),
            len(x) * magnitude_of(dout),
        )

    compare(name, data, [x, w, b], tuple, magnitudes)


@prop
@given(st.data(), DTYPES)
@pytest.mark.parametrize("name", ["relu", "leaky_relu", "dropout", "silu", "gelu", "elu", "hard_swish"])
def test_elementwise_layers(name, data, dtype):
    shape = tuple(data.draw(st.lists(st.integers(0, 9), max_size=3)))
    x = data.draw(views(data.draw(memories(dtype)), shape))
    rest = (lambda: ({"p": 0.3, "mode": "train", "seed": 1},)) if name == "dropout" else tuple
    compare(name, data, [x], rest, lambda out, dout: (magnitude_of(x), magnitude_of(dout)))


@prop
@given(st.data(), DTYPES)
@pytest.mark.parametrize("name", ["softmax_loss", "svm_loss"])
def test_losses(name, data, dtype):
    _core.use_isa(data.draw(ISAS))
    N, C = data.draw(st.integers(0, 5)), data.draw(st.integers(1, 12))
    x = data.draw(views(data.draw(memories(dtype)), (N, C)))
    labels = np.array(data.draw(st.lists(st.integers(0, C - 1), min_size=N, max_size=N)), int)
    kind = data.draw(st.sampled_from([np.int8, np.uint8, np.int64, np.uint64, ">i4"]))
    loss, dx = getattr(cnnlib, name)(x, labels.astype(kind))
    want, want_dx = getattr(naive, f"{name}_naive")(*exact(x), labels)
    # A float16 score whose margin is zero but for rounding would move its whole gradient; here none rounds.
    assert loss == pytest.approx(want, rel=1e-5, abs=1e-5)
    assert_near(dx, want_dx, dtype, 1)


@prop
@given(st.data(), st.sampled_from([np.float32, np.float64]))
@pytest.mark.parametrize("name", optim.__all__)
def test_update_rules(name, data, dtype):
    """w in any layout: updated in place where that is possible, and else a copy; dw is never written to."""
    _core.use_isa(data.draw(ISAS))
    shape = tuple(data.draw(st.lists(st.integers(0, 9), max_size=3)))
    dw = data.draw(views(data.draw(memories(dtype)), shape))
    w = data.draw(views(data.draw(memories(dtype)), shape))
    rule, kept, start = getattr(optim, name), dw.tobytes(), np.array(w, dtype, order="C")
    in_place = w.flags.carray and w.dtype.isnative
    got, config = rule(w, dw)
    want, want_config = rule(start.copy(), np.array(dw, dtype, order="C"))
    np.testing.assert_array_equal(got, want)
    assert (got is w) == in_place
    assert dw.tobytes() == kept
    if not in_place:
        np.testing.assert_array_equal(w, start)
    for key, value in want_config.items():
        np.testing.assert_array_equal(config[key], value)
