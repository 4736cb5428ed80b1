"""Layers on bfloat16 have the bits that cnnlib.naive.bfloat16 defines, over random shapes."""

import numpy as np
import pytest
from cnnlib import _core
from cnnlib.graph import Node
from cnnlib.inference import prepare
from cnnlib.naive import bfloat16
from small_graphs import net_of

pytestmark = [
    pytest.mark.sets,
    pytest.mark.smoke,
    pytest.mark.skipif(
        _core.active_bfloat16() is None, reason="this processor has no instructions for bfloat16"
    ),
]


@pytest.fixture(autouse=True)
def vectors():
    """AMX adds in another order: its processors have these instructions, too."""
    limit = _core.bfloat16_limit()
    _core.limit_bfloat16("avx512bf16")
    yield
    _core.limit_bfloat16(limit)


def predictor_of(nodes, params, shape):
    return prepare(net_of(nodes, params, shape, np.float32), precision="bfloat16")


def same_bits(got, want):
    assert got.shape == want.shape
    assert want.dtype == np.float32
    np.testing.assert_array_equal(
        np.ascontiguousarray(got).view(np.uint32), np.ascontiguousarray(want).view(np.uint32)
    )


def numbers(rng, *shape):
    """Of very different sizes: sums depend on their order."""
    return (rng.standard_normal(shape) * 2.0 ** rng.integers(-12, 12, shape)).astype(np.float32)


