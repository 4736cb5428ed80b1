"""What a finished run leaves to look at: pictures, and a page with them and all that is known of it."""

from cnnlib import plots
from cnnlib.cli.options import networks
from cnnlib.cli.report import html_report
from cnnlib.cli.run.folder import PICTURES, REPORT
from cnnlib.solver.progress import folded


def write_report(run, solver, data, part, scores):
    """Draw a finished run's pictures and write its report; without matplotlib, say what is left out.

    `scores` (N, K) are the model's of the split `part` of `data`, whose images are as they came.
    """
    X, y = data[f"X_{part}"], data[f"y_{part}"]
    try:
        figures = _figures(run, solver, X, y, scores)
    except ImportError:
        print(folded(f"left out: {', '.join(PICTURES)} (they need matplotlib: pip install cnnlib[plots])"))
        figures = None
    else:
        for name in PICTURES:
            figures[name].savefig(run.folder / name, dpi=120)
        print(folded(f"pictures: {', '.join(PICTURES)}"))
    html = html_report.report(run, solver, part, y, scores, figures)
    run.write_file(REPORT, html)
    print(f"report: {run.folder / REPORT}")


def _figures(run, solver, X, y, scores):
    """The figures by name: those of the files `PICTURES`, and the two halves of the first alone."""
    from matplotlib.figure import Figure  # not pyplot: no window, no display, no state left behind

    classes = run.data_set.classes
    curves = Figure(figsize=(10, 4), layout="constrained")
    loss, accuracy = (Figure(figsize=(6, 4), layout="constrained") for _ in range(2))
    left, right = curves.subplots(1, 2)
    for ax in (left, loss.subplots()):
        plots.plot_loss(
            solver.loss_history,
            solver.iterations_per_epoch,
            ax=ax,
            val_loss_history=solver.val_loss_history,
        )
    for ax in (right, accuracy.subplots()):
        plots.plot_accuracy(solver.train_acc_history, solver.val_acc_history, ax=ax)

    filters = Figure(figsize=(5, 5.4), layout="constrained")
    first = networks.first_layer_images(solver.model, run.data_set.shape)
    plots.plot_filters(first, ax=filters.subplots())

    confusion = Figure(figsize=(6, 6), layout="constrained")
    plots.plot_confusion_matrix(y, scores.argmax(axis=1), classes, ax=confusion.subplots())

    mistakes = Figure(layout="constrained")
    plots.plot_mistakes(X, y, scores, classes, fig=mistakes)
    named = zip(PICTURES, (curves, filters, confusion, mistakes), strict=True)
    return {**dict(named), "loss": loss, "accuracy": accuracy}
