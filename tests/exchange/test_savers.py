"""
Random models in every kind of file, and out of it: the same bits at two sizes of images, or the same refusal.

The same models in every run; `HYPOTHESIS_EXAMPLES=2000 pytest tests/exchange/test_savers.py
--hypothesis-show-statistics` searches on, and says how many were refused, and for what.
"""

import copy
import importlib.util
import json
import pickle
import re

import cnnlib
import numpy as np
import pytest
from cnnlib import inference, safetensors
from cnnlib.models import ConvNet
from cnnlib.solver import Solver, load_weights
from training import assert_same_bits, running_statistics

pytest.importorskip("hypothesis", reason="hypothesis is not installed")
from hypothesis import assume, event, given
from hypothesis import strategies as st
from random_networks import IMAGES, graph_nets, models, other_size, outcome, specs
from strategies import examples

searching = examples(30)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("savers")


def refusal(text):
    """The reason without its place and numbers."""
    return "refused: " + re.sub(r"\d[\dx, ]*", "# ", text.split(": ", 2)[-1])[:60]


def varied(model, seed=0):
    """The model with other numbers in all its arrays, as a training leaves it."""
    rng = np.random.default_rng(seed)
    for name, value in model.params.items():
        model.params[name] = (value + 0.1 * rng.standard_normal(value.shape)).astype(value.dtype)
    for bn_param in model.bn_params:
        shape, dtype = bn_param["running_mean"].shape, bn_param["running_mean"].dtype
        bn_param["running_mean"] = rng.standard_normal(shape).astype(dtype)
        bn_param["running_var"] = rng.uniform(0.3, 2, shape).astype(dtype)
    return model


def drawn(model):
    if isinstance(model, str):
        event(refusal(model))
        assume(False)
    event(f"{type(model).__name__}, {model.dtype}")
    return varied(model)


def images_for(model, count=3):
    """Of the model's own size, and of another."""
    shapes = [tuple(np.atleast_1d(model.arguments["input_dim"])), other_size(model)]
    rng = np.random.default_rng(1)
    return [rng.standard_normal((count, *shape)).astype(np.float32) for shape in shapes if shape is not None]


def assert_alike(got, want, images):
    for x, size in zip(images, ("the first", "the second"), strict=False):
        mine, its = outcome(got, x), outcome(want, x)
        event(f"{'refused' if isinstance(its, str) else 'computed'} at {size} size")
        assert_same_bits(mine, its)


@searching
@given(models())
def test_models_npz(folder, model):
    model = drawn(model)
    model.save(folder / "net.npz")
    loaded = cnnlib.load(folder / "net.npz")
    assert type(loaded) is type(model)
    assert_same_bits(loaded.params, model.params)
    assert_same_bits(running_statistics(loaded), running_statistics(model))
    assert repr(loaded) == repr(model)
    assert_alike(loaded.loss, model.loss, images_for(model))
    assert_alike(cnnlib.prepare(loaded), cnnlib.prepare(model), images_for(model))


@searching
@given(models(), st.sampled_from([None, np.float32, np.float64]))
def test_predictors(folder, model, dtype):
    model = drawn(model)
    predictor = cnnlib.prepare(model, dtype=dtype)
    predictor.save(folder / "net")
    loaded = inference.load(folder / "net")
    loaded.save(folder / "again")
    assert (folder / "again").read_bytes() == (folder / "net").read_bytes()
    copies = pickle.loads(pickle.dumps(predictor)), pickle.loads(pickle.dumps(loaded)), copy.deepcopy(loaded)
    for other in (loaded, *copies):
        assert (repr(other), other.summary()) == (repr(predictor), predictor.summary())
        assert_alike(other, predictor, images_for(model))


@searching
@given(models())
def test_pickled_models(model):
    model = drawn(model)
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert_same_bits(other.params, model.params)
        assert_alike(other.loss, model.loss, images_for(model))


@searching
@given(models())
def test_safetensors(folder, model):
    model = drawn(model)
    safetensors.save(model.params, folder / "net.safetensors")
    loaded = safetensors.load(folder / "net.safetensors")
    assert loaded.keys() == model.params.keys()
    other = varied(copy.deepcopy(model), seed=5)
    for name, statistics in zip(range(len(model.bn_params)), running_statistics(model), strict=True):
        other.bn_params[name].update(statistics)
    other.params.update({name: np.array(loaded[name]) for name in model.params})
    assert_same_bits(other.params, {name: model.params[name] for name in other.params})
    assert_alike(other.loss, model.loss, images_for(model))


