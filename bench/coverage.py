"""Which networks of other libraries load, and whether what they compute is right.

    python bench/coverage.py --json coverage.jsonl
    python bench/coverage.py --library ultralytics timm --only "yolo|vit" --by torch

Each network gets random weights by a seed, and statistics of batch norms unlike those of an untrained one.
`cnnlib.torch.from_module` reads the module, `cnnlib.onnx.load` the file that PyTorch writes of it; both run
at the network's own size and at one other. A result is

- right: within 1e-5 of the largest score of PyTorch's float32 result, or as near to PyTorch's float64 result
  as four times PyTorch's own float32 result is (random weights can lose more than that by rounding);
- wrong: it is not;
- refused: cnnlib says by a ValueError what has no counterpart;
- none: PyTorch itself does not run at this size, or cannot export the network.

At the other size `reloaded` says that the network holds to its size and was read again for the other one. A
library that is not installed is said to be missing. `--json` adds a line for each network to a file, and
leaves out those that stand there. The exit status is 1 if a result is wrong.
"""

import argparse
import collections
import contextlib
import copy
import importlib
import json
import re
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cnnlib.onnx
import cnnlib.torch
import numpy as np
import torch
from torch import nn

CLOSE = 1e-5  # of the largest score: rounding of float32 in a hundred layers
ROUNDING = 4  # times PyTorch's own distance from float64, where that is more
IMAGES = 2  # in a batch: one alone would hide samples that are mixed up
MORE = 64  # pixels by which the other size is larger: two strides of 32
SECONDS = 240  # for a network; more than the slowest takes on two cores

# The smallest model of each family of timm (a family is a module of timm.models), by parameters.
TIMM = Path(__file__).parent / "support" / "timm_smallest.txt"
ULTRALYTICS = (
    *("yolov3-tiny", "yolov5n", "yolov6n", "yolov8n", "yolov8n-seg", "yolov8n-pose", "yolov8n-cls"),
    *("yolov9t", "yolov10n", "yolo11n", "yolo11n-seg", "yolo11n-pose", "yolo12n"),
)
SEGMENTATION_MODELS = (
    *("Unet", "UnetPlusPlus", "MAnet", "Linknet", "FPN", "PSPNet", "PAN", "DeepLabV3", "DeepLabV3Plus"),
    *("UPerNet", "Segformer", "DPT"),
)

Made = tuple[nn.Module, tuple[int, int, int], int]  # a network, its images, and its other size


def _torchvision() -> Iterator[tuple[str, Callable[[], Made]]]:
    models = importlib.import_module("torchvision.models")

    def make(name):
        aux = name in ("googlenet", "inception_v3")
        options = {"init_weights": False} if aux else {}
        segments = name in models.list_models(module=models.segmentation)
        if segments:
            options = {"weights_backbone": None}
        size = 299 if name == "inception_v3" else 224
        return models.get_model(name, weights=None, **options), (3, size, size), size + MORE

    listed = [*models.list_models(module=models), *models.list_models(module=models.segmentation)]
    for name in listed:
        yield name, lambda name=name: make(name)


def _timm() -> Iterator[tuple[str, Callable[[], Made]]]:
    timm = importlib.import_module("timm")

    def make(name):
        module = timm.create_model(name, pretrained=False)
        C, H, W = module.default_cfg["input_size"]
        return module, (C, H, W), H + MORE

    for name in TIMM.read_text().split():
        yield name, lambda name=name: make(name)


def _ultralytics() -> Iterator[tuple[str, Callable[[], Made]]]:
    tasks = importlib.import_module("ultralytics.nn.tasks")
    kinds = {"-seg": "SegmentationModel", "-pose": "PoseModel", "-cls": "ClassificationModel"}

    def make(name):
        kind = next((kinds[end] for end in kinds if name.endswith(end)), "DetectionModel")
        module = getattr(tasks, kind)(f"{name}.yaml", verbose=False)
        head = module.model[-1]
        head.export, head.format = True, "onnx"  # as Ultralytics' own exporter sets them
        size = 224 if name.endswith("-cls") else 640
        return module, (3, size, size), size + MORE if size < 640 else 416

    for name in ULTRALYTICS:
        yield name, lambda name=name: make(name)


