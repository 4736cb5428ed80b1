"""One process, many threads: they share a predictor, and each call has an arena of its own.

    python examples/serve_threads.py

With as many callers as cores a call had better use one thread.
"""

from concurrent.futures import ThreadPoolExecutor

import cnnlib
import numpy as np
from cnnlib.models import ConvNet

WORKERS, REQUESTS = 4, 64


def main():
    """Answer requests of one image each; print how many of each class were predicted."""
    cnnlib.set_num_threads(1)
    predictor = cnnlib.prepare(ConvNet("resnet8", input_dim=(3, 32, 32), num_classes=10, seed=0))
    images = np.random.default_rng(0).standard_normal((REQUESTS, 1, 3, 32, 32)).astype(np.float32)
    with ThreadPoolExecutor(WORKERS) as pool:
        labels = np.concatenate(list(pool.map(predictor.predict, images)))
    print(f"{REQUESTS} requests, {WORKERS} threads: {np.bincount(labels, minlength=10)}")


if __name__ == "__main__":
    main()
