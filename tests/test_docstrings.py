"""The examples in the docstrings print what they say."""

import doctest
import importlib
import pkgutil

import cnnlib
import numpy as np
import pytest


def examples():
    """Each docstring of the package that has examples, by its name."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    for info in pkgutil.walk_packages(cnnlib.__path__, "cnnlib."):
        if info.name.startswith(("cnnlib.cli", "cnnlib.__main__", "cnnlib._core")):
            continue
        try:
            module = importlib.import_module(info.name)
        except ImportError:  # of an extra that is not installed
            continue
        for test in finder.find(module):
            if test.examples:
                yield pytest.param(test, id=test.name)


EXAMPLES = list(examples())


@pytest.mark.parametrize("test", EXAMPLES)
def test_examples(test):
    test.globs.setdefault("np", np)
    assert doctest.DocTestRunner(verbose=False).run(test).failed == 0


def test_the_main_functions_have_one():
    names = {parameter.id for parameter in EXAMPLES}
    assert names >= {
        "cnnlib.layers.conv.conv_forward",
        "cnnlib.layers.norm.batch.batchnorm_forward",
        "cnnlib.layers.losses.softmax_loss",
        "cnnlib.models.convnet.ConvNet",
        "cnnlib.models.fully_connected.FullyConnectedNet",
        "cnnlib.models.three_layer.ThreeLayerConvNet",
        "cnnlib.optim.adam",
        "cnnlib.solver.solver.Solver",
    }
