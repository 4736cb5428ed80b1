"""612 photos of three classes (by default) through ResNet-18 and MobileNetV2: from the command to the report.

The photos are drawn here (shapes on blurred grounds, twelve copies, one in the wrong folder), the weights are
random: it is about time, not about accuracy. For each network: the seconds of ``cnnlib train --from`` in a
process of its own; images a second of the prepared trunk and of ONNX Runtime, interleaved; a run that is
interrupted among its features and resumed, whose file has to be the same bytes, with each feature computed
once; and, where Chromium is installed, the report's page as pictures at two widths.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cnnlib
import numpy as np
from cnnlib.pretrained import load_torchvision
from PIL import Image

_CLASSES, _COPIES = ("circles", "stripes", "squares"), 12
_WIDTHS = (1280, 420)
_HEADER, _KEY = 4096, 24  # of a file of features: bytes before the rows, and before each


def main():
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--out", default="photos-bench", metavar="FOLDER", help="where everything goes")
    add("--networks", nargs="+", default=["resnet18", "mobilenet_v2"], metavar="NAME", help="torchvision's")
    add("--of-class", type=int, default=200, metavar="N", help="photos drawn of each class")
    add("--threads", type=int, default=os.cpu_count(), metavar="N", help="of both sides")
    options = parser.parse_args()
    cnnlib.set_num_threads(options.threads)
    out = Path(options.out)
    if not (out / "photos").exists():
        _draw(out / "photos", options.of_class)
    for name in options.networks:
        module = _module(name)
        file = out / f"{name}.safetensors"
        arrays = {key: value.numpy() for key, value in module.state_dict().items()}
        cnnlib.safetensors.save(arrays, file)
        _compare(name, module, file, out, options.threads)
        wanted = _train(out, name, options.threads)
        _interrupt(out, name, options.threads, wanted)
        _picture(out, name)


def _draw(root, count):
    """Photos in a folder for each class."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:256, :320]
    for kind, name in enumerate(_CLASSES):
        (root / name).mkdir(parents=True)
        for n in range(count):
            ground = Image.fromarray(rng.integers(40, 215, (8, 8, 3), dtype=np.uint8))
            pixels = np.asarray(ground.resize((320, 256), Image.Resampling.BICUBIC)).astype(int)
            x, y, r = rng.integers(80, 240), rng.integers(60, 190), rng.integers(25, 60)
            across, down = abs(columns - x), abs(rows - y)
            if kind == 0:
                inside = across**2 + down**2 < r * r
            elif kind == 1:
                inside = (columns // rng.integers(8, 20) % 2 == 0) & (down < r)
            else:
                inside = (across < r) & (down < r)
            pixels[inside] = pixels[inside] // 3 + rng.integers(0, 170, 3)
            pixels = np.clip(pixels + rng.normal(0, 8, pixels.shape), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{n}.jpg", quality=88)
    shutil.move(root / "circles/3.jpg", root / "squares/from-circles.jpg")
    for n in range(_COPIES):
        Image.open(root / f"stripes/{n}.jpg").save(root / f"stripes/copy-{n}.jpg", quality=80)


def _module(name):
    """A network of torchvision with random weights and statistics."""
    import torch
    import torchvision

    torch.manual_seed(0)
    module = torchvision.models.get_model(name, weights=None)
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 1.5)
    return module.eval()


def _compare(name, module, file, out, threads):
    """Features beside PyTorch's, images a second beside ONNX Runtime's, preprocessing included."""
    import onnxruntime
    import torch

    last = "fc" if hasattr(module, "fc") else "classifier"
    setattr(module, last, torch.nn.Identity())
    exported = out / f"{name}-body.onnx"
    axes = {"input_names": ["x"], "dynamic_axes": {"x": {0: "N"}}}
    torch.onnx.export(module, torch.zeros(1, 3, 224, 224), exported, dynamo=False, **axes)
    trunk = load_torchvision(file).cut()
    predictor, preprocess = cnnlib.prepare(trunk), trunk.preprocess
    images = np.random.default_rng(0).integers(0, 256, (8, 3, 224, 224), dtype=np.uint8)
    with torch.inference_mode():
        want = module(torch.from_numpy(preprocess(images))).numpy()
    difference = np.abs(predictor(images) - want).max() / np.abs(want).max()
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(exported), settings, providers=["CPUExecutionProvider"])
    sides = (lambda: predictor(images), lambda: session.run(None, {"x": preprocess(images)}))
    seconds = np.array([[_seconds(side) for side in sides] for _ in range(12)])
    own, theirs = len(images) / seconds.min(axis=0)
    print(
        f"{name}, {threads} threads, batches of 8, least of 12: cnnlib {own:.1f} images/s, ONNX Runtime "
        f"{theirs:.1f}, ratio {own / theirs:.2f}; features differ from PyTorch's by {difference:.1e}",
        flush=True,
    )


