"""
Random networks on bfloat16: close to float64, the same bits in any batch and out of files.

The same networks in every run; `HYPOTHESIS_EXAMPLES=2000 pytest tests/inference/test_bfloat16_networks.py
--hypothesis-show-statistics` searches on.
"""

import warnings

import cnnlib
import numpy as np
import pytest
from cnnlib import _core, inference
from cnnlib.graph.ops import layers_where
from cnnlib.inference.predictor import Predictor

pytest.importorskip("hypothesis", reason="hypothesis is not installed")
from hypothesis import event, given
from random_networks import graph_nets, other_size, outcome
from strategies import examples

KINDS = set()  # of the operations that were tried
ERRORS = []  # the largest of each network, over the largest of its scores
FORMS = frozenset(layers_where(lambda op: op.narrow is not None and not op.parts))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("bfloat16")


@examples(150)
@given(graph_nets(np.float32))
def test_random_networks(folder, net):
    rng = np.random.default_rng(2)
    shapes = [net.input_dim] + ([] if other_size(net) is None else [other_size(net)])
    predictor = cnnlib.prepare(net, precision="bfloat16")
    KINDS.update(node.layer for node in predictor.graph_and_params()[0])
    predictor.save(folder / "net")
    loaded = inference.load(folder / "net")
    for shape in shapes:
        x = rng.standard_normal((3, *shape)).astype(np.float32)
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            got = outcome(predictor, x)
            np.testing.assert_array_equal(outcome(loaded, x), got)
            if isinstance(got, str):
                assert isinstance(outcome(net.loss, x), str)
                event("refused: another size")
                continue
            np.testing.assert_array_equal(np.concatenate([predictor(image[None]) for image in x]), got)
            if shape == net.input_dim:
                ERRORS.extend(error_of(predictor, x, got))


def error_of(predictor, x, got):
    """One number; none of scores that are not finite, or all 0."""
    params = {name: array.astype(np.float64) for name, array in predictor._params.items()}
    want = Predictor(predictor._graph, params, predictor.input_dim, np.dtype(np.float64))(x)
    if not np.isfinite(want).all() or not want.any():
        return []
    return [np.abs(got - want).max() / np.abs(want).max()]


def test_networks_were_close_to_float64():
    """To some roundings of 2**-8 each; a difference of like values, or a norm of them, may enlarge a few."""
    if not ERRORS:
        pytest.skip("no networks were tried")
    assert np.quantile(ERRORS, 0.95) < 2.0**-6
    if _core.active_bfloat16():
        assert np.max(ERRORS) > 2.0**-10  # rounding shows


def test_every_layer_with_a_form_on_bfloat16_was_among_them():
    if not KINDS:
        pytest.skip("no networks were tried")
    assert KINDS >= FORMS
