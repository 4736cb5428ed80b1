"""A server that forks its workers: they share the weights that the parent has packed.

    python examples/serve_forked.py

Each worker answers its share of the requests, and sends the labels back through a pipe. POSIX only.
"""

import os

import cnnlib
import numpy as np
from cnnlib.models import ConvNet

WORKERS, REQUESTS = 2, 64


def main():
    """Answer requests of one image each; print how many of each class were predicted."""
    cnnlib.set_num_threads(1)
    predictor = cnnlib.prepare(ConvNet("resnet8", input_dim=(3, 32, 32), num_classes=10, seed=0))
    images = np.random.default_rng(0).standard_normal((REQUESTS, 3, 32, 32)).astype(np.float32)
    pipes = [_worker(predictor, images[k::WORKERS]) for k in range(WORKERS)]
    labels = np.concatenate([np.frombuffer(_everything(pipe), np.int64) for pipe in pipes])
    for _ in pipes:
        os.wait()
    print(f"{REQUESTS} requests, {WORKERS} workers: {np.bincount(labels, minlength=10)}")


def _worker(predictor, images):
    """Fork a worker for some requests; return the end of the pipe to read its labels from."""
    read, write = os.pipe()
    if os.fork():
        os.close(write)
        return read
    with os.fdopen(write, "wb") as pipe:
        for image in images:
            pipe.write(predictor.predict(image[None]).astype(np.int64).tobytes())
    os._exit(0)


def _everything(descriptor):
    with os.fdopen(descriptor, "rb") as pipe:
        return pipe.read()


if __name__ == "__main__":
    main()