def case_of(rng):
    """A convolution: images (N, C, H, W), weights, and conv_param."""
    kind = rng.choice(["any", "winograd", "groups", "depthwise"])
    C, F = rng.integers(1, 71, 2)
    KH, KW = rng.integers(1, 4, 2)
    param = {"stride": 1, "pad": tuple(int(p) for p in rng.integers(0, 3, 2))}
    groups = 1
    if kind == "winograd":
        C, F, KH, KW = *rng.integers(32, 71, 2), 3, 3
    elif kind == "groups":
        groups = int(rng.integers(2, 4))
        C, F = groups * 2 * rng.integers(1, 9), groups * rng.integers(1, 20)
    elif kind == "depthwise":
        groups = C = F = int(rng.integers(2, 71))
    if kind != "winograd":
        param["stride"] = tuple(int(s) for s in rng.integers(1, 3, 2))
        param["dilation"] = tuple(int(d) for d in rng.integers(1, 3, 2))
    if rng.integers(4) == 0:
        param["algorithm"] = "direct"
    param["groups"] = groups
    x = numbers(rng, rng.integers(1, 3), C, *rng.integers(5, 12, 2))
    return x, numbers(rng, F, C // groups, KH, KW), param


def sums_of(x, w, conv_param):
    """By the method that such a convolution has."""
    F, C = w.shape[:2]
    steps = [conv_param.get(name, 1) for name in ("stride", "dilation")]
    if conv_param["groups"] == x.shape[1] == F > 1:
        return bfloat16.depthwise_sums(x, bfloat16.rounded(w), conv_param)
    if w.shape[2:] == (3, 3) and all(np.all(np.equal(step, 1)) for step in steps):
        if conv_param["groups"] == 1 and min(C, F) >= 32 and conv_param.get("algorithm") != "direct":
            return bfloat16.winograd_sums(x, w, conv_param)
    return bfloat16.conv_sums(x, w, conv_param)


@pytest.mark.parametrize("seed", range(60))
def test_convolutions(seed):
    rng = np.random.default_rng(seed)
    x, w, param = case_of(rng)
    b = numbers(rng, len(w)) if rng.integers(2) else None
    nodes, params = (
        [Node("conv", ("input",), "c", ("w", None if b is None else "b"), (param,))],
        {"w": w, "b": b},
    )
    low = -np.inf
    if rng.integers(2):
        nodes.append(Node("relu", ("c",), "r"))
        low = 0
    same_bits(predictor_of(nodes, params, x.shape[1:])(x), bfloat16.finish(sums_of(x, w, param), b, low=low))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("size", ["usual", "around the smallest normal number"])
def test_scores_stay_floats(size, seed):
    """Nothing rounds those of a fully connected layer; numbers below the normal ones count as 0."""
    rng = np.random.default_rng(seed)
    D, M = rng.integers(1, 71, 2)
    x, w = numbers(rng, 5, D), numbers(rng, D, M)
    if size != "usual":
        x, w = x * np.float32(2.0**-64), w * np.float32(2.0**-62)
        x[0] *= np.float32(2.0**-66)
    b = numbers(rng, M) * np.float32(size == "usual")
    predictor = predictor_of([Node("affine", ("input",), "a", ("w", "b"))], {"w": w, "b": b}, (int(D),))
    sums = bfloat16.conv_sums(x[:, :, None, None], w.T[:, :, None, None])
    assert (sums[0] == 0).all() == (size != "usual")
    same_bits(predictor(x), bfloat16.finish(sums, b, scores=True)[:, :, 0, 0])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("relu", [False, True])
def test_a_convolution_adds_before_it_rounds(seed, relu):
    rng = np.random.default_rng(seed)
    C, K = int(rng.integers(1, 71)), int(rng.choice([1, 3]))
    params = {"u": numbers(rng, C, C, 1, 1), "v": numbers(rng, C, C, 1, 1)}
    params |= {"w": numbers(rng, C, C, K, K), "b": numbers(rng, C)}
    conv_param = {"stride": 1, "pad": K // 2, "groups": 1}
    nodes = [
        Node("conv", ("input",), "a", ("u", None), ({},)),
        Node("conv", ("a",), "d", ("v", None), ({},)),
        Node("conv", ("d",), "c", ("w", "b"), (conv_param,)),
        Node("add", ("c", "a"), "s"),
        *([Node("relu", ("s",), "r")] if relu else []),
    ]
    x = numbers(rng, 2, C, *rng.integers(2, 12, 2))
    a = bfloat16.finish(bfloat16.conv_sums(x, params["u"]))
    d = bfloat16.finish(bfloat16.conv_sums(a, params["v"]))
    predictor = predictor_of(nodes, params, x.shape[1:])
    assert "conv + add" in str(predictor.profile(x[:1]))
    sums = sums_of(d, params["w"], conv_param)
    same_bits(predictor(x), bfloat16.finish(sums, params["b"], a, low=0 if relu else -np.inf))


MAX_POOL = {"pool_height": 3, "pool_width": 2, "stride": 2, "pad": (1, 0), "ceil_mode": True}
MEAN = {"pool_height": 2, "pool_width": 3, "stride": 1, "pad": (0, 1)}
LAYERS = {
    "max pool": (
        [Node("max_pool", ("a",), "y", (), (MAX_POOL,))],
        lambda a, d: bfloat16.max_pool(a, MAX_POOL),
    ),
    "max pool with steps": (
        [Node("max_pool", ("a",), "y", (), ({**MAX_POOL, "dilation": 2},))],
        lambda a, d: bfloat16.max_pool(a, {**MAX_POOL, "dilation": 2}),
    ),
    "avg pool": ([Node("avg_pool", ("a",), "y", (), (MEAN,))], lambda a, d: bfloat16.avg_pool(a, MEAN)),
    "avg pool without padding": (
        [Node("avg_pool", ("a",), "y", (), ({**MEAN, "count_include_pad": False},))],
        lambda a, d: bfloat16.avg_pool(a, {**MEAN, "count_include_pad": False}),
    ),
    "sum": (
        [
            Node("max_pool", ("a",), "p", (), ({"pool_height": 1, "pool_width": 1},)),
            Node("add", ("p", "d"), "y"),
        ],
        bfloat16.add,
    ),
    "sum, relu": (
        [
            Node("max_pool", ("a",), "p", (), ({"pool_height": 1, "pool_width": 1},)),
            Node("add", ("p", "d"), "s"),
            Node("relu", ("s",), "y"),
        ],
        lambda a, d: bfloat16.add(a, d, relu=True),
    ),
    "product": ([Node("multiply", ("a", "d"), "y")], bfloat16.multiply),
    "concatenation": ([Node("concat", ("a", "d", "a"), "y")], lambda a, d: np.concatenate([a, d, a], axis=1)),
}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("nodes", "definition"), LAYERS.values(), ids=LAYERS)
def test_layers_without_weights(nodes, definition, seed):
    """Behind two convolutions, which give values of any sign and zeros of both."""
    rng = np.random.default_rng(seed)
    C = int(rng.integers(1, 71))
    params = {"v": numbers(rng, C, C, 1, 1), "w": numbers(rng, C, C, 1, 1)}
    convs = [Node("conv", ("input",), name, (w, None), ({},)) for name, w in (("a", "v"), ("d", "w"))]
    used = [conv for conv in convs if any(conv.output in node.inputs for node in nodes)]
    x = numbers(rng, 2, C, *rng.integers(5, 12, 2))
    x[rng.random(x.shape) < 0.3] = 0
    a, d = (bfloat16.finish(bfloat16.conv_sums(x, params[name])) for name in ("v", "w"))
    same_bits(predictor_of([*used, *nodes], params, x.shape[1:])(x), definition(a, d))


def test_a_norm_is_a_depthwise_convolution(rng):
    """Its weights stay floats."""
    C = 21
    statistics = {"running_mean": rng.standard_normal(C), "running_var": rng.uniform(0.5, 2, C)}
    param = {
        "mode": "test",
        "eps": 1e-3,
        **{name: array.astype(np.float32) for name, array in statistics.items()},
    }
    params = {"v": numbers(rng, C, C, 1, 1), "g": numbers(rng, C), "h": numbers(rng, C)}
    nodes = [
        Node("conv", ("input",), "a", ("v", None), ({},)),
        Node("max_pool", ("a",), "p", (), ({"pool_height": 2, "pool_width": 2},)),
        Node("spatial_batchnorm", ("p",), "n", ("g", "h"), (param,)),
    ]
    x = numbers(rng, 2, C, 8, 6)
    pooled = bfloat16.max_pool(
        bfloat16.finish(bfloat16.conv_sums(x, params["v"])), {"pool_height": 2, "pool_width": 2}
    )
    mean, var = (param[name].astype(np.float64) for name in statistics)
    scale = params["g"] / np.sqrt(var + 1e-3)
    sums = bfloat16.depthwise_sums(pooled, scale.reshape(C, 1, 1, 1).astype(np.float32), {"groups": C})
    want = bfloat16.finish(sums, (params["h"] - mean * scale).astype(np.float32))
    same_bits(predictor_of(nodes, params, x.shape[1:])(x), want)


def test_conversion_rounds_like_the_definition(rng):
    """Ties, infinity, numbers below the normal ones and of every other size, by a product with 1."""
    bits = rng.integers(0, 2**32, (64, 2, 8, 8), np.uint32)
    x = bits.view(np.float32)
    x[0, 0] = rng.integers(0, 2**16, (8, 8)).astype(np.uint32).view(np.float32)  # tiny ones
    x[1, 0] = ((rng.integers(0, 2**15, (8, 8)).astype(np.uint32) << 16) + 0x8000).view(np.float32)  # ties
    x[2, 0, 0, :4] = np.inf, -np.inf, np.nan, 3.4e38
    one = np.ones((2, 1, 1, 1), np.float32)
    with np.errstate(all="ignore"):
        got = predictor_of(
            [Node("conv", ("input",), "c", ("w", None), ({"groups": 2},))], {"w": one}, x.shape[1:]
        )(x)
        want = bfloat16.rounded(x) + np.float32(0)
    np.testing.assert_array_equal(got, want)
    finite = ~np.isnan(want)
    same_bits(got[finite], want[finite])
