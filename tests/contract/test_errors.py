"""A malformed call says which function and argument it is about, what came, and what was expected."""

import re

import cnnlib
import numpy as np
import pytest
from cnnlib import naive
from helpers import run_python

pytestmark = pytest.mark.borders

X = np.zeros((2, 4, 6, 5))
W = np.zeros((6, 4, 3, 3))
B = np.zeros(6)
WT = np.zeros((4, 6, 3, 3))
G4 = np.zeros(4)
POOL = {"pool_height": 2, "pool_width": 2}
BN = {"mode": "train"}
ROWS = np.zeros((3, 4))


def conv(x=X, w=W, b=B, **conv_param):
    return cnnlib.conv_forward(x, w, b, conv_param)


def conv_transpose(x=X, w=WT, b=B, **conv_param):
    return cnnlib.conv_transpose_forward(x, w, b, conv_param)


def max_pool(x=X, **more):
    return cnnlib.max_pool_forward(x, {**POOL, **more})


def avg_pool(x=X, **more):
    return cnnlib.avg_pool_forward(x, {**POOL, **more})


def batchnorm(x=ROWS, gamma=G4, beta=G4, **more):
    return cnnlib.batchnorm_forward(x, gamma, beta, {**BN, **more})


def spatial_batchnorm(x=X, gamma=G4, beta=G4, **more):
    return cnnlib.spatial_batchnorm_forward(x, gamma, beta, {**BN, **more})


def layernorm(x=ROWS, gamma=G4, beta=G4, **ln_param):
    return cnnlib.layernorm_forward(x, gamma, beta, ln_param)


def groupnorm(x=X, gamma=G4, beta=G4, G=2, **gn_param):
    return cnnlib.spatial_groupnorm_forward(x, gamma, beta, G, gn_param)


def affine(x=ROWS, w=np.zeros((4, 5)), b=np.zeros(5)):  # noqa: B008
    return cnnlib.affine_forward(x, w, b)


def dropout(x=ROWS, **more):
    return cnnlib.dropout_forward(x, {"mode": "train", "p": 0.5, **more})


def softmax(x=ROWS, y=(0, 1, 2)):
    return cnnlib.softmax_loss(x, np.asarray(y))


def svm(x=ROWS, y=(0, 1, 2)):
    return cnnlib.svm_loss(x, np.asarray(y))


