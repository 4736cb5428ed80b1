"""A network for ncnn: its files of layers and of weights, batch norms folded as ncnn's own tool does."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cnnlib._params import pool_window
from cnnlib.graph.fusion import operations, rectified
from cnnlib.inference.fold import fold
from cnnlib.models.graph_model import input_dim_of

_RELU, _CLIP = 1, 3  # ncnn's activation_type


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
        _layer(writer, node, params, [read(each) for each in node.inputs], name)
        made(name)
    prefix = Path(path).with_suffix("")
    head = f"7767517\n{len(writer.layers)} {writer.blobs}\n"
    Path(f"{prefix}.param").write_text(head + "\n".join(writer.layers) + "\n")
    Path(f"{prefix}.bin").write_bytes(b"".join(writer.weights))
    if engine.load_param(f"{prefix}.param") or engine.load_model(f"{prefix}.bin"):
        raise ValueError("ncnn cannot read the network")


def _layer(writer, node, params, inputs, name):
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
        F, _, KH, KW = w.shape
        conv_param = node.args[0]
        groups, pad = conv_param.get("groups", 1), conv_param["pad"]
        pad = (KH - 1) // 2 if pad == "same" else pad
        options = {
            "_0": F,
            "_1": KW,
            "_11": KH,
            "_3": conv_param["stride"],
            "_4": pad,
            "_5": int(b is not None),
        }
        options["_6"] = w.size
        if groups > 1:
            options["_7"] = groups
        writer.add("ConvolutionDepthWise" if groups > 1 else "Convolution", inputs, [name], **options, **act)
        writer.weight(w, b)
    elif layer == "affine":
        writer.add("InnerProduct", inputs, [name], _0=w.shape[1], _1=int(b is not None), _2=w.size, **act)
        writer.weight(w.T, b)
    elif layer in ("max_pool", "avg_pool"):
        p = node.args[0]
        size, _ = pool_window("ncnn", p, 2)
        kind = int(layer == "avg_pool")
        writer.add(
            "Pooling", inputs, [name], _0=kind, _1=size, _2=p.get("stride", size), _3=p.get("pad", 0), _5=1
        )
    elif layer == "global_avg_pool":
        writer.add("Pooling", inputs, [name], _0=1, _4=1)
    elif layer == "add":
        between = name if bound is None else f"{name}_sum"
        writer.add("BinaryOp", inputs, [between], _0=0)
        if bound is not None:
            writer.add("ReLU", [between], [name])
    elif layer == "flatten":
        writer.add("Flatten", inputs, [name])
    else:
        raise ValueError(f"no ncnn layer for {layer}")
