"""The networks of runs: how config.json describes one, and how it is built of that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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


@dataclass(frozen=True)
class Network:
    """A model's name and the arguments to build it with, in plain values."""

    name: str
    arguments: dict[str, Any]

    def build(self) -> Any:
        """Build the model, untrained."""
        arguments = dict(self.arguments)
        arguments["dtype"] = np.dtype(arguments["dtype"])
        if "input_dim" in arguments:
            arguments["input_dim"] = tuple(arguments["input_dim"])
        if self.name in (*SPECS, *PIXEL_SPECS):
            head = arguments.pop("head", None)
            spec = self.name if head is None else [*resolve(self.name), head]
            return ConvNet(spec, **arguments)
        return _CLASSES[self.name](**arguments)


def describe_network(
    name: str, settings: Mapping[str, Any], shape: Sequence[int], num_classes: int, task: str = "classes"
) -> Network:
    """Describe the model of this name for images of a shape (C, H, W), by the settings of a training.

    ValueError for a model that does not fit the task, or several hidden layers where there is one.
    """
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
    return Network(name, arguments)