# A call, and words that its message has to hold, in this order.
VALUE_ERRORS = [
    # unknown keys, with the nearest that is known
    (lambda: conv(strides=2), ["conv_forward", "'strides'", "conv_param", "'stride'"]),
    (lambda: conv(padding=1), ["conv_forward", "'padding'", "'pad'"]),
    (lambda: conv(dilations=1), ["conv_forward", "'dilations'", "'dilation'"]),
    (lambda: conv(output_pad=1), ["conv_forward", "'output_pad'"]),
    (lambda: conv(bananas=1), ["conv_forward", "'bananas'", "stride", "pad", "dilation", "groups"]),
    (lambda: cnnlib.conv_forward(X, W, B, {1: 2}), ["conv_forward", "1", "conv_param"]),
    (
        lambda: conv_transpose(output_padding=1),
        ["conv_transpose_forward", "'output_padding'", "'output_pad'"],
    ),
    (lambda: max_pool(pool_heigth=2), ["max_pool_forward", "'pool_heigth'", "pool_param", "'pool_height'"]),
    (lambda: max_pool(count_include_pad=True), ["max_pool_forward", "'count_include_pad'"]),
    (lambda: avg_pool(dilation=1), ["avg_pool_forward", "'dilation'"]),
    (lambda: batchnorm(epsilon=1e-5), ["batchnorm_forward", "'epsilon'", "bn_param"]),
    (lambda: batchnorm(running_means=G4), ["batchnorm_forward", "'running_means'", "'running_mean'"]),
    (lambda: spatial_batchnorm(momentun=0.9), ["spatial_batchnorm_forward", "'momentun'", "'momentum'"]),
    (lambda: layernorm(momentum=0.9), ["layernorm_forward", "'momentum'", "ln_param"]),
    (lambda: groupnorm(esp=1e-5), ["spatial_groupnorm_forward", "'esp'", "gn_param", "'eps'"]),
    (lambda: dropout(prob=0.5), ["dropout_forward", "'prob'", "dropout_param"]),
    (lambda: dropout(seeds=1), ["dropout_forward", "'seeds'", "'seed'"]),
    # conv: shapes
    (lambda: conv(x=X[0]), ["conv_forward", "x", "4 dimensions", "(4, 6, 5)"]),
    (lambda: conv(w=W[0]), ["conv_forward", "w", "4 dimensions", "(4, 3, 3)"]),
    (lambda: conv(w=W[:, :3]), ["conv_forward", "x", "w", "(2, 4, 6, 5)", "(6, 3, 3, 3)"]),
    (lambda: conv(b=np.zeros(5)), ["conv_forward", "b", "(6,)", "(5,)"]),
    (lambda: conv(b=np.zeros((6, 1))), ["conv_forward", "b", "(6,)", "(6, 1)"]),
    (lambda: conv(x=X[:, :, :0], pad=2), ["conv_forward", "x", "(2, 4, 0, 5)"]),
    (lambda: conv(groups=2), ["conv_forward", "x", "w", "(2, 4, 6, 5)", "(6, 4, 3, 3)"]),
    (lambda: conv(w=np.zeros((6, 4, 7, 3))), ["conv_forward", "window", "7", "6"]),
    (lambda: conv(w=np.zeros((6, 4, 3, 8)), pad=1), ["conv_forward", "window", "8", "7"]),
    (lambda: conv(x=X[:0], dilation=3), ["conv_forward", "window", "7", "6"]),
    # conv: parameters
    (lambda: conv(pad="full"), ["conv_forward", "pad", "'same'", "'valid'", "'full'"]),
    (lambda: conv(algorithm="fft"), ["conv_forward", "algorithm", "'auto'", "'direct'", "'fft'"]),
    # absurd sizes
    (lambda: conv(stride=2**40), ["conv_forward", "stride", str(2**40)]),
    (lambda: conv(dilation=2**40), ["conv_forward", "dilation"]),
    (lambda: conv(dilation=2**31 - 1), ["conv_forward", "window"]),
    (lambda: conv(pad=2**63 - 1), ["conv_forward", "pad"]),
    (lambda: max_pool(pool_height=2**31 - 1), ["max_pool_forward", "window"]),
    (lambda: avg_pool(pool_width=2**63), ["avg_pool_forward", "pool_width"]),
    (lambda: conv_transpose(stride=2**40), ["conv_transpose_forward", "stride"]),
    (lambda: conv_transpose(output_pad=2**40), ["conv_transpose_forward", "output_pad"]),
    # conv_transpose
    (lambda: conv_transpose(w=WT[:3]), ["conv_transpose_forward", "x", "w", "(2, 4, 6, 5)", "(3, 6, 3, 3)"]),
    (lambda: conv_transpose(b=np.zeros(4)), ["conv_transpose_forward", "b", "(6,)", "(4,)"]),
    (lambda: conv_transpose(pad=4), ["conv_transpose_forward", "pad"]),
    # pools
    (lambda: max_pool(x=X[0]), ["max_pool_forward", "x", "(N, C, H, W)", "(4, 6, 5)"]),
    (lambda: max_pool(pool_height=7), ["max_pool_forward", "window", "7", "6"]),
    (lambda: max_pool(x=X[:0], pool_height=7), ["max_pool_forward", "window", "7", "6"]),
    (lambda: avg_pool(x=X[:0], pool_height=7), ["avg_pool_forward", "window", "7", "6"]),
    (lambda: avg_pool(pool_width=6), ["avg_pool_forward", "window", "6", "5"]),
    # norms
    (lambda: batchnorm(gamma=np.zeros(3)), ["batchnorm_forward", "gamma", "(4,)", "(3,)"]),
    (lambda: batchnorm(beta=np.zeros((1, 4))), ["batchnorm_forward", "beta", "(4,)", "(1, 4)"]),
    (lambda: batchnorm(mode="predict"), ["batchnorm_forward", "mode", "'train'", "'test'", "'predict'"]),
    (lambda: batchnorm(running_mean=np.zeros(3)), ["batchnorm_forward", "running_mean", "(4,)", "(3,)"]),
    (lambda: spatial_batchnorm(gamma=np.zeros(5)), ["spatial_batchnorm_forward", "gamma", "(4,)", "(5,)"]),
    (lambda: spatial_batchnorm(running_var=np.zeros((1, 4, 1, 1))), ["spatial_batchnorm", "running_var"]),
    (lambda: layernorm(gamma=np.zeros(3)), ["layernorm_forward", "gamma", "(4,)", "(3,)"]),
    (
        lambda: layernorm(x=ROWS[:, :0], gamma=G4[:0], beta=G4[:0]),
        ["layernorm_forward", "x", "empty", "(3, 0)"],
    ),
    (lambda: groupnorm(gamma=np.zeros((4, 1, 1))), ["spatial_groupnorm_forward", "gamma", "(4, 1, 1)"]),
    # dense
    (lambda: affine(w=np.zeros((3, 5))), ["affine_forward", "x", "w", "(3, 4)", "(3, 5)"]),
    (lambda: affine(b=np.zeros(4)), ["affine_forward", "b", "(5,)", "(4,)"]),
    (lambda: dropout(p=1.5), ["dropout_forward", "p", "[0, 1]", "1.5"]),
    (lambda: dropout(mode="eval"), ["dropout_forward", "mode", "'train'", "'test'", "'eval'"]),
    # losses
    (lambda: softmax(x=X), ["softmax_loss", "y", "(2, 6, 5)", "(3,)"]),
    (lambda: softmax(x=np.zeros(3)), ["softmax_loss", "x", "(N, C)", "(3,)"]),
    (
        lambda: cnnlib.softmax_loss(ROWS, [0, 1, 2], weights=[1.0]),
        ["softmax_loss", "weights", "(4,)", "(1,)"],
    ),
    (lambda: cnnlib.softmax_loss(ROWS, [0, 1, 9], ignore=8), ["softmax_loss", "y", "[0, 4)", "9"]),
    (lambda: cnnlib.cross_entropy(ROWS, ROWS[:2]), ["cross_entropy", "y", "(3, 4)", "(2, 4)"]),
    (lambda: cnnlib.mse_loss(ROWS, ROWS[:2]), ["mse_loss", "y", "(3, 4)", "(2, 4)"]),
    (lambda: cnnlib.huber_loss(ROWS, ROWS, 0), ["huber_loss", "delta", "above 0", "0"]),
    (lambda: cnnlib.bce_loss(ROWS, ROWS, pos_weight=-1), ["bce_loss", "pos_weight", "-1"]),
    (lambda: cnnlib.bce_loss(ROWS, ROWS, pos_weight=[1, 2]), ["bce_loss", "pos_weight", "(4,)", "(2,)"]),
    (lambda: cnnlib.bce_loss(ROWS[0], ROWS[0], pos_weight=[1, 2]), ["bce_loss", "pos_weight", "(4,)"]),
    (lambda: cnnlib.bce_loss(ROWS, ROWS, pos_weight=[[1, 2], [3]]), ["bce_loss", "pos_weight"]),
    (lambda: cnnlib.dice_loss(ROWS[0], ROWS[0]), ["dice_loss", "x", "(N, C, ...)", "(4,)"]),
    (lambda: softmax(y=(0, 1)), ["softmax_loss", "y", "(3,)", "(2,)"]),
    (lambda: softmax(y=((0, 1, 2),)), ["softmax_loss", "y", "(3,)", "(1, 3)"]),
    (lambda: softmax(y=(0, 1, 4)), ["softmax_loss", "y", "4"]),
    (lambda: softmax(y=(0, -1, 2)), ["softmax_loss", "y", "-1"]),
    (lambda: svm(y=(0, 1, 4)), ["svm_loss", "y", "4"]),
    (lambda: svm(y=(0, -1, 2)), ["svm_loss", "y", "-1"]),
    (lambda: svm(x=G4), ["svm_loss", "x", "(N, C)", "(4,)"]),
    # sandwiches report the argument too
    (lambda: cnnlib.conv_relu_forward(X, W, np.zeros(5), {}), ["conv", "b", "(6,)", "(5,)"]),
    (
        lambda: cnnlib.conv_relu_pool_forward(X, W, B, {}, {**POOL, "pads": 1}),
        ["'pads'", "pool_param", "'pad'"],
    ),
    (
        lambda: cnnlib.affine_bn_relu_forward(ROWS, np.zeros((4, 5)), None, G4, G4, BN),
        ["gamma", "(5,)", "(4,)"],
    ),
    # settings of the process
    (lambda: cnnlib.set_conv_algorithm("fft"), ["set_conv_algorithm", "name", "'auto'", "'fft'"]),
    (lambda: cnnlib.set_num_threads(0), ["set_num_threads", "n", "0"]),
]

