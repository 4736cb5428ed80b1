"""The commands' options: the forms of their values, and options that several share."""

from __future__ import annotations

import argparse
import contextlib
import math
from typing import Any


def flag(name):
    """The option of the command line that gives the setting `name`."""
    return "--" + name.replace("_", "-")


def add(parser, spec, help=None, default=None, **how):
    """Add an option or argument as it is written on the command line, and `how` argparse reads it.

    ``--out FOLDER`` takes a value, ``--which best|last`` one of these, ``--overwrite`` none.
    """
    name, _, value = spec.partition(" ")
    if value.islower():
        how["choices"] = value.split("|")
    elif value:
        how["metavar"] = value
    elif not how:
        how["action"], default = "store_true", False
    parser.add_argument(name, help=help, default=default, **how)


def add_setting(parser, name, kind, help=None, default=None):
    """Add the option that gives the setting `name`; `kind` is a key of `FORMS`, or the choices there are."""
    how: dict[str, Any] = FORMS[kind] if isinstance(kind, str) else {"choices": kind}
    parser.add_argument(flag(name), help=help, default=default, **how)


def add_run(parser):
    what = (
        "a run's folder, a checkpoint in it, or a file: a saved model, a Predictor, ONNX, or safetensors of "
        "a --network"
    )
    add(parser, "run RUN|FILE", what)


def add_model(parser):
    """Add what :func:`cnnlib.cli.run.trained.open_model` reads."""
    add_run(parser)
    add_which(parser)
    add_unsaid(parser)
    about = "whether the images are scans of writing; default: as the model's training images were"
    add_setting(parser, "ink", "flag", about)


def add_prepared(parser):
    """Add what :func:`cnnlib.cli.run.trained.open_prepared` reads beside `add_model`'s."""
    add_precision(parser, "in eight bits, calibrated by images of the training split")
    add_data(parser, "the images of --int8, where the run's data set has moved or for a saved model")


def add_precision(parser, eight_bits):
    """Add what :func:`cnnlib.cli.run.trained.precision_of` reads; `eight_bits` is the help of one of them."""
    add(
        parser,
        "--precision float32|bfloat16|int8",
        "what the network computes in; default: the model's dtype",
    )
    add(parser, "--int8", f"--precision int8: {eight_bits}")


def add_unsaid(parser):
    """Add what a file from another program does not say of its network."""
    for name, what in (("mean", "what is subtracted from"), ("std", "what then divides")):
        about = f"{what} the pixels (0 to 255) of each channel, for a file that does not say it"
        add_setting(parser, name, "numbers", about)
    add(parser, "--classes FILE", "the classes' names, one a line, for a file without them")
    add_network(parser)


def add_network(parser):
    """Add what safetensors do not say of their network."""
    known = "torchvision's resnet18 and so on, or one that cnnlib train --model takes"
    add(parser, "--network NAME", f"of which safetensors are, unless the file's name says it: {known}")
    add_setting(
        parser, "image_size", "size", "of the images of that network; default, for torchvision's alone: 224"
    )


def add_data(parser, help):
    from cnnlib.runs.data_sets import DATA_NAMES  # takes time, which commands without data need not

    add(parser, f"--data {'|'.join(DATA_NAMES)}[:DIR]", help)


def add_debug(parser):
    """`--debug`, before the command or behind it."""
    add(parser, "--debug", "print the traceback of an error", argparse.SUPPRESS, action="store_true")


def add_skip_unreadable(parser):
    add(parser, "--skip-unreadable", "leave out files that cannot be read, and list them at the end")


def add_which(parser):
    add(parser, "--which best|last", "parameters; default: best", "best")


def add_threads(parser):
    add_setting(parser, "threads", "threads", "threads of the kernels; default: all cores")


def _digits(low, end, expected):
    """The form of an integer from `low` to below `end`."""

    def parsed(text):
        if text.isascii() and text.isdigit() and low <= int(text) < end:
            return int(text)
        raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")

    return parsed


def _real(fits, expected):
    """The form of a number that ``fits(number)``."""

    def parsed(text):
        with contextlib.suppress(ValueError):
            if fits(value := float(text)):
                return value
        raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")

    return parsed


positive_int = _digits(1, math.inf, "an integer above 0")
port = _digits(0, 2**16, "a port from 0 to 65535")
positive_number = _real(lambda value: 0 < value < math.inf, "a number above 0")


def _numbers(text):
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected numbers with commas between, got {text!r}") from None


def _image_size(text):
    """``N`` or ``HxW``, as it stands."""
    if not 1 <= len([positive_int(part) for part in text.split("x")]) <= 2:
        raise argparse.ArgumentTypeError(f"expected N or HEIGHTxWIDTH, got {text!r}")
    return text


def _named(text):
    """``name:key=value:key=value`` as a dict with 'name'; numbers become numbers."""
    name, *pairs = text.split(":")
    return {"name": name, **_pairs(pairs, "NAME:KEY=VALUE", text)}


def _pairs_or_none(separator, expected):
    """The form of pairs with `separator` between them, or none."""
    return lambda text: text if text == "none" else _pairs(text.split(separator), expected, text)


def _patience_or_none(text):
    """``N:key=value...`` is ``patience=N:key=value...``."""
    first, *rest = text.split(":")
    if first.isdigit():
        first = f"patience={first}"
    return text if text == "none" else _pairs([first, *rest], "N[:KEY=VALUE...]", text)


def _pairs(pairs, expected, text):
    settings = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (key and equals and value):
            raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")
        try:
            settings[key] = int(value) if value.isdigit() else float(value)
        except ValueError:
            settings[key] = value
    return settings


FORMS: dict[str, dict[str, Any]] = {  # of an option's text, as argparse takes it
    "count": {"type": positive_int, "metavar": "N"},
    "counts": {"type": lambda text: list(map(positive_int, text.split(","))), "metavar": "N[,N...]"},
    "number": {"type": _real(lambda value: 0 <= value < math.inf, "a number of at least 0"), "metavar": "X"},
    "numbers": {"type": _numbers, "metavar": "X[,X,X]"},
    "positive number": {"type": positive_number, "metavar": "X"},
    "threads": {"type": _digits(1, 1025, "an integer from 1 to 1024"), "metavar": "N"},
    "seed": {"type": _digits(0, 2**32, "an integer from 0 to 4294967295"), "metavar": "N"},
    "share": {
        "type": _real(lambda value: 0 <= value < 1, "a number of at least 0 and below 1"),
        "metavar": "X",
    },
    "part": {"type": _real(lambda value: 0 <= value <= 1, "a number from 0 to 1"), "metavar": "X"},
    "size": {"type": _image_size, "metavar": "N|HxW"},
    "patience": {"type": _patience_or_none, "metavar": "N[:K=X...]"},
    "factors": {"type": _pairs_or_none(",", "NAME=NUMBER"), "metavar": "NAME=X[,...]"},
    "pairs": {"type": _pairs_or_none(":", "KEY=VALUE"), "metavar": "K=X[:K=X...]"},
    "named": {"type": _named, "metavar": "NAME[:K=X...]"},
    "list of named": {
        "type": lambda text: [] if text == "none" else list(map(_named, text.split(","))),
        "metavar": "NAME[:K=X...][,...]",
    },
    "flag": {"action": argparse.BooleanOptionalAction},
}
