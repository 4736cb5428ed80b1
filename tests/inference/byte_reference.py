"""Eight-bit networks by the definitions of cnnlib.naive, operation by operation, in NumPy."""

from dataclasses import dataclass, field

import numpy as np
from cnnlib.graph import Graph, Node
from cnnlib.graph.ops import op_of
from cnnlib.naive import quantized
from numpy.lib.stride_tricks import sliding_window_view


@dataclass
class Op:
    """An operation on bytes with its own arrays and options."""

    kind: str
    inputs: list
    output: str
    arrays: dict = field(default_factory=dict)
    options: dict = field(default_factory=dict)


def graph_of(ops, output):
    """A graph of operations, and its arrays."""
    graph, arrays = Graph(), {}
    for op in ops:
        names = [f"{op.output}.{role}" if role in op.arrays else None for role in op_of(op.kind).roles]
        arrays |= {f"{op.output}.{role}": array for role, array in op.arrays.items()}
        graph.append(Node(op.kind, op.inputs, op.output, names, (op.options,)))
    graph.output = output
    return graph, arrays


def ops_of(graph, arrays):
    """The operations of a graph whose layers in floats have neither arrays nor options."""
    for node in graph:
        roles = node.op.roles if node.params else ()
        own = {role: arrays[name] for role, name in zip(roles, node.params, strict=True) if name is not None}
        yield Op(node.layer, node.inputs, node.output, own, *node.args)


def conv_sums(x, x_zero, w, b, conv_param):
    """quantized.conv_sums in float64, whose sums are exact below 2**53; no dilation."""
    stride, pad, groups = (conv_param.get(name, d) for name, d in (("stride", 1), ("pad", 0), ("groups", 1)))
    sh, sw = (stride, stride) if np.ndim(stride) == 0 else stride
    F, _, KH, KW = w.shape
    if pad == "same":
        pads = []
        for size, step, K in zip(x.shape[2:], (sh, sw), (KH, KW), strict=True):
            total = max((-(-size // step) - 1) * step + K - size, 0)
            pads.append((total // 2, total - total // 2))
    else:
        pads = [(p, p) if np.ndim(p) == 0 else p for p in ((pad, pad) if np.ndim(pad) == 0 else pad)]
    padded = np.pad(x.astype(np.float64) - x_zero, ((0, 0), (0, 0), *pads))
    windows = sliding_window_view(padded, (KH, KW), axis=(2, 3))[:, :, ::sh, ::sw]
    N, C, OH, OW = windows.shape[:4]
    windows = windows.reshape(N, groups, C // groups, OH, OW, KH * KW)
    filters = w.astype(np.float64).reshape(groups, F // groups, C // groups, KH * KW)
    sums = np.einsum("ngcyxk,gfck->ngfyx", windows, filters, optimize=True).reshape(N, F, OH, OW)
    assert np.abs(sums).max(initial=0) < 2**31
    return sums.astype(np.int32) + b.reshape(-1, 1, 1)


def run(ops, output, x, sums=conv_sums):
    """The value `output` of operations on x, and all values."""
    values = {"input": x}
    for op in ops:
        xs = [values[name] for name in op.inputs]
        values[op.output] = _layer(op, xs, sums)
    return values[output], values


def _layer(op, xs, sums):
    options, kind = op.options, op.kind.removeprefix("byte_")
    if kind == "quantize":
        return quantized.quantize(xs[0], options["scale"], options["zero"])
    if kind == "dequantize":
        return quantized.dequantize(xs[0], options["scale"], options["zero"])
    if kind in ("conv", "affine"):
        return _weighted(op, xs, sums)
    if kind == "max_pool":
        return quantized.max_pool(xs[0], options["pool_param"])
    if kind == "avg_pool":
        numbers = (options[name] for name in ("x_zero", "ratio", "zero"))
        return quantized.avg_pool(xs[0], *numbers, options["pool_param"])
    if kind == "global_avg_pool":
        numbers = (options[name] for name in ("x_zero", "ratio", "zero"))
        window = {"pool_height": xs[0].shape[2], "pool_width": xs[0].shape[3]}
        return quantized.avg_pool(xs[0], *numbers, window)[:, :, 0, 0]
    if kind == "add":
        zero, low, high = options["numbers"]
        assert high == 255
        factors = options["factors"]
        return quantized.add(*xs, factors[:2], factors[2], options["multiplier"], zero, low)
    if kind == "table":
        return op.arrays["table"][xs[0]]
    if kind == "concat":
        return np.concatenate(xs, axis=1)
    return op_of(kind).forward(*xs, **options)[0]


def _weighted(op, xs, sums):
    options, x, w = op.options, xs[0], op.arrays["w"]
    zero, low, high, shift = options["numbers"]
    if op.kind == "byte_affine":
        x, w = x.reshape(len(x), -1, 1, 1), w.T[:, :, None, None]
    # The bias is in units of the shifted sums.
    total = sums(x, options["x_zero"], w, np.zeros(len(w), np.int32), options.get("conv_param", {})) << shift
    if len(xs) == 2:
        own = total >> shift
        total = quantized.add_to_sums(own, xs[1], options["other_zero"], op.arrays["factor"], shift)
    total = total + op.arrays["b"].reshape(-1, 1, 1)
    multiplier = op.arrays["multiplier"].reshape(-1, 1, 1)
    if options["scores"]:
        return (total.astype(np.float32) * multiplier)[:, :, 0, 0]
    y = quantized.requantize(total, multiplier, zero, low, high)
    return y[:, :, 0, 0] if op.kind == "byte_affine" else y
