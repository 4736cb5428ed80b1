"""Write the pages of the reference: one for each public module, with what its `__all__` names."""

import ast
import importlib
import importlib.util
import inspect
import pkgutil
import re
from pathlib import Path

import cnnlib
from cnnlib._registry import Registry

# The order of the pages; modules that are not here follow by name.
FIRST = (
    "cnnlib",
    "cnnlib.layers",
    "cnnlib.naive",
    "cnnlib.models",
    "cnnlib.optim",
    "cnnlib.solver",
    "cnnlib.data",
)
COMMAND_LINE = ("cnnlib.cli", "cnnlib.__main__")


def write(folder):
    """Write `folder/<module>.rst` for each public module, and `folder/index.rst`."""
    folder.mkdir(exist_ok=True)
    names = public_modules()
    described = {}  # id of a function or class -> the module on whose page it stands
    # `cnnlib` has all layers too, which belong on their own page.
    pages = {name: _page(name, described) for name in sorted(names, key=lambda name: name != "cnnlib.layers")}
    rows = [f"   {name}" for name in names]
    pages["index"] = "\n".join([_title("Reference"), ".. toctree::", "   :maxdepth: 1", "", *rows, ""])
    for old in folder.glob("*.rst"):
        if old.stem not in pages:
            old.unlink()
    for name, text in pages.items():
        path = folder / f"{name}.rst"
        if not path.exists() or path.read_text(encoding="utf-8") != text:  # else Sphinx would read it again
            path.write_text(text, encoding="utf-8")


def public_modules():
    """Names of `cnnlib` and of its modules and packages that begin with a letter, in reading order."""
    names = [info.name for info in pkgutil.iter_modules(cnnlib.__path__, "cnnlib.")]
    names = [name for name in names if not name.startswith("cnnlib._") and name not in COMMAND_LINE]
    return [*FIRST, *(name for name in names if name not in FIRST)]


def _page(name, described):
    try:
        module = importlib.import_module(name)
    except ImportError as error:  # an extra that is not installed where the site is built
        return f"{_title(name)}{_docstring(name)}\n\nThe entries are missing in this build: {error}\n"
    own, elsewhere = [], {}
    for entry in module.__all__:
        value = getattr(module, entry)
        if inspect.ismodule(value):
            continue
        if id(value) in described and (inspect.isclass(value) or inspect.isroutine(value)):
            elsewhere.setdefault(described[id(value)], []).append(entry)
        else:
            described[id(value)] = name
            own.append((entry, value))
    return _text(name, own, elsewhere)


def _text(name, own, elsewhere):
    lines = [_title(name), f".. automodule:: {name}", "   :no-members:", "", f".. currentmodule:: {name}", ""]
    functions = [entry for entry, value in own if callable(value)]
    if functions:
        lines += [".. autosummary::", "   :nosignatures:", "", *(f"   {entry}" for entry in functions), ""]
    for other, entries in elsewhere.items():
        also = ", ".join(f"``{entry}``" for entry in entries)
        lines += [f"From :doc:`{other}`: {also}.", ""]
    for entry, value in own:
        if inspect.isclass(value):
            lines += [f".. autoclass:: {entry}", "   :members:"]
            # scikit-learn adds methods of its own, whose docstrings refer to its site
            foreign = [method for method in vars(value) if re.fullmatch("set_.*_request", method)]
            lines += [f"   :exclude-members: {', '.join(foreign)}", ""] if foreign else [""]
        elif inspect.isroutine(value):
            lines += [f".. autofunction:: {entry}", ""]
        else:
            lines += [f".. py:data:: {entry}", ""]
            if not isinstance(value, str):  # a table of things by name
                names = value.classes if isinstance(value, Registry) else value
                lines += ["   " + ", ".join(f"``{key!r}``" for key in names), ""]
    return "\n".join(lines)


def _title(text):
    return f"{text}\n{'=' * len(text)}\n"


def _docstring(name):
    """A module's docstring without importing it."""
    source = Path(importlib.util.find_spec(name).origin).read_text(encoding="utf-8")
    return ast.get_docstring(ast.parse(source)) or ""
