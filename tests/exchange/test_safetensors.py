"""cnnlib.safetensors: files that other libraries read and write, and damaged ones."""

import json
import struct

import cnnlib.safetensors
import ml_dtypes
import numpy as np
import pytest
from cnnlib.models import ConvNet

pytestmark = pytest.mark.borders

safetensors_numpy = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")

KINDS = ("f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?")


@pytest.fixture
def arrays(rng):
    """One of each dtype, in an order in which their sizes do not fall, and odd shapes."""
    found = {f"layer.{kind}": (9 * rng.standard_normal((3, 2, 5))).astype(kind) for kind in reversed(KINDS)}
    return found | {
        "scalar": np.array(2.5),
        "empty": np.zeros((0, 4), np.float32),
        "": np.ones(1),
        "Ω/\n": np.ones(3),
    }


def assert_equal(got, want):
    assert got.keys() == want.keys()
    for name, array in want.items():
        assert got[name].dtype == array.dtype
        np.testing.assert_array_equal(got[name], array, strict=True)


def test_what_is_saved_is_loaded(arrays, tmp_path):
    cnnlib.safetensors.save(arrays, tmp_path / "a.safetensors")
    assert_equal(cnnlib.safetensors.load(tmp_path / "a.safetensors"), arrays)


def test_the_formats_own_library_reads_it(arrays, tmp_path):
    cnnlib.safetensors.save(arrays, tmp_path / "a.safetensors")
    assert_equal(safetensors_numpy.load_file(tmp_path / "a.safetensors"), arrays)


def test_files_of_the_formats_own_library_are_read(arrays, tmp_path):
    safetensors_numpy.save_file(arrays, tmp_path / "a.safetensors", metadata={"format": "pt"})
    assert_equal(cnnlib.safetensors.load(tmp_path / "a.safetensors"), arrays)


def test_any_array_is_saved(tmp_path, rng):
    x = rng.standard_normal((4, 6))
    arrays = {"transposed": x.T, "strided": x[::-2, ::3], "big-endian": x.astype(">f4"), "list": [[1.5, 2.0]]}
    cnnlib.safetensors.save(arrays, tmp_path / "a")
    got = safetensors_numpy.load_file(tmp_path / "a")
    for name, array in arrays.items():
        np.testing.assert_array_equal(got[name], array)
    assert got["big-endian"].dtype == np.float32


def test_bfloat16(tmp_path, rng):
    x = np.array([1.5, -0.0, np.inf, np.nan, 3e38, 1e-40, *rng.standard_normal(9)]).astype(ml_dtypes.bfloat16)
    cnnlib.safetensors.save({"x": x}, tmp_path / "a")
    got = cnnlib.safetensors.load(tmp_path / "a")["x"]
    np.testing.assert_array_equal(got, x.astype(np.float32), strict=True)
    np.testing.assert_array_equal(safetensors_numpy.load_file(tmp_path / "a")["x"].astype(np.float32), got)


def test_arrays_are_mapped_aligned_and_the_file_stays(arrays, tmp_path):
    cnnlib.safetensors.save(arrays, tmp_path / "a")
    before = (tmp_path / "a").read_bytes()
    loaded = cnnlib.safetensors.load(tmp_path / "a")
    assert all(array.flags.aligned and array.flags.writeable for array in loaded.values())
    assert not loaded["layer.f4"].flags.owndata
    loaded["layer.f4"] += 1
    assert (tmp_path / "a").read_bytes() == before


