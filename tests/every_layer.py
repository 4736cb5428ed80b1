"""
Run every layer with each instruction set and dtype, forward and backward, a prepared network, and the rules
of cnnlib.optim: for tools that watch the process.

    PYTHONMALLOC=malloc valgrind --error-exitcode=1 python tests/every_layer.py

Valgrind knows instruction sets up to AVX2, and its processor has no others. With `--large` the layers are
those of tests/large_layers.py, which are large enough for several threads. Each set's line ends with the
digest of all its results, which is the same on every processor.
"""

import hashlib
import sys

import numpy as np
from cnnlib import _core, optim, prepare
from cnnlib.models import ConvNet
from helpers import LAYERS
from large_layers import LARGE


def short(array):
    """The array in steps of 1/256: the last bits of NumPy's normal numbers depend on the processor."""
    return (np.round(array * 256) / 256).astype(array.dtype)


def results(layers, rng):
    for layer in layers:
        for dtype in (np.float32, np.float64):
            arrays = [short(array) for array in layer.arrays(rng, dtype)]
            np.random.seed(0)  # dropout draws from it
            out, _ = layer.forward(*arrays, *layer.rest())
            np.random.seed(0)
            yield from layer.run(arrays, short(rng.standard_normal(out.shape)).astype(dtype))
    for dtype in (np.float32, np.float64):
        net = ConvNet("resnet8", (3, 16, 16), 4, seed=0, dtype=dtype)
        for name, array in net.params.items():
            net.params[name] = short(array)
        yield prepare(net)(short(rng.standard_normal((3, 3, 16, 16))))
        for name in optim.__all__:
            w, config = short(rng.standard_normal(100)).astype(dtype), {}
            for _ in range(3):
                w, config = getattr(optim, name)(w, short(rng.standard_normal(100)).astype(dtype), config)
            yield w


def main():
    layers = list(LARGE.values()) if "--large" in sys.argv[1:] else LAYERS
    for isa in _core.available_isas():
        _core.use_isa(isa)
        digest = hashlib.sha256()
        for result in results(layers, np.random.default_rng(0)):
            digest.update(np.ascontiguousarray(result).tobytes())
        print(f"{isa}: {len(layers)} layers, {digest.hexdigest()}", flush=True)


if __name__ == "__main__":
    main()
