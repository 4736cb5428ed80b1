"""
Training steps that the core runs by itself have the bits of the layers' functions, one after the other.

The same networks in every run; with `HYPOTHESIS_EXAMPLES=2000` set it searches on.
"""

import copy

import cnnlib
import numpy as np
import pytest
from cnnlib import _core
from cnnlib.graph.compile import CompiledGraph
from cnnlib.graph.ops import layers_where
from cnnlib.graph.targets import TrainingTarget
from cnnlib.layers import mse_loss
from cnnlib.models import NAMED_SPECS, ConvNet, FullyConnectedNet, Graph, GraphNet, Node, ThreeLayerConvNet
from cnnlib.models.losses import Loss

pytest.importorskip("hypothesis", reason="hypothesis is not installed")
from helpers import in_threads
from hypothesis import event, given
from hypothesis import strategies as st
from random_networks import IMAGES, graph_nets, outcome
from random_networks import STAGES as COMMON_STAGES
from strategies import examples
from training import interpreted

pytestmark = [pytest.mark.smoke, pytest.mark.threads]

prop = examples(150)

STAGES = [
    *COMMON_STAGES,
    *("relu6", "softmax", "sigmoid", {"adaptive_avg_pool": 2}, {"upsample": (1, 2)}),
    {"residual": [{"conv": 3, "bias": False}, "batchnorm", "relu", {"conv": 3}, "batchnorm"]},
    {"conv": 3, "frozen": True},
    {"conv": 3, "frozen": "filters"},
]
NETWORKS = {
    "three layers": lambda dtype: ThreeLayerConvNet((3, 8, 8), 4, 3, 5, 10, dtype=dtype, seed=0),
    "fully connected": lambda dtype: FullyConnectedNet(
        [6, 5], (3, 8, 8), 10, 0.4, reg=0.1, dtype=dtype, seed=0, normalization="batchnorm"
    ),
    **{
        name: lambda dtype, name=name: ConvNet(NAMED_SPECS[name], (3, 8, 8), 10, dtype=dtype, seed=0)
        for name in ("vgg-small", "resnet8", "mobile-small", "unet")
    },
}


def compiled(model, X):
    """Whether the core runs the model's steps by itself."""
    _, caches = model._program.forward(model._run(True), X)
    assert (model.executor == "compiled") == isinstance(caches[0], CompiledGraph)
    return isinstance(caches[0], CompiledGraph)


def bits(model, X, y, **options):
    """Of the loss, its gradients and the running statistics of two steps."""
    found = []
    np.random.seed(0)  # what dropout without a seed draws from
    for _ in range(2):
        loss, grads = model.loss(X, y, **options)
        arrays = {"loss": np.float64(loss), **grads}
        for i, bn_param in enumerate(model.bn_params):
            arrays |= {f"{name} {i}": bn_param[name] for name in ("running_mean", "running_var")}
        found.append({name: (array.dtype, array.shape, array.tobytes()) for name, array in arrays.items()})
        for name, grad in grads.items():
            model.params[name] = model.params[name] - grad.dtype.type(0.01) * grad
    return found


def minibatch(model, N, rng):
    X = rng.standard_normal((N, *np.atleast_1d(model.arguments["input_dim"]))).astype(model.dtype)
    scores = model.loss(X)
    return X, rng.integers(scores.shape[1], size=(N, *scores.shape[2:]))


@pytest.mark.parametrize("name", NETWORKS)
def test_named_networks(name, dtype, rng):
    model = NETWORKS[name](dtype)
    X, y = minibatch(model, 3, rng)
    assert bits(model, X, y) == bits(interpreted(NETWORKS[name](dtype)), X, y)
    assert compiled(model, X)


@prop
@given(
    st.lists(st.sampled_from(STAGES), max_size=5),
    st.sampled_from(
        [[], ["global_avg_pool"], [{"affine": 4}, "batchnorm", "relu"], [{"affine": 4}, "layernorm"]]
    ),
    st.sampled_from(IMAGES),
    st.sampled_from([np.float32, np.float64]),
    st.integers(1, 4),
)
def test_random_networks(stages, end, shape, dtype, N):
    try:
        model = ConvNet(stages + end, shape, 3, dtype=dtype, seed=1)
    except ValueError:  # layers that do not fit each other
        return
    X, y = minibatch(model, N, np.random.default_rng(N))
    twin = interpreted(model)
    assert bits(model, X, y) == bits(twin, X, y)
    assert compiled(model, X)


@prop
@given(graph_nets(), st.integers(1, 3))
def test_random_graphs(net, N):
    rng = np.random.default_rng(N)
    X = rng.standard_normal((N, *np.atleast_1d(net.arguments["input_dim"]))).astype(net.dtype)
    targets = rng.standard_normal(net.loss(X).shape).astype(net.dtype)
    twin, loss = interpreted(net), {"loss": mse_loss}
    outcomes = [outcome(lambda X, model=model: bits(model, X, targets, **loss), X) for model in (net, twin)]
    assert outcomes[0] == outcomes[1]
    event(f"compiled: {compiled(net, X)}")


def chain(*nodes):
    graph = Graph()
    for place, (layer, names, args) in enumerate(nodes, start=1):
        graph.append(Node(layer, (graph.output,), f"{layer}{place}", names, args))
    return graph


