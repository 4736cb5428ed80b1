"""``cnnlib eval``: the accuracy of a trained model on a split of a data set."""

import numpy as np

from cnnlib._system.text import display_width, padded, printable
from cnnlib.augment import TTA
from cnnlib.cli.options.arguments import (
    add,
    add_data,
    add_precision,
    add_run,
    add_threads,
    add_unsaid,
    add_which,
)
from cnnlib.cli.run.trained import CALIBRATION, open_model, precision_of
from cnnlib.runs.tasks import values_of
from cnnlib.solver.metrics import likeliest

_WORDS = {"float32": "float32", "bfloat16": "bfloat16", "int8": "eight bits"}


def add_to(commands):
    evaluate = commands.add_parser("eval", help="accuracy of a trained model")
    add_run(evaluate)
    add_data(evaluate, "where the run's data set lies, if it has moved; needed for a saved model")
    about = "default: test; all for a data set that the run has not seen"
    add(evaluate, "--split train|val|test|all", about, "test")
    add_which(evaluate)
    add_unsaid(evaluate)
    about = "average the scores over views; default: as the run did"
    add(evaluate, "--tta", about, choices=("none", *TTA))
    calibrated = f"calibrated by {CALIBRATION} images of the training split"
    add_precision(evaluate, f"the accuracy in eight bits too, {calibrated}")
    add_threads(evaluate)


def run(options):
    trained = open_model(options)
    precision, twin = precision_of(options), None
    for name, wanted in (("tta", options.tta), ("int8", precision == "int8")):
        if wanted and trained.task != "classes":
            raise ValueError(f"--{name} means nothing to a model of {trained.task}")
    if precision is not None:
        twin = trained.prepared(precision, options.data, "all" if options.split == "all" else "train")
    pairs, white = trained.load(options.data, options.split)
    if not pairs:
        raise ValueError(f"--split {options.split}: the run holds no images out for it")
    tta = trained.tta if options.tta is None else None if options.tta == "none" else options.tta
    scores = np.concatenate([trained.scores(X, white, tta) for X, _ in pairs])
    y = np.concatenate([np.asarray(y) for _, y in pairs])
    if trained.task == "classes":
        _print_classes(trained.classes, y, likeliest(scores) == y)
    values = values_of(trained.task, scores, y)
    for name, value in values.items():
        print(f"{options.split}_{name}: {value:.4f}")
    if twin is not None:
        own = values_of(trained.task, np.concatenate([twin.scores(X, white, tta) for X, _ in pairs]), y)
        for name, value in own.items():
            difference = value - values[name]
            print(f"{options.split}_{name} in {_WORDS[precision]}: {value:.4f} ({difference:+.4f})")
        if precision == "int8":
            _report_floats(twin)
    return 0


def _print_classes(classes, y, right):
    names = list(map(printable, classes))
    width = max(map(display_width, names))
    for k, name in enumerate(names):
        of_class = right[y == k]
        share = of_class.sum() / max(len(of_class), 1)
        print(f"{padded(name, width)}  {of_class.sum():5d} of {len(of_class):5d}  {share:.4f}")


def _report_floats(twin):
    """Print which layers of a model of eight bits, `twin`, are none."""
    kept = [row.layer for row in twin.model.quantization() if row.precision == "float32"]
    if kept:
        print(f"in float32: {', '.join(kept)}")
