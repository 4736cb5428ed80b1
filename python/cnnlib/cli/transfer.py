"""``cnnlib train --from FILE``: a network that others trained learns the classes of a folder of images."""

import contextlib
import time
from pathlib import Path

import numpy as np

import cnnlib
from cnnlib.cli.options.settings import CHANNELS, defaults, pixels, refuse
from cnnlib.cli.options.transfer import KEPT
from cnnlib.cli.output import (
    at_its_cost,
    complain,
    complain_without_lock,
    counted,
    say,
    say_left_out,
    say_passed_over,
)
from cnnlib.cli.report.transfer_report import Transfer, transfer_report
from cnnlib.cli.run.signals import how_it_ended
from cnnlib.cli.run.trained import given_normalization
from cnnlib.data import load_image_folder
from cnnlib.data.image_cache import cache_root
from cnnlib.data.normalization import NORMALIZATIONS
from cnnlib.inference.scoring import BatchScorer
from cnnlib.pretrained import features
from cnnlib.pretrained.extraction import network_digest
from cnnlib.pretrained.head import fine_tuned, fit_head, with_fitted_head
from cnnlib.pretrained.trunk import block_starts, open_trunk
from cnnlib.runs.config import MODEL, RunConfig
from cnnlib.runs.data_sets import PARTS, found_source, parse_data
from cnnlib.runs.folder import REPORT, RUNS, Run, refuse_within
from cnnlib.runs.tasks import refuse_one_class

_FEW = 10  # photos of a class, below which its accuracy says little


def run(options, given):
    """Run the subcommand; `given` are the settings of a training that the command line names."""
    alone = "{} means nothing to --from: one process, of --threads, is at work"
    refuse(options, ("distributed", "comm_timeout"), alone)
    if options.task not in (None, "classes"):
        raise ValueError(f"--from learns classes of images: --task {options.task} means nothing to it")
    others = ("recipe", "model", "resume", "keep_checkpoints", "save_config", "log", "summary")
    meaningless = [name for name in (*given, *others) if name not in KEPT]
    refuse(options, meaningless, "{} means nothing to --from: validation finds its settings")
    name, folder = parse_data(options.data or "digits")
    if name != "folder":
        raise ValueError(f"--from needs images in a folder for each class, --data folder:DIR, got {name}")
    folder = str(Path(folder).resolve())
    refuse_within(options.out or RUNS, folder)
    started = time.monotonic()
    size = None if options.image_size is None else pixels(options.image_size)
    trunk = open_trunk(getattr(options, "from"), options.cut, _normalization(options), size, options.network)
    starts = block_starts(trunk.graph())
    if options.fine_tune is not None and options.fine_tune >= len(starts):
        raise ValueError(f"--fine-tune {options.fine_tune}: of {len(starts)} blocks the first one stays")
    data = _images(options, folder, trunk.input_dim)
    with contextlib.ExitStack() as held:
        goes_on = getattr(options, "goes_on", False)
        run = Run.create(options.out, options.overwrite, Path(folder).name, held, goes_on)
        complain_without_lock(run)
        say(f"run folder: {run.folder}", fold=False)
        run.write_config(_config(options, trunk, data, folder))
        try:
            _learn(options, run, trunk, starts, data, folder, started)
        except KeyboardInterrupt as error:
            how, status = how_it_ended(error)
            complain(f"{how}; no feature is computed twice, go on with: {run.resume_command}")
            return status
    say_left_out(data["unreadable"])
    return 0


