"""The memory of a step of which a part is frozen is that of the part that learns."""

import subprocess
import sys
from pathlib import Path

import pytest

STATUS = Path("/proc/self/status")
if not STATUS.exists() or "VmHWM" not in STATUS.read_text():
    pytest.skip("the system does not tell the peak of a process's memory", allow_module_level=True)

# Prints the bytes by which the resident memory grows at its peak over what stands before the step.
SCRIPT = """
import sys
import numpy as np
from cnnlib.models import ConvNet
from cnnlib.pretrained.head import rest_behind
from cnnlib.pretrained.trunk import block_starts

def status(name):
    with open("/proc/self/status") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith(name + ":"))

X = np.random.default_rng(0).standard_normal((32, 3, 64, 64)).astype(np.float32)
y = np.arange(32) % 3
model = ConvNet("resnet8", (3, 64, 64), 10, seed=0).cut().with_head(3, seed=0)
start = block_starts(model.graph())[-2]
rest = rest_behind(model, start)
what = sys.argv[1]
if what == "head":
    model.freeze("W[0-9]*", "gamma*", "beta*")
if what == "block":
    model.freeze(*(name for name in model.params if name not in rest.params or name in rest.frozen))
if what == "rest":
    model, X = rest, model.cut(start).loss(X)
if what == "layers":  # what lies before the part that learns runs so, too: its norms rest
    model._program.in_core = False
model.loss(X[:1], y[:1])  # what is imported and packed with the first step
before = status("VmRSS")
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
model.loss(X, None if what in ("scores", "layers") else y)
print(status("VmHWM") - before)
"""


@pytest.fixture(scope="module")
def peaks():
    """Megabytes of a whole step, of those that train a part, of the scores, and of these layer by layer."""
    found = {}
    for what in ("whole", "scores", "layers", "head", "block", "rest"):
        done = subprocess.run([sys.executable, "-c", SCRIPT, what], capture_output=True, text=True)
        if "PermissionError" in done.stderr:
            pytest.skip("the system does not let a process reset its peak")
        assert done.returncode == 0, done.stderr
        found[what] = int(done.stdout) / 2**20
    print(found)
    return found


@pytest.mark.slow
def test_a_step_of_the_head_takes_what_its_layers_take_forward(peaks):
    assert peaks["head"] < 1.1 * peaks["layers"] + 2
    assert peaks["head"] < 0.4 * peaks["whole"]


def test_compiled_scores_take_the_memory_of_a_few_images(peaks):
    assert peaks["scores"] < 0.2 * peaks["layers"]


def test_a_step_of_the_last_block_takes_what_it_takes_alone(peaks):
    """Beside the features that it reads; the part before it has its own peak first."""
    kept = 8  # MB that memory pools keep, more or less from run to run
    assert peaks["block"] < max(peaks["layers"], peaks["rest"]) + kept
    assert peaks["rest"] < 0.6 * peaks["whole"]
