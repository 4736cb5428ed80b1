"""``cnnlib train``: train a model, report on the test split, leave a run folder."""

import argparse
import contextlib
import functools
from pathlib import Path

from cnnlib.augment import TTA
from cnnlib.cli import transfer
from cnnlib.cli.options.arguments import add_data, add_setting, add_skip_unreadable, add_threads
from cnnlib.cli.options.config_file import defaults_table, recipe_table, write_config_file
from cnnlib.cli.options.datasets import DATA_SETS, FOUND, data_folder, describe_found, look_into
from cnnlib.cli.options.settings import (
    CHANNELS,
    IMAGE_SETTINGS,
    MODEL_OPTIONS,
    MODEL_SETTINGS,
    MOMENTUM_RULES,
    SPECS,
    TASKS,
    TRAINING,
    build_network,
    default_model,
    defaults,
    describe_network,
    flag,
    parse_data,
    pixels,
    recipe_settings,
)
from cnnlib.cli.output import at_its_cost, complain, say, say_left_out
from cnnlib.cli.recipes import RECIPES
from cnnlib.cli.report.command import finish
from cnnlib.cli.report.html_report import best_value, best_value_name
from cnnlib.cli.run import tasks
from cnnlib.cli.run.folder import Run
from cnnlib.cli.run.log import LOG_KINDS, RunLog, check_kinds
from cnnlib.cli.run.ranks import (
    add_distributed,
    communicator,
    complaint,
    how_it_ended,
    root_first,
    shared_run,
    silenced,
    workers,
)
from cnnlib.data import Normalization
from cnnlib.solver import Solver
from cnnlib.solver.options import OPTIONS

_PARTS = ("train", "val", "test")
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
    """Add the command and its options."""
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
        ("task", TASKS, "classes of images (the default), numbers, or labels or images of pixels"),
    ):
        add_setting(train, name, choices, about)
    train.add_argument("--out", metavar="FOLDER", help="the run folder")
    train.add_argument("--overwrite", action="store_true", help="replace the run that is in the --out folder")
    train.add_argument(
        "--resume", metavar="RUN|FILE", help="go on with the run in this folder, or from this checkpoint"
    )
    train.add_argument(
        "--keep-checkpoints", action="store_true", help="keep every epoch's, not only the newest"
    )
    train.add_argument("--config", metavar="FILE", help="read options from a TOML file")
    train.add_argument("--save-config", metavar="FILE", help="write all settings of the run to a TOML file")
    train.add_argument(
        "--log",
        type=_log_kinds,
        metavar="KIND[,KIND]",
        help=f"losses and accuracies for other programs, in the run folder: {', '.join(LOG_KINDS)}",
    )
    add_threads(train)
    add_distributed(train)

    transfer.add_from(train)
    images = train.add_argument_group("images of a folder")
    for name, (kind, help) in IMAGE_SETTINGS.items():
        add_setting(images, name, kind, help)
    add_skip_unreadable(images)
    how = train.add_argument_group("training")
    for option in OPTIONS.values():
        for setting in option.flags:
            add_setting(how, setting.name, setting.kind, setting.help)
    about = "average the test images' scores over views, and eval's alike"
    add_setting(how, "tta", ("none", *TTA), about)
    what = train.add_argument_group("model")
    for name, (form, words) in MODEL_SETTINGS.items():
        add_setting(what, name, form, words)
    what.add_argument("--summary", action="store_true", help="print shapes, parameters and multiply-adds")


def run(options):
    """Run the subcommand; returns the exit status."""
    begun = transfer.resumed(options, _given(options)) or options
    if getattr(begun, "from") is not None:
        return transfer.run(begun, _given(options))
    transfer.refuse_without(options)
    comm = communicator(options)
    try:
        with (
            comm.guard(functools.partial(complaint, debug=getattr(options, "debug", False))),
            silenced(comm),
            contextlib.ExitStack() as held,  # the lock of the run's folder
        ):
            comm.from_root(lambda: check_kinds(options.log or []))
            start = _resume if options.resume else _begin
            return _train(*start(options, comm, held))
    except Exception:
        if comm.rank != 0:  # all ranks have this error; the first reports it, and mpiexec returns its status
            return 0
        raise


