"""Networks in ONNX files: what ONNX Runtime and the reference evaluator compute from them."""

import numpy as np
import pytest

pytest.importorskip("onnx", reason="onnx is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

import cnnlib.onnx
import onnx
from cnnlib.data import Normalization
from cnnlib.graph.graph import Graph, Node
from cnnlib.models import ConvNet, FullyConnectedNet, GraphNet, ThreeLayerConvNet
from onnx.reference import ReferenceEvaluator
from onnx_nets import run_elsewhere

C, H, W = 6, 7, 8
POOL = {"pool_height": 3, "pool_width": 2}

# One layer each: its parameters' shapes and its other arguments.
LAYERS = {
    "conv": (
        "conv",
        [(4, 6, 3, 2), (4,)],
        [{"stride": (2, 1), "pad": ((1, 0), (2, 1)), "algorithm": "direct"}],
    ),
    "conv same": ("conv", [(4, 6, 4, 3), None], [{"stride": 2, "pad": "same"}]),
    "conv dilated": ("conv", [(4, 3, 3, 3), (4,)], [{"dilation": (2, 1), "groups": 2, "pad": 1}]),
    "depthwise": ("conv", [(12, 1, 3, 3), None], [{"groups": 6, "pad": "valid"}]),
    "conv transpose": ("conv_transpose", [(6, 4, 3, 3), (4,)], [{"stride": 2, "pad": 1, "output_pad": 1}]),
    "conv transpose groups": ("conv_transpose", [(6, 2, 3, 2), None], [{"stride": (1, 2), "groups": 2}]),
    "max pool": ("max_pool", [], [POOL]),
    "max pool same": ("max_pool", [], [{**POOL, "pad": "same", "stride": 2}]),
    "max pool dilated": ("max_pool", [], [{**POOL, "stride": 1, "dilation": 2, "pad": 1}]),
    "max pool ceil": ("max_pool", [], [{**POOL, "stride": 2, "ceil_mode": True}]),
    "avg pool": ("avg_pool", [], [{**POOL, "pad": (1, 0), "stride": 2}]),
    "avg pool excludes": ("avg_pool", [], [{**POOL, "pad": (1, 0), "stride": 2, "count_include_pad": False}]),
    "avg pool ceil": (
        "avg_pool",
        [],
        [{"pool_height": 3, "pool_width": 3, "stride": 2, "ceil_mode": True, "count_include_pad": False}],
    ),
    "global avg pool": ("global_avg_pool", [], []),
    "batch norm": (
        "spatial_batchnorm",
        [(6,), (6,)],
        [{"mode": "test", "eps": 0.125, "running_mean": np.arange(6.0), "running_var": np.arange(1.0, 7)}],
    ),
    "batch norm untrained": ("spatial_batchnorm", [(6,), (6,)], [{"mode": "test"}]),
    "layer norm of pixels": ("spatial_layernorm", [(6,), (1, 6, 1, 1)], [{"eps": 0.125}]),
    "group norm": ("spatial_groupnorm", [(6,), (6,)], [2, {"eps": 0.125}]),
    "group norm of the course": ("spatial_groupnorm", [(1, 6, 1, 1), (1, 6, 1, 1)], [3, {}]),
    "affine": ("affine", [(6 * 7 * 8, 5), (5,)], []),
    "affine without bias": ("affine", [(6 * 7 * 8, 5), None], []),
    "relu": ("relu", [], []),
    "leaky relu": ("leaky_relu", [], [0.25]),
    "leaky relu by default": ("leaky_relu", [], []),
    "leaky relu of another slope": ("leaky_relu", [], [-0.5]),
    **{
        name: (name, [], [])
        for name in ("relu6", "sigmoid", "tanh", "silu", "hard_sigmoid", "hard_swish", "softmax")
    },
    "gelu": ("gelu", [], []),
    "gelu by tanh": ("gelu", [], ["tanh"]),
    "elu": ("elu", [], [0.25]),
    "elu by default": ("elu", [], []),
    "instance norm": ("spatial_instancenorm", [(6,), (6,)], [{"eps": 0.125}]),
    "adaptive avg pool": ("adaptive_avg_pool", [], [(7, 4)]),
    "adaptive avg pool to one": ("adaptive_avg_pool", [], [1]),
    "adaptive avg pool uneven": ("adaptive_avg_pool", [], [(3, 5)]),
    "adaptive max pool": ("adaptive_max_pool", [], [(7, 4)]),
    "adaptive max pool to one": ("adaptive_max_pool", [], [1]),
    "adaptive max pool uneven": ("adaptive_max_pool", [], [(3, 5)]),
    "upsample": ("upsample", [], [(2, 3)]),
    "upsample bilinear": ("upsample", [], [2, "bilinear", False]),
    "upsample bilinear to the corners": ("upsample", [], [2, "bilinear", True]),
    "dropout": ("dropout", [], [{"p": 0.3, "mode": "test"}]),
    "scale": ("scale", [], [0.3]),
    "flatten": ("flatten", [], []),
}

# The reference evaluator gets these groups wrong; and norms by stash_type compute statistics in float32.
NOT_IN_FLOAT64 = ("conv transpose groups",)
# Written as products and gathered windows, which are not read.
ONE_WAY = ("adaptive avg pool uneven", "adaptive max pool uneven")
STATISTICS_IN_FLOAT32 = ("spatial_groupnorm", "layernorm", "spatial_layernorm")


def one_layer(name, dtype, rng):
    layer, shapes, args = LAYERS[name]
    names = tuple(shape and f"p{i}" for i, shape in enumerate(shapes))
    params = {key: rng.standard_normal(shape) for key, shape in zip(names, shapes, strict=True) if key}
    graph = Graph([Node(layer, ("input",), "out", names, tuple(args))], output="out")
    return GraphNet(graph, params, (C, H, W), dtype=dtype)


def written(net, tmp_path, **options):
    """The model in the file that `save` writes, checked."""
    path = tmp_path / "net.onnx"
    cnnlib.onnx.save(net, path, **options)
    onnx.checker.check_model(str(path), full_check=True)
    return onnx.load(path)


def check_elsewhere(net, proto, x):
    """ONNX Runtime (float32) or the reference evaluator (float64) computes what the model does."""
    wanted = net.loss(x)
    if net.dtype == np.float32:
        got, rtol = run_elsewhere(proto, x.astype(np.float32)), 1e-4
    else:
        got = ReferenceEvaluator(proto).run(None, {proto.graph.input[0].name: x})[0]
        # Attributes such as epsilon are float32 in every file.
        rtol = 1e-5 if any(node.layer in STATISTICS_IN_FLOAT32 for node in net.graph()) else 1e-7
    assert got.dtype == net.dtype
    np.testing.assert_allclose(got, wanted, rtol=rtol, atol=rtol * np.abs(wanted).max())


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_is_computed_alike_elsewhere(name, dtype, tmp_path, rng):
    net = one_layer(name, dtype, rng)
    proto = written(net, tmp_path)
    x = rng.standard_normal((3, C, H, W))
    if dtype == np.float32 or name not in NOT_IN_FLOAT64:
        check_elsewhere(net, proto, x)
    if name not in ONE_WAY:
        np.testing.assert_allclose(cnnlib.onnx.load(proto).loss(x), net.loss(x), rtol=1e-6, atol=1e-7)


OTHER_AXES = {
    "conv1d": ((6, 9), [(4, 3, 3), (4,)], [{"stride": 2, "pad": ((1, 0),), "dilation": (2,), "groups": 2}]),
    "conv3d": ((2, 4, 5, 6), [(3, 2, 2, 3, 3), None], [{"stride": (1, 2, 1), "pad": "same"}]),
    "max_pool1d": ((6, 9), [], [{"pool_width": 3, "stride": 2, "pad": 1}]),
    "max_pool3d": (
        (2, 4, 5, 6),
        [],
        [{"pool_depth": 2, "pool_height": 3, "pool_width": 2, "pad": (1, 0, 1)}],
    ),
    "avg_pool1d": ((6, 9), [], [{"pool_width": 3, "ceil_mode": True, "stride": 2}]),
    "avg_pool3d": ((2, 4, 5, 6), [], [{"pool_depth": 2, "pool_height": 3, "pool_width": 2, "stride": 1}]),
}


@pytest.mark.parametrize("name", OTHER_AXES)
def test_sequences_and_volumes(name, tmp_path, rng):
    shape, shapes, args = OTHER_AXES[name]
    names = tuple(size and f"p{i}" for i, size in enumerate(shapes))
    params = {key: rng.standard_normal(size) for key, size in zip(names, shapes, strict=True) if key}
    net = GraphNet(Graph([Node(name, ("input",), "out", names, tuple(args))], output="out"), params, shape)
    proto = written(net, tmp_path)
    x = rng.standard_normal((3, *shape)).astype(np.float32)
    check_elsewhere(net, proto, x)
    assert np.array_equal(cnnlib.onnx.load(proto).loss(x), net.loss(x))


def test_a_batch_norm_keeps_its_settings(tmp_path):
    bn_param = {"mode": "train", "eps": 1e-3, "momentum": 0.7, "running_mean": np.ones(6)}
    graph = Graph([Node("spatial_batchnorm", ("input",), "out", ("g", "b"), (bn_param,))], output="out")
    net = GraphNet(graph, {"g": np.ones(6), "b": np.zeros(6)}, (C, H, W))
    (read,) = cnnlib.onnx.load(written(net, tmp_path)).bn_params
    assert (read["eps"], read["momentum"]) == (1e-3, 0.7)
    assert (read["running_mean"] == 1).all()
    assert (read["running_var"] == 1).all()


def branches(dtype, rng):
    """A sum, a concatenation, squeeze and excitation, and a value that is called what a parameter is."""
    graph = Graph(
        [
            Node("conv", ("input",), "a", ("a", None), ({"pad": "same"},), "conv"),
            Node("add", ("a", "input"), "b"),
            Node("concat", ("b", "a", "input"), "c"),
            Node("global_avg_pool", ("c",), "p"),
            Node("affine", ("p",), "s", ("w", "v")),
            Node("multiply", ("c", "s"), "m"),
            Node("affine", ("m",), "scores", ("u", None)),
        ],
        output="scores",
    )
    shapes = {"a": (6, 6, 3, 3), "w": (18, 18), "v": 18, "u": (18 * H * W, 4)}
    return GraphNet(
        graph, {key: rng.standard_normal(shape) for key, shape in shapes.items()}, (C, H, W), dtype=dtype
    )


def test_branches(dtype, tmp_path, rng):
    net = branches(dtype, rng)
    proto = written(net, tmp_path)
    x = rng.standard_normal((3, C, H, W))
    check_elsewhere(net, proto, x)
    loaded = cnnlib.onnx.load(proto)
    np.testing.assert_allclose(loaded.loss(x), net.loss(x), rtol=1e-4 if dtype == np.float32 else 1e-12)
    assert loaded.params.keys() == net.params.keys()


SIZE = (3, 8, 8)
MODELS = {
    "three-layer net": lambda dtype: ThreeLayerConvNet(SIZE, 4, 3, use_batchnorm=True, dtype=dtype, seed=0),
    "fully connected": lambda dtype: FullyConnectedNet([8, 9], SIZE, dropout=0.2, dtype=dtype, seed=0),
    "layer norm": lambda dtype: FullyConnectedNet([8], SIZE, normalization="layernorm", dtype=dtype, seed=0),
    "batch norm": lambda dtype: FullyConnectedNet([8], SIZE, normalization="batchnorm", dtype=dtype, seed=0),
    **{
        name: lambda dtype, name=name: ConvNet(name, SIZE, dtype=dtype, seed=0)
        for name in ("three-layer", "vgg-small", "resnet8", "mobile-small")
    },
    "vgg-whitened": lambda dtype: ConvNet("vgg-whitened", (3, 16, 16), dtype=dtype, seed=0),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_computed_alike_elsewhere(name, dtype, tmp_path, rng):
    net = MODELS[name](dtype)
    shape = getattr(net, "input_dim", SIZE)
    x = rng.standard_normal((3, *shape))
    if hasattr(net, "initialize"):
        net.initialize(rng.standard_normal((50, *shape)))
    if net.bn_params:
        net.loss(x, [0, 1, 2])  # running statistics
    proto = written(net, tmp_path)
    check_elsewhere(net, proto, x)
    loaded = cnnlib.onnx.load(proto)
    assert np.array_equal(loaded.loss(x), net.loss(x))
    assert [node.layer for node in loaded.graph()] == [node.layer for node in net.graph()]
    assert loaded.params.keys() == net.params.keys()


@pytest.mark.parametrize("name", ["three-layer net", "layer norm", "batch norm", "resnet8", "vgg-whitened"])
def test_a_prepared_network(name, dtype, tmp_path, rng):
    net = MODELS[name](dtype)
    shape = getattr(net, "input_dim", SIZE)
    if hasattr(net, "initialize"):
        net.initialize(rng.standard_normal((50, *shape)))
    x = rng.standard_normal((3, *shape)).astype(dtype)
    net.loss(x, [0, 1, 2])
    predictor = cnnlib.prepare(net)
    loaded = cnnlib.onnx.load(written(predictor, tmp_path))
    wanted = predictor(x)
    bound = (1e-5 if dtype == np.float32 else 1e-12) * np.abs(wanted).max()
    np.testing.assert_allclose(loaded.loss(x), wanted, rtol=0, atol=bound)
    if dtype == np.float32:
        np.testing.assert_allclose(
            run_elsewhere(onnx.load(tmp_path / "net.onnx"), x), wanted, rtol=0, atol=10 * bound
        )
    if name == "resnet8":
        assert not any("norm" in node.layer for node in loaded.graph())


def test_the_number_of_images(tmp_path):
    net = ThreeLayerConvNet((1, 8, 8), 2, 3, 5, seed=0)
    sizes = [dim.dim_param for dim in written(net, tmp_path).graph.input[0].type.tensor_type.shape.dim]
    assert sizes[0] == "N"
    proto = written(net, tmp_path, batch=4)
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 4
    assert run_elsewhere(proto, np.zeros((4, 1, 8, 8), np.float32)).shape == (4, 10)
    with pytest.raises(ValueError, match="batch must be at least 1"):
        cnnlib.onnx.save(net, tmp_path / "net.onnx", batch=0)


def test_normalisation_and_classes_come_back(tmp_path):
    net = ThreeLayerConvNet((1, 8, 8), 2, 3, 5, num_classes=3, seed=0)
    net.preprocess, net.classes = Normalization(3, 255), ("a", "b", "ç")
    proto = written(net, tmp_path)
    loaded = cnnlib.onnx.load(proto)
    assert (loaded.preprocess, loaded.classes) == (net.preprocess, net.classes)
    for key, value in [
        ("classes", '["a"]'),
        ("classes", "{"),
        ("classes", "3"),
        ("preprocess", '{"name": "x"}'),
        ("head", "faces"),
        ("loss", '"mesh"'),
        ("loss", "{"),
    ]:
        altered = onnx.ModelProto.FromString(proto.SerializeToString())
        onnx.helper.set_model_props(altered, {f"cnnlib.{key}": value})
        with pytest.raises(ValueError, match="the model: its metadata are damaged"):
            cnnlib.onnx.load(altered)


@pytest.mark.parametrize("classes", [range(10), ["one name"]], ids=["numbers", "too few"])
def test_classes_that_no_file_gives_back_are_refused(classes, tmp_path):
    net, path = ConvNet([{"conv": 2}], (1, 4, 4), 10, seed=0), tmp_path / "net"
    net.classes = classes
    for save in (lambda: cnnlib.onnx.save(net, path), lambda: cnnlib.prepare(net).save(path)):
        with pytest.raises((TypeError, ValueError), match="the list of classes"):
            save()
    assert not path.exists()


def test_a_hard_sigmoid_is_read_again_without_a_scale(tmp_path, rng):
    """Its slope is 1/6, which float32 does not hold."""
    net = ConvNet([{"conv": 2}, "hard_sigmoid"], (1, 4, 4), 10, dtype=np.float64, seed=0)
    loaded, x = cnnlib.onnx.load(written(net, tmp_path)), rng.standard_normal((3, 1, 4, 4))
    assert np.array_equal(loaded.loss(x), net.loss(x))


def test_what_cannot_be_written_is_refused(tmp_path):
    path = tmp_path / "net.onnx"
    with pytest.raises(TypeError, match=r"must be one of cnnlib\.models or a Predictor, got a dict"):
        cnnlib.onnx.save({}, path)
    net = ThreeLayerConvNet((1, 8, 8), 2, 3, 5, seed=0)
    path.mkdir()
    with pytest.raises(OSError, match=r"net\.onnx"):
        cnnlib.onnx.save(net, path)
    assert list(tmp_path.iterdir()) == [path]


POOLS_WITH_CEIL = {
    "a window left out": {"pool_height": 2, "pool_width": 2, "stride": 2, "pad": 1},
    "hanging over": {"pool_height": 3, "pool_width": 3, "stride": 2},
    "hanging over, padded": {"pool_height": 3, "pool_width": 3, "stride": 2, "pad": ((0, 0), (0, 1))},
    "one axis each": {"pool_height": 2, "pool_width": 3, "stride": (2, 3), "pad": 1},
}


@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize("name", POOLS_WITH_CEIL)
@pytest.mark.parametrize("layer", ["max_pool", "avg_pool"])
def test_pools_with_ceil_mode(layer, name, counted, tmp_path, rng):
    """Whether a last window starts in the padding is decided here, not by the program that reads the file."""
    param = {**POOLS_WITH_CEIL[name], "ceil_mode": True}
    if layer == "avg_pool":
        param["count_include_pad"] = counted
    net = GraphNet(Graph([Node(layer, ("input",), "out", (), (param,))], output="out"), {}, (3, 7, 8))
    proto = written(net, tmp_path)
    x = rng.standard_normal((2, 3, 7, 8)).astype(np.float32)
    check_elsewhere(net, proto, x)
    read = cnnlib.onnx.load(proto)
    np.testing.assert_allclose(read.loss(x), net.loss(x), rtol=1e-6)
    with pytest.raises(ValueError, match=rf"fixed by node 'out' \({layer}\): ceil_mode, as written to ONNX"):
        read.loss(np.zeros((2, 3, 9, 9)))


@pytest.mark.parametrize(
    ("layer", "args", "reason"),
    [
        ("max_pool", ({"pool_height": 3, "pool_width": 3, "stride": 2, "pad": "same"},), "pad 'same'"),
        ("adaptive_avg_pool", (2,), r"size \(2, 2\)"),
    ],
)
def test_what_is_written_for_one_size_refuses_others(layer, args, reason, tmp_path, rng):
    net = GraphNet(Graph([Node(layer, ("input",), "out", (), args)], output="out"), {}, (3, 8, 8))
    read = cnnlib.onnx.load(written(net, tmp_path))
    x = rng.standard_normal((2, 3, 8, 8))
    np.testing.assert_allclose(read.loss(x), net.loss(x), rtol=1e-6)
    assert net.loss(np.zeros((2, 3, 9, 9))).shape[0] == 2
    with pytest.raises(ValueError, match=rf"fixed by node 'out' .*{reason}.* as written to ONNX"):
        read.loss(np.zeros((2, 3, 9, 9)))


def test_a_layer_norm_of_single_channels_is_read_again(tmp_path, rng):
    node = Node("spatial_layernorm", ("input",), "out", ("g", "b"), ({"eps": 0.125},))
    params = {"g": np.full(1, 2.0), "b": np.full(1, 0.5)}
    for size in ((7, 8), (1, 8), (1, 1)):
        net = GraphNet(Graph([node], output="out"), params, (1, *size))
        x = rng.standard_normal((2, 1, *size)).astype(np.float32)
        proto = written(net, tmp_path)
        check_elsewhere(net, proto, x)
        np.testing.assert_allclose(cnnlib.onnx.load(proto).loss(x), net.loss(x), rtol=1e-6)


@pytest.mark.parametrize("layer", ["softmax", "add", "multiply", "concat"])
def test_images_of_one_pixel_are_read_again_as_images(layer, tmp_path, rng):
    """Rows of numbers have the same numbers, but another shape."""
    nodes = [Node("max_pool", ("input",), "pixel", (), (POOL,))]
    if layer == "softmax":
        nodes.append(Node(layer, ("pixel",), "out"))
    elif layer == "concat":
        nodes.append(Node(layer, ("pixel", "pixel"), "out"))
    else:
        nodes += [Node("global_avg_pool", ("pixel",), "mean"), Node(layer, ("pixel", "mean"), "out")]
    net = GraphNet(Graph(nodes, output="out"), {}, (5, 3, 2))
    x = rng.standard_normal((2, 5, 3, 2)).astype(np.float32)
    proto = written(net, tmp_path)
    check_elsewhere(net, proto, x)
    read = cnnlib.onnx.load(proto)
    assert read.loss(x).shape == net.loss(x).shape
    np.testing.assert_allclose(read.loss(x), net.loss(x), rtol=1e-6)


def test_several_outputs_keep_names_that_parameters_have(tmp_path, rng):
    graph = Graph([Node("affine", ("input",), "W1", ("W1", None)), Node("relu", ("W1",), "b")])
    net = GraphNet(graph.cut(("b", "W1")), {"W1": rng.standard_normal((3, 4))}, 3)
    cnnlib.onnx.save(net, tmp_path / "net.onnx")
    x = rng.standard_normal((2, 3)).astype(net.dtype)
    want, again = net.loss(x), cnnlib.onnx.load(tmp_path / "net.onnx")
    assert list(again.loss(x)) == ["b", "W1"]
    proto = onnx.load(tmp_path / "net.onnx")
    assert [output.name for output in proto.graph.output] == ["b", "W1"]
    for name, scores in again.loss(x).items():
        np.testing.assert_allclose(scores, want[name], rtol=1e-5)
