"""Folders that one process has to itself, locks of files, files that are replaced while they are open."""

import contextlib
import importlib.util
import os
import subprocess
import sys
import textwrap
import threading

import pytest
from cnnlib._files import written
from cnnlib._files.exclusive import LOCK_FILE, exclusive
from cnnlib._files.locks import locked

pytestmark = pytest.mark.windows

HOLDER = """
    import sys
    from cnnlib._files.exclusive import exclusive
    from cnnlib._files.locks import locked
    kind, path = sys.argv[1:]
    with exclusive(path) if kind == "folder" else locked(path, "the test", "images"):
        print("held", flush=True)
        sys.stdin.read()
"""
filelock_only = pytest.mark.skipif(
    importlib.util.find_spec("filelock") is None, reason="these are filelock's locks"
)


@contextlib.contextmanager
def held_elsewhere(kind, path):
    """The lock of another process, which is yielded."""
    command = [sys.executable, "-c", textwrap.dedent(HOLDER), kind, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "naïve ∂x of α"
    folder.mkdir()
    return folder


class TestFolder:
    def test_another_process_has_it(self, folder):
        with held_elsewhere("folder", folder) as holder:
            with pytest.raises(BlockingIOError, match="another process has it"), exclusive(folder):
                pass
            holder.kill()  # its lock ends with it
            holder.wait()
            with exclusive(folder) as held:
                assert held is True

    def test_another_block_or_thread_of_this_process_has_it(self, folder):
        refused = []

        def ask():
            with contextlib.suppress(BlockingIOError), exclusive(folder):
                return
            refused.append(True)

        with exclusive(folder):
            ask()
            thread = threading.Thread(target=ask)
            thread.start()
            thread.join()
        assert refused == [True, True]
        with exclusive(folder) as held:
            assert held

    def test_the_lock_goes_with_the_folder(self, folder):
        """The name is somebody else's afterwards."""
        if sys.platform == "win32":
            pytest.skip("Windows moves no folder in which a file is open")
        with held_elsewhere("folder", folder):
            moved = folder.with_name("moved")
            os.rename(folder, moved)
            folder.mkdir()
            with exclusive(folder) as held:
                assert held
            with pytest.raises(BlockingIOError), exclusive(moved):
                pass

    def test_one_empty_file_stays(self, folder):
        for _ in range(2):
            with exclusive(folder):
                assert os.listdir(folder) == [LOCK_FILE]
        with held_elsewhere("folder", folder) as holder:
            holder.kill()
        assert [(path.name, path.stat().st_size) for path in folder.iterdir()] == [(LOCK_FILE, 0)]

    def test_an_error_in_the_block_is_its_own_and_ends_the_lock(self, folder):
        with pytest.raises(BlockingIOError, match="mine"), exclusive(folder):
            raise BlockingIOError("mine")
        with exclusive(folder) as held:
            assert held

    def test_what_is_not_there(self, folder):
        with pytest.raises(FileNotFoundError), exclusive(folder / "absent"):
            pass
        assert not list(folder.iterdir())

    def test_where_no_file_can_be_made(self, folder):
        (folder / LOCK_FILE).mkdir()
        with (
            pytest.raises(
                OSError, match=r"its \.lock cannot be locked \(unable to open database file\)"
            ) as caught,
            exclusive(folder),
        ):
            pass
        assert caught.value.filename == str(folder)

    def test_a_python_without_sqlite_says_that_it_keeps_nobody_out(self, folder, monkeypatch):
        monkeypatch.setitem(sys.modules, "sqlite3", None)
        with exclusive(folder) as held:
            assert held is False
        assert not list(folder.iterdir())

    @pytest.mark.parametrize("said", ["disk I/O error", "locking protocol"])
    def test_so_does_a_file_system_without_locks(self, folder, monkeypatch, said):
        import sqlite3

        closed = []

        class Connection:
            def execute(self, statement):
                raise sqlite3.OperationalError(said)

            def close(self):
                closed.append(True)

        monkeypatch.setattr(sqlite3, "connect", lambda *args, **options: Connection())
        with exclusive(folder) as held:
            assert held is False
        assert closed == [True]


@filelock_only
class TestFile:
    def test_another_process_holds_it(self, tmp_path):
        path = tmp_path / "α.lock"
        with held_elsewhere("file", path) as holder:
            with pytest.raises(BlockingIOError, match="is locked"), locked(path, "the test", "images"):
                pass
            told = []

            def waits():
                told.append(True)
                holder.kill()

            with locked(path, "the test", "images", waits):
                assert told == [True]

    def test_another_block_of_this_process_holds_it(self, tmp_path):
        path = tmp_path / "a.lock"
        for _ in range(2):
            with locked(path, "the test", "images"), pytest.raises(BlockingIOError):
                with locked(path, "the test", "images"):
                    pass

    def test_nobody_waits_for_a_free_one(self, tmp_path):
        with locked(tmp_path / "a.lock", "the test", "images", lambda: pytest.fail("it is free")):
            pass


def test_without_filelock_the_message_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "filelock", None)
    message = r"^the test needs filelock: pip install cnnlib\[images\]$"
    with pytest.raises(ImportError, match=message), locked(tmp_path / "a.lock", "the test", "images"):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform != "win32", reason="other systems replace files that are open")
def test_a_file_that_another_program_keeps_open(tmp_path, monkeypatch):
    monkeypatch.setattr(written, "_PATIENCE", 0.1)
    path = tmp_path / "net"
    path.write_bytes(b"old")
    with open(path, "rb"):
        with (
            pytest.raises(PermissionError, match="open in a program") as error,
            written.written_whole(path) as file,
        ):
            file.write(b"new")
        assert error.value.filename == str(path)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["net"]
    with written.written_whole(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"
