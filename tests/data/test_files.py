"""Files that several write at a time, that change while they are read, and whose headers claim too much."""

import contextlib
import gzip
import io
import os
import struct
import subprocess
import sys
import tarfile
import textwrap
import threading
import time
import zipfile
from pathlib import Path

import cnnlib
import numpy as np
import pytest
from cnnlib import inference, safetensors
from cnnlib._files import written as _files
from cnnlib._files.npy import mapped_array
from cnnlib._system.ahead import in_order
from cnnlib.checkpoint import load_checkpoint, save_checkpoint
from cnnlib.data import load_array_folder
from cnnlib.data.download import unpack
from cnnlib.models import FullyConnectedNet
from helpers import in_threads, run_python

pytestmark = pytest.mark.windows

not_on_windows = pytest.mark.skipif(
    sys.platform == "win32", reason="Windows lets nobody replace or write into a file that is open or mapped"
)
linux_only = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="these are Linux's ways")


# Several writers of one path ---------------------------------------------------------------------------


def _write(path, content):
    with _files.written_whole(path) as file:
        file.write(content)


@linux_only
def test_an_error_names_the_file_that_was_to_be_written(tmp_path):
    path = tmp_path / ("x" * 250)  # too long for a temporary name beside it
    with pytest.raises(OSError, match=r"too long: '.*/x{250}'$"):
        _write(path, b"")


def test_another_writer_ends_before_the_renaming(tmp_path, monkeypatch):
    path, replace, between = tmp_path / "net", os.replace, iter([True])

    def after_another(*args):
        if next(between, False):
            _write(path, b"other")
            assert path.read_bytes() == b"other"
        replace(*args)

    monkeypatch.setattr("os.replace", after_another)
    _write(path, b"this")
    assert path.read_bytes() == b"this"
    assert os.listdir(tmp_path) == ["net"]


def test_what_a_killed_writer_left_is_removed_a_day_later(tmp_path):
    """Whatever file it was of. The writer of a younger one may live, and other programs' files stay."""
    old, young, foreign = (f".a.0123{end}" for end in ("4567.cnnlib-tmp", "89ab.cnnlib-tmp", "4567.tmp"))
    for name in (old, young, foreign):
        (tmp_path / name).write_bytes(b"begun")
    for name, hours in ((old, 25), (young, 23), (foreign, 100)):
        os.utime(tmp_path / name, (time.time() - 3600 * hours,) * 2)
    _write(tmp_path / "net", b"this")
    assert sorted(os.listdir(tmp_path)) == sorted([young, foreign, "net"])


@not_on_windows
def test_a_writer_that_slept_for_a_day_still_writes_its_file(tmp_path):
    """Another one then takes what it has written for what a killed process left."""
    path = tmp_path / "net"
    with _files.written_whole(path) as file:
        file.write(b"slow" * 100_000)
        file.flush()
        os.utime(file.name, (time.time() - 100_000,) * 2)
        _write(tmp_path / "other", b"other")
        assert os.listdir(tmp_path) == ["other"]
        file.write(b"end")
    assert path.read_bytes() == b"slow" * 100_000 + b"end"
    assert sorted(os.listdir(tmp_path)) == ["net", "other"]


WRITER = """
    import sys
    import numpy as np
    from cnnlib._files import written
    from cnnlib.checkpoint import save_checkpoint
    written._PATIENCE = 600  # on Windows, with readers, however busy the machine is
    path, number, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    for _ in range(count):
        save_checkpoint({"W": np.full(1000, number)}, path, {"number": number})
"""


def test_threads_and_processes_that_save_to_one_path(tmp_path, monkeypatch):
    monkeypatch.setattr("cnnlib._files.written._PATIENCE", 600)
    path, count = tmp_path / "net.npz", 100

    def work(number):
        for _ in range(count):
            if number < 4:
                save_checkpoint({"W": np.full(1000, number)}, path, {"number": number})
            else:
                with contextlib.suppress(PermissionError if sys.platform == "win32" else ()):  # just replaced
                    params, state = load_checkpoint(path)
                    assert (params["W"] == state["number"]).all()

    save_checkpoint({"W": np.full(1000, 0)}, path, {"number": 0})
    command = [sys.executable, "-c", textwrap.dedent(WRITER), str(path)]
    processes = [
        subprocess.Popen([*command, str(n), str(count)], stderr=subprocess.PIPE, text=True) for n in (8, 9)
    ]
    in_threads(5, work)
    for process in processes:
        assert process.communicate()[1] == ""
        assert process.returncode == 0
    assert os.listdir(tmp_path) == ["net.npz"]