CONV = {"stride": 1, "pad": 1}


def small_net(rng, dtype=np.float32):
    graph = chain(
        ("conv", ("W1", "b1"), (dict(CONV),)),
        ("spatial_batchnorm", ("gamma1", "beta1"), ({"mode": "train"},)),
        ("relu", (), ()),
        ("affine", ("W2", "b2"), ()),
    )
    shapes = {"W1": (4, 2, 3, 3), "b1": (4,), "gamma1": (4,), "beta1": (4,), "W2": (4 * 30, 3), "b2": (3,)}
    params = {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}
    return GraphNet(graph, params, (2, 6, 5), dtype=dtype)


def test_images_of_two_sizes(rng):
    net = ConvNet([{"conv": 3}, "batchnorm", "relu", "global_avg_pool"], (2, 6, 5), 3, seed=0)
    twin = interpreted(net)
    for size in ((6, 5), (9, 11), (6, 5)):
        X, y = rng.standard_normal((2, 2, *size)).astype(np.float32), np.array([0, 2])
        assert bits(net, X, y) == bits(twin, X, y)
    assert compiled(net, X)
    assert len(net._program._trained) == 2


@pytest.mark.parametrize("change", ["strided", "dtype of a parameter", "no images"])
def test_what_the_core_does_not_run_the_layers_do(change, rng):
    net = small_net(rng)
    X, y = rng.standard_normal((4, 2, 6, 5)).astype(np.float32), np.array([0, 1, 2, 0])
    net.loss(X, y)
    twin = interpreted(net)
    if change == "strided":
        X, y = X[::-2], y[::-2]
    elif change == "dtype of a parameter":
        for model in (net, twin):
            model.params["W2"] = model.params["W2"].astype(np.float64)
    else:
        X, y = X[:0], y[:0]
    assert bits(net, X, y) == bits(twin, X, y)


@pytest.mark.parametrize("frozen", [("W1", "b1"), ("b1",), ("W1", "b1", "gamma1", "beta1"), ("W2", "b2")])
def test_frozen_parameters(frozen, rng):
    X, y = rng.standard_normal((4, 2, 6, 5)).astype(np.float32), np.array([0, 1, 2, 0])
    net = small_net(rng)
    net.freeze(*frozen)
    twin = interpreted(net)
    for _ in range(2):
        (loss, grads), (expected_loss, expected) = net.loss(X, y), twin.loss(X, y)
        assert loss == expected_loss
        assert grads.keys() == expected.keys() == net.params.keys() - {*frozen}
        for name, grad in grads.items():
            np.testing.assert_array_equal(grad, expected[name])
    assert compiled(net, X) == ("gamma1" not in frozen)


def test_shared_parameters_run_layer_by_layer(rng):
    graph = chain(
        ("affine", ("W", "b"), ()), ("relu", (), ()), ("affine", ("W", "b"), ()), ("affine", ("W", None), ())
    )
    params = {"W": rng.standard_normal((3, 3)), "b": rng.standard_normal(3)}
    shared = GraphNet(graph, params, (3,), dtype=np.float64)
    assert not compiled(shared, rng.standard_normal((4, 3)))


def test_norms_that_share_running_statistics_move_them_one_after_the_other(rng):
    graph = chain(("affine", ("W", "b"), ()))
    graph.append(Node("batchnorm", (graph.output,), "one", ("g1", "h1"), ({},), "", "shared"))
    graph.relu()
    graph.append(Node("batchnorm", (graph.output,), "two", ("g2", "h2"), ({},), "", "shared"))
    shapes = {"W": (3, 3), "b": 3, "g1": 3, "h1": 3, "g2": 3, "h2": 3}
    params = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    net = GraphNet(graph, params, (3,), dtype=np.float64)
    X, y, twin = rng.standard_normal((4, 3)), np.array([0, 1, 2, 0]), interpreted(net)
    assert len(net.bn_params) == 1
    assert bits(net, X, y) == bits(twin, X, y)


def test_a_new_algorithm_of_convolution_counts_at_once(rng):
    net = ConvNet([{"conv": 16}, {"conv": 16}], (3, 16, 16), 3, seed=0)
    X, y = minibatch(net, 2, rng)
    twin = interpreted(net)
    for algorithm in ("winograd", "direct"):
        cnnlib.set_conv_algorithm(algorithm)
        try:
            assert bits(net, X, y) == bits(twin, X, y)
        finally:
            cnnlib.set_conv_algorithm("auto")


def sums_of_sums(rng, outputs):
    """A net whose values are read again and again, sums of others among them."""
    graph = Graph()
    for layer, inputs, out in (
        ("affine", ("input",), "a"),
        ("sigmoid", ("a",), "b"),
        ("add", ("a", "b"), "c"),
        ("add", ("c", "a"), "d"),
        ("add", ("d", "b"), "e"),
        ("relu", ("e",), "f"),
    ):
        graph.append(Node(layer, inputs, out, ("W", "b") if layer == "affine" else ()))
    graph.outputs = outputs
    params = {"W": rng.standard_normal((4, 3)), "b": rng.standard_normal(3)}
    return GraphNet(graph, params, (4,), dtype=np.float64, losses=dict.fromkeys(outputs, "mse"))


