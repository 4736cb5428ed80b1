"""torchvision's networks in and out of cnnlib: the largest difference in what they compute.

    python bench/exchange.py --json exchange.json
    python bench/exchange.py --network resnet18 mobilenet_v2 --exporter torchscript

Random weights (seed 0), batch-norm statistics drawn too, two images of 224x224. PyTorch writes each network
to an ONNX file, which `cnnlib.onnx.load` reads; `cnnlib.onnx.save` writes what was read to another file. A
difference is the largest distance between two outputs over the largest output. `torch | runtime` is how far
PyTorch and ONNX Runtime are from each other, and so what can be asked for. A second table is of networks that
`cnnlib.torch.from_module` reads without a file (`--by torch` alone). Needs torch, torchvision, onnx,
onnxruntime; for `--exporter dynamo`, PyTorch's newer one, onnxscript.
"""

import argparse
import json
import tempfile
import time
import warnings
from pathlib import Path

import cnnlib.onnx
import numpy as np
import onnxruntime
import torch
import torchvision

NETWORKS = (
    "resnet18",
    "resnet50",
    "vgg16",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "mobilenet_v3_large",
    "densenet121",
    "squeezenet1_1",
    "googlenet",
    "efficientnet_b0",
    "convnext_tiny",
    "mnasnet1_0",
    "regnet_y_400mf",
    "shufflenet_v2_x1_0",
)
COLUMNS = ("parameters", "nodes", "load", "runtime", "torch", "torch | runtime", "saved")


def network(name):
    """A network in evaluation mode with statistics unlike those of an untrained one."""
    torch.manual_seed(0)
    options = {"init_weights": False, "aux_logits": False} if name == "googlenet" else {}
    net = getattr(torchvision.models, name)(weights=None, **options).eval()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return net


def export(net, x, path, exporter):
    """Write an ONNX file with an open number of images."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if exporter == "dynamo":
            sizes = ({0: torch.export.Dim.DYNAMIC},)
            torch.onnx.export(
                net, (x,), path, dynamo=True, external_data=False, verbose=False, dynamic_shapes=sizes
            )
        else:
            axes = {"x": {0: "N"}}
            torch.onnx.export(net, (x,), path, dynamo=False, input_names=["x"], dynamic_axes=axes)


def run_file(path, x):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def difference(got, wanted):
    return float(np.abs(got - wanted).max() / np.abs(wanted).max())


def through_onnx(name, exporter):
    """The row of a network: what COLUMNS says, or why it is not read."""
    net, x = network(name), torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        by_torch = net(x).numpy()
    x = x.numpy()
    with tempfile.TemporaryDirectory() as folder:
        path, saved = Path(folder, "net.onnx"), Path(folder, "saved.onnx")
        export(net, torch.from_numpy(x), str(path), exporter)
        start = time.perf_counter()
        try:
            own = cnnlib.onnx.load(path)
        except ValueError as error:
            return str(error).removeprefix(f"{path}: ")
        seconds = time.perf_counter() - start
        by_runtime, scores = run_file(path, x), own(x)
        cnnlib.onnx.save(own, saved)
        return {
            "parameters": sum(value.size for value in own.params.values()),
            "nodes": len(own.graph().nodes),
            "load": seconds,
            "runtime": difference(scores, by_runtime),
            "torch": difference(scores, by_torch),
            "torch | runtime": difference(by_torch, by_runtime),
            "saved": difference(run_file(saved, x), by_runtime),
        }


def through_torch(name):
    """The same for `cnnlib.torch.from_module`, which needs no file."""
    import cnnlib.torch

    net, x = network(name), torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        by_torch = net(x).numpy()
    start = time.perf_counter()
    try:
        own = cnnlib.torch.from_module(net, (3, 224, 224))
    except ValueError as error:
        return str(error).removeprefix("load: ")
    return {
        "parameters": sum(value.size for value in own.params.values()),
        "nodes": len(own.graph().nodes),
        "load": time.perf_counter() - start,
        "torch": difference(own(x.numpy()), by_torch),
    }


def line(name, row):
    if isinstance(row, str):
        return f"{name:20}not read: {row}"
    cells = [f"{row['parameters']:,}", row["nodes"], f"{row['load']:.2f} s"]
    cells += [f"{row[column]:.1e}" for column in COLUMNS[3:] if column in row]
    return f"{name:20}" + "".join(f"{cell:>17}" for cell in cells)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", nargs="+", choices=NETWORKS, default=NETWORKS, metavar="NAME")
    parser.add_argument("--by", nargs="+", choices=("onnx", "torch"), default=("onnx", "torch"))
    parser.add_argument("--exporter", choices=("torchscript", "dynamo"), default="torchscript")
    parser.add_argument("--json", type=Path, help="write the figures to a file")
    options = parser.parse_args()
    found = {"exporter": options.exporter}
    if "onnx" in options.by:
        found["networks"] = table(options.network, COLUMNS, lambda name: through_onnx(name, options.exporter))
    if "torch" in options.by:
        found["torch"] = table(options.network, (*COLUMNS[:3], "torch"), through_torch)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


def table(names, columns, row_of):
    """Print a line for each network; the rows by name."""
    print(f"{'':20}" + "".join(f"{column:>17}" for column in columns))
    rows = {}
    for name in names:
        rows[name] = row_of(name)
        print(line(name, rows[name]), flush=True)
    return rows


if __name__ == "__main__":
    main()
