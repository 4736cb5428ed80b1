"""``cnnlib report``, and what ``cnnlib train`` ends with: the pictures and the page of a run."""

import numpy as np

from cnnlib.cli.options.arguments import add, add_data, add_threads
from cnnlib.cli.output import at_its_cost, complain_without_lock, say
from cnnlib.cli.report.html_report import report
from cnnlib.cli.report.pictures import drawn
from cnnlib.runs.data_sets import PARTS
from cnnlib.runs.folder import PICTURES_OF, REPORT, Run, locked
from cnnlib.runs.tasks import scores_of, standardized, values_of
from cnnlib.solver import Solver, load_weights


def finish(run, solver, data):
    """Test the model that the Solver holds, leave pictures and report, print the metrics.

    The split is that for tests, or where it is empty that for validation. What goes wrong with a picture or
    the report costs that part alone.
    """
    part, task = "test" if len(data["X_test"]) else "val", run.data_set.task
    X, y = data[f"X_{part}"], np.asarray(data[f"y_{part}"])
    scores = scores_of(run, solver, X)
    values = values_of(task, scores, y)
    pictures = drawn(run, solver, X, y, scores)
    saved = [] if pictures is None else pictures.save(run.folder, PICTURES_OF[task])
    if saved:
        say(f"pictures: {', '.join(saved)}")
    with at_its_cost(REPORT):
        run.write_file(REPORT, report(run, solver, data, part, scores, values, pictures))
        say(f"report: {run.folder / REPORT}", fold=False)
    print("; ".join(f"{part}_{name}: {value:.4f}" for name, value in values.items()))


def add_to(commands):
    parser = commands.add_parser(
        "report",
        help="draw the pictures of a run and write its page, afterwards",
        description="Write a run's report.html and pictures anew, of the newest checkpoint or that which is "
        "named, and print the test accuracy.",
    )
    add(parser, "run RUN|FILE", "a run's folder, or a checkpoint in it")
    add_data(parser, "where the run's data set lies, if it has moved")
    add_threads(parser)


def run(options):
    run = Run.open(options.run)
    checkpoint = run.checkpoint(options.run)
    with locked(run.folder) as run.has_lock:
        complain_without_lock(run)
        data = run.load_data(options.data, PARTS)
        scaled = standardized(data, run.config.scale)
        solver = Solver.resume(
            checkpoint, run.build_model(), scaled, preprocess=run.normalization, verbose=False
        )
        load_weights(checkpoint, solver.model)
        finish(run, solver, data)
    return 0
