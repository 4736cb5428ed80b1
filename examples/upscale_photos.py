"""Upscale photos by 2: transposed convolution against upsampling, beside cubic splines.

python examples/upscale_photos.py    # needs scikit-learn (its two photos), SciPy, matplotlib
"""

import numpy as np
from cnnlib import prepare
from cnnlib.models import ConvNet
from cnnlib.solver import Solver
from pictures import draw, grey
from scipy.ndimage import zoom

SIZE = 16  # of the small patches
PART = slice(80, 336), slice(200, 456)  # of the flower, which the training does not see
START = [{"conv": 32, "size": 5}, "relu", {"conv": 32}, "relu"]
SPECS = {
    "transposed convolution": [*START, {"conv_transpose": 16, "size": 4, "stride": 2, "pad": 1}, "relu"],
    "upsampling": [*START, {"upsample": 2, "mode": "bilinear"}, {"conv": 16}, "relu"],
}


def halved(image):
    """The mean of each 2x2 block."""
    return image.reshape(*image.shape[:-2], image.shape[-2] // 2, 2, -1, 2).mean(axis=(-3, -1))


def splined(small):
    """Twice the size by cubic splines, each pixel's middle where it belongs."""
    return zoom(small, [1] * (small.ndim - 2) + [2, 2], order=3, grid_mode=True, mode="nearest")


def patches(n, seed):
    """Small patches (n, 1, SIZE, SIZE) of the other parts, and what splines lack of those twice as large."""
    rng, flower = np.random.default_rng(seed), grey("flower.jpg")
    photos = [grey("china.jpg"), flower[:, : PART[1].start], flower[:, PART[1].stop :]]
    large = np.empty((n, 1, 2 * SIZE, 2 * SIZE), np.float32)
    for k, patch in enumerate(large):
        photo = photos[k % len(photos)]
        r, c = (2 * rng.integers(0, (length - 2 * SIZE) // 2) for length in photo.shape)
        patch[0] = photo[r : r + 2 * SIZE, c : c + 2 * SIZE]
    small = halved(large)
    return small, large - splined(small)


def train(spec, n=1500, epochs=12):
    """A network that adds to the splines what they lack."""
    net = ConvNet([*spec, {"pixels": 1}], (1, SIZE, SIZE), seed=0)
    (X_train, y_train), (X_val, y_val) = patches(n, 0), patches(100, 1)
    data = {"X_train": X_train, "y_train": y_train, "X_val": X_val, "y_val": y_val}
    options = {"update_rule": "adam", "optim_config": {"learning_rate": 2e-3}, "schedule": "cosine"}
    Solver(net, data, **options, batch_size=25, num_epochs=epochs, seed=0, print_every=1000).train()
    return prepare(net)


def main(picture="upscaled.png", **options):
    """Upscale the part that the training has not seen; returns each method's PSNR in dB."""
    large = grey("flower.jpg")[PART]
    small = halved(large)
    images = {"cubic splines": splined(small)}
    for name, spec in SPECS.items():
        images[name] = images["cubic splines"] + train(spec, **options)(small[None, None])[0, 0]
    scores = {name: float(10 * np.log10(1 / np.mean((image - large) ** 2))) for name, image in images.items()}
    for name, score in scores.items():
        print(f"{name:24} {score:5.2f} dB")
    if picture:
        shown, part = {**images, "original": large}, (slice(60, 160), slice(60, 160))
        titles = [f"{name}, {scores[name]:.2f} dB" if name in scores else name for name in shown]
        draw(picture, [[image[part] for image in shown.values()]], titles)
    return scores


if __name__ == "__main__":
    main()
