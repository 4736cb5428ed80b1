"""``cnnlib serve`` under load: cnnlib's predictor and ONNX Runtime (ORT) behind the same server code.

Both serve the same ONNX file with as many threads; wrk sends JPEG files over this machine's own address.
Servers take turns, one at a time, and the median of the rounds is shown. Requests a second count answers of
any status, and a run with one other than 200 is marked. Server and client share the cores.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

import numpy as np
from cnnlib import onnx
from cnnlib.data import Normalization
from cnnlib.models import ConvNet
from PIL import Image, ImageFilter
from support import runner
from support.inference import networks
from support.serving.load import load, require_wrk

_SERVER = Path(__file__).parent / "support" / "serving" / "server.py"
_ENGINES = ("cnnlib", "onnxruntime")
_IMAGES = 16
# Of each network: what makes it, and height and width of the files that are sent.
_NETWORKS = {
    "resnet8": (lambda: ConvNet("resnet8", (3, 32, 32), 10, seed=0), (32, 32)),
    "mobilenet-v2": (lambda: networks.build("mobilenet-v2"), (375, 500)),
    "resnet18": (lambda: networks.build("resnet18"), (375, 500)),
}


def main():
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--network", nargs="+", choices=_NETWORKS, default=list(_NETWORKS), metavar="NAME")
    add("--connections", nargs="+", type=int, default=[1, 8, 64], metavar="N")
    add("--threads", type=int, default=2, help="of the network, in both engines")
    add("--seconds", type=float, default=10.0, help="of each run")
    add("--rounds", type=int, default=3)
    add("--markdown", metavar="FILE", help="write the table here")
    options = parser.parse_args()
    require_wrk()
    runner.warn_of_load()
    lines = _heading()
    print("\n".join(lines))
    for name in options.network:
        for line in _rows(name, options):
            print(line, flush=True)
            lines.append(line)
    if options.markdown:
        Path(options.markdown).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _rows(name, options):
    """A row of the table for each number of connections."""
    build, size = _NETWORKS[name]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"{name}.onnx")
        net = build()
        net.preprocess = Normalization([124, 116, 104], [58, 57, 57])
        onnx.save(net, path)
        images = _photos(Path(folder), size)
        runs = {(engine, n): [] for engine in _ENGINES for n in options.connections}
        answers = {}
        for _ in range(options.rounds):
            for engine in _ENGINES:
                with _serving(engine, path, options.threads) as port:
                    answers[engine] = _answer(port, images[0])
                    load(port, images, max(options.connections), 1.0)  # sizes of batches are met first
                    for n in options.connections:
                        runs[engine, n].append(load(port, images, n, options.seconds))
    _compare(*(answers[engine] for engine in _ENGINES))
    for n in options.connections:
        yield _row(name, n, *(runs[engine, n] for engine in _ENGINES))


def _photos(folder, size):
    """JPEG files of smooth noise, as large as photographs of that size."""
    rng, paths = np.random.default_rng(0), []
    for n in range(_IMAGES):
        pixels = rng.integers(0, 256, (*size, 3), np.uint8)
        paths.append(folder / f"{n}.jpg")
        Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(2)).save(paths[-1], quality=90)
    return paths


@contextlib.contextmanager
def _serving(engine, path, threads):
    """A server in a process of its own; its port."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, str(_SERVER), engine, str(path), str(threads)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        yield int(process.stdout.readline())
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _answer(port, image):
    url = f"http://127.0.0.1:{port}/predict?top=10"
    with urllib.request.urlopen(url, image.read_bytes(), timeout=30) as answer:
        return {row["class"]: row["probability"] for row in json.load(answer)[0]["predictions"]}


def _compare(ours, theirs):
    """Both engines give the same probabilities, or the figures would mean nothing."""
    worst = max(abs(ours[name] - theirs.get(name, 0.0)) for name in ours)
    if worst > 1e-4:
        raise RuntimeError(f"the engines' probabilities differ by {worst:.1g}")


def _heading():
    return [
        "| network | connections | requests/s | with ORT | median, ms | with ORT | 99 %, ms | with ORT |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]


def _row(name, connections, *runs):
    def median(key):
        return [statistics.median(run[key] for run in of_engine) for of_engine in runs]

    cells = [f"{value:.0f}" for value in median("rate")]
    cells += [f"{value:.1f}" for key in ("p50", "p99") for value in median(key)]
    errors = sum(run["errors"] for of_engine in runs for run in of_engine)
    mark = f" ({errors} errors)" if errors else ""
    return f"| {name} | {connections}{mark} | " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