# Predictors' files that change -------------------------------------------------------------------------


def _predictor(seed):
    return cnnlib.prepare(FullyConnectedNet((500,), input_dim=100, num_classes=3, seed=seed))


@not_on_windows
def test_a_file_that_is_replaced_while_it_is_loaded(tmp_path, monkeypatch):
    """The header of one file and the arrays of another would be a damaged one."""
    path, check = tmp_path / "net", inference.file._check
    old = _predictor(0)
    old.save(path)

    def after_another(*read):
        cnnlib.prepare(FullyConnectedNet((), input_dim=1, num_classes=2)).save(path)
        check(*read)

    monkeypatch.setattr(inference.file, "_check", after_another)
    x = np.ones((2, 100), np.float32)
    np.testing.assert_array_equal(inference.load(path)(x), old(x))


CUT_SHORT = """
    import os, pickle
    import numpy as np
    from cnnlib.inference import load, prepare
    from cnnlib.models import ConvNet
    path, x = "{path}", np.zeros((1, 3, 8, 8), np.float32)
    net = ConvNet([{{"conv": 64}}, "batchnorm", {{"conv": 64}}, "global_avg_pool"], (3, 8, 8), 4, seed=0)
    calls = [
        lambda predictor: predictor(x),
        lambda predictor: predictor(np.zeros((1, 3, 9, 9), np.float32)),
        lambda predictor: predictor.profile(x),
        lambda predictor: pickle.dumps(predictor),
        lambda predictor: predictor.save(path + "2"),
        lambda predictor: predictor.graph_and_params(),
    ]
    for called, call in [(False, calls[0]), *((True, call) for call in calls)]:
        prepare(net).save(path)
        predictor = load(path)
        if called:
            predictor(x)
        os.truncate(path, {size})
        try:
            call(predictor)
            print("ran")
        except ValueError as error:
            print(error)
"""


@linux_only
@pytest.mark.parametrize("size", [0, 64, 9000])
def test_a_file_that_is_cut_short_is_an_error(size, tmp_path):
    """It ended the process with SIGBUS."""
    path = tmp_path / "net"
    printed = run_python(CUT_SHORT.format(path=path, size=size)).splitlines()
    said = f"{path} was cut short after it was loaded: {size} of "
    assert [line[: len(said)] for line in printed] == 7 * [said]


@not_on_windows
def test_a_file_that_is_written_into(tmp_path):
    """`cp` leaves its name to the file that is mapped. The same content again does no harm."""
    path, x = tmp_path / "net", np.ones((2, 100), np.float32)
    _predictor(1).save(path)
    other, _ = path.read_bytes(), path.unlink()
    _predictor(0).save(path)
    predictor, content = inference.load(path), path.read_bytes()
    want = predictor(x)
    path.write_bytes(content)
    os.utime(path, ns=(1, 1))
    np.testing.assert_array_equal(predictor(x), want)
    path.write_bytes(other)
    assert len(other) == len(content)
    os.utime(path, ns=(2, 2))
    with pytest.raises(ValueError, match=f"{path} is damaged: its weights are not what was written"):
        predictor(x)


def test_files_are_closed_with_the_predictor(tmp_path):
    path = tmp_path / "net"
    _predictor(0).save(path)
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None
    for _ in range(10):
        predictor = inference.load(path)
        predictor(np.ones((2, 100)))
    del predictor
    if before is not None:
        assert len(os.listdir("/proc/self/fd")) <= before


# Headers that claim too much ---------------------------------------------------------------------------

GIGABYTE = 1 << 30


@pytest.fixture
def little_memory():
    """As much address space as there is in use, and 300 MB."""
    resource = pytest.importorskip("resource", reason="no limits of this kind here")
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 300_000_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def _zeros(size):
    """Gzip's form of so many zeros: as many members as it takes, each of 16 MB."""
    member = gzip.compress(bytes(1 << 24), 6)
    return member * (size >> 24)


def _tar_header(name, kind, size):
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


@linux_only
@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_archives_whose_member_names_take_a_gigabyte(kind, tmp_path, little_memory):
    path = tmp_path / "data.tar.gz"
    path.write_bytes(gzip.compress(_tar_header("a", kind, GIGABYTE)) + _zeros(GIGABYTE))
    assert path.stat().st_size < 5_000_000
    with pytest.raises(ValueError, match=rf"{path}: the archive is damaged: its headers take more than"):
        unpack(path, tmp_path, ["folder/file"])


