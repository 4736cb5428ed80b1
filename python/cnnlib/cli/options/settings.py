"""The settings of ``cnnlib train``: which there are, their defaults, and which ones a command means.

`TRAINING` and each model's `MODEL_OPTIONS` are the settings that make up a run: they are recorded in its
config.json, and fixed once it has begun. Those of the training are the Solver's options, see
:mod:`cnnlib.solver.options`.
"""

import inspect
import itertools
from dataclasses import dataclass
from typing import Any

from cnnlib.augment import TTA
from cnnlib.cli.options.arguments import flag
from cnnlib.cli.recipes import RECIPES
from cnnlib.runs.data_sets import parse_data
from cnnlib.runs.networks import MODEL_OPTIONS, PIXEL_SPECS, SPECS
from cnnlib.solver import Solver
from cnnlib.solver.options import OPTIONS

RULE_SETTINGS = {  # keys of the Solver's optim_config: the form of each, and help
    "learning_rate": ("positive number", None),
    "momentum": ("number", "of the momentum rules; default: 0.9"),
}
TRAINING: dict[str, Any] = {  # the same
    "update_rule": (OPTIONS["update_rule"].kind, OPTIONS["update_rule"].help),
    **RULE_SETTINGS,
    **{name: (option.kind, option.help) for name, option in OPTIONS.items() if option.kind is not None},
    "tta": (("none", *TTA), "average the test images' scores over views, and eval's alike"),
}
ALIKE = ("three-layer",), ("fully-connected",), SPECS, PIXEL_SPECS  # models with the same defaults
MOMENTUM_RULES = ("sgd_momentum", "sgd_nesterov_momentum")
_PAIRS = ("schedule", "lr_decay"), ("ema_decay", "lookahead")
_EXCLUSIVE = {one: other for pair in _PAIRS for one, other in (pair, pair[::-1])}  # of which a run has one


MODEL_SETTINGS = {  # the form of each, and help
    "num_filters": ("count", None),
    "filter_size": ("count", None),
    "hidden_dim": ("counts", "several for a fully-connected model"),
    "reg": ("number", "strength of L2 regularisation"),
    "weight_scale": ("number", "standard deviation of the first weights"),
    "batchnorm": ("flag", "use batch normalisation"),
    "dtype": (("float32", "float64"), None),
}

IMAGE_SETTINGS = {  # of a folder of images: the form of each, and help
    "image_size": ("size", "height and width that all images get"),
    "colours": (("rgb", "grey"), "default: grey if all files are, else rgb"),
    "validation": ("share", "share of the images that validate"),
    "test": ("share", "share of the images that are held out for the test"),
}

CHANNELS = {None: None, "rgb": 3, "grey": 1}  # of the setting `colours`

# The Solver's own defaults, but for a seed and a rule that needs less tuning.
_ARGUMENTS = inspect.signature(Solver).parameters
_COMMON = {
    **{name: _ARGUMENTS[name].default if name in _ARGUMENTS else None for name in TRAINING},
    "seed": 0,
    "update_rule": "adam",
    "dtype": "float32",
}
_ONE_CYCLE, _FLIP, _CROP = {"name": "one-cycle"}, {"name": "flip"}, {"name": "crop", "pad": 4}
_SHALLOW = {"learning_rate": 1e-3, "reg": 1e-3, "weight_scale": 1e-2, "batchnorm": True}
_ON_DIGITS = {**_SHALLOW, "batch_size": 50, "lr_decay": 0.95, "reg": 1e-2}
_ON_PHOTOS = {**_SHALLOW, "schedule": _ONE_CYCLE, "augment": [_FLIP]}
_FILTERS = {"num_filters": 32, "filter_size": 5, "hidden_dim": [256]}
_DEEP = {"learning_rate": 2e-3, "schedule": _ONE_CYCLE, "reg": 1e-4}
_FOLDER = {"batch_size": 32, "augment": [_CROP], "num_epochs": 20}
_SIZES = {"image_size": "64", "colours": None, "validation": 0.1, "test": 0.1}
_DEFAULTS = {
    ("digits", "three-layer"): {
        **_ON_DIGITS,
        "num_epochs": 30,
        **{"num_filters": 64, "filter_size": 3, "hidden_dim": [100], "weight_scale": 5e-2},
    },
    ("digits", "fully-connected"): {
        **_ON_DIGITS,
        **{"num_epochs": 40, "hidden_dim": [200], "weight_scale": 1e-1},
    },
    ("cifar10", "three-layer"): {**_ON_PHOTOS, **_FILTERS, "learning_rate": 3e-3, "num_epochs": 8},
    ("cifar10", "fully-connected"): {**_ON_PHOTOS, "hidden_dim": [500, 200], "num_epochs": 10},
    ("folder", "three-layer"): {**_ON_PHOTOS, **_FILTERS, **_FOLDER},
    ("folder", "fully-connected"): {**_ON_PHOTOS, "hidden_dim": [500, 200], **_FOLDER},
}
for _name in SPECS:
    if _name != "vgg-whitened":  # the digits are too small for it
        _DEFAULTS["digits", _name] = {**_DEEP, "num_epochs": 12}
    _DEFAULTS["cifar10", _name] = {
        "update_rule": "sgd_nesterov_momentum",
        **{"learning_rate": 0.1, "schedule": _ONE_CYCLE, "augment": [_FLIP, _CROP]},
        **{"num_epochs": 20, "reg": 5e-4},
    }
    _DEFAULTS["folder", _name] = {**_DEEP, **_FOLDER}
