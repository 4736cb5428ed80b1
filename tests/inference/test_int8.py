"""Eight-bit networks: the bits of cnnlib.naive on every instruction set, thread number and batch."""

import contextlib
import hashlib
import pickle
import warnings
from dataclasses import replace
from pathlib import Path

import byte_reference
import cnnlib
import numpy as np
import pytest
from byte_reference import Op, graph_of, ops_of
from cnnlib import _core
from cnnlib.data import Normalization
from cnnlib.inference.predictor import Predictor
from cnnlib.inference.quantization.byte_ops import bytes_serve
from cnnlib.models import ConvNet, Graph, GraphNet, Node
from cnnlib.naive import quantized
from training import trained_norms

pytestmark = [pytest.mark.sets, pytest.mark.smoke]

FLOAT32 = np.dtype(np.float32)


def sets():
    """Instruction sets that run here, each without extensions for products of bytes and with those it has."""
    found = {}
    for isa in _core.available_isas():
        for extension in ("none", "vnni", "amx"):
            with on(isa, extension):
                found.setdefault(_core.active_products(), (isa, extension))
    return list(found.values())


@contextlib.contextmanager
def on(isa, extension):
    before, limit = _core.active_isa(), _core.int8_limit()
    _core.use_isa(isa)
    _core.limit_int8(extension)
    try:
        yield
    finally:
        _core.use_isa(before)
        _core.limit_int8(limit)


everywhere = pytest.mark.parametrize(("isa", "extension"), sets())


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
    predictor = Predictor(*graph_of(ops, output), x.shape[1:], FLOAT32)
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
    (100, 48, (1, 1), (5, 7), {}),
    (64, 40, (3, 3), (6, 19), {"pad": 1, "stride": (1, 2)}),
    (128, 96, (3, 3), 8, {"pad": 1, "groups": 2}),
    (48, 16, (5, 5), 5, {}),
]


@everywhere
@pytest.mark.parametrize("other", [False, True])
@pytest.mark.parametrize(("C", "F", "K", "size", "conv_param"), CONVS)
def test_convolutions(C, F, K, size, conv_param, other, isa, extension):
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
    with on(isa, extension):
        got = same_bits(ops, "out", x)
    assert len(np.unique(got)) > 20  # the numbers above clip few of them


@everywhere
def test_dilated_and_padded(isa, extension):
    rng = np.random.default_rng(3)
    x = rng.standard_normal((2, 5, 9, 8)).astype(np.float32)
    param = {"dilation": (2, 3), "pad": (2, 3), "stride": (1, 2)}
    arrays, options = conv_op(rng, 5, 6, (3, 3), param)
    ops = [quantize("input", "x"), Op("byte_conv", ["x"], "y", arrays, options), dequantize("y", "out")]
    with on(isa, extension):
        got = Predictor(*graph_of(ops, "out"), x.shape[1:], FLOAT32)(x)
    want = byte_reference.run(ops, "out", x, quantized.conv_sums)[0]
    np.testing.assert_array_equal(got, want)


