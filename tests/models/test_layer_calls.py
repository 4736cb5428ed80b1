"""Graphs by keyword: ``graph.conv("W1", pad=1)``."""

import copy
import inspect
import pickle

import graph_stub
import numpy as np
import pytest
from cnnlib.graph.layer_calls import callable_layers
from cnnlib.graph.ops import OPS
from cnnlib.models import Graph, GraphNet, Node


def begun():
    """A graph of two values, `first` and `second`."""
    graph = Graph()
    graph.conv("W1", "b1", pad=1, name="first")
    graph.relu(name="second")
    return graph


def last(graph):
    return graph.nodes[-1]


class TestNodes:
    def test_names_options_and_what_is_read(self):
        graph = Graph()
        assert graph.conv("W1", pad=1, stride=(2, 1)) == "conv1"
        assert last(graph) == Node("conv", ("input",), "conv1", ("W1", None), ({"pad": 1, "stride": (2, 1)},))
        assert graph.conv("W2", "b2", x="input", name="other", label="a conv") == "other"
        assert last(graph) == Node("conv", ("input",), "other", ("W2", "b2"), ({},), "a conv")
        assert graph.relu() == "relu3"
        assert last(graph) == Node("relu", ("other",), "relu3")
        assert graph.add("conv1", "relu3") == graph.output == "add4"
        assert last(graph).inputs == ("conv1", "relu3")
        assert graph.concat("add4", "add4", "relu3", name="all") == "all"
        assert last(graph).inputs == ("add4", "add4", "relu3")

    def test_parameters_by_keyword(self):
        graph = Graph()
        graph.conv(w="W", b="b")
        assert last(graph).params == ("W", "b")
        graph.spatial_batchnorm("gamma", beta="beta")
        assert last(graph).params == ("gamma", "beta")

    def test_options_of_every_form(self):
        graph = begun()
        for call, args in (
            (lambda: graph.max_pool(size=2, stride=1), ({"size": 2, "stride": 1},)),
            (lambda: graph.avg_pool(pool_height=2, pool_width=3), ({"pool_height": 2, "pool_width": 3},)),
            (lambda: graph.adaptive_avg_pool(size=1), (1,)),
            (lambda: graph.leaky_relu(alpha=0.2), (0.2,)),
            (lambda: graph.leaky_relu(), (0.01,)),
            (lambda: graph.gelu(approximate="tanh"), ("tanh",)),
            (lambda: graph.scale(factor=3), (3,)),
            (lambda: graph.upsample(scale=2, align_corners=True), (2, "nearest", True)),
            (lambda: graph.dropout(p=0.3), ({"p": 0.3},)),
            (lambda: graph.spatial_groupnorm("g", "h", G=2, eps=1e-3), (2, {"eps": 1e-3})),
            (lambda: graph.layernorm("g", "h"), ({},)),
            (lambda: graph.spatial_batchnorm("g", "h", momentum=0.5), ({"momentum": 0.5},)),
        ):
            call()
            assert last(graph).args == args

    def test_shared_statistics(self):
        graph = Graph()
        graph.batchnorm("g", "h", name="one")
        graph.batchnorm("g", "h", statistics="one")
        assert last(graph).statistics_of == "one"

    def test_names_that_are_taken_by_others(self):
        graph = Graph()
        graph.relu(name="relu2")
        assert graph.relu() == "relu2.2"

    def test_a_network_of_them(self):
        rng = np.random.default_rng(0)
        graph = Graph()
        start = graph.conv("W1", pad=1)
        graph.relu()
        graph.conv("W2", "b2", pad=1)
        graph.add(graph.output, start)
        graph.max_pool(size=2)
        graph.affine("W3")
        shapes = {"W1": (4, 1, 3, 3), "W2": (4, 4, 3, 3), "b2": 4, "W3": (16, 3)}
        net = GraphNet(graph, {name: rng.standard_normal(shape) for name, shape in shapes.items()}, (1, 4, 4))
        assert net.executor == "compiled"
        loss, grads = net.loss(np.ones((2, 1, 4, 4)), [0, 2])
        assert np.isfinite(loss)
        assert grads.keys() == shapes.keys()

    def test_a_node_without_its_dict_has_an_empty_one(self):
        graph = Graph()
        graph.conv("W1", name="a")
        for args in ((), (None,), ({},)):
            assert Node("conv", ("input",), "a", ("W1", None), args) == last(graph)
        with pytest.raises(ValueError, match="pool_param"):
            Node("max_pool", ("input",), "a").arguments()

    def test_copies_and_pickles(self):
        graph = begun()
        assert copy.deepcopy(graph) == pickle.loads(pickle.dumps(graph)) == graph


