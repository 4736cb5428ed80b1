"""
Fuzz targets that read: checkpoints, CIFAR-10's batches and the archive they come in.

A reader raises a ValueError or OSError that names the file, or returns what it promises.
"""

import io
import pickle
import tarfile
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from cnnlib.checkpoint import load_checkpoint
from cnnlib.data import cifar_files, download
from source import Source

FOLDER = Path(tempfile.mkdtemp(prefix="cnnlib-fuzz-"))


def refused(path, error):
    assert str(path) in str(error), f"the error does not name the file: {error!r}"


def read_checkpoint(path):
    try:
        params, state = load_checkpoint(path)
    except (ValueError, OSError) as error:
        refused(path, error)
    else:
        assert all(isinstance(value, np.ndarray) for value in params.values())
        assert not any(value.dtype.hasobject for value in params.values())
        del state


def checkpoint(data):
    """The bytes as a file."""
    path = FOLDER / "checkpoint.npz"
    path.write_bytes(data)
    read_checkpoint(path)


ARRAY = b"\x93NUMPY\x01\x00"


def checkpoint_entries(data):
    """The bytes as entries of a sound archive, which its checksums do not protect."""
    source, path = Source(data), FOLDER / "entries.npz"
    tree = b'{"format": "cnnlib checkpoint", "version": 1, "params": ["W"], "state": {"a": {"@array": "W"}}}'
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("W.npy", "__cnnlib__/state.npy"):
            header = source.choice([b"<f8", b"|O", b"<U%d" % len(tree), b"|V0", b"<f4", b"<M8[s]"])
            shape = source.choice(
                [b"(2,)", b"()", b"(-1,)", b"(0,)", b"(2, 3)", b"(9999999999999, 0)", b"(2"]
            )
            body = source.choice([bytes(16), tree.decode().encode("utf-32-le"), b"", source.data[:200]])
            if name.startswith("__") and not source.chance(4):
                header, shape, body = b"<U%d" % len(tree), b"()", tree.decode().encode("utf-32-le")
                place = source.byte() * len(body) // 1024 * 4
                if source.flag():
                    body = body[:place] + bytes([source.byte(), 0, 0, 0]) + body[place + 4 :]
            text = b"{'descr': '%s', 'fortran_order': False, 'shape': %s, }\n" % (header, shape)
            archive.writestr(name, ARRAY + len(text).to_bytes(2, "little") + text + body)
    read_checkpoint(path)


def cifar_batch(data):
    """The bytes as a pickled batch: refused, or pixels and labels."""
    path = FOLDER / "data_batch_1"
    path.write_bytes(data)
    try:
        pixels, labels = cifar_files.read_pickle(path, 10_000, 10)
    except (ValueError, OSError) as error:
        refused(path, error)
    else:
        assert pixels.dtype == np.uint8
        assert labels.min() >= 0
        assert labels.max() < 10


# What a pickle can do: calls, imports, memory, marks.
OPCODES = b"()]}.0123NKJMIUTXVBCacbdeghijlopqrstuR" + bytes(range(0x80, 0x99))
NAMES = [b"numpy\ndtype\n", b"numpy\nndarray\n", b"numpy.core.multiarray\n_reconstruct\n", b"os\nsystem\n"]


def cifar_opcodes(data):
    """The bytes as opcodes, which come further than bytes alone."""
    source, stream = Source(data), bytearray(b"\x80\x02")
    while source.at < len(data):
        opcode = OPCODES[source.byte() % len(OPCODES)]
        stream.append(opcode)
        if opcode in b"ci":
            stream += source.choice(NAMES)
        elif opcode in b"KUhq":
            stream += bytes([source.byte() % 8])
        elif opcode in b"JTjrBX":
            stream += (source.byte() % 8).to_bytes(4, "little")
    cifar_batch(bytes(stream) + b".")


WANTED = ["cifar/a.bin", "cifar/b.bin"]
MEMBERS = [
    *WANTED,
    "cifar",
    "../a.bin",
    "/tmp/a.bin",
    "cifar/../../a.bin",
    "cifar/c",
    "./cifar/a.bin",
    "a:b",
    "",
]


def archive(data):
    """A tar archive of members that the bytes choose, then damaged: nothing leaves the folder."""
    source, packed = Source(data), io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as tar:
        for i in range(source.choice([2, 3, 4, 0, 1])):
            member = tarfile.TarInfo(WANTED[i] if i < 2 and not source.chance(3) else source.choice(MEMBERS))
            member.type = source.choice(
                [tarfile.REGTYPE] * 5 + [tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE]
            )
            member.linkname = source.choice(["a.bin", "/etc/passwd", "../.."])
            content = bytes(source.byte() % 9)
            member.size = len(content) if member.isfile() else 0
            tar.addfile(member, io.BytesIO(content))
    content = bytearray(packed.getvalue())
    for _ in range(source.choice([0, 0, 1, 5])):
        content[(source.byte() << 8 | source.byte()) % len(content)] ^= 1 << source.byte() % 8
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        path, inside = Path(folder, "archive.tar.gz"), Path(folder, "inside")
        inside.mkdir()
        path.write_bytes(content)
        try:
            download.unpack(path, inside, WANTED)
        except (ValueError, OSError) as error:
            refused(path, error)
            assert not any(file.is_file() for file in inside.rglob("*"))
        else:
            assert {file.relative_to(inside).as_posix() for file in inside.rglob("*.bin")} >= set(WANTED)
        assert {entry.name for entry in Path(folder).iterdir()} == {"archive.tar.gz", "inside"}


def corpus():
    """Whole files to begin with, by target."""
    from cnnlib.checkpoint import save_checkpoint

    path = FOLDER / "begin.npz"
    save_checkpoint({"W": np.arange(3.0)}, path, {"t": 1, "pair": (1, None), "state": {"a": np.float32(2)}})
    batch = {b"labels": [1, 2], b"data": np.zeros((2, 3), np.uint8)}
    return {"checkpoint": [path.read_bytes()], "cifar_batch": [pickle.dumps(batch, protocol=2)]}
