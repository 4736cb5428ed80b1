"""Memory that an engine takes, measured in a process of its own: ``python -m cnnlib.benchmarking.growth``."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

import cnnlib
from cnnlib.benchmarking.engines import CALLS

OWN = "cnnlib"
_CALLS = 3
_UNKNOWN = "unknown"
_CLEAR = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # written there, the peak counts from here on (proc(5))


def grown_bytes(engine: str, precision: str, model: str, onnx: str, X: np.ndarray) -> int | None:
    """Return the bytes that making an engine and three calls add at their peak.

    `model` is a file of the model's ``save``, `onnx` one of its ``export``. None except on Linux, and where a
    module has layers that cannot be made again from the file. ChildProcessError if the measuring process
    fails.
    """
    if not _CLEAR.exists():
        return None
    with tempfile.TemporaryDirectory() as folder:
        images = os.path.join(folder, "images.npy")
        np.save(images, X)
        arguments = [engine, precision, model, onnx, images, str(cnnlib.get_num_threads())]
        command = [sys.executable, "-m", "cnnlib.benchmarking.growth", *arguments]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        raise ChildProcessError(
            f"benchmark: the memory of {engine} could not be measured ({last}); memory=False (--no-memory) "
            "leaves it out"
        )
    grown = done.stdout.split()[-1]
    return None if grown == _UNKNOWN else int(grown)


def main(engine: str, precision: str, model: str, onnx: str, images: str, threads: str) -> None:
    """Print the bytes of one engine."""
    cnnlib.set_num_threads(int(threads))
    net, x = cnnlib.load(model), np.load(images)
    if engine != OWN:
        importlib.import_module(engine)
    cnnlib.release_buffers()
    before = resident_from_here()
    call: Callable[..., object]
    if engine == OWN:
        predictor = cnnlib.prepare(net, precision=precision, calibration=x if precision == "int8" else None)
        x = x.astype(predictor.dtype, copy=False)
        call = predictor
    else:
        try:
            call = CALLS[engine](net, onnx, x, int(threads))
        except ValueError:  # a layer that the engine has in the user's module alone
            print(_UNKNOWN)
            return
    for _ in range(_CALLS):
        call(x)
    print(peak_resident() - before)


def resident_from_here() -> int:
    """Return the bytes of this process that lie in memory, from which on its peak counts."""
    _CLEAR.write_text(_RESET_PEAK)
    return _status("VmRSS")


def peak_resident() -> int:
    """Return the most bytes of this process that lay in memory."""
    return _status("VmHWM")


def _status(key: str) -> int:
    """Return a size in bytes from this process's status."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    return 1024 * int(status.split(f"{key}:")[1].split()[0])


if __name__ == "__main__":
    main(*sys.argv[1:])
