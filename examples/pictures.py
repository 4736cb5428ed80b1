"""Photos, and pictures of images side by side, for the programs beside this one."""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def grey(name):
    """One of scikit-learn's two photos in grey, (426, 640), values from 0 to 1."""
    from sklearn.datasets import load_sample_image

    return (load_sample_image(name)[:426].mean(axis=2) / 255).astype("float32")


def draw(path, rows, titles):
    """Write rows of images in [0, 1], (H, W) or (H, W, 3), with a title above each column."""
    height = 2.4 * len(rows) * max(image.shape[0] / image.shape[1] for row in rows for image in row)
    fig, axes = plt.subplots(len(rows), len(titles), figsize=(2.4 * len(titles), height + 0.4), squeeze=False)
    for row, images in zip(axes, rows, strict=True):
        for ax, image in zip(row, images, strict=True):
            ax.imshow(image, cmap="gray", vmin=0, vmax=1)
            ax.set_axis_off()
    for ax, title in zip(axes[0], titles, strict=True):
        ax.set_title(title, fontsize=9)
    fig.tight_layout()
    fig.savefig(path, dpi=110)
    plt.close(fig)


def draw_signals(path, signals, marks, width):
    """Write signals below each other, by name; `width` places from each mark on are coloured."""
    fig, axes = plt.subplots(len(signals), sharex=True, figsize=(9, 4))
    for ax, (name, signal) in zip(axes, signals.items(), strict=True):
        ax.plot(signal.ravel(), lw=0.8)
        ax.set_ylabel(name)
        for mark in marks:
            ax.axvspan(mark, mark + width, color="orange", alpha=0.3)
    fig.tight_layout()
    fig.savefig(path, dpi=110)
    plt.close(fig)