def test_reference_sums_are_naive_s():
    rng = np.random.default_rng(0)
    for C, F, K, size, conv_param in CONVS[:13]:
        H, W = (size, size) if np.ndim(size) == 0 else size
        x = rng.integers(0, 256, (1, C, H, W), np.uint8)
        w = rng.integers(-127, 128, (F, C // conv_param.get("groups", 1), *K), np.int8)
        b = rng.integers(-99, 99, F).astype(np.int32)
        want = quantized.conv_sums(x, 9, w, b, conv_param)
        np.testing.assert_array_equal(byte_reference.conv_sums(x, 9, w, b, conv_param), want)


@everywhere
@pytest.mark.parametrize("C", [3, 16, 21, 70])
def test_glue(C, isa, extension):
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
    with on(isa, extension):
        same_bits(ops, "out", x)
        for name, needed in zip("tsmabc", ("t", "ts", "tsm", "tsma", "tsmb", "tsmabc"), strict=True):
            some = [op for op in ops if op.output in ("x", *needed)]
            same_bits([*some, dequantize(name, "out")], "out", x)


@everywhere
def test_quantize_rounds_ties_to_even_and_clips(isa, extension):
    edges = np.array(
        [0.5, 1.5, -0.5, -1.5, 2.5, 1e30, -1e30, np.inf, -np.inf, np.nan, 140, -113.5], np.float32
    )
    x = np.tile(edges, 6)[None, :, None, None] * np.float32(0.25)
    ops = [Op("quantize", ["input"], "q", {}, {"scale": 0.25, "zero": 113}), dequantize("q", "out", 1.0, 0)]
    with on(isa, extension):
        got = Predictor(*graph_of(ops, "out"), x.shape[1:], FLOAT32)(x)[0, :12, 0, 0]
    np.testing.assert_array_equal(got, [113, 115, 113, 111, 115, 255, 0, 255, 0, 0, 253, 0])
    np.testing.assert_array_equal(quantized.quantize(x, 0.25, 113)[0, :12, 0, 0], got)


@everywhere
def test_largest_sums_do_not_saturate(isa, extension):
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
    with on(isa, extension):
        got = Predictor(*graph_of(ops, "out"), x.shape[1:], FLOAT32)(x)[0, :, 0, 0]
    np.testing.assert_array_equal(got, [119] * 8 + [81] * 8)  # 255 * 127 * 576 * 1e-6 = 18.65


@pytest.fixture(scope="module", params=["resnet8", "mobile-small", "vgg-small"])
def net(request):
    return trained_norms(ConvNet(request.param, (3, 32, 32), 10, seed=0))


def images(N, seed=1, shape=(3, 32, 32)):
    return np.random.default_rng(seed).standard_normal((N, *shape)).astype(np.float32)


def test_flattened_images_and_sums_stay_bytes():
    rng = np.random.default_rng(0)
    graph = Graph()
    graph.conv("W1", "b1", pad=1)
    first = graph.relu()
    graph.conv("W2", pad=1)
    graph.append(Node("add", (graph.output, first), "sum"))
    graph.flatten()
    graph.affine("W3", "b3")
    shapes = {"W1": (4, 3, 3, 3), "b1": 4, "W2": (4, 4, 3, 3), "W3": (64, 5), "b3": 5}
    params = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    predictor = cnnlib.prepare(
        GraphNet(graph, params, (3, 4, 4)), precision="int8", calibration=images(20, shape=(3, 4, 4))
    )
    nodes = list(predictor.graph_and_params(eight_bits=True)[0])
    assert [node.layer for node in nodes] == ["quantize", "byte_conv", "byte_conv", "byte_affine"]
    assert len(nodes[2].inputs) == 2  # it adds the sum's other term


def test_a_convolution_of_one_pixel_has_more_at_another_size():
    net = ConvNet([{"conv": 4, "size": 3, "pad": 0}, "pixels"], (3, 3, 3), 2, seed=0)
    predictor = cnnlib.prepare(net, precision="int8", calibration=images(200, shape=(3, 3, 3)))
    for shape in ((3, 3, 3), (3, 5, 4)):
        x = images(4, seed=2, shape=shape)
        want = net.loss(x)
        assert np.abs(predictor(x) - want).max() < 0.3 * np.abs(want).max()


def test_each_channel_by_itself_gives_scores():
    graph = Graph()
    graph.adaptive_avg_pool(size=1)
    graph.conv("W", "b", groups=3)
    net = GraphNet(graph, {"W": np.full((3, 1, 1, 1), 2.0), "b": np.array([0.0, 1.0, -1.0])}, (3, 4, 4))
    x = images(50, shape=(3, 4, 4))
    predictor = cnnlib.prepare(net, precision="int8", calibration=x)
    assert [row.precision for row in predictor.quantization()] == ["int8"]
    want = net.loss(x)
    assert np.abs(predictor(x) - want).max() < 0.02 * np.abs(want).max()


def test_networks_have_the_reference_s_bits_everywhere(net):
    predictor = cnnlib.prepare(net, precision="int8", calibration=images(20))
    assert all(row.precision == "int8" for row in predictor.quantization())
    x = images(20, seed=2)
    want = byte_reference.run(ops_of(predictor._graph, predictor._params), predictor._graph.output, x[:5])[0]
    all_bits = predictor(x)
    for isa, extension in sets():
        with on(isa, extension):
            np.testing.assert_array_equal(predictor(x[:5]), want)
            for threads in (1, 2, 16):
                cnnlib.set_num_threads(threads)
                try:
                    for N in (1, 3, 20):
                        np.testing.assert_array_equal(predictor(x[:N]), all_bits[:N])
                finally:
                    cnnlib.set_num_threads(2)


@everywhere
def test_a_file_has_one_hash_of_scores_on_every_machine(isa, extension):
    """Those of the processor that wrote it, and by kernels of other versions."""
    predictor = cnnlib.inference.load(Path(__file__).parents[1] / "data" / "int8.cnnlib")
    x = (np.random.default_rng(0).integers(-200, 200, (100, 3, 16, 16)) / 64).astype(np.float32)
    with on(isa, extension):
        for threads in (1, 2, 16):
            cnnlib.set_num_threads(threads)
            try:
                for N in (1, 3, 100):
                    scores = np.concatenate([predictor(part) for part in np.split(x, range(N, 100, N))])
                    found = hashlib.sha256(scores.astype("<f4").tobytes()).hexdigest()
                    assert found == "6b0f9adc09473c2214a4296c35d12da6a9c9568ed0e927c90a9db46252ba74db"
            finally:
                cnnlib.set_num_threads(2)


def test_scores_are_near_those_of_float32(net):
    x = images(40, seed=2)
    want = cnnlib.prepare(net)(x)
    got = cnnlib.prepare(net, precision="int8", calibration=images(64))(x)
    assert np.corrcoef(want.ravel(), got.ravel())[0, 1] > 0.99


def test_files_keep_the_bits_and_take_a_quarter_of_the_room(net, tmp_path):
    predictor = cnnlib.prepare(net, precision="int8", calibration=images(16))
    predictor.save(tmp_path / "int8")
    cnnlib.prepare(net).save(tmp_path / "float32")
    small, large = ((tmp_path / name).stat().st_size for name in ("int8", "float32"))
    assert small < large / 3.5 + 20_000  # and the header
    loaded, x = cnnlib.inference.load(tmp_path / "int8"), images(3, seed=5)
    np.testing.assert_array_equal(loaded(x), predictor(x))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(predictor))(x), predictor(x))
    assert str(loaded._quantization) == str(predictor._quantization)
    assert loaded.precision == "int8"


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        ("quantize", "scale", -0.1),
        ("quantize", "scale", 0.0),
        ("quantize", "zero", 256),
        ("byte_conv", "scale", 0),
        ("byte_conv", "numbers", (0, 9, 3, 0)),
        ("byte_global_avg_pool", "ratio", float("inf")),
    ],
)
def test_files_of_numbers_out_of_range_are_refused(tmp_path, kind, name, value):
    net = trained_norms(ConvNet("resnet8", (3, 32, 32), 10, seed=0))
    predictor = cnnlib.prepare(net, precision="int8", calibration=images(4))
    nodes = predictor._graph.nodes
    place = next(i for i, node in enumerate(nodes) if node.layer == kind)
    nodes[place] = replace(nodes[place], args=({**nodes[place].args[0], name: value},))
    predictor.save(tmp_path / "net")
    with pytest.raises(ValueError, match=rf"net is damaged.* {kind} has {name} "):
        cnnlib.inference.load(tmp_path / "net")


