"""
Scores of models, `loss(X)`, run compiled, with the bits of the layers' functions in test mode.

The same networks in every run; with `HYPOTHESIS_EXAMPLES=2000` set it searches on.
"""

import copy
import pickle
import sys

import cnnlib
import numpy as np
import pytest
from cnnlib import _core
from cnnlib.layers import mse_loss
from cnnlib.models import NAMED_SPECS, ConvNet, FullyConnectedNet, Graph, GraphNet, Node, ThreeLayerConvNet
from cnnlib.models.program import Step

pytest.importorskip("hypothesis", reason="hypothesis is not installed")
from helpers import in_threads
from hypothesis import given
from hypothesis import strategies as st
from random_networks import graph_nets, outcome
from strategies import examples
from training import assert_same_bits, interpreted

prop = examples(150)
CONV = {"stride": 1, "pad": 1}
DENSE = {"concat": [[], ["batchnorm", "relu", {"conv": 12}]]}
EXCITE = {"multiply": [[], ["global_avg_pool", {"affine": 4}, "relu", {"affine": 15}, "sigmoid"]]}
RESIDUAL = {"residual": [{"conv": 8}, "relu", {"conv": 8}]}
SPECS = {
    **NAMED_SPECS,
    "dropout": [
        {"conv": 6},
        "batchnorm",
        "relu",
        {"dropout": 0.5},
        {"conv": 6, "stride": 2},
        {"dropout": 0.2},
    ],
    "norms": [{"conv": 8}, {"groupnorm": 2}, "silu", {"depthwise": 3}, "layernorm", "gelu", "instancenorm"],
    "joins": [DENSE, EXCITE, DENSE, {"max_pool": 2}, {"conv": 40}, "batchnorm", "relu"],
    "sums without norms": [{"conv": 8}, RESIDUAL, "relu", RESIDUAL, "relu"],
}
NETWORKS = {
    "three-layer": lambda dtype: ThreeLayerConvNet((3, 16, 16), dtype=dtype, seed=0),
    "fully connected": lambda dtype: FullyConnectedNet(
        [6, 5], (3, 16, 16), 10, 0.4, dtype=dtype, seed=0, normalization="batchnorm"
    ),
    **{
        name: lambda dtype, spec=spec: ConvNet(spec, (3, 16, 16), 10, dtype=dtype, seed=0)
        for name, spec in SPECS.items()
    },
}


def made(name, dtype):
    net = NETWORKS[name](dtype)
    if not net.is_initialized():
        net.initialize(samples(net, 50))
    return net


def samples(model, N, seed=0):
    dim = np.atleast_1d(model.arguments["input_dim"])
    return np.random.default_rng(seed).standard_normal((N, *dim)).astype(model.dtype)


@pytest.fixture
def no_steps(monkeypatch):
    """No layer runs by itself."""

    def refuse(self, *args):
        raise AssertionError(f"{self.node.title} ran in Python")

    monkeypatch.setattr(Step, "scores", refuse)
    monkeypatch.setattr(Step, "forward", refuse)


@pytest.mark.parametrize("name", NETWORKS)
def test_scores_have_the_bits_of_the_layers(name, dtype, isa):
    """Before a step and after it: with other weights, and statistics that are not 0 and 1."""
    net = made(name, dtype)
    for N in (1, 7, 7):
        X = samples(net, N)
        scores = net.loss(X)
        assert_same_bits(scores, interpreted(net).loss(X))
        net.loss(X, scores, loss=mse_loss)
        for w in net.params.values():
            w += 0.05  # biases are 0 at first


@pytest.mark.parametrize("name", NETWORKS)
def test_no_layer_of_scores_runs_in_python(name, no_steps):
    net = made(name, np.float32)
    assert net.scores_executor == "compiled"
    net.loss(samples(net, 2))


@prop
@given(graph_nets(), st.integers(0, 3))
def test_random_graphs(net, N):
    X = samples(net, N, seed=N)
    outcomes = [outcome(lambda X, model=model: model.loss(X), X) for model in (net, interpreted(net))]
    assert_same_bits(*outcomes)


