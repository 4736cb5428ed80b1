"""A network for ncnn: its files of layers and of weights, batch norms folded as ncnn's own tool does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from cnnlib.inference.ops import rewrite

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
    ops, output = rewrite(net.graph(), net.params, np.dtype(np.float32))
    writer = _Writer()
    counts = {}
    for op in ops:
        for name in op.inputs:
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
    for op in ops:
        name = "output" if op.output == output else op.output
        _layer(writer, op, [read(each) for each in op.inputs], name)
        made(name)
    prefix = Path(path).with_suffix("")
    head = f"7767517\n{len(writer.layers)} {writer.blobs}\n"
    Path(f"{prefix}.param").write_text(head + "\n".join(writer.layers) + "\n")
    Path(f"{prefix}.bin").write_bytes(b"".join(writer.weights))
    if engine.load_param(f"{prefix}.param") or engine.load_model(f"{prefix}.bin"):
        raise ValueError("ncnn cannot read the network")


def _layer(writer, op, inputs, name):
    w, b = op.arrays.get("w"), op.arrays.get("b")
    act = (
        {}
        if op.most is None
        else {"_9": _RELU}
        if np.isinf(op.most)
        else {"_9": _CLIP, "_-23310": f"2,0.0,{op.most}"}
    )
    if op.kind == "conv":
        F, _, KH, KW = w.shape
        conv_param = op.options["conv_param"]
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
    elif op.kind == "affine":
        writer.add("InnerProduct", inputs, [name], _0=w.shape[1], _1=int(b is not None), _2=w.size, **act)
        writer.weight(w.T, b)
    elif op.kind in ("max_pool", "avg_pool"):
        p = op.options["pool_param"]
        size = p["pool_height"]
        kind = int(op.kind == "avg_pool")
        writer.add(
            "Pooling", inputs, [name], _0=kind, _1=size, _2=p.get("stride", size), _3=p.get("pad", 0), _5=1
        )
    elif op.kind == "global_avg_pool":
        writer.add("Pooling", inputs, [name], _0=1, _4=1)
    elif op.kind == "add":
        between = name if op.most is None else f"{name}_sum"
        writer.add("BinaryOp", inputs, [between], _0=0)
        if op.most is not None:
            writer.add("ReLU", [between], [name])
    elif op.kind == "flatten":
        writer.add("Flatten", inputs, [name])
    else:
        raise ValueError(f"no ncnn layer for {op.kind}")
