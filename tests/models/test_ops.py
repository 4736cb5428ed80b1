"""Every layer is one op, and every op says all that the library needs to know."""

import importlib.util
import inspect
import pathlib

import numpy as np
import pytest
from cnnlib import layers
from cnnlib.graph.ops import FAMILIES, OPS, layers_where, op_of
from cnnlib.graph.targets import InferenceTarget, TrainingTarget
from cnnlib.models import Graph, GraphNet, Node
from cnnlib.models.spec.builder import Builder
from cnnlib.models.spec.reading import BRANCHING, KINDS, RESIDUAL
from cnnlib.onnx.reading import pointwise, quantized, views, weighted, windows
from cnnlib.onnx.reading.network import OPERATORS as READERS
from cnnlib.onnx.reading.tensors import TENSORS as TENSOR_READERS
from helpers import LAYERS, in_threads

DOCS = pathlib.Path(__file__).parents[2] / "docs"
PUBLIC = layers_where(lambda op: not (op.runs_in or op.eight_bits))
POOL = {"pool_height": 2, "pool_width": 2}
ARGUMENTS = {
    **dict.fromkeys(("conv", "conv1d", "conv3d", "conv_transpose"), ({},)),
    **dict.fromkeys(("max_pool", "avg_pool"), (POOL,)),
    **dict.fromkeys(("max_pool1d", "avg_pool1d"), ({"pool_width": 2},)),
    **dict.fromkeys(("max_pool3d", "avg_pool3d"), ({"pool_depth": 2, **POOL},)),
    **dict.fromkeys(("adaptive_avg_pool", "adaptive_max_pool", "upsample"), ((2, 3),)),
    "scale": (2,),
    **dict.fromkeys(layers_where(lambda op: op.norm), ({},)),
    "spatial_groupnorm": (2, {}),
    "dropout": ({"p": 0.5},),
    "attention": ({},),
    "transpose": ((0, 2, 1, 3),),
    "reshape": ((8, -1),),
    "slice": (1, None, 2, 2),
    "pad": (((0, 0), (1, 1), (0, 2)), "reflect", 0.0),
    "expand": ((-1, 6, 6),),
    "roll": ((1, -2), (2, 3)),
    "flip": ((1,),),
    "gather": (np.array([[0, 2]]), 1),
    "trailing_layernorm": (1e-5,),
    "power": (2.0,),
    "clip": (-0.5, 0.5),
    **dict.fromkeys(("reduce_sum", "reduce_mean", "reduce_max"), ((2,), False)),
    "where": (np.tri(6, dtype=bool)[None],),
}
ALONG_LAST = {"linear": {"w": (6, 5), "b": 5}, "trailing_layernorm": {"gamma": 6, "beta": 6}}  # of (4, 6, 6)
ROWS = ("affine", *(layer.name for layer in LAYERS if len(layer.shapes[0]) == 2))  # of (N, D)


def net_of(layer):
    """A network of one node of a layer, and an input."""
    op, rng = op_of(layer), np.random.default_rng(0)
    shape = {"1d": (4, 6), "3d": (4, 4, 6, 6)}.get(layer[-2:], (4,) if layer in ROWS else (4, 6, 6))
    C, axes = shape[0], len(shape) - 1
    w = (C, 5) if layer == "affine" else (C, C, *(3,) * axes)
    sizes = {role: w if role == "w" else C + (layer == "affine") for role in op.roles}
    sizes |= ALONG_LAST.get(layer, {})
    params = {role: rng.standard_normal(sizes[role]) for role in op.roles}
    inputs = ("input",) * (op.inputs or 2)
    graph = Graph([Node(layer, inputs, "out", op.roles, ARGUMENTS.get(layer, ()))], output="out")
    if layer == "constant":  # alone it would not depend on the input
        params["w"] = rng.standard_normal(shape)
        graph.append(Node("add", ("input", "out"), "sum"))
    return GraphNet(graph, params, shape, dtype=np.float64), rng.standard_normal((3, *shape))