@pytest.mark.parametrize("outputs", [("f",), ("a", "c", "f")], ids=len)
def test_gradients_of_values_that_are_read_again(outputs, rng):
    net = sums_of_sums(rng, outputs)
    X, twin = rng.standard_normal((5, 4)), interpreted(net)
    targets = {name: rng.standard_normal((5, 3)) for name in net.outputs}
    assert bits(net, X, targets) == bits(twin, X, targets)
    assert compiled(net, X)


def test_given_gradients_stay_as_they_were(rng):
    net = sums_of_sums(rng, ("a", "c", "f"))
    outputs, caches = net._program.forward(net._run(True), rng.standard_normal((5, 4)))
    douts = {name: np.ones_like(value) for name, value in outputs.items()}
    net._program.backward(douts, caches, {})
    for dout in douts.values():
        np.testing.assert_array_equal(dout, 1)


def test_a_batch_goes_back_once(rng):
    net = small_net(rng)
    X = rng.standard_normal((2, 2, 6, 5)).astype(np.float32)
    scores, caches = net._program.forward(net._run(True), X)
    net._program.backward(np.ones_like(scores), list(caches), {})
    with pytest.raises(ValueError, match="loss: the batch was taken back before"):
        net._program.backward(np.ones_like(scores), list(caches), {})
    scores, caches = net._program.forward(net._run(True), X)
    with pytest.raises(
        ValueError, match=r"loss: the gradient of the output must have shape \(2, 3\), got \(3, 3\)"
    ):
        net._program.backward(np.ones((3, 3), np.float32), list(caches), {})


def test_scores_and_given_arrays_stay_as_they_were(rng):
    net = small_net(rng)
    X = rng.standard_normal((2, 2, 6, 5)).astype(np.float32)
    scores, caches = net._program.forward(net._run(True), X)
    dout = np.ones_like(scores)
    before = [array.copy() for array in (scores, dout, X, *net.params.values())]
    net._program.backward(dout, caches, {})
    del caches
    for array, copied in zip((scores, dout, X, *net.params.values()), before, strict=True):
        np.testing.assert_array_equal(array, copied)


@pytest.mark.parametrize("last", ["sigmoid", "tanh", "relu"])
def test_a_criterion_may_write_to_the_scores(last, rng):
    def in_place(scores, y):
        value = float(np.mean(scores * y))
        scores[...] = y
        scores /= y.size
        return value, scores

    graph = chain(("affine", ("W", "b"), ()), (last, (), ()))
    params = {"W": rng.standard_normal((5, 4)), "b": rng.standard_normal(4)}
    net = GraphNet(graph, params, (5,), dtype=np.float64)
    X, y = rng.standard_normal((3, 5)), rng.standard_normal((3, 4))
    twin = interpreted(net)
    assert bits(net, X, y, loss=in_place) == bits(twin, X, y, loss=in_place)


def refusal(call):
    try:
        return repr(call())
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def without(name):
    def change(net):
        del net.params[name]

    return change


def norm_of(**options):
    return lambda net: net.bn_params[0].update(options)


FAULTS = {
    "a deleted parameter": without("W2"),
    "eps": norm_of(eps=-1.0),
    "an unknown key": norm_of(epsilon=1.0),
    "running_mean": norm_of(running_mean=np.zeros(3)),
    "a list for running_mean": norm_of(running_mean=[0.0, 1.0, 2.0, 3.0]),
    "a list for a parameter": lambda net: net.params.update(b2=[0.0, 1.0, 2.0]),
    "masked values": lambda net: net.params.update(b2=np.ma.masked_less(np.float32([0, 1, 2]), 1)),
    "None for a bias": lambda net: net.params.update(b2=None),
}


@pytest.mark.parametrize(
    "mistake", [AttributeError, IndexError, KeyError, LookupError, TypeError, ValueError]
)
def test_mistakes_of_ours_are_not_taken_for_what_the_core_cannot_run(mistake, rng, monkeypatch):
    def emit(self, node, bound):
        raise mistake("a mistake")

    monkeypatch.setattr(TrainingTarget, "affine", emit)
    with pytest.raises(mistake, match="a mistake"):
        small_net(rng).loss(np.ones((2, 2, 6, 5), np.float32), np.array([0, 1]))


def multiplied(rng):
    graph = chain(("conv", ("W", None), (CONV,)), ("sigmoid", (), ()))
    graph.append(Node("multiply", ("conv1", "sigmoid2"), "swish"))
    return GraphNet(graph, {"W": rng.standard_normal((3, 2, 3, 3))}, (2, 6, 5))


def spread(rng):
    graph = chain(("conv", ("W", None), (CONV,)), ("global_avg_pool", (), ()))
    graph.append(Node("add", ("conv1", "global_avg_pool2"), "sum"))
    return GraphNet(graph, {"W": rng.standard_normal((3, 2, 3, 3))}, (2, 6, 5))


