"""Segment images: a small U-Net finds discs, squares and triangles, beside Otsu's threshold.

python examples/segment_shapes.py    # needs scikit-image, matplotlib
"""

import numpy as np
from cnnlib import prepare
from cnnlib.models import ConvNet
from cnnlib.solver import Solver
from pictures import draw

CLASSES = ("ground", "disc", "square", "triangle")
COLOURS = np.array([[0, 0, 0], [0.9, 0.6, 0], [0.3, 0.7, 0.9], [0, 0.6, 0.5]])


def shapes(n, seed, size=48):
    """Noisy images (n, 1, size, size) of some shapes each, and the class of every pixel (n, size, size)."""
    rng, (y, x) = np.random.default_rng(seed), np.mgrid[:size, :size]
    images = np.empty((n, 1, size, size), np.float32)
    labels = np.zeros((n, size, size), np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[0] = rng.uniform(0.2, 0.4) + 0.3 * x / size  # light from one side
        for _ in range(rng.integers(1, 4)):
            kind, radius = rng.integers(1, 4), rng.uniform(5, 10)
            dy, dx = y - rng.uniform(8, size - 8), x - rng.uniform(8, size - 8)
            inside = {
                1: dy**2 + dx**2 < radius**2,
                2: np.maximum(abs(dy), abs(dx)) < 0.85 * radius,
                3: (dy < 0.7 * radius) & (2 * abs(dx) < dy + radius),
            }[int(kind)]
            image[0][inside] = rng.uniform(0.6, 0.95)
            label[inside] = kind
        image += 0.08 * rng.standard_normal(image.shape, dtype=np.float32)
    return images, labels


def train(n=600, epochs=8):
    """A U-Net of two levels."""

    def pair(filters):
        return 2 * [{"conv": filters}, "batchnorm", "relu"]

    spec = [*pair(16)[:-1], {"relu": None, "name": "fine"}, {"max_pool": 2}, *pair(32), {"max_pool": 2}]
    spec += [*pair(32), {"upsample": 4}, {"concat": [[], "fine"]}, *pair(16), "pixels"]
    net = ConvNet(spec, (1, 48, 48), len(CLASSES), seed=0)
    (X_train, y_train), (X_val, y_val) = shapes(n, 0), shapes(100, 1)
    data = {"X_train": X_train, "y_train": y_train, "X_val": X_val, "y_val": y_val}
    options = {"update_rule": "adam", "optim_config": {"learning_rate": 1e-2}, "schedule": "cosine"}
    options |= {"augment": "flip", "metrics": ["iou"], "batch_size": 8}
    options["loss"] = {"name": "softmax", "weights": [0.2, 1, 1, 1]}  # most pixels are ground
    Solver(net, data, **options, num_epochs=epochs, seed=0, print_every=1000).train()
    return prepare(net)


def overlap(guess, there):
    """Intersection over union of two masks."""
    return np.count_nonzero(guess & there) / np.count_nonzero(guess | there)


def main(picture="shapes.png", **options):
    """Find the shapes of new images; returns the overlap of what is found with what is there."""
    from skimage.filters import threshold_otsu

    predictor, (X, y) = train(**options), shapes(100, 2)
    found = predictor.predict(X)
    bright = np.stack([image > threshold_otsu(image) for image in X[:, 0]])
    scores = {"Otsu's threshold, any shape": overlap(bright, y > 0)}
    scores["network, any shape"] = overlap(found > 0, y > 0)
    scores |= {f"network, {name}s": overlap(found == k, y == k) for k, name in enumerate(CLASSES) if k}
    for name, score in scores.items():
        print(f"{name:28} {score:.3f}")
    if picture:
        rows = [[X[k, 0], bright[k], COLOURS[found[k]], COLOURS[y[k]]] for k in range(3)]
        draw(picture, rows, ["image", "Otsu's threshold", "network", "there"])
    return scores


if __name__ == "__main__":
    main()
