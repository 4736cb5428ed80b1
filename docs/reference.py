"""Write the pages of the reference: one for each family of layers, one for each other subject."""

import ast
import importlib
import importlib.util
import inspect
import pkgutil
import re
from pathlib import Path

import cnnlib
from cnnlib import layers
from cnnlib._params.registry import Registry
from cnnlib.models.predictions import Predicts

# The families of layers, in reading order: title, and what the page says first.
FAMILIES = {
    "convolution": (
        "Convolution",
        "Images (N, C, H, W), sequences and volumes; `cnnlib.prepare_conv` packs filters for many batches.",
    ),
    "pooling": ("Pooling and resizing", "Windows of images, sequences and volumes; images of another size."),
    "norms": ("Norms", "Over the batch, a sample, groups of channels, one channel, or one pixel."),
    "dense": ("Affine layer and dropout", "Samples as rows."),
    "activations": ("Activations", "Element by element, arrays of any shape; softmax over the channels."),
    "attention": ("Attention", "Heads of queries, keys and values, block by block."),
    "losses": ("Losses", "A value and its gradient in one call."),
    "sandwiches": (
        "Sandwiches",
        "Layers that follow each other, in one call, with less memory traffic. "
        "Arguments are those of the layers, in their order; a backward pass returns the gradients of all "
        "arrays.",
    ),
}
OF_FILE = {
    "conv": "convolution",
    "pool": "pooling",
    "resizing": "pooling",
    "norm": "norms",
    "dense": "dense",
    "activations": "activations",
    "softmax": "activations",
    "attention": "attention",
    "losses": "losses",
    "sandwiches": "sandwiches",
    "dense_sandwiches": "sandwiches",
}
# The other pages and the modules on each; a module that is not here gets a page of its own.
SUBJECTS = {
    "models": ("Models", ["cnnlib.models"]),
    "training": (
        "Training",
        [
            "cnnlib.solver",
            "cnnlib.optim",
            "cnnlib.schedules",
            "cnnlib.augment",
            "cnnlib.gradient_check",
            "cnnlib.plots",
            "cnnlib.checkpoint",
        ],
    ),
    "data": ("Data", ["cnnlib.data"]),
    "inference": ("Inference", ["cnnlib.inference", "cnnlib.saved_model"]),
    "detection": ("Detection", ["cnnlib.detection", "cnnlib.naive.detection"]),
    "exchange": ("Exchange", ["cnnlib.onnx", "cnnlib.torch", "cnnlib.sklearn", "cnnlib.safetensors"]),
    "distributed": ("Several processes", ["cnnlib.distributed"]),
    "settings": ("The package and its settings", ["cnnlib"]),
    "types": ("Types", ["cnnlib.typing"]),
    "loops": ("The layers as loops", ["cnnlib.naive"]),
    "course": (
        "For courses",
        ["cnnlib.course", "cnnlib.course.keep_ratio", "cnnlib.course.optim", "cnnlib.fast_layers"],
    ),
}
COMMAND_LINE = ("cnnlib.cli", "cnnlib.__main__")


def write(folder):
    """Write `folder/<page>.rst` for each family and subject, and `folder/index.rst`."""
    folder.mkdir(exist_ok=True)
    pages = {"layers": _overview()}
    described = {}  # id of a function or class -> the page on which it stands
    for family in FAMILIES:
        pages[family] = _family(family, described)
    subjects = all_subjects()
    for name, (title, modules) in subjects.items():
        pages[name] = "\n".join([_title(title), *(_module(module, name, described) for module in modules)])
    pages["index"] = _index(["layers", *subjects])
    for old in folder.glob("*.rst"):
        if old.stem not in pages:
            old.unlink()
    for name, text in pages.items():
        path = folder / f"{name}.rst"
        if not path.exists() or path.read_text(encoding="utf-8") != text:  # else Sphinx would read it again
            path.write_text(text, encoding="utf-8")


def all_subjects():
    """SUBJECTS, and a page for each public module that is on none of them."""
    known = {module for _, modules in SUBJECTS.values() for module in modules}
    names = [info.name for info in pkgutil.iter_modules(cnnlib.__path__, "cnnlib.")]
    public = [name for name in names if not name.startswith("cnnlib._") and name not in COMMAND_LINE]
    others = [name for name in public if name not in known and name != "cnnlib.layers"]
    return SUBJECTS | {name: (name, [name]) for name in others}


def family_of(name):
    """The family of a public name of cnnlib.layers."""
    file = getattr(layers, name).__module__.split(".")[2]
    if file in ("volumes", "volume_pools"):
        return "convolution" if name.startswith("conv") else "pooling"
    return OF_FILE["activations" if "relu" in name and file == "dense" else file]


def layers_of(family):
    """The layers of a family: {name: its public functions, the forward pass first}."""
    found = {}
    for name in sorted(layers.__all__, key=lambda name: (name.partition("_backward")[0], "backward" in name)):
        if family_of(name) == family:
            stem = re.sub("_(forward|backward).*", "", name)
            found.setdefault(stem, []).append(name)
    for functions in found.values():
        functions.sort(key=lambda name: ("_backward" in name, name))
    return found


