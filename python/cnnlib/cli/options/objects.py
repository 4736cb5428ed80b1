"""When a box that a network finds counts as an object: options of the commands that find objects.

They stand apart from those of other commands, which need not wait until `cnnlib.detection` is imported.
"""

from __future__ import annotations

from cnnlib.cli.options.arguments import add_setting, flag
from cnnlib.detection.decoding import SCORE
from cnnlib.detection.suppression import OVERLAP

_LIMITS = ("score", "overlap")


def add_limits(parser):
    """Add the options."""
    about = f"show objects whose score is above this; default: {SCORE:g}"
    add_setting(parser, "score", "part", about)
    about = f"of two boxes of a class that overlap more, the surer one stays; default: {OVERLAP:g}"
    add_setting(parser, "overlap", "part", about)


def limits_of(options):
    """Return the options that are given, as :class:`cnnlib.detection.Detector` takes them."""
    given = {name: getattr(options, name) for name in _LIMITS}
    return {name: value for name, value in given.items() if value is not None}


def refuse_meaningless(task, options, *others):
    """Refuse options that mean nothing to a model of `task`.

    Those of this module are for objects. `others` are (option, whether it is given, the tasks it is for).
    """
    limits = ((flag(name), True, ("objects",)) for name in limits_of(options))
    for name, given, tasks in (*others, *limits):
        if given and task not in tasks:
            raise ValueError(f"{name} means nothing to a model of {task}")