def _segmentation_models() -> Iterator[tuple[str, Callable[[], Made]]]:
    smp = importlib.import_module("segmentation_models_pytorch")

    def make(name):
        encoder = "tu-vit_tiny_patch16_224" if name == "DPT" else "resnet18"
        module = getattr(smp, name)(encoder_name=encoder, encoder_weights=None, classes=5)
        return module, (3, 224, 224), 224 + MORE

    for name in SEGMENTATION_MODELS:
        yield name, lambda name=name: make(name)


LIBRARIES = {
    "ultralytics": _ultralytics,
    "torchvision": _torchvision,
    "segmentation_models_pytorch": _segmentation_models,
    "timm": _timm,
}


class Unexportable(Exception):
    """A network that PyTorch cannot write to a file."""


class Tensors(nn.Module):
    """A network whose result, whatever it is made of, is one tensor or a tuple of them."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> Any:
        found = _tensors(self.network(x))
        return found[0] if len(found) == 1 else tuple(found)


def _tensors(value):
    if isinstance(value, torch.Tensor):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return [tensor for part in parts for tensor in _tensors(part)]


def randomized(module: nn.Module) -> nn.Module:
    """The module with parameters that begin as a constant drawn, and the statistics of its batch norms."""
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(getattr(layer, "running_var", None), torch.Tensor):
                layer.running_mean.normal_(0, 0.1)
                layer.running_var.uniform_(0.5, 1.5)
        for parameter in module.parameters():
            if parameter.is_floating_point() and parameter.numel() > 1 and parameter.unique().numel() == 1:
                value = float(parameter.flatten()[0])
                if value == 0:  # biases, positions
                    parameter.normal_(0, 0.05)
                else:  # scales, those of layers included that begin at 1e-6
                    parameter.copy_(torch.empty_like(parameter).uniform_(0.7, 1.3) * max(abs(value), 0.1))
    return module.eval()


def images(shape, size=None):
    C, H, W = shape
    H, W = (H, W) if size is None else (size, size)
    random = np.random.default_rng(H)
    return random.standard_normal((IMAGES, C, H, W)).astype(np.float32)


def of_torch(module, x):
    """PyTorch's results (list of ndarray); why there are none (str)."""
    module = copy.deepcopy(module)
    try:
        with torch.no_grad():
            return [tensor.numpy() for tensor in _tensors(module(torch.from_numpy(x)))]
    except Exception as error:  # whatever a network raises at a size that it does not take
        return _line(error)


def _line(error):
    return f"{type(error).__name__}: {error}".partition("\n")[0]


def ours(net, x):
    got = net(x)
    return list(got.values()) if isinstance(got, dict) else [got]


def distance(got, wanted):
    if [a.shape for a in got] != [b.shape for b in wanted]:
        return float("inf")
    finite = [(a, b) for a, b in zip(got, wanted) if b.size]
    return max(float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-30)) for a, b in finite)


def judged(got, wanted, module, x):
    """Whether results are right, and in words how far they are."""
    far = distance(got, wanted)
    if far <= CLOSE:
        return "right", far
    exact = of_torch(module.double(), x.astype(np.float64))
    module.float()
    if not isinstance(exact, str):
        own = distance(wanted, exact)
        if distance(got, exact) <= ROUNDING * own:
            return "right", far
    return "wrong", far


def results(load, module, shape, other):
    """What :func:`judged` says at both sizes, of a network that `load(size)` reads."""
    found = {}
    try:
        net = load(None)
    except ValueError as error:
        return {"own": "refused", "why": str(error)}
    x = images(shape)
    found["own"], found["distance"] = judged(ours(net, x), of_torch(module, x), module, x)
    x = images(shape, other)
    wanted = of_torch(module, x)
    if isinstance(wanted, str):
        return found | {"other": "none", "why other": wanted}
    try:
        got = ours(net, x)
    except ValueError as fixed:
        found["fixed by"] = str(fixed)
        try:
            got = ours(load(other), x)
        except Unexportable as error:
            return found | {"other": "none", "why other": f"PyTorch does not export it: {error}"}
        except ValueError as error:
            return found | {"other": "refused", "why other": str(error)}
    found["other"], _ = judged(got, wanted, module, x)
    return found


def by_torch(module, shape, other):
    def load(size):
        return cnnlib.torch.from_module(module, shape if size is None else (shape[0], size, size))

    return results(load, module, shape, other)


