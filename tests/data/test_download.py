"""Fetching CIFAR-10 from a server of our own: checksum, broken transfers, and archives meant to do harm."""

import functools
import gzip
import hashlib
import io
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cifar_files
import numpy as np
import pytest
from cnnlib.data import download_CIFAR10, load_CIFAR10
from cnnlib.data.download import unpack

pytestmark = pytest.mark.network

WANTED = [f"cifar-10-batches-bin/{name}.bin" for name in cifar_files.BATCHES]


class Server:
    """Serves `files` on the loopback; `break_after` bytes of a reply it hangs up, once."""

    def __init__(self):
        self.files, self.requests = {}, []
        self.break_after = None
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                server.reply(self)

            def log_message(self, *args):
                """The tests look at `requests` instead."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}/"
        self._thread = threading.Thread(
            target=functools.partial(self._http.serve_forever, poll_interval=0.01)
        )
        self._thread.start()

    def reply(self, handler):
        self.requests.append(handler.path)
        content = self.files.get(handler.path.lstrip("/"))
        if content is None:
            return handler.send_error(404)
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        stop, self.break_after = self.break_after, None
        handler.wfile.write(content[:stop])

    def close(self):
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


@pytest.fixture
def server(monkeypatch):
    pytest.importorskip("pooch", reason="download_CIFAR10 is built on pooch")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = Server()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)


@pytest.fixture
def archive(tmp_path):
    """Small CIFAR-10 archives as bytes: archive(layout)."""

    def archive(layout):
        folder = cifar_files.write_layout(tmp_path / "source" / layout, layout)
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w:gz") as tar:
            tar.add(folder, folder.name)
        return content.getvalue()

    return archive


def md5(content):
    return hashlib.md5(content).hexdigest()


needs_data_filter = pytest.mark.skipif(
    not hasattr(tarfile, "data_filter"), reason="what this Python lacks, unpack needs"
)


class TestDownload:
    @needs_data_filter
    @pytest.mark.parametrize("layout", ["python", "binary"])
    def test_whole_way(self, server, archive, tmp_path, layout):
        name = f"cifar-10-{layout}.tar.gz"
        server.files[f"mirror/{name}"] = content = archive(layout)
        dest = tmp_path / "new" / "data"
        got = download_CIFAR10(dest, layout, base_url=server.url + "mirror", md5=md5(content), progress=False)
        assert got == dest / cifar_files.FOLDER[layout]
        assert [path.name for path in dest.iterdir()] == [got.name]  # no archive, no scratch is left
        X_train, *_ = load_CIFAR10(dest)
        np.testing.assert_array_equal(X_train[:20].reshape(20, -1), cifar_files.batch("data_batch_1")[0])

        assert download_CIFAR10(dest, layout, base_url=server.url + "mirror", progress=False) == got
        assert len(server.requests) == 1  # what is there is not fetched again

    def test_default_place(self, server, archive, tmp_path, monkeypatch):
        server.files["cifar-10-python.tar.gz"] = content = archive("python")
        monkeypatch.setenv("CNNLIB_DATA", str(tmp_path / "default"))
        download_CIFAR10(base_url=server.url, md5=md5(content), progress=False)
        assert load_CIFAR10(tmp_path / "default")[0].shape == (100, 3, 32, 32)

    def test_a_folder_of_the_users_home(self, server, archive, tmp_path, monkeypatch):
        for name in ("HOME", "USERPROFILE"):
            monkeypatch.setenv(name, str(tmp_path / "home"))
        monkeypatch.chdir(tmp_path)
        server.files["cifar-10-python.tar.gz"] = content = archive("python")
        got = download_CIFAR10("~/data", base_url=server.url, md5=md5(content), progress=False)
        assert got == tmp_path / "home" / "data" / "cifar-10-batches-py"
        assert not (tmp_path / "~").exists()

    def test_published_checksum_is_asked_for(self, server, archive, tmp_path):
        server.files["cifar-10-binary.tar.gz"] = archive("binary")
        with pytest.raises(
            ValueError, match=r"cifar-10-binary.tar.gz from http.*c32a1d4ab5d03f1284b67883e8d87530"
        ):
            download_CIFAR10(tmp_path / "data", "binary", base_url=server.url, progress=False)
        assert list((tmp_path / "data").iterdir()) == []
        server.files["cifar-10-python.tar.gz"] = archive("python")
        with pytest.raises(ValueError, match="c58f30108f718f92721af3b95e74349a"):
            download_CIFAR10(tmp_path / "data", base_url=server.url, progress=False)

    def test_missing_on_the_server(self, server, tmp_path):
        with pytest.raises(ConnectionError, match=r"cannot download http://.*404"):
            download_CIFAR10(tmp_path, base_url=server.url, progress=False)
        assert len(set(server.requests)) == 1

    def test_no_server(self, server, tmp_path):
        server.close()
        with pytest.raises(ConnectionError, match="cannot download"):
            download_CIFAR10(tmp_path, base_url=server.url, progress=False)

    def test_unknown_layout(self, tmp_path):
        with pytest.raises(ValueError, match="layout must be 'python' or 'binary', got 'matlab'"):
            download_CIFAR10(tmp_path, "matlab")

    def test_progress_is_reported(self, server, archive, tmp_path, capsys, monkeypatch):
        server.files["cifar-10-python.tar.gz"] = content = archive("python")
        monkeypatch.setitem(__import__("sys").modules, "tqdm", None)
        download_CIFAR10(tmp_path / "data", base_url=server.url, md5=md5(content))
        out, err = capsys.readouterr()
        assert not out
        assert err.startswith("cifar-10-python.tar.gz: ")
        assert err.endswith(f"of {len(content) / 1e6:.0f} MB\n")


class TestBrokenTransfers:
    def fetch(self, server, content, dest):
        server.files["cifar-10-binary.tar.gz"] = content
        return download_CIFAR10(dest, "binary", base_url=server.url, md5=md5(content), progress=False)

    def test_begins_anew(self, server, archive, tmp_path):
        server.break_after = 3000
        assert self.fetch(server, archive("binary"), tmp_path / "data").is_dir()
        assert len(server.requests) == 2

    def test_gives_up_and_leaves_nothing(self, server, archive, tmp_path, monkeypatch):
        reply = server.reply

        def broken(handler):
            server.break_after = 1000
            reply(handler)

        monkeypatch.setattr(server, "reply", broken)
        with pytest.raises(ConnectionError, match=r"cannot download http://.*cifar-10-binary\.tar\.gz"):
            self.fetch(server, archive("binary"), tmp_path / "data")
        assert len(server.requests) == 3
        assert list((tmp_path / "data").iterdir()) == []


def tar_of(path, *members, content=b"x"):
    """Write a tar.gz with the six wanted files and `members`: TarInfo objects or names."""
    with tarfile.open(path, "w:gz") as tar:
        for member in (*WANTED, *members):
            info = tarfile.TarInfo(member) if isinstance(member, str) else member
            info.size = len(content) if info.isfile() else 0
            tar.addfile(info, io.BytesIO(content) if info.isfile() else None)
    return path


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@needs_data_filter
class TestUnpack:
    @pytest.fixture
    def dest(self, tmp_path):
        (tmp_path / "dest").mkdir()
        return tmp_path / "dest"

    def test_plain_archive(self, tmp_path, dest):
        odd = tarfile.TarInfo("./cifar-10-batches-bin/readme.html")
        odd.mode, odd.uid = 0o6777, 12345
        unpack(tar_of(tmp_path / "a.tar.gz", odd), dest, WANTED)
        files = sorted(path.relative_to(dest).as_posix() for path in dest.rglob("*") if path.is_file())
        assert files == sorted([*WANTED, "cifar-10-batches-bin/readme.html"])
        assert all((dest / name).read_bytes() == b"x" for name in files)
        assert not (dest / "cifar-10-batches-bin/readme.html").stat().st_mode & 0o7022

    @pytest.mark.parametrize(
        ("member", "complaint"),
        [
            ("../escaped", "outside the destination"),
            ("cifar-10-batches-bin/../../escaped", "outside the destination"),
            ("/tmp/escaped", "is not in cifar-10-batches-bin"),
            ("C:/escaped", "is not in cifar-10-batches-bin"),
            ("other-folder/file", "is not in cifar-10-batches-bin"),
            ("file", "is not in cifar-10-batches-bin"),
            (special("cifar-10-batches-bin/link", tarfile.SYMTYPE, "/etc"), "absolute path"),
            (special("cifar-10-batches-bin/in", tarfile.SYMTYPE, "link"), "is a link or a special file"),
            (
                special("cifar-10-batches-bin/hard", tarfile.LNKTYPE, "../../target"),
                "outside the destination",
            ),
            (special("cifar-10-batches-bin/fifo", tarfile.FIFOTYPE), "is a special file"),
            (special("cifar-10-batches-bin/device", tarfile.CHRTYPE), "is a special file"),
            (".", "is not in cifar-10-batches-bin"),
            ("", "is not in cifar-10-batches-bin"),
            ("cifar-10-batches-bin", "directory"),
            (f"{WANTED[0]}/inside", "director|File exists"),
            ("cifar-10-batches-bin/" + 300 * "x", "too long"),
        ],
    )
    def test_harmful_member(self, tmp_path, dest, member, complaint):
        archive = tar_of(tmp_path / "a.tar.gz", member)
        with pytest.raises((ValueError, OSError), match=f"(a.tar.gz: )?.*({complaint})"):
            unpack(archive, dest, WANTED)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar.gz", "dest"]
        assert list(dest.iterdir()) == []

    def test_bomb(self, tmp_path, dest):
        huge = tarfile.TarInfo("cifar-10-batches-bin/huge")
        huge.size = 1 << 40
        with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
            tar.addfile(tarfile.TarInfo(WANTED[0]))
            tar.fileobj.write(huge.tobuf())
        with pytest.raises(ValueError, match="unexpected end of data"):
            unpack(tmp_path / "a.tar.gz", dest, WANTED)

    def test_too_many_members(self, tmp_path, dest):
        archive = tar_of(tmp_path / "a.tar.gz", *[f"cifar-10-batches-bin/{i}" for i in range(200)])
        with pytest.raises(ValueError, match="unpacks to more than CIFAR-10 holds"):
            unpack(archive, dest, WANTED)

    def test_archive_without_a_batch(self, tmp_path, dest):
        with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
            for name in WANTED[:-1]:
                tar.addfile(tarfile.TarInfo(name))
        with pytest.raises(ValueError, match=r"the archive lacks cifar-10-batches-bin/test_batch\.bin"):
            unpack(tmp_path / "a.tar.gz", dest, WANTED)

    @pytest.mark.parametrize(
        "damage",
        [
            lambda content: b"plain text",
            lambda content: content[: len(content) // 2],
            lambda content: content[:40] + bytes(40) + content[80:],
            lambda content: content[:5000] + b"\xff" * 500 + content[5500:],
        ],
        ids=["text", "short", "head", "middle"],
    )
    def test_damaged_archive(self, tmp_path, dest, damage):
        words = " ".join(map(str, np.random.default_rng(0).integers(0, 1000, 20_000)))
        path = tar_of(tmp_path / "a.tar.gz", content=words.encode())
        path.write_bytes(damage(path.read_bytes()))
        with pytest.raises(ValueError, match=r"a\.tar\.gz: the archive (is damaged|lacks)"):
            unpack(path, dest, WANTED)
        assert list(dest.iterdir()) == []

    def test_headers_that_lead_astray(self, tmp_path, dest):
        """A negative size, a pax header with a size that is no number, a chain of headers without an end."""
        negative = tarfile.TarInfo("cifar-10-batches-bin/x")
        negative.size = -1024
        text = b"16 size=unknown\n"
        pax = special("pax", tarfile.XHDTYPE)
        pax.size = len(text)
        link = special("longname", tarfile.GNUTYPE_LONGNAME)
        for headers in (
            negative.tobuf(tarfile.GNU_FORMAT),
            pax.tobuf() + text.ljust(512, b"\0") + tarfile.TarInfo(WANTED[0]).tobuf(),
            5000 * link.tobuf(),
        ):
            path = tmp_path / "a.tar.gz"
            path.write_bytes(gzip.compress(headers + bytes(1024)))
            with pytest.raises(ValueError, match=r"a\.tar\.gz: (the archive|member)"):
                unpack(path, dest, WANTED)
            assert list(dest.iterdir()) == []

    @pytest.mark.parametrize("way", ["file", "folder", "dangling link"])
    def test_what_is_in_the_way_is_named(self, tmp_path, dest, way):
        folder = dest / "cifar-10-batches-bin"
        if way == "file":
            folder.write_text("mine")
        elif way == "folder":
            (folder / "data_batch_3.bin").mkdir(parents=True)
        else:
            folder.symlink_to(tmp_path / "nowhere")
        before = sorted(dest.rglob("*"))
        with pytest.raises(ValueError, match=r"a\.tar\.gz: .*cifar-10-batches-bin.* is in the way of"):
            unpack(tar_of(tmp_path / "a.tar.gz"), dest, WANTED)
        assert sorted(dest.rglob("*")) == before

    def test_older_files_are_replaced(self, tmp_path, dest):
        (dest / "cifar-10-batches-bin").mkdir()
        (dest / WANTED[2]).write_bytes(b"old and short")
        unpack(tar_of(tmp_path / "a.tar.gz"), dest, WANTED)
        assert (dest / WANTED[2]).read_bytes() == b"x"