def test_a_models_parameters(tmp_path):
    model = ConvNet("resnet8", (3, 8, 8), 10, seed=0)
    cnnlib.safetensors.save(model.params, tmp_path / "a")
    assert_equal(cnnlib.safetensors.load(tmp_path / "a"), model.params)
    cnnlib.safetensors.save({}, tmp_path / "b")
    assert cnnlib.safetensors.load(tmp_path / "b") == {}


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"x": np.ones(2, complex)}, ValueError, "'x' has dtype complex128, which the format does not have"),
        ({"x": np.array(["a"])}, ValueError, "'x' has dtype"),
        ({"__metadata__": np.ones(2)}, ValueError, "is the format's own"),
        ({3: np.ones(2)}, TypeError, "names must be strings, got 3"),
        ({"x": None}, TypeError, "'x' must be an array"),
    ],
)
def test_what_cannot_be_saved(params, error, message, tmp_path):
    with pytest.raises(error, match=message):
        cnnlib.safetensors.save(params, tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def file_of(header, data=bytes(8)):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(begin=0, end=8, shape=(2,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


DAMAGED = {
    "it has 0 bytes": b"",
    "it has 7 bytes": bytes(7),
    "its header claims 8 bytes": struct.pack("<Q", 8) + b"{}",
    f"its header claims {2**64 - 1} bytes": struct.pack("<Q", 2**64 - 1) + b"{}",
    "codec can't decode": file_of(b'{"\xff": 1}'),
    "Expecting": file_of(b"{", b""),
    "header is no JSON object": file_of([1]),
    "a name stands in its header twice": file_of(b'{"a": 1, "a": 2}'),
    "recursion": file_of(b"[" * 100_000),
    "its metadata are not strings": file_of({"__metadata__": {"a": 1}}, b""),
    "must have dtype, shape and data_offsets": file_of({"a": {"dtype": "F32"}}),
    "'a' has dtype 'F8_E4M3'": file_of({"a": entry(dtype="F8_E4M3", shape=(8,))}),
    "'a' has dtype {}": file_of({"a": entry() | {"dtype": {}}}),
    r"shape \[-2\]": file_of({"a": entry(shape=(-2,))}),
    r"shape \[True, 2\]": file_of({"a": entry(shape=(True, 2))}),
    r"shape \[2.0\]": file_of({"a": entry(shape=(2.0,))}),
    r"data_offsets \[-8, 0\]": file_of({"a": entry(-8, 0)}),
    r"data_offsets \[0, 8, 8\]": file_of({"a": entry() | {"data_offsets": [0, 8, 8]}}),
    "'a' takes 12 bytes": file_of({"a": entry(shape=(3,))}),
    f"takes {4 * 2**124} bytes": file_of({"a": entry(shape=(2**62, 2**62))}),
    "its arrays take 8 bytes, it has 4": file_of({"a": entry()}, bytes(4)),
    "its arrays take 8 bytes, it has 9": file_of({"a": entry()}, bytes(9)),
    "its arrays take 0 bytes, it has 8": file_of({}),
    "'b' begins at 4, where 8 bytes are taken": file_of({"a": entry(), "b": entry(4, 12)}, bytes(12)),
    "'b' begins at 12, where 8 bytes are taken": file_of({"a": entry(), "b": entry(12, 20)}, bytes(20)),
    "'a' begins at 8, where 0 bytes are taken": file_of({"a": entry(8, 16)}, bytes(16)),
    "maximum supported dimension|too many dimensions|dimensions": file_of(
        {"a": entry(shape=(1,) * 99 + (2,))}
    ),
    "Maximum allowed dimension|too large": file_of({"a": entry(), "b": entry(8, 8, shape=(2**70, 0))}),
    "Exceeds the limit": file_of(b'{"a": ' + b"9" * 5000 + b"}"),
}


@pytest.mark.parametrize("message", DAMAGED)
def test_damaged_files_are_named(message, tmp_path):
    path = tmp_path / "net.safetensors"
    path.write_bytes(DAMAGED[message])
    with pytest.raises(
        ValueError, match=rf"net\.safetensors is damaged, or not a safetensors file: .*(?:{message})"
    ):
        cnnlib.safetensors.load(path)


def test_no_byte_of_the_header_can_change_unseen(tmp_path, rng):
    """Every change of one byte is refused, or gives arrays that lie within the file."""
    arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(4, np.int16)}
    cnnlib.safetensors.save(arrays, tmp_path / "a")
    content = (tmp_path / "a").read_bytes()
    length = 8 + struct.unpack("<Q", content[:8])[0]
    for place in range(length):
        for value in (0, 0x22, 0x30, 0x39, 0x7B, 0xFF):
            changed = bytearray(content)
            changed[place] = value
            (tmp_path / "b").write_bytes(changed)
            try:
                loaded = cnnlib.safetensors.load(tmp_path / "b")
            except ValueError:
                continue
            assert sum(array.nbytes for array in loaded.values()) == len(content) - length
            assert all(np.isfinite(array.sum()) for array in loaded.values())


@pytest.mark.parametrize("load", [cnnlib.load, cnnlib.safetensors.load])
def test_the_number_of_an_open_file_is_no_path(load, tmp_path):
    cnnlib.safetensors.save({"W": np.zeros(3)}, tmp_path / "x.safetensors")
    with open(tmp_path / "x.safetensors", "rb") as file:
        with pytest.raises(TypeError, match="not int"):
            load(file.fileno())
        assert len(file.read()) > 24  # it is still open


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        cnnlib.safetensors.load(tmp_path / "nowhere")