def shared_norms(rng):
    graph = Graph()
    for out, names in (("one", ("g", "h")), ("two", ("k", "l"))):
        graph.append(Node("spatial_batchnorm", (graph.output,), out, names, ({},), "", "shared"))
    return GraphNet(graph, {name: np.ones(2) for name in "ghkl"}, (2, 6, 5))


def shared_weights(rng):
    graph = chain(("conv", ("W", None), (CONV,)), ("relu", (), ()), ("conv", ("W", None), (CONV,)))
    return GraphNet(graph, {"W": rng.standard_normal((2, 2, 3, 3))}, (2, 6, 5))


def frozen_norm(rng):
    net = small_net(rng)
    net.freeze("beta1")
    return net


def with_parameter(change):
    def make(rng):
        net = small_net(rng)
        net.params["W2"] = change(net.params["W2"])
        return net

    return make


INTERPRETED = {
    "a layer of Python": (multiplied, "node 'swish' (multiply) is computed in Python"),
    "a sum over planes": (spread, "node 'sum' (add) spreads values over images"),
    "norms that share statistics": (
        shared_norms,
        "node 'two' (spatial_batchnorm) has the running statistics of node 'one' (spatial_batchnorm)",
    ),
    "layers that share weights": (
        shared_weights,
        "node 'conv3' (conv) has the parameter 'W' of node 'conv1' (conv)",
    ),
    "a frozen norm": (frozen_norm, "node 'spatial_batchnorm2' (spatial_batchnorm) has frozen parameters"),
    "no layers": (lambda rng: GraphNet(Graph(), {}, (2, 6, 5)), "it has no layers"),
    "another dtype": (
        with_parameter(lambda w: w.astype(np.float64)),
        "the parameter 'W2' of node 'affine4' (affine) has dtype float64, the samples float32",
    ),
    "another order": (
        with_parameter(np.asfortranarray),
        "the parameter 'W2' of node 'affine4' (affine) is not C-contiguous and aligned",
    ),
    "a list": (
        with_parameter(np.ndarray.tolist),
        "the parameter 'W2' of node 'affine4' (affine) is a list, and no plain array",
    ),
}


@pytest.mark.parametrize("case", INTERPRETED)
def test_a_network_says_once_why_it_is_not_compiled(case, rng, caplog):
    make, why = INTERPRETED[case]
    net = make(rng)
    X = rng.standard_normal((2, 2, 6, 5)).astype(np.float32)
    y = net.loss(X)
    assert not caplog.records
    for batch in (slice(2), slice(1), slice(2)):
        net.loss(X[batch], y[batch], loss=mse_loss)
    (record,) = caplog.records
    said = f"GraphNet: its layers are trained one by one, not compiled into one: {why}"
    assert (record.name, record.levelname, record.getMessage()) == ("cnnlib", "WARNING", said)
    assert net._program.why_interpreted == [why]
    assert net.executor == f"layers: {why}"


def test_a_network_that_is_compiled_says_nothing(rng, caplog):
    for name in NETWORKS:
        model = NETWORKS[name](np.float32)
        X, y = minibatch(model, 3, rng)
        for batch in (X[:0], X[:2], X):
            model.loss(batch, y[: len(batch)])
    assert not caplog.records


TRAINED = layers_where(
    lambda op: (
        op.inputs == 1 and not (op.runs_in or op.not_trained or op.norm or op.weighted_axis is not None)
    )
)


def arguments(layer):
    """Arguments of a layer without arrays."""
    if layer in ("max_pool", "avg_pool"):
        return (WINDOW,)
    if layer == "dropout":
        return ({"p": 0.3},)
    return (2,) if layer in ("upsample", "adaptive_avg_pool", "adaptive_max_pool", "scale") else ()


@pytest.mark.parametrize("layer", TRAINED)
def test_the_core_trains_the_layers_that_it_is_called_for(layer, rng):
    graph = chain(("conv", ("W", None), (CONV,)), (layer, (), arguments(layer)))
    net = GraphNet(graph, {"W": rng.standard_normal((3, 2, 3, 3))}, (2, 6, 5))
    X = rng.standard_normal((2, 2, 6, 5)).astype(np.float32)
    y = rng.standard_normal(net.loss(X).shape).astype(np.float32)
    twin = interpreted(net)
    assert bits(net, X, y, loss=mse_loss) == bits(twin, X, y, loss=mse_loss)
    assert compiled(net, X)


def test_statistics_of_norms_whose_branches_cross(rng):
    """The norm of the first convolution stands behind that of the second, and is compiled before it."""
    graph = Graph()
    for k in "ab":
        graph.append(Node("conv", ("input",), f"conv_{k}", (f"W_{k}", None), (CONV,)))
    for k in "ba":
        norm = {"mode": "train", "momentum": 0.5 if k == "a" else 0.25}
        graph.append(Node("spatial_batchnorm", (f"conv_{k}",), f"norm_{k}", (f"g_{k}", f"h_{k}"), (norm,)))
        graph.append(Node("relu", (f"norm_{k}",), f"relu_{k}"))
    graph.append(Node("add", ("relu_a", "relu_b"), "sum"))
    shapes = {"W": (4, 2, 3, 3), "g": (4,), "h": (4,)}
    params = {f"{name}_{k}": rng.standard_normal(shape) for name, shape in shapes.items() for k in "ab"}
    net = GraphNet(graph, params, (2, 6, 5))
    X = rng.standard_normal((2, 2, 6, 5)).astype(np.float32)
    y = rng.standard_normal((2, 4, 6, 5)).astype(np.float32)
    twin = interpreted(net)
    assert bits(net, X, y, loss=mse_loss) == bits(twin, X, y, loss=mse_loss)
    net.loss(X, y, loss=mse_loss)
    assert net._program.why_interpreted == []