for _name in PIXEL_SPECS:  # masks move along with flips and crops
    _DEFAULTS["folder", _name] = {**_DEEP, **_FOLDER, "augment": [_FLIP]}
for (_data, _model), _settings in list(_DEFAULTS.items()):
    if _data in ("cifar10", "folder"):
        _DEFAULTS["cifar100" if _data == "cifar10" else "npy", _model] = dict(_settings)
    if _data == "folder":
        _settings |= _SIZES


def default_model(data_name, task="classes"):
    """The model that a data set is trained with, if none is named."""
    if task == "pixels":
        return "unet"
    return "resnet8" if data_name in ("folder", "npy") else "three-layer"


def has_defaults(data_name, model_name):
    """Return whether a model can be trained on a data set."""
    return (data_name, model_name) in _DEFAULTS


def defaults(data_name, model_name):
    """Every setting of a run on a data set with a model, as a dict."""
    if model_name in PIXEL_SPECS and data_name not in ("folder", "npy"):
        raise ValueError(f"--model {model_name} is for --task pixels, not for --data {data_name}")
    if not has_defaults(data_name, model_name):
        raise ValueError(f"the images of {data_name} are too small for a {model_name} model")
    return {**_COMMON, **_DEFAULTS[data_name, model_name]}


def given(options):
    """The settings that the command line names, of all that a run can have."""
    names = dict.fromkeys((*TRAINING, *IMAGE_SETTINGS, *itertools.chain(*MODEL_OPTIONS.values())))
    return [name for name in names if getattr(options, name) is not None]


def excluded(name, values):
    """Return whether an option in `values` rules out option `name`; None and "none" count as not given."""
    if name == "momentum":
        return values["update_rule"] not in (None, *MOMENTUM_RULES)
    return values.get(_EXCLUSIVE.get(name)) not in (None, "none")


def refuse(options, names, why):
    """Refuse options that the command line names, with the first of them in `why`; 0 is a value."""
    for name in names:
        value = getattr(options, name)
        if value is not None and (value is not False or name in MODEL_SETTINGS):  # --no-batchnorm
            raise ValueError(why.format(flag(name)))


@dataclass(frozen=True)
class Chosen:
    """A new run: data set, its folder, model, and a value for every setting, as a user would write it."""

    data: str
    folder: str | None
    model: str
    settings: dict[str, Any]


def chosen_settings(options) -> Chosen:
    """Choose data set, model and every setting: the recipe's or the defaults, overridden by the options."""
    recipe: dict[str, Any] = RECIPES.get(options.recipe, {"data": "digits"})
    name, folder = parse_data(options.data or recipe["data"])
    if options.task not in (None, "classes") and name not in ("folder", "npy"):
        raise ValueError(f"--task {options.task} takes --data folder:DIR or npy:DIR, not {name}")
    model_name = options.model or recipe.get("model") or default_model(name, options.task)
    if options.recipe is not None:
        if name != recipe["data"]:
            raise ValueError(f"--recipe {options.recipe} is for --data {recipe['data']}, not for {name}")
        if MODEL_OPTIONS[model_name] != MODEL_OPTIONS[recipe["model"]]:
            fitting = ", ".join(SPECS)
            raise ValueError(f"--recipe {options.recipe} fits models such as {fitting}, not {model_name}")
    own = {key: value for key, value in recipe.items() if key not in ("data", "model")}
    settings = defaults(name, model_name) | own
    for option in given(options):
        if option not in settings:
            what = f"--data {name}" if option in IMAGE_SETTINGS else f"a {model_name} model"
            raise ValueError(f"{flag(option)} means nothing to {what}")
        value = getattr(options, option)
        settings[option] = None if value == "none" else value
    for one, other in _EXCLUSIVE.items():
        if getattr(options, one) not in (None, "none") and getattr(options, other) is None:
            settings[other] = _COMMON[other]
    if settings["update_rule"] not in MOMENTUM_RULES:
        if options.momentum is not None:
            raise ValueError(f"--momentum means nothing to {settings['update_rule']}")
        settings["momentum"] = None
    return Chosen(name, folder, model_name, settings)


def pixels(image_size):
    """The setting `image_size`, ``'64'`` or ``'48x64'``, as (height, width)."""
    height, _, width = image_size.partition("x")
    return int(height), int(width or height)