def _train(run, log, solver, data):
    """Let the Solver train, and report; returns the exit status."""
    say(f"run folder: {run.folder}", fold=False)
    log.start(solver.epoch)
    try:
        solver.train()
    except KeyboardInterrupt as error:
        return _interrupted(run, solver, error)
    finally:
        log.close()
    if solver.comm.rank != 0:
        return 0
    checkpoint = run.newest_checkpoint(solver.epoch)
    summary = (
        f"{best_value_name(solver)}: {best_value(solver)} (epoch {solver.best_epoch}); "
        f"{sum(solver.epoch_seconds):.1f} s of training"
    )
    say(summary)
    say(f"checkpoint: {checkpoint}", fold=False)
    finish(run, solver, data)
    say_left_out(data.get("unreadable", ()))
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
    data_set, place, images = _data_set(options, name, folder, settings, comm)
    task = data_set.task
    description = describe_network(model_name, settings, data_set.shape, len(data_set.classes), task)
    model = build_network(description)
    if options.summary and not hasattr(model, "summary"):
        raise ValueError(f"--summary: a {model_name} model has none; {', '.join(SPECS)} do")
    data = data_set.load(place, _PARTS)
    fitted = comm.from_root(lambda: Normalization.fit(data["X_train"]), patient=True)
    white = fitted.white if data_set.white is None else data_set.white
    normalization = Normalization(fitted.mean, fitted.std, white, data_set.ink)
    arguments = {**solver_arguments(settings), "preprocess": normalization}
    arguments |= tasks.solver_arguments(task, data["y_train"])
    scale = tasks.target_scale(task, data["y_train"])
    solver = Solver(model, tasks.standardized(data, scale), **arguments, print_every=100, comm=comm)

    if options.save_config is not None:
        comm.from_root(lambda: _save_config(options, model_name, settings))
    label = Path(place or name).name if name in ("folder", "npy") else name
    run = shared_run(comm, lambda: Run.create(options.out, options.overwrite, label, held))
    log = _log(run, options, comm)
    content = {
        "data": {"name": name, "folder": place, **images, **tasks.description(task, data["y_train"])},
        **({} if scale is None else {"targets": scale}),
        "classes": data_set.classes,
        "model": description,
        "recipe": options.recipe,
        "training": {option: settings[option] for option in TRAINING},
        "ranks": comm.size,
    }
    comm.from_root(lambda: run.begin(normalization=normalization, **content))
    solver.checkpoint_name = run.checkpoint_name()
    solver.on_epoch = _after_epoch(run, log, options, comm)
    size = sum(w.size for w in model.params.values())
    about = (
        f"{label}: {len(data['X_train'])} training, {len(data['X_val'])} validation, "
        f"{len(data['X_test'])} test images of {'x'.join(map(str, data_set.shape))} in "
        f"{len(data_set.classes)} {'classes' if task == 'classes' else 'outputs'}; "
        f"{model_name} model with {size:,} parameters; {workers(comm)}"
    )
    say(about)
    if options.summary:
        print(model.summary())
    return run, log, solver, data


def _data_set(options, name, folder, settings, comm):
    """The data set, where it lies, and what config.json says of images that its files decide about."""
    place, task, shape, shares = data_folder(name, folder), options.task or "classes", None, None
    if options.skip_unreadable and name != "folder":
        raise ValueError(f"--skip-unreadable means nothing to --data {name}")
    if task != "classes" and name not in ("folder", "npy"):
        raise ValueError(f"--task {task} takes --data folder:DIR or npy:DIR, not {name}")
    if name not in FOUND:
        return DATA_SETS[name], place, {}
    if name == "folder":
        shape = CHANNELS[settings["colours"]], *pixels(settings["image_size"])
        shares = {share: settings[share] for share in ("validation", "test")}
        shares["skip_unreadable"] = options.skip_unreadable
    data_set = root_first(comm, lambda: look_into(name, place, shape, shares, task))
    return data_set, place, describe_found(place, data_set.shape, shares)


def _save_config(options, model_name, settings):
    """Write what makes the same run again."""
    recipe = RECIPES.get(options.recipe, {"data": "digits"})
    named = {"recipe": options.recipe, "data": options.data or recipe["data"], "model": model_name}
    off = {name: "none" for name in _CAN_BE_NONE if settings[name] is None and name in recipe}
    how = {name: getattr(options, name) or None for name in _ALSO}
    write_config_file(options.save_config, {**named, **how, **settings, **off})