def test_uint8_images_are_normalised_first():
    net = ConvNet("resnet8", (3, 32, 32), 10, seed=0)
    net.preprocess = Normalization((120.0, 110, 100), (60.0, 61, 62))
    raw = np.random.default_rng(0).integers(0, 256, (20, 3, 32, 32), np.uint8)
    predictor = cnnlib.prepare(net, precision="int8", calibration=raw)
    np.testing.assert_array_equal(predictor(raw), predictor(net.preprocess(raw)))


def test_layers_stay_in_float32_by_name():
    net = trained_norms(ConvNet("resnet8", (3, 32, 32), 10, seed=0))
    first = cnnlib.prepare(net, precision="int8", calibration=images(8)).quantization()[0].layer
    predictor = cnnlib.prepare(net, precision="int8", calibration=images(8), float32=[first, "affine 10"])
    rows = {row.layer: row.precision for row in predictor.quantization() if row.layer.startswith("affine")}
    assert rows == {"affine 10": "float32"}
    assert predictor.quantization()[0].precision == "float32"
    x = images(9, seed=3)
    assert np.corrcoef(cnnlib.prepare(net)(x).ravel(), predictor(x).ravel())[0, 1] > 0.99


def test_a_classifier_in_float32_behind_a_global_pool_leaves_the_size_open():
    net = ConvNet([{"conv": 4}, "relu", "global_avg_pool"], (3, 8, 8), 5, seed=0)
    cal = images(40, shape=(3, 8, 8))
    predictor = cnnlib.prepare(net, precision="int8", calibration=cal, float32="affine 5")
    x = images(4, seed=2, shape=(3, 9, 12))
    want = net.loss(x)
    assert np.abs(predictor(x) - want).max() < 0.1 * np.abs(want).max()


