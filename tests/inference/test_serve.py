"""``cnnlib serve``: answers equal to those of ``cnnlib predict``, limits, concurrent requests, the stop."""

import asyncio
import concurrent.futures
import contextlib
import http.client
import importlib.util
import io
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from dataclasses import replace
from pathlib import Path

import cnnlib
import numpy as np
import pytest
from cnnlib.cli.main import build_parser, main
from cnnlib.data import Normalization
from cnnlib.models import ConvNet
from detectors import NAMES, photo, square_net
from helpers import refused

Image = pytest.importorskip("PIL.Image", reason="Pillow reads image files")
if any(importlib.util.find_spec(name) is None for name in ("starlette", "uvicorn", "python_multipart")):
    pytest.skip("the server is Starlette's and uvicorn's", allow_module_level=True)

from cnnlib.cli.run.trained import open_trained  # noqa: E402
from cnnlib.cli.server.app import Server  # noqa: E402
from cnnlib.cli.server.batching import Batcher, Limits  # noqa: E402
from cnnlib.cli.server.listening import bound_socket, uvicorn_server  # noqa: E402
from cnnlib.detection import DetectionHead, Detector  # noqa: E402

pytestmark = pytest.mark.network

SMALL = Limits(body_bytes=200_000, pixels=100_000, images=3, seconds=100, waiting=64, batch=8)
FUZZ = Path(__file__).parents[1] / "fuzz" / "server.py"


