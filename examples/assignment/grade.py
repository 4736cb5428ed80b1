"""Grade a file with the layers of an assignment: ``python grade.py layers.py --json results.json``.

Each function is compared with its twin in cnnlib.naive, on arrays that students have not seen. A backward
pass gets the student's own cache, so it has no points where the forward pass is wrong. The file must not
import what has the layers already.
"""

import argparse
import ast
import importlib.util
import json
from pathlib import Path

import numpy as np
from cnnlib import naive
from cnnlib.gradient_check import rel_error

ALLOWED = {"numpy", "math", "itertools"}
RIGHT = 1e-6  # largest relative error of a float64 result
CONV = [{"stride": 1, "pad": 1}, {"stride": 2, "pad": 0}]
POOL = [{"pool_height": 2, "pool_width": 2, "stride": 2}, {"pool_height": 3, "pool_width": 2, "stride": 1}]


def calls(seed):
    """The arguments of each layer's calls."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((2, 3, 6, 5))
    w, b = rng.standard_normal((4, 3, 3, 3)), rng.standard_normal(4)
    rows = rng.standard_normal((4, 2, 3)), rng.standard_normal((6, 5)), rng.standard_normal(5)
    return {
        "affine": [rows],
        "conv": [(x, w, b, param) for param in CONV],
        "max_pool": [(x, param) for param in POOL],
    }


def grade(module, seed=0):
    """A dict for each function: name, score out of max_score, output for the student."""
    tests = []
    for layer, arguments in calls(seed).items():
        for way in ("forward", "backward"):
            name = f"{layer}_{way}"
            outputs = [_problem(module, layer, way, call, seed) for call in arguments]
            right = outputs.count("")
            tests.append(
                {
                    "name": name,
                    "score": right,
                    "max_score": len(outputs),
                    "output": "; ".join(text for text in outputs if text) or "right",
                }
            )
    return tests


def _problem(module, layer, way, arguments, seed):
    """What is wrong with one call, in a sentence; '' where nothing is."""
    copies = [np.copy(value) if isinstance(value, np.ndarray) else dict(value) for value in arguments]
    want, naive_cache = getattr(naive, f"{layer}_forward_naive")(*arguments)
    try:
        out, cache = getattr(module, f"{layer}_forward")(*copies)
        problem = _differs("out", out, want)
        if way == "forward" or problem:
            return problem
        dout = np.random.default_rng(seed).standard_normal(want.shape)
        want = _as_tuple(getattr(naive, f"{layer}_backward_naive")(dout, naive_cache))
        got = _as_tuple(getattr(module, f"{layer}_backward")(dout, cache))
        if len(got) != len(want):
            return f"returned {len(got)} gradients, expected {len(want)}"
        problems = map(_differs, ("dx", "dw", "db"), got, want)
        return ", ".join(text for text in problems if text)
    except NotImplementedError:
        return "not written yet"
    except (Exception, SystemExit) as error:  # the student's, whatever it is
        return f"raised {type(error).__name__}: {error}"


def _as_tuple(gradients):
    return gradients if isinstance(gradients, (tuple, list)) else (gradients,)


def _differs(name, got, want):
    got = np.asarray(got)
    if got.shape != want.shape:
        return f"{name} has shape {got.shape}, expected {want.shape}"
    error = rel_error(got, want)
    return "" if error < RIGHT else f"{name} is wrong: relative error {error:.1e}"


def load(path):
    """The student's module, if it imports nothing but what is allowed."""
    for node in ast.walk(ast.parse(Path(path).read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        for name in names:
            if name.partition(".")[0] not in ALLOWED:
                raise ValueError(
                    f"{path} imports {name or 'a neighbour'}; allowed: {', '.join(sorted(ALLOWED))}"
                )
    spec = importlib.util.spec_from_file_location("student", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--json", type=Path, help="write the results, as Gradescope reads them")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    tests = grade(load(options.file), options.seed)
    for test in tests:
        print(f"{test['name']:18} {test['score']}/{test['max_score']}  {test['output']}")
    if options.json:
        options.json.write_text(json.dumps({"tests": tests}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
