"""Files of predictors that no honest writer made, and writers that are stopped."""

import json
import os
import signal
import struct
import subprocess
import sys
import textwrap
import time
import zlib

import cnnlib.safetensors
import numpy as np
import pytest
from cnnlib import _core
from cnnlib._files.written import TEMPORARY
from cnnlib.data import Normalization
from cnnlib.inference import load, prepare
from cnnlib.inference.file import is_predictor
from cnnlib.models import ConvNet, Graph, GraphNet

pytestmark = [pytest.mark.borders, pytest.mark.smoke]

LENGTH = struct.Struct("<Q")
METADATA = "__metadata__"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """What is said of a predictor whose first layer is a norm by itself, its arrays' entries and bytes."""
    net = ConvNet(["batchnorm", "relu", {"conv": 4}, "global_avg_pool", {"affine": 3}], (3, 8, 8), 3, seed=0)
    net.preprocess, net.classes = Normalization((1, 2, 3), (4, 5, 6)), tuple("abc")
    path = tmp_path_factory.mktemp("saved") / "net"
    prepare(net).save(path)
    content = path.read_bytes()
    start = LENGTH.size + LENGTH.unpack_from(content)[0]
    header = json.loads(content[LENGTH.size : start])
    header["cnnlib"] = json.loads(header.pop(METADATA)["cnnlib"])
    return json.dumps(header), content[start:]


def written(path, header, arrays):
    """A file with this header, all of its checksums right."""
    entries = {name: entry for name, entry in header.items() if name != "cnnlib"}
    said = header["cnnlib"]
    if said.get("sums"):
        for name, entry in entries.items():
            dtype = {"F32": "float32", "F64": "float64"}.get(entry["dtype"], entry["dtype"])
            begin, end = entry["data_offsets"]
            start = zlib.crc32(repr((name, dtype, tuple(entry["shape"]))).encode())
            said["sums"][name] = zlib.crc32(arrays[begin:end], start)
    text = json.dumps(said)
    entries[METADATA] = {"cnnlib": text, "cnnlib.crc32": str(zlib.crc32(text.encode()))}
    lead = json.dumps(entries).encode()
    lead += b" " * (-len(lead) % 8)
    path.write_bytes(LENGTH.pack(len(lead)) + lead + arrays)
    return path


def test_the_format_s_own_name_is_no_array(tmp_path):
    graph = Graph()
    graph.affine(METADATA)
    predictor = prepare(GraphNet(graph, {METADATA: np.ones((3, 2))}, 3))
    with pytest.raises(ValueError, match="is the format's own"):
        predictor.save(tmp_path / "net")


def test_the_helper_writes_what_is_read(saved, tmp_path):
    header, arrays = saved
    path = written(tmp_path / "net", json.loads(header), arrays)
    assert load(path)(np.zeros((2, 3, 8, 8), np.uint8)).shape == (2, 3)
    assert cnnlib.safetensors.load(path)["W1"].shape == (4, 3, 3, 3)  # like any other file of the format


def replace(*keys, value):
    """Replace what lies under these keys of what is said of the predictor."""

    def change(header):
        part = header["cnnlib"]
        for key in keys[:-1]:
            part = part[key]
        part[keys[-1]] = value

    return change


def node(number, part, value):
    """Replace one part of a node: its layer, inputs, output, params, args or label."""
    return replace("graph", "nodes", number, part, value=value)


def without(*keys):
    """Leave out what lies under these keys of what is said of the predictor."""

    def change(header):
        part = header["cnnlib"]
        for key in keys[:-1]:
            part = part[key]
        del part[keys[-1]]

    return change


LAYER, INPUTS, OUTPUT, PARAMS, ARGS, LABEL = range(6)


def entry(key, value):
    """Replace a part of an array's entry."""
    return lambda header: header["W1"].update({key: value})


