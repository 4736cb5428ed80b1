"""
Random networks in eight bits: the bits that cnnlib.naive defines, whatever the batch, and out of files.

The same networks in every run; `HYPOTHESIS_EXAMPLES=2000 pytest tests/inference/test_int8_networks.py
--hypothesis-show-statistics` searches on.
"""

import warnings

import byte_reference
import cnnlib
import numpy as np
import pytest
from byte_reference import Op
from cnnlib import inference
from cnnlib.graph.ops import layers_where
from cnnlib.inference.quantization.calibration import evaluate
from cnnlib.inference.quantization.weights import METHODS
from cnnlib.models import GraphNet
from cnnlib.naive import quantized

pytest.importorskip("hypothesis", reason="hypothesis is not installed")
from hypothesis import event, given
from hypothesis import strategies as st
from random_networks import IMAGES, JOINS, PARTS, Growing, graph_nets, other_size, outcome
from strategies import examples

BYTE_KINDS = frozenset(layers_where(lambda op: op.eight_bits))

KINDS = set()  # of the operations that were tried
GLUE = ("quantize", "dequantize", "flatten")  # which have no rounding of their own


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("int8")


def by_definition(predictor, x):
    """The scores, operation by operation; those in floats by their layers."""
    graph, arrays = predictor.graph_and_params(eight_bits=True)
    values = {graph.input: x}
    for node in graph:
        xs = [values[name] for name in node.inputs]
        if node.op.eight_bits:
            roles = zip(node.op.roles, node.params, strict=True)
            own = {role: arrays[name] for role, name in roles if name is not None}
            op = Op(node.layer, node.inputs, node.output, own, *node.args)
            values[node.output] = byte_reference._layer(op, xs, quantized.conv_sums)
        else:
            values[node.output] = evaluate(node, arrays, xs)
    return values[graph.output]


@st.composite
def mostly_bytes(draw):
    """A convolution, and behind it layers of which all have an eight-bit form."""
    shape = draw(st.sampled_from(IMAGES))
    grown = Growing(shape, np.dtype(np.float32), np.random.default_rng(draw(st.integers(0, 2**16))))
    end = draw(st.sampled_from([[], ["affine"], ["global_avg_pool"], ["global_avg_pool", "affine"]]))
    for layer in ["conv", *draw(st.lists(st.sampled_from(OF_BYTES), min_size=1, max_size=5)), *end]:
        x = grown.graph.output
        if layer in JOINS:
            grown.append(layer, (x, draw(st.sampled_from([*grown.values]))))
        else:
            size = int(np.prod(grown.shape(x))) if layer == "affine" else grown.shape(x)[0]
            params, args = PARTS[layer](draw, grown, layer, size)
            grown.append(layer, (x,), params, args)
    if not grown.graph.nodes:
        grown.append("relu", ("input",))
    return GraphNet(grown.graph, grown.join_the_unread(), shape)


OF_BYTES = ["conv", "conv", "relu", "relu6", "avg_pool", "avg_pool", "max_pool", "silu", "scale", *JOINS]


@examples(150)
@given(st.one_of(graph_nets(np.float32), mostly_bytes()), st.sampled_from(METHODS))
def test_random_networks(folder, net, ranges):
    rng = np.random.default_rng(2)
    shapes = [net.input_dim] + ([] if other_size(net) is None else [other_size(net)])
    first, *_ = images = [rng.standard_normal((3, *shape)).astype(np.float32) for shape in shapes]
    calibration = np.concatenate([first, rng.standard_normal((9, *net.input_dim)).astype(np.float32)])
    settings = {"precision": "int8", "ranges": ranges}
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # few images say little
        predictor = outcome(lambda x: cnnlib.prepare(net, calibration=x, **settings), calibration)
    if isinstance(predictor, str):
        assert "makes NaN or infinite values of the calibration images" in predictor
        event("refused: values that are not finite")
        return
    kinds = {node.layer for node in predictor.graph_and_params(eight_bits=True)[0]}
    KINDS.update(kinds)
    event(f"{'all' if kinds <= {*BYTE_KINDS, *GLUE} else 'some' if kinds & BYTE_KINDS else 'none'} of bytes")
    predictor.save(folder / "net")
    loaded = inference.load(folder / "net")
    assert str(loaded._quantization) == str(predictor._quantization)
    for x in images:
        got = outcome(predictor, x)
        np.testing.assert_array_equal(outcome(loaded, x), got)
        if isinstance(got, str):
            assert isinstance(outcome(net.loss, x), str)
            continue
        np.testing.assert_array_equal(np.concatenate([predictor(image[None]) for image in x]), got)
        want = by_definition(predictor, x).reshape(got.shape)
        if kinds <= {*BYTE_KINDS, *GLUE}:
            np.testing.assert_array_equal(got, want)


def test_every_operation_on_bytes_was_among_them():
    if not KINDS:
        pytest.skip("no networks were tried")
    assert KINDS >= BYTE_KINDS
