"""Eight-bit networks: the bits of cnnlib.naive on every instruction set, thread number and batch."""

import contextlib

import byte_reference
import cnnlib
import numpy as np
import pytest
from cnnlib import _core, naive
from cnnlib.inference.ops import Op
from cnnlib.inference.predictor import Predictor
from cnnlib.models import ConvNet

FLOAT32 = np.dtype(np.float32)


def sets():
    """Instruction sets that run here, each without VNNI, and with it where there is one."""
    found = []
    for isa in _core.available_isas():
        for vnni in (False, True):
            with on(isa, vnni):
                found.append((isa, vnni, _core.active_products()))
    return [(isa, vnni) for isa, vnni, name in found if vnni == name.endswith("vnni")]


@contextlib.contextmanager
def on(isa, vnni):
    before = _core.active_isa()
    _core.use_isa(isa)
    _core.use_vnni(vnni)
    try:
        yield
    finally:
        _core.use_isa(before)
        _core.use_vnni(True)


everywhere = pytest.mark.parametrize(("isa", "vnni"), sets())


def conv_op(rng, C, F, K, conv_param, other=False, low=0, scale=0.02):
    groups = conv_param.get("groups", 1)
    w = rng.integers(-127, 128, (F, C // groups, *K), np.int8)
    arrays = {
        "w": w,
        "b": rng.integers(-2000, 2000, F).astype(np.int32),
        "multiplier": rng.uniform(0.5, 2, F).astype(np.float32) * np.float32(scale / np.sqrt(w[0].size)),
    }
    options = {"conv_param": conv_param, "numbers": (77, low, 240, 0), "x_zero": 113, "scores": False}
    if other:
        arrays["factor"] = rng.integers(1, 3000, F).astype(np.int32)
        options["other_zero"], options["numbers"] = 31, (77, low, 240, 2)
        arrays["multiplier"] /= 4
    return arrays, options


def same_bits(ops, output, x):
    predictor = Predictor(ops, output, x.shape[1:], FLOAT32)
    want = byte_reference.run(ops, output, x)[0]
    got = predictor(x)
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    np.testing.assert_array_equal(got, want)
    return got


def quantize(source, target):
    return Op("quantize", [source], target, {}, {"scale": 0.031, "zero": 113})


def dequantize(source, target, scale=0.05, zero=77):
    return Op("dequantize", [source], target, {}, {"scale": scale, "zero": zero})


CONVS = [
    (3, 16, (7, 7), 11, {"stride": 2, "pad": 3}),
    (4, 5, (3, 3), 7, {"pad": 1}),
    (16, 33, (3, 3), 9, {"pad": 1}),
    (18, 64, (3, 3), 13, {"pad": "same", "stride": 2}),
    (64, 130, (1, 1), 6, {}),
    (7, 9, (1, 1), 12, {"stride": 2}),
    (12, 20, (5, 3), (10, 9), {"pad": ((2, 1), (0, 2)), "stride": (1, 2)}),
    (32, 24, (3, 3), 8, {"pad": 1, "groups": 4}),
    (8, 12, (3, 3), 8, {"pad": 1, "groups": 2}),
    (24, 24, (3, 3), 9, {"pad": 1, "groups": 24}),
    (37, 37, (3, 3), 10, {"pad": 1, "stride": 2, "groups": 37}),
    (6, 6, (5, 5), 7, {"pad": 2, "groups": 6}),
    (20, 20, (3, 3), 6, {"pad": ((0, 1), (1, 0)), "groups": 20}),
    (17, 17, (3, 3), (7, 1), {"pad": 1, "groups": 17}),
    (300, 40, (3, 3), 5, {"pad": 1}),
]


@everywhere
@pytest.mark.parametrize("other", [False, True])
@pytest.mark.parametrize(("C", "F", "K", "size", "conv_param"), CONVS)
def test_convolutions(C, F, K, size, conv_param, other, isa, vnni):
    rng = np.random.default_rng(C * F)
    H, W = (size, size) if np.ndim(size) == 0 else size
    x = rng.standard_normal((3, C, H, W)).astype(np.float32)
    arrays, options = conv_op(rng, C, F, K, conv_param, other, low=77 if F % 2 else 0)
    ops = [quantize("input", "x")]
    if other:  # the other term is the convolution itself
        more = conv_op(np.random.default_rng(1), C, F, K, conv_param)
        ops.append(Op("byte_conv", ["x"], "z", *more))
    ops.append(Op("byte_conv", ["x", "z"] if other else ["x"], "y", arrays, options))
    ops.append(dequantize("y", "out"))
    with on(isa, vnni):
        got = same_bits(ops, "out", x)
    assert len(np.unique(got)) > 20  # the numbers above clip few of them


@everywhere
def test_dilated_and_padded(isa, vnni):
    rng = np.random.default_rng(3)
    x = rng.standard_normal((2, 5, 9, 8)).astype(np.float32)
    param = {"dilation": (2, 3), "pad": (2, 3), "stride": (1, 2)}
    arrays, options = conv_op(rng, 5, 6, (3, 3), param)
    ops = [quantize("input", "x"), Op("byte_conv", ["x"], "y", arrays, options), dequantize("y", "out")]
    with on(isa, vnni):
        got = Predictor(ops, "out", x.shape[1:], FLOAT32)(x)
    want = byte_reference.run(ops, "out", x, naive.quantized_conv_sums_naive)[0]
    np.testing.assert_array_equal(got, want)


def test_reference_sums_are_naive_s():
    rng = np.random.default_rng(0)
    for C, F, K, size, conv_param in CONVS[:13]:
        H, W = (size, size) if np.ndim(size) == 0 else size
        x = rng.integers(0, 256, (1, C, H, W), np.uint8)
        w = rng.integers(-127, 128, (F, C // conv_param.get("groups", 1), *K), np.int8)
        b = rng.integers(-99, 99, F).astype(np.int32)
        want = naive.quantized_conv_sums_naive(x, 9, w, b, conv_param)
        np.testing.assert_array_equal(byte_reference.conv_sums(x, 9, w, b, conv_param), want)


@everywhere
@pytest.mark.parametrize("C", [3, 16, 21, 70])
def test_glue(C, isa, vnni):
    rng = np.random.default_rng(C)
    x = rng.standard_normal((3, C, 9, 7)).astype(np.float32) * 2
    pool = {"pool_height": 3, "pool_width": 2, "stride": 2, "pad": (1, 0)}
    means = {"x_zero": 113, "ratio": 1.7, "zero": 90}
    ops = [
        quantize("input", "x"),
        Op("byte_table", ["x"], "t", {"table": rng.permutation(256).astype(np.uint8)}, {"zero": 77}),
        Op(
            "byte_add",
            ["x", "t"],
            "s",
            {},
            {
                "factors": (9000, 16384, -9000 * 113 - 16384 * 20),
                "multiplier": 4e-5,
                "numbers": (77, 77, 255),
            },
        ),
        Op("byte_max_pool", ["s"], "m", {}, {"pool_param": {**pool, "ceil_mode": True}, "zero": 77}),
        Op("byte_avg_pool", ["m"], "a", {}, {"pool_param": {**pool, "count_include_pad": False}, **means}),
        Op("byte_avg_pool", ["m"], "b", {}, {"pool_param": pool, **means}),
        Op("byte_concat", ["a", "b", "a"], "c", {}, {"zero": 90}),
        Op("byte_global_avg_pool", ["c"], "g", {}, means),
        dequantize("g", "out"),
    ]
    with on(isa, vnni):
        same_bits(ops, "out", x)
        for name, needed in zip("tsmabc", ("t", "ts", "tsm", "tsma", "tsmb", "tsmabc"), strict=True):
            some = [op for op in ops if op.output in ("x", *needed)]
            same_bits([*some, dequantize(name, "out")], "out", x)


@everywhere
def test_quantize_rounds_ties_to_even_and_clips(isa, vnni):
    edges = np.array(
        [0.5, 1.5, -0.5, -1.5, 2.5, 1e30, -1e30, np.inf, -np.inf, np.nan, 140, -113.5], np.float32
    )
    x = np.tile(edges, 6)[None, :, None, None] * np.float32(0.25)
    ops = [Op("quantize", ["input"], "q", {}, {"scale": 0.25, "zero": 113}), dequantize("q", "out", 1.0, 0)]
    with on(isa, vnni):
        got = Predictor(ops, "out", x.shape[1:], FLOAT32)(x)[0, :12, 0, 0]
    np.testing.assert_array_equal(got, [113, 115, 113, 111, 115, 255, 0, 255, 0, 0, 253, 0])
    np.testing.assert_array_equal(naive.quantize_naive(x, 0.25, 113)[0, :12, 0, 0], got)


@everywhere
def test_largest_sums_do_not_saturate(isa, vnni):
    """Pairs of products of bytes beyond 16 bits, which vpmaddubsw would cut off."""
    x = np.full((1, 64, 3, 3), 8.0, np.float32)
    w = np.full((16, 64, 3, 3), 127, np.int8)
    w[8:] = -127
    arrays = {"w": w, "b": np.zeros(16, np.int32), "multiplier": np.full(16, 1e-6, np.float32)}
    options = {"conv_param": {}, "numbers": (100, 0, 255, 0), "x_zero": 0, "scores": False}
    ops = [
        Op("quantize", ["input"], "x", {}, {"scale": 0.03, "zero": 0}),
        Op("byte_conv", ["x"], "y", arrays, options),
        dequantize("y", "out", 1.0, 0),
    ]
    with on(isa, vnni):
        got = Predictor(ops, "out", x.shape[1:], FLOAT32)(x)[0, :, 0, 0]
    np.testing.assert_array_equal(got, [119] * 8 + [81] * 8)  # 255 * 127 * 576 * 1e-6 = 18.65


@pytest.fixture(scope="module", params=["resnet8", "mobile-small", "vgg-small"])
def net(request):
    return trained_norms(ConvNet(request.param, (3, 32, 32), 10, seed=0))


def trained_norms(net):
    """The net with statistics of its batch norms."""
    rng = np.random.default_rng(0)
    for bn_param in net.bn_params:
        bn_param["momentum"] = 0.5
    for _ in range(3):
        net.loss(rng.standard_normal((4, *net.input_dim)).astype(np.float32), np.zeros(4, int))
    return net


def images(N, seed=1, shape=(3, 32, 32)):
    return np.random.default_rng(seed).standard_normal((N, *shape)).astype(np.float32)


def test_networks_have_the_reference_s_bits_everywhere(net):
    predictor = cnnlib.prepare(net, precision="int8", calibration=images(20))
    assert all(row.precision == "int8" for row in predictor.quantization())
    x = images(100, seed=2)
    want = byte_reference.run(predictor._ops, predictor._output, x[:5])[0]
    all_bits = predictor(x)
    for isa, vnni in sets():
        with on(isa, vnni):
            np.testing.assert_array_equal(predictor(x[:5]), want)
            for threads in (1, 2, 16):
                cnnlib.set_num_threads(threads)
                try:
                    for N in (1, 3, 100):
                        np.testing.assert_array_equal(predictor(x[:N]), all_bits[:N])
                finally:
                    cnnlib.set_num_threads(2)


def test_scores_are_near_those_of_float32(net):
    x = images(40, seed=2)
    want = cnnlib.prepare(net)(x)
    got = cnnlib.prepare(net, precision="int8", calibration=images(64))(x)
    assert np.corrcoef(want.ravel(), got.ravel())[0, 1] > 0.99