def test_layers_that_lose_too_much_stay_in_float32():
    """A filter beside which all others vanish in the steps of the output."""
    net = ConvNet([{"conv": 8}, "relu", {"conv": 8}, "global_avg_pool", {"affine": 4}], (3, 8, 8), 4, seed=0)
    name = next(name for name, value in net.params.items() if value.ndim == 4)
    x = images(30, shape=(3, 8, 8))
    x[0, 0, 0, 0] = 1e4  # minmax covers it with steps in which the others are nothing
    predictor = cnnlib.prepare(net, precision="int8", calibration=x, ranges="minmax")
    assert name in net.params
    rows = predictor.quantization()
    assert rows[0].precision == "float32"
    assert rows[0].snr < 12 or not np.isfinite(rows[0].snr)


@pytest.mark.parametrize("function", ["gelu", "silu", "elu", "sigmoid"])
def test_layers_stay_in_float32_if_a_function_loses_what_their_bytes_leave(function):
    """Values around 0 are all that counts behind it, and one step beside -10,000."""
    net = ConvNet([{"conv": 8}, function, "global_avg_pool"], (3, 8, 8), 4, seed=0)
    net.params["b1"] = np.float32([-1e4] + 7 * [0])
    net.params["W2"] *= 100
    x = images(30, shape=(3, 8, 8))
    predictor = cnnlib.prepare(net, precision="int8", calibration=x, ranges="minmax")
    want = net.loss(x)
    assert np.abs(predictor(x) - want).max() < 0.1 * np.abs(want).max()
    assert {row.layer: row.precision for row in predictor.quantization()} == {
        "conv 8 3x3": "float32",
        "affine 4": "int8",
    }


BAD = [
    (np.zeros((0, 3, 32, 32)), "has no images"),
    ([], "has no images"),
    (np.zeros((4, 3, 32, 32)), "one value alone, 0"),
    (np.full((4, 3, 32, 32), np.nan), "NaN or infinite"),
    (np.ones((4, 5, 32, 32)), "must have shape"),
    (np.ones((3, 32, 32)), "must have shape"),
    (np.float32(3), "array of images"),
]


@pytest.mark.parametrize(("calibration", "why"), BAD)
def test_bad_calibration(calibration, why):
    net = ConvNet("resnet8", (3, 32, 32), 10, seed=0)
    with pytest.raises(ValueError, match=why):
        cnnlib.prepare(net, precision="int8", calibration=calibration)