def _settings(options):
    """Data set, its folder, model, and every setting: the recipe's or the defaults, overridden."""
    recipe = RECIPES.get(options.recipe, {"data": "digits"})
    name, folder = parse_data(options.data or recipe["data"])
    model_name = options.model or recipe.get("model") or default_model(name, options.task)
    if options.recipe is None:
        settings = defaults(name, model_name)
    else:
        settings = recipe_settings(options.recipe, name, model_name)
    for option in _given(options):
        if option not in settings:
            what = f"--data {name}" if option in IMAGE_SETTINGS else f"a {model_name} model"
            raise ValueError(f"{flag(option)} means nothing to {what}")
        value = getattr(options, option)
        settings[option] = None if value == "none" else value
    if settings["update_rule"] not in MOMENTUM_RULES:
        if options.momentum is not None:
            raise ValueError(f"--momentum means nothing to {settings['update_rule']}")
        settings["momentum"] = None
    return name, folder, model_name, settings


def _resume(options, comm, held):
    """The run that is to go on, a Solver that stands where it stood, the data."""
    run = shared_run(comm, lambda: Run.open(options.resume))
    fixed = [option for option in _given(options) if option not in ("num_epochs", "early_stopping")]
    others = ("recipe", "model", "task", "out", "save_config", "skip_unreadable")
    fixed += [option for option in others if getattr(options, option) not in (None, False)]
    if fixed:
        raise ValueError(f"--resume goes on with the run's own settings; it does not take {flag(fixed[0])}")
    checkpoint = comm.from_root(lambda: run.checkpoint(options.resume))
    later = comm.from_root(lambda: run.go_on_from(checkpoint, held))
    data = root_first(comm, lambda: run.load_data(options.data, _PARTS))
    scaled = tasks.standardized(data, run.config.get("targets"))
    log = _log(run, options, comm)
    stopping = False if options.early_stopping == "none" else options.early_stopping
    solver = Solver.resume(
        checkpoint,
        run.build_model(),
        scaled,
        num_epochs=options.num_epochs,
        preprocess=run.normalization,
        early_stopping=stopping,
        checkpoint_name=run.checkpoint_name(),
        on_epoch=_after_epoch(run, log, options, comm),
        comm=comm,
    )
    if options.num_epochs is not None:
        if options.num_epochs < solver.epoch:
            raise ValueError(
                f"--num-epochs {options.num_epochs}: the run has {solver.epoch} epochs behind it"
            )
        comm.from_root(lambda: run.write_training({"num_epochs": options.num_epochs}))
    if stopping is not None:
        comm.from_root(lambda: run.write_training({"early_stopping": stopping or None}))
    where = f"after epoch {solver.epoch}"
    if len(solver.loss_history) > solver.epoch * solver.iterations_per_epoch:
        where = f"after iteration {len(solver.loss_history)}, in epoch {solver.epoch + 1}"
    print(f"going on {where} of {solver.num_epochs}")
    if later:
        print(
            f"the checkpoints of later epochs ({', '.join(map(str, later))}) stay until they are overwritten"
        )
    return run, log, solver, data


def _given(options):
    """The settings that the command line names, of all that a run can have."""
    names = dict.fromkeys(
        (*TRAINING, *IMAGE_SETTINGS, *(option for model in MODEL_OPTIONS.values() for option in model))
    )
    return [name for name in names if getattr(options, name) is not None]


def _log(run, options, comm):
    """The logs that --log asks for; on rank 0, the others keep none."""
    return RunLog(run, (options.log or []) if comm.rank == 0 else [])


def _after_epoch(run, log, options, comm):
    """What the Solver calls after each epoch; nothing on other ranks than 0."""
    if comm.rank != 0:
        return None

    def after_epoch(solver):
        # The checkpoint is there, and these are written anew after the next epoch.
        with at_its_cost("history.csv of this epoch"):
            run.after_epoch(solver, options.keep_checkpoints)
        with at_its_cost("the log of this epoch"):
            log.after_epoch(solver)

    return after_epoch


def _log_kinds(text):
    kinds = text.split(",")
    for kind in kinds:
        if kind not in LOG_KINDS:
            raise argparse.ArgumentTypeError(f"expected some of {', '.join(LOG_KINDS)}, got {text!r}")
    return kinds


def _interrupted(run, solver, error):
    checkpoint = run.newest_checkpoint(solver.epoch)
    how, status = how_it_ended(error)
    if checkpoint is None:
        complain(f"{how} before the training began: there is nothing to resume")
    else:
        # The signal may have come between an epoch's checkpoint and what follows it.
        run.after_epoch(solver, keep_checkpoints=True)
        complain(f"{how}; {checkpoint} is kept, resume with: {run.resume_command}")
    return status
