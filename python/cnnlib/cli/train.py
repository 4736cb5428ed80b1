"""``cnnlib train``: train a model, report on the test split, leave a run folder."""

import argparse
import contextlib
import functools
from dataclasses import replace
from pathlib import Path

from cnnlib.cli.options import settings, transfer
from cnnlib.cli.options.arguments import add, add_data, add_setting, add_skip_unreadable, add_threads, flag
from cnnlib.cli.options.config_file import defaults_table, recipe_table, write_config_file
from cnnlib.cli.output import (
    at_its_cost,
    complain,
    complain_without_lock,
    counted,
    say,
    say_left_out,
    say_passed_over,
)
from cnnlib.cli.recipes import RECIPES
from cnnlib.cli.run import ranks
from cnnlib.cli.run.signals import how_it_ended
from cnnlib.data import Normalization
from cnnlib.runs import data_sets, tasks
from cnnlib.runs.config import RunConfig
from cnnlib.runs.folder import RUNS, Run, refuse_within
from cnnlib.runs.log import LOG_KINDS, RunLog, check_kinds
from cnnlib.runs.networks import MODEL_OPTIONS, SPECS, describe_network
from cnnlib.solver import Solver
from cnnlib.solver.options import OPTIONS

_CAN_BE_NONE = ("lookahead", "rate_factors", "tta")  # on the command line, against a recipe
_ALSO = ("task", "skip_unreadable", "threads", "distributed", "comm_timeout")  # in a --save-config file
_EPILOG = """\
The run folder holds the newest checkpoint, history.csv, config.json, report.html (all about the run on one
page that needs no other file) and, where matplotlib is installed, curves.png, filters.png, confusion.png and
mistakes.png. Without --out it is runs/<data>-<number>, with the
next number; a folder given with --out must be empty or new, unless --overwrite says otherwise. A run that
goes on from an older checkpoint leaves the other epochs' files, until it overwrites them.

Images of your own lie in a folder for each class: --data folder:photos reads photos/cat/*.jpg,
photos/dog/*.jpg and so on, once, into a cache beside the folder (or below $CNNLIB_CACHE).

With --from FILE a network that others trained is kept up to its features, which are computed once for each
image and kept beside the folder; a new last layer learns the folder's classes, and the run folder holds
model.npz, for predict, eval, export and serve, and report.html.

A recipe is a set of settings that belong together, which the other options override. A --config file has a
line for each option, such as learning-rate = 1e-3 or augment = "flip,crop:pad=4"; the command line overrides
it.

"""