@pytest.mark.parametrize("after_a_step", [False, True])
@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_told_as_by_the_layers(fault, after_a_step, rng):
    net = small_net(rng)
    X, y = rng.standard_normal((4, 2, 6, 5)).astype(np.float32), np.array([0, 1, 2, 0])
    if after_a_step:
        net.loss(X, y)
    twin = interpreted(net)
    for model in (net, twin):
        FAULTS[fault](model)
    assert refusal(lambda: net.loss(X, y)) == refusal(lambda: twin.loss(X, y))


def ending_in(layer, rng, dtype):
    """A network of maps of which a layer makes the output; what joins values reads one value twice."""
    graph = chain(("conv", ("W1", "b1"), (CONV,)))
    names, args = ENDINGS[layer]
    inputs = ("conv1", "conv1") if layer in ("add", "multiply", "concat") else ("conv1",)
    graph.append(Node(layer, inputs, "end", names, args))
    shapes = {"W1": (4, 2, 3, 3), "b1": (4,), "W2": (3, 4, 3, 3), "gamma": (4,), "beta": (4,), "W": (120, 3)}
    used = {name for node in graph for name in node.params}
    params = {name: rng.standard_normal(shape) for name, shape in shapes.items() if name in used}
    return GraphNet(graph, params, (2, 6, 5), dtype=dtype)


WINDOW = {"pool_height": 2, "pool_width": 2}
ENDINGS = {
    "conv": (("W2", None), (CONV,)),
    "affine": (("W", None), ()),
    "spatial_batchnorm": (("gamma", "beta"), ({"mode": "train"},)),
    "spatial_groupnorm": (("gamma", "beta"), (2, {})),
    "max_pool": ((), (WINDOW,)),
    "avg_pool": ((), (WINDOW,)),
    "upsample": ((), (2,)),
    "dropout": ((), ({"p": 0.5, "mode": "train"},)),
    "scale": ((), (0.5,)),
    **dict.fromkeys(("add", "multiply", "concat", "flatten", "relu", "sigmoid", "softmax"), ((), ())),
    "global_avg_pool": ((), ()),
}
GRADIENTS = {
    "Fortran order": np.asfortranarray,
    "float32": lambda dout: dout.astype(np.float32),
    "float64": lambda dout: dout.astype(np.float64),
    "float16": lambda dout: dout.astype(np.float16),
    "integers": lambda dout: np.rint(3 * dout).astype(int),
    "bytes": lambda dout: np.rint(abs(dout)).astype(np.uint8),
    "booleans": lambda dout: dout > 0,
    "another byte order": lambda dout: dout.astype(dout.dtype.newbyteorder()),
    "every second column": lambda dout: np.repeat(dout, 2, -1)[..., ::2],
    "backwards": lambda dout: dout[::-1],
    "one number": lambda dout: np.broadcast_to(dout[:1], dout.shape),
    "lists": lambda dout: dout.tolist(),
}


@pytest.mark.parametrize("layer", ENDINGS)
@pytest.mark.parametrize("form", GRADIENTS)
def test_gradients_of_a_criterion_come_in_any_form(form, layer, dtype, rng):
    net = ending_in(layer, rng, dtype)
    X = rng.standard_normal((4, 2, 6, 5)).astype(dtype)
    y = rng.standard_normal(net.loss(X).shape)

    def plain(scores, y):
        return 1.0, np.array(GRADIENTS[form](y.astype(dtype)), dtype, order="C")

    twins = [copy.deepcopy(net), interpreted(net), interpreted(net)]
    wanted = bits(net, X, y, loss=plain)
    for twin in twins[:2]:
        assert bits(twin, X, y, loss=lambda scores, y: (1.0, GRADIENTS[form](y.astype(dtype)))) == wanted
    assert (
        bits(twins[2], X, y, loss=Loss(lambda scores, y: (1.0, GRADIENTS[form](y.astype(dtype))))) == wanted
    )


@pytest.mark.parametrize("form", GRADIENTS)
def test_gradients_of_several_outputs_come_in_any_form(form, rng):
    net = sums_of_sums(rng, ("a", "c", "f"))
    X = rng.standard_normal((5, 4))
    gradients = {name: rng.standard_normal(value.shape) for name, value in net.loss(X).items()}

    def criterion(outputs, y):
        return 1.0, {name: GRADIENTS[form](dout) for name, dout in reversed(gradients.items())}

    net.criterion = criterion
    twin = interpreted(net)
    assert bits(net, X, X) == bits(twin, X, X)