def by_onnx(module, shape, other, exporter):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"

        def export(size):
            x, own = torch.from_numpy(images(shape, size)), copy.deepcopy(module)
            try:
                write(own, x)
            except Exception as error:  # what an exporter raises
                raise Unexportable(_line(error)) from error

        def write(own, x):
            if exporter == "dynamo":
                sizes = ({0: torch.export.Dim.DYNAMIC},)
                torch.onnx.export(own, (x,), path, dynamo=True, verbose=False, dynamic_shapes=sizes)
            else:
                axes = {"x": {0: "N"}}
                torch.onnx.export(own, (x,), path, dynamo=False, input_names=["x"], dynamic_axes=axes)

        def load(size):
            if size is not None:
                export(size)
            return cnnlib.onnx.load(path)

        try:
            export(None)
        except Unexportable as error:
            return {"own": "none", "why": f"PyTorch does not export it: {error}"}
        return results(load, module, shape, other)


@contextlib.contextmanager
def limited(seconds):
    def stop(*_):
        raise TimeoutError(f"took more than {seconds} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def measured(make, by, exporter, seconds):
    found = {}
    try:
        torch.manual_seed(0)
        module, shape, other = make()
        module = Tensors(randomized(module)).eval()
    except Exception as error:  # a network that its library cannot make here
        return {"why": f"its library does not make it: {_line(error)}"}
    for way in by:
        start = time.perf_counter()
        try:
            with limited(seconds):
                own = copy.deepcopy(module)  # exporting may leave tensors of its own in a module
                if way == "torch":
                    one = by_torch(own, shape, other)
                else:
                    one = by_onnx(own, shape, other, exporter)
        except Exception as error:  # no refusal: an error of ours, which counts as wrong
            one = {"own": "wrong", "why": _line(error)}
        found[way] = one | {"seconds": round(time.perf_counter() - start, 1)}
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--library", nargs="+", choices=LIBRARIES, default=list(LIBRARIES))
    parser.add_argument("--only", default="", help="networks whose name matches this expression")
    parser.add_argument("--by", nargs="+", choices=("torch", "onnx"), default=["torch", "onnx"])
    parser.add_argument("--exporter", choices=("torchscript", "dynamo"), default="torchscript")
    parser.add_argument("--seconds", type=int, default=SECONDS, help="for one network")
    parser.add_argument("--json", type=Path, help="a line for each network")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    lines = args.json.read_text().splitlines() if args.json and args.json.exists() else []
    rows = [json.loads(line) for line in lines]
    for library in args.library:
        done = {row["network"] for row in rows if row["library"] == library}
        try:
            networks = list(LIBRARIES[library]())
        except ImportError:
            print(f"{library} is missing", flush=True)
            continue
        for name, make in networks:
            if name not in done and re.search(args.only, name):
                row = {"library": library, "network": name} | measured(
                    make, args.by, args.exporter, args.seconds
                )
                rows.append(row)
                print(described(row), flush=True)
                if args.json:
                    with args.json.open("a") as file:
                        file.write(json.dumps(row) + "\n")
    print(summary(rows))
    sys.exit(
        any(row.get(way, {}).get(at) == "wrong" for row in rows for way in args.by for at in ("own", "other"))
    )


def described(row):
    parts = [f"{row['library']} {row['network']}"]
    for way in ("torch", "onnx"):
        one = row.get(way)
        if one:
            text = f"{way}: {one['own']}, {one.get('other', '-')}"
            parts.append(f"{text} {'(reloaded)' if 'fixed by' in one else ''} {one.get('why', '')[:150]}")
    return " | ".join(parts + [row[key] for key in ("why",) if key in row])


def summary(rows):
    """A table of counts: library, importer, size."""
    lines = ["", f"{'library':30}{'by':8}{'size':8}{'right':>7}{'refused':>9}{'wrong':>7}{'none':>6}"]
    for library in dict.fromkeys(row["library"] for row in rows):
        for way in ("torch", "onnx"):
            for at in ("own", "other"):
                found = [
                    row[way].get(at, row[way]["own"])
                    for row in rows
                    if row["library"] == library and way in row
                ]
                counts = collections.Counter(found)
                if found:
                    numbers = "".join(
                        f"{counts[kind]:>{width}}"
                        for kind, width in (("right", 7), ("refused", 9), ("wrong", 7), ("none", 6))
                    )
                    lines.append(f"{library:30}{way:8}{at:8}{numbers}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
