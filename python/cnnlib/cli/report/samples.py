"""What a run with ``--task values`` or ``pixels`` leaves to look at: best and worst samples, and its page."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnnlib import plots
from cnnlib.cli.report.html_page import key_figures, page, paragraph, section
from cnnlib.cli.report.html_report import environment, network, settings
from cnnlib.cli.report.pictures import Pictures, with_curves
from cnnlib.data.target_folder import IGNORED

PICTURES = ("curves.png", "samples.png")
_SHOWN = 4  # best samples, and as many worst ones
_COLOURS = np.array(  # Okabe and Ito's, which the colour-blind tell apart; black is what stands for no label
    [[40, 40, 40], [230, 159, 0], [86, 180, 233], [0, 158, 115], [240, 228, 66], [0, 114, 178], [213, 94, 0]],
    np.uint8,
)


def colours(labels: np.ndarray) -> np.ndarray:
    """Labels (H, W) as colours (H, W, 3), uint8; those without a label are black."""
    picture = _COLOURS[labels % len(_COLOURS)]
    picture[labels == IGNORED] = 0
    return picture


def report(run: Any, solver: Any, part: str, values: dict[str, float], pictures: Pictures | None) -> str:
    """The page, a str, about the metrics `values` of the split `part`."""
    figures = [
        (f"{'test' if part == 'test' else 'validation'} {name}", f"{value:.4g}")
        for name, value in values.items()
    ]
    figures += [("epochs", f"{solver.epoch} of {solver.num_epochs}"), ("best epoch", f"{solver.best_epoch}")]
    parts = [key_figures(figures)]
    if pictures is None:
        parts.append(paragraph("Without matplotlib there are no pictures: pip install cnnlib[plots]"))
    else:
        parts.append(section("Training", pictures.html("curves.png", "Loss and metric by epoch", "svg")))
        about = "Above the best samples, below the worst: image, target, what the network gives"
        parts.append(section("Samples", paragraph(about), pictures.html(PICTURES[1], about, "png")))
    parts += [network(solver.model), settings(run), environment(run)]
    name = run.config["model"]["name"]
    return page(f"{run.folder.resolve().name}: {name}, {run.data_set.task}", parts)


def drawn(run: Any, solver: Any, X: Any, y: Any, scores: Any) -> Pictures | None:
    """The pictures of a run: those of the files `PICTURES`. None: matplotlib is not installed."""
    pictures = with_curves(solver, PICTURES)
    if pictures is None:
        return None
    draw = _draw_values if run.data_set.task == "values" else _draw_maps
    pictures.draw(PICTURES[1], lambda figure: draw(figure, run.data_set.classes, X, y, scores), (9, 6))
    return pictures


def _errors(y, scores):
    """How wrong each sample is: mean squared error, or the share of wrong pixels."""
    if scores.shape == y.shape:
        return ((scores - y) ** 2).reshape(len(y), -1).mean(axis=1)
    wrong = (scores.argmax(axis=1) != y) & (y != IGNORED)
    return wrong.reshape(len(y), -1).mean(axis=1)


def _order(y, scores):
    order = np.argsort(_errors(y, scores), kind="stable")
    shown = min(_SHOWN, (len(order) + 1) // 2)
    return order[:shown], order[len(order) - min(shown, len(order) - shown) :][::-1]


def _draw_maps(figure, classes, X, y, scores):
    """Image, target and output of the best and the worst samples, three panels each, two samples a row."""
    rows = np.concatenate(_order(y, scores))
    axes = np.atleast_2d(figure.subplots(-(-len(rows) // 2), 6, squeeze=False))
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, title in zip(axes[0], 2 * ("image", "target", "network"), strict=True):
        ax.set_title(title, fontsize=8)
    for place, k in enumerate(rows):
        if scores.shape == y.shape:
            target, found = _image(y, k), _image(scores, k)
        else:
            target, found = colours(y[k]), colours(scores[k].argmax(axis=0))
        for column, picture in enumerate((_image(X, k), target, found)):
            axes[place // 2, 3 * (place % 2) + column].imshow(picture, interpolation="nearest")


def _draw_values(figure, classes, X, y, scores):
    """Numbers against targets, above the best and the worst samples."""
    above, below = figure.subfigures(2, 1, height_ratios=(2, 1))
    for ax, name, there, found in zip(
        np.atleast_1d(above.subplots(1, y.shape[1])), classes, y.T, scores.T, strict=True
    ):
        ax.scatter(there, found, s=6)
        ax.plot([there.min(), there.max()], [there.min(), there.max()], color="grey", lw=0.8)
        ax.set(xlabel=f"{name}, target", ylabel="network")
    rows = np.concatenate(_order(y, scores))
    for ax, k in zip(np.atleast_1d(below.subplots(1, len(rows))), rows, strict=True):
        ax.imshow(_image(X, k), interpolation="nearest")
        ax.set_title(f"{y[k, 0]:.3g}: {scores[k, 0]:.3g}", fontsize=7)
        ax.set_axis_off()


def _image(X, k):
    return plots.image_grid(X[k : k + 1], padding=0, layout="NCHW")