class TestRefused:
    @pytest.mark.parametrize(
        ("call", "error", "message"),
        [
            (lambda g: g.conw("W"), AttributeError, "no layer or attribute 'conw'; did you mean 'conv'"),
            (lambda g: g.conv_relu("W"), AttributeError, "no layer or attribute 'conv_relu'"),
            (lambda g: g.byte_conv("W"), AttributeError, "no layer or attribute 'byte_conv'"),
            (lambda g: g._conv, AttributeError, "'_conv'"),
            (lambda g: g.conv(), TypeError, r"Graph\.conv: needs the names of w, b, and lacks w"),
            (lambda g: g.conv("W", padding=1), ValueError, r"Graph\.conv: .*'padding'.* did you mean 'pad'"),
            (lambda g: g.max_pool(kernel_size=1), ValueError, r"Graph\.max_pool: .* did you mean 'size'"),
            (lambda g: g.conv("W", mode="test"), ValueError, "unknown key 'mode' in options"),
            (lambda g: g.batchnorm("g", "h", mode="test"), ValueError, "unknown key 'mode' in options"),
            (lambda g: g.dropout(), KeyError, r"Graph\.dropout: options lacks 'p'"),
            (lambda g: g.scale(), KeyError, r"Graph\.scale: options lacks 'factor'"),
            (
                lambda g: g.conv("W", "b", "c"),
                TypeError,
                r"takes the names of w, b, got 'W', 'b', 'c'; say",
            ),
            (lambda g: g.conv("W", w="W"), TypeError, r"takes the names of w, b, got 'W', w='W'"),
            (lambda g: g.relu("first"), TypeError, r"Graph\.relu: has no parameters, got 'first'; say x="),
            (lambda g: g.leaky_relu(0.1), TypeError, r"are given by their names, got 0\.1"),
            (lambda g: g.conv(np.ones(3)), TypeError, r"are given by their names, got array"),
            (lambda g: g.batchnorm("g"), TypeError, "needs the names of gamma, beta, and lacks beta"),
            (lambda g: g.batchnorm("g", None), TypeError, "lacks beta"),
            (lambda g: g.conv("W", x="frst"), ValueError, "there is no value 'frst'; did you mean 'first'"),
            (lambda g: g.add("first"), TypeError, r"Graph\.add: needs the names of 2 values, got 'first'"),
            (lambda g: g.add("first", "second", "first"), TypeError, "needs the names of 2 values"),
            (lambda g: g.add("first", "nothing"), ValueError, "there is no value 'nothing'"),
            (lambda g: g.add("first", "second", x="first"), TypeError, "needs the names of 2 values"),
            (lambda g: g.add("first", None), TypeError, "needs the names of 2 values"),
            (lambda g: g.concat("first"), TypeError, "needs the names of two or more values"),
            (lambda g: g.relu(name="first"), ValueError, "name: there is a value 'first' already"),
            (lambda g: g.relu(name="input"), ValueError, "name: there is a value 'input' already"),
            (lambda g: g.relu(statistics="first"), TypeError, "statistics is for batch norms"),
        ],
    )
    def test_names_and_options(self, call, error, message):
        graph = begun()
        with pytest.raises(error, match=message):
            call(graph)
        assert graph == begun()


class TestEveryOp:
    def test_is_a_method_with_a_signature(self):
        graph = begun()
        for name in callable_layers():
            assert name in dir(graph)
            signature = inspect.signature(getattr(graph, name))
            assert {"name", "label"} <= signature.parameters.keys(), name
            assert repr(getattr(graph, name)).startswith(f"<Graph.{name}(")
            assert getattr(graph, name).__doc__.startswith(f"{name}(")
        assert (
            str(inspect.signature(graph.conv))
            .replace("'", "")
            .startswith("(w: str, b: str | None = None, *, stride")
        )

    def test_hides_nothing(self):
        """No layer has the name of a graph's attribute, and no option that of a keyword of all layers."""
        own = set(object.__dir__(begun()))
        for name in callable_layers():
            assert name not in own
            assert not {"x", "name", "label", "statistics", *OPS[name].roles} & OPS[name].options.keys()

    def test_stands_in_the_stub(self):
        """Else ``python tests/graph_stub.py`` writes it."""
        assert graph_stub.PATH.read_text() == graph_stub.text()
