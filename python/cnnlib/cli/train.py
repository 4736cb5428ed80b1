"""``cnnlib train``: train a model, report on the test split, leave a run folder."""

import platform
import shlex
import sys

import numpy as np

import cnnlib
from cnnlib.cli import networks, report
from cnnlib.cli.datasets import DATA_SETS, Preprocessing, data_folder
from cnnlib.cli.runs import Run
from cnnlib.cli.settings import (
    MODEL_OPTIONS,
    MOMENTUM_RULES,
    SPECS,
    TRAINING,
    defaults,
    flag,
    parse_data,
    recipe_settings,
)
from cnnlib.recipes import RECIPES
from cnnlib.solver import Solver

_PARTS = ("train", "val", "test")
_SOLVER_OPTIONS = (
    "update_rule",
    "rate_factors",
    "lr_decay",
    "schedule",
    "weight_decay",
    "clip_norm",
    "label_smoothing",
    "ema_decay",
    "lookahead",
    "augment",
    "keep",
    "batch_size",
    "seed",
)


def run(options):
    """Run the subcommand; returns the exit status."""
    if options.threads is not None:
        cnnlib.set_num_threads(options.threads)
    start = _resume if options.resume else _begin
    run, solver, data = start(options)
    print(f"run folder: {run.folder}")
    try:
        solver.train()
    except KeyboardInterrupt:
        return _interrupted(run)
    checkpoint = run.newest_checkpoint()
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
    config = {name: settings[name] for name in ("learning_rate", "momentum")}
    return {
        **{name: settings[name] for name in _SOLVER_OPTIONS},
        "optim_config": {name: value for name, value in config.items() if value is not None},
        "num_epochs": settings["epochs"],
    }


def _begin(options):
    """A new run: its folder with config.json, a Solver, the data."""
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
    data_set, folder = DATA_SETS[name], data_folder(name, folder)
    description = networks.describe(model_name, settings, data_set.shape, len(data_set.classes))
    model = networks.build(description)
    if options.summary and not hasattr(model, "summary"):
        raise ValueError(f"--summary: a {model_name} model has none; {', '.join(SPECS)} do")
    data = data_set.load(folder, _PARTS)
    preprocessing = Preprocessing.fit(data["X_train"])
    _preprocess(data, preprocessing)

    solver = Solver(model, data, **solver_arguments(settings), print_every=100)

    run = Run.create(options.out, options.overwrite, name)
    run.write_config(
        {
            "data": {"name": name, "folder": folder},
            "preprocessing": {"mean": preprocessing.mean, "std": preprocessing.std},
            "classes": data_set.classes,
            "model": description,
            "recipe": options.recipe,
            "training": {option: settings[option] for option in TRAINING},
            "threads": cnnlib.get_num_threads(),
            "versions": {
                "cnnlib": cnnlib.__version__,
                "instruction set": cnnlib._core.active_isa(),
                "numpy": np.__version__,
                "python": platform.python_version(),
                "platform": platform.platform(),
            },
        }
    )
    solver.checkpoint_name = run.checkpoint_name()
    solver.on_epoch = _after_epoch(run, options)
    size = sum(w.size for w in model.params.values())
    print(
        f"{name}: {len(data['X_train'])} training, {len(data['X_val'])} validation, "
        f"{len(data['X_test'])} test images; {model_name} model with {size:,} parameters; "
        f"{cnnlib.get_num_threads()} threads"
    )
    if options.summary:
        print(model.summary())
    return run, solver, data


def _resume(options):
    """The run that is to go on, a Solver that stands where it stood, the data."""
    run = Run.open(options.resume)
    fixed = [option for option in _given(options) if option != "epochs"]
    fixed += [option for option in ("recipe", "model", "out") if getattr(options, option) is not None]
    if fixed:
        raise ValueError(f"--resume goes on with the run's own settings; it does not take {flag(fixed[0])}")
    checkpoint = run.checkpoint(options.resume)
    data = run.load_data(options.data, _PARTS)
    _preprocess(data, run.preprocessing)
    solver = Solver.resume(
        checkpoint,
        run.build_model(),
        data,
        num_epochs=options.epochs,
        checkpoint_name=run.checkpoint_name(),
        on_epoch=_after_epoch(run, options),
    )
    if options.epochs is not None:
        if options.epochs < solver.epoch:
            raise ValueError(f"--epochs {options.epochs}: the run has {solver.epoch} epochs behind it")
        run.write_config({**run.config, "training": {**run.config["training"], "epochs": options.epochs}})
    print(f"going on after epoch {solver.epoch} of {solver.num_epochs}")
    return run, solver, data


def _given(options):
    """The settings that the command line names, of all that a run can have."""
    names = dict.fromkeys((*TRAINING, *(option for model in MODEL_OPTIONS.values() for option in model)))
    return [name for name in names if getattr(options, name) is not None]


def _preprocess(data, preprocessing):
    for part in _PARTS:
        preprocessing.apply(data[f"X_{part}"])


def _after_epoch(run, options):
    return lambda solver: run.after_epoch(solver, options.keep_checkpoints)


def _interrupted(run):
    checkpoint = run.newest_checkpoint()
    if checkpoint is None:
        print(
            "cnnlib: interrupted before the first epoch was complete: there is nothing to resume",
            file=sys.stderr,
        )
    else:
        command = f"cnnlib train --resume {shlex.quote(str(run.folder))}"
        print(f"cnnlib: interrupted; {checkpoint} is kept, resume with: {command}", file=sys.stderr)
    return 130
