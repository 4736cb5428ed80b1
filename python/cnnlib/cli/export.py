"""``cnnlib export``: a trained model in the format of another program."""

from pathlib import Path

from cnnlib import onnx
from cnnlib.cli.options.arguments import (
    add,
    add_data,
    add_precision,
    add_run,
    add_threads,
    add_unsaid,
    add_which,
    positive_int,
)
from cnnlib.cli.output import say
from cnnlib.cli.run.trained import (
    CALIBRATION,
    network_options,
    open_model,
    open_prepared,
    precision_of,
    read_arrays,
    refuse_network,
)
from cnnlib.onnx.metadata import require_onnx
from cnnlib.onnx.saving import OPSET
from cnnlib.saved_model import load
from cnnlib.saved_model.exporting import checked_suffix
from cnnlib.saved_model.kinds import kind_of
from cnnlib.saved_model.model_file import is_saved_model


def add_to(commands):
    export = commands.add_parser(
        "export",
        help="a trained model as an ONNX file, or as arrays",
        description="Write a trained model for other programs: the name's suffix chooses the format. "
        ".onnx is the network, .safetensors and .npz are its arrays, .cnnlib is a Predictor.",
    )
    add_run(export)
    add(export, "file FILE", "the file to write, .onnx, .safetensors, .npz or .cnnlib")
    add_which(export)
    add(export, "--batch N", "fix the number of images of ONNX; by default it stays open", type=positive_int)
    calibrated = f"calibrated by {CALIBRATION} images of the training split"
    add_precision(export, f"with QuantizeLinear, {calibrated}")
    add_data(export, "the images of --int8, where the run's data set has moved or for a saved model")
    add_unsaid(export)
    add_threads(export)


def run(options):
    if options.data is not None and precision_of(options) != "int8":
        raise ValueError("--data is for --int8")
    to_onnx = checked_suffix("cnnlib export", options.file) == ".onnx"
    if to_onnx:
        require_onnx("cnnlib export")
    elif options.batch is not None:
        raise ValueError("--batch is for .onnx")
    model = _model(options) if precision_of(options) is None else open_prepared(options).model
    if to_onnx:
        onnx.save(model, options.file, batch=options.batch or "N")
    else:
        model.export(options.file)
    say(f"{options.file}: {model!r}{f', operators of version {OPSET}' if to_onnx else ''}")
    if model.preprocess is not None:
        say(f"its images go in as {model.preprocess!r} makes them")
    return 0


def _model(options):
    """The model, with its normalisation and classes, as far as the file and the options say them."""
    path = options.run
    told = options.mean is not None or options.std is not None or options.classes is not None
    if options.which == "best" and Path(path).is_file() and not told:
        kind = kind_of(path)
        if kind == "safetensors":
            return read_arrays(path, network_options(options))
        if kind in ("predictor", "onnx") or is_saved_model(path):
            refuse_network(path, network_options(options))
            return load(path)
    trained = open_model(options)
    trained.model.preprocess = trained.normalization
    if trained.task != "objects":  # whose head has the names
        trained.model.classes = trained.classes
    return trained.model
