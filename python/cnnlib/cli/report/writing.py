"""What a finished run leaves to look at: pictures, and a page with them and all that is known of it."""

import numpy as np

from cnnlib.cli.output import at_its_cost, say
from cnnlib.cli.report import html_report, samples
from cnnlib.cli.report.pictures import drawn
from cnnlib.cli.run.folder import PICTURES, REPORT
from cnnlib.inference.scoring import BatchScorer


def finish(run, solver, data):
    """Test the model that the Solver holds, leave pictures and report, print the accuracy.

    The split is that for tests, or where it is empty that for validation.
    """
    if run.data_set.task != "classes":
        return samples.finish(run, solver, data)
    part = "test" if len(data["X_test"]) else "val"
    X, y = data[f"X_{part}"], data[f"y_{part}"]
    scores = BatchScorer(solver.model, solver.preprocess, run.tta).all(X)
    write_report(run, solver, data, part, scores)
    print(f"{part} accuracy: {np.mean(scores.argmax(axis=1) == y):.4f}")


def write_report(run, solver, data, part, scores):
    """Draw a finished run's pictures and write its report; what goes wrong costs that part alone.

    `scores` (N, K) are the model's of the split `part` of `data`, whose images are as they came.
    """
    X, y = data[f"X_{part}"], data[f"y_{part}"]
    pictures = drawn(run, solver, X, y, scores)
    if pictures is not None:
        saved = pictures.save(run.folder, PICTURES)
        if saved:
            say(f"pictures: {', '.join(saved)}")
    with at_its_cost(REPORT):
        run.write_file(REPORT, html_report.report(run, solver, data, part, scores, pictures))
        say(f"report: {run.folder / REPORT}", fold=False)
