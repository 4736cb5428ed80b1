"""A picture of images side by side, which the programs beside this one draw."""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt


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
