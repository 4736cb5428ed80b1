"""Settings as text: in the tables of ``--help``, and in TOML files (``--config``, ``--save-config``).

A file has a line for each option, by its long name: ``learning-rate = 1e-3``, ``model = "resnet8"``,
``augment = "flip,crop:pad=4"``. Values may also be TOML's own lists and tables.
"""

import json
import sys
import textwrap
from pathlib import Path

from cnnlib._params import hint
from cnnlib._system.packages import required
from cnnlib.cli.options.arguments import flag
from cnnlib.cli.options.settings import ALIKE, MODEL_SETTINGS, defaults, excluded, has_defaults
from cnnlib.cli.recipes import RECIPES
from cnnlib.runs.data_sets import DATA_NAMES


def recipe_table():
    return "\n".join(line for name, recipe in RECIPES.items() for line in _table(f"recipe {name}", recipe))


def defaults_table():
    lines = []
    for data in DATA_NAMES:
        for alike in ALIKE:
            names = [name for name in alike if has_defaults(data, name)]
            if names:
                lines += _table(f"  {data}, {', '.join(names)}", defaults(data, names[0]))
    return "\n".join(lines)


def _table(title, settings):
    pairs = [
        f"{name.replace('_', '-')} {setting_text(name, value)}"
        for name, value in settings.items()
        if value is not None
    ]
    indent = " " * (len(title) - len(title.lstrip()) + 2)
    text = ", ".join(pair.replace(" ", "\xa0") for pair in pairs)  # no line ends within a pair
    rows = textwrap.wrap(text, 104, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
    return [f"{title}:", *(row.replace("\xa0", " ") for row in rows)]


def setting_text(name, value):
    """The setting `name` as the command line has it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        own = [value["name"]] if "name" in value else []
        pairs = (f"{key}={item}" for key, item in value.items() if key != "name")
        return ("," if name == "rate_factors" else ":").join([*own, *pairs])
    if isinstance(value, list):
        return ",".join(setting_text(name, item) for item in value) or "none"
    return f"{value}"


def arguments_in(path, known):
    """The options in the file `path` as a command line has them; `known` are those there are, with values.

    Those that exclude one that has a value are left out. ValueError if the file is no TOML, or names an
    option that there is not.
    """
    content = _parsed(path)
    arguments = []
    for key, value in content.items():
        name = key.replace("-", "_")
        if name not in known:
            names = [name.replace("_", "-") for name in known]
            advice = hint(key, names, "see cnnlib train --help")
            raise ValueError(f"{path}: there is no option {key!r}; {advice}")
        if excluded(name, known):  # the command line overrides the file
            continue
        if value is True:
            arguments.append(flag(name))
        elif value is False:
            switch = isinstance(known[name], bool) and name not in MODEL_SETTINGS  # off is its default
            arguments += [] if switch else [f"--no-{name.replace('_', '-')}"]
        else:
            arguments.append(f"{flag(name)}={setting_text(name, value)}")
    return arguments


def write_config_file(path, settings):
    """Write options (a dict of plain values; what is None is left out) to the file `path`."""
    lines = []
    for name, value in settings.items():
        if value is None:
            continue
        value = value if isinstance(value, (bool, int, float)) else setting_text(name, value)
        text = json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        lines.append(f"{name.replace('_', '-')} = {text}\n")
    Path(path).write_text("# options of cnnlib train\n" + "".join(lines), encoding="utf-8")


def _parsed(path):
    name = "tomllib" if sys.version_info >= (3, 11) else "tomli"
    tomllib = required(name, "--config", "tomli before Python 3.11", "config")
    content = Path(path).read_bytes()
    try:
        return tomllib.loads(content.decode("utf-8-sig"))  # Windows may write a byte order mark
    except (RecursionError, ValueError) as error:
        raise ValueError(f"{path} is no TOML file: {error}") from error
