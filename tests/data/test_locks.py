"""Locks on files and folders, and files that are replaced while others have them open."""

import os
import subprocess
import sys
import textwrap

import pytest
from cnnlib._files import written as _files
from cnnlib._files.written import locked

HOLDER = """
    import sys
    from cnnlib._files.written import locked
    with locked(sys.argv[1]) as held:
        print(held, flush=True)
        sys.stdin.read()
"""


@pytest.fixture(params=["file", "folder"])
def path(request, tmp_path):
    path = tmp_path / "naïve ∂x of α"
    if request.param == "file":
        path.write_bytes(b"content")
    else:
        path.mkdir()
    return path


@pytest.fixture
def holder(path):
    command = [sys.executable, "-c", textwrap.dedent(HOLDER), str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "True\n"
        yield process
        process.kill()


def test_a_lock_of_another_process(path, holder):
    with pytest.raises(BlockingIOError), locked(path):
        pass
    holder.kill()
    holder.wait()
    with locked(path, wait=True) as held:
        assert held


def test_a_lock_goes_with_what_it_is_of(path, holder):
    """The name is somebody else's afterwards."""
    moved = path.with_name("moved")
    os.rename(path, moved)
    path.mkdir()
    with locked(path) as held:
        assert held
    with pytest.raises(BlockingIOError), locked(moved):
        pass


def test_a_locked_file_can_be_read_and_leaves_nothing(path):
    with locked(path):
        if path.is_file():
            assert path.read_bytes() == b"content"
        assert os.listdir(path.parent) == [path.name]
    assert os.listdir(path.parent) == [path.name]


def test_what_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError), locked(tmp_path / "absent"):
        pass


def test_what_a_killed_writer_left_goes_before_the_file_is_there(tmp_path, monkeypatch):
    """Else nobody might remove it where the next writer, the last of this name, is killed soon after."""
    replace = _files._replace

    def alone(new, path):
        assert os.listdir(tmp_path) == [os.path.basename(new)]
        replace(new, path)

    monkeypatch.setattr(_files, "_replace", alone)
    (tmp_path / ".net.0123.tmp").touch()
    with _files.written_whole(tmp_path / "net") as file:
        file.write(b"new")
    assert os.listdir(tmp_path) == ["net"]


@pytest.mark.skipif(sys.platform != "win32", reason="other systems replace files that are open")
def test_a_file_that_another_program_keeps_open(tmp_path, monkeypatch):
    monkeypatch.setattr(_files, "_PATIENCE", 0.1)
    path = tmp_path / "net"
    path.write_bytes(b"old")
    with open(path, "rb"):
        with (
            pytest.raises(PermissionError, match="open in a program") as error,
            _files.written_whole(path) as file,
        ):
            file.write(b"new")
        assert error.value.filename == str(path)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["net"]
    with _files.written_whole(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"