WRONG_GRADIENTS = {
    "turned": (lambda scores: scores.T, ValueError, r"must have shape \(2, 3\), got \(3, 2\)"),
    "flat": (lambda scores: scores.ravel(), ValueError, r"must have shape \(2, 3\), got \(6,\)"),
    "a number": (lambda scores: 1.0, ValueError, r"must have shape \(2, 3\), got \(\)"),
    "None": (lambda scores: None, TypeError, "must be an array, got None"),
    "complex": (lambda scores: scores + 0j, TypeError, "must be real, got dtype complex64"),
    "text": (lambda scores: [["a"] * 3] * 2, TypeError, "must be real, got dtype <U1"),
    "objects": (lambda scores: scores.astype(object), TypeError, "must be real, got dtype object"),
    "ragged": (lambda scores: [[1.0], [1.0, 2.0]], ValueError, "is not an array"),
}


@pytest.mark.parametrize("path", [lambda net: net, interpreted], ids=["compiled", "interpreted"])
@pytest.mark.parametrize("case", WRONG_GRADIENTS)
def test_gradients_of_a_criterion_have_the_shape_of_the_scores(case, path, rng):
    dout, error, message = WRONG_GRADIENTS[case]
    net = path(small_net(rng))
    X = rng.standard_normal((2, 2, 6, 5)).astype(np.float32)
    with pytest.raises(error, match=f"^loss: the gradient of the output {message}"):
        net.loss(X, X, loss=lambda scores, y: (1.0, dout(scores)))
    with pytest.raises(error, match=f"^Solver: loss: the gradient of the scores {message}"):
        net.loss(X, X, loss=Loss(lambda scores, y: (1.0, dout(scores))))


@pytest.mark.parametrize("path", [lambda net: net, interpreted], ids=["compiled", "interpreted"])
@pytest.mark.parametrize(
    ("gradients", "error", "message"),
    [
        ({"c": np.ones((5, 4))}, ValueError, r"the gradient of the output 'c' must have shape \(5, 3\)"),
        ({"f": np.ones((5, 3)) + 0j}, TypeError, "the gradient of the output 'f' must be real"),
        ({"g": np.ones((5, 3))}, ValueError, "unknown key 'g' in the gradients of the outputs"),
        (np.ones((5, 3)), TypeError, "the gradients of the outputs must be a dict, got ndarray"),
        (None, TypeError, "the gradients of the outputs must be a dict, got NoneType"),
    ],
    ids=["shape", "complex", "unknown", "an array", "None"],
)
def test_wrong_gradients_of_several_outputs(gradients, error, message, path, rng):
    net = path(sums_of_sums(rng, ("a", "c", "f")))
    net.criterion = lambda outputs, y: (1.0, gradients)
    X = rng.standard_normal((5, 4))
    with pytest.raises(error, match=f"^loss: {message}"):
        net.loss(X, X)


def test_a_criterion_returns_a_pair(rng):
    net = small_net(rng)
    X = rng.standard_normal((2, 2, 6, 5)).astype(np.float32)
    with pytest.raises(TypeError, match=r"GraphNet: loss must return a pair .* got 1\.0"):
        net.loss(X, X, loss=lambda scores, y: 1.0)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_timed_step_has_the_bits_of_another(name, rng):
    """Of what the core trains, the times are of its operations; else of the layers' functions."""
    model = NETWORKS[name](np.float32)
    X, y = minibatch(model, 3, rng)
    for net in (model, interpreted(model)):
        twin = copy.deepcopy(net)
        loss, grads = net.loss(X, y)
        timed_loss, timed_grads, times = twin.timed_loss(X, y)
        assert (timed_loss, times.loss > 0) == (loss, True)
        assert list(timed_grads) == list(grads)
        for name, grad in grads.items():
            np.testing.assert_array_equal(timed_grads[name], grad)
        for layer in times.layers:
            assert layer.forward > 0, layer.name
            assert layer.shape[0] == 3
        assert times.layers[0].shape == X.shape
        assert times.layers[-1].backward > 0
    assert compiled(model, X)


def test_what_is_frozen_has_no_time_on_the_way_back(rng):
    net = small_net(rng)
    net.freeze("W1", "b1")
    X, y = rng.standard_normal((4, 2, 6, 5)).astype(np.float32), np.array([0, 1, 2, 0])
    for model in (net, interpreted(net)):
        model.params["gamma1"], model.params["beta1"] = np.ones((2, 4), np.float32)
        *_, times = model.timed_loss(X, y)
        assert [layer.name for layer in times.layers] == ["conv + spatial_batchnorm + relu", "affine"]
        assert times.layers[0].backward > 0
    net.freeze("*1")
    *_, times = net.timed_loss(X, y)
    assert times.layers[0].forward > 0
    assert times.layers[0].backward == 0


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_come_in_the_order_of_the_parameters(name, rng):
    """Both ways back go from the last layer to the first, each in its own steps."""
    model = NETWORKS[name](np.float32)
    X, y = minibatch(model, 3, rng)
    for net in (model, interpreted(model)):
        assert list(net.loss(X, y)[1]) == list(net.params)


def test_an_output_without_a_gradient_of_its_own(rng):
    net = sums_of_sums(rng, ("a", "c", "f"))
    X = rng.standard_normal((5, 4))
    for left_out in ("c", "a", "f"):
        found = []
        for model in (net, interpreted(net)):
            outputs, caches = model._program.forward(model._run(True), X)
            douts = {name: np.ones_like(value) for name, value in outputs.items() if name != left_out}
            grads = {}
            model._program.backward(douts, caches, grads)
            found.append({name: grad.tobytes() for name, grad in grads.items()})
        assert found[0] == found[1]