def _seconds(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def _command(out, name, run, threads):
    learn = ["train", "--data", f"folder:{out / 'photos'}", "--from", str(out / f"{name}.safetensors")]
    return [*_CNNLIB, *learn, "--threads", str(threads), "--out", str(out / run), "--overwrite"]


_CNNLIB = (sys.executable, "-m", "cnnlib")


def _features(out):
    """The files of features."""
    return list(out.glob("photos.cnnlib-cache/features-*/features.bin"))


def _train(out, name, threads):
    """How many features the run needs: of each photo, and of a second view of those that it learns from."""
    for file in _features(out):
        file.unlink()
    start = time.perf_counter()
    command = _command(out, name, f"run-{name}", threads)
    printed = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout
    seconds = time.perf_counter() - start
    done = re.search(r"features: (\d+) of \1.*", printed)
    print(f"{name}: {seconds:.1f} s from the command to the end of its report ({done[0]})", flush=True)
    first = re.search(r"(\d+) training, (\d+) validation, (\d+) test", printed)
    return 2 * int(first[1]) + int(first[2]) + int(first[3])


def _interrupt(out, name, threads, wanted):
    for file in _features(out):
        file.unlink()
    process = subprocess.Popen(
        _command(out, name, f"again-{name}", threads), text=True, stdout=subprocess.PIPE
    )
    for line in process.stdout:
        if line.startswith("features:"):  # after two seconds of them
            process.send_signal(signal.SIGINT)
            break
    process.communicate()
    before = _rows(out)
    resume = [*_CNNLIB, "train", "--resume", str(out / f"again-{name}"), "--threads", str(threads)]
    subprocess.run(resume, check=True, stdout=subprocess.DEVNULL)
    files = [(out / f"{run}-{name}/model.npz").read_bytes() for run in ("run", "again")]
    print(
        f"{name}: interrupted with status {process.returncode} after {before} features, resumed: "
        f"{_rows(out)} computed in all of {wanted} needed; model.npz is "
        f"{'the same' if files[0] == files[1] else 'ANOTHER'} bytes",
        flush=True,
    )


def _rows(out):
    """How many features the one file of them has: each that was computed is appended to it."""
    (path,) = _features(out)
    with open(path, "rb") as file:
        about = json.loads(file.read(_HEADER))
    row = _KEY + np.dtype(about["dtype"]).itemsize * int(np.prod(about["shape"]))
    return (path.stat().st_size - _HEADER) // row


def _picture(out, name):
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        print("no Chromium here, so the report is not pictured")
        return
    page = (out / f"run-{name}/report.html").resolve()
    for width in _WIDTHS:
        picture = (out / f"{name}-{width}.png").resolve()
        options = ("--headless", "--no-sandbox", "--hide-scrollbars", f"--window-size={width},6000")
        command = [browser, *options, f"--screenshot={picture}", f"file://{page}"]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=120)
        print(f"{picture}: the report at a width of {width}")


if __name__ == "__main__":
    main()