TYPE_ERRORS = [
    (lambda: conv(stride=1.0), ["conv_forward", "stride", "1.0"]),
    (lambda: conv(pad=1.0), ["conv_forward", "pad", "1.0"]),
    (lambda: conv(pad=((1, 1), (1, "1"))), ["conv_forward", "pad", "'1'"]),
    (lambda: conv(groups=(1, 1)), ["conv_forward", "groups", "(1, 1)"]),
    (lambda: conv(algorithm=1), ["conv_forward", "algorithm", "1"]),
    (lambda: cnnlib.set_conv_algorithm(None), ["set_conv_algorithm", "name", "None"]),
    (lambda: cnnlib.conv_forward(X, W, B, 2), ["conv_forward", "conv_param", "dict", "int"]),
    (lambda: cnnlib.max_pool_forward(X, 2), ["max_pool_forward", "pool_param", "dict", "int"]),
    (lambda: max_pool(pool_height=2.0), ["max_pool_forward", "pool_height", "2.0"]),
    (lambda: max_pool(ceil_mode=1), ["max_pool_forward", "ceil_mode", "1"]),
    (lambda: avg_pool(count_include_pad="yes"), ["avg_pool_forward", "count_include_pad", "'yes'"]),
    (lambda: batchnorm(mode=None), ["batchnorm_forward", "mode", "None"]),
    (lambda: batchnorm(eps="small"), ["batchnorm_forward", "eps", "'small'"]),
    (lambda: batchnorm(running_mean=np.array(["a"] * 4)), ["batchnorm_forward", "running_mean"]),
    (lambda: groupnorm(G=2.0), ["spatial_groupnorm_forward", "G", "2.0"]),
    (lambda: dropout(seed=1.5), ["dropout_forward", "seed", "1.5"]),
    (lambda: cnnlib.leaky_relu_forward(X, "0.1"), ["leaky_relu_forward", "alpha", "'0.1'"]),
    (lambda: softmax(y=(0.0, 1.0, 2.0)), ["softmax_loss", "y", "float64"]),
    (lambda: svm(y=(True, False, True)), ["svm_loss", "y", "bool"]),
    (lambda: softmax(y="abc"), ["softmax_loss", "y"]),
    (lambda: cnnlib.softmax_loss(ROWS, [0, 1, 2], ignore=1.5), ["softmax_loss", "ignore", "1.5"]),
    (lambda: cnnlib.softmax_loss(ROWS, [0, 1, 2], weights=["a"] * 4), ["softmax_loss", "weights"]),
    (lambda: cnnlib.l1_loss(ROWS, None), ["l1_loss", "y", "None"]),
]


