"""Files of predictors that no honest writer made, and writers that are stopped."""

import json
import math
import os
import signal
import struct
import subprocess
import sys
import textwrap
import time
import zlib

import numpy as np
import pytest
from cnnlib import _core
from cnnlib.data import Normalization
from cnnlib.inference import load, prepare
from cnnlib.models import ConvNet

LEAD = struct.Struct("<8sQII")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The header and the arrays' bytes of a predictor whose first operation is a norm that stands alone."""
    net = ConvNet(["batchnorm", "relu", {"conv": 4}, "global_avg_pool", {"affine": 3}], (3, 8, 8), 3, seed=0)
    net.preprocess, net.classes = Normalization((1, 2, 3), (4, 5, 6)), tuple("abc")
    path = tmp_path_factory.mktemp("saved") / "net"
    prepare(net).save(path)
    content = path.read_bytes()
    start = LEAD.size + LEAD.unpack_from(content)[1]
    return content[LEAD.size : start], content[start:]


def written(path, header, arrays):
    """A file with this header, all of its checksums right."""
    for entry in header["arrays"]:
        size = math.prod(entry["shape"]) * np.dtype(entry["dtype"]).itemsize
        entry["crc"] = zlib.crc32(arrays[entry["offset"] : entry["offset"] + size])
    text = json.dumps(header).encode()
    text += b" " * (-(len(text) + LEAD.size) % 64)
    path.write_bytes(LEAD.pack(b"cnnlibP1", len(text), zlib.crc32(text), 0) + text + arrays)
    return path


def test_the_helper_writes_what_is_read(saved, tmp_path):
    header, arrays = saved
    path = written(tmp_path / "net", json.loads(header), arrays)
    assert load(path)(np.zeros((2, 3, 8, 8), np.uint8)).shape == (2, 3)


def replace(*keys, value):
    """Replace what lies under these keys."""

    def change(header):
        for key in keys[:-1]:
            header = header[key]
        header[keys[-1]] = value

    return change


def larger_norms(header):
    """As many channels as there are bytes in all, which an image does not have."""
    for index in header["ops"][0]["arrays"].values():
        header["arrays"][index] |= {"shape": [40], "offset": 0}


FORGERIES = {
    "a norm of more channels than its images": larger_norms,
    "an operation that there is not": replace("ops", 0, "kind", value="__class__"),
    "a kind that is no text": replace("ops", 0, "kind", value=["conv"]),
    "a value that nothing makes": replace("ops", 1, "inputs", value=["nothing"]),
    "a value that is made later": replace("ops", 0, "inputs", value=["affine6"]),
    "two inputs of one layer": replace("ops", 1, "inputs", value=["input", "input"]),
    "no inputs": replace("ops", 1, "inputs", value=[]),
    "a value made twice": replace("ops", 0, "output", value="conv3"),
    "an output that nothing makes": replace("about", "output", value="input"),
    "samples of another size": replace("about", "input_dim", value=[3, 1, 1, 8]),
    "samples of no size": replace("about", "input_dim", value=[3, 0, 8]),
    "samples that no memory holds": replace("about", "input_dim", value=[3, 2**40, 2**40]),
    "another dtype": replace("about", "dtype", value="float64"),
    "no dtype": replace("about", "dtype", value="object"),
    "classes that are numbers": replace("about", "classes", value=[1, 2, 3]),
    "another preprocessing": replace("about", "preprocess", value={"name": "eval"}),
    "a preprocessing without numbers": replace("about", "preprocess", value={"name": "normalization"}),
    "an activation that there is not": replace("ops", 0, "most", value=7.5),
    "filters of another depth": replace("ops", 1, "arrays", "w", value=0),
    "an array that there is not": replace("ops", 1, "arrays", "w", value=99),
    "an array of another role": replace("ops", 1, "arrays", "gamma", value=0),
    "an option of another layer": replace("ops", 1, "options", value={"pool_param": {}}),
    "a key that there is not": replace("ops", 1, "options", "conv_param", value={"out": 1}),
    "a stride of 0": replace("ops", 1, "options", "conv_param", value={"stride": 0}),
    "a negative size": replace("arrays", 0, "shape", value=[-3]),
    "a place before the first": replace("arrays", 0, "offset", value=-64),
    "a place behind the last": replace("arrays", 0, "offset", value=10**6),
    "a place between two numbers": replace("arrays", 0, "offset", value=1),
    "arrays of objects": replace("arrays", 0, "dtype", value="object"),
    "no operations": replace("ops", value=[]),
    "operations that are none": replace("ops", value=3),
}


@pytest.mark.parametrize("forgery", FORGERIES.values(), ids=FORGERIES)
def test_forged_files_are_refused_by_name(forgery, saved, tmp_path):
    """Checksums protect from accidents alone; sizes that were believed led outside of the arrays."""
    header, arrays = json.loads(saved[0]), saved[1]
    forgery(header)
    path = tmp_path / "net"
    try:
        written(path, header, arrays)
    except (TypeError, ValueError):  # no checksum for what cannot be; it is refused before
        text = json.dumps(header).encode()
        path.write_bytes(LEAD.pack(b"cnnlibP1", len(text), zlib.crc32(text), 0) + text + arrays)
    with pytest.raises(ValueError, match=f"^{path} is damaged, or not a predictor"):
        load(path)


# The core's program trusts neither ---------------------------------------------------------------------


SIZE = 48
VALUES = [(0, SIZE, 0), (2, SIZE, 0), (1, SIZE, 0)]


