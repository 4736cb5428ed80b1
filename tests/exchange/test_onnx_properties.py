"""
Random ONNX models against the reference evaluator and ONNX Runtime.

A model is computed right, at the size of images that it is loaded at and at another one, or refused in words
that name the operator. With `HYPOTHESIS_EXAMPLES=10000` set it searches on, and with `-s`
prints how many were refused, and why.
"""

import re
from collections import Counter

import cnnlib
import numpy as np
import pytest

pytest.importorskip("hypothesis", reason="hypothesis is not installed")
pytest.importorskip("onnx", reason="onnx is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

import cnnlib.onnx
import onnx
import onnx.printer
import onnxruntime as runtime
from cnnlib.onnx.saving import _model_proto
from graph_models import nets
from hypothesis import given
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator
from onnx_models import models
from strategies import examples

prop = examples(100)
BOUND = {np.dtype(np.float32): 1e-4, np.dtype(np.float64): 1e-5}  # ONNX keeps attributes in float32
# Written as products with windows, and gathered ones, which are not read.
NOT_READ = {"adaptive_avg_pool", "adaptive_max_pool"}
NAMES_A_NODE = re.compile(r"the model: \w+ '[\w.]+': .")


@pytest.fixture(scope="module")
def counts():
    """How many examples came to what."""
    found = Counter()
    yield found
    total = sum(count for what, count in found.items() if not what.startswith("  "))
    for what, count in sorted(found.items(), key=lambda item: -item[1]):
        print(f"{count:7} {100 * count / max(total, 1):5.1f} %  {what}")


def by_reference(proto, x, name="x"):
    try:
        with np.errstate(all="ignore"):
            return np.asarray(ReferenceEvaluator(proto).run(None, {name: x})[0])
    except Exception:
        return None


def by_runtime(proto, x, name="x"):
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        session = runtime.InferenceSession(
            proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return session.run(None, {name: x})[0]
    except Exception:
        return (
            None
            if x.dtype == np.float32
            else by_runtime(in_dtype(proto, np.float32), x.astype(np.float32), name)
        )


def exactly(proto, x, name="x"):
    """The reference in float64: programs in float32 may lose what a norm then makes large."""
    return by_reference(in_dtype(proto, np.float64), x.astype(np.float64), name)


def in_dtype(proto, dtype):
    """A model in another precision; ONNX Runtime lacks many operators of float64."""
    proto = onnx.ModelProto.FromString(proto.SerializeToString())
    graph, kinds = proto.graph, (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE)
    wanted = kinds[dtype == np.float64]
    tensors = list(graph.initializer)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                tensors.append(attribute.t)
            if node.op_type == "Cast" and attribute.i in kinds:
                attribute.i = wanted
    for tensor in tensors:
        if tensor.data_type in kinds:
            values = onnx.numpy_helper.to_array(tensor).astype(dtype)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.elem_type = wanted
    return proto


def near(got, want):
    if want is None or got.shape != want.shape:
        return False
    if not np.array_equal(np.isfinite(got), np.isfinite(want)):
        return False
    finite = np.isfinite(got)
    if not np.array_equal(got[~finite], want[~finite], equal_nan=True):
        return False
    bound = max(BOUND[got.dtype], BOUND[want.dtype]) * np.max(np.abs(want[finite]), initial=0.1)
    return bool(np.max(np.abs(got[finite] - want[finite]), initial=0) <= bound)


def check_right(what, got, proto, x, name="x"):
    """Compare with both; where these differ, one of them has to be met."""
    assert got.dtype == x.dtype
    wanted = []
    for program in (by_reference, by_runtime, exactly):
        wanted.append(program(proto, x, name))
        if near(got, wanted[-1]):
            break
    else:
        shapes = [None if want is None else want.shape for want in wanted]
        texts = [None if want is None else want.ravel()[:6] for want in wanted]
        text = f"{what}: {got.shape} {got.ravel()[:6]}, wanted (reference, runtime, float64) {shapes} {texts}"
        raise AssertionError(f"{text}\n{onnx.printer.to_text(proto)}")


def result(proto, function, *args, **kwargs):
    """What a function returns and None, or None and the text of its refusal."""
    try:
        return function(*args, **kwargs), None
    except ValueError as error:
        return None, str(error)
    except Exception as error:
        text = onnx.printer.to_text(proto) if isinstance(proto, onnx.ModelProto) else str(proto.graph())
        raise AssertionError(text) from error


def shortened(reason):
    """A reason without what is of this example alone."""
    return re.sub(r"'[^']*'|\([^)]*\)|\[[^]]*\]|-?\d+(\.\d+)?", "_", reason.partition(": ")[2])


@prop
@given(st.data())
def test_models_are_computed_right_or_refused_by_name(counts, data):
    model = data.draw(models())
    x = model.arrays["x"]
    open_sizes = data.draw(st.sampled_from(["NHWD", "NHWD", "NHWD", "N", "HWD", ""]))
    proto = model.proto(open_sizes)
    wanted = model.arrays[model.features[-1]]
    if len(model.features) == 1:
        counts["no operator"] += 1
        return
    net, refusal = result(proto, cnnlib.onnx.load, proto, input_dim=x.shape[1:])
    if net is None:
        assert NAMES_A_NODE.match(refusal), f"{refusal}\n{onnx.printer.to_text(proto)}"
        counts["refused"] += 1
        counts[f"  {shortened(refusal)}"] += 1
        return
    got = net.loss(x)
    if not near(got, wanted):
        check_right("loss", got, proto, x)
    prepared = None
    if not any(node.op.not_prepared for node in net.graph()):
        prepared = cnnlib.prepare(net)
        assert near(prepared(x), got), onnx.printer.to_text(proto)
    counts["right"] += 1
    if "H" in open_sizes:
        check_another_size(counts, data, net, prepared, proto, x)


@prop
@given(st.data())
def test_several_outputs_are_computed_right(counts, data):
    model = data.draw(models())
    if len(model.features) < 3:
        return
    values = st.sampled_from(model.features[1:])
    names = data.draw(st.lists(values, min_size=2, max_size=3, unique=True))
    proto, x = model.proto("N", names), model.arrays["x"]
    net, refusal = result(proto, cnnlib.onnx.load, proto)
    if net is None:
        assert NAMES_A_NODE.match(refusal), f"{refusal}\n{onnx.printer.to_text(proto)}"
        counts["  of several outputs refused"] += 1
        return
    counts["  of several outputs right"] += 1
    scores = net.loss(x)
    assert list(scores) == names
    for name, got in scores.items():
        if not near(got, model.arrays[name]):
            check_right(name, got, model.proto("N", [name]), x)


def check_another_size(counts, data, net, prepared, proto, x):
    sizes = [size + data.draw(st.integers(0, 3)) for size in x.shape[2:]]
    other = np.random.default_rng(1).standard_normal((*x.shape[:2], *sizes)).astype(x.dtype)
    got, refusal = result(proto, net.loss, other)
    if got is None:
        counts["  of these refused at another size"] += 1
        counts[f"      {shortened(refusal)}"] += 1
        reasons = "fixed by" in refusal or len(x.shape) != 4
        assert reasons, f"{refusal}\n{onnx.printer.to_text(proto)}"
        return
    if sizes != list(x.shape[2:]):
        counts["  of these right at another size"] += 1
    check_right(f"at {other.shape}", got, proto, other)
    if prepared is not None:
        assert near(prepared(other), got), onnx.printer.to_text(proto)


@prop
@given(st.data())
def test_what_is_saved_computes_the_same_elsewhere_and_when_it_is_read(counts, data):
    net = data.draw(nets())
    if net is None:
        counts["no layer"] += 1
        return
    x = np.random.default_rng(0).standard_normal((2, *net.input_dim)).astype(net.dtype)
    wanted = net.loss(x)
    proto, refusal = result(net, written, net)
    if proto is None:
        assert re.match(r"cnnlib\.onnx\.save: node '\w+' \(\w+\): ", refusal), f"{refusal}\n{net.graph()}"
        counts["not written"] += 1
        counts[f"  {shortened(refusal)}"] += 1
        return
    onnx.checker.check_model(proto, full_check=True)
    name = proto.graph.input[0].name
    other = by_runtime(proto, x, name)
    assert other is not None or by_reference(proto, x, name) is not None, onnx.printer.to_text(proto)
    if not near(wanted, other):
        check_right("saved", wanted, proto, x, name)
    counts["written and right"] += 1
    read, refusal = result(proto, cnnlib.onnx.load, proto)
    if read is None:
        counts["  not read again"] += 1
        counts[f"    {shortened(refusal)}"] += 1
        layers = {node.layer for node in net.graph()}
        assert layers & NOT_READ, f"{refusal}\n{onnx.printer.to_text(proto)}"
        return
    assert near(read.loss(x), wanted), onnx.printer.to_text(proto)
    if len(net.input_dim) == 3:
        check_alike_at_another_size(counts, data, net, read, proto)


def written(net):
    return _model_proto("cnnlib.onnx.save", net, "N")


def check_alike_at_another_size(counts, data, net, read, proto):
    """What is read again gives at another size what was saved, or refuses it."""
    sizes = [size + data.draw(st.integers(0, 3)) for size in net.input_dim[1:]]
    x = np.random.default_rng(1).standard_normal((2, net.input_dim[0], *sizes)).astype(net.dtype)
    wanted, _ = result(net, net.loss, x)
    got, refusal = result(proto, read.loss, x)
    if got is None:
        counts["  refused at another size"] += 1
        assert wanted is None or "fixed by" in refusal, refusal
    else:
        assert near(got, wanted), onnx.printer.to_text(proto)


def test_most_models_were_computed(counts):
    """Else the examples would say little."""
    if not counts:
        pytest.skip("no examples have been run")
    assert counts["right"] > counts["refused"]
    assert counts["written and right"] > 9 * counts["not written"]
