"""Run some of the search for bits that depend on threads, engine or batch, and replay what it found."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from cnnlib import _core

BITS = Path(__file__).parents[1] / "fuzz" / "bits.py"
PROBLEMS = 60  # some 20 seconds


def conv(x, w, threads, **param):
    """Return the line of a float64 convolution with AVX-512."""
    shapes = [x, w, w[:1]]
    problem = {"layer": "conv", "dtype": "float64", "isa": "avx512", "shapes": shapes, "param": param}
    return json.dumps({**problem, "threads": threads, "seed": 1})


# A chunk of channels was halved where rows of a block were long, and the threads decided their length.
FOUND = [
    conv((1, 96, 64, 64), (8, 96, 1, 1), [2]),
    conv((2, 64, 128, 128), (8, 64, 1, 1), [5, 16]),
    conv((1, 64, 1, 100000), (4, 64, 1, 1), [64]),
]


def run(*arguments):
    return subprocess.run([sys.executable, BITS, *arguments], capture_output=True, text=True, timeout=600)


@pytest.mark.parametrize("line", FOUND)
def test_what_was_found(line):
    isa = json.loads(line)["isa"]
    if isa not in _core.available_isas():
        pytest.skip(f"this processor, or this build, has no {isa}")
    process = run("--replay", line)
    assert (process.returncode, process.stdout) == (0, ""), process.stdout + process.stderr


@pytest.mark.slow
def test_some_of_the_search():
    process = run("--problems", str(PROBLEMS))
    assert process.returncode == 0, process.stdout + process.stderr
    assert process.stdout.endswith(f"0 of {PROBLEMS} problems have bits that differ\n")