def small_net(dtype=np.float64):
    spec = [
        {"conv": 4},
        "batchnorm",
        "relu",
        {"conv": 3, "size": 1},
        {"groupnorm": 1},
        {"affine": 5},
        "classes",
    ]
    return ConvNet(spec, (2, 6, 5), 3, dtype=dtype, seed=0)


@pytest.mark.parametrize("how", ["in place", "another array"])
@pytest.mark.parametrize("name", small_net().params)
def test_a_changed_parameter_counts_at_once(name, how):
    net, X = small_net(), samples(small_net(), 3)
    before = net.loss(X)
    assert_same_bits(net.loss(X), before)
    place = (-1,) * net.params[name].ndim
    if how == "another array":
        net.params[name] = net.params[name].copy()
    net.params[name][place] += 0.5
    got = net.loss(X)
    assert_same_bits(got, interpreted(net).loss(X))
    assert not np.array_equal(got, before)


@pytest.mark.parametrize("change", [{"running_mean": 0.5}, {"running_var": 2.0}, {"eps": 0.1}], ids=str)
def test_changed_statistics_count_at_once(change):
    net, X = small_net(), samples(small_net(), 3)
    before = net.loss(X)
    ((name, value),) = change.items()
    if name == "eps":
        net.bn_params[0][name] = value
    else:
        net.bn_params[0][name][1] = value
    got = net.loss(X)
    assert_same_bits(got, interpreted(net).loss(X))
    assert not np.array_equal(got, before)


def test_a_parameter_of_a_new_shape_or_dtype(rng):
    net, X = small_net(np.float32), samples(small_net(np.float32), 3)
    net.loss(X)
    for name in list(net.params)[-2:]:  # five classes instead of three
        shape = (*net.params[name].shape[:-1], 5)
        net.params[name] = rng.standard_normal(shape).astype(np.float32)
    assert net.loss(X).shape == (3, 5)
    assert_same_bits(net.loss(X), interpreted(net).loss(X))
    net.params["W1"] = net.params["W1"].astype(np.float64)
    assert net.scores_executor.startswith("layers: the parameter 'W1' of node ")
    assert_same_bits(net.loss(X), interpreted(net).loss(X))


def test_another_method_or_instruction_set_counts_at_once(rng):
    net = ConvNet([{"conv": 16}, {"conv": 16}], (3, 16, 16), 3, seed=0)
    X, isa = samples(net, 2), _core.active_isa()
    try:
        for algorithm in ("winograd", "direct"):
            cnnlib.set_conv_algorithm(algorithm)
            assert_same_bits(net.loss(X), interpreted(net).loss(X))
        for name in _core.available_isas():
            _core.use_isa(name)
            assert_same_bits(net.loss(X), interpreted(net).loss(X))
    finally:
        cnnlib.set_conv_algorithm("auto")
        _core.use_isa(isa)


def shared_weights(rng):
    graph = Graph()
    for place, layer in enumerate(("conv", "relu6", "conv")):
        params = ("W", None) if layer == "conv" else ()
        graph.append(Node(layer, (graph.output,), f"v{place}", params, (CONV,) if params else ()))
    return GraphNet(graph, {"W": rng.standard_normal((2, 2, 3, 3))}, (2, 6, 5))


def shared_norms(rng):
    graph = Graph()
    for out, names in (("one", ("g", "h")), ("two", ("k", "l"))):
        graph.append(Node("spatial_batchnorm", (graph.output,), out, names, ({},), "", "shared"))
    return GraphNet(graph, {name: rng.standard_normal(2) for name in "ghkl"}, (2, 6, 5))


def frozen_norm(rng):
    net = small_net(np.float32)
    net.freeze("beta1")
    return net


def spread(rng):
    nodes = [
        Node("conv", ("input",), "maps", ("W", None), (CONV,)),
        Node("global_avg_pool", ("maps",), "means"),
        Node("add", ("maps", "means"), "sum"),
        Node("scale", ("sum",), "scaled", (), (-0.5,)),
    ]
    return GraphNet(Graph(nodes, output="scaled"), {"W": rng.standard_normal((3, 2, 3, 3))}, (2, 6, 5))