def test_bad_arguments():
    net = ConvNet("resnet8", (3, 32, 32), 10, seed=0)
    for arguments, why in (
        ({"precision": "int8"}, "needs calibration"),
        ({"precision": "int4"}, "precision must be one of"),
        ({"calibration": images(2)}, "for precision='int8'"),
        ({"precision": "int8", "calibration": images(2), "float32": ["conv 99"]}, "names no layer 'conv 99'"),
        ({"precision": "int8", "calibration": images(2), "ranges": "median"}, "ranges must be one of"),
        ({"precision": "float32", "dtype": np.float64}, "contradicts"),
        ({"precision": "int8", "calibration": images(2), "dtype": np.float64}, "contradicts dtype float64"),
        ({"ranges": "minmax"}, "for precision='int8'"),
    ):
        with pytest.raises(ValueError, match=why):
            cnnlib.prepare(net, **arguments)
    with pytest.raises(TypeError, match="calibration must be images"):
        cnnlib.prepare(net, precision="int8", calibration=3)
    with pytest.raises(ValueError, match="computes in float32"):
        cnnlib.prepare(net).quantization()


def test_calibration_of_one_value_is_told_whatever_the_input_is_called():
    net = GraphNet(Graph([Node("relu", ("x",), "y")], "x", "y"), {}, (3, 8, 8))
    with pytest.raises(ValueError, match="one value alone, 2: "):
        cnnlib.prepare(net, precision="int8", calibration=np.full((4, 3, 8, 8), 2.0))


@pytest.mark.parametrize(("layer", "args"), [("flatten", ()), ("dropout", ({"p": 0.5, "mode": "test"},))])
def test_networks_of_views_alone_are_read_again(layer, args, tmp_path):
    net = GraphNet(Graph([Node(layer, ("input",), "a", (), args)], output="a"), {}, (3, 8, 8))
    x = images(4, shape=(3, 8, 8))
    predictor = cnnlib.prepare(net, precision="int8", calibration=x)
    predictor.save(tmp_path / "net")
    np.testing.assert_array_equal(cnnlib.load(tmp_path / "net")(x), predictor(x))


def test_batches_and_folders_calibrate_too(tmp_path):
    net = ConvNet("resnet8", (3, 32, 32), 10, seed=0)
    x = images(32)
    whole = cnnlib.prepare(net, precision="int8", calibration=x)
    parts = cnnlib.prepare(net, precision="int8", calibration=iter((x[:16], x[16:])))
    np.testing.assert_array_equal(whole(x), parts(x))
    image = pytest.importorskip("PIL.Image")
    net.preprocess = Normalization((120.0, 110, 100), (60.0, 61, 62))
    for k in range(6):
        (tmp_path / "photos" / "abc"[k % 3]).mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(k).integers(0, 256, (40, 36, 3), np.uint8)
        image.fromarray(pixels).save(tmp_path / "photos" / "abc"[k % 3] / f"{k}.png")
    folder = cnnlib.prepare(net, precision="int8", calibration=tmp_path / "photos")
    assert folder(np.zeros((2, 3, 32, 32), np.uint8)).shape == (2, 10)


def test_a_layer_of_one_value_is_told():
    net = ConvNet([{"conv": 4}, "relu", "global_avg_pool", {"affine": 3}], (3, 8, 8), 3, seed=0)
    for name, value in net.params.items():
        if value.ndim == 4:
            net.params[name] = np.zeros_like(value)
    with pytest.warns(UserWarning, match=r"conv 4 3x3 \+ relu had the one value 0"):
        cnnlib.prepare(net, precision="int8", calibration=images(4, shape=(3, 8, 8)))


