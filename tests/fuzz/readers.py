"""
Fuzz targets that read: images, a run's config, the arrays and tables of data sets, and files of any kind.

A reader raises a ValueError or OSError that names the file, or returns what it promises.
"""

import contextlib
import functools
import io
import json
import shutil
import warnings

import cnnlib
import networks
import numpy as np
import onnx_files
from cnnlib.__main__ import main
from cnnlib.data import image_files, load_array_folder, load_target_folder
from cnnlib.runs.config import RunConfig
from files import ARRAY, FOLDER, corpus, refused
from networks import altered
from PIL import Image
from source import Source

MOST_PIXELS = 1 << 18  # of an image: as servers limit what they decode
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP")
MODES = ("RGB", "L", "P", "RGBA", "1", "I;16")


@functools.cache
def images():
    """Return small image files of every format and mode."""
    rng, found = np.random.default_rng(0), []
    for mode in MODES:
        values = rng.integers(0, 256, (6, 5, 4 if mode == "RGBA" else 3), np.uint8)
        picture = Image.fromarray(values)
        if mode == "I;16":
            picture = Image.fromarray(values[..., 0].astype(np.uint16) * 257)
        elif mode != "RGBA":
            picture = picture.convert(mode)
        for name in FORMATS:
            buffer = io.BytesIO()
            with contextlib.suppress(OSError, ValueError):  # formats that do not have the mode
                picture.save(buffer, name)
                found.append(buffer.getvalue())
    return found


def image(data):
    """The bytes as an image file: pixels, or an error that names it."""
    path = FOLDER / "image.png"
    path.write_bytes(data)
    assert image_files.is_grey(path) in (True, False)
    image_files.upright_size(path)
    for channels in (1, 3):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Pillow's, of what is odd about a file
                pixels = image_files.photo(path, (8, 7), channels, most_pixels=MOST_PIXELS)
        except (ValueError, OSError) as error:
            refused(path, error)
        else:
            assert (pixels.shape, pixels.dtype) == ((channels, 8, 7), np.uint8)


@functools.cache
def run_folder():
    """Return the folder of a small run on handwritten digits."""
    folder = FOLDER / "run"
    tiny = ["--num-filters", "2", "--hidden-dim", "4", "--threads", "1", "--num-epochs", "1"]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        assert main(["train", *tiny, "--out", str(folder)]) == 0
    return folder


@functools.cache
def configs():
    """Return what config.json holds in runs of several kinds."""
    own = json.loads((run_folder() / "config.json").read_text())
    found = {
        "name": "folder",
        "folder": "/data",
        "size": [8, 9],
        "channels": 3,
        "validation": 0.1,
        "test": 0.1,
    }
    spec = {"name": "resnet8", "arguments": {"reg": 0.0, "dtype": "float32", "input_dim": [3, 8, 9]}}
    spec["arguments"] |= {"num_classes": 2, "seed": 0}
    white = {"mean": [1.0, 2.0, 3.0], "std": [4.0, 5.0, 6.0], "white": 255}
    folder = {**own, "data": found, "classes": ["a", "b"], "preprocessing": white, "model": spec}
    values = {**folder, "data": {**found, "task": "values"}, "targets": {"mean": [0.5], "std": [2.0]}}
    return [own, folder, values]


def read_config(text):
    path = FOLDER / "config" / "config.json"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text)
    try:
        config = RunConfig.read(path)
    except (ValueError, OSError) as error:
        refused(path, error)
    else:
        json.dumps(config.content())
        assert config.data_set is not None


def config(data):
    """The bytes as a run's config.json."""
    read_config(data)


def config_fields(data):
    """A sound config.json with some of its values altered."""
    source = Source(data)
    sound = json.loads(json.dumps(source.choice(configs())))
    read_config(json.dumps(altered(source, sound)).encode())


def run(data):
    """A sound run whose config.json has some of its values altered: its model, or an error that names it."""
    source, folder = Source(data), FOLDER / "altered"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(run_folder(), folder)
    sound = json.loads((folder / "config.json").read_text())
    sound["model"] = altered(source, sound["model"])
    if source.flag():
        sound = altered(source, sound)
    (folder / "config.json").write_text(json.dumps(sound))
    try:
        repr(cnnlib.load(folder))
    except (ValueError, OSError, MemoryError) as error:
        if not isinstance(error, MemoryError):
            refused(folder, error)