def test_every_layer_has_an_op_and_every_op_stands_in_one_family():
    functions = {name.removesuffix("_forward") for name in layers.__all__ if name.endswith("_forward")}
    core_only = layers_where(lambda op: op.runs_in and "layers" not in op.runs_in)
    named = {name for name, op in OPS.items() if op.module is layers and not op.eight_bits}
    assert named - {*core_only} == functions
    listed = [op.name for family in FAMILIES for op in family.OPS]
    assert len(listed) == len(set(listed)) == len(OPS)


@pytest.mark.parametrize("layer", OPS)
def test_an_op_is_complete(layer):
    op, lacking = OPS[layer], []
    if "layers" in op.runs_in or layer in PUBLIC:
        lacking += [way for way in ("forward", "backward") if not callable(getattr(op, way, None))]
    if not op.no_naive and (op.naive is None or not all(map(callable, op.naive))):
        lacking.append("a naive twin, or no_naive")
    core = not op.runs_in or {"training", "inference"} & {*op.runs_in}
    if core and op.emit is None and not (op.not_trained and op.not_prepared):
        lacking.append("emit, or not_trained and not_prepared")
    if op.runs_in and op.parts:
        lacking += [f"the op {part}" for part in op.parts if part not in OPS]
        if op.bound is None and "inference" in op.runs_in:
            lacking.append("bound")
    if not op.runs_in:
        if (op.onnx is None) == (not op.no_onnx):
            lacking.append("either onnx or no_onnx")
        if bool(op.aten) == bool(op.no_aten):
            lacking.append("either aten or no_aten")
    if (
        op.leaves_out
        and "needs" not in inspect.signature(op.backward if layer in PUBLIC else _needs).parameters
    ):
        lacking.append("needs in its backward pass")
    if (op.weighted_axis is None) != (op.multiply_adds is None) and not op.eight_bits:
        lacking.append("weighted_axis and multiply_adds together")
    assert not lacking


def _needs(needs=None):
    """Stands for the backward pass of a fused op, whose tests try `needs`."""


@pytest.mark.parametrize("layer", PUBLIC)
def test_the_shape_rule_says_what_the_layer_makes(layer):
    net, x = net_of(layer)
    assert net.loss(x).shape[1:] == net.output_shape


@pytest.mark.parametrize("layer", PUBLIC)
def test_traits_say_what_the_layer_does(layer):
    op, (net, x) = op_of(layer), net_of(layer)
    out = net.loss(x)
    if op.elementwise or op.identity:
        assert out.shape == x.shape
    if op.elementwise:
        np.testing.assert_array_equal(net.loss(x[..., ::-1]), out[..., ::-1])
    if op.identity:
        np.testing.assert_array_equal(out, x)
    if op.selects:
        assert np.isin(out, x).all()
    if op.weighted_axis is not None:
        assert net.params["w"].shape[op.weighted_axis] == out.shape[1]
        scaled = GraphNet(
            net.graph(),
            {
                **net.params,
                "w": op.rescaled(net.params["w"], np.arange(out.shape[1]), net.graph().nodes[0].args),
            },
            net.input_dim,
            dtype=np.float64,
        )
        b = net.params["b"].reshape(-1, *(1,) * (out.ndim - 2))
        factors = np.arange(out.shape[1]).reshape(b.shape)
        np.testing.assert_allclose(scaled.loss(x) - b, (out - b) * factors, rtol=1e-9, atol=1e-9)
    assert bool(op.statistics) == bool(net.bn_params)


@pytest.mark.parametrize("layer", layers_where(lambda op: op.onnx))
def test_an_op_comes_back_from_onnx(layer, tmp_path):
    onnx = pytest.importorskip("cnnlib.onnx", reason="onnx is not installed")
    op, (net, x) = op_of(layer), net_of(layer)
    assert op.kinds_in_onnx
    assert set(op.kinds_in_onnx) <= READERS.keys() | TENSOR_READERS.keys()
    if layer[-2:] in ("1d", "3d"):
        return  # files of sequences and volumes are written, and not read
    onnx.save(net, tmp_path / "net.onnx")
    read = onnx.load(tmp_path / "net.onnx")
    np.testing.assert_allclose(read.loss(x).reshape(net.loss(x).shape), net.loss(x), rtol=1e-12, atol=1e-12)


