"""The networks of runs: how config.json describes one, and how it is built of that."""

import numpy as np

from cnnlib.models import ConvNet, FullyConnectedNet, ThreeLayerConvNet
from cnnlib.models.spec.reading import resolve

SPECS = ("vgg-small", "vgg-whitened", "resnet8", "resnet20", "mobile-small")  # of cnnlib.models.NAMED_SPECS
PIXEL_SPECS = ("unet", "autoencoder")  # of the same, for the task 'pixels'
MODEL_OPTIONS = {
    "three-layer": ("num_filters", "filter_size", "hidden_dim", "reg", "weight_scale", "batchnorm", "dtype"),
    "fully-connected": ("hidden_dim", "reg", "weight_scale", "batchnorm", "dtype"),
    **dict.fromkeys((*SPECS, *PIXEL_SPECS), ("reg", "dtype")),
}
_CLASSES = {"three-layer": ThreeLayerConvNet, "fully-connected": FullyConnectedNet}


def describe_network(name, settings, shape, num_classes, task="classes"):
    """What config.json says about a model: its name and the arguments to build it with, in plain values."""
    fitting = {"classes": (*_CLASSES, *SPECS), "values": SPECS, "pixels": PIXEL_SPECS}[task]
    if name not in fitting:
        raise ValueError(f"--task {task} is for models such as {', '.join(fitting)}, not {name}")
    arguments = {option: settings[option] for option in MODEL_OPTIONS[name]}
    if task == "values":
        arguments["head"] = task
    if name not in (*SPECS, *PIXEL_SPECS):
        arguments["use_batchnorm"] = arguments.pop("batchnorm")
        hidden = arguments.pop("hidden_dim")
        if name == "fully-connected":
            arguments["hidden_dims"] = hidden
        elif len(hidden) == 1:
            arguments["hidden_dim"] = hidden[0]
        else:
            raise ValueError(f"--hidden-dim: a {name} model has one hidden layer, got {len(hidden)} sizes")
    arguments |= {"input_dim": list(shape), "num_classes": num_classes, "seed": settings["seed"]}
    return {"name": name, "arguments": arguments}


def build_network(description):
    """The model that :func:`describe_network` described."""
    arguments = dict(description["arguments"])
    arguments["dtype"] = np.dtype(arguments["dtype"])
    if "input_dim" in arguments:
        arguments["input_dim"] = tuple(arguments["input_dim"])
    if description["name"] in (*SPECS, *PIXEL_SPECS):
        head = arguments.pop("head", None)
        spec = description["name"] if head is None else [*resolve(description["name"]), head]
        return ConvNet(spec, **arguments)
    return _CLASSES[description["name"]](**arguments)
