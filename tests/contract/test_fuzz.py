"""The fuzzer's targets (tests/fuzz) on what it found before and on inputs that are the same every time."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.borders

FUZZ = Path(__file__).parents[1] / "fuzz" / "fuzz.py"
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
]


@pytest.mark.slow
def test_nothing_is_found():
    """In a process of its own, which a crash would end behind the last target that was sound."""
    command = [sys.executable, "-u", "-W", "ignore::RuntimeWarning", FUZZ, *TARGETS, "--inputs", "300"]
    process = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stdout + process.stderr
    assert process.stdout.splitlines() == [f"{target}: 300 inputs" for target in TARGETS]


def test_every_seed_belongs_to_a_target():
    seeds = [path.name for path in FUZZ.with_name("seeds").iterdir()]
    assert seeds
    assert {name.split("-")[0] for name in seeds} <= set(TARGETS)
