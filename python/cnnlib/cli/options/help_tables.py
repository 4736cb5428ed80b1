"""The settings of recipes and the defaults of data sets and models, as ``cnnlib train --help`` shows them."""

import textwrap

from cnnlib.cli.options.settings import (
    DATA_NAMES,
    MODEL_OPTIONS,
    PIXEL_SPECS,
    SPECS,
    defaults,
    has_defaults,
)
from cnnlib.cli.recipes import RECIPES


def recipe_table():
    return "\n".join(line for name, recipe in RECIPES.items() for line in _table(f"recipe {name}", recipe))


def defaults_table():
    lines = []
    for data in DATA_NAMES:
        for model in MODEL_OPTIONS:
            if model in (*SPECS[1:], *PIXEL_SPECS[1:]):  # as the first of them
                continue
            alike = next((group for group in (SPECS, PIXEL_SPECS) if model in group), (model,))
            names = [name for name in alike if has_defaults(data, name)]
            if not names:
                continue
            lines += _table(f"  {data}, {', '.join(names)}", defaults(data, model))
    return "\n".join(lines)


def _table(title, settings):
    pairs = [
        f"{name.replace('_', '-')} {plain(name, value)}"
        for name, value in settings.items()
        if value is not None
    ]
    indent = " " * (len(title) - len(title.lstrip()) + 2)
    text = ", ".join(pair.replace(" ", "\xa0") for pair in pairs)  # no line ends within a pair
    rows = textwrap.wrap(text, 104, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
    return [f"{title}:", *(row.replace("\xa0", " ") for row in rows)]


def plain(name, value):
    """The setting `name` as the command line has it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        own = [value["name"]] if "name" in value else []
        pairs = (f"{key}={item}" for key, item in value.items() if key != "name")
        return ("," if name == "rate_factors" else ":").join([*own, *pairs])
    if isinstance(value, list):
        return ",".join(plain(name, item) for item in value) or "none"
    return f"{value}"