@pytest.mark.parametrize("stride", [1, [1, 1], np.array([1, 1])], ids=repr)
@pytest.mark.parametrize("change", ["replaced", "by an array", "in its place"])
def test_a_node_copies_its_options(stride, change, rng):
    """What becomes of the user's dict counts no more; the node's own refuses changes."""
    X, y = rng.standard_normal((2, 2, 6, 5)).astype(np.float32), np.array([0, 1])
    param = {"stride": copy.copy(stride), "pad": 1}
    graph = chain(("conv", ("W", "b"), (param,)), ("global_avg_pool", (), ()))
    params = {"W": rng.standard_normal((3, 2, 3, 3)).astype(np.float32), "b": np.zeros(3, np.float32)}
    net = GraphNet(graph, params, (2, 6, 5))
    before = bits(net, X, y)
    if change == "in its place" and np.ndim(stride):
        param["stride"][1] = 2
    else:
        param["stride"] = np.array([2, 2]) if change == "by an array" else 2
    other = GraphNet(graph, params, (2, 6, 5))
    assert bits(other, X, y) == bits(interpreted(GraphNet(graph, params, (2, 6, 5))), X, y) == before
    assert compiled(net, X)
    held = net.graph().nodes[0].args[0]
    with pytest.raises(TypeError, match="options of a node do not change"):
        held["stride"] = 2
    if isinstance(held["stride"], np.ndarray):
        with pytest.raises(ValueError, match="read-only"):
            held["stride"][1] = 2


def test_a_parameter_of_a_new_shape_makes_a_new_program(rng):
    net = small_net(rng)
    X, y = rng.standard_normal((2, 2, 6, 5)).astype(np.float32), np.array([0, 1])
    net.loss(X, y)
    net.params["W2"], net.params["b2"] = np.ones((120, 5), np.float32), np.zeros(5, np.float32)
    assert net.loss(X, y)[1]["W2"].shape == (120, 5)
    assert compiled(net, X)


def test_as_many_programs_as_sizes_in_use(rng):
    net = ConvNet([{"conv": 2}, "global_avg_pool"], (1, 6, 6), 3, seed=0)
    for size in range(3, 30):
        net.loss(np.ones((1, 1, size, size), np.float32), np.array([0]))
    assert len(net._program._trained) == 16


def test_a_network_without_layers(rng):
    net = GraphNet(Graph(), {}, (3,), dtype=np.float64)
    value, grads = net.loss(np.ones((2, 3)), np.array([0, 2]))
    assert value == pytest.approx(np.log(3))
    assert grads == {}


def test_outputs_outlive_the_batch_and_are_nobody_elses(rng):
    graph = Graph()
    graph.append(Node("affine", ("input",), "a", ("W", "b")))
    graph.append(Node("flatten", ("input",), "f"))
    graph.outputs = ("f", "a")
    params = {"W": rng.standard_normal((4, 3)), "b": rng.standard_normal(3)}
    net = GraphNet(graph, params, (4,), dtype=np.float64, losses=dict.fromkeys(graph.outputs, "mse"))
    X = rng.standard_normal((5, 4))
    outputs, caches = net._program.forward(net._run(True), X)
    assert isinstance(caches[0], CompiledGraph)
    assert not np.shares_memory(outputs["f"], X)
    del caches
    np.testing.assert_array_equal(outputs["f"], X)


def test_results_beyond_any_array_are_refused():
    core = _core.Training(np.dtype("f8"), [4, 2**54], [False, True], [], [], [()])
    core.adaptive_avg_pool(0, 1, LIKE, (2**27, 2**27))
    with pytest.raises(ValueError, match="loss: a result that is too large"):
        core.forward(np.ones((512, 4)), [], [], [], [])


def test_many_python_threads_on_one_model(rng):
    net = ConvNet([{"conv": 4}, "relu", {"max_pool": 2}], (2, 8, 8), 3, seed=0)
    batches = [minibatch(net, N, rng) for N in (1, 2, 3, 4)]
    expected = [bits(interpreted(net), *batch)[:1] for batch in batches]
    found = [None] * len(batches)

    def work(i):
        loss, grads = net.loss(*batches[i])
        found[i] = [
            {name: (a.dtype, a.shape, a.tobytes()) for name, a in {"loss": np.float64(loss), **grads}.items()}
        ]

    for _ in range(20):
        in_threads(len(batches), work)
        assert found == expected


X, PARAMS = np.ones((2, 4)), (np.ones((4, 4)), np.ones(4))
LIKE, WEIGHTS = np.empty((0, 1, 2, 2)), np.ones((3, 1, 1, 1))
NORM = 1e-5, 0.9, np.zeros(4), np.ones(4)
RELU = np.empty((0, 4)), "relu", 0.0


def program(
    sizes=(4, 4, 4), params=((4, 4), (4,)), done=((0,), ()), trained=(True, True), wanted=(True,) * 3
):
    return _core.Training(np.dtype("f8"), sizes, wanted, params, trained, done)


