"""A run's pictures: drawn, stored and put on its page one by one, so that a fault costs one picture."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cnnlib import plots
from cnnlib._files.written import written_whole
from cnnlib.cli.output import at_its_cost, say
from cnnlib.cli.report.html_page import paragraph, picture
from cnnlib.data.target_folder import IGNORED
from cnnlib.runs.folder import PICTURES_OF
from cnnlib.solver.histories import metrics_of, train_name, val_name

_DPI = 120
_SHOWN = 4  # best samples, and as many worst ones
_COLOURS = np.array(  # Okabe and Ito's, which the colour-blind tell apart; black is what stands for no label
    [[40, 40, 40], [230, 159, 0], [86, 180, 233], [0, 158, 115], [240, 228, 66], [0, 114, 178], [213, 94, 0]],
    np.uint8,
)


class Pictures:
    """matplotlib's figures by name; what cannot be drawn or stored is left out, and said in a line."""

    def __init__(self) -> None:
        self._figures: dict[str, Any] = {}
        self._faults: dict[str, str] = {}

    def draw(self, name: str, draw: Callable[[Any], Any], size: tuple[float, float] | None = None) -> None:
        """Let ``draw(figure)`` draw the picture `name`, `size` in inches."""
        from matplotlib.figure import Figure  # not pyplot: no window, no display, no state left behind

        with self._left_out(name):
            figure = Figure(figsize=size, layout="constrained")
            draw(figure)
            self._figures[name] = figure

    def save(self, folder: Path, names: Iterable[str]) -> list[str]:
        """Write pictures to PNG files of their names; returns the names of those that are there."""
        saved = []
        for name in names:
            data = self._encoded(name, "png")
            with self._left_out(name):
                if data is not None:
                    with written_whole(folder / name) as file:
                        file.write(data)
                    saved.append(name)
        return saved

    def html(self, name: str, description: str, form: str) -> str:
        """A picture for the page, as 'svg' or 'png'; where there is none, a line that says why."""
        data = self._encoded(name, form)
        if data is None:
            return paragraph(f"{description}: left out ({self._faults[name]})")
        return picture(data, description, form)

    def _encoded(self, name, form):
        if name not in self._figures:
            return None
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.backends.backend_svg import FigureCanvasSVG

        file, figure = io.BytesIO(), self._figures[name]
        with self._left_out(name):
            figure.set_dpi(_DPI)
            if form == "svg":  # by the canvas itself: `savefig` draws all twice
                FigureCanvasSVG(figure).print_svg(file, metadata={"Date": None})
            else:
                FigureCanvasAgg(figure).print_png(file)
            return file.getvalue()
        return None

    @contextlib.contextmanager
    def _left_out(self, name) -> Iterator[None]:
        def note(fault):
            self._figures.pop(name, None)
            self._faults[name] = fault

        with at_its_cost(name, note):
            yield


def drawn(run, solver, X, y, scores) -> Pictures | None:
    """The pictures of a run: the files of its task, and the two halves of the first alone.

    `scores` are those of the images X with the targets y. None: matplotlib is not installed.
    """
    task, classes = run.data_set.task, run.data_set.classes
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        say(f"left out: {', '.join(PICTURES_OF[task])} (they need matplotlib: pip install cnnlib[plots])")
        return None

    def loss(ax):
        steps = solver.iterations_per_epoch
        plots.plot_loss(solver.loss_history, steps, ax=ax, val_loss_history=solver.val_loss_history)

    def metric(ax):
        name, *_ = metrics_of(solver.histories)
        train, val = (solver.histories[of_split(name)] for of_split in (train_name, val_name))
        if name == "accuracy":
            plots.plot_accuracy(train, val, ax=ax)
        else:
            plots.plot_metric(train, val, name, solver.best_epoch, ax=ax)

    def curves(figure):
        left, right = figure.subplots(1, 2)
        loss(left)
        metric(right)

    def filters(figure):
        first = solver.model.params["W1"]
        if first.ndim != 4:  # of an affine layer: what each hidden unit looks for
            first = first.T.reshape(-1, *run.data_set.shape)
        plots.plot_filters(first, ax=figure.subplots())

    def confusion(figure):
        plots.plot_confusion_matrix(y, scores.argmax(axis=1), classes, ax=figure.subplots())

    def samples(figure):
        (_draw_values if task == "values" else _draw_maps)(figure, classes, X, y, scores)

    pictures = Pictures()
    pictures.draw("curves.png", curves, (10, 4))
    pictures.draw("loss", lambda figure: loss(figure.subplots()), (6, 4))
    pictures.draw("metric", lambda figure: metric(figure.subplots()), (6, 4))
    if task != "classes":
        pictures.draw("samples.png", samples, (9, 6))
        return pictures
    pictures.draw("filters.png", filters, (5, 5.4))
    pictures.draw("confusion.png", confusion, (6, 6))
    pictures.draw("mistakes.png", lambda figure: plots.plot_mistakes(X, y, scores, classes, fig=figure))
    return pictures


def colours(labels: np.ndarray) -> np.ndarray:
    """Labels (H, W) as colours (H, W, 3), uint8; those without a label are black."""
    picture = _COLOURS[labels % len(_COLOURS)]
    picture[labels == IGNORED] = 0
    return picture


def _errors(y, scores):
    """How wrong each sample is: mean squared error, or the share of wrong pixels."""
    if scores.shape == y.shape:
        return ((scores - y) ** 2).reshape(len(y), -1).mean(axis=1)
    wrong = (scores.argmax(axis=1) != y) & (y != IGNORED)
    return wrong.reshape(len(y), -1).mean(axis=1)


def _order(y, scores):
    """The best samples, then as many of the worst, the worst first."""
    order = np.argsort(_errors(y, scores), kind="stable")
    shown = min(_SHOWN, (len(order) + 1) // 2)
    return np.concatenate([order[:shown], order[shown:][-shown:][::-1]])


def _draw_maps(figure, classes, X, y, scores):
    """Image, target and output of the best and the worst samples, three panels each, two samples a row."""
    rows = _order(y, scores)
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
        for column, panel in enumerate((_image(X, k), target, found)):
            axes[place // 2, 3 * (place % 2) + column].imshow(panel, interpolation="nearest")


def _draw_values(figure, classes, X, y, scores):
    """Numbers against targets, above the best and the worst samples."""
    above, below = figure.subfigures(2, 1, height_ratios=(2, 1))
    for ax, name, there, found in zip(
        np.atleast_1d(above.subplots(1, y.shape[1])), classes, y.T, scores.T, strict=True
    ):
        ax.scatter(there, found, s=6)
        ax.plot([there.min(), there.max()], [there.min(), there.max()], color="grey", lw=0.8)
        ax.set(xlabel=f"{name}, target", ylabel="network")
    rows = _order(y, scores)
    for ax, k in zip(np.atleast_1d(below.subplots(1, len(rows))), rows, strict=True):
        ax.imshow(_image(X, k), interpolation="nearest")
        ax.set_title(f"{y[k, 0]:.3g}: {scores[k, 0]:.3g}", fontsize=7)
        ax.set_axis_off()


def _image(X, k):
    return plots.image_grid(X[k : k + 1], padding=0, layout="NCHW")
