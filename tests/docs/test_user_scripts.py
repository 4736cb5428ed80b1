"""Programs as a user would write them: good ones run and pass mypy, wrong ones mypy refuses."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import cnnlib
import numpy as np
import pytest

HERE = Path(__file__).parents[1]
SCRIPTS = sorted((HERE / "user_scripts").glob("*.py"))
WRONG = sorted((HERE / "wrong_scripts").glob("*.py"))


@pytest.mark.skipif(sys.version_info < (3, 11), reason="typing.assert_type came with Python 3.11")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_script_runs(script):
    np.random.seed(0)
    runpy.run_path(str(script), run_name="__main__")


def test_there_are_scripts():
    assert len(SCRIPTS) >= 10
    assert len(WRONG) >= 10


@pytest.fixture(scope="module")
def errors(tmp_path_factory):
    """What mypy says of all of them: messages by (file, line)."""
    pytest.importorskip("mypy")
    package = Path(cnnlib.__path__[0]).parent
    # A package that is installed is found without being named.
    paths = {} if "site-packages" in package.parts else {"MYPYPATH": str(package)}
    cache = tmp_path_factory.mktemp("mypy")
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--follow-imports=silent",
        "--config-file=",
        "--no-pretty",
    ]
    command += ["--python-version=3.12", f"--cache-dir={cache}", *map(str, SCRIPTS + WRONG)]
    process = subprocess.run(command, env={**os.environ, **paths}, cwd=cache, capture_output=True, text=True)
    found: dict[tuple[str, int], str] = {}
    for path, line, message in re.findall(r"^(.+\.py):(\d+): error: (.*)$", process.stdout, re.MULTILINE):
        key = Path(path).name, int(line)
        found[key] = f"{found.get(key, '')}{message}\n"
    assert found, process.stdout + process.stderr
    return found


@pytest.mark.slow
def test_mypy_accepts_the_good_ones(errors):
    assert [key for key in errors if key[0] in {script.name for script in SCRIPTS}] == []


@pytest.mark.parametrize("script", WRONG, ids=lambda script: script.stem)
def test_mypy_refuses(script, errors):
    expected = re.search("^mypy: (.+)$", script.read_text(encoding="utf-8"), re.MULTILINE)[1]
    (message,) = [text for (name, _), text in errors.items() if name == script.name]
    assert expected in message