def _overview():
    lines = [_title("Layers"), ".. automodule:: cnnlib.layers", "   :no-members:", ""]
    lines += [".. list-table::", "   :header-rows: 1", "", "   * - family", "     - layers"]
    for family, (title, _) in FAMILIES.items():
        names = ", ".join(f"``{name}``" for name in layers_of(family))
        lines += [f"   * - :doc:`{title} <{family}>`", f"     - {names}"]
    return "\n".join([*lines, "", *_toctree(FAMILIES, "hidden")])


def _family(family, described):
    title, sentence = FAMILIES[family]
    lines = [_title(title), sentence, "", ".. currentmodule:: cnnlib.layers", ""]
    lines += [".. list-table::", "   :header-rows: 1", "", "   * - forward", "     - backward", "     -"]
    members = layers_of(family)
    for functions in members.values():
        first = inspect.getdoc(getattr(layers, functions[0])).splitlines()[0]
        backward = [f":obj:`{function}`" for function in functions if "_backward" in function]
        lines += [f"   * - :obj:`{functions[0]}`"]
        lines += [f"     - {', '.join(backward) or 'in the same call'}", f"     - {_plain(first)}"]
    for name, functions in members.items():
        heading = name.replace("_", " ")
        lines += ["", heading, "-" * len(heading), ""]
        for function in functions:
            described[id(getattr(layers, function))] = family
            lines += [f".. autofunction:: {function}", ""]
    return "\n".join(lines)


def _module(name, page, described):
    try:
        module = importlib.import_module(name)
    except ImportError as error:  # an extra that is not installed where the site is built
        return f"{_heading(name)}{_docstring(name)}\n\nThe entries are missing in this build: {error}\n"
    own, elsewhere = [], {}
    for entry in module.__all__:
        value = getattr(module, entry)
        if inspect.ismodule(value):
            continue
        if id(value) in described and (inspect.isclass(value) or inspect.isroutine(value)):
            elsewhere.setdefault(described[id(value)], []).append(entry)
        else:
            described[id(value)] = page
            own.append((entry, value))
    own.sort(key=lambda item: (re.sub("_(forward|backward)", "", item[0]), "_backward" in item[0]))
    return _text(name, page, own, elsewhere)


def _text(name, page, own, elsewhere):
    lines = [
        _heading(name),
        f".. automodule:: {name}",
        "   :no-members:",
        "",
        f".. currentmodule:: {name}",
        "",
    ]
    functions = [entry for entry, value in own if callable(value)]
    if functions:
        lines += [".. autosummary::", "   :nosignatures:", "", *(f"   {entry}" for entry in functions), ""]
    for other, entries in elsewhere.items():
        if other != page and other not in FAMILIES:
            also = ", ".join(f"``{entry}``" for entry in entries)
            lines += [f"From :doc:`{other}`: {also}.", ""]
    if set(elsewhere) & set(FAMILIES):
        lines += ["The names of :doc:`the layers <layers>` are here too.", ""]
    for entry, value in own:
        if inspect.isclass(value):
            lines += [f".. autoclass:: {entry}", "   :members:"]
            if issubclass(value, Predicts):  # whose verbs are those of all networks
                lines.append("   :inherited-members:")
            # scikit-learn adds methods of its own, whose docstrings refer to its site
            foreign = [method for method in vars(value) if re.fullmatch("set_.*_request", method)]
            lines += [f"   :exclude-members: {', '.join(foreign)}", ""] if foreign else [""]
        elif inspect.isroutine(value):
            lines += [f".. autofunction:: {entry}", ""]
        else:
            lines += [f".. py:data:: {entry}", ""]
            if isinstance(value, (Registry, dict, tuple, list)):  # a table of things by name
                names = value.classes if isinstance(value, Registry) else value
                lines += ["   " + ", ".join(f"``{key!r}``" for key in names), ""]
    return "\n".join(lines)


def _index(names):
    return "\n".join([_title("Reference"), *_toctree(names)])


def _toctree(names, *options):
    return [
        ".. toctree::",
        "   :maxdepth: 1",
        *(f"   :{option}:" for option in options),
        "",
        *(f"   {name}" for name in names),
        "",
    ]


def _plain(text):
    """The first line of a docstring for a table: without footnotes, as one phrase."""
    text = re.sub(r" \[\d+\]_", "", text).rstrip(".")
    return re.sub(r"`([^`]+)`", r":obj:`\1`", text)


def _title(text):
    return f"{text}\n{'=' * len(text)}\n"


def _heading(text):
    return f"{text}\n{'-' * len(text)}\n"


def _docstring(name):
    """A module's docstring without importing it."""
    source = Path(importlib.util.find_spec(name).origin).read_text(encoding="utf-8")
    return ast.get_docstring(ast.parse(source)) or ""
