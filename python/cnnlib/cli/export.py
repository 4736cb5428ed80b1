"""``cnnlib export``: a trained model as an ONNX file."""

from pathlib import Path

from cnnlib import onnx
from cnnlib.cli.options.arguments import add, add_data, add_which, positive_int
from cnnlib.cli.output import say
from cnnlib.cli.run.trained import CALIBRATION, open_trained
from cnnlib.onnx.metadata import require_onnx
from cnnlib.onnx.saving import OPSET
from cnnlib.saved_model import is_saved_model, load
from cnnlib.saved_model.loading import kind_of


def add_to(commands):
    export = commands.add_parser(
        "export",
        help="a trained model as an ONNX file",
        description="Write a trained model to an ONNX file, for ONNX Runtime and other programs.",
    )
    add(export, "run RUN|MODEL", "a run's folder, a checkpoint in it, or a file: save_model, Predictor.save")
    add(export, "file FILE.onnx", "the file to write")
    add_which(export)
    add(export, "--batch N", "fix the number of images; by default it stays open", type=positive_int)
    calibrated = f"calibrated by {CALIBRATION} images of the training split"
    add(export, "--int8", f"with QuantizeLinear, {calibrated}")
    add_data(export, "the images of --int8, where the run's data set has moved or for a saved model")


def run(options):
    require_onnx("cnnlib export")
    if not options.file.endswith(".onnx"):
        raise ValueError(f"{options.file}: the name of an ONNX file ends in .onnx")
    if options.data is not None and not options.int8:
        raise ValueError("--data is for --int8")
    if options.int8:
        model = open_trained(options.run, options.which).eight_bits(options.data).model
    else:
        model = _model(options.run, options.which)
    onnx.save(model, options.file, batch=options.batch or "N")
    say(f"{options.file}: {model!r}, operators of version {OPSET}")
    if model.preprocess is not None:
        say(f"its images go in as {model.preprocess!r} makes them")
    return 0


def _model(path, which):
    """The model, with its normalisation and classes."""
    alone = which == "best" and Path(path).is_file()
    if alone and (kind_of(path) == "predictor" or is_saved_model(path)):  # whatever they say of images
        return load(path)
    trained = open_trained(path, which)
    trained.model.preprocess, trained.model.classes = trained.normalization, trained.classes
    return trained.model
