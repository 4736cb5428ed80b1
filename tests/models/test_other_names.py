"""Specs and names as other libraries have them: what is understood, and what messages say."""

import copy
import pickle
import re

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
        message = r"stage 3 \(affine 7\) is not the last layer: another one makes the scores of num_classes=5"
        with pytest.warns(UserWarning, match=message) as told:
            net = ConvNet([{"conv": 4}, "relu", {"affine": 7}], (2, 6, 6), 5, seed=0)
        assert net.params["W3"].shape == (7, 5)
        assert told[0].filename == __file__

    @pytest.mark.parametrize("behind", [["relu"], ["batchnorm"], ["gelu", {"dropout": 0.5}]])
    def test_is_none_where_an_activation_follows(self, behind):
        with pytest.warns(UserWarning, match=r"stage 2 \(affine 5\) is not the last layer, because of the"):
            ConvNet([{"conv": 4}, {"affine": 5}, *behind], (2, 6, 6), 5, seed=0)

    @pytest.mark.parametrize(
        "stages",
        [[{"affine": 7}, "relu"], [{"affine": 7}, "classes"], [{"affine": 5}, "relu", "classes"], []],
    )
    def test_of_usual_specs_is_not_warned_of(self, stages):  # warnings are errors here
        ConvNet(stages, (2, 6, 6), 5, seed=0)

    def test_is_told_once_and_not_to_who_reads_the_file(self, tmp_path):
        with pytest.warns(UserWarning, match="is not the last layer"):
            ConvNet([{"affine": 7}], (2, 6, 6), 5, seed=0).save(tmp_path / "net.npz")
        assert cnnlib.load(tmp_path / "net.npz").params["W2"].shape == (7, 5)

    @pytest.mark.parametrize("softmax", ["softmax", {"softmax": None}])
    def test_is_no_softmax(self, softmax):
        message = r"stage 3 \(softmax\): a network ends in scores, of which its loss and predict_proba make"
        with pytest.raises(ValueError, match=message):
            ConvNet([{"conv": 4}, {"affine": 5}, softmax], (2, 6, 6), 5)
        named = ConvNet([{"conv": 4}, {"affine": 5}, softmax, "classes"], (2, 6, 6), 5)
        assert named.params["W3"].shape == (5, 5)


class TestTheShapeOfSamples:
    @pytest.mark.parametrize("input_dim", [(32, 32, 3), (28, 28, 1)])
    def test_with_channels_last(self, input_dim):
        C, H, W = input_dim[2], *input_dim[:2]
        with pytest.warns(UserWarning, match=re.escape(f"say ({C}, {H}, {W}), and X.transpose(0, 3, 1, 2)")):
            ConvNet([{"affine": 5}], input_dim, 5, seed=0)

    @pytest.mark.parametrize("input_dim", [(3, 32, 32), (1, 1, 1), (32, 3, 3), (3, 3, 3), (64, 8, 1)])
    def test_with_channels_first(self, input_dim):
        ConvNet([{"affine": 5}], input_dim, 5, seed=0)

    @pytest.mark.parametrize(
        ("input_dim", "size", "along"), [((2, 1, 100), 5, "(1, 5)"), ((1, 50, 1), None, "(3, 1)")]
    )
    def test_of_a_signal_with_square_filters(self, input_dim, size, along):
        conv = {"conv": 8} if size is None else {"conv": 8, "size": size}
        message = re.escape(f"'size': {along} goes along the signal alone")
        with pytest.warns(UserWarning, match=message) as told:
            ConvNet([conv, "relu", conv], input_dim, 3, seed=0)
        assert told[0].filename == __file__

    def test_of_a_signal_with_filters_along_it(self):
        ConvNet([{"conv": 8, "size": (1, 5)}, "relu", {"conv": 8, "size": 1}], (2, 1, 100), 3, seed=0)


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
        ("Values", "did you mean the head 'values'?"),
        ({"filters": 8}, "a convolution is {'conv': 16}"),
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
        ("Sequential", r"a network is cnnlib\.models\.ConvNet\(\[{'conv': 16}, 'relu', \.\.\.\], .*"),
        ("Conv2D", r"a network is .*"),
        ("nn", r"a network is .*"),
        ("from_module", r"from cnnlib\.torch import from_module"),
        ("fit", r"cnnlib\.solver\.Solver\(net, data\)\.train\(\) trains a network"),
    ],
)
def test_the_package_says_where_to_look(name, advice):
    with pytest.raises(AttributeError, match=f"module 'cnnlib' has no attribute '{name}'; {advice}$"):
        getattr(cnnlib, name)
    with pytest.raises(AttributeError, match=r"module 'cnnlib' has no attribute 'nothing'$"):
        cnnlib.nothing  # noqa: B018