def test_a_layer_whose_range_one_image_makes_is_told():
    net = ConvNet([{"conv": 4}, "relu", "global_avg_pool", {"affine": 3}], (3, 8, 8), 3, seed=0)
    x = images(20, shape=(3, 8, 8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cnnlib.prepare(net, precision="int8", calibration=x)
    x[3] *= 40
    with pytest.warns(
        UserWarning, match=r"affine 3 reaches 1[\d.]* in one image alone, in all others 0\.\d+ to"
    ):
        cnnlib.prepare(net, precision="int8", calibration=x)


def test_the_table_has_shares_of_the_time(net):
    predictor = cnnlib.prepare(net, precision="int8", calibration=images(16))
    table = predictor.quantization()
    shares = [row.share for row in table if row.share is not None]
    assert len(shares) > len(table) / 2
    assert all(share > 0 for share in shares)
    assert sum(shares) <= 1.0001
    assert sum(shares) > 0.5
    assert str(table).splitlines()[0].endswith("time")
    assert f"{100 * table[0].share:.1f} %" in str(table)


def test_no_images_take_no_time(net):
    predictor = cnnlib.prepare(net, precision="int8", calibration=images(16))
    steps = predictor.profile(images(0))
    assert len(steps) == len(predictor.profile(images(1), 1))
    assert all(seconds == operations == 0 for _, seconds, operations in steps)


@pytest.mark.parametrize(("size", "fits"), [(2901, True), (2902, False)])
def test_means_of_more_bytes_than_a_sum_holds(size, fits):
    """Of 255 each: 2902**2 of them are more than 2**31."""
    image, out = (1, size, size, 0, 0, 0, 0), (1, 1, 1, 0, 0, 0, 0)
    room = [64 * -(-(4 * H * W + 64) // 64) for H, W in ((size, size), (1, 1))]
    program = _core.Program(np.dtype("f4"), [(2, room[0], 0), (2, room[1], room[0])], 4, 4, sum(room))
    windows = (size, size, size, size, 0, 0, 0, 0, 1, 1), False, True
    refused = pytest.raises(ValueError, match="a mean of more bytes than 32 bits can sum")
    with contextlib.nullcontext() if fits else refused:
        program.byte_avg_pool("mean", 0, 1, image, out, 0, 1.0, 0, *windows)
    pool = Node("avg_pool", ("x",), "y", (), ({"pool_height": size, "pool_width": size},))
    for node in (pool, Node("global_avg_pool", ("x",), "y")):
        assert bytes_serve(node, {"x": (1, size, size)}) == fits


def test_the_core_refuses_windows_beyond_the_border():
    image, out = (4, 6, 6, 0, 0, 0, 0), (8, 6, 6, 0, 0, 0, 0)
    program = _core.Program(np.dtype("f4"), [(0, 576, 0), (2, 256, 0), (1, 384, 0)], 576, 384, 256)
    program.quantize("q", 0, 1, image, 1.0, 0)
    w, numbers = np.zeros((8, 4, 3, 3), np.int8), np.zeros(8, np.int32)
    with pytest.raises(ValueError, match="beyond the border"):
        program.byte_conv(
            "c",
            1,
            -1,
            2,
            image,
            image,
            out,
            w,
            numbers,
            numbers.astype(np.float32),
            None,
            (0, 0, 255, 0),
            {"pad": 1},
        )


def test_digits_lose_little():
    data = cnnlib.data.load_digits()
    net = ConvNet(
        [{"conv": 16}, "batchnorm", "relu", {"conv": 32}, "relu", {"max_pool": 2}, {"affine": 10}],
        (1, 8, 8),
        10,
        seed=0,
    )
    cnnlib.solver.Solver(
        net,
        data,
        update_rule="adam",
        optim_config={"learning_rate": 2e-3},
        num_epochs=4,
        verbose=False,
        seed=0,
    ).train()
    X, y = data["X_test"], data["y_test"]
    want = np.mean(cnnlib.prepare(net).predict(X) == y)
    for ranges in ("mse", "percentile", "minmax"):
        int8 = cnnlib.prepare(net, precision="int8", calibration=data["X_train"][:300], ranges=ranges)
        assert np.mean(int8.predict(X) == y) > want - 0.006, ranges
