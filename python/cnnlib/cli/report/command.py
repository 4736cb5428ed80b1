"""``cnnlib report``: the pictures and the page of a run, made afterwards."""

import contextlib

import cnnlib
from cnnlib.cli.options.arguments import add_data, add_run, add_threads
from cnnlib.cli.report.writing import finish
from cnnlib.cli.run.folder import Run
from cnnlib.cli.run.lock import locked
from cnnlib.cli.run.tasks import standardized
from cnnlib.solver import Solver, load_weights


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
