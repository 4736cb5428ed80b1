"""Cutting a trained network, a new head on it, parameters that are not trained."""

import numpy as np
import pytest
from cnnlib import layers, load
from cnnlib.gradient_check import grad_check_sparse
from cnnlib.models import ConvNet, Graph, GraphNet, Node
from cnnlib.solver import Solver
from training import interpreted

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((6, 3, 16, 16)), np.arange(6) % 3


def net(dtype=np.float64):
    model = ConvNet("resnet8", (3, 16, 16), 5, dtype=dtype, seed=0)
    model.loss(X, Y)  # so that running statistics are no longer 0 and 1
    return model


def test_a_cut_computes_what_the_classifier_reads():
    whole = net()
    trunk = whole.cut()
    scores = trunk.loss(X) @ whole.params["W10"] + whole.params["b10"]
    np.testing.assert_allclose(scores, whole.loss(X), rtol=1e-12, atol=1e-14)
    assert trunk.num_classes == 64
    assert "W10" not in trunk.params


def test_a_cut_shares_nothing():
    whole = net()
    before = whole.loss(X)
    model = whole.cut().with_head(3, seed=0)
    for array in model.params.values():
        array += 1
    model.loss(X, Y)
    np.testing.assert_array_equal(whole.loss(X), before)


def test_a_node_is_found_by_its_value_or_label():
    graph = Graph(
        [Node("relu", ("input",), "a", (), (), "first"), Node("relu", ("a",), "b", (), (), "twice")]
    )
    graph.append(Node("relu", ("b",), "c", (), (), "twice"))
    assert graph.cut("first").output == "a"
    with pytest.raises(ValueError, match="2 nodes are called 'twice': b, c"):
        graph.cut("twice")
    with pytest.raises(ValueError, match=r"there is no node 'fist'; .*'a', 'b', 'c'"):
        graph.cut("fist")
    with pytest.raises(ValueError, match="no affine layer to cut before; name a node: 'a', 'b', 'c'"):
        graph.cut()


def test_heads_behind_images_see_the_means_of_channels():
    trunk = net().cut("relu10")
    model = trunk.with_head(4, hidden=7, seed=1)
    assert model.params["W_head1"].shape == (trunk.loss(X).shape[1], 7)
    hidden = np.maximum(trunk.loss(X).mean(axis=(2, 3)) @ model.params["W_head1"], 0)
    np.testing.assert_allclose(model.loss(X), hidden @ model.params["W_head2"], rtol=1e-12, atol=1e-15)


def test_heads_behind_sequences_see_all_numbers():
    graph = Graph()
    graph.conv1d("W", pad=1)
    trunk = GraphNet(graph, {"W": RNG.standard_normal((4, 2, 3))}, (2, 5), dtype=np.float64)
    model, x = trunk.with_head(3, seed=0), RNG.standard_normal((6, 2, 5))
    want = trunk.loss(x).reshape(6, 20) @ model.params["W_head1"]
    np.testing.assert_allclose(model.loss(x), want, rtol=1e-12, atol=1e-15)


def test_heads_on_heads_have_names_of_their_own():
    model = net().cut().with_head(8, seed=0).with_head(3, seed=0)
    assert {"W_head1", "W_head2"} <= model.params.keys()
    assert model.loss(X).shape == (6, 3)


def test_heads_have_free_names():
    graph = Graph([Node("affine", ("input",), "head2", ("W", "b_head3"))], output="head2")
    assert [node.output for node in graph.with_head(3, hidden=4)][1::2] == ["head1", "head4"]


def test_norms_that_share_their_statistics_still_do_in_a_cut():
    nodes = [Node("batchnorm", ("input",), "a", ("g", "h"), ({},))]
    nodes += [Node("relu", ("a",), "b"), Node("batchnorm", ("b",), "c", ("g", "h"), ({},), statistics="a")]
    whole = GraphNet(Graph(nodes, output="c"), {"g": np.ones(3), "h": np.zeros(3)}, 3, dtype=np.float64)
    model = whole.cut("c")
    assert len(model.bn_params) == 1
    assert model.bn_params[0] is not whole.bn_params[0]
    x = np.random.default_rng(0).standard_normal((5, 3))
    targets = np.zeros((5, 3))
    for net in (whole, model):
        net.loss(x, targets, "mse")
    np.testing.assert_array_equal(model.loss(x), whole.loss(x))


