"""Eight-bit networks in ONNX files: what is read and written, and what ONNX Runtime makes of them."""

import re
import warnings

import cnnlib
import numpy as np
import pytest

pytest.importorskip("hypothesis", reason="hypothesis is not installed")
pytest.importorskip("onnx", reason="onnx is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

import cnnlib.onnx
import onnx
import onnx.printer
from cnnlib.data import Normalization
from cnnlib.graph.graph import Graph, Node
from cnnlib.graph.ops import layers_where
from cnnlib.inference import Predictor
from cnnlib.models import ConvNet, GraphNet
from cnnlib.onnx.saving import _model_proto
from hypothesis import event, given
from onnx.reference import ReferenceEvaluator
from onnx_nets import VNNI, model, run_elsewhere
from quantized_onnx import networks
from random_networks import graph_nets, outcome
from strategies import examples
from training import trained_norms

BYTE_KINDS = frozenset(layers_where(lambda op: op.eight_bits))

prop = examples(50)


def images(shape, N=2, seed=0):
    return np.random.default_rng(seed).standard_normal((N, *shape)).astype(np.float32)


def check_alike(predictor, proto, x, step, layers=1):
    """As ONNX Runtime has it, within a step; behind many layers a few may be further off."""
    got, wanted = predictor(x), run_elsewhere(proto, x)
    assert got.shape == wanted.shape
    steps = np.abs(got - wanted) / step
    further = np.mean(steps > 1.001)
    assert steps.max() < (1.001 if layers == 1 else 4), onnx.printer.to_text(proto)
    assert further < 0.03, onnx.printer.to_text(proto)


@prop
@given(networks())
def test_random_files_are_read_and_written(network):
    """At two sizes; all layers with an eight-bit form have it, and what is saved gives the same bits."""
    proto, x, step, kinds = network
    predictor = cnnlib.onnx.load(proto, input_dim=x.shape[1:])
    assert isinstance(predictor, Predictor)
    layers = {node.layer for node in predictor._graph}
    assert layers <= {*BYTE_KINDS, "conv", "add", "relu6"}  # the bound 6 of a sum is computed in floats
    written = _model_proto("save", predictor, "N")
    again = cnnlib.onnx.load(written)
    wide = images((x.shape[1], x.shape[2] + 3, x.shape[3] + 1))
    for X in (x, wide):
        check_alike(predictor, proto, X, step, len(kinds))
        if layers <= BYTE_KINDS:
            np.testing.assert_array_equal(again(X), predictor(X))
        if X is x:  # in the written file the sizes are fixed
            check_alike(predictor, written, X, step, len(kinds))


@examples(40)
@given(graph_nets(np.float32))
def test_random_networks_are_written(net):
    """What calibration makes of them: the same bits when it is read again, and nearly so elsewhere."""
    calibration, x = images(net.input_dim, 12), images(net.input_dim, 3, seed=5)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # few images say little
        predictor = outcome(lambda x: cnnlib.prepare(net, precision="int8", calibration=x), calibration)
    if isinstance(predictor, str):
        event("not prepared")
        return
    written = outcome(lambda p: _model_proto("cnnlib.onnx.save", p, "N"), predictor)
    if isinstance(written, str):
        event("not written")
        assert re.match(r"cnnlib\.onnx\.save: node '", written)
        return
    layers, got = {node.layer for node in predictor._graph}, predictor(x)
    wanted = run_elsewhere(written, x)
    assert np.abs(got - wanted).mean() <= 0.05 * np.abs(got).max()
    again = outcome(cnnlib.onnx.load, written)
    if isinstance(again, str):
        event("not read again")
        assert layers & {"adaptive_avg_pool", "adaptive_max_pool"}, again
    elif layers <= BYTE_KINDS:
        event("read again")
        np.testing.assert_array_equal(again(x), got)


NETS = ("resnet8", "mobile-small", "vgg-small")


@pytest.fixture(scope="module", params=NETS)
def net(request):
    return trained_norms(ConvNet(request.param, (3, 32, 32), 10, seed=0))


def test_eight_bit_networks_come_back_with_their_bits(net, tmp_path):
    net.preprocess = Normalization((120.0, 110, 100), (60.0, 61, 62))
    predictor = cnnlib.prepare(net, precision="int8", calibration=images((3, 32, 32), 20))
    net.preprocess = None
    predictor.classes = tuple("abcdefghij")
    cnnlib.onnx.save(predictor, tmp_path / "net.onnx")
    proto = onnx.load(tmp_path / "net.onnx")
    onnx.checker.check_model(proto, full_check=True)
    read, x = cnnlib.load(tmp_path / "net.onnx"), images((3, 32, 32), 20, seed=1)
    np.testing.assert_array_equal(read(x), predictor(x))
    for array, own in zip(read._params.values(), predictor._params.values(), strict=True):
        np.testing.assert_array_equal(array, own)  # multipliers to the last bit
    assert (read.preprocess, read.classes) == (predictor.preprocess, predictor.classes)
    assert {row.precision for row in read.quantization()} == {"int8"}
    assert read.quantization()[0].covered == predictor.quantization()[0].covered
    scores = run_elsewhere(proto, x)
    # ONNX Runtime in floats and onnx's own evaluator differ by 0.013 themselves.
    assert np.abs(scores - predictor(x)).max() < (0.01 if VNNI else 0.02) * np.abs(scores).max()
    read.save(tmp_path / "net")
    np.testing.assert_array_equal(cnnlib.load(tmp_path / "net")(x), predictor(x))
    assert str(cnnlib.load(tmp_path / "net")._quantization) == str(read._quantization)


def test_biases_of_more_bits_than_a_float32_come_back():
    """Those of filters of next to nothing, whose units are as small as sums of 32 bits allow."""
    net = ConvNet([{"conv": 64}, "relu", "global_avg_pool"], (3, 8, 8), 10, seed=0)
    net.params["W1"] *= 1e-12
    net.params["b1"] = np.random.default_rng(0).standard_normal(64).astype(np.float32)
    predictor = cnnlib.prepare(net, precision="int8", calibration=images((3, 8, 8), 20))
    read = cnnlib.onnx.load(_model_proto("cnnlib.onnx.save", predictor, "N"))
    for array, own in zip(read._params.values(), predictor._params.values(), strict=True):
        np.testing.assert_array_equal(array, own)


def test_a_bound_within_the_range_comes_back():
    """That of a ReLU6 which shares its scale with larger values."""
    rng = np.random.default_rng(0)
    params = {name: rng.standard_normal((8, 3, 1, 1)) * size for name, size in (("w", 4), ("v", 20))}
    params["u"] = rng.standard_normal((16, 5))
    nodes = [
        Node("conv", ("input",), "a", ("w", None), ({},)),
        Node("relu6", ("a",), "b"),
        Node("conv", ("input",), "c", ("v", None), ({},)),
        Node("concat", ("b", "c"), "d"),
        Node("global_avg_pool", ("d",), "e"),
        Node("affine", ("e",), "f", ("u", None)),
    ]
    net = GraphNet(Graph(nodes, output="f"), params, (3, 6, 6), dtype=np.float32)
    x = images((3, 6, 6), 30)
    predictor = cnnlib.prepare(net, precision="int8", calibration=x)
    numbers = [node.args[0]["numbers"] for node in predictor._graph if node.layer == "byte_conv"]
    assert any(zero == low and high < 255 for zero, low, high, _ in numbers)
    written = _model_proto("save", predictor, "N")
    np.testing.assert_array_equal(cnnlib.onnx.load(written)(x), predictor(x))
    assert any(node.op_type == "Clip" for node in written.graph.node)


def quantized_elsewhere(path, target, **options):
    """A file of ONNX Runtime's quantize_static."""
    quantization = pytest.importorskip("onnxruntime.quantization")

    class Reader(quantization.CalibrationDataReader):
        batches = iter(np.array_split(images((3, 32, 32), 16), 16))

        def get_next(self):
            batch = next(self.batches, None)
            return None if batch is None else {"input": batch}

    kinds = {
        name: getattr(quantization.QuantType, options.pop(name))
        for name in ("activation_type", "weight_type")
    }
    quantization.quantize_static(
        path, target, Reader(), quant_format=quantization.QuantFormat.QDQ, **kinds, **options
    )
    return onnx.load(target)


OPTIONS = {
    "by filter": {"per_channel": True},
    "whole tensors": {},
    "signed": {"activation_type": "QInt8"},
    "signed, symmetric": {"activation_type": "QInt8", "extra_options": {"ActivationSymmetric": True}},
    "seven bits": {"reduce_range": True, "per_channel": True},
    "unsigned weights": {"weight_type": "QUInt8", "extra_options": {"WeightSymmetric": True}},
    "float weights": {"extra_options": {"AddQDQPairToWeight": True}},
    "float biases": {"extra_options": {"QuantizeBias": False}, "per_channel": True},
    "pairs for each reader": {"extra_options": {"DedicatedQDQPair": True}},
}


@pytest.mark.parametrize(
    ("net", "options"),
    [pytest.param(NETS[k % 3], options, id=name) for k, (name, options) in enumerate(OPTIONS.items())],
    indirect=["net"],
)
def test_files_of_onnx_runtime_s_tools(net, tmp_path, options):
    if options is OPTIONS["float biases"] and not VNNI:
        pytest.skip("what ONNX Runtime computes in floats has no rounded biases")
    cnnlib.onnx.save(cnnlib.prepare(net), tmp_path / "net.onnx")
    given = {"activation_type": "QUInt8", "weight_type": "QInt8", **options}
    proto = quantized_elsewhere(tmp_path / "net.onnx", tmp_path / "int8.onnx", **given)
    predictor, x = cnnlib.onnx.load(tmp_path / "int8.onnx"), images((3, 32, 32), 20, seed=1)
    assert [node.layer for node in predictor._graph if node.layer not in BYTE_KINDS] == []
    assert {row.precision for row in predictor.quantization()} == {"int8"}
    step = predictor._graph.nodes[-1].args[0]["scale"]
    wanted, got = run_elsewhere(proto, x), predictor(x)
    assert np.abs(got - wanted).max() < 2.001 * step
    assert np.mean(np.abs(got - wanted) > 1.001 * step) < 0.02
    assert np.corrcoef(got.ravel(), net.loss(x).ravel())[0, 1] > 0.95


HEAD = "q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z)"
WEIGHTS = "w = DequantizeLinear <axis=0> (wq, ws, wz)"
ARRAYS = {
    "s": np.float32(0.02),
    "z": np.uint8(100),
    "wq": np.ones((3, 3, 1, 1), np.int8),
    "ws": np.full(3, 0.1, np.float32),
    "wz": np.zeros(3, np.int8),
    "negative": np.float32(-0.02),
    "nothing": np.float32(0),
    "infinite": np.float32(np.inf),
    "words": np.uint16(9),
    "three": np.full(3, 0.1, np.float32),
    "wq1": np.ones((3, 3, 1, 1), np.uint8),
    "wz1": np.full(3, 3, np.uint8),
    "wq4": np.ones((3, 3, 1, 1), np.int16),
    "wz4": np.zeros(3, np.int16),
    "blocks": np.ones((3, 1, 1, 1), np.float32),
    "iz": np.int8(3),
    "b": np.zeros(3, np.float32),
}
REFUSED = {
    f"{HEAD} {WEIGHTS.replace('axis=0', 'axis=1')} y = Conv (d, w)": (
        "Conv",
        "'w' .* have axis 1; .* filters, 0",
    ),
    f"{HEAD} w = DequantizeLinear <axis=0> (wq1, ws, wz1) y = Conv (d, w)": (
        "Conv",
        "have a zero_point; .*symm",
    ),
    f"{HEAD} w = DequantizeLinear <axis=0> (wq4, ws, wz4) y = Conv (d, w)": (
        "DequantizeLinear",
        "type int16",
    ),
    f"{HEAD} w = DequantizeLinear <axis=0, block_size=1> (wq, blocks) y = Conv (d, w)": (
        "Dequ",
        "block_size is 1",
    ),
    "q = QuantizeLinear (x, s, words) y = DequantizeLinear (q, s, words)": ("QuantizeLinear", "type uint16"),
    "q = QuantizeLinear <output_dtype=4> (x, s) y = DequantizeLinear (q, s)": ("Quant", "output_dtype is 4"),
    "q = QuantizeLinear <axis=1> (x, three) y = DequantizeLinear <axis=1> (q, three)": (
        "Quant",
        r"shape \(3,\)",
    ),
    "q = QuantizeLinear (x, negative, z) y = DequantizeLinear (q, s, z)": (
        "QuantizeLinear",
        "has to be positive",
    ),
    "q = QuantizeLinear (x, s, z) y = DequantizeLinear (q, nothing, z)": (
        "DequantizeLinear",
        "to be positive",
    ),
    "q = QuantizeLinear (x, infinite, z) y = DequantizeLinear (q, s, z)": ("QuantizeLinear", "and finite"),
    "q = QuantizeLinear (x, s, z) y = DequantizeLinear (q, s, iz)": (
        "DequantizeLinear",
        "int8, what .* uint8",
    ),
    "y = DequantizeLinear (x, s)": ("DequantizeLinear", "not been quantised"),
    f"{HEAD} r = MaxPool <kernel_shape=[2, 2]> (q) y = DequantizeLinear (r, s, z)": (
        "MaxPool",
        "comes first",
    ),
    "q = QuantizeLinear (x, s, z) y = QLinearConv (q, s, z, wq, ws, wz, s, z)": (
        "QLinearConv",
        "operator form",
    ),
    f"{HEAD} w = DequantizeLinear <axis=5> (wq, ws, wz) y = Conv (d, w)": ("DequantizeLinear", "axis is 5"),
}


@pytest.mark.parametrize("text", REFUSED)
def test_other_forms_are_refused_by_name(text):
    kind, why = REFUSED[text]
    with pytest.raises(ValueError, match=f"^the model: {kind}\\w* '\\w+': .*{why}"):
        cnnlib.onnx.load(model(text, ARRAYS))


def test_what_ends_in_bytes_is_refused():
    with pytest.raises(ValueError, match="its output 'y' is quantised"):
        cnnlib.onnx.load(model("y = QuantizeLinear (x, s, z)", ARRAYS))
    double = {**ARRAYS, "s": np.float64(0.02)}
    with pytest.raises(ValueError, match="takes and gives float32"):
        cnnlib.onnx.load(model(f"{HEAD} y = Relu (d)", double, elem="double"))


def test_what_has_no_form_in_bytes_is_computed_in_floats():
    """The layer between the roundings, which stay; the table says so."""
    proto = model(
        f"{HEAD} c = Conv (d, f) t = QuantizeLinear (c, s, z) y = DequantizeLinear (t, s, z)",
        {**ARRAYS, "f": images((3, 3, 1), 3)},
    )
    predictor = cnnlib.onnx.load(proto)
    assert [row.precision for row in predictor.quantization()] == ["float32"]
    x = images((3, 8, 8))
    (wanted,) = ReferenceEvaluator(proto).run(None, {"x": x})  # ONNX Runtime quantises the weights
    assert np.abs(predictor(x) - wanted).max() < 0.0201


def test_prepare_takes_what_load_returns(tmp_path):
    net = ConvNet("resnet8", (3, 8, 8), 10, seed=0)
    path = str(tmp_path / "int8.onnx")
    cnnlib.onnx.save(cnnlib.prepare(net, precision="int8", calibration=images((3, 8, 8), 9)), path)
    predictor = cnnlib.onnx.load(path)
    assert cnnlib.prepare(predictor) is predictor
    assert cnnlib.prepare(predictor, precision="int8") is predictor
    for options in ({"precision": "float32"}, {"calibration": images((3, 8, 8))}, {"dtype": np.float64}):
        with pytest.raises(ValueError, match="prepare: the model is a predictor of int8 already"):
            cnnlib.prepare(predictor, **options)


def test_a_bias_between_the_units_of_sums_keeps_its_layer_in_floats():
    """Units of 1, and results in steps of 0.1: a bias of 0.37 is four of them."""
    arrays = {"one": np.float32(1), "tenth": np.float32(0.1), "zero": np.uint8(0), "none": np.int8(0)}
    arrays |= {"w": np.ones((1, 1, 1, 1), np.int8), "b": np.float32([0.37])}
    text = (
        "q = QuantizeLinear (x, one, zero) d = DequantizeLinear (q, one, zero) "
        "v = DequantizeLinear (w, one, none) c = Conv (d, v, b) "
        "p = QuantizeLinear (c, tenth, zero) y = DequantizeLinear (p, tenth, zero)"
    )
    predictor = cnnlib.onnx.load(model(text, arrays, shape=("N", 1, 2, 2)))
    got = predictor(np.full((1, 1, 2, 2), 3, np.float32))
    np.testing.assert_allclose(got, np.full((1, 1, 2, 2), 3.4), rtol=1e-6)
