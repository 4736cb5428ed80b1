"""Networks prepared with precision='bfloat16': how close they are, and what never changes their bits."""

import contextlib
import json
import pickle
import zlib

import cnnlib
import numpy as np
import pytest
from cnnlib import _core
from cnnlib.graph import Node
from cnnlib.graph.ops.bfloat16 import rounded
from cnnlib.inference import load, prepare
from cnnlib.inference.predictor import Predictor
from cnnlib.models import ConvNet
from helpers import in_threads
from small_graphs import GRAPH_NAMES, conv_node, net_of, random_params, small_graphs

pytestmark = [pytest.mark.sets, pytest.mark.smoke, pytest.mark.threads]

HALF_STEP = 2.0**-8  # the largest relative error of rounding to 8 significant bits
FLOAT_STEP = 2.0**-24  # of float32

needs_bfloat16 = pytest.mark.skipif(
    _core.active_bfloat16() is None, reason="this processor has no instructions for bfloat16"
)


def prepared(nodes, params, shape):
    return prepare(net_of(nodes, params, shape, np.float32), precision="bfloat16")


def in_floats(predictor, dtype):
    """The same network with the same weights, which are rounded, in float32 or float64."""
    params = {name: array.astype(dtype) for name, array in predictor._params.items()}
    return Predictor(predictor._graph, params, predictor.input_dim, np.dtype(dtype))


def conv_of(rng, C, F, K, plane=(9, 7), **conv_param):
    """One convolution prepared on bfloat16."""
    w = rng.standard_normal((F, C // conv_param.get("groups", 1), *K))
    nodes = [Node("conv", ("input",), "c", ("w", "b"), (conv_param,))]
    return prepared(nodes, {"w": w, "b": rng.standard_normal(F)}, (C, *plane))


def images(rng, predictor, count=3):
    return rng.standard_normal((count, *predictor.input_dim)).astype(np.float32)


def steps(predictor):
    return str(predictor.profile(np.zeros((1, *predictor.input_dim), np.float32)))


CONVS = {
    "1x1": (16, 24, (1, 1), {}),
    "odd channels": (7, 9, (3, 3), {"pad": 1}),
    "one channel": (1, 1, (3, 3), {"pad": 1}),
    "stride": (5, 33, (3, 3), {"pad": 1, "stride": 2}),
    "dilation": (6, 17, (3, 2), {"pad": (2, 1), "dilation": 2}),
    "groups": (8, 12, (3, 3), {"pad": 1, "groups": 2}),
    "depthwise": (19, 19, (3, 3), {"pad": 1, "groups": 19}),
    "one side": (4, 8, (5, 5), {"pad": ((2, 0), (1, 3))}),
}
WINOGRAD = (35, 37, (3, 3), {"pad": 1})  # wide enough for Winograd's method
every_conv = pytest.mark.parametrize("conv", [*CONVS.values(), WINOGRAD], ids=[*CONVS, "winograd"])


@needs_bfloat16
@pytest.mark.parametrize("conv", CONVS.values(), ids=CONVS)
def test_a_direct_convolution_errs_by_one_rounding(conv, rng):
    """Products are exact and sums float32: each output is rounded once, whatever the length of its sum."""
    *numbers, conv_param = conv
    predictor = conv_of(rng, *numbers, **conv_param)
    x = rounded(images(rng, predictor))
    exact = in_floats(predictor, np.float64)
    want = exact(x)
    sizes = {name: np.abs(array) for name, array in exact._params.items()}
    terms = Predictor(exact._graph, sizes, exact.input_dim, exact.dtype)(np.abs(x))
    count = predictor._params["w"][0].size + 1
    assert np.all(np.abs(predictor(x) - want) <= HALF_STEP * np.abs(want) + count * FLOAT_STEP * terms)


@needs_bfloat16
def test_the_values_that_a_convolution_reads_are_rounded(rng):
    """To nearest even: the same scores as of images that were rounded before."""
    for conv in (*CONVS.values(), WINOGRAD):
        *numbers, conv_param = conv
        predictor = conv_of(rng, *numbers, **conv_param)
        x = images(rng, predictor)
        np.testing.assert_array_equal(predictor(x), predictor(rounded(x)))
        assert np.any(predictor(x) != predictor(x * np.float32(1 + 2.0**-7)))


@needs_bfloat16
def test_winograd_errs_by_the_roundings_of_its_points(rng):
    """Of tiles, of filters and of outputs: independent errors of at most half a step, 0.58 of it in the mean.

    F(2x2, 3x3) makes at most about twice the error of its two roundings.
    """
    C, F, K, conv_param = WINOGRAD
    predictor = conv_of(rng, C, F, K, (21, 18), **conv_param)
    x = rounded(images(rng, predictor))
    want = in_floats(predictor, np.float64)(x)
    error = np.sqrt(np.mean((predictor(x) - want) ** 2) / np.mean(want**2))
    assert HALF_STEP / 4 < error < 1.5 * HALF_STEP


@needs_bfloat16
@pytest.mark.parametrize("name", GRAPH_NAMES)
def test_networks_are_close_to_the_same_in_float64(name, rng):
    """One by one, and out of a pickle, images get the same bits."""
    nodes, params = next((nodes, params) for own, nodes, params in small_graphs(rng) if own == name)
    predictor = prepared(nodes, params, (4, 7, 7))
    x = images(rng, predictor)
    want, got = in_floats(predictor, np.float64)(x), predictor(x)
    assert np.abs(got - want).max() <= 2.0**-5 * np.abs(want).max()
    np.testing.assert_array_equal(np.concatenate([predictor(image[None]) for image in x]), got)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(predictor))(x), got)


