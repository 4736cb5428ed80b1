"""Denoise photos: a small U-Net that predicts the noise, beside the filters of SciPy and scikit-image.

python examples/denoise_photos.py    # needs scikit-learn (its two photos), SciPy, scikit-image, matplotlib
"""

import numpy as np
from cnnlib import prepare
from cnnlib.models import ConvNet
from cnnlib.solver import Solver
from pictures import draw, grey
from scipy import ndimage, signal
from skimage import restoration

NOISE = 0.1  # standard deviation, of grey values from 0 to 1
SPEC = [  # most layers at half the size, where a pixel costs a quarter and sees twice as far
    *({"conv": 16}, {"relu": None, "name": "fine"}, {"conv": 48, "size": 4, "stride": 2, "pad": 1}, "relu"),
    *(4 * [{"conv": 48}, "batchnorm", "relu"]),
    *({"conv_transpose": 16, "size": 4, "stride": 2, "pad": 1}, {"concat": [[], "fine"]}),
    *({"conv": 16}, "relu", {"pixels": 1}),
]
PART = slice(80, 336), slice(200, 456)  # of the flower; the training does not see it


def patches(n, seed, size=32):
    """Noisy patches of what is not the test's part of the photos, and their noise: (n, 1, size, size)."""
    rng, flower = np.random.default_rng(seed), grey("flower.jpg")
    photos = [grey("china.jpg"), flower[:, : PART[1].start], flower[:, PART[1].stop :]]
    clean = np.empty((n, 1, size, size), np.float32)
    for k, patch in enumerate(clean):
        photo = photos[k % len(photos)]
        r, c = (rng.integers(0, length - size) for length in photo.shape)
        patch[0] = np.rot90(photo[r : r + size, c : c + size], rng.integers(4))
    noise = NOISE * rng.standard_normal(clean.shape, dtype=np.float32)
    return clean + noise, noise


def train(n=24000, epochs=1):
    """A network that tells an image's noise, easier to learn than the image; each patch is seen once."""
    parts = "X_train", "y_train", "X_val", "y_val"
    data = dict(zip(parts, (*patches(n, 0), *patches(100, 1)), strict=True))
    net = ConvNet(SPEC, (1, 32, 32), seed=0)
    options = {"update_rule": "adam", "optim_config": {"learning_rate": 5e-3}, "schedule": "cosine"}
    Solver(net, data, **options, batch_size=25, num_epochs=epochs, seed=0, print_every=1000).train()
    return prepare(net)


def psnr(image, clean):
    return float(10 * np.log10(1 / np.mean((image - clean) ** 2)))


def classical(noisy, clean):
    """The results of filters, each with the parameter that suits this very photo best."""
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
    views = np.stack([np.rot90(noisy, k)[None] for k in range(4)])
    network = np.mean([np.rot90(v, -k) for k, v in enumerate((views - predictor(views))[:, 0])], axis=0)
    images = {"noisy": noisy, **classical(noisy, clean), "network": network}
    scores = {name: psnr(image, clean) for name, image in images.items()}
    print("\n".join(f"{name:16} {score:5.2f} dB" for name, score in scores.items()))
    if picture:
        shown = ["noisy", "Wiener", "non-local means", "network"]
        titles = [*(f"{name}, {scores[name]:.1f} dB" for name in shown), "clean"]
        draw(picture, [[*(images[name] for name in shown), clean]], titles)
    return scores


if __name__ == "__main__":
    main()