def several_outputs(rng):
    nodes = [
        Node("conv", ("input",), "maps", ("W", "b"), (CONV,)),
        Node("dropout", ("maps",), "dropped", (), ({"p": 0.5},)),
        Node("relu", ("dropped",), "behind"),
        Node("flatten", ("maps",), "rows"),
    ]
    graph = Graph(nodes, outputs=("rows", "dropped", "behind"))
    params = {"W": rng.standard_normal((3, 2, 3, 3)), "b": rng.standard_normal(3)}
    return GraphNet(graph, params, (2, 6, 5), losses=["mse"] * 3)


NOT_TRAINED_BY_THE_CORE = [shared_weights, shared_norms, frozen_norm, spread]


@pytest.mark.parametrize("make", [*NOT_TRAINED_BY_THE_CORE, several_outputs])
def test_graphs_of_their_own(make, rng, monkeypatch):
    net = make(rng)
    X = samples(net, 3)
    wanted = interpreted(net).loss(X)
    if make is not several_outputs:
        assert net.executor.startswith("layers: ")
    assert net.scores_executor == "compiled"
    monkeypatch.setattr(Step, "scores", None)
    assert_same_bits(net.loss(X), wanted)


def test_what_the_core_has_no_operation_for_runs_in_python(rng, caplog):
    graph = Graph([Node("conv1d", ("input",), "maps", ("W", None), ({},))], output="maps")
    net = GraphNet(graph, {"W": rng.standard_normal((3, 2, 3))}, (2, 6))
    assert net.scores_executor == "layers: node 'maps' (conv1d) is computed in Python"
    assert net.loss(samples(net, 2)).shape == (2, 3, 4)
    assert not caplog.records


@pytest.mark.parametrize("net", [GraphNet(Graph(), {}, (2, 3, 4)), ConvNet([], (2, 3, 4), 3, seed=0)])
def test_scores_are_arrays_of_their_own(net):
    X = samples(net, 2)
    first = net.loss(X)
    kept = first.copy()
    assert not np.shares_memory(first, X)
    first[...] = 7
    assert_same_bits(net.loss(X), kept)


def refusal(call):
    try:
        return call().tobytes()
    except (KeyError, TypeError, ValueError) as error:
        return f"{type(error).__name__}: {error}"


def without(name):
    return lambda net: net.params.pop(name)


def norm_of(**options):
    return lambda net: net.bn_params[0].update(options)


FAULTS = {
    "a deleted parameter": without("W2"),
    "eps": norm_of(eps=-1.0),
    "an unknown key": norm_of(epsilon=1.0),
    "running_mean": norm_of(running_mean=np.zeros(3)),
    "a list for running_mean": norm_of(running_mean=[0.0, 1.0, 2.0, 3.0]),
    "no running_var": lambda net: net.bn_params[0].pop("running_var"),
    "another shape": lambda net: net.params.update(W1=np.ones((4, 3, 3, 3))),
    "a list for a parameter": lambda net: net.params.update(b2=[0.0, 1.0, 2.0]),
    "masked values": lambda net: net.params.update(b2=np.ma.masked_less([0.0, 1.0, 2.0], 1)),
    "None for a bias": lambda net: net.params.update(b2=None),
    "Fortran order": lambda net: net.params.update(W1=np.asfortranarray(net.params["W1"])),
}


@pytest.mark.parametrize("after_a_call", [False, True])
@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_told_as_by_the_layers(fault, after_a_call):
    net = small_net()
    X = samples(net, 2)
    if after_a_call:
        net.loss(X)
    twin = interpreted(net)
    for model in (net, twin):
        FAULTS[fault](model)
    assert refusal(lambda: net.loss(X)) == refusal(lambda: twin.loss(X))


def test_a_step_releases_the_packed_weights():
    net = small_net()
    X = samples(net, 4)
    net.loss(X)
    _, weights = net._program._weights
    assert isinstance(weights, _core.Weights)
    held = sys.getrefcount(weights)
    net.loss(X, np.array([0, 1, 2, 0]))
    assert sys.getrefcount(weights) == held - 1


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_copies_of_a_model_that_gave_scores(copied):
    net = small_net()
    X = samples(net, 2)
    scores, twin = net.loss(X), copied(net)
    twin.params["W1"] *= 2
    assert_same_bits(net.loss(X), scores)
    assert not np.array_equal(twin.loss(X), scores)


