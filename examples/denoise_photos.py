"""Denoise photos: a few convolutions that predict the noise, beside the filters of SciPy and scikit-image.

python examples/denoise_photos.py    # needs scikit-learn (its two photos), SciPy, scikit-image, matplotlib
"""

import numpy as np
from cnnlib import prepare
from cnnlib.models import ConvNet
from cnnlib.solver import Solver
from pictures import draw, grey

NOISE = 0.1  # standard deviation, of grey values from 0 to 1
SPEC = [{"conv": 24}, "relu"]
for dilation in (1, 2, 4, 2):  # to see further with few layers
    SPEC += [{"conv": 24, "dilation": dilation}, "batchnorm", "relu"]
SPEC += [{"pixels": 1}]
PART = slice(80, 336), slice(200, 456)  # of the flower, which the training does not see


def patches(n, seed, size=32):
    """Noisy patches of what is not the test's part of the photos, and their noise: (n, 1, size, size)."""
    rng, flower = np.random.default_rng(seed), grey("flower.jpg")
    photos = [grey("china.jpg"), flower[:, : PART[1].start], flower[:, PART[1].stop :]]
    clean = np.empty((n, 1, size, size), np.float32)
    for k, patch in enumerate(clean):
        photo = photos[k % len(photos)]
        r, c = (rng.integers(0, length - size) for length in photo.shape)
        patch[0] = photo[r : r + size, c : c + size]
    noise = NOISE * rng.standard_normal(clean.shape, dtype=np.float32)
    return clean + noise, noise


def train(n=1500, epochs=12):
    """A network that tells an image's noise, which is easier to learn than the image."""
    (X_train, y_train), (X_val, y_val) = patches(n, 0), patches(100, 1)
    data = {"X_train": X_train, "y_train": y_train, "X_val": X_val, "y_val": y_val}
    net = ConvNet(SPEC, (1, 32, 32), seed=0)
    options = {"update_rule": "adam", "optim_config": {"learning_rate": 5e-3}, "schedule": "cosine"}
    Solver(net, data, **options, batch_size=25, num_epochs=epochs, seed=0, print_every=1000).train()
    return prepare(net)


def psnr(image, clean):
    return float(10 * np.log10(1 / np.mean((image - clean) ** 2)))


def classical(noisy, clean):
    """The results of filters, each with the parameter that suits this very photo best."""
    from scipy import ndimage, signal
    from skimage import restoration

    tried = {
        "Gaussian": [ndimage.gaussian_filter(noisy, s) for s in (0.6, 0.8, 1.0, 1.2)],
        "median": [ndimage.median_filter(noisy, s) for s in (3, 5)],
        "Wiener": [signal.wiener(noisy, s) for s in (3, 5, 7)],
        "total variation": [restoration.denoise_tv_chambolle(noisy, w) for w in (0.05, 0.08, 0.12)],
        "non-local means": [restoration.denoise_nl_means(noisy, h=h, sigma=NOISE) for h in (0.06, 0.08, 0.1)],
    }
    return {name: max(results, key=lambda image: psnr(image, clean)) for name, results in tried.items()}


def main(picture="denoise.png", **options):
    """Denoise the part that the training has not seen; returns each method's PSNR in dB."""
    predictor, clean = train(**options), grey("flower.jpg")[PART]
    noisy = clean + NOISE * np.random.default_rng(1).standard_normal(clean.shape, dtype=np.float32)
    network = noisy - predictor(noisy[None, None])[0, 0]
    images = {"noisy": noisy, **classical(noisy, clean), "network": network}
    scores = {name: psnr(image, clean) for name, image in images.items()}
    for name, score in scores.items():
        print(f"{name:16} {score:5.2f} dB")
    if picture:
        shown = ["noisy", "Wiener", "non-local means", "network"]
        titles = [f"{name}, {scores[name]:.1f} dB" for name in shown]
        draw(picture, [[*(images[name] for name in shown), clean]], [*titles, "clean"])
    return scores


if __name__ == "__main__":
    main()
