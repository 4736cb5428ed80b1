"""cnnlib.prepare and the Predictor: the model's scores, whatever the batch, the threads or the process."""

import copy
import importlib.util
import os
import pickle

import cnnlib
import numpy as np
import pytest
from cnnlib import _core
from cnnlib.course import TwoLayerNet
from cnnlib.data import Normalization
from cnnlib.graph.graph import Node
from cnnlib.graph.layout import Block, place
from cnnlib.inference import load, prepare
from cnnlib.inference.scoring import scorer
from cnnlib.models import ConvNet, FullyConnectedNet, Graph, GraphNet, ThreeLayerConvNet
from cnnlib.models.spec.reading import COLOURS, NAMED_SPECS
from cnnlib.solver import Solver
from helpers import in_threads
from hypothesis import given
from hypothesis import strategies as st
from small_graphs import GRAPH_NAMES, POOL, conv_node, net_of, random_params, small_graphs

pytestmark = pytest.mark.sets

_BOUND = {np.float32: 1e-5, np.float64: 1e-13}  # of the largest score, as Predictor.__call__ documents


def _close(got, want, dtype, layers=1):
    assert got.dtype == want.dtype == dtype
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=0, atol=_BOUND[dtype] * layers**0.5 * np.abs(want).max())


def _trained_norms(net, shape, rng):
    """Let batch norms have seen something."""
    for _ in range(2):
        x = rng.standard_normal((8, *shape)) + 0.5
        net.loss(x, rng.integers(0, 10, (8, *net.loss(x).shape[2:])))  # labels of images, or of pixels
    for name in net.params:
        if name.startswith(("gamma", "beta", "b")):
            net.params[name] += rng.uniform(-0.3, 0.3, net.params[name].shape).astype(net.dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("spec", NAMED_SPECS)
def test_named_networks_give_their_scores(spec, dtype, rng):
    net = ConvNet(spec, (3, 32, 32), 10, dtype=dtype, seed=0)
    if spec == "vgg-whitened":
        net.initialize(rng.standard_normal((100, 3, 32, 32)))
    _trained_norms(net, (3, 32, 32), rng)
    x = rng.standard_normal((5, 3, 32, 32)).astype(dtype)
    _close(prepare(net)(x), net.loss(x), dtype, len(net.graph().nodes))


@pytest.mark.parametrize(
    "net",
    [
        FullyConnectedNet([30, 20], (1, 8, 8), use_batchnorm=True, dropout=0.3, seed=0),
        FullyConnectedNet([30, 20], (1, 8, 8), normalization="layernorm", seed=0),
        TwoLayerNet(64, 20, 10, seed=0),
        ThreeLayerConvNet((1, 8, 8), 4, 3, 20, use_batchnorm=True, seed=0),
    ],
    ids=lambda net: type(net).__name__,
)
def test_the_course_s_networks_give_their_scores(net, rng):
    shape = np.atleast_1d(net.arguments["input_dim"])
    x = rng.standard_normal((7, *shape)).astype(net.dtype)
    net.loss(x, rng.integers(0, 10, 7))
    _close(prepare(net)(x), net.loss(x), net.dtype.type, 4)


# Every layer and join, in the positions that fold and those that do not ------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", GRAPH_NAMES)
def test_layers_and_joins_give_the_graph_s_output(name, dtype, rng):
    nodes, params = next((nodes, params) for own, nodes, params in small_graphs(rng) if own == name)
    net = net_of(nodes, params, dtype=dtype)
    x = rng.standard_normal((3, 4, 7, 7)).astype(dtype)
    before = x.copy()
    _close(prepare(net)(x), net.loss(x), dtype, 10)
    np.testing.assert_array_equal(x, before)


def test_nan_and_infinity_pass_through_max_pools(rng):
    x = rng.standard_normal((2, 4, 7, 7))
    x[0, 0, 3, 3], x[1, 2, 0, 0], x[1, 3] = np.nan, np.inf, -np.inf
    for pool_param in (POOL, {"pool_height": 3, "pool_width": 3, "stride": 1, "pad": 1}):
        net = net_of([Node("max_pool", ("input",), "p", (), (pool_param,))], {})
        np.testing.assert_array_equal(prepare(net)(x), cnnlib.max_pool_forward(x, pool_param)[0])


@pytest.mark.parametrize("method", ["winograd", "pixel-lanes", "filter-lanes", "auto"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("F", [5, 32])
def test_convolutions_add_to_the_shortcut_by_every_method(method, stride, F, rng):
    size = 9 if stride == 1 else 5
    params = random_params(rng, w=(F, 6, 3, 3), b=F, w1=(F, 6, 1, 1))
    nodes = [
        Node("conv", ("input",), "s", ("w1", None), ({"stride": stride},)),
        conv_node("input", "c", stride=stride, algorithm=method),
        Node("add", ("c", "s"), "t"),
        Node("relu", ("t",), "r"),
    ]
    net = net_of(nodes, params, (6, 9, 9))
    x = rng.standard_normal((3, 6, 9, 9))
    want = net.loss(x)
    assert want.shape == (3, F, size, size)
    _close(prepare(net)(x), want, np.float64, 10)


@pytest.mark.parametrize("views", [1, 2])
def test_no_convolution_adds_to_what_is_read_flattened_later(views, rng):
    params = random_params(rng, w=(6, 6, 3, 3), b=6, w1=(6, 6, 1, 1), wa=(150, 6), ba=6)
    rows = [f"row{i}" for i in range(views)]
    nodes = [
        Node("conv", ("input",), "s", ("w1", None), ({},)),
        *(Node("flatten", (x,), row) for x, row in zip(["s", *rows], rows, strict=False)),
        conv_node("input", "c"),
        Node("add", ("c", "s"), "t"),
        Node("affine", (rows[-1],), "a", ("wa", "ba")),
        Node("global_avg_pool", ("t",), "g"),
        Node("add", ("g", "a"), "out"),
    ]
    net = net_of(nodes, params, (6, 5, 5))
    x = rng.standard_normal((3, 6, 5, 5))
    _close(prepare(net)(x), net.loss(x), np.float64, 10)


@pytest.mark.parametrize(("C", "F", "winograd"), [(64, 64, True), (256, 512, False)])
def test_winograd_at_stride_2_only_with_weights_that_caches_hold(C, F, winograd, isa, rng):
    net = net_of(
        [conv_node("input", "c", stride=2)], random_params(rng, w=(F, C, 3, 3), b=F), (C, 14, 14), np.float32
    )
    x = rng.standard_normal((2, C, 14, 14)).astype(np.float32)
    trained = cnnlib.explain((8, C, 14, 14), (F, C, 3, 3), {"stride": 2, "pad": 1}).forward.method
    predictor = prepare(net)
    ((name, _, _),) = predictor.profile(x, 1)
    assert name.endswith("[winograd]") == (winograd and trained == "winograd")
    _close(predictor(x), net.loss(x), np.float32, 10)


@pytest.mark.parametrize(("C", "most_points"), [(64, 49), (240, 36)])
def test_weights_that_no_cache_holds_take_the_smaller_winograd_tile(C, most_points, isa, rng):
    """F(5x5, 3x3) has 49 points and F(4x4, 3x3) 36: 11 and 8 MB of 240 x 240 filters."""
    net = net_of([conv_node("input", "c")], random_params(rng, w=(C, C, 3, 3), b=C), (C, 14, 14), np.float32)
    x = rng.standard_normal((3, C, 14, 14)).astype(np.float32)
    predictor = prepare(net)
    ((name, _, _),) = predictor.profile(x, 1)
    assert name.endswith("[winograd]")
    points = predictor._network((C, 14, 14)).packed_bytes / (C * C * x.itemsize)
    if isa != "avx512":  # has the smaller tile alone
        most_points = 36
    assert most_points <= points < most_points + 8  # filled up to whole vectors
    _close(predictor(x), net.loss(x), np.float32, 10)


@pytest.mark.parametrize("method", ["pixel-lanes", "filter-lanes", "position-panels", "auto"])
@pytest.mark.parametrize("size", [9, 13, 14, 17])
def test_each_pixel_gets_the_shortcut_once(isa, method, size, rng):
    """Also where the last vector of a row or plane is not full, and could begin earlier."""
    plan = cnnlib.explain((3, 6, size, size), (5, 6, 1, 1), {}).forward
    if method not in ["auto", *(name for name, _ in plan.alternatives)]:
        pytest.skip("this instruction set has no such method")
    params = random_params(rng, w=(5, 6, 1, 1), w1=(5, 6, 1, 1))
    nodes = [
        Node("conv", ("input",), "s", ("w1", None), ({},)),
        Node("conv", ("input",), "c", ("w", None), ({"algorithm": method},)),
        Node("add", ("c", "s"), "t"),
        Node("relu", ("t",), "r"),
    ]
    net = net_of(nodes, params, (6, size, size))
    x = rng.standard_normal((3, 6, size, size))
    _close(prepare(net)(x), net.loss(x), np.float64, 10)


# Promises ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def net():
    net = ConvNet("resnet8", (3, 32, 32), 10, seed=0)
    _trained_norms(net, (3, 32, 32), np.random.default_rng(0))
    return net


@pytest.mark.threads
@pytest.mark.parametrize("isa", _core.available_isas())
@pytest.mark.parametrize("size", [32, 160])  # images apart on threads, and together
def test_bits_depend_neither_on_the_batch_nor_on_the_threads(net, size, isa, rng):
    active, threads = _core.active_isa(), cnnlib.get_num_threads()
    x = rng.standard_normal((33 if size == 32 else 17, 3, size, size)).astype(np.float32)
    try:
        _core.use_isa(isa)
        predictor = prepare(net)
        cnnlib.set_num_threads(1)
        want = predictor(x)
        for n in (1, 2, 3, 4, 8):
            cnnlib.set_num_threads(n)
            for start, stop in ((0, None), (0, 1), (5, 7), (10, None)):
                np.testing.assert_array_equal(predictor(x[start:stop]), want[start:stop])
    finally:
        _core.use_isa(active)
        cnnlib.set_num_threads(threads)


@pytest.mark.parametrize("layers", [[], ["dropout"]])
def test_images_that_nothing_changes_keep_their_size(layers, rng):
    """Also those of as many pixels as an image has that the network was made for."""
    graph = Graph()
    for layer in layers:
        getattr(graph, layer)(p=0.5)
    x = rng.standard_normal((2, 3, 1, 6)).astype(np.float32)
    np.testing.assert_array_equal(prepare(GraphNet(graph, {}, (3, 2, 3)))(x), x)


def test_options_may_be_numpy_s_numbers(rng, tmp_path):
    """Of an inverted residual, whose options are compared, and saved."""
    one = {"stride": np.int64(1), "pad": np.int32(0), "groups": np.int8(1)}
    nodes = [
        Node("conv", ("input",), "wide", ("e", None), (dict(one),)),
        Node("conv", ("wide",), "middle", ("d", None), ({"pad": (np.int64(1), 1), "groups": np.int64(8)},)),
        Node("conv", ("middle",), "narrow", ("p", None), (dict(one),)),
        Node("scale", ("narrow",), "scaled", (), (np.float32(0.5),)),
        Node("leaky_relu", ("scaled",), "r", (), (np.float32(0.25),)),
    ]
    net = net_of(nodes, random_params(rng, e=(8, 4, 1, 1), d=(8, 1, 3, 3), p=(4, 8, 1, 1)))
    predictor, x = prepare(net), rng.standard_normal((2, 4, 7, 7))
    _close(predictor(x), net.loss(x), np.float64, 10)
    predictor.save(tmp_path / "net")
    np.testing.assert_array_equal(load(tmp_path / "net")(x), predictor(x))


def test_options_may_be_arrays_and_statistics_lists(rng, tmp_path):
    statistics = {"mode": "train", "running_mean": [0.5, 1.0, 0.0, -1.0], "running_var": [1, 2, 3, 4]}
    nodes = [
        Node("spatial_batchnorm", ("input",), "n", ("g", "h"), (statistics,)),
        Node("upsample", ("n",), "u", (), (np.array([2, 1]), "bilinear")),
        Node("adaptive_avg_pool", ("u",), "r", (), (np.array([3, 2]),)),
    ]
    net = net_of(nodes, random_params(rng, g=4, h=4))
    predictor, x = prepare(net), rng.standard_normal((2, 4, 7, 7))
    _close(predictor(x), net.loss(x), np.float64, 10)
    predictor.save(tmp_path / "net")
    np.testing.assert_array_equal(load(tmp_path / "net")(x), predictor(x))


def _overwrite(net):
    """Write NaN into every array of a model in its place, and empty every dict of its batch norms."""
    dicts = net.bn_params
    for array in [*net.params.values(), *(a for d in dicts for a in d.values() if isinstance(a, np.ndarray))]:
        array.fill(np.nan)
    for emptied in dicts:
        emptied.clear()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", GRAPH_NAMES)
def test_the_predictor_is_a_copy(name, dtype, rng):
    """At the size that it was prepared for, and at one that comes later, for which it packs weights anew."""
    nodes, params = next((nodes, params) for own, nodes, params in small_graphs(rng) if own == name)
    net = net_of(copy.deepcopy(nodes), params, dtype=dtype)
    sizes = [(7, 7)] if net.graph().why_fixed() else [(7, 7), (9, 6)]
    images = [rng.standard_normal((2, 4, *size)).astype(dtype) for size in sizes]
    want = [prepare(net)(x) for x in images]
    predictor = prepare(net)
    _overwrite(net)
    for x, scores in zip(images, want, strict=True):
        np.testing.assert_array_equal(predictor(x), scores)


def test_filters_that_wait_for_images_are_refused(rng, tmp_path):
    net = ConvNet("vgg-whitened", (3, 32, 32), 10, seed=0)
    waits = "stage 1 waits for images to whiten: call initialize"
    with pytest.raises(ValueError, match=f"prepare: {waits}"):
        prepare(net)
    with pytest.raises(ValueError, match=f"ConvNet.save: {waits}"):
        net.save(tmp_path / "net.npz")
    if importlib.util.find_spec("onnx"):
        with pytest.raises(ValueError, match=rf"cnnlib\.onnx\.save: {waits}"):
            cnnlib.onnx.save(net, tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())
    net.initialize(rng.standard_normal((20, 3, 32, 32)))
    assert np.isfinite(prepare(net)(np.zeros((1, 3, 32, 32)))).all()


def test_the_predictor_keeps_the_model_as_it_was(rng):
    net = ConvNet("resnet8", (3, 32, 32), 10, seed=1)
    x = rng.standard_normal((2, 3, 32, 32)).astype(np.float32)
    predictor = prepare(net)
    before = predictor(x)
    for param in net.params.values():
        param += 1
    net.bn_params[0]["running_mean"] = np.ones(16, np.float32)
    np.testing.assert_array_equal(predictor(x), before)
    np.testing.assert_array_equal(predictor(x[:0]), np.empty((0, 10), np.float32))


def test_other_dtypes_layouts_and_sizes(net, rng):
    predictor = prepare(net)
    x = rng.standard_normal((4, 3, 32, 32)).astype(np.float32)
    want = predictor(x)
    np.testing.assert_array_equal(predictor(x.astype(np.float64)), want)
    np.testing.assert_array_equal(predictor(np.asfortranarray(x)), want)
    np.testing.assert_array_equal(predictor(x.astype(">f4")), want)
    np.testing.assert_array_equal(predictor(x[:, :, :, ::-1][:, :, :, ::-1].tolist()), want)
    larger = rng.standard_normal((2, 3, 48, 40)).astype(np.float32)
    assert predictor(larger).shape == (2, 10)
    double = prepare(net, dtype=np.float64)
    assert double(x).dtype == np.float64
    np.testing.assert_allclose(double(x), want, rtol=0, atol=1e-4 * np.abs(want).max())


def test_uint8_images_go_through_the_model_s_normalization(net, rng):
    images = rng.integers(0, 256, (5, 3, 32, 32), np.uint8)
    plain = prepare(net)
    for preprocess in (
        Normalization([120, 110, 100], [60, 50, 70]),
        Normalization(0, 255),
        lambda x: x.astype(np.float32) / 7,
    ):
        net.preprocess = preprocess
        try:
            predictor = prepare(net)
        finally:
            del net.preprocess
        np.testing.assert_array_equal(predictor(images), plain(preprocess(images)))
        floats = images.astype(np.float32)
        np.testing.assert_array_equal(predictor(floats), plain(floats))


@pytest.mark.parametrize("white", [1.0, 65535.0])
def test_a_normalization_of_another_white_takes_bytes(net, white, rng):
    """The white of bytes is 255, whatever that of the images in training was; in calibration too."""
    images = rng.integers(0, 256, (5, 3, 32, 32), np.uint8)
    net.preprocess = normalize = Normalization(0.4 * white, 0.3 * white, white=white)
    try:
        predictor = prepare(net)
        eight_bits = prepare(net, precision="int8", calibration=images)
    finally:
        del net.preprocess
    floats = normalize(images * (white / 255))
    want = prepare(net)(floats)
    np.testing.assert_allclose(predictor(images), want, rtol=0, atol=1e-4 * np.abs(want).max())
    np.testing.assert_allclose(eight_bits(images), want, rtol=0, atol=0.2 * np.abs(want).max())


def test_bytes_for_a_network_of_rows(rng):
    """They are images until they are normalised; rows of numbers serve in eight bits, too."""
    images = rng.integers(0, 256, (50, 3, 4, 4), np.uint8)
    net = FullyConnectedNet([5], input_dim=48, num_classes=3, weight_scale=0.3, seed=0)
    net.preprocess = Normalization([120, 110, 100], [60, 50, 70])
    want = net.loss(net.preprocess(images))
    np.testing.assert_allclose(prepare(net)(images), want, rtol=0, atol=1e-5)
    eight_bits = prepare(net, precision="int8", calibration=images)
    np.testing.assert_allclose(eight_bits(images), want, rtol=0, atol=0.1 * np.abs(want).max())
    with pytest.raises(ValueError, match="Normalization: X must be images"):
        prepare(net)(images.reshape(50, 48))


class TestBytesWithoutPreprocess:
    """They are hardly ever meant as values of 0 to 255."""

    SAID = "uint8 images count as values of 0 to 255"

    @pytest.fixture
    def images(self, rng):
        return rng.integers(0, 256, (5, 1, 8, 8), np.uint8)

    def made(self, name):
        if name == "three-layer":
            return ThreeLayerConvNet((1, 8, 8), num_filters=2, filter_size=3, hidden_dim=5, seed=0)
        if name == "dense":
            return FullyConnectedNet([5], (1, 8, 8), seed=0)
        net = ConvNet(["relu"], (1, 8, 8), 10, seed=0)
        if name == "predictor":
            return prepare(net)
        return net if name == "ConvNet" else scorer(self.made("three-layer"))

    def test_models_score_by_themselves(self):
        for name in ("dense", "three-layer"):
            model = self.made(name)
            assert scorer(model) == model.loss
        predictor = self.made("predictor")
        assert scorer(predictor) is predictor

    @pytest.mark.parametrize("name", ["three-layer", "dense", "ConvNet", "predictor", "scorer"])
    def test_a_warning_says_so_once(self, name, images):
        model = self.made(name)
        scores = getattr(model, "loss", model)
        with pytest.warns(UserWarning, match=self.SAID) as caught:
            got = scores(images)
        scores(images)  # or the second warning is an error
        assert len(caught) == 1
        assert caught[0].filename == __file__
        np.testing.assert_array_equal(got, scores(images.astype(np.float32)))

    def test_calibration_says_so_once(self):
        images = np.random.default_rng(0).integers(0, 256, (50, 1, 8, 8), np.uint8)
        with pytest.warns(UserWarning, match=f"prepare: {self.SAID}") as caught:
            prepare(self.made("ConvNet"), precision="int8", calibration=images)
        assert len(caught) == 1
        assert caught[0].filename == __file__

    def test_where_warnings_are_errors_each_call_raises(self, images):
        predictor = self.made("predictor")
        for _ in range(2):
            with pytest.raises(UserWarning, match=f"Predictor: {self.SAID}"):
                predictor(images)

    def test_others_say_nothing(self, images):
        self.made("predictor")(images.astype(np.int16))
        self.made("predictor")(images.astype(np.float32))
        self.made("dense").loss(images.reshape(5, -1))  # no images
        net = self.made("ConvNet")
        net.preprocess = Normalization(0, 255)
        prepare(net)(images)
        with pytest.warns(UserWarning, match=self.SAID):
            net.loss(images)  # which does not apply it

    def test_a_training_says_so_once(self, images):
        """However many accuracy checks, each by a predictor of its own, and on the scale of the training."""
        net = self.made("ConvNet")
        net.preprocess = Normalization(0, 255)
        labels = np.arange(5)
        data = {"X_train": images, "y_train": labels, "X_val": images, "y_val": labels}
        solver = Solver(net, data, num_epochs=3, batch_size=2, verbose=False, seed=0)
        with pytest.warns(UserWarning, match=self.SAID) as caught:
            solver.train()
        assert len(caught) == 1
        want = np.mean(np.argmax(net.loss(images), axis=1) == labels)
        assert solver.check_accuracy(images, labels) == want
        given = Solver(net, data, num_epochs=1, verbose=False, preprocess=Normalization(0, 255), seed=0)
        given.train()


def test_labels_and_probabilities(net, rng):
    predictor = prepare(net)
    x = rng.standard_normal((6, 3, 32, 32)).astype(np.float32)
    scores = predictor(x).astype(np.float64)
    want = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(predictor.predict_proba(x), want, rtol=1e-5)
    np.testing.assert_array_equal(predictor.predict(x), scores.argmax(axis=1))


@pytest.mark.parametrize(("outputs", "classes"), [(1, None), (3, COLOURS), (3, list(COLOURS))])
def test_numbers_are_no_classes(outputs, classes):
    """One number has no second class to be compared with; neither have the colours of an image: they are
    predicted as they are, and have no probabilities.
    """
    spec = [{"conv": outputs}, "pixels"] if classes else ["global_avg_pool"]
    net = ConvNet(spec, (3, 4, 4), outputs, seed=0)
    predictor = prepare(net)
    predictor.classes = classes
    X = np.zeros((2, 3, 4, 4))
    with pytest.raises(ValueError, match=r"Predictor\.predict_proba: the network gives numbers"):
        predictor.predict_proba(X)
    np.testing.assert_array_equal(predictor.predict(X), predictor(X))
    assert predictor(X).shape[1] == outputs


def test_the_softmax_at_a_networks_end_is_not_taken_twice(rng):
    graph = Graph()
    graph.affine("W1")
    plain = GraphNet(Graph(list(graph.nodes), output=graph.output), {"W1": rng.standard_normal((5, 3))}, 5)
    graph.softmax()
    x = rng.standard_normal((6, 5)).astype(np.float32)
    want = prepare(plain).predict_proba(x)
    np.testing.assert_allclose(prepare(GraphNet(graph, plain.params, 5)).predict_proba(x), want, rtol=1e-5)


def test_a_softmax_before_a_flat_layer_ends_a_network_too(rng):
    """So do networks of convolutions alone; a file may have its dropout behind it."""
    graph = Graph()
    graph.conv("W1")
    graph.softmax()
    graph.dropout(p=0.5)
    graph.flatten()
    net = GraphNet(graph, {"W1": rng.standard_normal((3, 2, 4, 4))}, (2, 4, 4))
    assert net.graph().gives_probabilities()
    x = rng.standard_normal((6, 2, 4, 4))
    np.testing.assert_array_equal(prepare(net).predict_proba(x), prepare(net)(x))


@pytest.mark.threads
def test_many_threads_at_once_give_the_same_bits(net, rng):
    x = rng.standard_normal((24, 3, 32, 32)).astype(np.float32)
    want = prepare(net)(x)
    predictor = pickle.loads(pickle.dumps(prepare(net)))  # compiled by whoever comes first

    def work(k):
        for i in range(0, 20, k + 1):
            np.testing.assert_array_equal(predictor(x[i : i + k + 1]), want[i : i + k + 1])

    in_threads(6, work)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_predicts(net, rng):
    x = rng.standard_normal((8, 3, 32, 32)).astype(np.float32)
    predictor = prepare(net)
    want = predictor(x)
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(predictor(x), want) else 1)
    assert os.waitpid(child, 0)[1] == 0


# Files ------------------------------------------------------------------------------------------------


def test_a_saved_predictor_gives_the_same_bits(net, rng, tmp_path):
    net.preprocess, net.classes = Normalization([120, 110, 100], [60, 50, 70]), tuple("abcdefghij")
    try:
        predictor = prepare(net)
    finally:
        del net.preprocess, net.classes
    path = tmp_path / "net.cnnlib"
    predictor.save(path)
    images = rng.integers(0, 256, (5, 3, 32, 32), np.uint8)
    for other in (load(path), pickle.loads(pickle.dumps(predictor)), pickle.loads(pickle.dumps(load(path)))):
        np.testing.assert_array_equal(other(images), predictor(images))
        assert other.classes == tuple("abcdefghij")
        assert other.summary() == predictor.summary()
        assert repr(other) == repr(predictor)


@pytest.mark.parametrize("eight_bits", [False, True])
def test_a_predictor_knows_what_its_network_ends_in(eight_bits, rng, tmp_path):
    net = ConvNet([{"conv": 4}, "relu", "global_avg_pool", {"values": 2}], (1, 8, 8), seed=0)
    calibration = {"precision": "int8", "calibration": rng.standard_normal((20, 1, 8, 8))}
    predictor = prepare(net, **(calibration if eight_bits else {}))
    predictor.save(tmp_path / "net")
    for one in (predictor, load(tmp_path / "net"), pickle.loads(pickle.dumps(predictor))):
        assert one.head == "values"


def test_a_predictor_with_a_function_of_the_user_s_own_is_not_saved(net, tmp_path):
    net.preprocess = lambda x: x / 2
    try:
        predictor = prepare(net)
    finally:
        del net.preprocess
    with pytest.raises(TypeError, match=r"Predictor\.save: preprocess must be a cnnlib\.data\.Normalization"):
        predictor.save(tmp_path / "net")
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    net = ConvNet([{"conv": 4}, "batchnorm", "relu", "global_avg_pool", {"affine": 3}], (3, 8, 8), 3, seed=0)
    path = tmp_path_factory.mktemp("saved") / "net"
    prepare(net).save(path)
    return path.read_bytes()


def _refused(content, path):
    path.write_bytes(content)
    with pytest.raises((ValueError, OSError), match="net"):
        load(path)(np.zeros((1, 3, 8, 8), np.float32))


def test_truncated_files_are_refused(saved, tmp_path):
    for size in (0, 7, 8, 23, 24, 100, len(saved) // 2, len(saved) - 65):
        _refused(saved[:size], tmp_path / "net")


def test_files_with_any_byte_changed_are_refused_or_read_the_same(saved, rng, tmp_path):
    path = tmp_path / "net"
    path.write_bytes(saved)
    x = rng.standard_normal((2, 3, 8, 8)).astype(np.float32)
    want = load(path)(x)
    refused = 0
    for at in rng.choice(len(saved), 200, replace=False):
        changed = bytearray(saved)
        changed[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(changed))
        try:
            got = load(path)(x)
        except (ValueError, OSError) as error:
            refused += "net" in str(error)
        else:  # a byte of padding
            np.testing.assert_array_equal(got, want)
    assert refused > 150


def test_foreign_files_are_refused(tmp_path):
    for content in (b"PK\x03\x04" + bytes(100), b"\x80\x04\x95" + bytes(100), b"{}" * 50):
        _refused(content, tmp_path / "net")
    with pytest.raises(OSError, match="missing"):
        load(tmp_path / "missing")


# Errors, and what tells about a predictor ------------------------------------------------------------


def test_wrong_calls_name_what_is_wrong(net):
    predictor = prepare(net)
    with pytest.raises(TypeError, match=r"prepare: model must be one of cnnlib\.models.*got a dict"):
        prepare({})
    with pytest.raises(TypeError, match="prepare: dtype must be float32 or float64, got int32"):
        prepare(net, dtype=np.int32)
    for settings in ({}, {"precision": "float32"}):
        with pytest.raises(TypeError, match="prepare: dtype must be float32 or float64, got 'single-'"):
            prepare(net, dtype="single-", **settings)
    with pytest.raises(ValueError, match="algorithm"):
        prepare(net, algorithm="fast")
    with pytest.raises(ValueError, match=r"Predictor: X must have shape \(N, 3, H, W\), got \(3, 32, 32\)"):
        predictor(np.zeros((3, 32, 32)))
    with pytest.raises(ValueError, match="5"):
        predictor(np.zeros((1, 5, 32, 32)))
    with pytest.raises(TypeError, match="Predictor: X must be numbers, got dtype complex128"):
        predictor(np.zeros((1, 3, 32, 32), complex))
    with pytest.raises(TypeError, match="Predictor: X"):
        predictor(None)


def test_the_summary_lists_operations_and_memory(net):
    text = prepare(net).summary()
    assert "conv 16 3x3 + batchnorm + relu" in text
    assert "arena: 128 KB a sample; packed weights: " in text
    assert repr(prepare(net)) == "<Predictor 3x32x32, 14 operations, float32, 77,706 parameters>"


def test_the_profile_names_the_steps(net, rng):
    steps = prepare(net).profile(rng.standard_normal((2, 3, 32, 32)), 2)
    assert all(seconds > 0 for _, seconds, _ in steps)
    assert sum(operations for _, _, operations in steps) > 2 * 2 * 12e6


@given(st.lists(st.tuples(st.integers(1, 500), st.integers(0, 20), st.integers(0, 5)), max_size=20))
def test_values_in_use_at_the_same_time_lie_apart(sizes):
    blocks = [Block(size, first, first + length) for size, first, length in sizes]
    arena = place(blocks)
    for i, a in enumerate(blocks):
        assert a.offset % 16 == 0
        assert a.offset + a.size <= arena
        for b in blocks[:i]:
            if a.first <= b.last and b.first <= a.last:
                assert a.offset + a.size <= b.offset or b.offset + b.size <= a.offset