@pytest.fixture(autouse=True)
def threads_put_back(num_threads):
    """Options of the command that run in this process must not reach the other tests."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model in every kind of file that is served, and some photos."""
    folder = tmp_path_factory.mktemp("served")
    net = ConvNet("resnet8", (3, 16, 20), 3, seed=0)
    net.preprocess, net.classes = Normalization([120, 110, 100], [60, 61, 62]), ("ant", "bee", "<b>&")
    net.save(folder / "model.npz")
    cnnlib.prepare(net).save(folder / "model.cnnlib")
    rng = np.random.default_rng(0)
    for n in range(24):
        pixels = rng.integers(0, 256, (30 + n, 40 - n % 9, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{n}.png")
    return folder


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A run's folder, and its checkpoint."""
    run = tmp_path_factory.mktemp("digits") / "run"
    tiny = ["--num-filters", "2", "--hidden-dim", "4", "--threads", "1", "--num-epochs", "1"]
    with contextlib.redirect_stdout(io.StringIO()):
        assert main(["train", *tiny, "--out", str(run)]) == 0
    return run


@pytest.fixture(scope="module")
def trained(folder):
    return open_trained(folder / "model.npz")


@contextlib.contextmanager
def serving(trained, limits=SMALL, predict=None, detector=None):
    """The server in a thread; its port."""
    server = Server(trained, "model", limits=limits, predict=predict, detector=detector)
    uvicorn = uvicorn_server(server.app(), limits)
    with bound_socket("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        thread = threading.Thread(target=uvicorn.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield port
        finally:
            uvicorn.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def port(trained):
    with serving(trained) as port:
        yield port


def ask(port, body=None, path="/predict", method=None, **headers):
    """Status, headers and JSON of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        connection.request(method or ("GET" if body is None else "POST"), path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, json.loads(answer.read())
    finally:
        connection.close()


def asked_until_answered(port):
    """How often, where a busy machine takes longer than the server's limit."""
    statuses = []
    while 200 not in statuses:
        assert len(statuses) < 50, statuses
        statuses.append(ask(port, png((9, 9)))[0])
    return len(statuses)


def form(files, boundary="b o u n d"):
    """A form with files, and its headers."""
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n\r\n'.encode()
        + content
        + b"\r\n"
        for name, content in files
    ]
    body = b"".join(parts) + f"--{boundary}--\r\n".encode()
    return body, {"content_type": f'multipart/form-data; boundary="{boundary}"'}


def test_an_answer_leaves_at_once():
    """A client confirms headers after 40 ms: the body must not wait for that."""
    with bound_socket("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def command_line(capsys, *arguments):
    assert main(["predict", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def held_prediction(trained):
    """A prediction that waits for the event and lists how many images each call got."""
    go, sizes = threading.Event(), []

    def held(images):
        sizes.append(len(images))
        assert go.wait(300)
        return trained.probabilities(images)

    return held, go, sizes


class TestAnswers:
    @pytest.mark.parametrize("kind", ["model.npz", "model.cnnlib", "model.onnx"])
    def test_equal_those_of_the_command_line(self, folder, capsys, kind):
        path = folder / kind
        if kind == "model.onnx":
            pytest.importorskip("onnx", reason="it writes and reads the file")
            cnnlib.onnx.save(cnnlib.load(folder / "model.npz"), path)
        files = sorted(folder.glob("*.png"))[:3]
        want = command_line(capsys, path, *files, "--top", 3)
        with serving(open_trained(path)) as port:
            body, headers = form([(str(file), file.read_bytes()) for file in files])
            assert ask(port, body, **headers)[::2] == (200, want)
            for file, row in zip(files, want, strict=True):
                status, _, (got,) = ask(port, file.read_bytes())
                assert (status, got) == (200, {**row, "file": None})
        assert {p["class"] for p in want[0]["predictions"]} == {"ant", "bee", "<b>&"}

    def test_a_large_file_in_a_form(self, trained):
        """Starlette puts what is larger than a megabyte into a temporary file."""
        buffer = io.BytesIO()
        pixels = np.random.default_rng(0).integers(0, 256, (800, 800, 3), np.uint8)
        Image.fromarray(pixels).save(buffer, "BMP")
        content = buffer.getvalue()
        assert len(content) > 2**20
        body, headers = form([("large.bmp", content), ("small.png", png((9, 9)))])
        with serving(trained, Limits()) as port:
            want = [ask(port, part)[2][0]["predictions"] for part in (content, png((9, 9)))]
            status, _, rows = ask(port, body, **headers)
        assert status == 200
        assert [row["file"] for row in rows] == ["large.bmp", "small.png"]
        assert [row["predictions"] for row in rows] == want

    @pytest.mark.parametrize("what", ["folder", "checkpoint"])
    def test_of_a_run_that_saw_writing(self, digits, tmp_path, capsys, what):
        path = next(digits.glob("*.npz")) if what == "checkpoint" else digits
        file = tmp_path / "seven.png"
        pixels = np.full((60, 50), 230, np.uint8)
        pixels[10:14, 10:40] = pixels[14:50, 30:34] = 20
        Image.fromarray(pixels).save(file)
        (want,) = command_line(capsys, path, file, "--top", 4)
        with serving(open_trained(path)) as port:
            assert ask(port, file.read_bytes(), "/predict?top=4")[2][0]["predictions"] == want["predictions"]

    def test_classes_whose_names_are_no_text(self, trained, folder):
        """As those of folders may be."""
        classes = ("no text \udcff", "猫", "a\nb")
        with serving(replace(trained, classes=classes)) as port:
            status, _, rows = ask(port, (folder / "0.png").read_bytes())
            assert status == 200
            assert {row["class"] for row in rows[0]["predictions"]} == set(classes)
            assert ask(port, path="/model")[2]["classes"] == list(classes)

    def test_concurrent_requests_have_the_bits_of_single_ones(self, trained, folder):
        """The first call is held until others wait, so that the next ones are batches."""
        contents = [file.read_bytes() for file in sorted(folder.glob("*.png"))]
        with serving(trained) as port:
            want = [ask(port, content)[2] for content in contents]
            assert ask(port, path="/health")[2]["calls"] == len(contents)
        held, go, sizes = held_prediction(trained)
        with serving(trained, predict=held) as port, concurrent.futures.ThreadPoolExecutor(64) as clients:
            answers = clients.map(lambda content: ask(port, content)[2], contents)
            while ask(port, path="/health")[2]["waiting"] < len(contents) - SMALL.batch:
                time.sleep(0.01)
            go.set()
            assert list(answers) == want
        assert max(sizes) == SMALL.batch
        assert sum(sizes) == len(contents)

    def test_an_idle_predictor_may_wait_for_a_batch(self, trained, folder):
        contents = [(folder / f"{n}.png").read_bytes() for n in range(3)]
        limits = Limits(batch=3, batch_seconds=20)
        with serving(trained, limits) as port, concurrent.futures.ThreadPoolExecutor(3) as clients:
            assert all(len(answer[2]) == 1 for answer in clients.map(lambda c: ask(port, c), contents))
            assert ask(port, path="/health")[2] == {
                "status": "ok", "answered": 3, "waiting": 0, "images": 3, "calls": 1,
            }  # fmt: skip

    def test_the_softmax_at_a_networks_end_is_not_taken_twice(self, tmp_path, capsys):
        onnx = pytest.importorskip("onnx", reason="it writes the file")
        model = onnx.parser.parse_model(
            """
            <ir_version: 10, opset_import: ["": 21]>
            net (float[N, 3, 4, 4] images) => (float[N, 3] y) {
                p = GlobalAveragePool(images)
                f = Flatten(p)
                y = Softmax<axis = 1>(f)
            }"""
        )
        onnx.save(model, tmp_path / "net.onnx")
        Image.new("RGB", (4, 4), (255, 0, 51)).save(tmp_path / "a.png")
        command = ["predict", tmp_path / "net.onnx", tmp_path / "a.png"]
        assert "give --mean and --std" in refused(capsys, *command)
        (tmp_path / "names.txt").write_text("red\ngreen\nblue\n", encoding="utf-8-sig")
        told = ["--mean", "0", "--std", "255", "--classes", tmp_path / "names.txt"]
        (row,) = command_line(capsys, tmp_path / "net.onnx", tmp_path / "a.png", *told, "--top", 3)
        powers = np.exp([1, 0.2, 0])
        assert [p["class"] for p in row["predictions"]] == ["red", "blue", "green"]
        got = [p["probability"] for p in row["predictions"]]
        np.testing.assert_allclose(got, powers / powers.sum(), rtol=1e-6)
        for options, message in (
            (["--mean", "0"], "go together"),
            (["--mean", "1,2", "--std", "1,2"], "images of 3 channels, but means of 2"),
            (["--mean", "a", "--std", "1"], "numbers with commas"),
            ([*told[:4], "--classes", tmp_path / "a"], "No such file"),
        ):
            assert message in refused(capsys, *command, *options)
        (tmp_path / "names.txt").write_text("red\n")
        assert "1 names for the 3 classes" in refused(capsys, *command, *told)

    def test_what_a_file_says_is_not_said_twice(self, folder, digits, capsys):
        for path in (folder / "model.npz", folder / "model.cnnlib", digits):
            message = refused(capsys, "predict", path, folder, "--mean", "1", "--std", "2")
            assert "says itself how its images are normalised" in message


class TestObjects:
    """A server of a network that finds objects."""

    @pytest.fixture(params=["detect", "segment", "pose"])
    def finder(self, request, tmp_path):
        """The file of a network, and photos."""
        square_net(request.param).save(tmp_path / "net.npz")
        for name, pixels in {
            "a": photo(4, 12, 0),
            "b": photo(8, 8, 1, scale=3),
            "no": 0 * photo(0, 0, 0),
        }.items():
            Image.fromarray(pixels.transpose(1, 2, 0)).save(tmp_path / f"{name}.png")
        return tmp_path / "net.npz"

    def test_answers_equal_those_of_the_command_line(self, finder, capsys):
        files = sorted(finder.parent.glob("*.png"))
        want = command_line(capsys, finder, *files)
        assert [len(row["objects"]) for row in want] == [1, 1, 0]
        trained = open_trained(finder)
        with serving(trained, detector=Detector(trained.model)) as port:
            body, headers = form([(str(file), file.read_bytes()) for file in files])
            assert ask(port, body, **headers)[::2] == (200, want)
            for file, row in zip(files, want, strict=True):
                assert ask(port, file.read_bytes())[::2] == (200, [{**row, "file": None}])
            assert ask(port, path="/model")[2] == {
                "name": "model", "classes": list(NAMES), "shape": [3, 32, 32], "task": "objects", "top": 3,
                "cnnlib": cnnlib.__version__,
            }  # fmt: skip
            status, _, content = ask(port, files[0].read_bytes(), "/predict?top=2")
            assert (status, content) == (400, {"error": "top means nothing to a model of objects"})
            assert ask(port, b"?")[0] == 400

    def test_concurrent_requests_go_through_the_network_together(self, tmp_path):
        """The first call is held until the others wait."""
        square_net().save(tmp_path / "net.npz")
        trained = open_trained(tmp_path / "net.npz")
        photos = [photo(k, 24 - k, k % 3) for k in range(20)]
        contents, sizes, go = [png_of(pixels) for pixels in photos], [], threading.Event()

        def held(images):
            sizes.append(len(images))
            assert go.wait(300)
            return trained.model(images)

        detector = Detector(held, head=trained.model.detection)
        detector.net.preprocess = trained.normalization
        with (
            serving(trained, detector=detector) as port,
            concurrent.futures.ThreadPoolExecutor(32) as clients,
        ):
            answers = clients.map(lambda content: ask(port, content)[2], contents)
            while ask(port, path="/health")[2]["waiting"] < len(contents) - SMALL.batch:
                time.sleep(0.01)
            go.set()
            found = [content[0]["objects"] for content in answers]
        assert found == [result.described() for result in cnnlib.detect(trained.model, photos)]
        assert max(sizes) == SMALL.batch

    def test_the_command(self, tmp_path, capsys):
        square_net().save(tmp_path / "net.npz")
        dark = (photo(4, 12, 0) * 0.6).astype(np.uint8)
        for options, count in (([], 1), (["--score", "0.7"], 0)):
            command = [sys.executable, "-m", "cnnlib", "serve", tmp_path / "net.npz", "--port", "0", *options]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
                try:
                    first, second = process.stdout.readline(), process.stdout.readline()
                    assert first.endswith("net.npz: 3 classes, images of 3x32x32\n")
                    (row,) = ask(int(re.search(r":(\d+)/", second)[1]), png_of(dark))[2]
                finally:
                    process.kill()
            assert len(row["objects"]) == count
        message = refused(capsys, "serve", tmp_path / "net.npz", "--top", "3")
        assert "--top means nothing to a model of objects" in message
        net = square_net()
        net.detection = DetectionHead(NAMES[:2])
        net.save(tmp_path / "wrong.npz")
        assert "the boxes of 2 classes" in refused(capsys, "serve", tmp_path / "wrong.npz")

    def test_options_of_objects_for_classes(self, folder, capsys):
        for option in ("--score", "--overlap"):
            message = refused(capsys, "serve", folder / "model.npz", option, "0.5")
            assert f"{option} means nothing to a model of classes" in message


class TestPagesAndPaths:
    @pytest.mark.parametrize("path", ["/", "/page.css", "/page.js"])
    def test_the_page(self, port, path):
        kind = {"": "html", "css": "css", "js": "javascript"}[path.rpartition(".")[2].strip("/")]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as answer:
            assert kind in answer.headers["content-type"]
            assert "default-src 'none'" in answer.headers["content-security-policy"]
            assert answer.read()

    def test_the_script_finds_what_it_looks_for(self, port):
        pages = (urllib.request.urlopen(f"http://127.0.0.1:{port}/{name}") for name in ("", "page.js"))
        html, script = (page.read().decode() for page in pages)
        wanted = set(re.findall(r'at\("(\w+)"\)', script))
        assert {"drop", "file", "error", "answers"} <= wanted
        assert wanted <= set(re.findall(r'id="(\w+)"', html))
        assert "innerHTML" not in script  # names of files and classes are not HTML

    def test_the_model(self, port):
        assert ask(port, path="/model")[2] == {
            "name": "model", "classes": ["ant", "bee", "<b>&"], "shape": [3, 16, 20], "task": "classes",
            "top": 3, "cnnlib": cnnlib.__version__,
        }  # fmt: skip

    def test_other_paths(self, port):
        assert ask(port, path="/nothing")[0] == 404
        status, headers, _ = ask(port, path="/predict")
        assert (status, headers["allow"]) == (405, "POST")


def png(size, mode="1"):
    return _png(Image.new(mode, size))


def png_of(pixels):
    """A file of pixels (3, H, W)."""
    return _png(Image.fromarray(pixels.transpose(1, 2, 0)))


def _png(image):
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def named(name, charset):
    """A form whose file is no image, with its name in a charset."""
    body, headers = form([(name, b"?")])
    return body, {"content_type": f"{headers['content_type']}; charset={charset}"}


class TestRefusals:
    @pytest.mark.parametrize(
        ("body", "headers", "status", "message"),
        [
            (b"", {}, 400, "no image in the request"),
            (b"text", {}, 400, "the request's body cannot be read as an image: it is none of PNG, JPEG"),
            (png((9, 9))[:40], {}, 400, "cannot be read as an image"),
            (png((500, 300)), {}, 400, "500 x 300 pixels are more than 0.1 million"),
            (b"P6 1 1 255\nabc", {}, 400, "it is none of PNG, JPEG"),  # Pillow could read it
            (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", {}, 400, "it is none of PNG, JPEG"),
            (b"--x\r\n", {"content_type": "multipart/form-data"}, 400, "the form cannot be read"),
            (b"junk", {"content_type": "multipart/form-data; boundary=x"}, 400, "the form cannot be read"),
            (form([])[0], form([])[1], 400, "no image"),
            (*form([(f"{n}.png", png((9, 9))) for n in range(4)]), 400, "the form cannot be read: Too many"),
            (*form([("ä.png", png((9, 9))), ("b.png", b"?")]), 400, "b.png cannot be read"),
            (*named(r"\ud800.png", "unicode_escape"), 400, "?.png cannot be read"),
            (*named("a.png", "undefined"), 400, "a name is not in its charset"),
            (bytes(200_001), {}, 413, "larger than 0.19"),
            (iter([bytes(150_000), bytes(60_000)]), {}, 413, "larger than 0.19"),  # chunked: no length
        ],
        ids=[
            "nothing", "text", "cut", "pixels", "ppm", "eps", "no boundary", "no form", "empty form",
            "files", "one of two", "half a character", "charset", "length", "chunks",
        ],
    )  # fmt: skip
    def test_malformed_or_too_large(self, port, body, headers, status, message):
        got, _, content = ask(port, body, **headers)
        assert got == status
        assert message in content["error"]
        assert ask(port, path="/health")[0] == 200

    @pytest.mark.parametrize("top", ["0", "-1", "x", "", "٣"])
    def test_top(self, port, top):
        path = f"/predict?top={urllib.request.quote(top)}"
        status, _, content = ask(port, png((9, 9)), path)
        assert status == 400
        assert "top must be a number above 0" in content["error"]

    def test_a_refused_client_still_reads_its_answer(self, port):
        """Most of what it sends comes after the answer; to close at once would reset the connection."""
        head = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 5000000\r\n\r\n"
        with socket.create_connection(("127.0.0.1", port), timeout=300) as client:
            client.sendall(head)
            for _ in range(50):
                client.sendall(bytes(100_000))
            answer = b"".join(iter(lambda: client.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"connection: close" in answer

    def test_bodies_of_all_requests_together(self, trained):
        """Sixteen clients hold nearly all the bytes there are; another is refused until they go."""
        limits = Limits(body_bytes=100_000, seconds=100)
        head = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n"
        with serving(trained, limits) as port, contextlib.ExitStack() as held:
            for _ in range(16):
                client = held.enter_context(socket.create_connection(("127.0.0.1", port)))
                client.sendall(head + bytes(99_999))
            deadline = time.monotonic() + 90
            while (answer := ask(port, png((9, 9)) + bytes(90_000)))[0] == 200:
                assert time.monotonic() < deadline
            assert answer[0] == 503
            assert "holds as many bytes" in answer[2]["error"]
            held.close()
            while ask(port, png((9, 9)) + bytes(90_000))[0] != 200:
                assert time.monotonic() < deadline


def test_thin_writing_takes_no_more_memory_than_its_pixels(digits):
    """Its ground is a square of the longer side: 10 TB here, if it were made."""
    for size in ((1_500_000, 1), (1, 1_500_000)):
        with serving(open_trained(digits), Limits()) as port:
            image = Image.new("L", size)
            image.putpixel((0, 0), 255)
            image.putpixel((size[0] - 1, size[1] - 1), 255)
            buffer = io.BytesIO()
            image.save(buffer, "PNG")
            status, _, content = ask(port, buffer.getvalue())
            assert (status, len(content)) == (200, 1)


class TestTime:
    @pytest.mark.slow
    def test_slow_clients_are_answered_and_others_meanwhile(self, trained):
        """One leaves its headers unfinished, one its body, one says nothing: uvicorn waits for headers."""
        limits = Limits(seconds=3)
        with serving(trained, limits) as port:
            clients = [socket.create_connection(("127.0.0.1", port), timeout=300) for _ in range(3)]
            clients[0].sendall(b"POST /predict HTTP/1.1\r\nHost")
            clients[1].sendall(b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n1")
            asked_until_answered(port)
            answer = _until_closed(clients[1])
            assert answer.startswith(b"HTTP/1.1 408 ")
            assert b"connection: close" in answer
            assert b"did not arrive whole within 3 s" in answer
            assert ask(port, path="/health")[0] == 200
        for client in (clients[0], clients[2]):  # closed with the server
            assert _until_closed(client) == b""
        for client in clients:
            client.close()

    def test_a_kept_connection_that_says_no_more_is_closed(self, trained):
        with (
            serving(trained, Limits(seconds=0.5)) as port,
            socket.create_connection(("127.0.0.1", port), timeout=300) as client,
        ):
            client.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
            answer = _until_closed(client)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"connection: close" not in answer
        assert answer.endswith(b"}")

    @pytest.mark.slow
    def test_a_predictor_that_is_too_slow(self, trained):
        """The request is told; the ones behind it that gave up are not computed."""
        held, go, sizes = held_prediction(trained)
        limits = Limits(seconds=2, batch=1)
        with serving(trained, limits, held) as port, concurrent.futures.ThreadPoolExecutor(3) as clients:
            for status, headers, content in clients.map(lambda _: ask(port, png((9, 9))), range(3)):
                assert (status, headers["retry-after"]) == (503, "1")
                assert "no answer within 2 s" in content["error"]
            go.set()
            more = asked_until_answered(port)
        assert sizes.count(1) == len(sizes)
        assert len(sizes) <= 1 + more

    def test_a_full_queue_refuses(self, trained):
        go, called = threading.Event(), threading.Event()

        def held(images):
            called.set()
            assert go.wait(300)
            return trained.probabilities(images)

        limits = Limits(waiting=2, batch=1)
        with serving(trained, limits, held) as port, concurrent.futures.ThreadPoolExecutor(3) as clients:
            first = [clients.submit(ask, port, png((9, 9)))]
            assert called.wait(300)
            first += [clients.submit(ask, port, png((9, 9))) for _ in range(2)]
            while ask(port, path="/health")[2]["waiting"] < 2:
                time.sleep(0.01)
            status, headers, content = ask(port, png((9, 9)))
            assert (status, headers["retry-after"]) == (503, "1")
            assert "2 images are waiting" in content["error"]
            go.set()
            assert [future.result()[0] for future in first] == [200, 200, 200]

    def test_requests_beyond_the_limit(self, trained):
        """Two clients have sent a part of their images; a third is refused until they go."""
        head = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n1"
        with serving(trained, Limits(requests=2, seconds=100)) as port, contextlib.ExitStack() as held:
            for _ in range(2):
                client = held.enter_context(socket.create_connection(("127.0.0.1", port)))
                client.sendall(head)
            deadline = time.monotonic() + 90
            while (answer := ask(port, png((9, 9))))[0] == 200:
                assert time.monotonic() < deadline
            status, headers, content = answer
            assert (status, headers["retry-after"], headers["connection"]) == (503, "1", "close")
            assert content == {"error": "the server holds as many requests as it can: try again"}
            assert ask(port, path="/health")[0] == 200
            held.close()
            while ask(port, png((9, 9)))[0] != 200:
                assert time.monotonic() < deadline


def _until_closed(client):
    """What a client receives until the server closes or resets the connection."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while part := client.recv(65536):
            received += part
    return received


def test_a_predictor_that_fails(trained, capsys):
    calls = []

    def fails_once(images):
        calls.append(1)
        if len(calls) == 1:
            raise FloatingPointError("broken")
        return trained.probabilities(images)

    with serving(trained, predict=fails_once) as port:
        status, _, content = ask(port, png((9, 9)))
        assert (status, content) == (500, {"error": "the server failed; its log says why"})
        assert ask(port, png((9, 9)))[0] == 200
    assert "FloatingPointError: broken" in capsys.readouterr().err


class TestCommand:
    @contextlib.contextmanager
    def started(self, model, *options):
        command = [sys.executable, "-m", "cnnlib", "serve", model, "--port", "0", "--threads", "1", *options]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            first = process.stdout.readline()
            second = process.stdout.readline()
            assert second, process.stderr.read()
            assert first == f"serving {model}: 3 classes, images of 3x16x20\n"
            yield process, int(re.search(r"http://127.0.0.1:(\d+)/ \(Ctrl-C stops\)", second)[1])
        finally:
            process.kill()
            process.communicate()

    @pytest.mark.slow
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_stops_when_the_request_at_hand_is_answered(self, folder, number):
        """The image waits two seconds for others, and the signal comes meanwhile."""
        with self.started(folder / "model.cnnlib", "--batch-wait", "2000") as (process, port):
            with concurrent.futures.ThreadPoolExecutor(1) as clients:
                content, asked = (folder / "0.png").read_bytes(), 0
                answer = None
                while answer is None or answer.done():  # once more, where it was answered unseen
                    answer, asked = clients.submit(ask, port, content), asked + 1
                    while not answer.done() and ask(port, path="/health")[2]["waiting"] == 0:
                        time.sleep(0.01)
                idle = socket.create_connection(("127.0.0.1", port))
                ask(port, path="/health")  # accepted after it; uvicorn waits for what comes later
                process.send_signal(number)
                assert answer.result()[0] == 200
            out, err = process.communicate(timeout=300)
            assert (process.returncode, out, err) == (0, f"stopped; requests answered: {asked}\n", "")
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port))
            idle.close()

    def test_logs_requests_if_asked(self, folder):
        with self.started(folder / "model.npz", "--log-requests") as (process, port):
            assert ask(port, b"text")[0] == 400
            process.terminate()
            out, err = process.communicate(timeout=300)
        assert '"POST /predict HTTP/1.1" 400' in out + err

    def test_errors(self, folder, tmp_path, capsys, monkeypatch):
        model = folder / "model.npz"
        with bound_socket("127.0.0.1", 0) as taken:
            port = taken.getsockname()[1]
            message = refused(capsys, "serve", model, "--port", port)
            assert f"cannot listen on 127.0.0.1 port {port}: Address already in use" in message
        assert "cannot listen on no.such.host.invalid" in refused(
            capsys, "serve", model, "--host", "no.such.host.invalid"
        )
        for option, value in (
            ("--port", "65536"), ("--port", "x"), ("--timeout", "0"), ("--max-megabytes", "-1"),
            ("--batch", "0"), ("--batch-wait", "-1"), ("--queue", "0"),
        ):  # fmt: skip
            assert "expected" in refused(capsys, "serve", model, option, value)
        message = refused(capsys, "serve", model, "--queue", "3", "--max-images", "4")
        assert "--queue 3: a request may have 4 images" in message
        assert build_parser("serve").parse_args(["serve", str(model), "--batch-wait", "0.0"]).batch_wait == 0
        assert "there is no run" in refused(capsys, "serve", tmp_path / "nothing")
        (tmp_path / "junk.onnx").write_bytes(b"junk")
        if importlib.util.find_spec("onnx"):
            assert "junk.onnx" in refused(capsys, "serve", tmp_path / "junk.onnx")
        for package in ("uvicorn", "starlette", "python_multipart", "PIL"):
            with monkeypatch.context() as without:
                without.setitem(sys.modules, package, None)
                assert "pip install cnnlib[serve]" in refused(capsys, "serve", model)


def test_no_image_is_left_without_an_answer():
    """Where the predictor gives too few rows, and where the server ends while it computes."""
    called, go = threading.Event(), threading.Event()

    def held(images):
        called.set()
        assert go.wait(300)
        return images[:1]

    async def ask_and_end():
        batcher = Batcher(held, Limits(batch=2))
        worker = asyncio.create_task(batcher.run())
        go.set()
        rows = await asyncio.gather(
            *(batcher.rows([np.full(1, k)]) for k in range(2)), return_exceptions=True
        )
        assert rows[0] == [0]
        assert isinstance(rows[1], ValueError)
        go.clear()
        called.clear()
        client = asyncio.create_task(batcher.rows([np.zeros(1)]))
        await asyncio.get_running_loop().run_in_executor(None, called.wait)
        worker.cancel()
        await asyncio.wait([client], timeout=100)
        go.set()
        assert client.cancelled()

    asyncio.run(ask_and_end())


@pytest.mark.slow
def test_malformed_requests_do_no_harm(folder):
    """The fuzzer, briefly: ``tests/fuzz/server.py --requests 10000`` is the long run."""
    command = [sys.executable, FUZZ, folder / "model.npz", folder / "3.png", "--requests", "250"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("250 malformed requests; answers 200: ")
    assert "the server answers as before" in done.stdout