@pytest.mark.peers
@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
def test_aten_names_are_read():
    from cnnlib.torch.aten import OPERATORS, TENSORS, elementwise, layers

    one, *others = map(set, (layers.OPERATORS, elementwise.OPERATORS, elementwise.JOINS))
    assert one.isdisjoint(others[0] | others[1])
    assert others[0].isdisjoint(others[1])
    for op in OPS.values():
        assert set(op.aten) <= OPERATORS.keys() | TENSORS.keys(), op.name


STAGES = {
    "affine": 5,
    "conv": 4,
    "conv_transpose": 4,
    "depthwise": 3,
    "groupnorm": 2,
    "dropout": 0.5,
    "scale": 2,
}


@pytest.mark.parametrize("kind", KINDS)
def test_stages_of_specs_are_built(kind):
    """By the op that has the stage, or its twin for images; for rows of numbers as for images of one row."""
    stage, owners = KINDS[kind], [op for op in OPS.values() if kind in [stage.kind for stage in op.stages]]
    assert len(owners) == (kind != RESIDUAL)
    value = None if stage.value == "none" else STAGES.get(kind, 2 if stage.by_axis else None)
    branches = [["relu"]] if kind == RESIDUAL else [[[], ["relu"]]]
    spec = [{kind: branches[0] if kind in BRANCHING else value}]
    builder = Builder((4, 6, 6), np.random.RandomState(0), None, np.float64)
    builder.walk(spec)
    assert builder.graph.nodes[-1].layer.removeprefix("spatial_") in [
        *(op.name.removeprefix("spatial_") for op in owners),
        *(["add"] if kind == RESIDUAL else []),
    ]
    if stage.by_axis or stage.size:
        sklearn = pytest.importorskip("cnnlib.sklearn.estimator", reason="scikit-learn is not installed")
        (along,) = sklearn.signal_spec(spec)
        assert (along[kind] if stage.by_axis else along["size"])[0] == 1


def test_an_operator_of_onnx_is_read_in_one_place():
    families = [family.OPERATORS for family in (pointwise, quantized, views, weighted, windows)]
    assert sum(map(len, families)) == len(READERS)


def test_tests_of_all_layers_try_each_op_of_a_layer():
    tried = {layer.name for layer in LAYERS}
    assert {name for name in PUBLIC if op_of(name).module is layers} <= tried


def test_the_page_of_caches_names_every_layer():
    text = (DOCS / "conventions.md").read_text()
    assert [name for name in PUBLIC if op_of(name).module is layers and f"`{name}" not in text] == []


def test_both_networks_in_the_core_take_the_same_calls():
    for target in (InferenceTarget, TrainingTarget):
        assert not target.__abstractmethods__


@pytest.mark.parametrize("compiled", [True, False])
def test_scores_while_another_thread_trains(compiled):
    """Training has the bits that it has alone, and scores are those of a network in test mode."""
    from cnnlib.models import ConvNet

    spec = [{"conv": 6}, "batchnorm", "relu", {"dropout": 0.5}, {"conv": 6}, "batchnorm", "relu"]
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((8, 2, 9, 9)), rng.integers(3, size=8)

    def made():
        net = ConvNet(spec, (2, 9, 9), 3, dtype=np.float64, seed=0)
        net._program.in_core = compiled
        return net

    def trained(net):
        found = []
        for _ in range(60):
            loss, grads = net.loss(X, y)
            found += [loss, *(grad.copy() for grad in grads.values())]
        return found, [dict(bn_param) for bn_param in net.bn_params]

    alone, watched, scores = trained(made()), made(), []
    steady = made()  # the weights stay, so that only mode, masks and statistics could be mixed up
    images = [steady.loss(X)]
    for _ in range(60):
        steady.loss(X, y)
        images.append(steady.loss(X))

    def score():
        for _ in range(100):
            scores.append(watched.loss(X))

    results = []
    work = lambda: results.append(trained(watched)), score, score
    in_threads(3, lambda k: work[k]())
    (losses, statistics), (want, wanted) = results[0], alone
    for got, expected in zip(losses, want, strict=True):
        np.testing.assert_array_equal(got, expected)
    for got, expected in zip(statistics, wanted, strict=True):
        for name, array in expected.items():
            np.testing.assert_array_equal(got[name], array)
    for found in scores:
        assert any(np.array_equal(found, possible) for possible in images)
