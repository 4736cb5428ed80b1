"""``cnnlib train``: train a model, report on the test split, leave a run folder."""

import argparse
import contextlib
import os
import platform
import shlex
import sys
import traceback

import numpy as np

import cnnlib
from cnnlib.augment import TTA
from cnnlib.cli import networks, report
from cnnlib.cli.arguments import FORMS, add_data, add_setting, add_threads
from cnnlib.cli.datasets import DATA_SETS, Preprocessing, data_folder
from cnnlib.cli.help_tables import defaults_table, recipe_table
from cnnlib.cli.runs import Run
from cnnlib.cli.settings import (
    MODEL_OPTIONS,
    MODEL_SETTINGS,
    MOMENTUM_RULES,
    SPECS,
    TRAINING,
    defaults,
    flag,
    parse_data,
    recipe_settings,
)
from cnnlib.distributed import SerialComm, world
from cnnlib.recipes import RECIPES
from cnnlib.solver import Solver
from cnnlib.solver.options import OPTIONS

_PARTS = ("train", "val", "test")
_EPILOG = """\
The run folder holds the newest checkpoint, history.csv, config.json and, where matplotlib is installed,
curves.png, filters.png, confusion.png and mistakes.png. Without --out it is runs/<data>-<number>, with the
next number; a folder given with --out must be empty or new, unless --overwrite says otherwise. A run that
goes on from an older checkpoint leaves the other epochs' files, until it overwrites them.

A recipe is a set of settings that belong together, which the other options override.

"""