FORGERIES = {
    "a norm of more channels than its images": node(0, PARAMS, ["W2", "W2"]),
    "a layer that there is not": node(0, LAYER, "__class__"),
    "a layer that is no text": node(0, LAYER, ["conv"]),
    "a layer that has no operation": node(1, LAYER, "conv1d"),
    "a layer that prepared networks leave out": lambda header: header["cnnlib"]["graph"]["nodes"].__setitem__(
        1,
        [
            "dropout",
            header["cnnlib"]["graph"]["nodes"][1][1],
            header["cnnlib"]["graph"]["nodes"][1][2],
            [],
            [{"p": 0.5, "mode": "test"}],
            "",
        ],
    ),
    "a value that nothing makes": node(1, INPUTS, ["nothing"]),
    "a value that is made later": node(0, INPUTS, ["affine6"]),
    "two inputs of one layer": node(1, INPUTS, ["input", "input"]),
    "no inputs": node(1, INPUTS, []),
    "a value made twice": node(0, OUTPUT, "conv3"),
    "a value that is no text": node(0, OUTPUT, ["conv3"]),
    "a label that is no text": node(0, LABEL, [1]),
    "an output that nothing makes": replace("graph", "output", value="nothing"),
    "samples of another size": replace("about", "input_dim", value=[3, 1, 1, 8]),
    "samples of no size": replace("about", "input_dim", value=[3, 0, 8]),
    "samples that no memory holds": replace("about", "input_dim", value=[3, 2**40, 2**40]),
    "another dtype": replace("about", "dtype", value="float64"),
    "no dtype": replace("about", "dtype", value="object"),
    "classes that are numbers": replace("about", "classes", value=[1, 2, 3]),
    "an end that there is not": replace("about", "head", value="faces"),
    "a head of no classes": replace(
        "about",
        "detection",
        value={"classes": [], "task": "detect", "size": None, "stride": 32, "keypoints": None},
    ),
    "a head that is text": replace("about", "detection", value="yolo"),
    "half a head": replace("about", "detection", value={"classes": ["a"]}),
    "another preprocessing": replace("about", "preprocess", value={"name": "eval"}),
    "a preprocessing without numbers": replace("about", "preprocess", value={"name": "normalization"}),
    "filters of another depth": node(2, PARAMS, ["W2", None]),
    "an array that there is not": node(2, PARAMS, ["W9", None]),
    "too few arrays": node(2, PARAMS, []),
    "an option of another layer": node(2, ARGS, [{"pool_height": 2}]),
    "options for another one": node(2, ARGS, [{}, {}]),
    "options that are none": node(2, ARGS, [3]),
    "a key that there is not": node(2, ARGS, [{"out": 1}]),
    "a stride of 0": node(2, ARGS, [{"stride": 0}]),
    "statistics that there are not": replace("graph", "bn_params", 0, "running_mean", value="nothing"),
    "statistics of another size": replace("graph", "bn_params", 0, "running_mean", value="b2'"),
    "a norm that there is not": node(0, ARGS, 7),
    "a negative size": entry("shape", [-4, 3, 3, 3]),
    "a place before the first": entry("data_offsets", [-64, 368]),
    "a place behind the last": entry("data_offsets", [10**6, 10**6 + 432]),
    "a place of another length": entry("data_offsets", [0, 4]),
    "arrays of objects": entry("dtype", "object"),
    "arrays of integers": entry("dtype", "I32"),
    "no graph": replace("graph", value=3),
    "no nodes": replace("graph", "nodes", value=3),
    "no checksums": replace("sums", value={}),
    "no version": without("version"),
    "no end": without("about", "head"),
    "no loss": without("about", "loss_name"),
    "a loss that there is not": replace("about", "loss_name", value="mesh"),
    "losses of several outputs": replace("about", "loss_name", value={"scores": "mse"}),
    "nothing about eight bits": without("about", "quantization"),
    "no list of outputs": without("graph", "outputs"),
    "no reason for its size": without("graph", "fixed_by"),
}


@pytest.mark.parametrize("forgery", FORGERIES.values(), ids=FORGERIES)
def test_forged_files_are_refused_by_name(forgery, saved, tmp_path):
    """Checksums protect from accidents alone; sizes that were believed led outside of the arrays."""
    header, arrays = json.loads(saved[0]), saved[1]
    forgery(header)
    path = written(tmp_path / "net", header, arrays)
    with pytest.raises(ValueError, match=f"^{path} is damaged, or not a (predictor|safetensors file)"):
        load(path)


@pytest.mark.parametrize("version", [0, 2, "1", True, None])
def test_another_version_is_refused(version, saved, tmp_path):
    """The message names the file, its version, and the one that is read."""
    header = json.loads(saved[0])
    header["cnnlib"]["version"] = version
    path = written(tmp_path / "net", header, saved[1])
    assert is_predictor(path)
    for read in (load, cnnlib.load):
        with pytest.raises(ValueError) as caught:  # noqa: PT011
            read(path)
        assert str(caught.value) == (
            f"{path} is a predictor of version {version!r}, and this cnnlib reads version 1"
        )


# The core's program trusts neither ---------------------------------------------------------------------


SIZE = 48
ROOM = 4 * SIZE  # bytes
VALUES = [(0, ROOM, 0), (2, ROOM, 0), (1, ROOM, 0)]