def test_frozen_layers_have_no_gradient_and_no_dx(monkeypatch):
    model = net().cut().with_head(3, seed=0)
    backwards = []

    def watch(name, function):
        def counted(dout, *args, **options):
            backwards.append((name, list(options.get("needs") or [])))
            return function(dout, *args, **options)

        monkeypatch.setattr(layers, name, counted)

    for name in [name for name in layers.__all__ if name.endswith("_backward")]:
        watch(name, getattr(layers, name))
    interpreted(model).loss(X, Y)
    everything = len(backwards)
    model.freeze("W[0-9]*", "gamma*", "beta*")
    backwards.clear()
    _, grads = interpreted(model).loss(X, Y)
    assert list(grads) == ["W_head1", "b_head1"]
    assert backwards == [("affine_backward", ["dw", "db"])]
    assert everything > 10


def test_gradients_of_what_still_learns_are_right():
    model = net().cut().with_head(3, seed=0)
    model.freeze(*(name for name in model.params if name not in ("W9", "W_head1", "b_head1")))
    _, grads = model.loss(X, Y)
    assert set(grads) == {"W9", "W_head1", "b_head1"}
    np.random.seed(0)  # grad_check_sparse draws the places
    for name in grads:
        worst = grad_check_sparse(lambda _: model.loss(X, Y)[0], model.params[name], grads[name], h=1e-6)
        assert max(worst) < 1e-4  # of gradients down to 1e-5


def test_frozen_batch_norms_rest():
    model = net().cut().with_head(3, seed=0)
    model.freeze("gamma*", "beta*")
    before = [(p["running_mean"].copy(), p["running_var"].copy()) for p in model.bn_params]
    loss, _ = model.loss(X, Y)
    for param, (mean, var) in zip(model.bn_params, before, strict=True):
        np.testing.assert_array_equal(param["running_mean"], mean)
        np.testing.assert_array_equal(param["running_var"], var)
    scores = model.loss(X)
    assert abs(loss - layers.softmax_loss(scores, Y)[0]) < 1e-12


def test_a_norm_that_learns_a_part_does_not_rest():
    model = net()
    model.freeze("gamma*")
    before = model.bn_params[0]["running_mean"].copy()
    model.loss(X, Y)
    assert not np.array_equal(before, model.bn_params[0]["running_mean"])


def test_training_leaves_what_is_frozen_alone():
    model = net(np.float32).cut().with_head(3, seed=0)
    model.freeze("W[0-9]*", "gamma*", "beta*")
    before = {name: value.copy() for name, value in model.params.items()}
    data = {"X_train": X, "y_train": Y, "X_val": X, "y_val": Y}
    Solver(model, data, update_rule="adam", num_epochs=3, verbose=False, seed=0, keep="last").train()
    changed = [name for name, value in model.params.items() if not np.array_equal(value, before[name])]
    assert changed == ["W_head1", "b_head1"]


@pytest.mark.parametrize("make", [net, lambda: net().cut().with_head(3, seed=0)])
def test_files_know_what_is_frozen(tmp_path, make):
    model = make()
    model.freeze("W1", "gamma1", "beta1")
    model.save(tmp_path / "net.npz")
    loaded = load(tmp_path / "net.npz")
    assert loaded.frozen == model.frozen == ("W1", "gamma1", "beta1")
    np.testing.assert_array_equal(loaded.loss(X), model.loss(X))


def test_a_pattern_that_fits_nothing_is_refused():
    with pytest.raises(ValueError, match=r"no parameter is called 'gama1'; did you mean 'gamma1'\?"):
        net().freeze("gama1")
    with pytest.raises(TypeError, match="must be a str, got 1"):
        net().freeze(1)