def test_layers_without_a_form_on_bfloat16_stand_between(rng):
    """Values are converted before and behind them."""
    params = random_params(
        rng, w=(4, 4, 3, 3), b=4, wt=(4, 4, 3, 3), bt=4, w2=(6, 4, 3, 3), b2=6, wa=(6, 5), ba=5, g=5, h=5
    )
    nodes = [
        conv_node("input", "c"),
        Node("softmax", ("c",), "s"),
        Node("conv_transpose", ("s",), "t", ("wt", "bt"), ({"stride": 1, "pad": 1},)),
        Node("upsample", ("t",), "u", (), (2,)),
        conv_node("u", "d", "w2", "b2"),
        Node("global_avg_pool", ("d",), "p"),
        Node("affine", ("p",), "a", ("wa", "ba")),
        Node("layernorm", ("a",), "n", ("g", "h"), ({},)),
    ]
    predictor = prepared(nodes, params, (4, 7, 7))
    x = images(rng, predictor)
    want = in_floats(predictor, np.float64)(x)
    np.testing.assert_allclose(predictor(x), want, rtol=0, atol=2.0**-4 * np.abs(want).max())
    if _core.active_bfloat16():
        assert "c to float32" in steps(predictor)
        assert "u to bfloat16" in steps(predictor)


@pytest.fixture(scope="module")
def net():
    """Direct and Winograd convolutions, a pool, a fully connected layer, odd channels."""
    layers = [{"conv": 24}, "relu", {"max_pool": 2}, {"conv": 40}, "relu", {"conv": 33}, "relu"]
    return ConvNet([*layers, {"avg_pool": 2}, {"affine": 5}], (3, 45, 38), 5, seed=0)


@needs_bfloat16
def test_threads_and_batches_change_no_bit(net, num_threads, thread_pool, rng):
    predictor = prepare(net, precision="bfloat16")
    x = images(rng, predictor, 7)
    num_threads(1)
    want = predictor(x)
    for own in (False, True):
        thread_pool(own)
        for threads in (1, 2, 3, 7, 64):
            num_threads(threads)
            np.testing.assert_array_equal(predictor(x), want)
            np.testing.assert_array_equal(np.concatenate([predictor(image[None]) for image in x]), want)
            np.testing.assert_array_equal(np.concatenate([predictor(x[:2]), predictor(x[2:])]), want)


@needs_bfloat16
@every_conv
def test_threads_and_batches_change_no_bit_of_a_convolution(conv, num_threads, rng):
    *numbers, conv_param = conv
    predictor = conv_of(rng, *numbers, (61, 90), **conv_param)  # large enough for several threads
    x = images(rng, predictor, 4)
    num_threads(1)
    want = np.concatenate([predictor(image[None]) for image in x])
    for threads in (1, 2, 3, 7, 64):
        num_threads(threads)
        np.testing.assert_array_equal(predictor(x), want)
        np.testing.assert_array_equal(predictor(x[2:3]), want[2:3])


@needs_bfloat16
def test_several_python_threads_share_a_predictor(net, rng):
    predictor = prepare(net, precision="bfloat16")
    x = images(rng, predictor, 6)
    want = predictor(x)
    fresh = prepare(net, precision="bfloat16")  # compiled by all of them at once

    def work(k):
        for _ in range(3):
            np.testing.assert_array_equal(fresh(x[k : k + 2]), want[k : k + 2])

    in_threads(5, work)


