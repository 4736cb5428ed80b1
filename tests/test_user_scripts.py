"""Small programs as a user would write them run; `make lint` has mypy look at their types, strictly."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPTS = sorted(Path(__file__).with_name("user_scripts").glob("*.py"))


@pytest.mark.skipif(sys.version_info < (3, 11), reason="typing.assert_type came with Python 3.11")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_script_runs(script):
    np.random.seed(0)
    runpy.run_path(str(script), run_name="__main__")


def test_there_are_scripts():
    assert len(SCRIPTS) >= 10