def add_to(commands):
    """Add the command and its options."""
    train = commands.add_parser(
        "train",
        help="train a model, leave a run folder",
        description="Train a model, report its accuracy on the test split, leave a run folder.",
        epilog=_EPILOG + recipe_table() + "\n\ndefaults by data set and model:\n" + defaults_table(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    train.set_defaults(execute=run)
    add_data(train, "the embedded digits (the default), or CIFAR-10 from DIR ($CNNLIB_DATA or ./data)")
    train.add_argument("--recipe", choices=RECIPES, help="settings that belong together, see below")
    train.add_argument("--model", choices=MODEL_OPTIONS, help="default: three-layer, or the recipe's")
    train.add_argument("--out", metavar="FOLDER", help="the run folder")
    train.add_argument("--overwrite", action="store_true", help="replace the run that is in the --out folder")
    train.add_argument(
        "--resume", metavar="RUN|FILE", help="go on with the run in this folder, or from this checkpoint"
    )
    train.add_argument(
        "--keep-checkpoints", action="store_true", help="keep every epoch's, not only the newest"
    )
    add_threads(train)
    _add_distributed(train)

    how = train.add_argument_group("training")
    for option in OPTIONS.values():
        for setting in option.flags:
            add_setting(how, setting.name, setting.kind, setting.help)
    how.add_argument(
        "--tta", choices=("none", *TTA), help="average the test images' scores over views, and eval's alike"
    )
    what = train.add_argument_group("model")
    for name, (kind, help) in MODEL_SETTINGS.items():
        if kind == "flag":
            what.add_argument(flag(name), action=argparse.BooleanOptionalAction, help=help)
        else:
            add_setting(what, name, kind, help)
    what.add_argument("--summary", action="store_true", help="print shapes, parameters and multiply-adds")


def _add_distributed(parser):
    group = parser.add_argument_group("several processes")
    group.add_argument(
        "--distributed",
        action="store_true",
        help="data-parallel, as in: mpiexec -n 4 cnnlib train --distributed ...; --threads are each rank's, "
        "by default its share of the cores",
    )
    group.add_argument(
        "--comm-timeout",
        type=FORMS["positive number"][0],
        metavar="SECONDS",
        help="that a rank waits for the others before it ends the job; default: 600",
    )


def run(options):
    """Run the subcommand; returns the exit status."""
    comm = _communicator(options)
    try:
        with comm.guard(_complaint), contextlib.ExitStack() as held:  # the lock of the run's folder
            if comm.rank != 0:
                nowhere = held.enter_context(open(os.devnull, "w", encoding="utf-8"))
                held.enter_context(contextlib.redirect_stdout(nowhere))
            start = _resume if options.resume else _begin
            return _train(*start(options, comm, held))
    except Exception:
        if comm.rank != 0:  # all ranks have this error; the first reports it, and mpiexec returns its status
            return 0
        raise


def _communicator(options):
    if options.distributed:
        given = {} if options.comm_timeout is None else {"timeout": options.comm_timeout}
        return world(**given, threads=options.threads)
    if options.comm_timeout is not None:
        raise ValueError("--comm-timeout means nothing without --distributed")
    if options.threads is not None:
        cnnlib.set_num_threads(options.threads)
    return SerialComm()


def _complaint(error):
    """An error as the command reports it; what is no user's error, with its traceback."""
    if isinstance(error, (ArithmeticError, ImportError, MemoryError, OSError, TypeError, ValueError)):
        return " ".join(f"error: {error or type(error).__name__}".split())
    return "".join(traceback.format_exception(error)).rstrip()


def _train(run, solver, data):
    """Let the Solver train, and report; returns the exit status."""
    print(f"run folder: {run.folder}", flush=True)
    try:
        solver.train()
    except KeyboardInterrupt:
        return _interrupted(run, solver)
    if solver.comm.rank != 0:
        return 0
    checkpoint = run.newest_checkpoint(solver.epoch)
    model = solver.model
    scores = networks.scores_of(model, data["X_test"], tta=run.tta)
    accuracy = np.mean(scores.argmax(axis=1) == data["y_test"])
    print(
        f"best validation accuracy: {solver.best_val_acc:.4f} (epoch {solver.best_epoch}); "
        f"{sum(solver.epoch_seconds):.1f} s of training"
    )
    print(f"checkpoint: {checkpoint}")
    report.draw(run, solver, model, data["X_test"], data["y_test"], scores)
    print(f"test accuracy: {accuracy:.4f}")
    return 0


def solver_arguments(settings):
    """The Solver's arguments that a run's settings stand for."""
    arguments = {}
    for name, option in OPTIONS.items():
        values = {setting.name: settings[setting.name] for setting in option.flags}
        if name == "optim_config":
            arguments[name] = {key: value for key, value in values.items() if value is not None}
        elif values:
            (arguments[name],) = values.values()
    return arguments


def _begin(options, comm, held):
    """A new run: its folder with config.json, a Solver, the data."""
    name, folder, model_name, settings = _settings(options)
    data_set, folder = DATA_SETS[name], data_folder(name, folder)
    description = networks.describe(model_name, settings, data_set.shape, len(data_set.classes))
    model = networks.build(description)
    if options.summary and not hasattr(model, "summary"):
        raise ValueError(f"--summary: a {model_name} model has none; {', '.join(SPECS)} do")
    data = data_set.load(folder, _PARTS)
    preprocessing = Preprocessing.fit(data["X_train"])
    _preprocess(data, preprocessing)

    solver = Solver(model, data, **solver_arguments(settings), print_every=100, comm=comm)

    run = _shared_run(comm, lambda: Run.create(options.out, options.overwrite, name, held))
    _write_config(
        run,
        comm,
        {
            "data": {"name": name, "folder": folder},
            "preprocessing": {"mean": preprocessing.mean, "std": preprocessing.std},
            "classes": data_set.classes,
            "model": description,
            "recipe": options.recipe,
            "training": {option: settings[option] for option in TRAINING},
            "ranks": comm.size,
            "threads": cnnlib.get_num_threads(),
            "versions": {
                "cnnlib": cnnlib.__version__,
                "instruction set": cnnlib._core.active_isa(),
                "numpy": np.__version__,
                "python": platform.python_version(),
                "platform": platform.platform(),
            },
        },
    )
    solver.checkpoint_name = run.checkpoint_name()
    solver.on_epoch = _after_epoch(run, options, comm)
    size = sum(w.size for w in model.params.values())
    print(
        f"{name}: {len(data['X_train'])} training, {len(data['X_val'])} validation, "
        f"{len(data['X_test'])} test images; {model_name} model with {size:,} parameters; "
        f"{_workers(comm)}"
    )
    if options.summary:
        print(model.summary())
    return run, solver, data


def _settings(options):
    """Data set, its folder, model, and every setting: the recipe's or the defaults, overridden."""
    recipe = RECIPES.get(options.recipe, {"data": "digits", "model": "three-layer"})
    name, folder = parse_data(options.data or recipe["data"])
    model_name = options.model or recipe["model"]
    if options.recipe is None:
        settings = defaults(name, model_name)
    else:
        settings = recipe_settings(options.recipe, name, model_name)
    for option in _given(options):
        if option not in settings:
            raise ValueError(f"{flag(option)} means nothing to a {model_name} model")
        value = getattr(options, option)
        settings[option] = None if value == "none" else value
    if settings["update_rule"] not in MOMENTUM_RULES:
        if options.momentum is not None:
            raise ValueError(f"--momentum means nothing to {settings['update_rule']}")
        settings["momentum"] = None
    return name, folder, model_name, settings


def _workers(comm):
    threads = f"{cnnlib.get_num_threads()} threads"
    return threads if comm.size == 1 else f"{comm.size} ranks with {threads} each"


def _shared_run(comm, find):
    """The Run that ``find()`` returns on rank 0, which alone uses the folder; on the others a twin."""
    runs = []

    def on_root():
        runs.append(find())
        return runs[0].folder, runs[0].config

    folder, config = comm.from_root(on_root)
    return runs[0] if runs else Run(folder, config)


def _write_config(run, comm, config):
    if comm.rank == 0:
        run.write_config(config)


def _resume(options, comm, held):
    """The run that is to go on, a Solver that stands where it stood, the data."""
    run = _shared_run(comm, lambda: Run.open(options.resume))
    fixed = [option for option in _given(options) if option != "epochs"]
    fixed += [option for option in ("recipe", "model", "out") if getattr(options, option) is not None]
    if fixed:
        raise ValueError(f"--resume goes on with the run's own settings; it does not take {flag(fixed[0])}")
    checkpoint = comm.from_root(lambda: run.checkpoint(options.resume))
    later = comm.from_root(lambda: run.go_on_from(checkpoint, held))
    data = run.load_data(options.data, _PARTS)
    _preprocess(data, run.preprocessing)
    solver = Solver.resume(
        checkpoint,
        run.build_model(),
        data,
        num_epochs=options.epochs,
        checkpoint_name=run.checkpoint_name(),
        on_epoch=_after_epoch(run, options, comm),
        comm=comm,
    )
    if options.epochs is not None:
        if options.epochs < solver.epoch:
            raise ValueError(f"--epochs {options.epochs}: the run has {solver.epoch} epochs behind it")
        training = {**run.config["training"], "epochs": options.epochs}
        _write_config(run, comm, {**run.config, "training": training})
    print(f"going on after epoch {solver.epoch} of {solver.num_epochs}")
    if later:
        print(
            f"the checkpoints of later epochs ({', '.join(map(str, later))}) stay until they are overwritten"
        )
    return run, solver, data


def _given(options):
    """The settings that the command line names, of all that a run can have."""
    names = dict.fromkeys((*TRAINING, *(option for model in MODEL_OPTIONS.values() for option in model)))
    return [name for name in names if getattr(options, name) is not None]


def _preprocess(data, preprocessing):
    for part in _PARTS:
        preprocessing.apply(data[f"X_{part}"])


def _after_epoch(run, options, comm):
    if comm.rank != 0:
        return None
    return lambda solver: run.after_epoch(solver, options.keep_checkpoints)


def _interrupted(run, solver):
    checkpoint = run.newest_checkpoint(solver.epoch)
    if checkpoint is None:
        print(
            "cnnlib: interrupted before the first epoch was complete: there is nothing to resume",
            file=sys.stderr,
        )
    else:
        command = f"cnnlib train --resume {shlex.quote(str(run.folder))}"
        print(f"cnnlib: interrupted; {checkpoint} is kept, resume with: {command}", file=sys.stderr)
    return 130