def sound_arrays(root):
    """Write the arrays of a small data set."""
    root.mkdir(exist_ok=True)
    for part in ("train", "val"):
        np.save(root / f"X_{part}.npy", np.zeros((4, 1, 2, 3), np.uint8))
        np.save(root / f"y_{part}.npy", np.arange(4) % 2)


def arrays(data):
    """The bytes as one of the arrays of a data set."""
    source, root = Source(data), FOLDER / "arrays"
    name = source.choice(["X_train", "y_train", "X_val", "y_val"])
    task = source.choice(["classes", "values", "pixels"])
    sound_arrays(root)
    (root / f"{name}.npy").unlink()
    (root / f"{name}.npy").write_bytes(source.rest())
    read_arrays(root, task)


def array_header(data):
    """A sound array file of a data set with another header, or fewer bytes."""
    source, root = Source(data), FOLDER / "arrays"
    name = source.choice(["X_train", "y_train", "X_val", "y_val"])
    task = source.choice(["classes", "values", "pixels"])
    kind = source.choice(["<i8", "|u1", "<f4", ">i2", "|O", "|V0", "<U2", "|b1", "<c8", "<M8[s]", "x"])
    shape = source.choice(
        [
            "(4,)",
            "(4, 1, 2, 3)",
            "(4, 2, 3)",
            "(0,)",
            "()",
            "(-4,)",
            "(9999999999999, 0)",
            "(4",
            "(True,)",
            "(4.0,)",
        ]
    )
    order = source.choice(["False", "True", "1", "None"])
    text = f"{{'descr': '{kind}', 'fortran_order': {order}, 'shape': {shape}, }}\n".encode()
    body = bytes(source.choice([96, 32, 192, 0, 7]))
    version = source.choice(
        [ARRAY, ARRAY[:6] + b"\x02\x00", ARRAY[:6] + b"\x03\x00", ARRAY[:6] + b"\x09\x09"]
    )
    length = len(text).to_bytes(2 if version == ARRAY else 4, "little")
    sound_arrays(root)
    (root / f"{name}.npy").unlink()
    (root / f"{name}.npy").write_bytes(version + length + text + body)
    read_arrays(root, task)


def read_arrays(root, task):
    try:
        found = load_array_folder(root, task=task)
    except (ValueError, OSError) as error:
        refused(root, error)
    else:
        assert len(found["X_train"]) == len(found["y_train"]) > 0
        np.asarray(found["X_train"][:1])


def table(data):
    """The bytes as the table of numbers of a folder of images."""
    root = FOLDER / "table"
    (root / "images").mkdir(parents=True, exist_ok=True)
    for name in ("a.png", "b.png"):
        if not (root / "images" / name).exists():
            Image.new("L", (4, 4)).save(root / "images" / name)
    (root / "numbers.csv").write_bytes(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # lines without an image
            found = load_target_folder(root, 4, "values", validation=0.5, test=0, verbose=False)
    except (ValueError, OSError) as error:
        refused(root, error)
    else:
        assert found["y_train"].dtype == np.float32


def file(data):
    """The bytes as a file of any kind."""
    path = FOLDER / "file"
    path.unlink(missing_ok=True)  # what is mapped must not change
    path.write_bytes(data)
    try:
        found = cnnlib.load(path)
    except (ValueError, OSError) as error:
        refused(path, error)
    else:
        assert len(repr(found)) > 0
        assert np.prod(getattr(found, "input_dim", (0,))) >= 0


def whole_files():
    """Return small files of every kind that cnnlib.load reads."""
    (net, *_), path = networks.nets(), FOLDER / "model.npz"
    net.save(path)
    model = path.read_bytes()
    checkpoint = sorted(run_folder().glob("*.npz"))[0].read_bytes()
    found = [model, networks.predictor_files()[0], networks.safetensors_file(), onnx_files.models()[0]]
    return [*found, *corpus()["checkpoint"], *([checkpoint] if len(checkpoint) < 1 << 17 else [])]


TABLE = b"file,x,y\na.png,1,2.5\nb.png,3,-1e3\n"


def seeds():
    """Return whole files to begin with, by target."""
    array = io.BytesIO()
    np.save(array, np.zeros((4, 1, 2, 3), np.uint8))
    labels = io.BytesIO()
    np.save(labels, np.arange(4) % 2)
    return {
        "image": images(),
        "config": [json.dumps(each).encode() for each in configs()],
        "arrays": [b"\x00\x00" + array.getvalue(), b"\x01\x00" + labels.getvalue()],
        "table": [TABLE],
        "file": whole_files(),
    }
