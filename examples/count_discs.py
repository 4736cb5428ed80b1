"""A value from an image: how many discs there are, though they overlap; beside counting connected regions.

python examples/count_discs.py    # needs SciPy, matplotlib
"""

import numpy as np
from cnnlib import prepare
from cnnlib.models import ConvNet
from cnnlib.solver import Solver
from pictures import draw
from scipy import ndimage

SPEC = [
    {"conv": 16},
    "batchnorm",
    "relu",
    {"max_pool": 2},
    {"conv": 32},
    "batchnorm",
    "relu",
    {"max_pool": 2},
]
SPEC += [{"conv": 32}, "batchnorm", "relu", "global_avg_pool", {"affine": 32}, "relu", {"values": 1}]


def discs(n, seed, size=48):
    """Noisy images (n, 1, size, size) of 1 to 12 discs of one radius, and the numbers (n, 1)."""
    rng, (y, x) = np.random.default_rng(seed), np.mgrid[:size, :size]
    numbers = rng.integers(1, 13, n)
    images = np.zeros((n, 1, size, size), np.float32)
    for image, number in zip(images, numbers, strict=True):
        for cy, cx in rng.uniform(5, size - 5, (number, 2)):
            distance = np.hypot(y - cy, x - cx)
            image[0][distance < 5] = 0.6
            image[0][abs(distance - 4.5) < 0.7] = 0.9  # rims, which show in overlaps
    images += 0.1 * rng.standard_normal(images.shape, dtype=np.float32)
    return images, numbers[:, None].astype(np.float32)


def train(n=1500, epochs=10):
    """A network with one number at its end."""
    net = ConvNet(SPEC, (1, 48, 48), seed=0)
    (X_train, y_train), (X_val, y_val) = discs(n, 0), discs(200, 1)
    data = {"X_train": X_train, "y_train": y_train, "X_val": X_val, "y_val": y_val}
    options = {"update_rule": "adam", "optim_config": {"learning_rate": 4e-3}, "schedule": "cosine"}
    options |= {"loss": "huber", "metrics": ["mae", "r2"], "augment": "flip", "batch_size": 50}
    Solver(net, data, **options, num_epochs=epochs, seed=0, print_every=1000).train()
    return prepare(net)


def regions(image):
    """How many bright regions hang together."""
    return ndimage.label(ndimage.gaussian_filter(image, 1) > 0.3)[1]


def main(picture="discs.png", **options):
    """Count the discs of new images; returns the mean error of either way."""
    predictor, (X, y) = train(**options), discs(500, 2)
    counts = {"connected regions": np.array([[regions(image)] for image in X[:, 0]])}
    counts |= {"network": predictor(X)}
    scores = {name: float(abs(count - y).mean()) for name, count in counts.items()}
    for name, score in scores.items():
        print(f"{name:18} is {score:.2f} discs off on the average")
    if picture:
        by_regions, by_network = (count[:4, 0] for count in counts.values())
        titles = [
            f"{there:.0f} discs: regions {a}, network {b:.1f}"
            for there, a, b in zip(y[:4, 0], by_regions, by_network, strict=True)
        ]
        draw(picture, [X[:4, 0]], titles)
    return scores


if __name__ == "__main__":
    main()
