"""Draw README's picture: train on the digits, then look: `python docs/pictures/readme.py docs/images`."""

import sys
from pathlib import Path

import cnnlib
import matplotlib
import numpy as np
from cnnlib import plots
from cnnlib.data import load_digits
from cnnlib.models import ThreeLayerConvNet
from cnnlib.solver import Solver

matplotlib.use("Agg")
import matplotlib.pyplot as plt

SHOWN = 6  # digits, and filters


def main():
    data = load_digits()
    model = ThreeLayerConvNet(
        input_dim=(1, 8, 8), filter_size=3, weight_scale=0.05, use_batchnorm=True, seed=0
    )
    solver = Solver(model, data, update_rule="adam", num_epochs=20, seed=0, verbose=False)
    solver.train()
    scores = model(data["X_test"])

    digits = np.stack([data["X_test"][data["y_test"] == digit][0] for digit in range(SHOWN)])
    found, _ = cnnlib.conv_forward(digits, model.params["W1"], None, {"pad": 1})
    limit = np.abs(found).max()
    figure = plt.figure(figsize=(12, 3.6), layout="constrained")
    left, middle, right = figure.subfigures(1, 3, width_ratios=[1, 1.15, 1])
    axes = left.subplots(SHOWN, SHOWN + 1)
    for row in range(SHOWN):
        axes[row, 0].imshow(digits[row, 0], cmap="gray")
        for f in range(SHOWN):
            axes[row, f + 1].imshow(found[row, f], cmap="RdBu", vmin=-limit, vmax=limit)
    for ax in axes.flat:
        ax.set_axis_off()
    left.suptitle("Digits, and what six filters find in them")
    plots.plot_accuracy(solver.train_acc_history, solver.val_acc_history, middle.subplots())
    ax = right.subplots()
    plots.plot_confusion_matrix(data["y_test"], scores.argmax(axis=1), ax=ax)
    figure.savefig(Path(sys.argv[1], "readme.png"), dpi=80)


if __name__ == "__main__":
    main()
