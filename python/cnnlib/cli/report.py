"""The pictures in a run's folder."""

from cnnlib import plots
from cnnlib.cli import networks
from cnnlib.cli.runs import PICTURES


def draw(run, solver, model, X, y, scores):
    """Draw a finished run's pictures; without matplotlib, say what is left out.

    X (N, C, H, W) are the test images as they came, y (N,) their labels, scores (N, K) the model's.
    """
    try:
        from matplotlib.figure import Figure  # not pyplot: no window, no display, no state left behind
    except ImportError:
        print(f"left out: {', '.join(PICTURES)} (they need matplotlib: pip install cnnlib[plots])")
        return
    data_set = run.data_set
    curves = Figure(figsize=(10, 4), layout="constrained")
    left, right = curves.subplots(1, 2)
    plots.plot_loss(
        solver.loss_history, solver.iterations_per_epoch, ax=left, val_loss_history=solver.val_loss_history
    )
    plots.plot_accuracy(solver.train_acc_history, solver.val_acc_history, ax=right)

    filters = Figure(figsize=(5, 5.4), layout="constrained")
    plots.plot_filters(networks.first_layer_images(model, data_set.shape), ax=filters.subplots())

    confusion = Figure(figsize=(6, 6), layout="constrained")
    plots.plot_confusion_matrix(y, scores.argmax(axis=1), data_set.classes, ax=confusion.subplots())

    mistakes = Figure(layout="constrained")
    plots.plot_mistakes(X, y, scores, data_set.classes, fig=mistakes)

    for name, figure in zip(PICTURES, (curves, filters, confusion, mistakes), strict=True):
        figure.savefig(run.folder / name, dpi=120)
    print(f"pictures: {', '.join(PICTURES)}")
