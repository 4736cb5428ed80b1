"""A run's pictures: drawn, stored and put on its page one by one, so that a fault costs one picture."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from cnnlib import plots
from cnnlib._files import written_whole
from cnnlib.cli.options.settings import first_layer_images
from cnnlib.cli.output import at_its_cost, say
from cnnlib.cli.report.html_page import paragraph, picture
from cnnlib.cli.run.folder import PICTURES
from cnnlib.cli.run.log import metrics_of

_DPI = 120


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
        file = io.BytesIO()
        with self._left_out(name):
            metadata = {"Date": None} if form == "svg" else None
            self._figures[name].savefig(file, format=form, dpi=_DPI, metadata=metadata)
            return file.getvalue()
        return None

    @contextlib.contextmanager
    def _left_out(self, name) -> Iterator[None]:
        def note(fault):
            self._figures.pop(name, None)
            self._faults[name] = fault

        with at_its_cost(name, note):
            yield


def with_curves(solver, names, *, halves: bool = False) -> Pictures | None:
    """The curves of a run, and with `halves` each alone. None without matplotlib: then `names` are said."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        say(f"left out: {', '.join(names)} (they need matplotlib: pip install cnnlib[plots])")
        return None
    steps, val_losses = solver.iterations_per_epoch, solver.val_loss_history

    def loss(ax):
        plots.plot_loss(solver.loss_history, steps, ax=ax, val_loss_history=val_losses)

    def accuracy(ax):
        (name, *_), histories = metrics_of(solver), solver.histories
        if name == "accuracy":
            plots.plot_accuracy(histories["train_accuracy"], histories[name], ax=ax)
        else:
            plots.plot_metric(histories[f"train_{name}"], histories[name], name, solver.best_epoch, ax=ax)

    def curves(figure):
        left, right = figure.subplots(1, 2)
        loss(left)
        accuracy(right)

    pictures = Pictures()
    pictures.draw("curves.png", curves, (10, 4))
    if halves:
        pictures.draw("loss", lambda figure: loss(figure.subplots()), (6, 4))
        pictures.draw("accuracy", lambda figure: accuracy(figure.subplots()), (6, 4))
    return pictures


def drawn(run, solver, X, y, scores) -> Pictures | None:
    """The pictures of a run: those of the files `PICTURES`, and the two halves of the first alone.

    `scores` (N, K) are those of the images X with the labels y. None: matplotlib is not installed.
    """
    pictures, classes = with_curves(solver, PICTURES, halves=True), run.data_set.classes
    if pictures is None:
        return None

    def filters(figure):
        first = first_layer_images(solver.model, run.data_set.shape)
        plots.plot_filters(first, ax=figure.subplots())

    def confusion(figure):
        plots.plot_confusion_matrix(y, scores.argmax(axis=1), classes, ax=figure.subplots())

    pictures.draw("filters.png", filters, (5, 5.4))
    pictures.draw("confusion.png", confusion, (6, 6))
    pictures.draw("mistakes.png", lambda figure: plots.plot_mistakes(X, y, scores, classes, fig=figure))
    return pictures