def assert_message(error, words):
    pattern = ".*".join(re.escape(word) for word in words)
    assert re.search(pattern, str(error.value), re.DOTALL), str(error.value)


def numbered(cases):
    return [pytest.param(*case, id=f"{i}-{case[1][0]}-{case[1][-1]}") for i, case in enumerate(cases)]


@pytest.mark.parametrize(("call", "words"), numbered(VALUE_ERRORS))
def test_wrong_values(call, words):
    with pytest.raises(ValueError, match=re.escape(words[0])) as error:
        call()
    assert_message(error, words)


@pytest.mark.parametrize(("call", "words"), numbered(TYPE_ERRORS))
def test_wrong_types(call, words):
    with pytest.raises(TypeError, match=re.escape(words[0])) as error:
        call()
    assert_message(error, words)


def test_a_failed_call_leaves_bn_param_alone():
    param = {"mode": "train", "running_mean": np.zeros(4), "running_var": np.ones(4)}
    before = dict(param)
    with pytest.raises(ValueError, match="gamma"):
        cnnlib.batchnorm_forward(ROWS, np.zeros(3), G4, param)
    assert param.keys() == before.keys()
    assert all(param[key] is before[key] for key in before)


@pytest.mark.parametrize("stride", [1, 2**31 - 1])
def test_results_that_no_memory_holds_are_refused_quickly(stride):
    """2**31 - 1 rows of padding on each side make 2**64 pixels: neither crash nor wait."""
    x, w = np.zeros((1, 1, 2, 2)), np.zeros((1, 1, 1, 1))
    pad = 2**31 - 1
    if stride == 1:
        with pytest.raises((ValueError, MemoryError)):
            cnnlib.conv_forward(x, w, None, {"pad": pad, "stride": stride})
        with pytest.raises((ValueError, MemoryError)):
            cnnlib.conv_transpose_forward(x, w, None, {"stride": pad})
    else:
        out, _ = cnnlib.conv_forward(x, w, None, {"pad": pad, "stride": stride})
        np.testing.assert_array_equal(out, np.zeros((1, 1, 3, 3)))


