"""Denoise photos: a few convolutions that predict the noise, beside the filters of SciPy and scikit-image.

python examples/denoise_photos.py    # needs scikit-learn (its two photos), SciPy, scikit-image, matplotlib
"""

import sys

import numpy as np
from cnnlib import prepare
from cnnlib.models import ConvNet
from cnnlib.solver import Solver
from pictures import draw
from sklearn.datasets import load_sample_image

NOISE = 0.1  # standard deviation, of grey values from 0 to 1
SPEC = [{"conv": 32}, "relu", {"conv": 32}, "relu", {"conv": 32}, "relu", {"pixels": 1}]


def grey(name):
    return (load_sample_image(name).mean(axis=2) / 255).astype(np.float32)


def patches(photo, rng, n, size=32):
    """Noisy patches of a photo and their noise, both (n, 1, size, size)."""
    rows, columns = (rng.integers(0, length - size, n) for length in photo.shape)
    clean = np.stack([photo[r : r + size, c : c + size] for r, c in zip(rows, columns, strict=True)])[:, None]
    noise = NOISE * rng.standard_normal(clean.shape, dtype=np.float32)
    return clean + noise, noise


def train(n=2000, epochs=12):
    """A network that tells an image's noise, which is easier to learn than the image."""
    rng, photo = np.random.default_rng(0), grey("china.jpg")
    data = dict(zip(("X_train", "y_train"), patches(photo, rng, n), strict=True))
    data |= dict(zip(("X_val", "y_val"), patches(photo, rng, 100), strict=True))
    net = ConvNet(SPEC, (1, 32, 32), seed=0)
    options = {"update_rule": "adam", "optim_config": {"learning_rate": 2e-3}, "schedule": "cosine"}
    Solver(net, data, **options, batch_size=50, num_epochs=epochs, seed=0, print_every=1000).train()
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
    """Denoise the photo that the training has not seen; returns each method's PSNR in dB."""
    predictor, clean = train(**options), grey("flower.jpg")[80:336, 200:456]
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
    main(*sys.argv[1:])
