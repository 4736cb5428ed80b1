"""
How much the resident memory grows while layers and networks see ever new shapes, and in a long training.

    python tests/memory_growth.py --shapes 1000 --sizes 10000 --steps 10000

Linux only. The growth counts from where a tenth of the shapes, sizes or steps is behind us.
"""

import argparse
import os

import cnnlib
import numpy as np
from cnnlib.models import ConvNet
from training import digits_like, quiet_solver

MOST_VALUES = 1 << 18  # of an array
LARGEST_SIDE = 97  # of an image, below
# A network of images of any size.
IMAGES = [{"conv": 8}, "batchnorm", "relu", {"max_pool": 2}, {"conv": 16}, "relu", "global_avg_pool"]
SPEC = [{"conv": 4}, "batchnorm", "relu", {"dropout": 0.3}, {"max_pool": 2}]


def resident():
    """Resident memory of this process, in MB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20


def convolve(x, rng):
    """A convolution with random filters and parameters, forward and backward."""
    C, KH, KW = x.shape[1], *rng.integers(1, 6, 2)
    groups = int(rng.choice([k for k in (1, 2, 4, C) if C % k == 0]))
    param = {"stride": int(rng.integers(1, 4)), "pad": (int(KH), int(KW)), "groups": groups}
    w = np.ones((groups * rng.integers(1, 9), C // groups, KH, KW), x.dtype)
    out, cache = cnnlib.conv_forward(x, w, None, param)
    cnnlib.conv_backward(out, cache)


def pool_and_normalise(x, rng):
    """A pool, batch norm, ReLU and an affine layer, forward and backward."""
    C = x.shape[1]
    size = {"pool_height": int(rng.integers(1, 4)), "pool_width": int(rng.integers(1, 4))}
    out, cache = cnnlib.max_pool_forward(x, size)
    cnnlib.max_pool_backward(out, cache)
    out, cache = cnnlib.spatial_batchnorm_forward(
        out, np.ones(C, x.dtype), np.zeros(C, x.dtype), {"mode": "train"}
    )
    cnnlib.spatial_batchnorm_backward(out, cache)
    out, cache = cnnlib.relu_forward(out)
    cnnlib.relu_backward(out, cache)
    out, cache = cnnlib.affine_forward(out, np.ones((out[0].size, 5), x.dtype), None)
    cnnlib.affine_backward(out, cache)


def growth_over_shapes(count, seed=0):
    """MB by which the memory grew over `count` random shapes."""
    rng = np.random.default_rng(seed)
    before = resident()
    for number in range(count):
        if number == count // 10:
            before = resident()
        N, C = rng.integers(1, 9), rng.integers(1, 33)
        H, W = rng.integers(3, max(4, int((MOST_VALUES / (N * C)) ** 0.5)), 2)
        x = rng.standard_normal((N, C, H, W), rng.choice([np.float32, np.float64]))
        convolve(x, rng)
        pool_and_normalise(x, rng)
    return resident() - before


def growth_over_sizes(count, seed=0):
    """Return the MB by which the memory grew over `count` random sizes of images, and the two networks.

    A predictor gives scores of each size, and a model takes a step of training.
    """
    rng = np.random.default_rng(seed)
    net = ConvNet(IMAGES, (3, 12, 12), 4, seed=0)
    predictor = cnnlib.prepare(net)
    before = resident()
    for number in range(count):
        if number == count // 10:
            before = resident()
        N, (H, W) = rng.integers(1, 4), rng.integers(4, LARGEST_SIDE, 2)
        x = rng.standard_normal((N, 3, H, W), np.float32)
        assert predictor(x).shape == (N, 4)
        _, grads = net.loss(x, rng.integers(0, 4, N))
        for name, grad in grads.items():
            net.params[name] -= np.float32(1e-3) * grad
    return resident() - before, predictor, net


def growth_over_steps(count):
    """MB by which the memory grew over `count` steps of a training."""
    model = ConvNet(SPEC, (1, 6, 6), 4, seed=0)
    epoch = 100
    seen = []
    data = digits_like(num_train=4 * epoch)
    settings = {"update_rule": "adam", "batch_size": 4, "num_epochs": count // epoch, "num_train_samples": 20}
    quiet_solver(model, data, on_epoch=lambda solver: seen.append(resident()), **settings).train()
    return seen[-1] - seen[len(seen) // 10]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shapes", type=int, default=1000)
    parser.add_argument("--sizes", type=int, default=10000)
    parser.add_argument("--steps", type=int, default=10000)
    options = parser.parse_args()
    print(f"{options.shapes} shapes: {growth_over_shapes(options.shapes):+.1f} MB")
    growth, *networks = growth_over_sizes(options.sizes)
    print(f"{options.sizes} sizes of images: {growth:+.1f} MB")
    for network in networks:
        print(f"{type(network).__name__}:", network.memory(), sep="\n")
    print(f"{options.steps} steps: {growth_over_steps(options.steps):+.1f} MB")


if __name__ == "__main__":
    main()
