"""``cnnlib report``, and what ``cnnlib train`` ends with: the pictures and the page of a run."""

import contextlib

import numpy as np

import cnnlib
from cnnlib.cli.options.arguments import add_data, add_run, add_threads
from cnnlib.cli.output import at_its_cost, say
from cnnlib.cli.report import html_report, samples
from cnnlib.cli.report.pictures import drawn
from cnnlib.cli.run.folder import PICTURES, REPORT, Run, locked
from cnnlib.cli.run.tasks import standardized
from cnnlib.inference.scoring import BatchScorer
from cnnlib.solver import Solver, load_weights


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


def add_to(commands):
    """Add the command and its options."""
    report = commands.add_parser(
        "report",
        help="draw the pictures of a run and write its page, afterwards",
        description="Write a run's report.html and pictures anew, of the newest checkpoint or that which is "
        "named, and print the test accuracy.",
    )
    report.set_defaults(execute=run)
    add_run(report)
    add_data(report, "where the run's data set lies, if it has moved")
    add_threads(report)


def run(options):
    """Run the subcommand; returns the exit status."""
    if options.threads is not None:
        cnnlib.set_num_threads(options.threads)
    run = Run.open(options.run)
    checkpoint = run.checkpoint(options.run)
    with contextlib.ExitStack() as held:
        held.enter_context(locked(run.folder))
        data = run.load_data(options.data, ("train", "val", "test"))
        scaled = standardized(data, run.config.get("targets"))
        solver = Solver.resume(
            checkpoint, run.build_model(), scaled, preprocess=run.normalization, verbose=False
        )
        load_weights(checkpoint, solver.model)
        finish(run, solver, data)
    return 0