def add_to(commands):
    train = commands.add_parser(
        "train",
        help="train a model, leave a run folder",
        description="Train a model, report its accuracy on the test split, leave a run folder.",
        epilog=_EPILOG + recipe_table() + "\n\ndefaults by data set and model:\n" + defaults_table(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    where = "CIFAR-10 or CIFAR-100 from DIR ($CNNLIB_DATA or ./data), images in DIR by class (folder)"
    arrays = "arrays X_train.npy, y_train.npy, X_val.npy and so on in DIR (npy)"
    add_data(train, f"the embedded digits (the default), {where}, or {arrays}")
    for name, choices, about in (
        ("recipe", RECIPES, "settings that belong together, see below"),
        ("model", MODEL_OPTIONS, "default: three-layer, for a folder resnet8, or the recipe's"),
        ("task", tasks.TASKS, "classes of images (the default), numbers, or labels or images of pixels"),
    ):
        add_setting(train, name, choices, about)
    add(train, "--out FOLDER", "the run folder")
    add(train, "--overwrite", "replace the run that is in the --out folder")
    add(train, "--resume RUN|FILE", "go on with the run in this folder, or from this checkpoint")
    add(train, "--keep-checkpoints", "keep every epoch's, not only the newest")
    add(train, "--config FILE", "read options from a TOML file")
    add(train, "--save-config FILE", "write all settings of the run to a TOML file")
    about = f"losses and accuracies for other programs, in the run folder: {', '.join(LOG_KINDS)}"
    add(train, "--log KIND[,KIND]", about, type=_log_kinds)
    add_threads(train)
    ranks.add_distributed(train)

    transfer.add_from(train)
    images = train.add_argument_group("images of a folder")
    for name, (kind, help) in settings.IMAGE_SETTINGS.items():
        add_setting(images, name, kind, help)
    add_skip_unreadable(images)
    how = train.add_argument_group("training")
    for name, (kind, help) in settings.TRAINING.items():
        add_setting(how, name, kind, help)
    what = train.add_argument_group("model")
    for name, (form, words) in settings.MODEL_SETTINGS.items():
        add_setting(what, name, form, words)
    add(what, "--summary", "print shapes, parameters and multiply-adds")


def run(options):
    given = settings.given(options)
    begun = transfer.resumed(options, given) or options
    if getattr(begun, "from") is not None:
        from cnnlib.cli.transfer import run as run_transfer  # takes time, as what is imported after training

        return run_transfer(begun, given)
    settings.refuse(options, transfer.OWN, "{} belongs to --from FILE")
    comm = ranks.communicator(options)
    try:
        with (
            comm.guard(functools.partial(ranks.complaint, debug=getattr(options, "debug", False))),
            ranks.silenced(comm),
            contextlib.ExitStack() as held,  # the lock of the run's folder
        ):
            comm.from_root(lambda: check_kinds(options.log or []))
            start = _resume if options.resume else _begin
            return _train(options, *start(options, comm, held))
    except Exception:
        if comm.rank != 0:  # all ranks have this error; the first reports it, and mpiexec returns its status
            return 0
        raise


def _train(options, run, solver, data):
    """Let the Solver train, and report; returns the exit status."""
    log = RunLog(run, run.config.log if solver.options.comm.rank == 0 else ())

    def after_epoch(solver):
        # The checkpoint is there, and these are written anew after the next epoch.
        with at_its_cost("history.csv of this epoch"):
            run.after_epoch(solver, options.keep_checkpoints)
        with at_its_cost("the log of this epoch"):
            log.after_epoch(solver)

    solver.checkpoint_name = run.checkpoint_name()
    solver.on_epoch = after_epoch if solver.options.comm.rank == 0 else None
    say(f"run folder: {run.folder}", fold=False)
    log.start(solver.epoch)
    try:
        solver.train()
    except KeyboardInterrupt as error:
        return _interrupted(run, solver, error)
    finally:
        with at_its_cost("the end of the log"):
            log.close()
    if solver.options.comm.rank != 0:
        return 0
    from cnnlib.cli.report.command import finish
    from cnnlib.cli.report.html_report import best_value, best_value_name

    say(
        f"{best_value_name(solver)}: {best_value(solver)} (epoch {solver.best_epoch}); "
        f"{sum(solver.epoch_seconds):.1f} s of training"
    )
    say(f"checkpoint: {run.newest_checkpoint(solver.epoch)}", fold=False)
    finish(run, solver, data)
    say_left_out(data.get("unreadable", ()))
    return 0


def solver_arguments(wanted):
    """Return the Solver's arguments that the settings of a run stand for."""
    rule = {name: wanted[name] for name in settings.RULE_SETTINGS if wanted[name] is not None}
    return {"optim_config": rule, **{name: wanted[name] for name in settings.TRAINING if name in OPTIONS}}


def _begin(options, comm, held):
    """Begin a new run; returns it with its folder and config.json, a Solver, the data."""
    chosen = settings.chosen_settings(options)
    data_set, source = _data_set(options, chosen, comm)
    task, shape, classes = data_set.task, data_set.shape, data_set.classes
    if task == "classes":
        tasks.refuse_one_class(classes)
    network = describe_network(chosen.model, chosen.settings, shape, len(classes), task)
    model = network.build()
    if options.summary and not hasattr(model, "summary"):
        raise ValueError(f"--summary: a {chosen.model} model has none; {', '.join(SPECS)} do")
    data = data_set.load(source.folder, data_sets.PARTS)
    fitted = comm.from_root(lambda: Normalization.fit(data["X_train"]), patient=True)
    white = fitted.white if data_set.white is None else data_set.white
    normalization = Normalization(fitted.mean, fitted.std, white, data_set.ink)
    arguments = {**solver_arguments(chosen.settings), "preprocess": normalization}
    arguments |= tasks.solver_arguments(task, data["y_train"], chosen.settings["augment"])
    scale = tasks.target_scale(task, data["y_train"])
    solver = Solver(model, tasks.standardized(data, scale), **arguments, print_every=100, comm=comm)

    if options.save_config is not None:
        comm.from_root(lambda: _save_config(options, chosen))
    label = Path(source.folder or chosen.data).name if chosen.data in ("folder", "npy") else chosen.data
    run = comm.from_root(lambda: Run.create(options.out, options.overwrite, label, held))
    comm.from_root(lambda: complain_without_lock(run))
    config = RunConfig.of_new_run(
        source=replace(source, labels=tasks.have_labels(task, data["y_train"])),
        classes=classes,
        normalization=normalization,
        training={option: chosen.settings[option] for option in settings.TRAINING},
        network=network,
        scale=scale,
        recipe=options.recipe,
        log=tuple(options.log or ()),
        ranks=comm.size,
    )
    comm.from_root(lambda: run.write_config(config))
    size = sum(w.size for w in model.params.values())
    about = counted(label, data, shape, len(classes), task)
    say(f"{about}; {chosen.model} model with {size:,} parameters; {ranks.workers(comm)}")
    if chosen.data == "folder":
        say_passed_over(source.folder if task == "classes" else Path(source.folder, "images"))
    if task == "classes" and (lacking := set(range(len(classes))) - set(data["y_train"].tolist())):
        say(f"no training images of {', '.join(classes[label] for label in sorted(lacking))}")
    if options.summary:
        print(model.summary())
    return run, solver, data


def _data_set(options, chosen, comm):
    """Find the data set, and what config.json says of where it lies and of what its files decide about."""
    name, wanted = chosen.data, chosen.settings
    place, task = data_sets.data_folder(name, chosen.folder), options.task or "classes"
    shape = shares = None
    if options.skip_unreadable and name != "folder":
        raise ValueError(f"--skip-unreadable means nothing to --data {name}")
    for option in ("tta", "label_smoothing"):  # a mirrored mask would not be turned back
        if task != "classes" and wanted[option] is not None:
            raise ValueError(f"{flag(option)} means nothing to --task {task}")
    if name not in data_sets.OF_FILES:
        return data_sets.DATA_SETS[name], data_sets.Source(name, place)
    if name == "folder":
        if wanted["validation"] == 0:
            raise ValueError("--validation 0: epochs are compared by validation images")
        refuse_within(options.out or RUNS, place if task == "classes" else Path(place, "images"))
        shape = settings.CHANNELS[wanted["colours"]], *settings.pixels(wanted["image_size"])
        shares = {share: wanted[share] for share in ("validation", "test")}
        shares["skip_unreadable"] = options.skip_unreadable
    data_set = ranks.root_first(comm, lambda: data_sets.data_set_of_files(name, place, shape, shares, task))
    return data_set, data_sets.found_source(name, place, data_set.shape, shares, task)


def _save_config(options, chosen):
    """Write what makes the same run again."""
    recipe = RECIPES.get(options.recipe, {"data": "digits"})
    named = {"recipe": options.recipe, "data": options.data or recipe["data"], "model": chosen.model}
    off = {name: "none" for name in _CAN_BE_NONE if chosen.settings[name] is None and name in recipe}
    how = {name: getattr(options, name) or None for name in _ALSO}
    write_config_file(options.save_config, {**named, **how, **chosen.settings, **off})


def _resume(options, comm, held):
    """The run that is to go on, a Solver that stands where it stood, the data."""
    run = comm.from_root(lambda: Run.open(options.resume))
    fixed = [name for name in settings.given(options) if name not in ("num_epochs", "early_stopping")]
    fixed += ["recipe", "model", "task", "out", "overwrite", "save_config", "skip_unreadable", "summary"]
    settings.refuse(options, fixed, transfer.NOT_WITH_RESUME)
    checkpoint = comm.from_root(lambda: run.checkpoint(options.resume))
    later = comm.from_root(lambda: run.go_on_from(checkpoint, held))
    comm.from_root(lambda: complain_without_lock(run))
    data = ranks.root_first(comm, lambda: run.load_data(options.data, data_sets.PARTS))
    changed = {"num_epochs": options.num_epochs} if options.num_epochs is not None else {}
    stopping = False if options.early_stopping == "none" else options.early_stopping
    if stopping is not None:
        changed["early_stopping"] = stopping or None
    solver = Solver.resume(
        checkpoint,
        run.build_model(),
        tasks.standardized(data, run.config.scale),
        num_epochs=options.num_epochs,
        early_stopping=stopping,
        preprocess=run.normalization,
        comm=comm,
    )
    if options.num_epochs is not None and options.num_epochs < solver.epoch:
        raise ValueError(f"--num-epochs {options.num_epochs}: the run has {solver.epoch} epochs behind it")
    logs = sorted({*run.config.log, *(options.log or [])})
    comm.from_root(lambda: run.write_changed(changed, logs))
    where = f"after epoch {solver.epoch}"
    if len(solver.loss_history) > solver.epoch * solver.iterations_per_epoch:
        where = f"after iteration {len(solver.loss_history)}, in epoch {solver.epoch + 1}"
    print(f"going on {where} of {solver.num_epochs}")
    if later:
        epochs = ", ".join(map(str, later))
        print(f"the checkpoints of later epochs ({epochs}) stay until they are overwritten")
    return run, solver, data


def _log_kinds(text):
    kinds = text.split(",")
    if not set(kinds) <= set(LOG_KINDS):
        raise argparse.ArgumentTypeError(f"expected some of {', '.join(LOG_KINDS)}, got {text!r}")
    return kinds


def _interrupted(run, solver, error):
    checkpoint = run.newest_checkpoint(solver.epoch)
    how, status = how_it_ended(error)
    if checkpoint is None:
        complain(f"{how} before the training began: there is nothing to resume")
    else:
        # The signal may have come between an epoch's checkpoint and what follows it.
        with at_its_cost("history.csv"):
            run.after_epoch(solver, keep_checkpoints=True)
        complain(f"{how}; {checkpoint} is kept, resume with: {run.resume_command}")
    return status
