"""The models that the command can build, from the settings of its options or from a run's config.json."""

import numpy as np

from cnnlib.cli.options.settings import MODEL_OPTIONS, PIXEL_SPECS, SPECS
from cnnlib.convnet import ConvNet
from cnnlib.models import FullyConnectedNet, ThreeLayerConvNet
from cnnlib.models.spec.reading import resolve

_CLASSES = {"three-layer": ThreeLayerConvNet, "fully-connected": FullyConnectedNet}


def describe(name, settings, shape, num_classes, task="classes"):
    """What config.json says about a model: its name and the arguments to build it with, in plain values."""
    _check_task(name, task)
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
    return {
        "name": name,
        "arguments": {
            **arguments,
            "input_dim": list(shape),
            "num_classes": num_classes,
            "seed": settings["seed"],
        },
    }


def _check_task(name, task):
    fitting = {"classes": (*_CLASSES, *SPECS), "values": SPECS, "pixels": PIXEL_SPECS}[task]
    if name not in fitting:
        raise ValueError(f"--task {task} is for models such as {', '.join(fitting)}, not {name}")


def build(description):
    """The model that :func:`describe` described."""
    arguments = dict(description["arguments"])
    arguments["dtype"] = np.dtype(arguments["dtype"])
    if "input_dim" in arguments:
        arguments["input_dim"] = tuple(arguments["input_dim"])
    if description["name"] in (*SPECS, *PIXEL_SPECS):
        head = arguments.pop("head", None)
        spec = description["name"] if head is None else [*resolve(description["name"]), head]
        return ConvNet(spec, **arguments)
    return _CLASSES[description["name"]](**arguments)


def first_layer_images(model, shape):
    """The first layer's weights as images (count, C, KH, KW): filters, or what each hidden unit looks for."""
    weights = model.params["W1"]
    return weights if weights.ndim == 4 else weights.T.reshape(-1, *shape)
