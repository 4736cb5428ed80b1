"""The assignment of examples/: stubs get no points, right layers all of them, wrong ones a sentence."""

import json
import shutil
import sys
import types
from pathlib import Path

import pytest
from cnnlib import naive

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "assignment"
if not FOLDER.is_dir():
    pytest.skip("the tests lie elsewhere than in a checkout", allow_module_level=True)
sys.path.insert(0, str(FOLDER))
import grade  # noqa: E402

LAYERS = ("affine", "conv", "max_pool")
NAMES = [f"{layer}_{way}" for layer in LAYERS for way in ("forward", "backward")]


def right():
    """A student who made no mistake."""
    return types.SimpleNamespace(**{name: getattr(naive, f"{name}_naive") for name in NAMES})


def twice_in_place(dout, cache):
    dout *= 2
    return naive.max_pool_backward_naive(dout, cache)


def scores(module):
    tests = grade.grade(module)
    assert [test["name"] for test in tests] == NAMES
    return {test["name"]: (test["score"] / test["max_score"], test["output"]) for test in tests}


def test_stubs_get_no_points(tmp_path, capsys):
    results = tmp_path / "results.json"
    grade.main([str(FOLDER / "layers.py"), "--json", str(results)])
    tests = json.loads(results.read_text())["tests"]
    assert [test["score"] for test in tests] == [0] * len(NAMES)
    assert sum(test["max_score"] for test in tests) >= 10
    assert capsys.readouterr().out.count("not written yet") >= len(NAMES)


def test_right_layers_get_all_points():
    assert set(scores(right()).values()) == {(1, "right")}


def test_stubs_have_every_function():
    stubs = grade.load(FOLDER / "layers.py")
    assert all(callable(getattr(stubs, name)) for name in NAMES)


@pytest.mark.parametrize(
    ("name", "wrong", "output"),
    [
        ("affine_forward", lambda x, w, b: naive.affine_forward_naive(x, w, 0 * b), "out is wrong"),
        ("affine_forward", lambda x, w, b: (x.reshape(4, 6) @ w[:, :1], None), "out has shape (4, 1)"),
        (
            "conv_backward",
            lambda dout, cache: naive.conv_backward_naive(dout, cache)[:2],
            "returned 2 gradients",
        ),
        ("conv_backward", lambda dout, cache: naive.conv_backward_naive(2 * dout, cache), "dx is wrong"),
        ("max_pool_backward", lambda dout, cache: 1 / 0, "raised ZeroDivisionError"),
        ("max_pool_backward", twice_in_place, "dx is wrong"),
        ("conv_backward", lambda dout, cache: ([[1, 2], [3]], None, "db"), "raised ValueError"),
        ("affine_backward", lambda dout, cache: sys.exit(), "raised SystemExit"),
    ],
)
def test_mistakes_are_told(name, wrong, output):
    student = right()
    setattr(student, name, wrong)
    share, said = scores(student)[name]
    assert share == 0
    assert output in said
    assert all(share == 1 for other, (share, _) in scores(student).items() if not other.startswith(name[:4]))


def test_gradients_may_be_a_list():
    student = right()
    student.conv_backward = lambda dout, cache: list(naive.conv_backward_naive(dout, cache))
    assert scores(student)["conv_backward"] == (1, "right")


def test_a_mistake_in_place_does_not_spoil_the_grading():
    student = right()

    def conv_forward(x, w, b, conv_param):
        result = naive.conv_forward_naive(x.copy(), w, b, conv_param)
        x *= 2
        return result

    student.conv_forward = conv_forward
    assert scores(student)["conv_forward"] == (1, "right")


@pytest.mark.parametrize(
    "line", ["import cnnlib", "from cnnlib.naive import *", "import torch.nn as nn", "from . import x"]
)
def test_borrowed_layers_are_refused(line, tmp_path):
    path = tmp_path / "layers.py"
    shutil.copy(FOLDER / "layers.py", path)
    path.write_text(path.read_text() + f"\n\ndef f():\n    {line}\n" if "*" not in line else f"{line}\n")
    with pytest.raises(ValueError, match="allowed: itertools, math, numpy"):
        grade.load(path)
