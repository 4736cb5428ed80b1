"""Specs and names as other libraries have them: what is understood, and what messages say."""

import copy
import pickle

import cnnlib
import numpy as np
import pytest
from cnnlib.models import ConvNet, FullyConnectedNet


class TestTheLastLayer:
    @pytest.mark.parametrize("ending", [[], ["classes"], [{"classes": 5}]])
    def test_may_stand_in_the_spec(self, ending):
        X = np.random.default_rng(0).standard_normal((3, 2, 6, 6)).astype(np.float32)
        want = ConvNet([{"conv": 4}, "relu", *ending], (2, 6, 6), 5, seed=0)
        net = ConvNet([{"conv": 4}, "relu", {"affine": 5}, *ending], (2, 6, 6), 5, seed=0)
        assert list(net.params) == ["W1", "b1", "W2", "b2"]
        np.testing.assert_array_equal(net.loss(X), want.loss(X))

    def test_with_options(self):
        net = ConvNet([{"conv": 4}, "relu", {"affine": 5, "bias": False}], (2, 6, 6), 5, seed=0)
        assert list(net.params) == ["W1", "b1", "W2"]

    def test_of_another_size_stays_a_stage(self):
        net = ConvNet([{"conv": 4}, "relu", {"affine": 7}], (2, 6, 6), 5, seed=0)
        assert net.params["W3"].shape == (7, 5)

    @pytest.mark.parametrize("softmax", ["softmax", {"softmax": None}])
    def test_is_no_softmax(self, softmax):
        message = r"stage 3 \(softmax\): a network ends in scores, of which its loss and predict_proba make"
        with pytest.raises(ValueError, match=message):
            ConvNet([{"conv": 4}, {"affine": 5}, softmax], (2, 6, 6), 5)
        named = ConvNet([{"conv": 4}, {"affine": 5}, softmax, "classes"], (2, 6, 6), 5)
        assert named.params["W3"].shape == (5, 5)


@pytest.mark.parametrize(
    ("stage", "advice"),
    [
        ({"dense": 10}, "did you mean 'affine'"),
        ({"Linear": 10}, "did you mean 'affine'"),
        ({"fc": 10}, "did you mean 'affine'"),
        ("bn", "did you mean 'batchnorm'"),
        ("BatchNorm2d", "did you mean 'batchnorm'"),
        ("ReLU", "did you mean 'relu'"),
        ({"Conv2D": 4}, "did you mean 'conv'"),
        ({"MaxPooling2D": 2}, "did you mean 'max_pool'"),
        ("GAP", "did you mean 'global_avg_pool'"),
        ("swish", "did you mean 'silu'"),
        ("Flatten", "an affine layer takes images as they are: leave it out"),
        ({"activation": "relu"}, "an activation is a stage by its own name: 'relu'"),
        ({"conv": 4, "activation": "relu"}, "an activation is a stage of its own behind this one: 'relu'"),
        ({"conv": 4, "kernel_size": 3}, "did you mean 'size'"),
        ({"conv": 4, "padding": 1}, "did you mean 'pad'"),
        ({"conv": 4, "Strides": 2}, "did you mean 'stride'"),
        ({"conv": 4, "in_channels": 2}, "it follows from the stages before: leave it out"),
        ({"conv": 3, "filters": 4}, "it is the stage's value: {'conv': 16}"),
        ({"max_pool": 2, "pool_size": 2}, "it is the stage's value: {'max_pool': 2}"),
    ],
)
def test_stages_by_other_names(stage, advice):
    with pytest.raises(ValueError, match="unknown") as error:
        ConvNet([stage], (2, 6, 6), 5)
    assert advice in str(error.value)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("fit", "cnnlib.solver.Solver(net, data).train() trains it"),
        ("train", "cnnlib.solver.Solver(net, data).train() trains it"),
        ("evaluate", "check_accuracy(X, y) measures it"),
        ("forward", "net(X) gives its scores"),
        ("state_dict", "its arrays are in net.params"),
        ("cuda", "all is computed on the CPU: leave it out"),
    ],
)
def test_a_network_says_where_to_look(name, advice):
    net = FullyConnectedNet((4,), input_dim=6, seed=0)
    with pytest.raises(
        AttributeError, match=f"'FullyConnectedNet' object has no attribute '{name}'; "
    ) as error:
        getattr(net, name)
    assert advice in str(error.value)


def test_other_attributes_are_missing_as_ever():
    class Faulty(FullyConnectedNet):
        @property
        def broken(self):
            return self.nowhere

    net = FullyConnectedNet((4,), input_dim=6, seed=0)
    assert not hasattr(net, "_nothing")
    for again in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        np.testing.assert_array_equal(again.params["W1"], net.params["W1"])
    with pytest.raises(AttributeError, match=r"has no attribute 'nowhere'$"):
        Faulty((4,), input_dim=6, seed=0).broken  # noqa: B018


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("Solver", "from cnnlib.solver import Solver"),
        ("ConvNet", "from cnnlib.models import ConvNet"),
        ("load_digits", "from cnnlib.data import load_digits"),
        ("adam", "from cnnlib.optim import adam"),
        ("fit", r"cnnlib\.solver\.Solver\(net, data\)\.train\(\) trains a network"),
    ],
)
def test_the_package_says_where_to_look(name, advice):
    with pytest.raises(AttributeError, match=f"module 'cnnlib' has no attribute '{name}'; {advice}$"):
        getattr(cnnlib, name)
    with pytest.raises(AttributeError, match=r"module 'cnnlib' has no attribute 'nothing'$"):
        cnnlib.nothing  # noqa: B018
