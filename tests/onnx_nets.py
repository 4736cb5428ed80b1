"""Small ONNX models in the package's text form, and what other programs compute from them."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

OPSET = 21

# Without it ONNX Runtime's products of bytes saturate: eight-bit files are to be computed in floats there.
CPUINFO = Path("/proc/cpuinfo")
VNNI = CPUINFO.is_file() and "vnni" in CPUINFO.read_text()


def model(text, arrays=(), shape=("N", 3, 8, 8), opset=OPSET, elem="float", outputs="y"):
    """A model with the input `x` and the output `y` from lines such as ``y = Relu(x)`` and named arrays."""
    sizes = ", ".join(map(str, shape))
    head = f'<ir_version: 10, opset_import: ["": {opset}]>'
    makes = ", ".join(f"{elem} {name}" for name in outputs.split())
    proto = onnx.parser.parse_model(f"{head} net ({elem}[{sizes}] x) => ({makes}) {{ {text} }}")
    proto.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), k) for k, v in dict(arrays).items())
    return proto


def weights(rng, dtype=np.float32, **shapes):
    """Normally distributed arrays of the given shapes, by name."""
    return {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}


def network(rng, text, given=(), **how):
    """A model with arrays of its own: normally distributed ones of a shape, and those that are given.

    A tuple or an int is a shape; a list or a float stands for its numbers, in float32 if they are real.
    """
    arrays = {}
    for name, value in dict(given).items():
        if isinstance(value, (tuple, int)):
            arrays |= weights(rng, **{name: value})
        else:
            array = np.asarray(value)
            arrays[name] = array.astype(np.float32) if array.dtype == np.float64 else array
    return model(text, arrays, **how)


def run_elsewhere(proto, x):
    """The output for x as ONNX Runtime computes it."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    if not VNNI:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, {session.get_inputs()[0].name: x})[0]
