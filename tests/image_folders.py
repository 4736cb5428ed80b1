"""Folders of images by class, as a user would have them."""

import numpy as np


def write_folder(root, counts, size=(12, 10), suffix="png", mode="RGB", seed=0):
    """``root/<class>/<n>.<suffix>`` for the classes and numbers in `counts`; returns the pixels by file name.

    Noise, each class brighter in a corner of its own.
    """
    from PIL import Image

    rng = np.random.default_rng(seed)
    written = {}
    for label, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True)
        for n in range(count):
            pixels = rng.integers(0, 120, size=(*size, 3) if mode == "RGB" else size, dtype=np.uint8)
            rows, columns = (
                slice(0, side // 2) if label >> k & 1 else slice(side // 2, side)
                for k, side in enumerate(size)
            )
            pixels[rows, columns] += 120
            Image.fromarray(pixels).save(root / name / f"{n}.{suffix}")
            written[f"{name}/{n}.{suffix}"] = pixels
    return written