def _learn(options, run, trunk, starts, data, folder, started):
    classes = data["classes"]
    views = options.views or 2
    learned = _features(trunk, data, folder, views)
    fit = fit_head(learned, len(classes), options.hidden)
    say(f"head: {_text(fit)}")
    model = with_fitted_head(trunk, fit.model, options.hidden)
    part = "test" if len(data["X_test"]) else "val"
    scores, tuned = fit.model.loss(np.asarray(learned[f"X_{part}"])), None
    if options.fine_tune is not None:
        start = starts[-options.fine_tune]
        tuned, before = fine_tuned(model, start, _features(trunk.cut(start), data, folder, views))
        better = "" if tuned.val_loss < before else ", no better, so the head alone stays"
        say(f"last {options.fine_tune} blocks: {_text(tuned)}; loss before {before:.4f}{better}")
    model.classes = classes
    model.save(run.folder / MODEL)
    if tuned is not None:
        scores = BatchScorer(cnnlib.prepare(model), model.preprocess).all(data[f"X_{part}"])
    seconds = time.monotonic() - started
    with at_its_cost(REPORT):
        about = Transfer(run.folder.resolve().name, data, learned, part, scores, fit, tuned, options, seconds)
        run.write_file(REPORT, transfer_report(about))
        say(f"report: {run.folder / REPORT}", fold=False)
    say(f"model: {run.folder / MODEL} (for cnnlib predict, eval, export and serve)", fold=False)
    print(f"{part}_accuracy: {np.mean(scores.argmax(axis=1) == data[f'y_{part}']):.4f}; {seconds:.1f} s")


def _config(options, trunk, data, folder):
    """Describe the run."""
    began = {name: getattr(options, name) for name in KEPT}
    began |= {"from": str(Path(getattr(options, "from")).resolve()), "data": f"folder:{folder}"}
    return RunConfig.of_new_run(
        source=found_source("folder", folder, trunk.input_dim, _shares(options)),
        classes=tuple(data["classes"]),
        normalization=trunk.preprocess,
        training={},
        began_with=began,
    )


def _normalization(options):
    given = given_normalization(options)
    if options.normalization is None:
        return given
    if given is not None:
        raise ValueError("--normalization and --mean say the same: give one of them")
    return NORMALIZATIONS[options.normalization]


def _images(options, folder, shape):
    """The folder's images at the trunk's size; a class that cannot be learned is named."""
    shares = _shares(options)
    if shares["validation"] == 0:
        raise ValueError("--validation 0: the settings of the head are found by validation")
    C, *size = shape
    if CHANNELS[options.colours] not in (None, C):
        raise ValueError(f"--colours {options.colours}: the network takes images of {C} channels")
    data = load_image_folder(folder, size, channels=C, **shares)
    refuse_one_class(data["classes"])
    learned, *others = (np.bincount(data[f"y_{p}"], minlength=len(data["classes"])) for p in PARTS)
    total = sum(others, learned)
    for k, name in enumerate(data["classes"]):
        if learned[k] == 0 or total[k] < 3:
            raise ValueError(
                f"{Path(folder) / name} has {total[k]} photo{'s' if total[k] > 1 else ''}: a class needs at "
                "least 3, to learn from, to validate and to test with"
            )
    few = [f"{name} ({count})" for name, count in zip(data["classes"], total, strict=True) if count < _FEW]
    if few:
        say(f"few photos, so that accuracies say little: {', '.join(few)}")
    say(counted(Path(folder).name, data, shape, len(data["classes"])))
    say_passed_over(folder)
    return data


def _shares(options):
    usual = defaults("folder", "resnet8")
    given = {name: getattr(options, name) for name in ("validation", "test", "skip_unreadable")}
    return {name: usual[name] if value is None else value for name, value in given.items()}


def _features(trunk, data, folder, views):
    """The data set with features in place of images, and the labels of all views."""
    predictor = cnnlib.prepare(trunk)
    cache = cache_root(Path(folder)) / f"features-{network_digest(predictor)}"
    found = dict(data)
    for part in PARTS:
        X, count = data[f"X_{part}"], views if part == "train" else 1
        if len(X):
            found[f"X_{part}"] = features(predictor, X, views=count, cache=cache, verbose=True)
        found[f"y_{part}"] = np.tile(data[f"y_{part}"], count)
    return found


def _text(fit):
    chosen = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in fit.settings.items())
    values = f"val_accuracy {fit.val_accuracy:.4f}, val_loss {fit.val_loss:.4f}"
    return f"{values} after {fit.epochs} epochs ({chosen})"
