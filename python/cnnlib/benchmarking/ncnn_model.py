"""A network for ncnn: its files of layers and of weights, batch norms folded as ncnn's own tool does."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cnnlib.graph.fusion import operations, rectified
from cnnlib.graph.ops.sizes import samples_like
from cnnlib.graph.shapes import shapes
from cnnlib.inference.fold import fold
from cnnlib.layers.axes import conv_axes, pool_axes
from cnnlib.models.graph_model import input_dim_of

_RELU, _CLIP = 1, 3  # ncnn's activation_type
_PLAIN: dict[str, tuple[str, dict[str, float]]] = {  # layers without weights: ncnn's name and options
    "flatten": ("Flatten", {}),
    "relu": ("ReLU", {}),
    "relu6": ("Clip", {"_0": 0.0, "_1": 6.0}),
    "sigmoid": ("Sigmoid", {}),
    "tanh": ("TanH", {}),
    "silu": ("Swish", {}),
    "hard_sigmoid": ("HardSigmoid", {"_0": 1 / 6, "_1": 0.5}),
    "hard_swish": ("HardSwish", {"_0": 1 / 6, "_1": 0.5}),
    "softmax": ("Softmax", {"_0": 0, "_1": 1}),
    "concat": ("Concat", {"_0": 0}),
}


class _Writer:
    def __init__(self):
        self.layers, self.weights, self.blobs = [], [], 1
        self.readers: dict[str, list[str]] = {}

    def add(self, kind, inputs, outputs, **options):
        name = f"{kind}{len(self.layers)}"
        settings = " ".join(f"{key.lstrip('_')}={value}" for key, value in options.items())
        self.layers.append(
            f"{kind} {name} {len(inputs)} {len(outputs)} {' '.join([*inputs, *outputs])} {settings}"
        )
        self.blobs += len(outputs)

    def weight(self, w, b):
        self.weights.append(np.zeros(1, np.uint32).tobytes())  # float32
        self.weights.append(np.ascontiguousarray(w, np.float32).tobytes())
        if b is not None:
            self.weights.append(np.ascontiguousarray(b, np.float32).tobytes())


def load(engine, net, path):
    """Write the files beside the ONNX file `path`, and load them."""
    graph, params = fold(net.graph(), net.params, input_dim_of(net), np.dtype(np.float32))
    nodes = operations(graph)
    sizes = shapes(graph, params, input_dim_of(net))
    writer = _Writer()
    counts: dict[str, int] = {}
    for node in nodes:
        for name in node.inputs:
            counts[name] = counts.get(name, 0) + 1
    names: dict[str, list[str]] = {}

    def made(name):
        """Let `name` be read as often as it is: ncnn wants a copy for each reader."""
        if counts.get(name, 0) > 1:
            copies = [f"{name}_{i}" for i in range(counts[name])]
            writer.add("Split", [name], copies)
            names[name] = copies
        else:
            names[name] = [name]

    def read(name):
        return names[name].pop(0)

    writer.layers.append("Input input 0 1 input")
    made("input")
    for node in nodes:
        name = "output" if node is nodes[-1] else node.output
        _layer(writer, node, params, sizes[node.inputs[0]], [read(each) for each in node.inputs], name)
        made(name)
    prefix = Path(path).with_suffix("")
    head = f"7767517\n{len(writer.layers)} {writer.blobs}\n"
    Path(f"{prefix}.param").write_text(head + "\n".join(writer.layers) + "\n")
    Path(f"{prefix}.bin").write_bytes(b"".join(writer.weights))
    if engine.load_param(f"{prefix}.param") or engine.load_model(f"{prefix}.bin"):
        raise ValueError("ncnn cannot read the network")


def _pads(axes, keys):
    """Return the padding left, above, right and below under ncnn's keys."""
    v, h = axes
    return dict(zip((f"_{key}" for key in keys), (h.before, v.before, h.after, v.after), strict=True))


def _layer(writer, node, params, x, inputs, name):
    """Write a layer whose first input is `x`, the shape of a sample."""
    layer, bound = rectified(node)
    w, b = (*(params.get(each) for each in node.params), None, None)[:2]
    act = (
        {}
        if bound is None
        else {"_9": _RELU}
        if np.isinf(bound)
        else {"_9": _CLIP, "_-23310": f"2,0.0,{bound}"}
    )
    if layer == "conv":
        axes, groups = conv_axes("ncnn", node.args[0], samples_like(x), w, None, 2)
        (v, h), pads = axes, _pads(axes, (4, 14, 15, 16))
        options = {"_0": len(w), "_1": h.taps, "_11": v.taps, "_2": h.dilation, "_12": v.dilation}
        options |= {"_3": h.stride, "_13": v.stride, **pads, "_5": int(b is not None), "_6": w.size}
        if groups > 1:
            options["_7"] = groups
        writer.add("ConvolutionDepthWise" if groups > 1 else "Convolution", inputs, [name], **options, **act)
        writer.weight(w, b)
    elif layer == "affine":
        writer.add("InnerProduct", inputs, [name], _0=w.shape[1], _1=int(b is not None), _2=w.size, **act)
        writer.weight(w.T, b)
    elif layer in ("max_pool", "avg_pool"):
        kind = layer.removesuffix("_pool")
        axes, counted, ceil_mode = pool_axes("ncnn", node.args[0], samples_like(x), 2, kind)
        if ceil_mode or any(axis.dilation > 1 for axis in axes):
            raise ValueError(f"no ncnn layer for {layer} with ceil_mode or dilation")
        (v, h), valid = axes, 1
        options = {
            "_1": h.taps,
            "_11": v.taps,
            "_2": h.stride,
            "_12": v.stride,
            **_pads(axes, (3, 13, 14, 15)),
        }
        options |= {"_5": valid, "_6": int(counted)}
        writer.add("Pooling", inputs, [name], _0=int(kind == "avg"), **options)
    elif layer == "global_avg_pool":
        writer.add("Pooling", inputs, [name], _0=1, _4=1)
    elif layer == "add":
        between = name if bound is None else f"{name}_sum"
        writer.add("BinaryOp", inputs, [between], _0=0)
        if bound is not None:
            writer.add("ReLU", [between], [name])
    elif layer in _PLAIN:
        kind, options = _PLAIN[layer]
        writer.add(kind, inputs, [name], **options)
    else:
        raise ValueError(f"no ncnn layer for {layer}")
