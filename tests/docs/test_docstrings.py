"""Every public function and class has an example, and the examples print what they say.

An example of a layer's forward pass calls the backward pass too, and holds for the loops of `cnnlib.naive`.
Examples run in a folder that has small stand-ins for CIFAR below `data`, and images below `photos`.
"""

import doctest
import importlib
import inspect
import pkgutil
import typing

import cifar_files
import cnnlib
import numpy as np
import pytest
from cnnlib import layers, naive
from image_folders import write_folder

# What an example needs beside NumPy, by the beginning of its name.
NEEDS = {
    "cnnlib.plots.": "matplotlib",
    "cnnlib.data.image_folder.": "PIL.Image",
    "cnnlib.detection.drawing.": "PIL.Image",
    "cnnlib.distributed.communicator.MPIComm": "mpi4py.MPI",
    "cnnlib.distributed.communicator.world": "mpi4py.MPI",
}


def modules(find):
    """The modules of the package, without the command line and extras that are not installed."""
    for info in find(cnnlib.__path__, "cnnlib."):
        if not info.name.startswith(("cnnlib.cli", "cnnlib.__main__", "cnnlib._core")):
            try:
                yield importlib.import_module(info.name)
            except ImportError:
                continue


def examples():
    """Each docstring of the package that has examples, by its name."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    for module in [cnnlib, *modules(pkgutil.walk_packages)]:
        for test in finder.find(module):
            if test.examples:
                yield test


EXAMPLES = {test.name: test for test in examples()}
LAYERS = [name for name in EXAMPLES if name.startswith("cnnlib.layers.") and "prepare" not in name]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Be in a folder as the examples expect it."""
    cifar_files.fill_data_folder(tmp_path / "data", monkeypatch)
    monkeypatch.delenv("CNNLIB_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(test, **names):
    globs = {**test.globs, "np": np, **names}
    copy = doctest.DocTest(test.examples, globs, test.name, test.filename, test.lineno, test.docstring)
    assert doctest.DocTestRunner(verbose=False).run(copy).failed == 0


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples(name, folder):
    needed = [package for beginning, package in NEEDS.items() if name.startswith(beginning)]
    for package in needed:
        pytest.importorskip(package)
    if "PIL.Image" in needed:
        write_folder(folder / "photos", {"cats": 10, "dogs": 10})
    if "matplotlib" in needed:
        pyplot = pytest.importorskip("matplotlib.pyplot")
        pyplot.switch_backend("Agg")
    run(EXAMPLES[name])
    if "matplotlib" in needed:
        pyplot.close("all")


@pytest.mark.parametrize("name", LAYERS)
def test_examples_of_layers_hold_for_the_loops(name):
    twins = {name.removesuffix("_naive"): getattr(naive, name) for name in naive.__all__}
    run(EXAMPLES[name], **twins)


def public_names():
    """Each public function and class, once, by the name under which a user imports it."""
    known = set()
    for module in [layers, cnnlib, *modules(pkgutil.iter_modules)]:
        if module.__name__.startswith("cnnlib._"):
            continue
        for name in module.__all__:
            value = getattr(module, name)
            if (inspect.isroutine(value) or inspect.isclass(value)) and id(value) not in known:
                known.add(id(value))
                yield f"{module.__name__}.{name}", value


def without_example(names):
    """Those of the public names that lack one."""
    for name, value in names:
        own = name.rpartition(".")[2]
        if typing.is_typeddict(value) or (inspect.isclass(value) and issubclass(value, Exception)):
            continue
        if own.endswith("_backward"):
            test = EXAMPLES.get(f"{value.__module__}.{own.removesuffix('_backward')}_forward")
            found = test and any(f"{own}(" in example.source for example in test.examples)
        elif own.endswith("_naive"):
            found = own.removesuffix("_naive") in layers.__all__
        else:
            found = f"{value.__module__}.{value.__name__}" in EXAMPLES
        if not found:
            yield name


def test_every_public_name_has_one():
    names = list(public_names())
    assert len(names) > 200
    assert list(without_example(names)) == []


def test_a_name_without_one_is_found():
    def relu_backward():
        pass

    relu_backward.__module__ = "cnnlib.layers.norm"
    assert list(without_example([("cnnlib.layers.relu_backward", relu_backward)]))
    assert list(without_example([("cnnlib.run", run)]))
    assert list(without_example([("cnnlib.new_naive", run)]))