@searching
@given(models(), st.sampled_from(["sgd", "adam"]), st.booleans())
def test_checkpoints(folder, model, rule, averaged):
    model = drawn(model)
    if not getattr(model, "num_classes", 3):
        event("refused: no classes to train on")
        return
    fresh = [varied(copy.deepcopy(model), seed=3) for _ in range(3)]
    (x, *_), classes = images_for(model, 9), getattr(model, "num_classes", 3)
    y = np.arange(9) % classes
    data = {"X_train": x, "y_train": y, "X_val": x[:4], "y_val": y[:4]}
    path, average = folder / "run", 0.9 if averaged else None
    settings = {"update_rule": rule, "optim_config": {"learning_rate": 1e-4}, "ema_decay": average}
    made = {"num_epochs": 2, "batch_size": 4, "checkpoint_name": path, "verbose": False, **settings}
    with np.errstate(all="ignore"):
        solver = Solver(model, data, seed=0, **made)
        try:
            solver.train()
        except FloatingPointError:
            event("refused: a loss that is not finite")
            return
        resumed = Solver.resume(f"{path}_epoch_1.npz", fresh[0], data)
        resumed.train()
    assert_same_bits(resumed.last_params, solver.last_params)
    assert_same_bits(resumed.model.params, model.params)
    assert_same_bits(running_statistics(resumed.model), running_statistics(model))
    load_weights(f"{path}_epoch_2.npz", fresh[1])
    load_weights(f"{path}_epoch_2.npz", fresh[2], "last")
    assert_same_bits(fresh[2].params, solver.last_params)
    for other in (resumed.model, fresh[1]):
        assert_alike(other.loss, model.loss, images_for(model))


@searching
@given(specs(), st.sampled_from(IMAGES), st.sampled_from([np.float32, np.float64]))
def test_specs_as_json(spec, shape, dtype):
    """As configuration files and a run's folder hold them."""
    text = json.dumps(spec)
    made = []
    for own in (spec, json.loads(text)):
        try:
            made.append(ConvNet(own, shape, 3, dtype=dtype, seed=0))
        except ValueError as error:
            made.append(str(error))
    if isinstance(made[0], str):
        event(refusal(made[0]))
        assert isinstance(made[1], str)
        return
    model, other = map(varied, made)
    assert (repr(other), other.summary()) == (repr(model), model.summary())
    assert_alike(other.loss, model.loss, images_for(model))


@pytest.mark.skipif(importlib.util.find_spec("sklearn") is None, reason="scikit-learn is not installed")
@searching
@given(specs(), st.sampled_from(IMAGES), st.sampled_from(["float32", "float64"]), st.booleans())
def test_pickled_classifiers(spec, shape, dtype, flat):
    from cnnlib.sklearn import ConvNetClassifier

    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((9, *shape)), np.arange(9) % 3
    X = X.reshape(9, -1) if flat else X
    made = ConvNetClassifier(spec, shape, max_epochs=1, batch_size=4, random_state=0, dtype=dtype)
    with np.errstate(all="ignore"):
        try:
            made.fit(X, y)
        except (FloatingPointError, ValueError) as error:
            event(refusal(str(error)))
            return
    larger = rng.standard_normal((2, shape[0], shape[1] + 3, shape[2] + 1))
    for other in (pickle.loads(pickle.dumps(made)), copy.deepcopy(made)):
        assert_same_bits(other.model_.params, made.model_.params)
        assert_alike(other.predict_proba, made.predict_proba, [X, larger])


@st.composite
def several(draw):
    """A network whose outputs are two or three of its values, and that of each alone."""
    net = draw(graph_nets(most=6))
    values = [node.output for node in net.graph()]
    assume(len(values) > 1)
    names = draw(st.lists(st.sampled_from(values), min_size=2, max_size=3, unique=True))
    return varied(net.cut(names)), names


@searching
@given(several())
def test_several_outputs(folder, drawn):
    net, names = drawn
    net.save(folder / "several.npz")
    predictor = cnnlib.prepare(net)
    predictor.save(folder / "several")
    for x in images_for(net):
        want, prepared = outcome(net.loss, x), outcome(predictor, x)
        assert_same_bits(outcome(cnnlib.load(folder / "several.npz").loss, x), want)
        assert_same_bits(outcome(cnnlib.load(folder / "several"), x), prepared)
        if isinstance(want, str):
            assert isinstance(prepared, str)
            continue
        assert list(want) == list(prepared) == names
        for name in names:
            assert_same_bits(net.cut(name).loss(x), want[name])
            if net.dtype == np.float64:  # in float32 a norm may make much of a rounding
                finite = np.isfinite(want[name])
                bound = 1e-7 * np.abs(want[name][finite]).max(initial=1)
                np.testing.assert_allclose(prepared[name][finite], want[name][finite], rtol=0, atol=bound)


@pytest.mark.parametrize(("attribute", "value"), [("head", "regression"), ("label_smoothing", 1.0)])
def test_what_no_file_gives_back_is_refused(attribute, value, tmp_path):
    net, path = ConvNet([{"conv": 2}], (1, 4, 4), 3, seed=0).cut().with_head(3, seed=0), tmp_path / "net"
    setattr(net, attribute, value)
    savers = {"save": lambda: net.save(path)}
    if attribute == "head":
        savers["Predictor.save"] = lambda: cnnlib.prepare(net).save(path)
        if importlib.util.find_spec("onnx") is not None:
            savers["cnnlib.onnx.save"] = lambda: cnnlib.onnx.save(net, path)
    for name, save in savers.items():
        with pytest.raises(ValueError, match=f"{name}: {attribute} must be"):
            save()
    assert not path.exists()
