"""Small stand-ins for CIFAR-10's files, in both published layouts."""

import struct
from pathlib import Path

import numpy as np
from cnnlib.data import cifar10
from cnnlib.runs import data_sets

BATCHES = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
FOLDER = {"python": "cifar-10-batches-py", "binary": "cifar-10-batches-bin"}
IMAGES = 20  # a batch; the real ones have 10,000


def batch(name):
    """The images (IMAGES, 3072) and labels of one batch: any bytes, the same whenever they are asked for."""
    rng = np.random.default_rng(list(name.encode()))
    return rng.integers(0, 256, (IMAGES, 3072), dtype=np.uint8), rng.integers(0, 10, IMAGES, dtype=np.uint8)


def write_binary(path, pixels, labels):
    np.concatenate([np.asarray(labels, dtype=np.uint8)[:, None], pixels], axis=1).tofile(path)


def write_pickle(path, pixels, labels):
    path.write_bytes(python2_pickle({b"labels": [int(n) for n in labels], b"data": pixels}))


def python2_pickle(value):
    """`value` in protocol 2 as Python 2 writes it: its strings are bytes, and NumPy's names are the old ones.

    Python 3 cannot write these (it pickles bytes as a call of ``_codecs.encode``), so the opcodes are
    spelled out.
    """
    return b"\x80\x02" + _opcodes(value) + b"."


def _opcodes(value):
    if isinstance(value, bytes):
        return b"T" + struct.pack("<i", len(value)) + value
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    if isinstance(value, tuple):
        return b"(" + b"".join(_opcodes(item) for item in value) + b"t"
    if isinstance(value, list):
        return b"](" + b"".join(_opcodes(item) for item in value) + b"e"
    if isinstance(value, dict):
        return b"}(" + b"".join(_opcodes(key) + _opcodes(item) for key, item in value.items()) + b"u"
    kind = value.dtype.str[1:].encode()
    dtype = call(b"numpy", b"dtype", _opcodes((kind, 0, 1))) + state(
        b"(J\x03\0\0\0" + _opcodes(b"|") + b"NNNK\0K\0K\0t"
    )
    array = call(
        b"numpy.core.multiarray",
        b"_reconstruct",
        b"(cnumpy\nndarray\n" + _opcodes((0,)) + _opcodes(b"b") + b"t",
    )
    return array + state(
        b"(K\x01" + _opcodes(value.shape) + dtype + b"\x89" + _opcodes(value.tobytes()) + b"t"
    )


def call(module, name, arguments):
    """Opcodes of ``module.name(*arguments)``, with `arguments` the opcodes of a tuple."""
    return b"c" + module + b"\n" + name + b"\n" + arguments + b"R"


def state(opcodes):
    return opcodes + b"b"


def write_layout(root, layout):
    """Write all six batches of a layout below `root`; returns their folder."""
    folder = Path(root, FOLDER[layout])
    folder.mkdir(parents=True)
    for name in BATCHES:
        if layout == "python":
            write_pickle(folder / name, *batch(name))
        else:
            write_binary(folder / f"{name}.bin", *batch(name))
    return folder


def write_cifar100(root, monkeypatch):
    """A small stand-in for CIFAR-100's binary files: 40 images for training, 12 for the test."""
    monkeypatch.setattr(cifar10, "_IMAGES_100", {"train.bin": 40, "test.bin": 12})
    folder = root / "cifar-100-binary"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    records = {
        name: rng.integers(0, 100, (count, 3074), np.uint8) for name, count in cifar10._IMAGES_100.items()
    }
    for name, rows in records.items():
        rows.tofile(folder / name)
    names = [f"class_{number}" for number in range(100)]
    (folder / "fine_label_names.txt").write_text("\n".join(names) + "\n")
    return folder, records, names


def small_batches(monkeypatch):
    """Let the readers, and the command, expect files of CIFAR-10 with so few images."""
    monkeypatch.setattr(cifar10, "_IMAGES_PER_BATCH", IMAGES)
    monkeypatch.setattr(data_sets, "_CIFAR10", {"train": 80, "val": 20, "test": 20})


def fill_data_folder(root, monkeypatch):
    """Put small stand-ins for both data sets below `root`, and let the readers expect their sizes."""
    small_batches(monkeypatch)
    write_layout(root, "binary")
    write_cifar100(root, monkeypatch)
