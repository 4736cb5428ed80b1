"""
Run every layer with each instruction set and dtype, forward and backward, and a prepared network: for tools
that watch the process.

    PYTHONMALLOC=malloc valgrind --error-exitcode=1 python tests/every_layer.py

Valgrind knows instruction sets up to AVX2, and its processor has no others. With `--large` the layers are
those of tests/test_determinism.py, which are large enough for several threads.
"""

import sys

import numpy as np
from cnnlib import _core, prepare
from cnnlib.convnet import ConvNet
from helpers import LAYERS
from test_determinism import LARGE


def main():
    rng = np.random.default_rng(0)
    layers = list(LARGE.values()) if "--large" in sys.argv[1:] else LAYERS
    for isa in _core.available_isas():
        _core.use_isa(isa)
        for layer in layers:
            for dtype in (np.float32, np.float64):
                arrays = layer.arrays(rng, dtype)
                out, _ = layer.forward(*arrays, *layer.rest())
                layer.run(arrays, rng.standard_normal(out.shape).astype(dtype))
        for dtype in (np.float32, np.float64):
            net = ConvNet("resnet8", (3, 16, 16), 4, seed=0, dtype=dtype)
            prepare(net)(rng.standard_normal((3, 3, 16, 16)))
        print(f"{isa}: {len(layers)} layers", flush=True)


if __name__ == "__main__":
    main()