@pytest.mark.parametrize(
    "values",
    [
        [(0, SIZE + 1, 0)],
        [(1, SIZE - 1, 0)],
        [(2, SIZE, 1)],
        [(2, SIZE, -1)],
        [(2, -1, 0)],
        [(2, SIZE, 2**62)],
        [(2, 2**62, 2**62)],
        [(3, SIZE, 0)],
        [(-1, SIZE, 0)],
    ],
    ids=str,
)
def test_values_lie_inside_of_their_place(values):
    with pytest.raises(ValueError, match="prepare: value 0 does not lie inside of its place"):
        _core.ProgramFloat(values, SIZE, SIZE, SIZE)


@pytest.mark.parametrize("numbers", [(-1, SIZE, SIZE), (SIZE, 2**62, SIZE), (SIZE, SIZE, -SIZE)], ids=str)
def test_sizes_that_no_memory_holds(numbers):
    with pytest.raises(ValueError, match=r"prepare: values of -?[0-9]+ elements"):
        _core.ProgramFloat([], *numbers)


C = np.ones(3, np.float32)
LIKE = np.empty((0, 3, 4, 4), np.float32)
WINDOW = (2, 2, 2, 2, 0, 0, 0, 0, 1, 1)
STEPS = {
    "conv": (LIKE, np.ones((4, 3, 1, 1), np.float32), None, {}, False, False, 0.0),
    "conv_transpose": (LIKE, np.ones((3, 4, 1, 1), np.float32), None, {}),
    "affine": (np.ones((SIZE, 3), np.float32), None, False),
    "max_pool": (LIKE, WINDOW, False),
    "avg_pool": (LIKE, WINDOW, False, True),
    "global_avg_pool": (4, 16),
    "normalize": (17, np.ones(3), np.ones(3), C, C, False),
    "row_norm": ((3, 1, 17, 3), 1e-3, C, C),
    "pixel_norm": (17, 1e-3, C, C),
    "softmax": (3, 17),
    "adaptive_pool": ((3, 4, 4, 2, 2), True),
    "upsample": ((3, 4, 4, 2, 1), True, False),
}


@pytest.mark.parametrize("name", STEPS)
def test_steps_fit_their_values(name):
    """Each of these would write more than its value has room for, or less."""
    program = _core.ProgramFloat(VALUES, SIZE, SIZE, SIZE)
    with pytest.raises(ValueError, match="prepare: a step takes a value of 48 elements for one of shape"):
        getattr(program, name)("", 0, 2, *STEPS[name])


@pytest.mark.parametrize(
    ("name", "rest"), [("relu", ()), ("leaky_relu", (0.1,)), ("activation", ("silu", 1))]
)
@pytest.mark.parametrize(
    ("source", "target", "why"), [(0, 0, "caller's"), (0, 3, "exist"), (-1, 1, "exist"), (3, 1, "exist")]
)
def test_steps_read_and_write_what_is_there(name, rest, source, target, why):
    with pytest.raises(ValueError, match=f"prepare: value -?[0-9] .*{why}"):
        getattr(_core.ProgramFloat(VALUES, SIZE, SIZE, SIZE), name)("", source, target, *rest)


@pytest.mark.parametrize(
    ("x", "shape"),
    [
        ((2, 47), [2, 48]),
        ((2, 48), [2, 47]),
        ((2, 48), [3, 32]),
        ((2, 48), []),
        ((), [1, 48]),
        ((96,), [2, 48]),
    ],
    ids=str,
)
def test_samples_have_the_program_s_size(x, shape):
    program = _core.ProgramFloat(VALUES, SIZE, SIZE, SIZE)
    program.relu("", 0, 2)
    for call in (lambda *a: program.run(*a), lambda *a: program.profile(*a, 1)):
        with pytest.raises(ValueError, match="Predictor: "):
            call(np.zeros(x, np.float32), shape)


# Writers that are stopped ------------------------------------------------------------------------------

linux_only = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="these are Linux's ways")

SAVING = """
    import resource, sys
    import numpy as np
    from cnnlib.inference import prepare
    from cnnlib.models import FullyConnectedNet
    path, limit = sys.argv[1], int(sys.argv[2])
    predictors = []
    for number in (1, 2):
        net = FullyConnectedNet((500,), input_dim=100, num_classes=2, seed=0)
        net.params["b2"][:] = number
        predictors.append(prepare(net))
    predictors[0].save(path)
    print("begun", flush=True)
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        while True:
            for predictor in predictors:
                predictor.save(path)
    except OSError as error:
        print(error)
"""


@linux_only
def test_killed_while_it_saves(tmp_path):
    """`save` under a name that is there: at every moment the old file or the new one, never a torn one."""
    path = tmp_path / "net"
    rng = np.random.default_rng(0)
    command = [sys.executable, "-c", textwrap.dedent(SAVING), str(path), "0"]
    for _ in range(8):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "begun\n"
            time.sleep(float(rng.uniform(0, 0.05)))
            process.send_signal(signal.SIGKILL)
        number = load(path)(np.zeros((1, 100), np.float32))[0, 0]
        assert number in (1, 2)
    prepare(ConvNet([{"affine": 2}], (3,), 2, seed=0)).save(path)
    assert os.listdir(tmp_path) == ["net"]  # what killed writers left is gone


@linux_only
def test_no_room_for_another_file(tmp_path):
    """RLIMIT_FSIZE fails a write in its middle, as a full disk does; the older file stays."""
    path = tmp_path / "net"
    command = [sys.executable, "-c", textwrap.dedent(SAVING), str(path), "50000"]
    process = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert process.stdout == f"begun\n[Errno 27] File too large: '{path}'\n", process.stderr
    assert load(path)(np.zeros((1, 100), np.float32))[0, 0] == 1
    assert os.listdir(tmp_path) == ["net"]