@pytest.mark.parametrize(
    "values",
    [
        [(0, ROOM + 4, 0)],
        [(1, ROOM - 4, 0)],
        [(2, ROOM, 4)],
        [(2, ROOM, -4)],
        [(2, ROOM - 4, 2)],
        [(2, -1, 0)],
        [(2, ROOM, 2**62)],
        [(2, 2**62, 2**62)],
        [(3, ROOM, 0)],
        [(-1, ROOM, 0)],
    ],
    ids=str,
)
def test_values_lie_inside_of_their_place(values):
    with pytest.raises(ValueError, match="prepare: value 0 does not lie inside of its place"):
        _core.Program(np.dtype("f4"), values, ROOM, ROOM, ROOM)


@pytest.mark.parametrize("numbers", [(-1, ROOM, ROOM), (ROOM, 2**62, ROOM), (ROOM, ROOM, -ROOM)], ids=str)
def test_sizes_that_no_memory_holds(numbers):
    with pytest.raises(ValueError, match=r"prepare: values of -?[0-9]+ bytes"):
        _core.Program(np.dtype("f4"), [], *numbers)


C = np.ones(3, np.float32)
LIKE = np.empty((0, 3, 4, 4), np.float32)
WINDOW = (2, 2, 2, 2, 0, 0, 0, 0, 1, 1)
STEPS = {
    "conv": (LIKE, np.ones((4, 3, 1, 1), np.float32), None, {}, False, None),
    "conv_transpose": (LIKE, np.ones((3, 4, 1, 1), np.float32), None, {}, False, None),
    "affine": (np.ones((SIZE, 3), np.float32), None, None),
    "max_pool": (LIKE, WINDOW, False),
    "avg_pool": (LIKE, WINDOW, False, True),
    "normalize": (17, np.ones(3), np.ones(3), C, C, None),
    "row_norm": ((3, 1, 17, 3, 1), 1e-3, C, C),
    "row_norm of pixels": ((17, 3, 1, 3, 17), 1e-3, C, C),
    "softmax": (np.empty((0, 3, 17), np.float32),),
    "adaptive_max_pool": (LIKE, (2, 2)),
    "adaptive_avg_pool": (LIKE, (2, 2)),
    "upsample": (LIKE, (2, 1), True, False),
}


@pytest.mark.parametrize("name", STEPS)
def test_steps_fit_their_values(name):
    """Each of these would write more than its value has room for, or less."""
    program = _core.Program(np.dtype("f4"), VALUES, ROOM, ROOM, ROOM)
    with pytest.raises(ValueError, match="prepare: a step takes a value of 192 bytes for one of shape"):
        getattr(program, name.split()[0])("", 0, 2, *STEPS[name])


@pytest.mark.parametrize(("kind", "alpha"), [("relu", 0), ("leaky_relu", 0.1), ("silu", 1)])
@pytest.mark.parametrize(
    ("source", "target", "why"), [(0, 0, "caller's"), (0, 3, "exist"), (-1, 1, "exist"), (3, 1, "exist")]
)
def test_steps_read_and_write_what_is_there(kind, alpha, source, target, why):
    program = _core.Program(np.dtype("f4"), VALUES, ROOM, ROOM, ROOM)
    with pytest.raises(ValueError, match=f"prepare: value -?[0-9] .*{why}"):
        program.activation("", source, target, LIKE, kind, alpha)


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
    program = _core.Program(np.dtype("f4"), VALUES, ROOM, ROOM, ROOM)
    program.activation("", 0, 2, LIKE, "relu", 0.0)
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


@pytest.mark.plain
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
    remains = [other for other in tmp_path.iterdir() if other != path]
    assert all(other.name.endswith(TEMPORARY) for other in remains)
    for other in remains:  # a day later
        os.utime(other, (time.time() - 100_000,) * 2)
    prepare(ConvNet([{"affine": 2}], (3,), 2, seed=0)).save(path)
    assert os.listdir(tmp_path) == ["net"]


@linux_only
def test_no_room_for_another_file(tmp_path):
    """RLIMIT_FSIZE fails a write in its middle, as a full disk does; the older file stays."""
    path = tmp_path / "net"
    command = [sys.executable, "-c", textwrap.dedent(SAVING), str(path), "50000"]
    process = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert process.stdout == f"begun\n[Errno 27] File too large: '{path}'\n", process.stderr
    assert load(path)(np.zeros((1, 100), np.float32))[0, 0] == 1
    assert os.listdir(tmp_path) == ["net"]