def run(core, x=X, params=PARAMS, norms=(), masks=(), outputs=((2, [4]),)):
    core.forward(x, params, norms, masks, outputs)


REFUSED = {
    "another size": lambda: program((4, 5, 4)).activation(0, 1, *RELU),
    "no such value": lambda: program().activation(0, 3, *RELU),
    "a negative value": lambda: program().activation(-1, 1, *RELU),
    "a value before it is made": lambda: program().activation(1, 2, *RELU),
    "a value made again": lambda: program().activation(0, 0, *RELU),
    "a value that was released": lambda: (
        (core := program()).activation(0, 1, *RELU) or core.activation(0, 2, *RELU)
    ),
    "a layer too many": lambda: (
        (core := program(done=[()])).activation(0, 1, *RELU) or core.activation(1, 2, *RELU)
    ),
    "release of no value": lambda: program(done=[(9,)]),
    "no values": lambda: program(()),
    "a value of less than nothing": lambda: program((4, -1, 4)),
    "which are trained": lambda: program(trained=[True]),
    "which gradients are wanted": lambda: program(wanted=[True]),
    "weights of another size": lambda: program().affine(0, 1, 4, 4, 1, 1, False),
    "no such parameter": lambda: program().affine(0, 1, 4, 4, 2, 1, False),
    "no weights": lambda: program().affine(0, 1, 4, 4, -1, 1, False),
    "a convolution's output": lambda: program().conv(0, 1, LIKE, WEIGHTS, 0, -1, {}, False, True),
    "a transposed convolution's ReLU": lambda: program(
        (4, 4), ((1, 1, 1, 1),), ((0,),), (True,), (True,) * 2
    ).conv_transpose(*(0, 1, LIKE, WEIGHTS[:1], 0, -1, {}, True, True)),
    "groups": lambda: program().row_norm(0, 1, (3, 1, 1, 4, 1), 1, 1, 1e-5),
    "pixels": lambda: program().row_norm(0, 1, (4, 1, 1, 1, 2), 1, 1, 1e-5),
    "rows of more channels": lambda: program((8, 8, 8)).row_norm(0, 1, (1, 8, 1, 4, 1), 1, 1, 1e-5),
    "a norm that is frozen": lambda: program(trained=(True, False)).batchnorm(0, 1, 4, 1, 1, 1, False),
    "parts of another sum": lambda: program((4, 3, 4)).concat([0, 0], 1),
    "layers missing": lambda: run(program()),
    "an upsampling": lambda: program().upsample(0, 1, LIKE, (2**40, 1), False, False),
}
CALLS = {
    "samples": {"x": np.ones((2, 5))},
    "no samples": {"x": np.ones((0, 4))},
    "parameters of another dtype": {"params": (np.ones((4, 4), np.float32), np.ones(4))},
    "parameters of another shape": {"params": (np.ones((4, 3)), np.ones(4))},
    "a parameter that is no array": {"params": (np.ones((4, 4)), 1.0)},
    "no norms": {"norms": ()},
    "norms of other channels": {"norms": [(1e-5, 0.9, np.zeros(3), np.ones(4))]},
    "no masks": {"masks": ()},
    "a mask of another size": {"masks": [np.ones((2, 3))]},
    "an output that was released": {"outputs": [(0, [4])]},
    "an output of another shape": {"outputs": [(2, [5])]},
}


@pytest.mark.parametrize("name", REFUSED)
def test_layers_that_do_not_fit_are_refused(name):
    with pytest.raises(ValueError, match="loss"):
        REFUSED[name]()


@pytest.mark.parametrize("name", CALLS)
def test_calls_that_do_not_fit_are_refused(name):
    core = program()
    core.batchnorm(0, 1, 4, 1, 1, 1, False)
    core.dropout(1, 2)
    fitting = {"norms": [NORM], "masks": [np.ones((2, 4))]}
    run(core, **fitting)
    with pytest.raises(ValueError, match="loss"):
        run(core, **fitting | CALLS[name])


def one_layer():
    core = program((4, 4), done=[()], wanted=[True, True])
    core.activation(0, 1, *RELU)
    return core


def test_one_value_as_two_outputs():
    _, (first, second), _ = one_layer().forward(X, PARAMS, [], [], [(1, [4]), (1, [4])])
    np.testing.assert_array_equal(first, X)
    np.testing.assert_array_equal(second, X)
    assert not np.shares_memory(first, second)


@pytest.mark.parametrize(
    "douts", [[(9, np.ones((2, 4)))], [(-1, np.ones((2, 4)))], [(1, np.ones((2, 3)))], []], ids=str
)
def test_gradients_that_do_not_fit_are_refused(douts):
    core = one_layer()
    batch, _, _ = core.forward(X, PARAMS, [], [], [(1, [4])])
    with pytest.raises(ValueError, match="loss"):
        core.backward(batch, douts)


def test_a_batch_belongs_to_its_network():
    core, other = one_layer(), one_layer()
    batch, _, _ = core.forward(X, PARAMS, [], [], [(1, [4])])
    with pytest.raises(ValueError, match="loss: a batch of another network"):
        other.backward(batch, [(1, X)])
