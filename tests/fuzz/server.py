"""Send malformed requests to ``cnnlib serve``, and see that it goes on as before.

    python tests/fuzz/server.py --requests 10000 MODEL IMAGE

The server is started for it, on this machine's own address. A request is HTTP with bytes changed, left out
or put in, a form alike, a damaged image file, or one that claims to be huge; its end may be missing. The
program ends with status 1 if an answer is none of HTTP's, or says that the server failed; if the server dies,
logs anything, takes much memory, or gives a valid image another answer than before.
"""

import argparse
import collections
import contextlib
import io
import itertools
import json
import random
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.request
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

_ANSWER = re.compile(rb"HTTP/1\.1 (\d{3}) ")
_CLIENTS, _PATIENCE = 8, 0.2  # seconds
_MOST_MEMORY = 2**30  # of the images that are read at a time
_FAILED = ("500", "none of HTTP's")


def main():
    """Read the options; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="what cnnlib serve takes")
    parser.add_argument("image", type=Path, help="an image file that it can read")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with running(options.model, "--timeout", "2") as (process, port):
        before = predicted(port, options.image)
        memory = memory_of(process.pid, "VmRSS")
        counts = attack(port, requests(options.image, random.Random(options.seed)), options.requests)
        after, growth = predicted(port, options.image), memory_of(process.pid, "VmRSS") - memory
        peak = memory_of(process.pid, "VmHWM") - memory
        alive = process.poll() is None
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=300)
    answers = ", ".join(f"{answer}: {count}" for answer, count in sorted(counts.items()))
    print(f"{sum(counts.values())} malformed requests; answers {answers}")
    print(f"memory grew by {growth / 2**20:.1f} MiB, and by {peak / 2**20:.1f} MiB at its peak")
    good = alive and after == before and not log and not any(counts[answer] for answer in _FAILED)
    good = good and peak < _MOST_MEMORY
    print("the server answers as before" if good else f"the server has suffered: {log[-3000:]}")
    return 0 if good and process.returncode == 0 else 1


@contextlib.contextmanager
def running(model, *options):
    """``cnnlib serve`` in a process of its own: the process, and its port."""
    command = [sys.executable, "-m", "cnnlib", "serve", str(model), "--port", "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        lines = [process.stdout.readline() for _ in range(2)]
        match = re.search(r":(\d+)/", lines[1])
        if match is None:
            raise RuntimeError("".join(lines) + process.stderr.read())
        yield process, int(match[1])
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def predicted(port, image):
    """The server's answer to an image file."""
    with urllib.request.urlopen(
        f"http://127.0.0.1:{port}/predict", image.read_bytes(), timeout=300
    ) as answer:
        return json.load(answer)


def memory_of(pid, name):
    """Bytes of a process that lie in memory (VmRSS), or did at most (VmHWM)."""
    return 1024 * int(re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1])


def attack(port, malformed, count):
    """Send so many of the requests, each on a connection of its own; how often each answer came."""
    with ThreadPoolExecutor(_CLIENTS) as clients:
        answers = clients.map(lambda content: _answer_to(port, content), itertools.islice(malformed, count))
        return collections.Counter(answers)


def _answer_to(port, content):
    """The status of the answer; 'closed' where the server gave none.

    A server that waits for more soon sees that nothing comes.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=300) as client:
        try:
            client.sendall(content)
            if not select.select([client], [], [], _PATIENCE)[0]:
                client.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda: client.recv(65536), b""))
        except (ConnectionResetError, BrokenPipeError):
            return "closed"
    if not answer:
        return "closed"
    match = _ANSWER.match(answer)
    return match[1].decode() if match else "none of HTTP's"


def requests(image, rng):
    """Malformed requests without end."""
    files = image_files(image)
    while True:
        content = _image(files, rng)
        kind = rng.randrange(6)
        if kind == 0:
            yield rng.randbytes(rng.randrange(1, 3000))
        elif kind == 1:
            yield _head(content) + content
        elif kind == 2:
            yield _damaged(_head(content), rng) + content
        elif kind == 3:
            form, content_type = _form(content, rng)
            yield _head(form, content_type) + form
        elif kind == 4:
            yield _chunked(content, rng)
        else:
            whole = _head(content) + content
            yield whole[: rng.randrange(1, len(whole))]


def image_files(image):
    """An image in each format, as bytes."""
    with Image.open(image) as opened:
        picture = opened.convert("RGB")
    files = [image.read_bytes()]
    for name in ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "ICO", "PPM"):
        buffer = io.BytesIO()
        picture.save(buffer, name)
        files.append(buffer.getvalue())
    return files


def _image(files, rng):
    return _huge(rng) if rng.random() < 0.1 else _damaged(rng.choice(files), rng)


def _huge(rng):
    """A PNG whose header claims more pixels than there are."""
    size = rng.choice([30_000, 2**20, 2**31 - 1, 0])
    header = b"IHDR" + struct.pack(">IIBBBBB", size, size, 8, rng.choice([0, 2, 3, 6]), 0, 0, 0)
    data = b"IDAT" + zlib.compress(bytes(1000))
    chunks = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (header, data)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _damaged(content, rng):
    """Some bytes changed, left out, put in or repeated."""
    content = bytearray(content)
    for _ in range(rng.randrange(1, 6)):
        at, length = rng.randrange(len(content) + 1), rng.randrange(1, 40)
        what = rng.randrange(4)
        if what == 0:
            content[at : at + length] = rng.randbytes(len(content[at : at + length]))
        elif what == 1:
            del content[at : at + length]
        elif what == 2:
            content[at:at] = rng.randbytes(length)
        else:
            content[at:at] = content[at : at + length]
    return bytes(content)


def _head(body, content_type="image/png"):
    return (
        "POST /predict?top=3 HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()


def _form(content, rng):
    """A damaged form with an image, and its content type."""
    names = ["a.png", "", "\N{GRINNING FACE}.png", "x" * 5000, '"; filename="b', "../../x"]
    form_start = f'--line\r\nContent-Disposition: form-data; name="image"; filename="{rng.choice(names)}"\r\n'
    form = form_start.encode() + b"Content-Type: image/png\r\n\r\n" + content + b"\r\n--line--\r\n"
    if rng.random() < 0.5:
        return form, "multipart/form-data; boundary=line"
    boundaries = ["boundary=line", "boundary=other", "boundary=", "", 'boundary="', "charset=x"]
    return _damaged(form, rng), f"multipart/form-data; {rng.choice(boundaries)}"


def _chunked(content, rng):
    """A chunked body, some of whose sizes are wrong."""
    head = b"POST /predict HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    for start in range(0, len(content), 1000):
        part = content[start : start + 1000]
        size = len(part) if rng.random() < 0.8 else rng.randrange(-5, 2**40)
        head += f"{size:x}\r\n".encode() + part + b"\r\n"
    return head + b"0\r\n\r\n"


if __name__ == "__main__":
    begun = time.monotonic()
    status = main()
    print(f"{time.monotonic() - begun:.0f} s")
    sys.exit(status)