@linux_only
def test_archives_with_many_maps_of_holes(tmp_path, little_memory):
    """A sparse file's blocks are listed in its header, 21 in each 512 bytes, as long as these go on."""
    path = tmp_path / "data.tar.gz"
    block = bytearray(_tar_header("a", tarfile.GNUTYPE_SPARSE, 0))
    block[482] = 1  # more of it follows
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    more = (b"00000000001\0" * 42 + b"\1").ljust(512, b"\0")
    path.write_bytes(gzip.compress(bytes(block)) + gzip.compress(more * 20_000) * 20)
    with pytest.raises(ValueError, match=rf"{path}: the archive is damaged: its headers take more than"):
        unpack(path, tmp_path, ["folder/file"])


def _npy(length, version=2):
    count = {1: 2, 2: 4}[version]
    return b"\x93NUMPY" + bytes([version, 0]) + length.to_bytes(count, "little") + b"{'descr': '|u1'"


@linux_only
def test_array_files_whose_header_takes_gigabytes(tmp_path, little_memory):
    for part in ("train", "val"):
        np.save(tmp_path / f"X_{part}.npy", np.zeros((2, 3), np.uint8))
        np.save(tmp_path / f"y_{part}.npy", np.zeros(2, np.uint8))
    load_array_folder(tmp_path)
    (tmp_path / "X_train.npy").write_bytes(_npy(3 * GIGABYTE))
    with pytest.raises(ValueError, match=rf"X_train\.npy .*its header claims {3 * GIGABYTE} bytes"):
        load_array_folder(tmp_path)


@linux_only
def test_checkpoints_whose_header_takes_gigabytes(tmp_path, little_memory):
    path = tmp_path / "net.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("W.npy", _npy(3 * GIGABYTE))
    claims = f"its header claims {3 * GIGABYTE} bytes"
    with pytest.raises(ValueError, match=rf"{path} is damaged.*W\.npy: {claims}"):
        load_checkpoint(path)


@linux_only
@pytest.mark.parametrize("load", [inference.load, safetensors.load], ids=["predictor", "safetensors"])
def test_headers_longer_than_their_file(load, tmp_path, little_memory):
    path, lead = tmp_path / "net", struct.pack("<Q", 3 * GIGABYTE)
    for content in (lead, lead + b" " * 1000):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"{path} is damaged.* {3 * GIGABYTE} bytes"):
            load(path)
    with open(path, "r+b") as file:
        file.truncate(4 * GIGABYTE)  # a hole: it takes no room on the disk
    with pytest.raises(ValueError, match=f"{path} is damaged.* {3 * GIGABYTE} bytes"):
        load(path)


def test_array_files_are_mapped(tmp_path):
    numbers = np.arange(6).reshape(2, 3)
    for number, array in enumerate((numbers / 2, np.asfortranarray(numbers), np.zeros((0, 3)))):
        path = tmp_path / f"{number}.npy"
        np.save(path, array)
        mapped = mapped_array(path)
        np.testing.assert_array_equal(mapped, array)
        assert (mapped.dtype, mapped.flags.f_contiguous) == (array.dtype, array.flags.f_contiguous)
        assert not mapped.flags.writeable
    for content in (b"", b"text", _npy(100), _npy(100, 1), b"\x93NUMPY\3\0" + bytes(100)):
        (tmp_path / "a.npy").write_bytes(content)
        with pytest.raises(ValueError, match=r".+"):
            mapped_array(tmp_path / "a.npy")
    np.save(tmp_path / "a.npy", np.zeros(100))
    os.truncate(tmp_path / "a.npy", 500)
    with pytest.raises(ValueError, match=r".+"):
        mapped_array(tmp_path / "a.npy")
    file = io.BytesIO()
    np.save(file, np.array([{}]), allow_pickle=True)
    (tmp_path / "a.npy").write_bytes(file.getvalue())
    with pytest.raises(ValueError, match="Python objects"):
        mapped_array(tmp_path / "a.npy")


def test_threads_work_ahead_in_order():
    started = []

    def work(k):
        started.append(k)
        if k == 60:
            raise ValueError("the sixtieth")
        return k, threading.current_thread().name

    made = in_order(work, range(100), threads=2)
    names = {next(made)[1]}
    assert max(started) <= 2 * 4  # no further, however long nobody takes one
    for k in range(1, 60):
        number, name = next(made)
        assert number == k
        names.add(name)
    assert all(name.startswith("cnnlib-ahead") for name in names)
    with pytest.raises(ValueError, match="the sixtieth"):
        next(made)
    assert not [thread for thread in threading.enumerate() if thread.name in names]
    assert len(started) < 100