def test_scores_while_another_thread_replaces_the_weights():
    """Each call has the filters of one moment, whatever the calls beside it packed."""
    net = ConvNet([{"conv": 16, "bias": False}, "global_avg_pool"], (3, 12, 12), 3, dtype=np.float64, seed=0)
    X, filters = samples(net, 2), []
    for factor in (1.0, 2.0, 3.0):
        filters.append(factor * net.params["W1"])
    possible = []
    for w in filters:
        net.params["W1"] = w
        possible.append(net.loss(X))
    found = []

    def replace():
        for k in range(300):
            net.params["W1"] = filters[k % 3]
            net.loss(X, np.array([0, 1])) if k % 50 == 0 else None

    def score():
        for _ in range(150):
            found.append(net.loss(X))

    work = replace, score, score
    in_threads(3, lambda k: work[k]())
    assert len(found) == 300
    for scores in found:
        assert any(np.array_equal(scores, each) for each in possible)


# What the core's program refuses ---------------------------------------------------------------------------

LIKE, W, X = np.empty((0, 2, 3, 3)), np.ones((2, 2, 3, 3)), np.ones((1, 2, 3, 3))
C = np.ones(2)
NORM = 1e-5, np.zeros(2), np.ones(2)
ROOM = 18 * 8  # bytes
VALUES = [(0, ROOM, 0), (2, ROOM, 0), (1, ROOM, 0)]


def live(with_steps=True):
    program = _core.Program(np.dtype("f8"), VALUES, ROOM, ROOM, ROOM, True)
    if with_steps:
        program.conv("", 0, 1, LIKE, W, None, CONV, False, None)
        program.normalize("", 1, 2, 9, None, None, C, C, None)
    return program


def weights_of(program, params=(W, C, C), norms=(NORM,), before=None):
    return program.weights(params, norms, before)


REFUSED = {
    "other norms": lambda: weights_of(live(), norms=()),
    "norms of other channels": lambda: weights_of(live(), norms=[(1e-5, np.zeros(3), np.ones(3))]),
    "fewer parameters": lambda: weights_of(live(), (W, C)),
    "a parameter of another shape": lambda: weights_of(live(), (W, C, np.ones(3))),
    "a parameter of another dtype": lambda: weights_of(live(), (W.astype("f4"), C, C)),
    "a parameter that is no array": lambda: weights_of(live(), (W, C, 1.0)),
    "weights of another program": lambda: live().scores(X, weights_of(live()), [1, 18]),
    "weights of before of another": lambda: weights_of(live(), before=weights_of(live())),
    "other samples": lambda: (p := live()).scores(np.ones((1, 17)), weights_of(p), [1, 18]),
    "another result": lambda: (p := live()).scores(X, weights_of(p), [1, 17]),
    "no weights": lambda: live().run(X, [1, 18]),
    "statistics of its own": lambda: live().normalize("", 0, 1, 9, C, C, C, C, None),
    "no statistics": lambda: _core.Program(np.dtype("f8"), VALUES, ROOM, ROOM, ROOM).normalize(
        "", 0, 1, 9, None, None, C, C, None
    ),
    "weights of a prepared program": lambda: weights_of(
        _core.Program(np.dtype("f8"), VALUES, ROOM, ROOM, ROOM)
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_calls_that_do_not_fit_are_refused(name):
    with pytest.raises(ValueError, match=r"loss: |prepare: "):
        REFUSED[name]()


@pytest.mark.parametrize("use", ["scores", "before"])
def test_weights_of_before_a_step_was_added_are_refused(use):
    program = live()
    weights = weights_of(program)
    program.conv("", 1, 2, LIKE, W, None, CONV, False, None)
    calls = {
        "scores": lambda: program.scores(X, weights, [1, 18]),
        "before": lambda: weights_of(program, (W, C, C, W), before=weights),
    }
    with pytest.raises(ValueError, match="loss: weights of another network"):
        calls[use]()


def test_weights_keep_their_program_and_their_arrays():
    program = live()
    weights = weights_of(program, (W.copy(), C.copy(), C.copy()))
    wanted = program.scores(X, weights, [1, 18])
    again = weights_of(program, before=weights)
    del weights
    assert_same_bits(program.scores(X, again, [1, 18]), wanted)