def windows_that_read(conv, plane, pixel):
    """The outputs (OH, OW) whose windows, or 2x2 tiles' windows together, read a pixel."""
    C, F, (KH, KW), conv_param = conv
    nodes = [Node("conv", ("input",), "c", ("w", None), (conv_param,))]
    ones = {"w": np.ones((F, C // conv_param.get("groups", 1), KH, KW))}
    x = np.zeros((1, C, *plane))
    x[(0, slice(None), *pixel)] = 1
    read = prepare(net_of(nodes, ones, x.shape[1:]), algorithm="direct")(x)[0, 0] > 0
    if conv is not WINOGRAD:
        return read, read
    tiles = np.zeros_like(read)
    for h, w in np.ndindex(*read.shape):
        rows, columns = slice(h // 2 * 2, h // 2 * 2 + 2), slice(w // 2 * 2, w // 2 * 2 + 2)
        tiles[h, w] = read[rows, columns].any()
    return read, tiles


@needs_bfloat16
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf], ids=str)
@every_conv
def test_values_that_are_not_finite_reach_those_that_read_them(conv, value, rng):
    """No other output changes a bit, and none that reads them is finite; borders and padding make no NaN."""
    *numbers, conv_param = conv
    plane = 9, 7
    predictor = conv_of(rng, *numbers, plane, **conv_param)
    x = images(rng, predictor, 1)
    want = predictor(x)
    assert np.isfinite(want).all()
    for pixel in [(0, 0), (4, 3), (8, 6), (8, 0), (3, 6)]:
        other = x.copy()
        other[(0, slice(None), *pixel)] = value
        got = predictor(other)
        reads, may = windows_that_read(conv, plane, pixel)
        assert not np.isfinite(got[..., reads]).any()
        np.testing.assert_array_equal(got[..., ~may], want[..., ~may])


@needs_bfloat16
@pytest.mark.parametrize("value", [np.nan, np.inf], ids=str)
def test_one_channel_that_is_not_finite_is_not_lost_in_a_network(value, net, rng):
    """It reaches the scores of its own image alone."""
    predictor = prepare(net, precision="bfloat16")
    x = images(rng, predictor)
    want = predictor(x)
    x[1, 1, 10, 10] = value
    got = predictor(x)
    np.testing.assert_array_equal(got[::2], want[::2])
    assert np.isnan(got[1]).any() if np.isnan(value) else not np.array_equal(got[1], want[1])


def test_files_and_pickles_give_the_same_bits(net, tmp_path, rng):
    """Weights take half the room; biases stay float32."""
    predictor = prepare(net, precision="bfloat16")
    x = images(rng, predictor)
    want = predictor(x)
    predictor.save(tmp_path / "half")
    prepare(net).save(tmp_path / "whole")
    loaded = load(tmp_path / "half")
    for copy in (loaded, pickle.loads(pickle.dumps(predictor)), pickle.loads(pickle.dumps(loaded))):
        assert copy.precision == "bfloat16"
        assert copy.dtype == np.float32
        np.testing.assert_array_equal(copy(x), want)
    half, whole = ((tmp_path / name).stat().st_size for name in ("half", "whole"))
    assert 0.5 * whole < half < 0.6 * whole


def test_a_file_of_float64_that_calls_itself_bfloat16_is_refused(tmp_path):
    """By the file's name and the two that contradict each other."""
    path = tmp_path / "net"
    prepare(ConvNet([{"conv": 4}], (3, 6, 6), 2, seed=0, dtype=np.float64)).save(path)
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    about = json.loads(header["__metadata__"]["cnnlib"])
    about["about"]["bfloat16"] = True
    text = json.dumps(about)
    header["__metadata__"] = {"cnnlib": text, "cnnlib.crc32": str(zlib.crc32(text.encode()))}
    lead = json.dumps(header).encode()
    lead += b" " * (-len(lead) % 8)
    path.write_bytes(len(lead).to_bytes(8, "little") + lead + content[start:])
    with pytest.raises(ValueError, match=f"^{path} is damaged.*bfloat16 is True in a network of float64"):
        load(path)


@contextlib.contextmanager
def without_instructions(isa=None):
    """As on a processor that has none for bfloat16, or with an instruction set that has none."""
    before, limit = _core.active_isa(), _core.bfloat16_limit()
    if isa is None:
        _core.limit_bfloat16("none")
    else:
        _core.use_isa(isa)
    try:
        yield
    finally:
        _core.use_isa(before)
        _core.limit_bfloat16(limit)


def isas_without():
    """Instruction sets that have no instructions for bfloat16, and None: the limit."""
    found = [None]
    for isa in _core.available_isas():
        with without_instructions(isa):
            if _core.active_bfloat16() is None:
                found.append(isa)
    return found


@pytest.mark.parametrize("without", isas_without(), ids=str)
def test_float32_computes_where_there_are_no_instructions(without, net, rng):
    """The same as a model whose weights were rounded; the summary says so."""
    model = ConvNet(["relu", {"conv": 24}, "relu", {"conv": 8}, {"affine": 5}], (3, 12, 9), 5, seed=0)
    predictor = prepare(model, precision="bfloat16")
    x = images(rng, predictor)
    before = predictor(x)
    for name, array in model.params.items():
        if array.ndim > 1:
            model.params[name] = rounded(array)
    with without_instructions(without):
        assert _core.active_bfloat16() is None
        np.testing.assert_array_equal(predictor(x), prepare(model)(x))
        np.testing.assert_array_equal(predictor(x), in_floats(predictor, np.float32)(x))
        assert "float32 computes, with weights rounded to bfloat16" in predictor.summary()
        assert predictor.precision == "bfloat16"
        assert "to bfloat16" not in steps(predictor)
    np.testing.assert_array_equal(predictor(x), before)
    if _core.active_bfloat16():
        assert f"bfloat16: {_core.active_bfloat16()}" in predictor.summary()


def test_the_limit_by_name_is_checked():
    limit = _core.bfloat16_limit()
    with pytest.raises(ValueError, match="bfloat8"):
        _core.limit_bfloat16("bfloat8")
    assert _core.bfloat16_limit() == limit


def test_several_outputs_and_other_sizes_of_images(rng):
    """Outputs are floats, though other layers read them as bfloat16."""
    params = random_params(rng, w=(4, 4, 3, 3), b=4, w2=(4, 4, 3, 3), b2=4)
    nodes = [conv_node("input", "c"), Node("relu", ("c",), "r"), conv_node("r", "d", "w2", "b2")]
    net = net_of(nodes, params, (4, 7, 7), np.float32)
    graph = net.graph()
    graph.outputs = ["r", "d"]
    predictor = prepare(cnnlib.models.GraphNet(graph, net.params, (4, 7, 7)), precision="bfloat16")
    alone = prepare(net, precision="bfloat16")
    exact = in_floats(predictor, np.float64)
    for plane in ((7, 7), (12, 5), (1, 1)):
        x = rng.standard_normal((3, 4, *plane)).astype(np.float32)
        got, want = predictor(x), exact(x)
        for name in ("r", "d"):
            assert got[name].shape == (3, 4, *plane)
            assert np.abs(got[name] - want[name]).max() <= 2.0**-5 * np.abs(want[name]).max()
        np.testing.assert_array_equal(got["d"], alone(x))


def test_layers_by_a_method_of_float32_stay_so(rng):
    """With rounded weights, like a processor without instructions."""
    C, F, K, _ = WINOGRAD
    predictor = conv_of(rng, C, F, K, pad=1, algorithm="winograd")
    x = images(rng, predictor)
    assert "bfloat16" not in steps(predictor)
    np.testing.assert_array_equal(predictor(x), in_floats(predictor, np.float32)(x))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": np.float64}, "precision 'bfloat16' contradicts dtype float64"),
        ({"calibration": np.zeros((2, 3, 45, 38))}, "are for precision='int8'"),
        ({"ranges": "max"}, "are for precision='int8'"),
        ({"float32": ["affine"]}, "are for precision='int8'"),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
)
def test_options_that_contradict_are_refused(options, message, net):
    with pytest.raises(ValueError, match=f"^prepare: .*{message}"):
        prepare(net, precision="bfloat16", **options)


def test_a_model_of_float64_is_prepared(rng):
    """Weights are rounded once, from float64 by way of float32."""
    model = ConvNet([{"conv": 4}], (3, 6, 6), 2, seed=0, dtype=np.float64)
    predictor = prepare(model, precision="bfloat16")
    assert predictor.dtype == np.float32
    np.testing.assert_array_equal(predictor._params["W1"], rounded(model.params["W1"]))
