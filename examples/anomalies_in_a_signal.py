"""Anomalies in a signal: an autoencoder knows what is usual, beside a moving z-score.

python examples/anomalies_in_a_signal.py    # needs matplotlib
"""

import numpy as np
from cnnlib import prepare
from cnnlib.models import ConvNet
from cnnlib.solver import Solver
from pictures import draw_signals

LENGTH = 128  # of a window; a signal is an image (1, 1, LENGTH) of one row


def along(kind, size, **options):
    """A stage whose windows reach along the signal alone."""
    return {kind: options.pop("filters"), "size": (1, size), **options}


HALF = {"stride": (1, 2), "pad": ((0, 0), (2, 2))}
SPEC = [along("conv", 5, filters=16, **HALF), "relu", along("conv", 5, filters=16, **HALF), "relu"]
SPEC += [along("conv", 5, filters=4, **HALF)]  # 16 places of 4 numbers: a code of half the window
for filters in (16, 16, 16):
    SPEC += [along("conv_transpose", 4, filters=filters, stride=(1, 2), pad=((0, 0), (1, 1))), "relu"]
SPEC += [along("conv", 5, filters=16), "relu", {"pixels": 1}]


def beats(length, rng):
    """A pulse like a heart's, with a rate and a height that wander."""
    rate = 1 / 32 * (1 + 0.15 * np.sin(np.arange(length) / 200 + rng.uniform(0, 6)))
    phase = np.cumsum(rate) % 1
    pulse = np.exp(-(((phase - 0.3) / 0.03) ** 2)) + 0.3 * np.exp(-(((phase - 0.6) / 0.08) ** 2))
    height = 1 + 0.2 * np.sin(np.arange(length) / 300 + rng.uniform(0, 6))
    return (height * pulse + 0.04 * rng.standard_normal(length)).astype(np.float32)


def windows(signal):
    return signal[: len(signal) // LENGTH * LENGTH].reshape(-1, 1, 1, LENGTH)


def train(length=150_000, epochs=12):
    """An autoencoder of usual beats: what goes in is what is to come out."""
    rng = np.random.default_rng(0)
    X_train, X_val = windows(beats(length, rng)), windows(beats(20_000, rng))
    net = ConvNet(SPEC, (1, 1, LENGTH), seed=0)
    data = {"X_train": X_train, "y_train": X_train, "X_val": X_val, "y_val": X_val}
    options = {"update_rule": "adam", "optim_config": {"learning_rate": 5e-3}, "schedule": "cosine"}
    Solver(net, data, **options, batch_size=50, num_epochs=epochs, seed=0, print_every=1000).train()
    return prepare(net)


def area(scores, strange):
    """Area under the ROC curve: how often a strange window has a higher score than a usual one."""
    return float((scores[strange][:, None] > scores[~strange]).mean())


def main(picture="anomalies.png", **options):
    """Look for beats that run backwards, or come twice; returns the area under the ROC curve of each way."""
    rng, predictor = np.random.default_rng(1), train(**options)
    X, strange = windows(beats(400 * LENGTH, rng)), np.zeros(400, bool)
    for k in range(5, 400, 10):
        start, strange[k] = rng.integers(20, 80), True
        beat = X[k, 0, 0, start : start + 40]
        beat[:] = beat[::-1] if k % 20 == 5 else np.maximum(beat, np.roll(beat, 12))
    error = abs(predictor(X) - X)[:, 0, 0]
    z = abs(X - X.mean()) / X.std()
    smooth = np.stack([np.convolve(row, np.ones(8) / 8, "same") for row in error])
    ways = {"z-score": z.max(axis=(1, 2, 3)), "autoencoder": smooth.max(axis=1)}
    scores = {name: area(score, strange) for name, score in ways.items()}
    for name, score in scores.items():
        print(f"{name:12} area under the ROC curve {score:.3f}")
    if picture:
        draw_signals(
            picture, {"signal": X[:20], "error": smooth[:20]}, np.flatnonzero(strange[:20]) * LENGTH, LENGTH
        )
    return scores


if __name__ == "__main__":
    main()