def test_large_strides_and_dilations_that_fit_are_served():
    x = np.arange(12.0).reshape(1, 1, 3, 4)
    one = np.ones((1, 1, 1, 1))
    out, cache = cnnlib.conv_forward(x, one, None, {"stride": 2**31 - 1, "dilation": 2**31 - 1})
    np.testing.assert_array_equal(out, [[[[0]]]])
    dx, dw, _ = cnnlib.conv_backward(np.ones_like(out), cache)
    np.testing.assert_array_equal(dx.ravel(), [1] + [0] * 11)
    np.testing.assert_array_equal(dw, [[[[0]]]])
    out, cache = cnnlib.max_pool_forward(x, {"pool_height": 3, "pool_width": 4, "stride": 2**31 - 1})
    np.testing.assert_array_equal(out, [[[[11]]]])
    np.testing.assert_array_equal(cnnlib.max_pool_backward(np.ones_like(out), cache).ravel(), [0] * 11 + [1])


@pytest.mark.parametrize(
    ("backward", "cache", "words"),
    [
        (cnnlib.conv_backward, (X, W[:, :3], B, {}), ["conv_backward", "(6, 3, 3, 3)"]),
        (cnnlib.conv_backward, (X, W, B, {"strides": 1}), ["conv_backward", "'strides'"]),
        (cnnlib.conv_backward, (X, W, B, {"stride": 0}), ["conv_backward", "stride"]),
        (cnnlib.max_pool_backward, (X[0], POOL), ["max_pool_backward", "x"]),
        (cnnlib.max_pool_backward, (X, {"pool_height": 2}), ["max_pool_backward", "pool_width"]),
        (cnnlib.avg_pool_backward, (X, {}), ["avg_pool_backward", "pool_height", "pool_width"]),
        (cnnlib.affine_backward, (ROWS, np.zeros((3, 5)), None), ["affine_backward", "(3, 5)"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_cache_made_by_hand_is_checked_too(backward, cache, words):
    with pytest.raises((ValueError, KeyError), match=words[0]) as error:
        backward(np.zeros((2, 6, 4, 3)), cache)
    assert_message(error, words)


def test_changing_pool_param_after_the_forward_cannot_crash_the_backward():
    """The cache holds the caller's own dict, which may say something else by the time of the backward."""
    printed = run_python(
        """
        import numpy as np
        import cnnlib
        x = np.random.default_rng(0).standard_normal((2, 3, 9, 9))
        for changes in (
            {"pool_height": 2, "pool_width": 1},
            {"pool_height": 1, "pool_width": 1, "stride": 3},
            {"pad": 1, "stride": 4},
            {"stride": 2},
            {"dilation": 2, "pool_height": 2, "pool_width": 2},
        ):
            pool_param = {"pool_height": 3, "pool_width": 3, "stride": 3}
            out, cache = cnnlib.max_pool_forward(x, pool_param)
            pool_param.update(changes)
            try:
                dx = cnnlib.max_pool_backward(np.ones_like(out), cache)
            except ValueError:
                continue
            assert dx.shape == x.shape
            assert dx.sum() == out.size, dx.sum()
        print("finished")
        """
    )
    assert printed == "finished"


def test_a_forged_cache_cannot_reach_memory_outside_dx():
    """The pool's cache carries which position of each window won; whatever someone puts there."""
    printed = run_python(
        """
        import numpy as np
        import cnnlib
        x = np.zeros((1, 2, 4, 4))
        pool_param = {"pool_height": 2, "pool_width": 2}
        out, cache = cnnlib.max_pool_forward(x, pool_param)
        geometry, argmax = cache.winners
        assert argmax.size == out.size
        dout = np.ones_like(out)
        refused = 0
        for forged in (
            np.full_like(argmax, 200),
            np.full_like(argmax, 4),
            argmax.astype(np.int64),
            argmax[:, :, ::-1],
            argmax.ravel(),
            argmax[:, :1],
            np.zeros(3, argmax.dtype),
            np.full(argmax.shape, -10**6),
            np.full(argmax.shape, 10**9, np.uint32),
        ):
            cache.winners = geometry, forged
            try:
                dx = cnnlib.max_pool_backward(dout, cache)
            except (ValueError, TypeError):
                refused += 1
                continue
            assert dx.shape == x.shape
            assert dx.sum() <= out.size, dx.sum()
        assert refused >= 5, refused
        for cache.winners in (None, 3, "ab", (geometry, "a"), ("a", argmax), (geometry, argmax, 1)):
            assert cnnlib.max_pool_backward(dout, cache).sum() == out.size
        cache.winners = geometry, argmax + 1
        dx = cnnlib.max_pool_backward(dout, cache)
        assert dx[0, 0, 0, 1] == 1, "the argmax is not read at all"
        print("finished")
        """
    )
    assert printed == "finished"


def test_parameters_may_be_arrays_of_one_number():
    param = {"stride": np.array(2), "pad": (np.array(1), np.int64(0)), "dilation": np.array([1, 1])[0]}
    out, _ = cnnlib.conv_forward(X, W, B, param)
    assert out.shape == naive.conv_forward_naive(X, W, B, param)[0].shape == (2, 6, 3, 2)
    rows = np.random.default_rng(0).standard_normal((3, 4))
    want, _ = cnnlib.layernorm_forward(rows, G4 + 1, G4, {"eps": 0.1})
    np.testing.assert_array_equal(cnnlib.layernorm_forward(rows, G4 + 1, G4, {"eps": np.array(0.1)})[0], want)
    with pytest.raises(TypeError, match=r"eps must be a number, got array\(True\)"):
        cnnlib.layernorm_forward(rows, G4, G4, {"eps": np.array(True)})
