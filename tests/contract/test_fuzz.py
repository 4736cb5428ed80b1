"""The fuzzer's targets (tests/fuzz) on what it found before and on inputs that are the same every time."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.borders

FUZZ = Path(__file__).parents[1] / "fuzz" / "fuzz.py"
CORPUS = FUZZ.with_name("corpus")
TARGETS = [
    "bindings",
    "layers",
    "program",
    "checkpoint",
    "checkpoint_entries",
    "cifar_batch",
    "cifar_opcodes",
    "archive",
    "predictor",
    "predictor_header",
    "weights",
    "weights_header",
    "onnx",
    "onnx_fields",
    "image",
    "config",
    "config_fields",
    "run",
    "arrays",
    "array_header",
    "table",
    "file",
    "request",
]
READERS = {
    "onnx",
    "weights",
    "checkpoint",
    "predictor",
    "image",
    "config",
    "arrays",
    "table",
    "file",
    "request",
}
# Of these an input takes a millisecond or more: a folder is written, an image scaled, an answer awaited.
SLOWER = {"run": 60, "request": 60, "image": 150, "table": 150, "arrays": 150, "config": 150}


def fuzz(*arguments):
    """Run the fuzzer in a process of its own; a crash would end it behind the last line that it printed."""
    command = [sys.executable, "-u", "-W", "ignore::RuntimeWarning", FUZZ, *arguments]
    process = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout.splitlines()


@pytest.mark.slow
@pytest.mark.parametrize("count", sorted({300, *SLOWER.values()}))
def test_nothing_is_found(count):
    chosen = [target for target in TARGETS if SLOWER.get(target, 300) == count]
    assert fuzz(*chosen, "--inputs", str(count)) == [f"{target}: {count} inputs" for target in chosen]


@pytest.mark.smoke
def test_the_corpus_is_sound():
    """Files and calls that are kept: sound ones, damaged ones, and those that failed once."""
    inputs = sorted(path.relative_to(CORPUS).as_posix() for path in CORPUS.rglob("*") if path.is_file())
    assert sorted(fuzz("--corpus")) == inputs
    assert {name.split("/")[0] for name in inputs} <= set(TARGETS)
    assert READERS <= {name.split("/")[0] for name in inputs}
