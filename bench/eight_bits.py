"""What eight bits cost and save: a trained network in float32 and in eight bits, here and in the engines.

    cnnlib train --recipe cifar10-fast --data cifar10:DIR --out runs/fast
    python bench/eight_bits.py runs/fast --data cifar10:DIR

All are calibrated by the same 500 images of the training split and score the same test images. ONNX Runtime
has its quantize_static (QDQ, weights by filter), OpenVINO that file, and NNCF's quantisation of the float
network where it is installed.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time

import cnnlib
import numpy as np
from cnnlib import onnx as exchange
from cnnlib.benchmarking import engines
from cnnlib.cli.run.trained import calibration_images, open_trained
from support.inference import eight_bits

_BATCH = 100


def main():
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", nargs="+", help="folders of runs")
    parser.add_argument("--data", help="where their data set lies, if it has moved")
    parser.add_argument("--images", type=int, default=10_000, help="of the test split at most")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    cnnlib.set_num_threads(options.threads)
    print(
        "| network | program | precision | right, % | difference | file, kB | calibrated in, s | memory, kB |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for run in options.run:
        for row in _rows(run, options):
            print(f"| {' | '.join(row)} |", flush=True)
    return 0


def _rows(run, options):
    trained = open_trained(run)
    (calibrating, white), (testing, _) = (trained.load(options.data, split) for split in ("train", "test"))
    X, y = (np.asarray(array[: options.images]) for array in testing[0])
    factor = np.float32(trained.normalization.white / white)
    x, images = (
        trained.normalization(part if factor == 1 else part * factor)
        for part in (X, calibration_images(calibrating[0][0]))
    )
    name = os.path.basename(os.path.normpath(run))
    wanted = None
    for program, precision, size, seconds, memory, scores in _programs(
        trained.model, x, images, options.threads
    ):
        right = 100 * np.mean(scores.argmax(axis=1) == y)
        wanted = right if wanted is None else wanted
        cells = f"{right:.2f}", f"{right - wanted:+.2f}", f"{size / 1e3:,.0f}"
        yield name, program, precision, *cells, f"{seconds:.1f}" if seconds else "", memory


def _programs(model, x, images, threads):
    """Of each program its name, precision, bytes of its file, seconds to calibrate, memory, and scores."""
    with tempfile.TemporaryDirectory() as folder:
        at = {name: os.path.join(folder, name) for name in ("net", "net.onnx", "int8.onnx", "qdq.onnx")}
        for precision in ("float32", "int8"):
            given = {"precision": "int8", "calibration": images} if precision == "int8" else {}
            start = time.perf_counter()
            predictor = cnnlib.prepare(model, **given)
            seconds = time.perf_counter() - start if given else 0
            predictor.save(at["net"])
            network = predictor._network(x.shape[1:])
            memory = f"{(network.packed_bytes + network.arena_bytes) / 1e3:,.0f}"
            yield "cnnlib", precision, os.path.getsize(at["net"]), seconds, memory, predictor(x)
        exchange.save(predictor, at["int8.onnx"])
        exchange.save(model, at["net.onnx"])
        start = time.perf_counter()
        eight_bits.quantize_onnx(at["net.onnx"], at["qdq.onnx"], images)
        seconds = time.perf_counter() - start
        size = os.path.getsize(at["qdq.onnx"])
        runs = engines.installed()
        if "onnxruntime" in runs:
            yield (
                "ONNX Runtime",
                "QDQ",
                size,
                seconds,
                "",
                _scores("onnxruntime", model, at["qdq.onnx"], x, threads),
            )
            own = os.path.getsize(at["int8.onnx"])
            yield (
                "ONNX Runtime",
                "cnnlib's file",
                own,
                0,
                "",
                _scores("onnxruntime", model, at["int8.onnx"], x, threads),
            )
            yield "cnnlib", "ONNX Runtime's file", size, 0, "", exchange.load(at["qdq.onnx"])(x)
        if "openvino" in runs:
            yield "OpenVINO", "QDQ", size, 0, "", _scores("openvino", model, at["qdq.onnx"], x, threads)
            yield from _nncf(at["net.onnx"], folder, x, images)


def _scores(engine, model, path, x, threads):
    return _by_hundreds(engines.CALLS[engine](model, path, x[:_BATCH], threads), x)


def _by_hundreds(call, x):
    """Scores of all images, some at a time: what a call gives may be overwritten by the next."""
    padded = np.concatenate([x, np.zeros((-len(x) % _BATCH, *x.shape[1:]), x.dtype)])
    return np.concatenate([np.array(call(part)) for part in np.split(padded, len(padded) // _BATCH)])[
        : len(x)
    ]


def _nncf(path, folder, x, images):
    """OpenVINO's own quantisation."""
    try:
        import nncf
        import openvino
    except ImportError:
        return
    core = openvino.Core()
    start = time.perf_counter()
    batches = nncf.Dataset([images[i : i + 1] for i in range(len(images))])
    quantized = nncf.quantize(core.read_model(path), batches, subset_size=len(images))
    seconds = time.perf_counter() - start
    target = os.path.join(folder, "nncf.xml")
    openvino.save_model(quantized, target)
    size = sum(os.path.getsize(f"{target[:-3]}{end}") for end in ("xml", "bin"))
    compiled = core.compile_model(quantized, "CPU")
    yield "OpenVINO", "NNCF", size, seconds, "", _by_hundreds(lambda part: compiled(part)[0], x)


if __name__ == "__main__":
    raise SystemExit(main())
