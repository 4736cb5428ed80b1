"""The options of ``cnnlib train --from FILE``, and those with which a run that began so goes on."""

import argparse
from pathlib import Path

from cnnlib.cli.options.arguments import add, add_setting
from cnnlib.cli.options.settings import IMAGE_SETTINGS, refuse
from cnnlib.data.image_folder import folder_digest
from cnnlib.data.normalization import NORMALIZATIONS
from cnnlib.runs.folder import Run
from cnnlib.runs.networks import SPECS

OWN = ("network", "cut", "views", "hidden", "fine_tune", "normalization", "mean", "std")
KEPT = ("skip_unreadable", *OWN, *IMAGE_SETTINGS)  # what config.json says of a run's options
NOT_WITH_RESUME = "--resume goes on with the run's own settings; it does not take {}"


def add_from(train):
    """Add the options."""
    group = train.add_argument_group("a network that others trained (--data folder:DIR)")
    add(group, "--from FILE", "ONNX, a saved model, a Predictor, or safetensors of a --network")
    known = (
        f"torchvision's resnet18 and other ResNets, mobilenet_v2, vgg16 and other VGGs; {', '.join(SPECS)}"
    )
    add(group, "--network NAME", f"of which safetensors are, unless the file's name says it: {known}")
    add(group, "--cut NODE", "keep it up to this node; default: its last affine layer")
    for name, kind, about in (
        ("views", "count", "learn from N views of each image, mirrored and moved; default: 2"),
        ("hidden", "count", "size of a hidden layer in the new head"),
        ("fine_tune", "count", "then train its last N blocks, with a small rate"),
        ("normalization", tuple(NORMALIZATIONS), "of its images, for a file that does not say it"),
        ("mean", "numbers", "the same in numbers, of 0 to 255"),
        ("std", "numbers", "the same in numbers, of 0 to 255"),
    ):
        add_setting(group, name, kind, about)


def resumed(options, given):
    """The options of the run that --resume names, if it began with --from; else None."""
    if options.resume is None or not (Path(options.resume) / "config.json").is_file():
        return None
    run = Run.open(options.resume)
    if run.began_with is None:
        return None
    refuse(options, ("data", "out", "from", *KEPT, *given), NOT_WITH_RESUME)
    source = run.config.source
    assert source.folder is not None  # it is a folder of images
    if source.names != folder_digest(source.folder):
        raise ValueError(
            f"{source.folder} no longer holds the run's images, so its split is another; begin a new run"
        )
    again = {"resume": None, "out": str(run.folder), "overwrite": True, "goes_on": True}
    return argparse.Namespace(**{**vars(options), **run.began_with, **again})
